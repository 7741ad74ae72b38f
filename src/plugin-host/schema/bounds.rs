//! Measures a schema before it is compiled, so that neither it nor the settings can occupy the host for long.
//!
//! A short schema can be a large one, because its references unfold: `a` that contains `b` twice, which contains `c`
//! twice. The measure is that of the unfolded schema. A schema that contains itself has none, and is refused.

use std::collections::BTreeMap;

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind};
use serde_json::{Map, Value};

/// The draft that a schema may name.
const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";
/// The parts of the largest schema: its JSON values, with all references unfolded.
const MAX_PARTS: usize = 5000;
/// The levels of the deepest schema. The validator needs a part of the stack for each.
const MAX_DEPTH: usize = 32;
/// The bytes of the longest pattern.
const MAX_PATTERN_BYTES: usize = 1024;
/// The positions of all patterns: the characters and ranges that they consist of, with all repetitions unfolded.
const MAX_POSITIONS: usize = 20_000;

/// Keywords whose value is one subschema.
const SCHEMAS: [&str; 12] = [
    "additionalProperties",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
    "additionalItems",
];
/// Keywords whose value is a list of subschemas.
const LISTS: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];
/// Keywords whose value has subschemas by name.
const MAPS: [&str; 4] = ["dependencies", "dependentSchemas", "patternProperties", "properties"];
/// Keywords whose value has subschemas by name that only references use.
const DEFINITIONS: [&str; 2] = ["$defs", "definitions"];
/// Keywords by which a schema refers to anything but a part of itself.
const REFERENCES: [&str; 6] =
    ["$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveAnchor", "$recursiveRef", "$vocabulary"];

/// The size of a schema with all references unfolded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Measure {
    /// Its JSON values.
    pub(super) parts: usize,
    /// The positions of its patterns.
    pub(super) positions: usize,
    /// Its levels.
    depth: usize,
}

impl Measure {
    fn add(&mut self, other: Measure) {
        self.parts = self.parts.saturating_add(other.parts);
        self.positions = self.positions.saturating_add(other.positions);
        self.depth = self.depth.max(other.depth.saturating_add(1));
    }
}

/// Measures a schema.
///
/// # Errors
/// The reason why the schema could occupy the host for long, or needs another document, and the place of it.
pub(super) fn measure(document: &Value) -> Result<Measure, String> {
    Walk { document, targets: BTreeMap::new(), level: 0 }.target("", document)
}

/// The values of settings, and the bytes of their texts.
pub(super) fn size(value: &Value) -> (usize, usize) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => (1, 0),
        Value::String(text) => (1, text.len()),
        Value::Array(items) => items.iter().map(size).fold((1, 0), sum),
        Value::Object(fields) => fields.iter().map(|(name, value)| sum(size(value), (0, name.len()))).fold((1, 0), sum),
    }
}

fn sum((values, bytes): (usize, usize), (more_values, more_bytes): (usize, usize)) -> (usize, usize) {
    (values.saturating_add(more_values), bytes.saturating_add(more_bytes))
}

struct Walk<'d> {
    document: &'d Value,
    /// The measures of the parts that references lead to. `None` while a part is being measured.
    targets: BTreeMap<String, Option<Measure>>,
    /// The level of the schema that is being measured, with all references unfolded.
    level: usize,
}

