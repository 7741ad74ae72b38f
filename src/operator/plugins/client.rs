//! The seam between the loop and the plugins: who answers questions, and which bindings are in force.

use std::sync::Arc;

use jiff::Timestamp;
use paddock_core::policy::Bindings;
use paddock_core::question::{Answer, Ask, Failure, FailureKind};
use tokio::sync::watch;

/// Answers one question. It may use the processor for as long as a plugin's deadline, and does not wait otherwise.
pub type Judge = Arc<dyn Fn(&Ask, Timestamp) -> Result<Answer, Failure> + Send + Sync>;

/// Plugins, as the loop and the webhook know them.
#[derive(Clone)]
pub struct Policies {
    /// Who answers.
    pub judge: Judge,
    /// What is bound; changes take effect at the next look.
    pub bindings: watch::Receiver<Bindings>,
}

impl Policies {
    /// No plugin at all: every question fails, and nothing is bound that would ask one.
    #[must_use]
    pub fn none() -> Self {
        let judge: Judge = Arc::new(|ask, _| {
            Err(Failure { kind: FailureKind::Missing, message: format!("no plugin {} is loaded", ask.plugin.name) })
        });
        Self { judge, bindings: watch::Sender::new(Bindings::default()).subscribe() }
    }
}
