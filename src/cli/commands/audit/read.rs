//! Reads manifests. Every object has the number of its document and the line on which the document begins.
//!
//! A file that cannot be read ends the audit. An audit that left it out would report a clean result for something that
//! nobody looked at.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail, ensure};
use serde_json::Value;

use super::item::{Item, Place};
use crate::output;

/// The path that means standard input.
const STDIN: &str = "-";

/// The objects of manifests.
#[derive(Debug, Default)]
pub(super) struct Manifests {
    pub(super) items: Vec<Item>,
    /// The documents that are no objects of Kubernetes.
    pub(super) notes: Vec<String>,
}

/// Reads files, folders and standard input.
pub(super) fn manifests(paths: &[PathBuf], mut stdin: impl Read) -> anyhow::Result<Manifests> {
    let mut read = Manifests::default();
    ensure!(paths.iter().filter(|path| *path == Path::new(STDIN)).count() < 2, "-: standard input can be read once");
    for path in paths {
        if path == Path::new(STDIN) {
            let mut bytes = Vec::new();
            stdin.read_to_end(&mut bytes).context("reading standard input")?;
            read.file(STDIN, bytes)?;
        } else if path.is_dir() {
            let mut files = Vec::new();
            walk(path, &mut BTreeSet::new(), &mut files)?;
            ensure!(!files.is_empty(), "{}: contains no manifest (*.yaml, *.yml, *.json)", path.display());
            for file in files {
                read.file(&file.display().to_string(), output::read(&file)?)?;
            }
        } else {
            read.file(&path.display().to_string(), output::read(path)?)?;
        }
    }
    ensure!(!read.items.is_empty(), "the manifests contain no object: apiVersion and kind must be set");
    Ok(read)
}

/// Adds the manifests of a folder, in the order of their names. Hidden files are left out. A folder that a link leads to a
/// second time is left out too, so that loops end.
fn walk(folder: &Path, seen: &mut BTreeSet<PathBuf>, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let context = || format!("reading {}", folder.display());
    if !seen.insert(folder.canonicalize().with_context(context)?) {
        return Ok(());
    }
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(context)? {
        paths.push(entry.with_context(context)?.path());
    }
    paths.sort();
    let hidden = |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    for path in paths.into_iter().filter(|path| !hidden(path)) {
        if path.is_dir() {
            walk(&path, seen, files)?;
        } else if matches!(ending(&path), "yaml" | "yml" | "json") {
            files.push(path);
        }
    }
    Ok(())
}

fn ending(path: &Path) -> &str {
    path.extension().and_then(|ending| ending.to_str()).unwrap_or_default()
}

impl Manifests {
    fn file(&mut self, file: &str, bytes: Vec<u8>) -> anyhow::Result<()> {
        let text = String::from_utf8(bytes).map_err(|error| {
            let line = lines(&error.as_bytes()[..error.utf8_error().valid_up_to()]);
            anyhow!("{file}: line {line}: must be text in UTF-8")
        })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let documents = if ending(Path::new(file)) == "json" {
            json(file, text)?
        } else if text.trim_start().starts_with('{') {
            // A document in YAML can begin like one in JSON.
            json(file, text).or_else(|_| yaml(file, text))?
        } else {
            yaml(file, text)?
        };
        for (place, document) in documents {
            self.document(place, document)?;
        }
        Ok(())
    }

