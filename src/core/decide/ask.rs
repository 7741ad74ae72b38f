//! Shared by all hooks: which bindings apply, the state that a plugin keeps between two calls, and the Events about
//! failures and denials.

use k8s_openapi::ByteString;
use paddock_api::PolicyState;

use crate::admission::{Chain, PluginFailure, first_answer};
use crate::binding::Binding;
use crate::object::{Object, TextMap};
use crate::plan::{Event, Plan, Reason};
use crate::question::{Answer, FailureKind, Hook, PluginReply, Question};
use crate::snapshot::Common;
use crate::time::saturating_add;

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
    question: impl Fn(&Binding) -> Question,
    accept: impl Fn(&Answer) -> Result<T, String>,
) -> (Chain<'a, T>, Vec<PluginFailure>) {
    let applying = || common.bindings.applying(hook, &common.namespace_labels, labels);
    let (chain, mut plugin_failures) = first_answer(applying(), replies, &question, &accept);
    let Chain::Failed(..) = chain else { return (chain, plugin_failures) };
    let (chain, more) = first_answer(applying().filter(|b| b.built_in), replies, &question, &accept);
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

/// Reports a denial in an Event. A plugin that did not answer is asked again, because no watch reports that it works
/// again.
pub(super) fn report_denial(common: &Common, about: &Object, (reason, problem): (Reason, &str), plan: &mut Plan) {
    if reason == Reason::PluginFailed {
        plan.requeue_at(saturating_add(common.now, ASK_AGAIN), reason);
    }
    plan.events.push(Event::warning(about, reason, problem));
}

/// The state that the plugin of a binding kept. It is empty if another component or another binding wrote it: a plugin that
/// is asked beside or instead of the writer must not see it.
pub(super) fn load_state(binding: &Binding, state: Option<&PolicyState>) -> Vec<u8> {
    state
        .filter(|state| wrote(binding, state))
        .and_then(|s| serde_json::from_value::<ByteString>(s.data.as_str().into()).ok())
        .map(|bytes| bytes.0)
        .unwrap_or_default()
}

/// Whether a binding wrote a state. An older version of the operator did not record the binding.
fn wrote(binding: &Binding, state: &PolicyState) -> bool {
    state.digest == binding.plugin.digest && state.binding.as_ref().is_none_or(|name| *name == binding.name)
}

/// The plugin state for the status. It is the new state if the plugin returned one. Otherwise it is the old state if
/// the same binding wrote it.
pub(super) fn save_state(binding: &Binding, new: Option<&[u8]>, before: Option<&PolicyState>) -> Option<PolicyState> {
    match new {
        None => before.filter(|state| wrote(binding, state)).cloned(),
        Some(bytes) => {
            let data = serde_json::to_value(ByteString(bytes.to_vec())).ok()?;
            Some(PolicyState {
                digest: binding.plugin.digest.clone(),
                binding: Some(binding.name.clone()),
                data: data.as_str()?.to_owned(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::question::PluginRef;

    fn binding(name: &str, plugin: &str) -> Binding {
        let plugin = PluginRef { name: plugin.to_owned(), digest: format!("sha256:{plugin}") };
        Binding { name: name.to_owned(), ..Binding::new(plugin, Hook::Idle) }
    }

    #[test]
    fn state_goes_back_to_the_binding_that_wrote_it_and_to_no_other() {
        let writer = binding("mine", "mine");
        let state = save_state(&writer, Some(b"secret"), None);
        for (asked, expected) in [
            (&writer, &b"secret"[..]),
            (&binding("SandboxPolicy/shadow", "mine"), b""),
            (&binding("mine", "newer"), b""),
            (&binding("idle-timeout/idle", "idle-timeout"), b""),
        ] {
            assert_eq!(load_state(asked, state.as_ref()), expected, "{}", asked.name);
            let kept = save_state(asked, None, state.as_ref());
            assert_eq!(kept.is_some(), !expected.is_empty(), "{}", asked.name);
        }
        // A status from before the binding was recorded.
        let old = state.map(|state| PolicyState { binding: None, ..state });
        assert_eq!(load_state(&binding("other", "mine"), old.as_ref()), b"secret");
        assert_eq!(load_state(&binding("mine", "newer"), old.as_ref()), b"");
    }
}
