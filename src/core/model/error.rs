//! Validation errors of an object, one for each invalid field.

use std::fmt;

use thiserror::Error;

/// One validation error.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldError {
    /// The path of the field, such as `spec.template.spec.containers[0].name`.
    pub path: String,
    /// The problem and the allowed values.
    pub message: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// All validation errors of an object. The list is never empty.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct FieldErrors(Vec<FieldError>);

impl FieldErrors {
    /// Returns a list with one error.
    pub fn one(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self(vec![FieldError { path: path.into(), message: message.into() }])
    }

    /// The errors, in the order of the object's fields.
    #[must_use]
    pub fn as_slice(&self) -> &[FieldError] {
        &self.0
    }

    /// The errors, in the order of the object's fields.
    #[must_use]
    pub fn into_vec(self) -> Vec<FieldError> {
        self.0
    }
}

impl fmt::Display for FieldErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

/// Collects errors while an object is parsed, so that a user sees all of them at once.
#[derive(Debug, Default)]
pub(super) struct Errors(Vec<FieldError>);

impl Errors {
    /// Adds an error.
    pub(super) fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(FieldError { path: path.into(), message: message.into() });
    }

    /// Returns the model if there are no errors. Without a model and without errors, the object is incomplete.
    pub(super) fn into_result<T>(self, model: Option<T>) -> Result<T, FieldErrors> {
        match model {
            Some(model) if self.0.is_empty() => Ok(model),
            Some(_) => Err(FieldErrors(self.0)),
            None if self.0.is_empty() => {
                Err(FieldErrors(vec![FieldError { path: "spec".to_owned(), message: "incomplete".to_owned() }]))
            }
            None => Err(FieldErrors(self.0)),
        }
    }
}
