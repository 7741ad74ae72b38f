//! The form of questions and answers as text: in JSON, and in YAML. Files of plugin authors and `/debug/seen` use it.
//!
//! The fields have the names that they have in the WIT, such as `idle-timeout-ms`. These types differ:
//!
//! | in the WIT | in the form |
//! |---|---|
//! | `timestamp` | a time such as `2027-01-15T08:00:00Z`, in milliseconds. A number of milliseconds since 1970 is read too |
//! | `list<label>` | a map from keys to values |
//! | a JSON text (`object`, `old-object`, `patch`) | the JSON value itself. A text is read too. It is written if the value alone would give another text |
//! | `list<u8>` (`state`) | a text if the bytes are UTF-8, otherwise a list of numbers. Both are read |
//! | `option<T>` | the value, or `null`. The field may be left out |
//! | `variant` | the name of the case, or a map from the name of the case to its value: `{deny: use gVisor}` |
//!
//! A value that is written and read again is the same value, as the plugin gets it.

#[cfg(test)]
mod tests;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::{
    AdmissionAnswer, AdmissionQuestion, Answer, Hook, IdleAnswer, IdleQuestion, PoolSizeAnswer, PoolSizeQuestion,
    Question, RuntimeClassAnswer, RuntimeClassQuestion,
};

/// The field of the form that may name the hook.
const HOOK: &str = "hook";

/// The fault of a question or an answer: `arrivals[2]: invalid type: string "x", expected u32`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FormError {
    message: String,
}

impl FormError {
    fn at(path: &str, message: &str) -> Self {
        // The path of a value as a whole is a dot.
        Self { message: if path == "." { message.to_owned() } else { format!("{path}: {message}") } }
    }
}

/// Reads a question of a hook. The form may have a field `hook`, as in `/debug/seen`.
///
/// # Errors
/// The field that is unknown, is missing or has the wrong type, and what would be right.
pub fn question(hook: Hook, form: Value) -> Result<Question, FormError> {
    let form = without_hook(hook, form)?;
    Ok(match hook {
        Hook::Admission => Question::Admission(Box::new(read::<AdmissionQuestion>(form)?)),
        Hook::RuntimeClass => Question::RuntimeClass(Box::new(read::<RuntimeClassQuestion>(form)?)),
        Hook::Idle => Question::Idle(Box::new(read::<IdleQuestion>(form)?)),
        Hook::PoolSize => Question::PoolSize(Box::new(read::<PoolSizeQuestion>(form)?)),
    })
}

/// Reads an answer of a hook. The form may have a field `hook`, as in `/debug/seen`.
///
/// # Errors
/// The field that is unknown, is missing or has the wrong type, and what would be right.
pub fn answer(hook: Hook, form: Value) -> Result<Answer, FormError> {
    let form = without_hook(hook, form)?;
    Ok(match hook {
        Hook::Admission => Answer::Admission(read::<AdmissionAnswer>(form)?),
        Hook::RuntimeClass => Answer::RuntimeClass(read::<RuntimeClassAnswer>(form)?),
        Hook::Idle => Answer::Idle(read::<IdleAnswer>(form)?),
        Hook::PoolSize => Answer::PoolSize(read::<PoolSizeAnswer>(form)?),
    })
}

/// The hook that the form of a question or an answer names, if it names one.
///
/// # Errors
/// If the field `hook` is not the name of a hook.
pub fn hook(form: &Value) -> Result<Option<Hook>, FormError> {
    let Some(name) = form.get(HOOK) else { return Ok(None) };
    Hook::deserialize(name).map(Some).map_err(|error| FormError::at(HOOK, &error.to_string()))
}

fn without_hook(expected: Hook, mut form: Value) -> Result<Value, FormError> {
    if let Some(named) = hook(&form)?.filter(|named| *named != expected) {
        let message = format!("must be {} or be left out, but is {}", expected.as_str(), named.as_str());
        return Err(FormError::at(HOOK, &message));
    }
    if let Some(fields) = form.as_object_mut() {
        fields.remove(HOOK);
    }
    Ok(form)
}

fn read<T: DeserializeOwned>(form: Value) -> Result<T, FormError> {
    serde_path_to_error::deserialize(form)
        .map_err(|error| FormError::at(&error.path().to_string(), &error.inner().to_string()))
}

/// A time with milliseconds, as in the WIT. The adapters of the WIT pass a time before 1970 as 0.
fn whole(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond().max(0)).unwrap_or(time)
}

