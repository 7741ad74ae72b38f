//! What the operator does with an answer, apart from the failure policy. Tools for authors of plugins report it.

use serde_json::Value;

use super::chain::wrong_hook;
use super::class::accept_class;
use super::patch;
use crate::question::{Answer, IdleTier, Question};

/// What the operator does with an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// The operator does what the answer says.
    Followed,
    /// The operator does something else and reports it in an Event. The message says what it does.
    Corrected(String),
    /// The operator treats the answer as a failure of the plugin, for this reason.
    Refused(String),
}

/// Applies the rules for answers. The decisions apply the same rules to the answers of plugins.
#[must_use]
pub fn accept(question: &Question, answer: &Answer) -> Acceptance {
    match (question, answer) {
        (Question::Admission(question), Answer::Admission(answer)) => {
            let Some(text) = &answer.patch else { return Acceptance::Followed };
            let object: Value = match serde_json::from_str(&question.object) {
                Ok(object) => object,
                Err(error) => return Acceptance::Refused(format!("the object of the question is not JSON: {error}")),
            };
            patch::apply(&object, text).map_or_else(Acceptance::Refused, |_patched| Acceptance::Followed)
        }
        (Question::RuntimeClass(question), Answer::RuntimeClass(_)) => {
            let accepted = accept_class(answer, &question.classes, question.generated_code);
            accepted.map_or_else(Acceptance::Refused, |_accepted| Acceptance::Followed)
        }
        (Question::Idle(question), Answer::Idle(answer)) => match answer.action {
            Some(tier) if !question.tiers.contains(&tier) => Acceptance::Corrected(format!(
                "the Sandbox stays awake, because {} is not among the tiers of the question",
                name(tier)
            )),
            Some(_) | None => Acceptance::Followed,
        },
        (Question::PoolSize(question), Answer::PoolSize(answer)) => {
            let (least, most) = (question.min, question.max.max(question.min));
            let kept = answer.desired.clamp(least, most);
            if kept == answer.desired {
                return Acceptance::Followed;
            }
            let asked = answer.desired;
            Acceptance::Corrected(format!("the pool keeps {kept}, because {asked} is not between {least} and {most}"))
        }
        (
            Question::Admission(_) | Question::RuntimeClass(_) | Question::Idle(_) | Question::PoolSize(_),
            Answer::Admission(_) | Answer::RuntimeClass(_) | Answer::Idle(_) | Answer::PoolSize(_),
        ) => Acceptance::Refused(wrong_hook(question.hook())),
    }
}

fn name(tier: IdleTier) -> &'static str {
    match tier {
        IdleTier::Throttle => "throttle",
        IdleTier::Suspend => "suspend",
        IdleTier::Hibernate => "hibernate",
        IdleTier::Delete => "delete",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::question::{Hook, form};

    fn admission(patch: &Value) -> (Question, Answer) {
        let question = json!({
            "operation": "create", "group": "", "version": "v1", "kind": "Pod", "namespace": "a", "name": "p",
            "object": {"metadata": {"name": "p"}, "spec": {}}, "namespace-labels": {}, "username": "", "groups": [],
            "generated-code": false, "classes": [], "dry-run": false, "now": 0,
        });
        let answer = json!({"verdict": "allow", "warnings": [], "patch": patch});
        both(Hook::Admission, question, answer)
    }

    fn runtime_class(generated: bool, choice: &Value) -> (Question, Answer) {
        let class =
            |name: &str, isolated: bool| json!({"name": name, "handler": name, "isolated": isolated, "nodes": 1});
        let question = json!({
            "namespace": "a", "name": "p", "labels": {}, "images": [], "generated-code": generated,
            "namespace-labels": {}, "classes": [class("gvisor", true), class("runc", false)], "now": 0,
        });
        both(Hook::RuntimeClass, question, json!({"choice": choice, "reason": ""}))
    }

    fn idle(action: &Value) -> (Question, Answer) {
        let question = json!({
            "namespace": "a", "name": "p", "labels": {}, "idle-timeout-ms": 1, "created": 0, "tiers": ["suspend"],
            "state": "", "now": 0,
        });
        both(Hook::Idle, question, json!({"action": action, "reason": ""}))
    }

    fn pool(desired: u32) -> (Question, Answer) {
        let question = json!({
            "namespace": "a", "name": "p", "labels": {}, "min": 2, "max": 5, "ready": 0, "creating": 0, "claimed": 0,
            "bucket-seconds": 10, "arrivals": [], "hits": 0, "misses": 0, "state": "", "now": 0,
        });
        both(Hook::PoolSize, question, json!({"desired": desired, "reason": ""}))
    }

    fn both(hook: Hook, question: Value, answer: Value) -> (Question, Answer) {
        (form::question(hook, question).unwrap(), form::answer(hook, answer).unwrap())
    }

    #[test]
    fn answers_that_break_a_rule_are_corrected_or_refused() {
        let label = json!([{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}]);
        let status = json!([{"op": "add", "path": "/status", "value": {}}]);
        for ((question, answer), expected) in [
            (admission(&Value::Null), "followed"),
            (admission(&label), "followed"),
            (admission(&status), "refused: the patch may not change status"),
            (runtime_class(true, &json!({"class": "gvisor"})), "followed"),
            (runtime_class(false, &json!("default")), "followed"),
            (runtime_class(true, &json!("default")), "refused: generated code"),
            (runtime_class(true, &json!({"class": "runc"})), "refused: RuntimeClass runc does not isolate"),
            (runtime_class(false, &json!({"class": "kata"})), "refused: there is no RuntimeClass kata"),
            (idle(&Value::Null), "followed"),
            (idle(&json!("suspend")), "followed"),
            (idle(&json!("delete")), "corrected: the Sandbox stays awake, because delete is not among"),
            (pool(2), "followed"),
            (pool(5), "followed"),
            (pool(1), "corrected: the pool keeps 2"),
            (pool(6), "corrected: the pool keeps 5, because 6 is not between 2 and 5"),
            ((pool(3).0, idle(&Value::Null).1), "refused: "),
        ] {
            let found = match accept(&question, &answer) {
                Acceptance::Followed => "followed".to_owned(),
                Acceptance::Corrected(message) => format!("corrected: {message}"),
                Acceptance::Refused(message) => format!("refused: {message}"),
            };
            assert!(found.starts_with(expected), "{expected}: {found}");
        }
    }
}
