//! Validation errors of an object, one for each invalid field.

use std::fmt;

use thiserror::Error;

use crate::text::{MESSAGE_BYTES, elide};

/// The longest path of a field that is kept, in bytes. A path may contain the key of a label.
const PATH_BYTES: usize = 512;

/// One validation error.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Error)]
#[error("{path}: {message}")]
pub struct FieldError {
    /// The path of the field, such as `spec.template.spec.containers[0].name`.
    pub path: String,
    /// The problem and the allowed values.
    pub message: String,
}

impl FieldError {
    /// Messages quote values of users, so both texts are shortened.
    pub(crate) fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: elide(path, PATH_BYTES), message: elide(message, MESSAGE_BYTES) }
    }
}

/// All validation errors of an object. The list is never empty.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct FieldErrors(Box<[FieldError]>);

impl FieldErrors {
    /// Returns a list with one error.
    pub fn one(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self(Box::new([FieldError::new(path, message)]))
    }

    /// The errors, in the order of the object's fields.
    #[must_use]
    pub fn as_slice(&self) -> &[FieldError] {
        &self.0
    }

    /// These errors, and then the others.
    #[must_use]
    pub(super) fn and(self, others: &Self) -> Self {
        Self(self.0.into_iter().chain(others.0.iter().cloned()).collect())
    }

    /// The same errors, of which only the first ones are kept.
    #[must_use]
    pub(crate) fn shortened(self) -> Self {
        Self(shortened(self.0.into_vec()).into())
    }

    /// The errors, in the order of the object's fields.
    #[must_use]
    pub fn into_vec(self) -> Vec<FieldError> {
        self.0.into_vec()
    }
}

/// The largest number of errors that is kept of an object or told to a client. An object within its budget can have an
/// error in each of ten thousand fields.
const ERRORS_MAX: usize = 32;

/// The first errors. The last one then says how many others there are.
#[must_use]
pub(crate) fn shortened(mut errors: Vec<FieldError>) -> Vec<FieldError> {
    let more = errors.len().saturating_sub(ERRORS_MAX);
    errors.truncate(ERRORS_MAX);
    if more > 0 {
        errors.push(FieldError::new("spec", format!("{more} more fields are invalid")));
    }
    errors
}

impl From<FieldError> for FieldErrors {
    fn from(error: FieldError) -> Self {
        Self(Box::new([error]))
    }
}

impl fmt::Display for FieldErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    }
}

/// Collects errors while an object is parsed, so that a user sees all of them at once.
#[derive(Debug, Default)]
pub(super) struct Errors(Vec<FieldError>);

impl Errors {
    /// Adds an error.
    pub(super) fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(FieldError::new(path, message));
    }

    /// Returns the first errors, if there are any. An object keeps them for its status.
    pub(super) fn into_kept(self) -> Option<FieldErrors> {
        self.into_result(Some(())).err().map(FieldErrors::shortened)
    }

    /// Returns the model if there are no errors. Without a model and without errors, the object is incomplete.
    pub(super) fn into_result<T>(self, model: Option<T>) -> Result<T, FieldErrors> {
        match model {
            Some(model) if self.0.is_empty() => Ok(model),
            None if self.0.is_empty() => Err(FieldErrors::one("spec", "incomplete")),
            Some(_) | None => Err(FieldErrors(self.0.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::names;

    #[test]
    fn error_about_a_long_value_is_short_and_says_what_is_allowed() {
        let value = "x".repeat(1024 * 1024);
        let error = FieldError::new(format!("spec.labels[{value}]"), names::dns_label(&value).expect("an error"));
        assert!(error.to_string().len() <= PATH_BYTES + MESSAGE_BYTES + 2, "{}", error.to_string().len());
        assert!(error.path.starts_with("spec.labels[xx") && error.path.ends_with(']'), "{error}");
        assert!(error.message.starts_with("`xx") && error.message.contains("must be a DNS label"), "{error}");
    }
}
