//! Asking one hook: binding after binding until one answers, with what each binding wants to follow its failure.

use crate::binding::{Binding, FailurePolicy};
use crate::question::{Answer, Failure, FailureKind, Hook, PluginReply, PluginRequest, Question};

/// A plugin that did not answer, or whose answer was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginFailure {
    /// The binding.
    pub binding: String,
    /// The plugin.
    pub plugin: String,
    /// What went wrong.
    pub failure: Failure,
    /// What followed.
    pub policy: FailurePolicy,
}

impl PluginFailure {
    /// The trouble of a binding.
    pub(super) fn new(binding: &Binding, failure: Failure) -> Self {
        Self {
            binding: binding.name.clone(),
            plugin: binding.plugin.name.clone(),
            failure,
            policy: binding.failure_policy,
        }
    }
}

/// Where asking a hook stands.
#[derive(Debug)]
pub enum Chain<'a, T> {
    /// This is to be asked next.
    Request(Box<PluginRequest>),
    /// This binding answered.
    Reply(&'a Binding, T),
    /// This binding did not answer and wants that to deny.
    Failed(&'a Binding, Failure),
    /// Nobody is left to be asked.
    NoBinding,
}

/// Asks the bindings of a hook in turn, until one gives an answer that `accept` takes.
///
/// `Fail` stops there, `Ignore` goes on to the next binding, `Fallback` goes on to the built-in.
pub fn first_answer<'a, T>(
    bindings: impl Iterator<Item = &'a Binding>,
    answered: &[PluginReply],
    question: impl Fn() -> Question,
    accept: impl Fn(&Answer) -> Result<T, String>,
) -> (Chain<'a, T>, Vec<PluginFailure>) {
    let mut plugin_failures = Vec::new();
    let mut built_in_only = false;
    for binding in bindings.filter(|b| !b.plugin.name.is_empty()) {
        if built_in_only && !binding.built_in {
            continue;
        }
        let Some(result) = reply(binding, answered) else {
            return (Chain::Request(Box::new(ask(binding, question()))), plugin_failures);
        };
        let failure = match result {
            Ok(answer) => match accept(answer) {
                Ok(value) => return (Chain::Reply(binding, value), plugin_failures),
                Err(message) => Failure { kind: FailureKind::Invalid, message },
            },
            Err(failure) => failure.clone(),
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

/// What a binding answered for its hook, if it was asked.
pub(super) fn reply<'a>(binding: &Binding, answered: &'a [PluginReply]) -> Option<&'a Result<Answer, Failure>> {
    answered.iter().find(|a| a.ask.binding == binding.name && a.ask.question.hook() == binding.hook).map(|a| &a.result)
}

/// The question of a binding.
pub(super) fn ask(binding: &Binding, question: Question) -> PluginRequest {
    PluginRequest {
        binding: binding.name.clone(),
        plugin: binding.plugin.clone(),
        settings: binding.settings.clone(),
        question,
    }
}

/// The failure of a plugin that answered for another hook than it was asked for.
pub(super) fn wrong_hook(hook: Hook) -> String {
    format!("the answer is not one to a {} question", hook.as_str())
}
