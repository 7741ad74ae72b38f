//! Placeholders for UIDs and versions: the n-th value that both sides chose at the same point of the run.

use std::collections::HashMap;

use serde_json::Value;

use super::normalize::custom;
use crate::e2e::kinds::Kind;

/// The values of one side for each placeholder.
#[derive(Default)]
pub(super) struct Placeholders {
    uids: Names,
    versions: Names,
}

#[derive(Default)]
struct Names {
    own: Vec<String>,
    numbers: HashMap<String, usize>,
}

impl Names {
    fn number(&self, own: &str) -> Option<usize> {
        self.numbers.get(own).copied()
    }

    fn add(&mut self, own: &str) {
        self.numbers.insert(own.to_owned(), self.own.len());
        self.own.push(own.to_owned());
    }

    fn renew(&mut self, number: usize, own: &str) {
        self.numbers.insert(own.to_owned(), number);
        self.own[number] = own.to_owned();
    }
}

/// A UID that no object has.
const NOBODY: &str = "00000000-0000-4000-8000-999999999999";

pub(super) fn uid_placeholder(number: usize) -> String {
    format!("{{uid {number}}}")
}

pub(super) fn version_placeholder(number: usize) -> String {
    format!("{{version {number}}}")
}

impl Placeholders {
    pub(super) fn uids(&self) -> usize {
        self.uids.own.len()
    }

    pub(super) fn versions(&self) -> usize {
        self.versions.own.len()
    }

    /// The placeholder of a UID, or that of no object if the UID is unknown.
    pub(super) fn uid(&self, own: &str) -> String {
        uid_placeholder(self.uids.number(own).unwrap_or(self.uids()))
    }

    /// The placeholder of a version, or that of the first version if the version is unknown.
    pub(super) fn version(&self, own: &str) -> String {
        version_placeholder(self.versions.number(own).unwrap_or_default())
    }

    /// A document with placeholders, translated into the values of this side.
    pub(super) fn translate(&self, document: &Value) -> Value {
        match document {
            Value::String(text) => self.translated(text).into(),
            Value::Array(items) => items.iter().map(|i| self.translate(i)).collect(),
            Value::Object(fields) => fields.iter().map(|(k, v)| (k.clone(), self.translate(v))).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) => document.clone(),
        }
    }

    fn translated(&self, text: &str) -> String {
        let number = |prefix| text.strip_prefix(prefix)?.strip_suffix('}')?.parse::<usize>().ok();
        if let Some(number) = number("{uid ") {
            return self.uids.own.get(number).map_or(NOBODY, String::as_str).to_owned();
        }
        if let Some(number) = number("{version ") {
            return self.versions.own.get(number).map_or("1", String::as_str).to_owned();
        }
        text.to_owned()
    }
}

/// Assigns placeholders to the values that both sides chose for the same object. The model does not know the values
/// that the first update of a built-in kind fills in, so only the real side may have a new version there.
pub(super) fn learn(kind: Kind, sides: [&mut Placeholders; 2], objects: [&Value; 2]) -> Result<(), String> {
    let [model, real] = sides;
    let of = |object: &Value, field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    for (field, left, right) in
        [("uid", &mut model.uids, &mut real.uids), ("resourceVersion", &mut model.versions, &mut real.versions)]
    {
        let (ours, theirs) = (of(objects[0], field), of(objects[1], field));
        match (left.number(&ours), right.number(&theirs)) {
            (Some(a), Some(b)) if a == b => {}
            (None, None) => {
                left.add(&ours);
                right.add(&theirs);
            }
            (Some(number), None) if field == "resourceVersion" && !custom(kind) => right.renew(number, &theirs),
            (a, b) => {
                let what = "one is new and the other is not, or they are of different times";
                return Err(format!("metadata.{field}: {what}: the model's number {a:?}, the real one's {b:?}"));
            }
        }
    }
    Ok(())
}
