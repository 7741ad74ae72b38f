//! Removes from a record the values that may be secrets.
//!
//! The rule goes by the name of a field, wherever the field is in an object or in a patch:
//!
//! | field | what stays |
//! |---|---|
//! | `env` of a container or a claim, `httpHeaders` of a probe | the names and the references |
//! | `files` of a claim | the names and the references |
//! | `annotations` | the keys, the values of [`KEPT`], and those of the domains that the configuration names |
//! | `command`, `args` | the number of elements |
//! | `volumeAttributes` and `options` of a volume, `gitRepo` | the keys |
//! | `status` of an object | nothing |
//!
//! A replaced value is replaced too where a plugin repeats it in its answer. Equal values of one record get equal
//! replacements and different values different ones, because a plugin may compare an object with its old version.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::mem;

use paddock_api::names::annotation;
use serde_json::{Map, Value};

use crate::question::{Answer, Failure, Question, Verdict};
use crate::text::truncate;

/// The annotations whose values are kept: times and names that Paddock writes. Those in which Paddock repeats what users or
/// plugins wrote are not among them.
const KEPT: [&str; 14] = [
    annotation::POD_NAME,
    annotation::SANDBOX_NAME,
    annotation::FIRST_OBSERVED_AT,
    annotation::TEMPLATE_REF,
    annotation::LAST_ACTIVITY,
    annotation::HELD_UNTIL,
    annotation::KEEP_AWAKE_UNTIL,
    annotation::IDLE_SINCE,
    annotation::SUSPENDED_BY,
    annotation::SUSPENDED_AT,
    annotation::DRAINED_POD,
    annotation::WARM_POOL,
    annotation::CLASS_PLUGIN,
    annotation::EPHEMERAL_VOLUMES,
];

/// The maps of labels, in which no rule applies.
const LABELS: [&str; 3] = ["labels", "matchLabels", "nodeSelector"];

/// The words in the name of a setting whose value may be a secret.
const SECRET_WORDS: [&str; 7] = ["password", "passwd", "secret", "token", "credential", "apikey", "privatekey"];

/// The beginning and the end of a replacement, with its number between them.
const BEGIN: &str = "[redacted-";
const END: char = ']';
/// The replacement of a whole text.
const WHOLE: &str = "[redacted-0]";

/// The fewest characters of a value whose copies are looked for. A shorter value, such as `1`, is part of many other
/// texts.
const LEAST_COPY_CHARS: usize = 4;

/// The most values whose copies are looked for. The search takes the product of their number and the size of the answer.
/// If there are more, the free texts of the answer are replaced as a whole.
const MOST_COPIES: usize = 256;

/// The longest path of a patch, in fields. No field that may be patched is as deep.
const PATH_FIELDS_MAX: usize = 64;

/// The rule for a field.
enum Rule {
    /// The field is a list or a map of items. Of each item, only these fields are kept.
    Items(&'static [&'static str]),
    /// The field is a map of annotations.
    Annotations,
    /// Each text and number in the field is replaced.
    All,
}

impl Rule {
    fn of(field: &str) -> Option<Self> {
        match field {
            "env" => Some(Rule::Items(&["name", "valueFrom", "containerName"])),
            "files" => Some(Rule::Items(&["name", "secretKeyRef"])),
            "httpHeaders" => Some(Rule::Items(&["name"])),
            "annotations" => Some(Rule::Annotations),
            "command" | "args" | "volumeAttributes" | "options" | "gitRepo" => Some(Rule::All),
            _ => None,
        }
    }
}

/// Replaces the secrets in the parts of a record, and returns their number. `settings` are those with which the plugin was
/// asked.
pub(super) fn redact(
    (question, result, note): (&mut Question, &mut Result<Answer, Failure>, &mut Option<String>),
    settings: &str,
    kept_domains: &[String],
) -> usize {
    let mut redactor = Redactor { kept_domains, numbers: BTreeMap::new(), count: 0 };
    match question {
        Question::Admission(question) => {
            redactor.object(&mut question.object);
            question.old_object.iter_mut().for_each(|old| redactor.object(old));
        }
        // These questions contain names, labels, numbers and times alone, and what the plugin itself kept.
        Question::RuntimeClass(_) | Question::Idle(_) | Question::PoolSize(_) => {}
    }
    if let Ok(Answer::Admission(answer)) = result
        && let Some(patch) = &mut answer.patch
    {
        redactor.patch(patch);
    }
    redactor.settings(settings);
    let copies = Copies::of(&redactor.numbers);
    match result {
        Ok(Answer::Admission(answer)) => {
            if let Verdict::Deny(message) = &mut answer.verdict {
                copies.replace(message);
            }
            answer.warnings.iter_mut().for_each(|warning| copies.replace(warning));
            answer.patch.iter_mut().for_each(|patch| copies.replace_in_patch(patch));
        }
        Ok(Answer::RuntimeClass(answer)) => copies.replace(&mut answer.reason),
        Ok(Answer::Idle(answer)) => {
            copies.replace(&mut answer.reason);
            answer.state.iter_mut().for_each(|state| copies.replace_in_bytes(state));
        }
        Ok(Answer::PoolSize(answer)) => {
            copies.replace(&mut answer.reason);
            answer.state.iter_mut().for_each(|state| copies.replace_in_bytes(state));
        }
        Err(failure) => copies.replace(&mut failure.message),
    }
    match question {
        Question::Idle(question) => copies.replace_in_bytes(&mut question.state),
        Question::PoolSize(question) => copies.replace_in_bytes(&mut question.state),
        Question::Admission(_) | Question::RuntimeClass(_) => {}
    }
    note.iter_mut().for_each(|note| copies.replace(note));
    redactor.count
}

