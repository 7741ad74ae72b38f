//! Values in files: JSON, or YAML.

use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::Value;

use crate::output;
use crate::usage::bad_usage;

/// The name of a file that stands for standard input.
const STDIN: &str = "-";

/// Reads the value in a file, or in standard input if the name is `-`.
pub(super) fn read(path: &Path) -> anyhow::Result<Value> {
    let text = if path == Path::new(STDIN) {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("reading standard input")?;
        text
    } else {
        String::from_utf8(output::read(path)?).with_context(|| format!("{}: not a text", path.display()))?
    };
    parse(&text).with_context(|| path.display().to_string())
}

/// Refuses more than one flag that reads standard input: the first would leave nothing for the others.
pub(super) fn at_most_one_is_stdin(flags: &[(&str, Option<&Path>)]) -> anyhow::Result<()> {
    let given = flags.iter().filter(|(_, path)| *path == Some(Path::new(STDIN)));
    let names: Vec<&str> = given.map(|(name, _)| *name).collect();
    if names.len() > 1 {
        return Err(bad_usage(format!("{}: only one of them may be -, standard input", names.join(" and "))));
    }
    Ok(())
}

/// Reads the value in a text. A text that is not JSON is YAML.
pub(super) fn parse(text: &str) -> anyhow::Result<Value> {
    if let Ok(value) = serde_json::from_str(text) {
        return Ok(value);
    }
    // Two steps: only a value of YAML refuses a key that is there twice.
    let yaml: serde_yaml_ng::Value = serde_yaml_ng::from_str(text).context("neither JSON nor YAML")?;
    serde_json::to_value(yaml).context("a value that JSON does not have")
}

/// Replaces the text of a patch in an answer by its value, because two texts of one patch are equal.
pub(super) fn parse_patch(answer: &mut Value) {
    if let Some(patch) = answer.get_mut("patch")
        && let Some(Ok(value)) = patch.as_str().map(serde_json::from_str)
    {
        *patch = value;
    }
}

/// A value in YAML, with the fields in the order of its type.
pub(super) fn yaml<T: Serialize>(value: &T) -> anyhow::Result<String> {
    let mut text = Vec::new();
    // Without the tags that only YAML has: the case of an enum is a map with one key, as in JSON.
    let mut to = serde_yaml_ng::Serializer::new(&mut text);
    serde_yaml_ng::with::singleton_map_recursive::serialize(value, &mut to).context("writing YAML")?;
    drop(to);
    String::from_utf8(text).context("writing YAML")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::usage::BadUsage;

    #[test]
    fn standard_input_is_for_one_flag() {
        let (stdin, file) = (Some(Path::new(STDIN)), Some(Path::new("file")));
        for flags in [[("--a", stdin), ("--b", file)], [("--a", None), ("--b", stdin)], [("--a", file), ("--b", file)]]
        {
            at_most_one_is_stdin(&flags).unwrap();
        }
        let error = at_most_one_is_stdin(&[("--a", stdin), ("--b", file), ("--c", stdin)]).unwrap_err();
        assert!(error.is::<BadUsage>() && error.to_string().starts_with("--a and --c: "), "{error}");
    }

    #[test]
    fn json_and_yaml_are_read() {
        for (text, value) in [
            (r#"{"a": [1, "\ud83d\ude00"]}"#, json!({"a": [1, "😀"]})),
            ("{a: [1, b]}", json!({"a": [1, "b"]})),
            ("a: 1\nb:\n  - x\n", json!({"a": 1, "b": ["x"]})),
            ("", Value::Null),
        ] {
            assert_eq!(parse(text).unwrap(), value, "{text}");
        }
        for text in ["a: 1\na: 2\n", "a: [", "--- 1\n--- 2\n", "[1]: 2"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
