//! Records of the decisions of plugins: a question, its answer, and what the operator did with the answer.
//!
//! The operator writes records, and `paddock plugin replay` reads them. A record leaves the process, so it contains no
//! secrets: `redact` removes the values that may be some.

mod redact;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use paddock_api::Hook;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::admission::{Acceptance, Review, accept};
use crate::question::{Answer, Caller, Failure, PluginRef, PluginRequest, Question, form};
use crate::snapshot::Snapshot;

pub use self::redact::is_same_text;

/// Who asked the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Asker {
    /// A reconcile.
    Reconcile,
    /// The admission webhook.
    Webhook,
}

/// Who asked, and the object that it decided about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Who asked.
    pub asker: Asker,
    /// The origin of the calls.
    pub caller: Caller,
    /// The object. The question may be about another one, such as the Pod of a Sandbox.
    pub object: ObjectName,
}

/// An object, by the names that users know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectName {
    /// The API group of the object. Empty for the core group.
    pub group: String,
    /// The kind of the object, such as `SandboxClaim`.
    pub kind: String,
    /// The namespace of the object.
    pub namespace: String,
    /// The name of the object. Empty if the API server has not generated it yet.
    pub name: String,
    /// The UID of the object. Absent if the API server has not given it one yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

/// A decision as the operator has it in memory, with everything that the plugin saw.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The time of the decision.
    pub time: Timestamp,
    /// Who asked, and the object that it decided about.
    pub subject: Arc<Subject>,
    /// The request: the question and its plugin.
    pub request: PluginRequest,
    /// The answer, or the failure.
    pub result: Result<Answer, Failure>,
    /// The fuel of the call.
    pub fuel: u64,
    /// The size of the linear memories of the call, in bytes.
    pub memory_bytes: u64,
    /// The wall-clock time of the call, with its wait for room.
    pub took: Duration,
}

/// What the operator did with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Outcome {
    /// It did what the answer says.
    Followed,
    /// It did what the answer says, and asks again earlier than the answer asks.
    Earlier,
    /// It did something else.
    Corrected,
    /// It treated the answer as a failure of the plugin.
    Refused,
    /// There was no answer.
    Failed,
    /// It did nothing, because of the mode of the policy.
    Unenforced,
}

impl Outcome {
    /// The word in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A decision without secrets.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The time of the decision.
    pub time: Timestamp,
    /// Who asked.
    pub asker: Asker,
    /// The object that the operator decided about.
    pub object: ObjectName,
    /// The plugin that was asked.
    pub plugin: PluginRef,
    /// The digest of the settings with which the plugin was asked. The settings themselves may contain secrets.
    pub settings_digest: String,
    /// The question. Values that may be secrets are replaced.
    pub question: Question,
    /// The answer, or the failure. Copies of the replaced values are replaced here too.
    pub result: Result<Answer, Failure>,
    /// What the operator did with the answer.
    pub outcome: Outcome,
    /// The reason for an outcome that is not `followed`.
    pub note: Option<String>,
    /// The fuel of the call.
    pub fuel: u64,
    /// The size of the linear memories of the call, in bytes.
    pub memory_bytes: u64,
    /// The wall-clock time of the call, in microseconds.
    pub duration_micros: u64,
    /// The number of values in the question and the answer that were replaced.
    pub redacted_values: usize,
}

/// The fault of a line of a recording. The message names the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RecordError(String);

/// The form of a record: one JSON object. The question and the answer have the form of [`form`].
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Form<Q, A, F> {
    time: Timestamp,
    asked_by: Asker,
    object: ObjectName,
    hook: Hook,
    plugin: String,
    digest: String,
    settings_digest: String,
    question: Q,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    answer: Option<A>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    failure: Option<F>,
    outcome: Outcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    fuel: u64,
    memory_bytes: u64,
    duration_micros: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    redacted_values: usize,
}

/// Without the bound of serde's own default.
fn none<T>() -> Option<T> {
    None
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Subject {
    /// The object of a reconcile.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        let key = snapshot.key();
        let uid = match snapshot {
            Snapshot::Absent(_) | Snapshot::Terminating(_) => None,
            Snapshot::Observed(object) => Some(&object.meta.uid),
            Snapshot::Sandbox(snapshot) => Some(&snapshot.sandbox.meta.uid),
            Snapshot::Template(snapshot) => snapshot.template.as_ref().map(|template| &template.meta.uid),
            Snapshot::Pool(snapshot) => Some(&snapshot.pool.meta.uid),
            Snapshot::Claim(snapshot) => Some(&snapshot.claim.meta.uid),
        };
        let object = ObjectName {
            group: key.kind.group().to_owned(),
            kind: key.kind.name().to_owned(),
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
            uid: uid.map(ToString::to_string),
        };
        Self { asker: Asker::Reconcile, caller: Caller::Verified, object }
    }

    /// The object of a review of this caller.
    #[must_use]
    pub fn of_review(review: &Review, caller: Caller) -> Self {
        // An update may leave the UID to the API server.
        let uid =
            [&review.object, &review.old_object].into_iter().find_map(|object| object["metadata"]["uid"].as_str());
        let object = ObjectName {
            group: review.group.clone(),
            kind: review.kind.clone(),
            namespace: review.namespace.clone(),
            name: review.name.clone(),
            uid: uid.map(str::to_owned),
        };
        Self { asker: Asker::Webhook, caller, object }
    }
}