/// A time as it is read.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a time such as 2027-01-15T08:00:00Z, or milliseconds since 1970")]
enum Time {
    Text(Timestamp),
    Milliseconds(u64),
}

impl Time {
    fn timestamp(self) -> Result<Timestamp, &'static str> {
        let time = match self {
            Time::Text(time) => Some(time),
            Time::Milliseconds(number) => {
                i64::try_from(number).ok().and_then(|number| Timestamp::from_millisecond(number).ok())
            }
        };
        let time = time.filter(|time| *time >= Timestamp::UNIX_EPOCH).map(whole);
        time.ok_or("expected a time between 1970 and 9999")
    }
}

/// A [`Timestamp`] in the form.
pub(super) mod time {
    use super::{Deserialize, Deserializer, Serialize, Serializer, Time, Timestamp, whole};
    use serde::de::Error as _;

    pub(in super::super) fn serialize<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        whole(*time).serialize(to)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        Time::deserialize(from)?.timestamp().map_err(D::Error::custom)
    }
}

/// An optional [`Timestamp`] in the form.
pub(super) mod optional_time {
    use super::{Deserialize, Deserializer, Serialize, Serializer, Time, Timestamp, whole};
    use serde::de::Error as _;

    pub(in super::super) fn serialize<S: Serializer>(time: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
        time.map(whole).serialize(to)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
        let time = Option::<Time>::deserialize(from)?;
        time.map(|time| time.timestamp().map_err(D::Error::custom)).transpose()
    }
}

/// Bytes as they are read and written.
#[derive(Deserialize, Serialize)]
#[serde(untagged, expecting = "expected a text, or a list of bytes")]
enum Bytes {
    Text(String),
    List(Vec<u8>),
}

impl Bytes {
    fn new(bytes: &[u8]) -> Self {
        String::from_utf8(bytes.to_vec()).map_or_else(|error| Bytes::List(error.into_bytes()), Bytes::Text)
    }

    fn list(self) -> Vec<u8> {
        match self {
            Bytes::Text(text) => text.into_bytes(),
            Bytes::List(bytes) => bytes,
        }
    }
}

/// Bytes in the form.
pub(super) mod bytes {
    use super::{Bytes, Deserialize, Deserializer, Serialize, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        Bytes::new(bytes).serialize(to)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        Bytes::deserialize(from).map(Bytes::list)
    }
}

/// Optional bytes in the form.
pub(super) mod optional_bytes {
    use super::{Bytes, Deserialize, Deserializer, Serialize, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, to: S) -> Result<S::Ok, S::Error> {
        bytes.as_deref().map(Bytes::new).serialize(to)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<u8>>, D::Error> {
        Ok(Option::<Bytes>::deserialize(from)?.map(Bytes::list))
    }
}

/// A JSON text as a value. A text that the value alone does not give remains a text, so that nothing is lost.
fn value_of(text: &str) -> Value {
    let gives_text = |value: &Value| serde_json::to_string(value).is_ok_and(|written| written == text);
    match serde_json::from_str::<Value>(text) {
        Ok(value @ (Value::Object(_) | Value::Array(_))) if gives_text(&value) => value,
        Ok(_) | Err(_) => Value::String(text.to_owned()),
    }
}

fn text_of<E: serde::de::Error>(value: Value) -> Result<String, E> {
    let is_json = |text: &str| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    match value {
        Value::Object(_) | Value::Array(_) => Ok(value.to_string()),
        Value::String(text) if is_json(&text) => Ok(text),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {
            Err(E::custom("expected an object or a list, or a JSON text"))
        }
    }
}

/// A JSON text in the form.
pub(super) mod json {
    use super::{Deserialize, Deserializer, Serialize, Serializer, Value, text_of, value_of};

    pub(in super::super) fn serialize<S: Serializer>(text: &str, to: S) -> Result<S::Ok, S::Error> {
        value_of(text).serialize(to)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
        text_of(Value::deserialize(from)?)
    }
}

/// An optional JSON text in the form.
pub(super) mod optional_json {
    use super::{Deserialize, Deserializer, Serialize, Serializer, Value, text_of, value_of};

    pub(in super::super) fn serialize<S: Serializer>(text: &Option<String>, to: S) -> Result<S::Ok, S::Error> {
        text.as_deref().map(value_of).serialize(to)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
        Option::<Value>::deserialize(from)?.map(text_of).transpose()
    }
}
