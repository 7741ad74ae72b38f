//! The state of each registered webhook entry: every field of an entry is compared with the desired one.

use std::fmt;

use paddock_core::admission::{Entry, Phase};
use paddock_kube::differences::differing_fields;
use serde_json::Value;

use super::registration::{CONFIGURATION, resource, webhook_name};

/// One entry of the webhook configurations, and its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredEntry {
    /// The entry.
    pub entry: Entry,
    /// The configuration that contains it: `Mutate` for the MutatingWebhookConfiguration.
    pub phase: Phase,
    /// Its state.
    pub state: EntryState,
}

/// The state of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryState {
    /// The API server asks the webhook as it should.
    Registered,
    /// The configuration does not have the entry, or does not exist.
    Missing,
    /// These fields differ.
    Differs(Vec<String>),
    /// The configuration belongs to the operator of this namespace.
    OfAnotherOperator(String),
    /// The configuration could not be read, for this reason.
    Unreadable(String),
}

impl RegisteredEntry {
    /// What is wrong with the entry, for people. `None` if nothing is.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        (!self.is_registered()).then(|| self.to_string())
    }

    /// Whether the API server asks the webhook as it should.
    pub(super) fn is_registered(&self) -> bool {
        self.state == EntryState::Registered
    }
}

impl fmt::Display for RegisteredEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = resource(self.phase).kind;
        write!(f, "webhook entry {} of {kind} {CONFIGURATION} ", webhook_name(self.entry))?;
        match &self.state {
            EntryState::Registered => f.write_str("is registered"),
            EntryState::Missing => f.write_str("does not exist"),
            EntryState::Differs(fields) => write!(f, "differs from this version's in {}", fields.join(", ")),
            EntryState::OfAnotherOperator(namespace) => {
                write!(f, "belongs to the operator in namespace {namespace}")
            }
            EntryState::Unreadable(error) => write!(f, "could not be read: {error}"),
        }
    }
}

/// The entries of a configuration in JSON, each with its state. `desired` and `stored` are the lists `webhooks`.
pub(super) fn compare(phase: Phase, desired: &[Value], stored: &[Value]) -> Vec<RegisteredEntry> {
    let state = |desired: &Value| match stored.iter().find(|entry| entry["name"] == desired["name"]) {
        None => EntryState::Missing,
        Some(stored) => match differences(desired, stored) {
            fields if fields.is_empty() => EntryState::Registered,
            fields => EntryState::Differs(fields),
        },
    };
    of_all(phase, desired, state)
}

/// The entries of a configuration in JSON, all in the same state.
pub(super) fn of_all(phase: Phase, desired: &[Value], state: impl Fn(&Value) -> EntryState) -> Vec<RegisteredEntry> {
    let entry = |desired: &Value| Entry::ALL.iter().copied().find(|entry| desired["name"] == webhook_name(*entry));
    let entries = desired.iter().filter_map(|desired| Some((entry(desired)?, desired)));
    entries.map(|(entry, desired)| RegisteredEntry { entry, phase, state: state(desired) }).collect()
}

