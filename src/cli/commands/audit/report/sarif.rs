//! The report as a SARIF 2.1.0 log.

use serde_json::{Value, json};

use crate::commands::audit::finding::{Finding, Report, Rule};

const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

pub(super) fn log(report: &Report) -> Value {
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "paddock audit",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": Rule::ALL.map(rule),
            } },
            "results": report.findings.iter().map(result).collect::<Vec<_>>(),
        }],
    })
}

fn rule(rule: Rule) -> Value {
    json!({
        "id": rule.id(),
        "shortDescription": { "text": rule.summary() },
        "help": { "text": rule.remedy() },
        "defaultConfiguration": { "level": rule.level().as_str() },
    })
}

fn result(finding: &Finding) -> Value {
    let object = finding.object();
    let mut location = json!({
        "logicalLocations": [{
            "name": finding.name,
            "fullyQualifiedName": format!("{object} {}", finding.field),
            "kind": "resource",
        }],
    });
    if let Some(place) = &finding.place {
        location["physicalLocation"] = json!({
            "artifactLocation": { "uri": uri(&place.file) },
            "region": { "startLine": place.line },
        });
    }
    json!({
        "ruleId": finding.rule.id(),
        "ruleIndex": Rule::ALL.iter().position(|rule| *rule == finding.rule),
        "level": finding.rule.level().as_str(),
        "message": { "text": format!("{object}: {}: {}", finding.field, finding.message) },
        "locations": [location],
    })
}

/// The URI of a file. Relative paths stay relative, because code scanning resolves them against the repository.
fn uri(file: &str) -> String {
    let mut path = file;
    while let Some(rest) = path.strip_prefix("./") {
        path = rest;
    }
    if path == "-" {
        return "stdin".to_owned();
    }
    let mut encoded = String::new();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(char::from(byte))
            }
            other => encoded += &format!("%{other:02X}"),
        }
    }
    if path.starts_with('/') { format!("file://{encoded}") } else { encoded }
}

#[cfg(test)]
mod tests {
    use super::uri;

    #[test]
    fn uri_of_a_file_is_relative_if_its_path_is() {
        for (file, expected) in [
            ("pods.yaml", "pods.yaml"),
            ("./a/../b c.yaml", "a/../b%20c.yaml"),
            ("a:b#c?.yml", "a%3Ab%23c%3F.yml"),
            ("/tmp/ä.yaml", "file:///tmp/%C3%A4.yaml"),
            ("-", "stdin"),
        ] {
            assert_eq!(uri(file), expected);
        }
    }
}