    fn document(&mut self, place: Place, mut object: Value) -> anyhow::Result<()> {
        let Place { file, document, line } = &place;
        let is_text = |field: &str| object[field].as_str().is_some_and(|text| !text.is_empty());
        if !is_text("apiVersion") || !is_text("kind") {
            self.notes.push(format!("{file}: document {document}, line {line}: no apiVersion and kind, left out"));
            return Ok(());
        }
        let list = object["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
        let items = if list { object.get_mut("items").map(Value::take) } else { None };
        match items {
            Some(Value::Array(items)) => items.into_iter().try_for_each(|item| self.document(place.clone(), item)),
            Some(Value::Null) => Ok(()),
            Some(_) => bail!("{file}: document {document}, line {line}: items must be a list"),
            None if list => bail!("{file}: document {document}, line {line}: items must be set in a list"),
            None => {
                text_labels(&mut object);
                self.items.push(Item { object, place: Some(place) });
                Ok(())
            }
        }
    }
}

/// Makes texts of the labels that a manifest writes without quotes, such as `true`. The API server refuses them, but their
/// author means the text.
fn text_labels(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                if field == "labels" {
                    value.as_object_mut().into_iter().flat_map(|labels| labels.values_mut()).for_each(as_text);
                } else {
                    text_labels(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(text_labels),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn as_text(label: &mut Value) {
    match label {
        Value::Bool(_) | Value::Number(_) => *label = Value::String(label.to_string()),
        Value::Null | Value::String(_) | Value::Array(_) | Value::Object(_) => {}
    }
}

/// The number of the line that follows this text.
fn lines(text: &[u8]) -> usize {
    1 + text.iter().filter(|byte| **byte == b'\n').count()
}

/// The documents of a file in JSON, one after the other.
fn json(file: &str, text: &str) -> anyhow::Result<Vec<(Place, Value)>> {
    let mut documents = Vec::new();
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let (mut end, mut line) = (0, 1);
    loop {
        let rest = &text[end..];
        let begin = end + rest.len() - rest.trim_start().len();
        line += lines(&text.as_bytes()[end..begin]) - 1;
        let document = documents.len() + 1;
        match values.next() {
            None => return Ok(documents),
            Some(Ok(value)) => documents.push((Place { file: file.to_owned(), document, line }, value)),
            Some(Err(error)) => bail!("{file}: document {document}, line {}: {error}", error.line()),
        }
        end = values.byte_offset();
        line += lines(&text.as_bytes()[begin..end]) - 1;
    }
}

/// The documents of a file in YAML. The parser gives no lines of documents, so the text is divided before: a line with a
/// document marker is one wherever it is.
fn yaml(file: &str, text: &str) -> anyhow::Result<Vec<(Place, Value)>> {
    let mut documents = Vec::new();
    for part in parts(text) {
        let Some(line) = part.begin else { continue };
        let place = Place { file: file.to_owned(), document: documents.len() + 1, line };
        match value(part.text) {
            Ok(value) => documents.push((place, value)),
            Err(_) => {
                // With the lines before it, the error has the right line.
                let whole = "\n".repeat(part.before) + part.text;
                let error = value(&whole).err().unwrap_or_else(|| anyhow!("cannot be parsed"));
                let at = error.downcast_ref::<serde_yaml_ng::Error>().and_then(serde_yaml_ng::Error::location);
                let at = at.map_or(place.line, |at| at.line());
                return Err(error.context(format!("{file}: document {}, line {at}", place.document)));
            }
        }
    }
    Ok(documents)
}

fn value(text: &str) -> anyhow::Result<Value> {
    let mut value: serde_yaml_ng::Value = serde_yaml_ng::from_str(text)?;
    value.apply_merge()?;
    Ok(serde_json::to_value(value)?)
}

/// A document of a file.
struct Part<'a> {
    text: &'a str,
    /// The number of the lines before it.
    before: usize,
    /// The line on which its content begins. `None` if there is none.
    begin: Option<usize>,
}

fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts: Vec<Part<'_>> = Vec::new();
    let (mut begin, mut at) = (0, 0);
    let mut part = Part { text: "", before: 0, begin: None };
    for (before, line) in text.split_inclusive('\n').enumerate() {
        let after = line.strip_prefix("---").filter(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        let (marker, content) = (after.is_some(), after.unwrap_or(line).trim());
        if marker {
            parts.push(Part { text: &text[begin..at], ..part });
            (begin, part) = (at, Part { text: "", before, begin: None });
        }
        let nothing = content.is_empty() || content == "..." || content.starts_with('#');
        // A directive can be before the first marker only.
        let directive = begin == 0 && !marker && line.starts_with('%');
        if part.begin.is_none() && !nothing && !directive {
            part.begin = Some(before + 1);
        }
        at += line.len();
    }
    parts.push(Part { text: &text[begin..], ..part });
    parts
}
