//! Compares an answer with the fields that a case expects.

use anyhow::Context as _;
use paddock_core::question::{Answer, Hook, form};
use serde_json::{Map, Value, json};

use crate::commands::plugin::text::parse_patch;

/// The variants of answers that have a value. A case may name the variant alone.
const VARIANTS: [(&str, &str); 2] = [("verdict", "deny"), ("choice", "class")];

/// Checks whether an answer of the hook can have these fields.
pub(super) fn check(hook: Hook, expected: &Map<String, Value>) -> anyhow::Result<()> {
    let any = match hook {
        Hook::Admission => json!({"verdict": "allow", "warnings": []}),
        Hook::RuntimeClass => json!({"choice": "default", "reason": ""}),
        Hook::Idle => json!({"reason": ""}),
        Hook::PoolSize => json!({"desired": 0, "reason": ""}),
    };
    completed(hook, &any, expected).map(drop)
}

/// One line for each field that differs, with its path.
pub(super) fn differences(hook: Hook, answer: &Answer, expected: &Map<String, Value>) -> anyhow::Result<Vec<String>> {
    let mut got = serde_json::to_value(answer).context("writing the answer")?;
    let mut expected = expected.clone();
    let mut found = Vec::new();
    for (field, variant) in VARIANTS {
        if expected.get(field).is_some_and(|value| value == variant) && got[field].get(variant).is_none() {
            expected.remove(field);
            found.push(format!("{field}: expected {variant}, got {}", got[field]));
        }
    }
    let mut expected = completed(hook, &got, &expected)?;
    [&mut got, &mut expected].into_iter().for_each(parse_patch);
    diff("", &expected, &got, &mut found);
    Ok(found)
}

/// An answer that has the expected fields, and otherwise the fields of `answer`. It has the form in which answers are
/// written, so that `1800000000000` and `2027-01-15T08:00:00Z` are the same time.
fn completed(hook: Hook, answer: &Value, expected: &Map<String, Value>) -> anyhow::Result<Value> {
    let mut expected = expected.clone();
    for (field, variant) in VARIANTS {
        if expected.get(field).is_some_and(|value| value == variant) {
            let value = answer[field].get(variant).cloned().unwrap_or_else(|| "".into());
            expected.insert(field.to_owned(), json!({ variant: value }));
        }
    }
    let mut whole = answer.clone();
    if let Some(fields) = whole.as_object_mut() {
        fields.extend(expected);
    }
    serde_json::to_value(form::answer(hook, whole)?).context("writing the answer")
}

fn diff(path: &str, expected: &Value, got: &Value, found: &mut Vec<String>) {
    match (expected, got) {
        (Value::Object(wanted), Value::Object(there)) if wanted.keys().eq(there.keys()) => {
            for (key, wanted) in wanted {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                diff(&path, wanted, there.get(key).unwrap_or(&Value::Null), found);
            }
        }
        (Value::Array(wanted), Value::Array(there)) if wanted.len() == there.len() => {
            for (index, (wanted, there)) in wanted.iter().zip(there).enumerate() {
                diff(&format!("{path}[{index}]"), wanted, there, found);
            }
        }
        (wanted, there) if wanted != there => found.push(format!("{path}: expected {wanted}, got {there}")),
        (_, _) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(hook: Hook, answer: Value, expected: &Value) -> Vec<String> {
        let answer = form::answer(hook, answer).unwrap();
        differences(hook, &answer, expected.as_object().unwrap()).unwrap()
    }

    #[test]
    fn fields_that_are_not_expected_are_not_compared() {
        let pool = json!({"desired": 5, "reason": "r", "next-check": "2027-01-15T08:00:00Z", "state": "abc"});
        for (expected, faults_) in [
            (json!({"desired": 5}), vec![]),
            (json!({"desired": 3}), vec!["desired: expected 3, got 5"]),
            (json!({"next-check": 1_800_000_000_000_u64}), vec![]),
            (json!({"next-check": null}), vec!["next-check: expected null, got \"2027-01-15T08:00:00Z\""]),
            (json!({"state": [97, 98, 99]}), vec![]),
            (
                json!({"desired": 6, "reason": "s"}),
                vec!["desired: expected 6, got 5", "reason: expected \"s\", got \"r\""],
            ),
        ] {
            assert_eq!(faults(Hook::PoolSize, pool.clone(), &expected), faults_, "{expected}");
        }
    }

    #[test]
    fn variant_alone_matches_any_value_of_the_variant() {
        let deny = json!({"verdict": {"deny": "no"}, "warnings": []});
        let allow = json!({"verdict": "allow", "warnings": []});
        for (answer, expected, faults_) in [
            (&deny, json!({"verdict": "deny"}), vec![]),
            (&deny, json!({"verdict": {"deny": "no"}}), vec![]),
            (&deny, json!({"verdict": {"deny": "never"}}), vec!["verdict.deny: expected \"never\", got \"no\""]),
            (&deny, json!({"verdict": "allow"}), vec!["verdict: expected \"allow\", got {\"deny\":\"no\"}"]),
            (&allow, json!({"verdict": "deny"}), vec!["verdict: expected deny, got \"allow\""]),
            (&allow, json!({"warnings": ["a"]}), vec!["warnings: expected [\"a\"], got []"]),
        ] {
            assert_eq!(faults(Hook::Admission, answer.clone(), &expected), faults_, "{expected}");
        }
    }

    #[test]
    fn patch_is_compared_as_json() {
        let text = r#"[ {"path": "/spec/a", "op": "add", "value": 1} ]"#;
        let answer = json!({"verdict": "allow", "warnings": [], "patch": text});
        let expected = |value: u32| json!({"patch": [{"op": "add", "path": "/spec/a", "value": value}]});
        assert_eq!(faults(Hook::Admission, answer.clone(), &expected(1)), Vec::<String>::new());
        let found = faults(Hook::Admission, answer, &expected(2));
        assert_eq!(found, ["patch[0].value: expected 2, got 1"]);
    }
}
