//! The answers of bindings that do not act, compared with what was decided. The operator counts them.

use crate::binding::Mode;
use crate::question::{Answer, Hook, PluginReply, Verdict};

/// The answer of a binding whose mode does not act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnenforcedAnswer {
    /// The name of the binding.
    pub binding: String,
    /// The hook of the question.
    pub hook: Hook,
    /// The mode of the binding.
    pub mode: Mode,
    /// The effect that the answer would have had.
    pub effect: UnenforcedEffect,
    /// The message of a denial or of a failure, or an empty text.
    pub message: String,
}

/// The effect that an answer would have had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum UnenforcedEffect {
    /// An admission without a change, or the same decision as the one that was made.
    Same,
    /// Another decision than the one that was made, or a patch of the object.
    Different,
    /// A denial of the object.
    Denied,
    /// The plugin gave no valid answer.
    Failed,
    /// The review was over before the plugin answered, or before it could be asked.
    Late,
}

impl UnenforcedEffect {
    /// The word in metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The answers among these replies whose bindings do not act.
#[must_use]
pub fn unenforced(replies: &[PluginReply]) -> Vec<UnenforcedAnswer> {
    let answer = |reply: &PluginReply| {
        let (mode, hook) = (reply.request.mode, reply.request.question.hook());
        let acting = |other: &&PluginReply| other.request.question.hook() == hook && other.request.mode.acts();
        let decided = replies.iter().rev().filter(acting).find_map(|other| other.result.as_ref().ok());
        let (effect, message) = effect(reply, decided);
        UnenforcedAnswer { binding: reply.request.binding.clone(), hook, mode, effect, message }
    };
    replies.iter().filter(|reply| !reply.request.mode.acts()).map(answer).collect()
}

fn effect(reply: &PluginReply, decided: Option<&Answer>) -> (UnenforcedEffect, String) {
    let answer = match &reply.result {
        Ok(answer) => answer,
        Err(failure) => return (UnenforcedEffect::Failed, failure.to_string()),
    };
    if let Answer::Admission(answer) = answer {
        return match &answer.verdict {
            Verdict::Deny(message) => (UnenforcedEffect::Denied, message.clone()),
            Verdict::Allow if answer.patch.is_some() => (UnenforcedEffect::Different, String::new()),
            Verdict::Allow => (UnenforcedEffect::Same, String::new()),
        };
    }
    let is_same = decided.is_some_and(|decided| decides_the_same(answer, decided));
    (if is_same { UnenforcedEffect::Same } else { UnenforcedEffect::Different }, String::new())
}

/// Whether two answers have the same effect. Their reasons, states and next checks do not count.
fn decides_the_same(one: &Answer, other: &Answer) -> bool {
    match (one, other) {
        (Answer::RuntimeClass(one), Answer::RuntimeClass(other)) => one.choice == other.choice,
        (Answer::Idle(one), Answer::Idle(other)) => one.action == other.action,
        (Answer::PoolSize(one), Answer::PoolSize(other)) => one.desired == other.desired,
        (Answer::Admission(_) | Answer::RuntimeClass(_) | Answer::Idle(_) | Answer::PoolSize(_), _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binding::Binding;
    use crate::question::{
        AdmissionAnswer, Failure, FailureKind, PluginRef, PoolSizeAnswer, PoolSizeQuestion, Question,
    };

    fn binding(name: &str, mode: Mode) -> Binding {
        let plugin = PluginRef { name: name.to_owned(), digest: "sha256:1".to_owned() };
        Binding { name: name.to_owned(), mode, ..Binding::new(plugin, Hook::PoolSize) }
    }

    fn reply(binding: &Binding, result: Result<Answer, Failure>) -> PluginReply {
        let question = Question::PoolSize(Box::new(PoolSizeQuestion {
            namespace: "ns".to_owned(),
            name: "pool".to_owned(),
            labels: [].into(),
            min: 1,
            max: 9,
            ready: 0,
            creating: 0,
            claimed: 0,
            bucket_seconds: 10,
            arrivals: vec![],
            hits: 0,
            misses: 0,
            refill_ms: None,
            state: vec![],
            now: jiff::Timestamp::UNIX_EPOCH,
        }));
        PluginReply { request: binding.request(question), result }
    }

    fn size(desired: u32) -> Result<Answer, Failure> {
        Ok(Answer::PoolSize(PoolSizeAnswer { desired, next_check: None, reason: desired.to_string(), state: None }))
    }

    #[test]
    fn answers_of_shadows_are_compared_with_the_decision() {
        let [decides, same, other, fails] =
            [("decides", Mode::Enforce), ("same", Mode::Shadow), ("other", Mode::Shadow), ("fails", Mode::Shadow)]
                .map(|(name, mode)| binding(name, mode));
        let failure = Failure { kind: FailureKind::Trap, message: "unreachable".to_owned() };
        let replies =
            [reply(&decides, size(3)), reply(&same, size(3)), reply(&other, size(4)), reply(&fails, Err(failure))];
        let found = unenforced(&replies);
        let found: Vec<_> = found.iter().map(|answer| (answer.binding.as_str(), answer.effect)).collect();
        let expected = [
            ("same", UnenforcedEffect::Same),
            ("other", UnenforcedEffect::Different),
            ("fails", UnenforcedEffect::Failed),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn denials_and_patches_of_admission_are_told_apart() {
        let answer = |verdict, patch: Option<&str>| {
            Answer::Admission(AdmissionAnswer { verdict, warnings: vec![], patch: patch.map(str::to_owned) })
        };
        let audited = binding("audited", Mode::Audit);
        let effect_of = |answer| effect(&reply(&audited, Ok(answer)), None);
        assert_eq!(effect_of(answer(Verdict::Allow, None)).0, UnenforcedEffect::Same);
        assert_eq!(effect_of(answer(Verdict::Allow, Some("[]"))).0, UnenforcedEffect::Different);
        let (effect, message) = effect_of(answer(Verdict::Deny("no".to_owned()), None));
        assert_eq!((effect, message.as_str()), (UnenforcedEffect::Denied, "no"));
    }
}
