//! Shared by all hooks: which bindings apply, and the state that a plugin keeps between two calls.

use k8s_openapi::ByteString;
use paddock_api::PolicyState;

use crate::admission::{Chain, PluginFailure, first_answer};
use crate::binding::{Binding, Bindings};
use crate::object::{Object, TextMap};
use crate::plan::{Event, Reason};
use crate::question::{Answer, FailureKind, Hook, PluginReply, Question};
use crate::snapshot::Common;

/// The shortest time between two status writes that change only the state of a plugin.
pub(super) const STATE_EVERY: std::time::Duration = std::time::Duration::from_secs(60);

/// The time after which a plugin that did not answer is asked again.
pub(super) const ASK_AGAIN: std::time::Duration = std::time::Duration::from_secs(30);

/// Asks the bindings of a hook that never denies. If a binding with the failure policy `Fail` fails, the built-in is
/// asked.
pub(super) fn first_reply_or_built_in<'a, T>(
    common: &'a Common,
    labels: &'a TextMap,
    hook: Hook,
    replies: &[PluginReply],
    question: impl Fn(&Bindings) -> Question,
    accept: impl Fn(&Answer) -> Result<T, String>,
) -> (Chain<'a, T>, Vec<PluginFailure>) {
    let applying = || common.bindings.applying(hook, &common.namespace_labels, labels);
    let ask = || question(&common.bindings);
    let (chain, mut plugin_failures) = first_answer(applying(), replies, ask, &accept);
    let Chain::Failed(..) = chain else { return (chain, plugin_failures) };
    let (chain, more) = first_answer(applying().filter(|b| b.built_in), replies, ask, &accept);
    // The binding that failed may have been the built-in itself.
    plugin_failures.extend(more.into_iter().filter(|f| !plugin_failures.contains(f)).collect::<Vec<_>>());
    (chain, plugin_failures)
}

/// The reasons and messages of Events about plugins that did not answer or whose answers were refused.
pub(super) fn failure_events(about: &Object, plugin_failures: &[PluginFailure]) -> impl Iterator<Item = Event> {
    plugin_failures.iter().map(move |PluginFailure { plugin, failure, policy, .. }| {
        let reason = match failure.kind {
            FailureKind::Invalid => Reason::PluginOverruled,
            FailureKind::Deadline
            | FailureKind::Fuel
            | FailureKind::Memory
            | FailureKind::Trap
            | FailureKind::Error
            | FailureKind::Missing
            | FailureKind::Quarantined => Reason::PluginFailed,
        };
        Event::warning(about, reason, format!("{plugin}: {failure} (failurePolicy {})", policy.as_str()))
    })
}

/// The state that a plugin kept, if a binding still uses the component that wrote it. Otherwise the state is empty.
pub(super) fn load_state(bindings: &Bindings, state: Option<&PolicyState>) -> Vec<u8> {
    let known = |s: &&PolicyState| bindings.iter().any(|b| b.plugin.digest == s.digest);
    state
        .filter(known)
        .and_then(|s| serde_json::from_value::<ByteString>(s.data.as_str().into()).ok())
        .map(|bytes| bytes.0)
        .unwrap_or_default()
}

/// The plugin state for the status. It is the new state if the plugin returned one. Otherwise it is the old state if
/// the same component wrote it.
pub(super) fn save_state(binding: &Binding, new: Option<&[u8]>, before: Option<&PolicyState>) -> Option<PolicyState> {
    match new {
        None => before.filter(|s| s.digest == binding.plugin.digest).cloned(),
        Some(bytes) => {
            let data = serde_json::to_value(ByteString(bytes.to_vec())).ok()?;
            Some(PolicyState { digest: binding.plugin.digest.clone(), data: data.as_str()?.to_owned() })
        }
    }
}
