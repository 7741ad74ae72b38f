//! The message about settings that do not match a schema: the JSON pointer of the wrong field, and what would be right.

use std::fmt::{Display, Formatter, Result};

use boon::{ErrorKind, InstanceLocation, Type, Types, ValidationError};
use serde_json::Value;

use super::bounds::escaped;

/// A field of the settings that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The JSON pointer of the field. Empty for the settings as a whole.
    pointer: String,
    /// What would be right.
    message: String,
}

impl Display for Violation {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self { pointer, message } = self;
        if pointer.is_empty() { f.write_str(message) } else { write!(f, "{pointer}: {message}") }
    }
}

impl Violation {
    /// A fault of the settings as a whole.
    pub(super) fn of_all(message: String) -> Self {
        Self { pointer: String::new(), message }
    }

    /// The first wrong field among the errors of the validator.
    pub(super) fn first(error: &ValidationError<'_, '_>, schema: &Value) -> Self {
        Ranked::new(error, schema).violation
    }
}

/// A wrong field, and how much the error says: of several alternatives, a user meant the one whose error is about the
/// deepest field, and not about the type or the constant by which alternatives differ.
struct Ranked {
    violation: Violation,
    rank: usize,
}

impl Ranked {
    fn new(error: &ValidationError<'_, '_>, schema: &Value) -> Self {
        let at = &error.instance_location;
        match (&error.kind, error.causes.as_slice()) {
            (
                ErrorKind::Group
                | ErrorKind::Schema { .. }
                | ErrorKind::Reference { .. }
                | ErrorKind::AllOf
                | ErrorKind::ContentSchema,
                [first, ..],
            ) => Self::new(first, schema),
            (ErrorKind::AnyOf | ErrorKind::OneOf(None), [_, ..]) => {
                let alternatives = error.causes.iter().map(|cause| Self::new(cause, schema));
                Self::of_alternatives(alternatives.collect(), at)
            }
            (ErrorKind::PropertyName { prop }, [first, ..]) => {
                let reason = Self::new(first, schema).violation.message;
                Self::leaf(at, Some(prop), format!("the name of the field {reason}"), false)
            }
            (kind, _) => {
                let (field, message) = explain(kind, error.schema_url, schema);
                let selects = matches!(kind, ErrorKind::Type { .. } | ErrorKind::Const { .. } | ErrorKind::Enum { .. });
                Self::leaf(at, field, message, selects)
            }
        }
    }

    /// The error of the alternative that the user probably meant. If it is not clear which, all of them.
    fn of_alternatives(alternatives: Vec<Self>, at: &InstanceLocation<'_>) -> Self {
        let own = 2 * at.tokens.len();
        let best = alternatives.iter().map(|alternative| alternative.rank).max().unwrap_or_default();
        let mut messages = vec![];
        for alternative in alternatives {
            if best > own && alternative.rank == best {
                return alternative;
            }
            messages.push(alternative.violation.message);
        }
        messages.dedup();
        Self::leaf(at, None, messages.join(", or "), true)
    }

    /// An error about a value, or about a field of it. `selects` says whether such errors distinguish alternatives.
    fn leaf(at: &InstanceLocation<'_>, field: Option<&str>, message: String, selects: bool) -> Self {
        let pointer = field.map_or_else(|| at.to_string(), |field| format!("{at}/{}", escaped(field)));
        let depth = at.tokens.len() + usize::from(field.is_some());
        Self { violation: Violation { pointer, message }, rank: 2 * depth + usize::from(!selects) }
    }
}

