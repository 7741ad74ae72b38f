//! What the operator does with an answer, apart from the failure policy. Tools for authors of plugins report it.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::chain::wrong_hook;
use super::class::accept_class;
use super::patch;
use crate::question::{
    Answer, IdleAnswer, IdleQuestion, IdleTier, PoolSizeAnswer, PoolSizeQuestion, Question, Verdict,
};
use crate::settings::Settings;
use crate::time::saturating_add;

/// What the operator does with an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// The operator does what the answer says.
    Followed,
    /// The operator does what the answer says, and asks again earlier than the answer asks. The message says when.
    Earlier(String),
    /// The operator does something else. The message says what it does.
    Corrected(String),
    /// The operator treats the answer as a failure of the plugin, for this reason.
    Refused(String),
}

/// Applies the rules for answers. The decisions apply the same rules to the answers of plugins.
#[must_use]
pub fn accept(question: &Question, answer: &Answer) -> Acceptance {
    match (question, answer) {
        (Question::Admission(question), Answer::Admission(answer)) => match (&answer.verdict, &answer.patch) {
            // A denied object gets no patch, so its form does not matter.
            (Verdict::Deny(_), _) | (Verdict::Allow, None) => Acceptance::Followed,
            (Verdict::Allow, Some(text)) => match serde_json::from_str::<Value>(&question.object) {
                Ok(object) => patch::apply(&object, text).map_or_else(Acceptance::Refused, |_| Acceptance::Followed),
                Err(error) => Acceptance::Refused(format!("the object of the question is not JSON: {error}")),
            },
        },
        (Question::RuntimeClass(question), Answer::RuntimeClass(_)) => {
            let accepted = accept_class(answer, &question.classes, question.generated_code);
            accepted.map_or_else(Acceptance::Refused, |_accepted| Acceptance::Followed)
        }
        (Question::Idle(question), Answer::Idle(answer)) => idle(question, answer),
        (Question::PoolSize(question), Answer::PoolSize(answer)) => pool_size(question, answer),
        (
            Question::Admission(_) | Question::RuntimeClass(_) | Question::Idle(_) | Question::PoolSize(_),
            Answer::Admission(_) | Answer::RuntimeClass(_) | Answer::Idle(_) | Answer::PoolSize(_),
        ) => Acceptance::Refused(wrong_hook(question.hook())),
    }
}

fn idle(question: &IdleQuestion, answer: &IdleAnswer) -> Acceptance {
    let now = question.now;
    let latest = saturating_add(now, Settings::default().idle_check_at_most);
    match (answer.action, answer.next_check) {
        (Some(tier), _) if !question.tiers.contains(&tier) => Acceptance::Corrected(format!(
            "the Sandbox stays awake, because {} is not among the tiers of the question",
            name(tier)
        )),
        // These tiers end the checks.
        (Some(IdleTier::Suspend | IdleTier::Hibernate | IdleTier::Delete), _) => Acceptance::Followed,
        (None | Some(IdleTier::Throttle), None) => Acceptance::Followed,
        (None | Some(IdleTier::Throttle), Some(at)) => {
            let check = idle_check(Some(at).filter(|at| *at > now), latest);
            if check == at {
                Acceptance::Followed
            } else if at > check {
                Acceptance::Earlier(format!("the operator asks again at {check}, before {at}"))
            } else {
                Acceptance::Corrected(not_in_the_future(check, at))
            }
        }
    }
}

fn pool_size(question: &PoolSizeQuestion, answer: &PoolSizeAnswer) -> Acceptance {
    let (least, most) = (question.min, question.max.max(question.min));
    let (kept, asked) = (kept_size(answer.desired, least, most), answer.desired);
    let size =
        (kept != asked).then(|| format!("the pool keeps {kept}, because {asked} is not between {least} and {most}"));
    let check = pool_check(answer.next_check, question.now, Settings::default().pool_check_every);
    let late = answer.next_check.filter(|at| *at != check).map(|at| not_in_the_future(check, at));
    let notes: Vec<String> = size.into_iter().chain(late).collect();
    if notes.is_empty() { Acceptance::Followed } else { Acceptance::Corrected(notes.join("; ")) }
}