/// Replaces values by the rules for fields.
struct Redactor<'a> {
    kept_domains: &'a [String],
    /// The replaced values, each with its number.
    numbers: BTreeMap<String, usize>,
    /// The number of replaced values, in which equal ones count each time.
    count: usize,
}

impl Redactor<'_> {
    /// Replaces the values in the JSON text of an object. The text stays as it is if there are none.
    fn object(&mut self, text: &mut String) {
        let before = self.count;
        match serde_json::from_str::<Value>(text) {
            Ok(mut object) => {
                // A status repeats settings of plugins, and what they said about an earlier version of the object.
                if object.as_object_mut().and_then(|object| object.remove("status")).is_some() {
                    self.count += 1;
                }
                self.walk(&mut object);
                if self.count > before {
                    *text = object.to_string();
                }
            }
            // Its fields are unknown, so nothing of it is kept.
            Err(_) => {
                self.count += 1;
                *text = "{}".to_owned();
            }
        }
    }

    /// Replaces the values in a JSON Patch, by the fields that its paths name.
    fn patch(&mut self, text: &mut String) {
        let before = self.count;
        let Ok(Value::Array(mut operations)) = serde_json::from_str::<Value>(text) else {
            self.count += 1;
            *text = "[]".to_owned();
            return;
        };
        for operation in &mut operations {
            let path = operation.get("path").and_then(Value::as_str).unwrap_or_default();
            let unescaped = |field: &str| field.replace("~1", "/").replace("~0", "~");
            let fields: Vec<String> = path.split('/').skip(1).take(PATH_FIELDS_MAX + 1).map(unescaped).collect();
            let Some(value) = operation.get_mut("value") else { continue };
            if fields.len() > PATH_FIELDS_MAX {
                self.remove(value);
                continue;
            }
            // The value in its place, so that the rules see the fields around it.
            let mut placed = fields
                .iter()
                .rev()
                .fold(mem::take(value), |inner, field| Value::Object(Map::from_iter([(field.clone(), inner)])));
            self.walk(&mut placed);
            for field in &fields {
                placed = placed.get_mut(field.as_str()).map(mem::take).unwrap_or_default();
            }
            *value = placed;
        }
        if self.count > before {
            *text = Value::Array(operations).to_string();
        }
    }

    /// Remembers the settings that may be secrets, so that copies of them are replaced. A record has no settings.
    fn settings(&mut self, settings: &str) {
        let Ok(mut settings) = serde_json::from_str::<Value>(settings) else { return };
        let before = self.count;
        self.secret_settings(&mut settings);
        self.count = before;
    }

    fn secret_settings(&mut self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    let mut word = name.to_lowercase();
                    word.retain(char::is_alphanumeric);
                    if SECRET_WORDS.iter().any(|secret| word.contains(secret)) {
                        self.remove(field);
                    } else {
                        self.secret_settings(field);
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.secret_settings(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// Applies the rules to every field below a value.
    fn walk(&mut self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    // A label may have any name, and contains no secret.
                    let texts = |labels: &Map<String, Value>| labels.values().all(Value::is_string);
                    if LABELS.contains(&name.as_str()) && field.as_object().is_some_and(texts) {
                        continue;
                    }
                    match Rule::of(name) {
                        Some(rule) => self.apply(&rule, field),
                        None => self.walk(field),
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.walk(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn apply(&mut self, rule: &Rule, field: &mut Value) {
        match (rule, field) {
            (Rule::Items(kept), Value::Object(items)) => {
                items.iter_mut().for_each(|(_, item)| self.item(kept, item));
            }
            (Rule::Items(kept), Value::Array(items)) => items.iter_mut().for_each(|item| self.item(kept, item)),
            (Rule::Annotations, Value::Object(annotations)) => {
                for (key, value) in annotations {
                    if !self.keeps(key) {
                        self.remove(value);
                    }
                }
            }
            (Rule::Items(_) | Rule::Annotations | Rule::All, field) => self.remove(field),
        }
    }

    fn item(&mut self, kept: &[&str], item: &mut Value) {
        match item {
            Value::Object(fields) => {
                for (name, field) in fields {
                    if !kept.contains(&name.as_str()) {
                        self.remove(field);
                    }
                }
            }
            Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => self.remove(item),
        }
    }

    fn keeps(&self, annotation: &str) -> bool {
        let domain = annotation.split_once('/').map_or("", |(domain, _)| domain);
        KEPT.contains(&annotation) || self.kept_domains.iter().any(|kept| kept == domain)
    }

    /// Replaces every text and number in a value.
    fn remove(&mut self, value: &mut Value) {
        let text = match value {
            Value::Null | Value::Bool(_) => return,
            Value::String(text) if text.is_empty() => return,
            Value::String(text) => mem::take(text),
            Value::Number(number) => number.to_string(),
            Value::Array(items) => return items.iter_mut().for_each(|item| self.remove(item)),
            Value::Object(fields) => return fields.iter_mut().for_each(|(_, field)| self.remove(field)),
        };
        let next = self.numbers.len() + 1;
        let number = *self.numbers.entry(text).or_insert(next);
        self.count += 1;
        *value = Value::String(replacement(number));
    }
}

fn replacement(number: usize) -> String {
    format!("{BEGIN}{number}{END}")
}

/// The copies of replaced values that may be in the texts of an answer.
enum Copies {
    /// These texts, the longest first, each with its replacement.
    These(Vec<(String, String)>),
    /// There are too many to be looked for.
    Any,
}

impl Copies {
    fn of(numbers: &BTreeMap<String, usize>) -> Self {
        let long = |text: &str| text.chars().nth(LEAST_COPY_CHARS - 1).is_some();
        let values = numbers.iter().filter(|(text, _)| long(text));
        if values.clone().count() > MOST_COPIES {
            return Copies::Any;
        }
        let mut texts = Vec::new();
        for (text, number) in values {
            // The host writes a copy without control characters. A plugin may write it in quotation marks.
            let plain = truncate(text, usize::MAX);
            let quoted = Value::String(text.clone()).to_string();
            let quoted = quoted.trim_start_matches('"').strip_suffix('"').unwrap_or_default().to_owned();
            for copy in [text.clone(), plain, quoted] {
                if !copy.is_empty() && !texts.iter().any(|(known, _)| *known == copy) {
                    texts.push((copy, replacement(*number)));
                }
            }
        }
        texts.sort_by_key(|(text, _)| Reverse(text.len()));
        Copies::These(texts)
    }

    fn replace(&self, text: &mut String) {
        let texts = match self {
            Copies::These(texts) => texts,
            Copies::Any if text.is_empty() => return,
            Copies::Any => return WHOLE.clone_into(text),
        };
        for (copy, replacement) in texts {
            if text.contains(copy.as_str()) {
                *text = text.replace(copy.as_str(), replacement);
            }
        }
        // The host cuts long texts, perhaps in the middle of a copy.
        let Some(cut) = text.strip_suffix('…') else { return };
        let rest = texts.iter().find_map(|(copy, replacement)| {
            let ends = copy.char_indices().map(|(at, _)| at).skip(LEAST_COPY_CHARS);
            let ends: Vec<usize> = ends.take_while(|end| *end <= cut.len()).collect();
            let part = ends.iter().rev().filter_map(|end| copy.get(..*end)).find(|part| cut.ends_with(part))?;
            Some(format!("{}{replacement}…", cut.strip_suffix(part)?))
        });
        if let Some(rest) = rest {
            *text = rest;
        }
    }

    /// The same in the bytes that a plugin keeps. Bytes that are not a text are replaced as a whole.
    fn replace_in_bytes(&self, bytes: &mut Vec<u8>) {
        if matches!(self, Copies::These(texts) if texts.is_empty()) {
            return;
        }
        *bytes = match String::from_utf8(mem::take(bytes)) {
            Ok(mut text) => {
                self.replace(&mut text);
                text.into_bytes()
            }
            Err(_) => WHOLE.as_bytes().to_vec(),
        };
    }

    /// The same in the values of a patch.
    fn replace_in_patch(&self, patch: &mut String) {
        let Ok(Value::Array(mut operations)) = serde_json::from_str::<Value>(patch) else { return };
        let before = Value::Array(operations.clone());
        for operation in &mut operations {
            if let Some(value) = operation.get_mut("value") {
                self.replace_in_value(value);
            }
        }
        let after = Value::Array(operations);
        if after != before {
            *patch = after.to_string();
        }
    }

    fn replace_in_value(&self, value: &mut Value) {
        match value {
            Value::String(text) => self.replace(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.replace_in_value(item)),
            Value::Object(fields) => fields.iter_mut().for_each(|(_, field)| self.replace_in_value(field)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// Whether a text can be the one that was recorded. A replacement in the recorded text stands for any text.
#[must_use]
pub fn is_same_text(recorded: &str, text: &str) -> bool {
    let mut parts = literals(recorded).into_iter();
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

/// The texts between the replacements in a text.
fn literals(mut text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut searched = 0;
    while let Some(at) = text.get(searched..).and_then(|rest| rest.find(BEGIN)).map(|at| at + searched) {
        let behind = text.get(at + BEGIN.len()..).unwrap_or_default();
        let digits = behind.len() - behind.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        match behind.get(digits..).and_then(|rest| rest.strip_prefix(END)) {
            Some(rest) if digits > 0 => {
                parts.push(text.get(..at).unwrap_or_default());
                (text, searched) = (rest, 0);
            }
            Some(_) | None => searched = at + BEGIN.len(),
        }
    }
    parts.push(text);
    parts
}