/// The fields in which an entry differs, such as `failurePolicy` and `clientConfig.caBundle`.
fn differences(desired: &Value, stored: &Value) -> Vec<String> {
    let parts = |key: String| match key.as_str() {
        "clientConfig" => {
            let parts = differing_fields(&desired[&key], &stored[&key]);
            parts.into_iter().map(|part| format!("{key}.{part}")).collect()
        }
        _ => vec![key],
    };
    differing_fields(desired, stored).into_iter().flat_map(parts).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::registration::{ClientConfig, Desired, configurations};
    use super::*;
    use paddock_kube::differences::pruned;

    fn desired() -> [(Phase, Vec<Value>); 2] {
        let desired = Desired {
            client_config: ClientConfig::Service { namespace: "n".to_owned(), name: "w".to_owned(), port: 443 },
            own_namespace: Some("n".to_owned()),
            operator_user: Some("system:serviceaccount:n:operator".to_owned()),
            isolation_policies: false,
        };
        let (mutating, validating) = configurations(&desired, Some("pem"));
        let list = |webhooks: Value| webhooks.as_array().cloned().unwrap_or_default();
        [(Phase::Mutate, list(json!(mutating.webhooks))), (Phase::Validate, list(json!(validating.webhooks)))]
    }

    /// The entry as the API server stores it: with its defaults where the entry has none.
    fn stored(mut entry: Value) -> Value {
        for selector in ["namespaceSelector", "objectSelector"] {
            if entry[selector].is_null() {
                entry[selector] = json!({});
            }
        }
        entry
    }

    /// Every change of a value in every entry: removed, emptied, or replaced, and fields that somebody adds.
    #[test]
    fn a_change_of_any_field_is_seen_and_named() {
        for (phase, entries) in desired() {
            let there: Vec<Value> = entries.iter().cloned().map(stored).collect();
            let registered = compare(phase, &entries, &there);
            assert_eq!(registered.len(), entries.len());
            assert!(registered.iter().all(|entry| entry.fault().is_none()), "{registered:?}");
            for (index, entry) in there.iter().enumerate() {
                for (path, changed) in changes(entry) {
                    let mut there = there.clone();
                    there[index] = changed;
                    let found = compare(phase, &entries, &there).swap_remove(index);
                    let named = path.starts_with("/name") && found.state == EntryState::Missing;
                    let field = path.trim_start_matches('/').replace('/', ".");
                    let differs = matches!(&found.state, EntryState::Differs(fields)
                        if fields.iter().all(|f| field.starts_with(f.as_str()) || f.starts_with(&field)));
                    assert!(named || differs, "{}{path}: {found:?}", entry["name"]);
                    assert!(found.fault().is_some());
                }
            }
        }
    }

    /// The entry with one change each, and the path of the change.
    fn changes(entry: &Value) -> Vec<(String, Value)> {
        let mut paths = Vec::new();
        walk(entry, String::new(), &mut paths);
        let mut changes = Vec::new();
        for path in paths {
            let there = entry.pointer(&path).unwrap();
            let others = match there {
                Value::String(text) => vec![json!(format!("{text}x")), json!(null)],
                Value::Number(_) => vec![json!(9), json!(null)],
                Value::Array(items) => vec![json!([]), json!([items.as_slice(), items.as_slice()].concat())],
                Value::Object(_) | Value::Bool(_) | Value::Null => vec![json!(null)],
            };
            for other in others {
                let mut changed = entry.clone();
                *changed.pointer_mut(&path).unwrap() = other;
                // What is empty anyway may be removed.
                if pruned(&changed) != pruned(entry) {
                    changes.push((path.clone(), changed));
                }
            }
        }
        for (field, added) in [
            ("matchConditions", json!([{ "name": "nobody", "expression": "false" }])),
            ("objectSelector", json!({ "matchLabels": { "a": "b" } })),
            ("namespaceSelector", json!({ "matchLabels": { "a": "b" } })),
            ("reinvocationPolicy", json!("Never")),
            ("aFieldOfTheFuture", json!("x")),
        ] {
            let mut changed = entry.clone();
            match &mut changed[field] {
                Value::Array(list) => list.extend(added.as_array().cloned().unwrap_or_default()),
                Value::Object(selector) => selector.extend(added.as_object().cloned().unwrap_or_default()),
                other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => *other = added,
            }
            changes.push((format!("/{field}"), changed));
        }
        let mut by_url = entry.clone();
        by_url["clientConfig"]["url"] = json!("https://example.com");
        changes.push(("/clientConfig/url".to_owned(), by_url));
        changes
    }

    fn walk(value: &Value, path: String, paths: &mut Vec<String>) {
        if !path.is_empty() {
            paths.push(path.clone());
        }
        match value {
            Value::Object(fields) => {
                fields.iter().for_each(|(key, value)| walk(value, format!("{path}/{key}"), paths));
            }
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(n, value)| walk(value, format!("{path}/{n}"), paths));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    #[test]
    fn a_missing_entry_is_missing_and_an_added_one_is_nobodys_business() {
        for (phase, entries) in desired() {
            let mut there = entries.clone();
            there.push(json!({ "name": "somebody.example.com" }));
            let gone = there.remove(0);
            let found = compare(phase, &entries, &there);
            assert_eq!(found[0].state, EntryState::Missing, "{gone}");
            assert!(found[1..].iter().all(|entry| entry.state == EntryState::Registered));
            assert_eq!(found.len(), entries.len());
        }
    }
}