fn not_in_the_future(check: Timestamp, asked: Timestamp) -> String {
    format!("the operator asks again at {check}, because {asked} is not after the time of the question")
}

/// The size that a pool keeps: the size that a plugin wants, between the bounds of the pool.
pub(crate) fn kept_size(desired: u32, least: u32, most: u32) -> u32 {
    desired.clamp(least, most)
}

/// When a pool-size plugin is asked again: when it asks for, if that is in the future.
pub(crate) fn pool_check(asked: Option<Timestamp>, now: Timestamp, every: Duration) -> Timestamp {
    asked.filter(|at| *at > now).unwrap_or_else(|| saturating_add(now, every))
}

/// When an idle plugin is asked again: when it asks for, but not after `latest`. The caller leaves out a time that has
/// passed.
pub(crate) fn idle_check(asked: Option<Timestamp>, latest: Timestamp) -> Timestamp {
    asked.unwrap_or(latest).min(latest)
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

    /// The time of the questions about idle Sandboxes and pools, in milliseconds.
    const NOW: i64 = 1_000_000;
    const HOUR: i64 = 3_600_000;

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

    fn idle_until(action: &Value, next_check: &Value) -> (Question, Answer) {
        let question = json!({
            "namespace": "a", "name": "p", "labels": {}, "idle-timeout-ms": 1, "created": 0,
            "tiers": ["throttle", "suspend"], "state": "", "now": NOW,
        });
        both(Hook::Idle, question, json!({"action": action, "next-check": next_check, "reason": ""}))
    }

    fn idle(action: &Value) -> (Question, Answer) {
        idle_until(action, &Value::Null)
    }

    fn pool_until(desired: u32, next_check: &Value) -> (Question, Answer) {
        let question = json!({
            "namespace": "a", "name": "p", "labels": {}, "min": 2, "max": 5, "ready": 0, "creating": 0, "claimed": 0,
            "bucket-seconds": 10, "arrivals": [], "hits": 0, "misses": 0, "state": "", "now": NOW,
        });
        both(Hook::PoolSize, question, json!({"desired": desired, "next-check": next_check, "reason": ""}))
    }

    fn pool(desired: u32) -> (Question, Answer) {
        pool_until(desired, &Value::Null)
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
            (idle_until(&Value::Null, &json!(NOW + 1)), "followed"),
            (idle_until(&Value::Null, &json!(NOW + HOUR)), "followed"),
            (
                idle_until(&Value::Null, &json!(NOW + HOUR + 1)),
                "earlier: the operator asks again at 1970-01-01T01:16:40Z",
            ),
            (idle_until(&Value::Null, &json!(NOW)), "corrected: the operator asks again at 1970-01-01T01:16:40Z"),
            (idle_until(&json!("suspend"), &json!(0)), "followed"),
            (idle_until(&json!("throttle"), &Value::Null), "followed"),
            (idle_until(&json!("throttle"), &json!(NOW + HOUR)), "followed"),
            (
                idle_until(&json!("throttle"), &json!(NOW + HOUR + 1)),
                "earlier: the operator asks again at 1970-01-01T01:16:40Z",
            ),
            (idle_until(&json!("throttle"), &json!(NOW)), "corrected: the operator asks again at 1970-01-01T01:16:40Z"),
            (pool_until(3, &json!(NOW + 1)), "followed"),
            (pool_until(3, &json!(NOW + 9 * HOUR)), "followed"),
            (pool_until(3, &json!(NOW)), "corrected: the operator asks again at 1970-01-01T00:17:10Z, because"),
            (pool_until(6, &json!(0)), "corrected: the pool keeps 5, because 6 is not between 2 and 5; the operator"),
            ((pool(3).0, idle(&Value::Null).1), "refused: "),
        ] {
            let found = match accept(&question, &answer) {
                Acceptance::Followed => "followed".to_owned(),
                Acceptance::Earlier(message) => format!("earlier: {message}"),
                Acceptance::Corrected(message) => format!("corrected: {message}"),
                Acceptance::Refused(message) => format!("refused: {message}"),
            };
            assert!(found.starts_with(expected), "{expected}: {found}");
        }
    }
}
