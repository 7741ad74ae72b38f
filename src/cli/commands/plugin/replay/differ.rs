//! Compares the result of a replay with the recorded one.

use anyhow::Context as _;
use paddock_core::question::{Answer, Failure};
use paddock_core::record::is_same_text;
use serde::Serialize;
use serde_json::{Value, json};

use crate::commands::plugin::text::parse_patch;

/// A field that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Field {
    /// The path of the field in the answer, such as `patch[0].value`.
    pub(super) field: String,
    /// The recorded value.
    pub(super) recorded: Value,
    /// The value in the answer of the component.
    pub(super) now: Value,
}

/// The fields that differ, without those that are ignored.
pub(super) fn differences(
    recorded: &Result<Answer, Failure>,
    now: &Result<Answer, Failure>,
    ignored: &[String],
) -> anyhow::Result<Vec<Field>> {
    let value = |answer: &Answer| -> anyhow::Result<Value> {
        let mut value = serde_json::to_value(answer).context("writing the answer")?;
        if let Some(fields) = value.as_object_mut() {
            fields.retain(|field, _| !ignored.contains(field));
        }
        parse_patch(&mut value);
        Ok(value)
    };
    let failure = |failure: &Failure| json!({ "kind": failure.kind.as_str(), "message": failure.message });
    let mut found = Vec::new();
    match (recorded, now) {
        (Ok(recorded), Ok(now)) => diff("", &value(recorded)?, &value(now)?, &mut found),
        // The texts of the engine name limits and addresses, and may change with its version.
        (Err(recorded), Err(now)) if recorded.kind == now.kind => {}
        (Err(recorded), Err(now)) => {
            found.push(Field { field: "failure".to_owned(), recorded: failure(recorded), now: failure(now) });
        }
        (Ok(recorded), Err(now)) => {
            found.push(Field { field: "failure".to_owned(), recorded: Value::Null, now: failure(now) });
            found.push(Field { field: "answer".to_owned(), recorded: value(recorded)?, now: Value::Null });
        }
        (Err(recorded), Ok(now)) => {
            found.push(Field { field: "failure".to_owned(), recorded: failure(recorded), now: Value::Null });
            found.push(Field { field: "answer".to_owned(), recorded: Value::Null, now: value(now)? });
        }
    }
    Ok(found)
}

fn diff(path: &str, recorded: &Value, now: &Value, found: &mut Vec<Field>) {
    match (recorded, now) {
        (Value::Object(before), Value::Object(after)) => {
            let added = after.keys().filter(|key| !before.contains_key(*key));
            for key in before.keys().chain(added) {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                diff(&path, &of(before), &of(after), found);
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (index, (before, after)) in before.iter().zip(after).enumerate() {
                diff(&format!("{path}[{index}]"), before, after, found);
            }
        }
        (Value::String(before), Value::String(after)) if is_same_text(before, after) => {}
        (before, after) if before == after => {}
        (before, after) => {
            found.push(Field { field: path.to_owned(), recorded: before.clone(), now: after.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use paddock_core::question::{FailureKind, Hook, form};

    use super::*;

    fn admission(answer: &Value) -> Result<Answer, Failure> {
        Ok(form::answer(Hook::Admission, answer.clone()).unwrap())
    }

    fn names(recorded: &Result<Answer, Failure>, now: &Result<Answer, Failure>, ignored: &[&str]) -> Vec<String> {
        let ignored: Vec<String> = ignored.iter().map(ToString::to_string).collect();
        differences(recorded, now, &ignored).unwrap().into_iter().map(|found| found.field).collect()
    }

    #[test]
    fn fields_that_differ_are_named() {
        let allow = |patch: Value| json!({"verdict": "allow", "warnings": [], "patch": patch});
        let deny = |message: &str| json!({"verdict": {"deny": message}, "warnings": []});
        let set = |value: &str| json!([{"op": "add", "path": "/metadata/labels/a", "value": value}]);
        for (recorded, now, fields) in [
            (allow(Value::Null), allow(Value::Null), vec![]),
            (allow(set("a")), allow(set("a")), vec![]),
            (allow(json!(set("a").to_string() + " ")), allow(set("a")), vec![]),
            (allow(set("a")), allow(set("b")), vec!["patch[0].value"]),
            (allow(set("[redacted-1]")), allow(set("b")), vec![]),
            (allow(Value::Null), allow(set("b")), vec!["patch"]),
            (allow(Value::Null), deny("no"), vec!["verdict"]),
            (deny("a is [redacted-2]"), deny("a is b"), vec![]),
            (deny("a is [redacted-2]"), deny("b is b"), vec!["verdict.deny"]),
        ] {
            assert_eq!(names(&admission(&recorded), &admission(&now), &[]), fields, "{recorded} {now}");
        }
    }

    #[test]
    fn ignored_fields_are_not_compared() {
        let pool = |answer: Value| Ok(form::answer(Hook::PoolSize, answer).unwrap());
        let recorded = pool(json!({"desired": 1, "reason": "a", "state": "x"}));
        let now = pool(json!({"desired": 2, "reason": "b", "state": "y"}));
        assert_eq!(names(&recorded, &now, &[]), ["desired", "reason", "state"]);
        assert_eq!(names(&recorded, &now, &["reason", "state"]), ["desired"]);
        assert_eq!(names(&recorded, &now, &["reason", "state", "desired"]), Vec::<String>::new());
    }

    #[test]
    fn failures_of_one_kind_are_equal() {
        let failed = |kind, message: &str| Err(Failure { kind, message: message.to_owned() });
        let answered = admission(&json!({"verdict": "allow", "warnings": []}));
        let fuel = failed(FailureKind::Fuel, "no answer with 5 units of fuel");
        assert!(names(&fuel, &failed(FailureKind::Fuel, "no answer with 9 units of fuel"), &[]).is_empty());
        assert_eq!(names(&fuel, &failed(FailureKind::Trap, ""), &[]), ["failure"]);
        assert_eq!(names(&fuel, &answered, &[]), ["failure", "answer"]);
        assert_eq!(names(&answered, &fuel, &[]), ["failure", "answer"]);
    }
}
