//! What the hooks have in common: whose bindings apply, and what a plugin remembers between two calls.

use k8s_openapi::ByteString;

use crate::api::PolicyState;
use crate::plan::Reason;
use crate::policy::{Binding, Bindings};
use crate::question::{Answer, Answered, FailureKind, Hook, Question};
use crate::review::{Chain, Trouble, first_answer};
use crate::seen::Common;

/// How often what a plugin remembers is alone worth a write.
pub(super) const STATE_EVERY: std::time::Duration = std::time::Duration::from_secs(60);

/// Asks the bindings of a hook that never denies: where one that must answer fails, the built-in is asked.
pub(super) fn first_or_built_in<'a, T>(
    common: &'a Common,
    labels: &'a std::collections::BTreeMap<String, String>,
    hook: Hook,
    answers: &[Answered],
    question: impl Fn(&Bindings) -> Question,
    accept: impl Fn(&Answer) -> Result<T, String>,
) -> (Chain<'a, T>, Vec<Trouble>) {
    let applying = || common.bindings.applying(hook, &common.namespace_labels, labels);
    let ask = || question(&common.bindings);
    let (chain, mut troubles) = first_answer(applying(), answers, ask, &accept);
    let Chain::Failed(..) = chain else { return (chain, troubles) };
    let (chain, more) = first_answer(applying().filter(|b| b.built_in), answers, ask, &accept);
    // The one that failed may have been the built-in itself.
    troubles.extend(more.into_iter().filter(|t| !troubles.contains(t)).collect::<Vec<_>>());
    (chain, troubles)
}

/// What the user is told of plugins that did not answer, or whose answers were refused.
pub(super) fn told(troubles: &[Trouble]) -> impl Iterator<Item = (Reason, String)> {
    troubles.iter().map(|trouble| {
        let Trouble { plugin, failure, policy, .. } = trouble;
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
        (reason, format!("{plugin}: {failure} (failurePolicy {})", policy.as_str()))
    })
}

/// What a plugin left behind, if the one that is asked now is the same.
pub(super) fn remembered(bindings: &Bindings, state: Option<&PolicyState>) -> Vec<u8> {
    let known = |s: &&PolicyState| bindings.iter().any(|b| b.plugin.digest == s.digest);
    state
        .filter(known)
        .and_then(|s| serde_json::from_value::<ByteString>(s.data.as_str().into()).ok())
        .map(|bytes| bytes.0)
        .unwrap_or_default()
}

/// What is kept in status: the new state, the old one if the plugin left it and is still the same, or nothing.
pub(super) fn to_remember(binding: &Binding, new: Option<&[u8]>, before: Option<&PolicyState>) -> Option<PolicyState> {
    match new {
        None => before.filter(|s| s.digest == binding.plugin.digest).cloned(),
        Some(bytes) => {
            let data = serde_json::to_value(ByteString(bytes.to_vec())).ok()?;
            Some(PolicyState { digest: binding.plugin.digest.clone(), data: data.as_str()?.to_owned() })
        }
    }
}
