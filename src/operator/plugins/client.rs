//! The interface between decisions and plugins: the client that asks plugins, and the bindings in force.

use std::sync::Arc;

use jiff::Timestamp;
use paddock_core::binding::Bindings;
use paddock_core::question::{Answer, Failure, FailureKind, PluginReply, PluginRequest};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::metrics::Metrics;

/// Asks a plugin one question. The call may use the processor until the plugin's deadline. It does not wait for input
/// or output.
pub type PluginClient = Arc<dyn Fn(&PluginRequest, Timestamp) -> Result<Answer, Failure> + Send + Sync>;

/// The plugins as reconciles and the webhook use them.
#[derive(Clone)]
pub struct Policies {
    /// The client that asks plugins.
    pub plugin_client: PluginClient,
    /// The bindings in force. A change applies to the next decision.
    pub bindings: watch::Receiver<Bindings>,
}

impl Policies {
    /// A configuration without plugins. No binding exists, and every question fails.
    #[must_use]
    pub fn none() -> Self {
        let plugin_client: PluginClient = Arc::new(|ask, _| {
            Err(Failure { kind: FailureKind::Missing, message: format!("plugin {} is not loaded", ask.plugin.name) })
        });
        Self { plugin_client, bindings: watch::Sender::new(Bindings::default()).subscribe() }
    }
}

/// The same client, with metrics for every call.
pub(crate) fn metered(plugin_client: PluginClient, metrics: Metrics) -> PluginClient {
    Arc::new(move |ask, now| {
        let started = Instant::now();
        let result = plugin_client(ask, now);
        metrics.asked(ask, &result, started.elapsed());
        result
    })
}

/// Asks the first questions and then those that follow from the answers, until there are none. Returns the answers. If
/// there are still questions after `max_rounds` rounds, the answers so far are the `Err`.
pub(crate) fn ask_all(
    plugin_client: &PluginClient,
    now: Timestamp,
    max_rounds: usize,
    first: Vec<PluginRequest>,
    questions: impl Fn(&[PluginReply]) -> Vec<PluginRequest>,
) -> Result<Vec<PluginReply>, Vec<PluginReply>> {
    let (mut asks, mut answers) = (first, Vec::new());
    for _ in 0..max_rounds {
        if asks.is_empty() {
            break;
        }
        answers.extend(asks.into_iter().map(|ask| PluginReply { result: plugin_client(&ask, now), request: ask }));
        asks = questions(&answers);
    }
    if asks.is_empty() { Ok(answers) } else { Err(answers) }
}