impl Decision {
    /// The record of the decision. Annotations of these domains are kept, besides those of Paddock that hold no secrets.
    #[must_use]
    pub fn record(&self, kept_domains: &[String]) -> Record {
        let request = &self.request;
        let accepted = self.result.as_ref().ok().map(|answer| accept(&request.question, answer));
        let mode = request.mode;
        let (outcome, note) = match accepted {
            None => (Outcome::Failed, None),
            Some(_) if !mode.acts() => {
                (Outcome::Unenforced, Some(format!("the mode of the policy is {}", mode.as_str())))
            }
            Some(Acceptance::Followed) => (Outcome::Followed, None),
            Some(Acceptance::Earlier(note)) => (Outcome::Earlier, Some(note)),
            Some(Acceptance::Corrected(note)) => (Outcome::Corrected, Some(note)),
            Some(Acceptance::Refused(note)) => (Outcome::Refused, Some(note)),
        };
        let mut record = Record {
            time: self.time,
            asker: self.subject.asker,
            object: self.subject.object.clone(),
            plugin: request.plugin.clone(),
            settings_digest: settings_digest(&request.settings),
            question: request.question.clone(),
            result: self.result.clone(),
            outcome,
            note,
            fuel: self.fuel,
            memory_bytes: self.memory_bytes,
            duration_micros: u64::try_from(self.took.as_micros()).unwrap_or(u64::MAX),
            redacted_values: 0,
        };
        let Record { question, result, note, .. } = &mut record;
        record.redacted_values = redact::redact((question, result, note), &request.settings, kept_domains);
        record
    }

    /// An estimate of the memory that the decision needs, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        decision_bytes(&self.request, &self.result)
    }
}

/// The digest of settings in a record: `sha256:` and 64 hex digits.
#[must_use]
pub fn settings_digest(settings: &str) -> String {
    format!("sha256:{:x}", Sha256::digest(settings))
}

/// An estimate of the memory that a decision needs, in bytes, without its copy. It is linear in what users and plugins
/// filled.
#[must_use]
pub fn decision_bytes(request: &PluginRequest, result: &Result<Answer, Failure>) -> usize {
    /// The fields of fixed size, and the texts with a limit: names, reasons, messages and warnings.
    const FIXED: usize = 8 * 1024;
    let map =
        |map: &BTreeMap<String, String>| -> usize { map.iter().map(|(key, value)| key.len() + value.len() + 64).sum() };
    let list = |list: &[String]| -> usize { list.iter().map(|text| text.len() + 32).sum() };
    let variable = match &request.question {
        Question::Admission(question) => {
            let old = question.old_object.as_ref().map_or(0, String::len);
            question.object.len() + old + map(&question.namespace_labels) + list(&question.groups)
        }
        Question::RuntimeClass(question) => {
            map(&question.labels) + map(&question.namespace_labels) + list(&question.images)
        }
        Question::Idle(question) => map(&question.labels) + question.state.len(),
        Question::PoolSize(question) => map(&question.labels) + question.state.len(),
    };
    let answer = match result {
        Ok(Answer::Admission(answer)) => answer.patch.as_ref().map_or(0, String::len),
        Ok(Answer::Idle(answer)) => answer.state.as_ref().map_or(0, Vec::len),
        Ok(Answer::PoolSize(answer)) => answer.state.as_ref().map_or(0, Vec::len),
        Ok(Answer::RuntimeClass(_)) | Err(_) => 0,
    };
    FIXED + request.settings.len() + variable + answer
}

impl Record {
    /// Reads a line of a recording.
    ///
    /// # Errors
    /// The field that is unknown, is missing or has the wrong type.
    pub fn read(line: &str) -> Result<Self, RecordError> {
        let value: Value = serde_json::from_str(line).map_err(|error| RecordError(format!("not JSON: {error}")))?;
        let form: Form<Value, Value, Value> = field("", value)?;
        let hook = form.hook;
        let question = form::question(hook, form.question);
        let answer = |answer| form::answer(hook, answer).map_err(|error| RecordError(format!("answer: {error}")));
        Ok(Self {
            time: form.time,
            asker: form.asked_by,
            object: form.object,
            plugin: PluginRef { name: form.plugin, digest: form.digest },
            settings_digest: form.settings_digest,
            question: question.map_err(|error| RecordError(format!("question: {error}")))?,
            result: match (form.answer, form.failure) {
                (Some(value), None) => Ok(answer(value)?),
                (None, Some(value)) => Err(field("failure: ", value)?),
                (Some(_), Some(_)) | (None, None) => {
                    return Err(RecordError("exactly one of answer and failure must be given".to_owned()));
                }
            },
            outcome: form.outcome,
            note: form.note,
            fuel: form.fuel,
            memory_bytes: form.memory_bytes,
            duration_micros: form.duration_micros,
            redacted_values: form.redacted_values,
        })
    }

    /// The hook of the decision.
    #[must_use]
    pub fn hook(&self) -> Hook {
        self.question.hook()
    }
}

/// Reads a value. The error begins with `at`, and names the field.
fn field<T: DeserializeOwned>(at: &str, value: Value) -> Result<T, RecordError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        // The path of a value as a whole is a dot.
        let path = if path == "." { String::new() } else { format!("{path}: ") };
        RecordError(format!("{at}{path}{}", error.inner()))
    })
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let form = Form {
            time: self.time,
            asked_by: self.asker,
            object: self.object.clone(),
            hook: self.hook(),
            plugin: self.plugin.name.clone(),
            digest: self.plugin.digest.clone(),
            settings_digest: self.settings_digest.clone(),
            question: &self.question,
            answer: self.result.as_ref().ok(),
            failure: self.result.as_ref().err(),
            outcome: self.outcome,
            note: self.note.clone(),
            fuel: self.fuel,
            memory_bytes: self.memory_bytes,
            duration_micros: self.duration_micros,
            redacted_values: self.redacted_values,
        };
        form.serialize(serializer)
    }
}