impl Walk<'_> {
    /// The measure of the part at a JSON pointer, which is measured once.
    fn target(&mut self, pointer: &str, part: &Value) -> Result<Measure, String> {
        match self.targets.get(pointer) {
            Some(Some(known)) => return Ok(*known),
            Some(None) => return Err(format!("#{pointer} contains itself, and a schema of settings must not")),
            None => {}
        }
        self.targets.insert(pointer.to_owned(), None);
        let measured = self.schema(part, pointer)?;
        self.targets.insert(pointer.to_owned(), Some(measured));
        Ok(measured)
    }

    /// The measure of a schema. `at` is the JSON pointer to it.
    fn schema(&mut self, schema: &Value, at: &str) -> Result<Measure, String> {
        let mut total = Measure { parts: 1, ..Measure::default() };
        if self.level > MAX_DEPTH {
            return Err(too_deep(at));
        }
        self.level += 1;
        for (keyword, value) in schema.as_object().into_iter().flatten() {
            total.add(self.keyword((keyword, value), &format!("{at}/{}", escaped(keyword)))?);
        }
        self.level -= 1;
        match total {
            Measure { depth, .. } if depth > MAX_DEPTH => Err(too_deep(at)),
            Measure { parts, .. } if parts > MAX_PARTS => {
                Err(format!("#{at} has more than {MAX_PARTS} parts with its references unfolded"))
            }
            Measure { positions, .. } if positions > MAX_POSITIONS => {
                Err(format!("the patterns in #{at} have more than {MAX_POSITIONS} positions; lower their repetitions"))
            }
            total => Ok(total),
        }
    }

    fn keyword(&mut self, (keyword, value): (&str, &Value), at: &str) -> Result<Measure, String> {
        match (keyword, value) {
            ("$ref", Value::String(reference)) => self.reference(reference, at),
            ("$id", _) if at != "/$id" => Err(format!("#{at}: only the whole schema may have a name")),
            ("$schema", draft) if at != "/$schema" || !is_the_draft(draft) => {
                Err(format!("#{at}: must be {DRAFT:?}, or be left out, and only the whole schema may have it"))
            }
            (keyword, _) if REFERENCES.contains(&keyword) => {
                Err(format!("#{at}: {keyword} is not supported; use $ref with a JSON pointer"))
            }
            (keyword, Value::Array(list)) if LISTS.contains(&keyword) => {
                let named = list.iter().enumerate().map(|(index, schema)| (index.to_string(), schema));
                self.all(named, at)
            }
            (keyword, Value::Object(map)) if MAPS.contains(&keyword) => {
                let mut total = self.all(by_name(map), at)?;
                if keyword == "patternProperties" {
                    for pattern in map.keys() {
                        total.positions = total.positions.saturating_add(positions(pattern, at)?);
                    }
                }
                Ok(total)
            }
            (keyword, Value::Object(map)) if DEFINITIONS.contains(&keyword) => {
                for (name, part) in map {
                    self.target(&format!("{at}/{}", escaped(name)), part)?;
                }
                Ok(Measure::default())
            }
            (keyword, schema) if SCHEMAS.contains(&keyword) => self.schema(schema, at),
            ("pattern", Value::String(pattern)) => {
                Ok(Measure { parts: 1, positions: positions(pattern, at)?, depth: 0 })
            }
            (_, value) => Ok(Measure { parts: size(value).0, ..Measure::default() }),
        }
    }

    fn all<'v>(&mut self, schemas: impl Iterator<Item = (String, &'v Value)>, at: &str) -> Result<Measure, String> {
        let mut total = Measure::default();
        for (name, schema) in schemas {
            total.add(self.schema(schema, &format!("{at}/{name}"))?);
        }
        // The list or map is no level of its own.
        total.depth = total.depth.saturating_sub(1);
        Ok(total)
    }

    fn reference(&mut self, reference: &str, at: &str) -> Result<Measure, String> {
        let pointer = reference.strip_prefix('#').filter(|pointer| pointer.is_empty() || pointer.starts_with('/'));
        let Some(pointer) = pointer.filter(|pointer| !pointer.contains('%')) else {
            return Err(format!(
                "#{at}: {reference:?} is not a JSON pointer within the schema, such as \"#/$defs/seconds\"; other \
                 documents are not loaded"
            ));
        };
        let part = self.document.pointer(pointer).ok_or_else(|| format!("#{at}: the schema has no #{pointer}"))?;
        self.target(pointer, part)
    }
}

fn too_deep(at: &str) -> String {
    format!("#{at} has more than {MAX_DEPTH} levels with its references unfolded")
}

fn is_the_draft(schema: &Value) -> bool {
    schema.as_str().is_some_and(|schema| schema.trim_end_matches('#') == DRAFT)
}

fn by_name(map: &Map<String, Value>) -> impl Iterator<Item = (String, &Value)> {
    map.iter().map(|(name, schema)| (escaped(name), schema))
}

/// A name as a token of a JSON pointer.
pub(super) fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// The positions of a pattern.
fn positions(pattern: &str, at: &str) -> Result<usize, String> {
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(format!("#{at}: a pattern must have at most {MAX_PATTERN_BYTES} bytes"));
    }
    let parsed = |unicode: bool| {
        let parsed = ParserBuilder::new().unicode(unicode).utf8(unicode).build().parse(pattern);
        parsed.map_err(|error| {
            // The last line of the message has the reason, after a picture of the place.
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
            format!("#{at}: {pattern:?} is no pattern that the host supports: {reason}")
        })
    };
    let unicode = parsed(true)?;
    // The validator reads `\w` and `\d` as JavaScript does: they have ASCII characters only.
    Ok(parsed(false).map_or_else(|_| unfolded(&unicode), |ascii| unfolded(&ascii)))
}

fn unfolded(pattern: &Hir) -> usize {
    match pattern.kind() {
        HirKind::Empty | HirKind::Look(_) => 1,
        HirKind::Literal(literal) => literal.0.len(),
        HirKind::Class(Class::Unicode(class)) => class.ranges().len(),
        HirKind::Class(Class::Bytes(class)) => class.ranges().len(),
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or_else(|| repetition.min.saturating_add(1));
            unfolded(&repetition.sub).saturating_mul(usize::try_from(times).unwrap_or(usize::MAX).max(1))
        }
        HirKind::Capture(capture) => unfolded(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().map(unfolded).fold(0, usize::saturating_add)
        }
    }
}
