//! Asks the bindings of one hook in order until one answers, and applies the failure policy of each binding.

use crate::binding::{Binding, FailurePolicy};
use crate::question::{Answer, Failure, FailureKind, Hook, PluginReply, PluginRequest, Question};

/// A plugin that did not answer, or whose answer was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginFailure {
    /// The name of the binding.
    pub binding: String,
    /// The name of the plugin.
    pub plugin: String,
    /// The failure.
    pub failure: Failure,
    /// The failure policy that was applied.
    pub policy: FailurePolicy,
}

impl PluginFailure {
    /// Returns the failure of a binding.
    pub(super) fn new(binding: &Binding, failure: Failure) -> Self {
        Self {
            binding: binding.name.clone(),
            plugin: binding.plugin.name.clone(),
            failure,
            policy: binding.failure_policy,
        }
    }
}

/// The state of a hook: the next request, or the result.
#[derive(Debug)]
pub enum Chain<'a, T> {
    /// This request comes next.
    Request(Box<PluginRequest>),
    /// This binding answered.
    Reply(&'a Binding, T),
    /// This binding did not answer, and its failure policy is `Fail`.
    Failed(&'a Binding, Failure),
    /// No binding is left.
    NoBinding,
}

impl<'a, T> Chain<'a, T> {
    /// The binding that ended the chain: it answered, or it failed and nobody is asked after it.
    pub(crate) fn last_binding(&self) -> Option<&'a Binding> {
        match self {
            Chain::Reply(binding, _) | Chain::Failed(binding, _) => Some(binding),
            Chain::Request(_) | Chain::NoBinding => None,
        }
    }
}

/// Asks the bindings of a hook in order, until one gives an answer that `accept` accepts. Also returns the failures on
/// the way.
///
/// After a failure, the policy `Fail` stops, `Ignore` continues with the next binding, and `Fallback` lets the built-in
/// answer in the place of the binding that failed.
///
/// Bindings whose mode does not act are asked too, after the others. Their answers are in the replies and change nothing.
pub fn first_answer<'a, T>(
    bindings: impl Iterator<Item = &'a Binding>,
    replies: &[PluginReply],
    question: impl Fn(&Binding) -> Question,
    accept: impl Fn(&Answer) -> Result<T, String>,
) -> (Chain<'a, T>, Vec<PluginFailure>) {
    let (chain, plugin_failures, others) = acting_answer(bindings, replies, &question, accept);
    match (&chain, others.first()) {
        (Chain::Request(_), _) | (_, None) => (chain, plugin_failures),
        (Chain::Reply(..) | Chain::Failed(..) | Chain::NoBinding, Some(binding)) => {
            (Chain::Request(Box::new(binding.request(question(binding)))), plugin_failures)
        }
    }
}

/// Asks the bindings that act as [`first_answer`] does. Also returns the other bindings that have no reply yet.
pub(super) fn acting_answer<'a, T>(
    bindings: impl Iterator<Item = &'a Binding>,
    replies: &[PluginReply],
    question: impl Fn(&Binding) -> Question,
    accept: impl Fn(&Answer) -> Result<T, String>,
) -> (Chain<'a, T>, Vec<PluginFailure>, Vec<&'a Binding>) {
    let named = bindings.filter(|b| !b.plugin.name.is_empty());
    let (acting, mut others): (Vec<_>, Vec<_>) = named.partition(|binding| binding.mode.acts());
    let (chain, plugin_failures) = ask_acting(acting.into_iter(), replies, question, accept);
    others.retain(|binding| reply(binding, None, replies).is_none());
    (chain, plugin_failures, others)
}

/// Asks the bindings that act, in order.
fn ask_acting<'a, T>(
    bindings: impl Iterator<Item = &'a Binding>,
    replies: &[PluginReply],
    question: impl Fn(&Binding) -> Question,
    accept: impl Fn(&Answer) -> Result<T, String>,
) -> (Chain<'a, T>, Vec<PluginFailure>) {
    let mut plugin_failures = Vec::new();
    let mut built_in_only = false;
    for binding in bindings {
        if built_in_only && !binding.built_in {
            continue;
        }
        let Some(result) = reply(binding, None, replies) else {
            return (Chain::Request(Box::new(binding.request(question(binding)))), plugin_failures);
        };
        let failure = match result {
            Ok(answer) => match accept(answer) {
                Ok(value) => return (Chain::Reply(binding, value), plugin_failures),
                Err(message) => Failure { kind: FailureKind::Invalid, message },
            },
            Err(failure) => failure,
        };
        plugin_failures.push(PluginFailure::new(binding, failure.clone()));
        match binding.failure_policy {
            FailurePolicy::Fail => return (Chain::Failed(binding, failure), plugin_failures),
            FailurePolicy::Ignore => {}
            FailurePolicy::Fallback => built_in_only = true,
        }
    }
    (Chain::NoBinding, plugin_failures)
}

/// The reply of a binding for its hook, if it was asked, or the failure of a plugin that is not loaded. One reconcile
/// asks an admission plugin about objects of several kinds, so `kind` names the kind of the object.
pub(super) fn reply<'a>(
    binding: &Binding,
    kind: Option<&str>,
    replies: &'a [PluginReply],
) -> Option<Result<&'a Answer, Failure>> {
    if let Some(failure) = binding.standing_failure() {
        return Some(Err(failure));
    }
    let is_asked = |asked: &PluginRequest| {
        asked.binding == binding.name
            && match &asked.question {
                Question::Admission(question) => {
                    binding.hook == Hook::Admission && kind == Some(question.kind.as_str())
                }
                Question::RuntimeClass(_) | Question::Idle(_) | Question::PoolSize(_) => {
                    asked.question.hook() == binding.hook
                }
            }
    };
    let reply = replies.iter().find(|reply| is_asked(&reply.request))?;
    Some(reply.result.as_ref().map_err(Clone::clone))
}

/// The error of an answer to another hook than the one of the question.
pub(super) fn wrong_hook(hook: Hook) -> String {
    format!("the answer is not one to a {} question", hook.as_str())
}
