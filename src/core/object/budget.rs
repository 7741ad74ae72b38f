//! The budget of an object: the bytes, the list items and the entries of maps that the operator reads of one object.
//!
//! An object beyond its budget is not parsed. It keeps an error in place of its spec, as every invalid object does, so
//! it costs little and affects only itself. The schemas and the webhook refuse such an object. An object that an older
//! version stored is still read here.

use std::fmt;

use paddock_api::schema::{LIST_ITEMS_MAX, MAP_ENTRIES_MAX};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::json::problem;
use crate::model::{FieldError, FieldErrors};

/// The largest object of Paddock's own kinds, in bytes of JSON without status and managed fields: 1 MiB. An API server
/// stores up to 1.5 MiB, of which the managed fields of many small fields take as much as the fields. A pod of 200
/// containers, each with fifty variables, has less than half of this.
pub(crate) const OBJECT_BYTES_MAX: usize = 1024 * 1024;

/// The JSON in bytes from which an object is large. Usual objects have less than a tenth of this.
pub(crate) const LARGE_BYTES: usize = 128 * 1024;

/// The room for what the API server adds to an object after its review: the UID and the timestamps of its metadata. The
/// webhook admits an object that is smaller by this much. It also admits an update of a larger object that adds no more.
pub(crate) const SLACK: usize = 4 * 1024;

/// The error of a reviewed object, if it is too large.
#[must_use]
pub(crate) fn too_large_to_admit(object: &Value) -> Option<FieldError> {
    too_large(size(object), OBJECT_BYTES_MAX - SLACK)
}

/// The bytes of an object as an API server writes it, without status and managed fields.
#[must_use]
pub(crate) fn size(object: &Value) -> usize {
    let fields = |name: &str| object.pointer(name).and_then(Value::as_object).into_iter().flatten();
    let metadata = fields("/metadata").filter(|(name, _)| *name != "managedFields");
    let others = fields("").filter(|(name, _)| !["metadata", "status"].contains(&name.as_str()));
    let texts = metadata.chain(others).map(|(_, part)| part.to_string());
    // An API server writes these characters as escapes of six bytes.
    let escaped = |text: &str| text.bytes().filter(|byte| matches!(byte, b'<' | b'>' | b'&')).count();
    texts.map(|text| text.len() + 5 * escaped(&text)).sum()
}

/// Whether JSON has so many bytes that it is large.
pub(crate) fn is_large(json: &Value) -> bool {
    !fits(json, LARGE_BYTES)
}

/// An estimate of the memory of parsed JSON, in bytes. Many small values need several times the memory of their text.
pub(crate) fn memory(json: &Value) -> usize {
    /// An entry of a map, or a text, has memory of its own.
    const PIECE: usize = 48;

    let of_parts: usize = match json {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len() + PIECE,
        Value::Array(items) => items.iter().map(memory).sum(),
        Value::Object(fields) => fields.iter().map(|(name, value)| name.len() + PIECE + memory(value)).sum(),
    };
    size_of::<Value>() + of_parts
}

/// Whether JSON has at most so many bytes. The count is that of the JSON without escapes, and it makes no text.
pub(crate) fn fits(json: &Value, most: usize) -> bool {
    let mut left = most;
    take(json, &mut left)
}

/// Takes the bytes of JSON off those that are left. Returns whether there were enough.
fn take(json: &Value, left: &mut usize) -> bool {
    let own = match json {
        Value::Null | Value::Bool(_) | Value::Number(_) => 4,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.len() + 2,
        Value::Object(fields) => fields.keys().map(|name| name.len() + 4).sum::<usize>() + 2,
    };
    let Some(rest) = left.checked_sub(own) else { return false };
    *left = rest;
    match json {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
        Value::Array(items) => items.iter().all(|item| take(item, left)),
        Value::Object(fields) => fields.values().all(|value| take(value, left)),
    }
}

fn too_large(bytes: usize, most: usize) -> Option<FieldError> {
    (bytes > most).then(|| {
        let (has, most) = (bytes.div_ceil(1024), most / 1024);
        let message =
            format!("too large: the object has {has} KiB of JSON without status and managed fields, and at most {most} KiB are allowed");
        FieldError::new("spec", message)
    })
}

/// Checks the spec of an object, which is JSON, before it is parsed. The check keeps nothing of it.
///
/// # Errors
/// The object, or one of its lists or maps, is too large.
pub(super) fn check(bytes: usize, spec: &str) -> Result<(), FieldErrors> {
    if let Some(error) = too_large(bytes, OBJECT_BYTES_MAX) {
        return Err(error.into());
    }
    let mut large = None;
    let read = Walk(&mut large).deserialize(&mut serde_json::Deserializer::from_str(spec));
    match (read, large) {
        (Ok(_), _) => Ok(()),
        (Err(_), Some(Large { path, message })) => Err(FieldErrors::one(format!("spec{path}"), message)),
        (Err(error), None) => Err(FieldErrors::one("spec", problem(&error))),
    }
}

/// A list or a map that is too large.
struct Large {
    path: String,
    message: String,
}

impl Large {
    fn list() -> Self {
        let message = format!("too large: the list has more than the {LIST_ITEMS_MAX} items that are allowed");
        Self { path: String::new(), message }
    }

    fn map() -> Self {
        let message = format!("too large: the map has more than the {MAP_ENTRIES_MAX} entries that are allowed");
        Self { path: String::new(), message }
    }
}

/// Reads any value, and fails at the first list of objects or map that is too large. It then holds the path of it.
struct Walk<'a>(&'a mut Option<Large>);

impl Walk<'_> {
    /// Reads a part of the value. If that fails at a list or a map, adds the name of the part to its path.
    fn part<T, E>(&mut self, name: impl fmt::Display, read: impl FnOnce(Walk<'_>) -> Result<T, E>) -> Result<T, E> {
        let read = read(Walk(self.0));
        if let (Err(_), Some(large)) = (&read, &mut self.0) {
            large.path.insert_str(0, &name.to_string());
        }
        read
    }
}

/// Whether a value is an object. Lists of texts and numbers cost little more than their JSON.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    Object,
    Other,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Read;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Read, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Read;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Read, A::Error> {
        let (mut index, mut objects) = (0, 0);
        while let Some(item) = self.part(format_args!("[{index}]"), |walk| items.next_element_seed(walk))? {
            index += 1;
            objects += usize::from(item == Read::Object);
            if objects > LIST_ITEMS_MAX {
                *self.0 = Some(Large::list());
                return Err(A::Error::custom("a long list"));
            }
        }
        Ok(Read::Other)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut fields: A) -> Result<Read, A::Error> {
        let mut entries = 0;
        while let Some(name) = fields.next_key::<String>()? {
            entries += 1;
            if entries > MAP_ENTRIES_MAX {
                *self.0 = Some(Large::map());
                return Err(A::Error::custom("a large map"));
            }
            self.part(format_args!(".{name}"), |walk| fields.next_value_seed(walk))?;
        }
        Ok(Read::Object)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Read, E> {
        Ok(Read::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Read, E> {
        Ok(Read::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Read, E> {
        Ok(Read::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Read, E> {
        Ok(Read::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<Read, E> {
        Ok(Read::Other)
    }

    fn visit_unit<E>(self) -> Result<Read, E> {
        Ok(Read::Other)
    }
}

#[cfg(test)]
mod tests;
