//! The interface between decisions and plugins: the client that asks plugins, and the bindings in force.

use std::sync::Arc;

use jiff::Timestamp;
use paddock_core::binding::Bindings;
use paddock_core::question::{Answer, Caller, Failure, FailureKind, PluginReply, PluginRequest};
use paddock_core::record::Subject;
use paddock_kube::traces;
use paddock_plugin_host::Usage;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::field::Empty;
use tracing::{Level, Span, span};

use crate::metrics::Metrics;
use crate::record::Recorder;

/// Asks a plugin one question, for a decision about an object. The call may use the processor until the plugin's
/// deadline. It does not wait for input or output.
pub type PluginClient = Arc<dyn Fn(&PluginRequest, &Arc<Subject>, Timestamp) -> Result<Answer, Failure> + Send + Sync>;

/// Asks a plugin one question for a caller, and reports what the call used.
pub type MeasuredClient =
    Arc<dyn Fn(&PluginRequest, Caller, Timestamp) -> (Result<Answer, Failure>, Usage) + Send + Sync>;

/// The plugins as reconciles and the webhook use them.
#[derive(Clone)]
pub struct Policies {
    /// The client that asks plugins.
    pub plugin_client: MeasuredClient,
    /// The bindings in force. A change applies to the next decision.
    pub bindings: watch::Receiver<Bindings>,
}

impl Policies {
    /// A configuration without plugins. No binding exists, and every question fails.
    #[must_use]
    pub fn none() -> Self {
        let plugin_client: MeasuredClient = Arc::new(|ask, _, _| {
            let message = format!("plugin {} is not loaded", ask.plugin.name);
            (Err(Failure { kind: FailureKind::Missing, message }), Usage::default())
        });
        Self { plugin_client, bindings: watch::Sender::new(Bindings::default()).subscribe() }
    }
}

/// A client that counts and records every call, and makes a span of it.
pub(crate) fn metered(plugin_client: MeasuredClient, metrics: Metrics, recorder: Recorder) -> PluginClient {
    Arc::new(move |ask, subject, now| {
        let span = span_of(ask);
        let started = Instant::now();
        let (result, usage) = span.in_scope(|| plugin_client(ask, subject.caller, now));
        let took = started.elapsed();
        ended(&span, &result, usage);
        metrics.asked(ask, &result, (usage, took));
        recorder.decided((now, subject), ask, &result, (usage, took));
        result
    })
}

/// The span of a call. It belongs to that of the review or of the reconcile.
fn span_of(ask: &PluginRequest) -> Span {
    span!(
        target: traces::TARGET,
        Level::INFO,
        "plugin call",
        otel.status_code = Empty,
        error.type = Empty,
        paddock.plugin.name = %ask.plugin.name,
        paddock.plugin.digest = %ask.plugin.digest,
        paddock.plugin.hook = ask.question.hook().as_str(),
        paddock.plugin.binding = ask.binding,
        paddock.plugin.mode = ask.mode.as_str(),
        paddock.plugin.fuel = Empty,
        paddock.plugin.memory_bytes = Empty,
    )
}

fn ended(span: &Span, result: &Result<Answer, Failure>, usage: Usage) {
    if span.is_disabled() {
        return;
    }
    span.record("paddock.plugin.fuel", usage.fuel);
    span.record("paddock.plugin.memory_bytes", usage.memory_bytes);
    if let Err(failure) = result {
        span.record("error.type", failure.kind.as_str());
        span.record("otel.status_code", "ERROR");
    }
}

/// Asks the first questions and then those that follow from the answers, until there are none. Returns the answers. If
/// there are still questions after `max_rounds` rounds, the answers so far are the `Err`.
pub(crate) fn ask_all(
    (plugin_client, subject): (&PluginClient, &Arc<Subject>),
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
        answers.extend(
            asks.into_iter().map(|ask| PluginReply { result: plugin_client(&ask, subject, now), request: ask }),
        );
        asks = questions(&answers);
    }
    if asks.is_empty() { Ok(answers) } else { Err(answers) }
}
