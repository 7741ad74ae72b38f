//! Schemas and settings that are right, wrong, or meant to occupy the host.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{SCHEMA_BYTES, SettingsSchema};

fn schema(document: &Value) -> SettingsSchema {
    SettingsSchema::parse(&document.to_string()).unwrap()
}

/// The message about settings. Empty if they are valid.
fn checked(schema: &Value, settings: &Value) -> String {
    SettingsSchema::check(&self::schema(schema), settings)
        .err()
        .map(|violation| violation.to_string())
        .unwrap_or_default()
}

fn refusal(text: &str) -> String {
    SettingsSchema::parse(text).unwrap_err()
}

/// Longer than any bounded work takes, and shorter than unbounded work does.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn wrong_field_is_named_by_its_pointer_with_what_would_be_right() {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://example.com/settings.json",
        "type": "object",
        "additionalProperties": false,
        "required": ["registries"],
        "$defs": { "seconds": { "type": "integer", "minimum": 1, "maximum": 60 } },
        "properties": {
            "registries": { "type": "array", "minItems": 1, "items": { "type": "string", "pattern": "^[a-z.]+$" } },
            "wait": { "$ref": "#/$defs/seconds" },
            "share": { "type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1 },
            "tier": { "enum": ["suspend", "delete"] },
            "a/b": { "type": "object", "properties": { "c~d": { "const": 1 } }, "additionalProperties": false },
            "limit": { "anyOf": [{ "type": "integer", "minimum": 1 }, { "type": "null" }] },
        },
    });
    for (settings, message) in [
        (json!({ "registries": ["ghcr.io"], "wait": 60, "share": 0.5, "tier": "delete", "limit": null }), ""),
        (json!({}), "/registries: must be given"),
        (json!({ "registries": [] }), "/registries: must have at least 1 item, has 0"),
        (json!({ "registries": "ghcr.io" }), "/registries: must be a list, is a string"),
        (json!({ "registries": ["ghcr.io", 7] }), "/registries/1: must be a string, is a number"),
        (json!({ "registries": ["GHCR"] }), "/registries/0: must match the pattern ^[a-z.]+$, is \"GHCR\""),
        (json!({ "registries": ["a"], "wait": 61 }), "/wait: must be at most 60, is 61"),
        (json!({ "registries": ["a"], "wait": 0 }), "/wait: must be at least 1, is 0"),
        (json!({ "registries": ["a"], "share": 1 }), "/share: must be less than 1, is 1"),
        (json!({ "registries": ["a"], "tier": "stop" }), "/tier: must be one of \"suspend\", \"delete\""),
        (json!({ "registries": ["a"], "a/b": { "c~d": 2 } }), "/a~1b/c~0d: must be 1"),
        (json!({ "registries": ["a"], "a/b": { "e": 2 } }), "/a~1b/e: unknown field; the schema has c~d"),
        (json!({ "registries": ["a"], "limit": 0 }), "/limit: must be at least 1, is 0"),
        (
            json!({ "registries": ["a"], "limit": "x" }),
            "/limit: must be an integer, is a string, or must be null, is a string",
        ),
        (
            json!({ "registries": ["a"], "regs": [] }),
            "/regs: unknown field; the schema has a/b, limit, registries, share, tier, wait",
        ),
    ] {
        assert_eq!(checked(&schema, &settings), message, "{settings}");
    }
}

#[test]
fn alternative_that_the_user_meant_is_the_one_that_is_reported() {
    let variant = |kind: &str, field: &str| {
        json!({
            "type": "object", "additionalProperties": false, "required": ["kind"],
            "properties": { "kind": { "const": kind }, field: { "type": "integer" } },
        })
    };
    let schema = json!({ "properties": { "rule": { "oneOf": [variant("a", "x"), variant("b", "y")] } } });
    for (settings, message) in [
        (json!({ "rule": { "kind": "b", "y": 1 } }), ""),
        (json!({ "rule": { "kind": "b", "z": 1 } }), "/rule/z: unknown field; the schema has kind, y"),
        (json!({ "rule": 3 }), "/rule: must be an object, is a number"),
    ] {
        assert_eq!(checked(&schema, &settings), message, "{settings}");
    }
}

#[test]
fn defaults_and_formats_describe_and_have_no_effect() {
    let schema = json!({
        "required": ["a"], "properties": { "a": { "default": 1 }, "b": { "type": "string", "format": "email" } },
    });
    assert_eq!(checked(&schema, &json!({})), "/a: must be given");
    assert_eq!(checked(&schema, &json!({ "a": 1, "b": "nobody" })), "");
    for accepts_all in ["{}", "true"] {
        assert_eq!(SettingsSchema::parse(accepts_all).unwrap().check(&json!({ "x": [1] })), Ok(()));
    }
}

