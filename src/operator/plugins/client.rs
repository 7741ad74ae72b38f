//! The seam between the loop and the plugins: who answers questions, and which bindings are in force.

use std::sync::Arc;

use jiff::Timestamp;
use paddock_core::binding::Bindings;
use paddock_core::question::{Answer, Failure, FailureKind, PluginReply, PluginRequest};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::metrics::Metrics;

/// Answers one question. It may use the processor for as long as a plugin's deadline, and does not wait otherwise.
pub type PluginClient = Arc<dyn Fn(&PluginRequest, Timestamp) -> Result<Answer, Failure> + Send + Sync>;

/// Plugins, as the loop and the webhook know them.
#[derive(Clone)]
pub struct Policies {
    /// Who answers.
    pub judge: PluginClient,
    /// What is bound; changes take effect at the next look.
    pub bindings: watch::Receiver<Bindings>,
}

impl Policies {
    /// No plugin at all: every question fails, and nothing is bound that would ask one.
    #[must_use]
    pub fn none() -> Self {
        let judge: PluginClient = Arc::new(|ask, _| {
            Err(Failure { kind: FailureKind::Missing, message: format!("no plugin {} is loaded", ask.plugin.name) })
        });
        Self { judge, bindings: watch::Sender::new(Bindings::default()).subscribe() }
    }
}

/// The same plugins, with every call counted and timed.
pub(crate) fn metered(judge: PluginClient, metrics: Metrics) -> PluginClient {
    Arc::new(move |ask, now| {
        let started = Instant::now();
        let result = judge(ask, now);
        metrics.asked(ask, &result, started.elapsed());
        result
    })
}

/// Asks until `questions` has no more, which is the case for `Ok`. `Err` has the answers of `max_rounds` rounds.
pub(crate) fn ask_all(
    judge: &PluginClient,
    now: Timestamp,
    max_rounds: usize,
    questions: impl Fn(&[PluginReply]) -> Vec<PluginRequest>,
) -> Result<Vec<PluginReply>, Vec<PluginReply>> {
    let mut answers: Vec<PluginReply> = Vec::new();
    for _ in 0..max_rounds {
        let asks = questions(&answers);
        if asks.is_empty() {
            return Ok(answers);
        }
        answers.extend(asks.into_iter().map(|ask| PluginReply { result: judge(&ask, now), ask }));
    }
    if questions(&answers).is_empty() { Ok(answers) } else { Err(answers) }
}