/// What would be right, and the field that it is about, if that is not the value itself.
fn explain<'e>(kind: &'e ErrorKind<'_, '_>, schema_url: &str, schema: &Value) -> (Option<&'e str>, String) {
    let of_value = |message: String| (None, message);
    match kind {
        ErrorKind::Type { got, want } => of_value(format!("must be {}, is {}", any_of(*want), noun(*got))),
        ErrorKind::Enum { want } => of_value(format!("must be one of {}", texts(want))),
        ErrorKind::Const { want } => of_value(format!("must be {want}")),
        ErrorKind::Minimum { got, want } => of_value(format!("must be at least {want}, is {got}")),
        ErrorKind::Maximum { got, want } => of_value(format!("must be at most {want}, is {got}")),
        ErrorKind::ExclusiveMinimum { got, want } => of_value(format!("must be more than {want}, is {got}")),
        ErrorKind::ExclusiveMaximum { got, want } => of_value(format!("must be less than {want}, is {got}")),
        ErrorKind::MultipleOf { got, want } => of_value(format!("must be a multiple of {want}, is {got}")),
        ErrorKind::MinLength { got, want } => {
            of_value(format!("must have at least {}, has {got}", count(*want, "character")))
        }
        ErrorKind::MaxLength { got, want } => {
            of_value(format!("must have at most {}, has {got}", count(*want, "character")))
        }
        ErrorKind::MinItems { got, want } => {
            of_value(format!("must have at least {}, has {got}", count(*want, "item")))
        }
        ErrorKind::MaxItems { got, want } => of_value(format!("must have at most {}, has {got}", count(*want, "item"))),
        ErrorKind::MinProperties { got, want } => {
            of_value(format!("must have at least {}, has {got}", count(*want, "field")))
        }
        ErrorKind::MaxProperties { got, want } => {
            of_value(format!("must have at most {}, has {got}", count(*want, "field")))
        }
        ErrorKind::Pattern { got, want } => of_value(format!("must match the pattern {want}, is {got:?}")),
        ErrorKind::UniqueItems { got: [first, second] } => {
            of_value(format!("must not have equal items, but the items {first} and {second} are"))
        }
        ErrorKind::AdditionalProperties { got } => {
            (got.first().map(|name| &**name), format!("unknown field; {}", known_fields(schema_url, schema)))
        }
        ErrorKind::Required { want } => (want.first().copied(), "must be given".to_owned()),
        ErrorKind::Dependency { prop, missing } | ErrorKind::DependentRequired { prop, missing } => {
            (missing.first().copied(), format!("must be given, because {prop} is"))
        }
        ErrorKind::FalseSchema => of_value("must not be given".to_owned()),
        ErrorKind::Not => of_value(format!("must not match the schema at {}/not", place(schema_url))),
        ErrorKind::OneOf(Some((first, second))) => of_value(format!(
            "must match only one of the alternatives at {}/oneOf, but matches {first} and {second}",
            place(schema_url)
        )),
        other @ (ErrorKind::Group
        | ErrorKind::Schema { .. }
        | ErrorKind::ContentSchema
        | ErrorKind::PropertyName { .. }
        | ErrorKind::Reference { .. }
        | ErrorKind::RefCycle { .. }
        | ErrorKind::Format { .. }
        | ErrorKind::Contains
        | ErrorKind::MinContains { .. }
        | ErrorKind::MaxContains { .. }
        | ErrorKind::AdditionalItems { .. }
        | ErrorKind::ContentEncoding { .. }
        | ErrorKind::ContentMediaType { .. }
        | ErrorKind::AllOf
        | ErrorKind::AnyOf
        | ErrorKind::OneOf(None)) => of_value(other.to_string()),
    }
}

fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

fn noun(of: Type) -> &'static str {
    match of {
        Type::Null => "null",
        Type::Boolean => "true or false",
        Type::Number => "a number",
        Type::Integer => "an integer",
        Type::String => "a string",
        Type::Array => "a list",
        Type::Object => "an object",
    }
}

fn any_of(types: Types) -> String {
    types.iter().map(noun).collect::<Vec<_>>().join(" or ")
}

fn texts(values: &[Value]) -> String {
    values.iter().map(Value::to_string).collect::<Vec<_>>().join(", ")
}

/// The JSON pointer to a subschema.
fn place(schema_url: &str) -> &str {
    schema_url.find('#').and_then(|start| schema_url.get(start..)).unwrap_or("#")
}

/// The fields that a subschema has.
fn known_fields(schema_url: &str, schema: &Value) -> String {
    let pointer = place(schema_url).trim_start_matches('#');
    let properties = schema.pointer(pointer).and_then(|schema| schema.get("properties")).and_then(Value::as_object);
    let names: Vec<_> = properties.into_iter().flat_map(|properties| properties.keys().map(String::as_str)).collect();
    if names.is_empty() {
        "the schema has none here".to_owned()
    } else {
        format!("the schema has {}", names.join(", "))
    }
}