#[test]
fn text_that_is_no_schema_is_refused_with_the_place_of_the_fault() {
    for (text, parts) in [
        ("", ["not JSON", "EOF"]),
        ("{\"type\": \"object\"} x", ["not JSON", "trailing"]),
        ("[]", ["draft 2020-12", "must be true or false or an object"]),
        (r#"{"type": "text"}"#, ["draft 2020-12", "/type"]),
        (r#"{"properties": {"a": {"minimum": "1"}}}"#, ["/properties/a/minimum", "must be a number, is a string"]),
        (r#"{"required": "a"}"#, ["/required", "must be a list"]),
        (r#"{"$schema": "http://json-schema.org/draft-07/schema#"}"#, ["#/$schema", "2020-12"]),
        (r##"{"properties": {"a": {"$ref": "#/$defs/b"}}}"##, ["#/properties/a/$ref", "no #/$defs/b"]),
        (r##"{"$dynamicRef": "#a"}"##, ["#/$dynamicRef", "$ref"]),
        (r#"{"properties": {"a": {"$id": "https://example.com"}}}"#, ["#/properties/a/$id", "whole schema"]),
        (r#"{"properties": {"a": {"pattern": "("}}}"#, ["#/properties/a/pattern", "unclosed group"]),
        (r#"{"properties": {"a": {"pattern": "(?=b)"}}}"#, ["#/properties/a/pattern", "look-around"]),
        (r#"{"properties": {"a": {"pattern": "(b)\\1"}}}"#, ["#/properties/a/pattern", "backreferences"]),
        (r#"{"patternProperties": {"[": {}}}"#, ["#/patternProperties", "unclosed character class"]),
    ] {
        let refused = refusal(text);
        assert!(parts.iter().all(|part| refused.contains(part)), "{text}: {refused}");
    }
    let long = json!({ "description": "x".repeat(SCHEMA_BYTES) }).to_string();
    assert!(refusal(&long).contains("must have at most 64 KiB"), "{}", refusal(&long));
}

#[test]
fn other_documents_are_never_loaded() {
    for reference in [
        "https://example.com/schema.json",
        "file:///etc/passwd",
        "other.json#/$defs/a",
        "https://json-schema.org/draft/2020-12/schema",
        "#anchor",
        "urn:example:a",
    ] {
        let refused = refusal(&json!({ "properties": { "a": { "$ref": reference } } }).to_string());
        assert!(refused.starts_with("#/properties/a/$ref: ") && refused.contains("not loaded"), "{refused}");
    }
}

#[test]
fn schema_that_contains_itself_or_unfolds_without_end_is_refused() {
    let nested = |levels: usize| (0..levels).fold(json!({}), |inner, _| json!({ "items": inner }));
    let doubled = |levels: usize| {
        let part = |level: usize| {
            let next = json!({ "$ref": format!("#/$defs/d{}", level + 1) });
            if level == levels { json!({}) } else { json!({ "allOf": [next, next] }) }
        };
        let parts: serde_json::Map<_, _> = (0..=levels).map(|level| (format!("d{level}"), part(level))).collect();
        json!({ "$defs": parts, "$ref": "#/$defs/d0" })
    };
    for (schema, part) in [
        (json!({ "$ref": "#" }), "contains itself"),
        (json!({ "items": { "$ref": "#" } }), "contains itself"),
        (
            json!({
                "$defs": { "a": { "items": { "$ref": "#/$defs/b" } }, "b": { "not": { "$ref": "#/$defs/a" } } },
                "$ref": "#/$defs/a",
            }),
            "contains itself",
        ),
        (doubled(15), "parts"),
        (doubled(40), "levels"),
        (nested(50), "levels"),
    ] {
        let refused = refusal(&schema.to_string());
        assert!(refused.contains(part), "{refused}");
    }
    assert_eq!(checked(&nested(20), &json!([[[1]]])), "");
    assert_eq!(checked(&doubled(5), &json!({})), "");
}

#[test]
fn pattern_that_would_be_catastrophic_elsewhere_ends_soon() {
    let started = Instant::now();
    let text = format!("{}!", "a".repeat(30_000));
    for pattern in ["^(a+)+$", "^(a|a)*$", "^(a|aa)+$", "^(.*a){20}$", "([a-z]+)*$x"] {
        let wrong = checked(&json!({ "properties": { "a": { "pattern": pattern } } }), &json!({ "a": text }));
        assert!(wrong.starts_with("/a: must match the pattern"), "{pattern}: {}", &wrong[..50.min(wrong.len())]);
    }
    for pattern in ["((a{1000}){1000}){1000}", "\\p{L}{1000}", &"a".repeat(2000)] {
        let refused = refusal(&json!({ "pattern": pattern }).to_string());
        assert!(refused.contains("positions") || refused.contains("1024 bytes"), "{refused}");
    }
    assert_eq!(checked(&json!({ "pattern": "^\\w{1,63}$" }), &json!("agent_7")), "");
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
}

#[test]
fn settings_that_are_too_large_for_the_schema_are_refused() {
    let started = Instant::now();
    let alternatives = json!({ "items": { "anyOf": vec![false; 2000] } });
    let wrong = checked(&alternatives, &json!(vec![0; 30_000]));
    assert!(wrong.starts_with("30001 values"), "{wrong}");
    let wrong = checked(&alternatives, &json!(vec![0; 100]));
    assert_eq!(wrong, "/0: must not be given");
    let names = json!({ "items": { "type": "string", "pattern": "^[a-z]{1,63}$" } });
    assert_eq!(checked(&names, &json!(vec!["team"; 10_000])), "");
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
}
