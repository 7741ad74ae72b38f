//! The JSON Schema of a plugin's settings. It is read when a component is loaded, and settings are compared with it
//! before the plugin itself sees them.
//!
//! A plugin writes its schema, and users write settings, so neither may occupy the host for long. `bounds.rs` measures a
//! schema before it is compiled, and refuses one that reads other documents, contains itself, or has expensive patterns.
//! The validator (`boon`) visits each subschema at most once for each value, and its patterns run in linear time. So the
//! measure of the schema times the size of the settings bounds the work, and a product that is too large is refused.

mod bounds;
#[cfg(test)]
mod tests;
mod violation;

use std::error::Error;

use boon::{CompileError, Compiler, Draft, SchemaIndex, Schemas, UrlLoader};
use paddock_core::question::Failure;
use serde_json::Value;

use self::bounds::Measure;
pub(crate) use self::violation::Violation;

/// The size of the longest schema, in bytes.
pub const SCHEMA_BYTES: usize = 64 << 10;
/// The steps that one check may take: parts of the schema times values of the settings. The slowest million takes less
/// than a second.
const MAX_STEPS: usize = 1_000_000;
/// The steps that the patterns of one check may take: positions of the patterns times bytes of the settings.
const MAX_PATTERN_STEPS: usize = 100_000_000;
/// The name of the schema for the validator. Nothing is loaded from it.
const URL: &str = "https://settings.invalid/schema";

/// The reason why the settings of a plugin are not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Other calls took all the memory, so the plugin was not asked. The caller may try again.
    #[error("they could not be checked: {0}")]
    Busy(String),
    /// The plugin refuses the settings, or it does not answer.
    #[error("{}", .0.message)]
    Refused(Failure),
}

/// The schema of the settings of one hook.
pub(crate) struct SettingsSchema {
    document: Value,
    compiled: Schemas,
    root: SchemaIndex,
    measure: Measure,
}

impl SettingsSchema {
    /// Reads and compiles the schema in a text.
    ///
    /// # Errors
    /// The fault of the schema, with the place of it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > SCHEMA_BYTES {
            let limit = SCHEMA_BYTES >> 10;
            return Err(format!("it has {} bytes, but must have at most {limit} KiB", text.len()));
        }
        let document: Value = serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
        let measure = bounds::measure(&document)?;
        let mut compiler = Compiler::new();
        compiler.set_default_draft(Draft::V2020_12);
        compiler.use_loader(Box::new(NoOtherDocuments));
        let mut compiled = Schemas::new();
        compiler.add_resource(URL, without_name(&document)).map_err(|error| fault(&error))?;
        let root = compiler.compile(URL, &mut compiled).map_err(|error| fault(&error))?;
        Ok(Self { document, compiled, root, measure })
    }

    /// The schema as the plugin gives it.
    pub(crate) fn document(&self) -> &Value {
        &self.document
    }

    /// Compares settings with the schema.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub(crate) fn check(&self, settings: &Value) -> Result<(), Violation> {
        let (values, bytes) = bounds::size(settings);
        let fits = self.measure.parts.saturating_mul(values) <= MAX_STEPS
            && self.measure.positions.saturating_mul(bytes) <= MAX_PATTERN_STEPS;
        if !fits {
            return Err(Violation::of_all(format!(
                "{values} values with {bytes} bytes are too many to be compared with this schema"
            )));
        }
        let validated = self.compiled.validate(settings, self.root);
        validated.map_err(|error| Violation::first(&error, &self.document))
    }
}

impl std::fmt::Debug for SettingsSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SettingsSchema").field(&self.document).finish()
    }
}

/// The schema without the name that it gives itself. References lead to parts of the same text, so the name has no
/// meaning, and it could be that of a document that the validator knows.
fn without_name(document: &Value) -> Value {
    let mut document = document.clone();
    if let Some(schema) = document.as_object_mut() {
        schema.remove("$id");
    }
    document
}

/// Loads no document but the schema itself. The validator has the metaschemas of the drafts.
struct NoOtherDocuments;

impl UrlLoader for NoOtherDocuments {
    fn load(&self, url: &str) -> Result<Value, Box<dyn Error>> {
        Err(format!("{url} is another document").into())
    }
}

/// The message about a schema that cannot be compiled.
fn fault(error: &CompileError) -> String {
    if let CompileError::ValidationError { src, .. } = error {
        return format!("it is no schema of draft 2020-12: {}", Violation::first(src, &Value::Null));
    }
    format!("it cannot be compiled: {error:#}")
}
