//! Each rule over a table, the formats of the report, and the project's own manifests.

mod reading;
mod rules;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::facts::{Facts, Source};
use super::finding::Finding;
use super::item::{Item, Place};
use super::*;

const MARKER: &str = "policy.paddock.dev/generated-code";

/// An item of a file of these objects.
fn items(objects: impl IntoIterator<Item = Value>) -> Vec<Item> {
    let place = |at: usize| Place { file: "pods.yaml".to_owned(), document: at + 1, line: 10 * at + 1 };
    objects.into_iter().enumerate().map(|(at, object)| Item { object, place: Some(place(at)) }).collect()
}

fn audited(objects: impl IntoIterator<Item = Value>, source: Source) -> Report {
    let (items, settings) = (items(objects), Settings::default());
    let facts = Facts::of(&items, source, DEFAULT_NAMESPACE, &settings);
    super::rules::judge(&items, &facts, None, &settings)
}

/// The rules and fields of the findings.
fn found(report: &Report) -> Vec<(&'static str, &str)> {
    report.findings.iter().map(|finding| (finding.rule.id(), finding.field.as_str())).collect()
}

fn class(name: &str, handler: &str) -> Value {
    json!({ "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": { "name": name }, "handler": handler })
}

/// A PodSpec that complies with every rule, with these fields.
fn spec(with: &Value) -> Value {
    let mut spec = json!({
        "runtimeClassName": "gvisor",
        "automountServiceAccountToken": false,
        "containers": [{ "name": "main", "image": "busybox" }],
    });
    if let (Some(spec), Some(with)) = (spec.as_object_mut(), with.as_object()) {
        spec.extend(with.clone());
    }
    spec
}

/// A marked Pod.
fn pod(name: &str, with: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "labels": { MARKER: "true" } }, "spec": spec(with),
    })
}

/// A Sandbox that is not marked.
fn sandbox(name: &str, with: &Value) -> Value {
    json!({
        "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "metadata": { "name": name },
        "spec": { "podTemplate": { "spec": spec(with) } },
    })
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn own_manifests_have_no_error() {
    let paths = ["deploy", "crds"].map(|folder| root().join(folder)).to_vec();
    let Manifests { items, notes } = read::manifests(&paths, std::io::empty()).unwrap();
    let (settings, classes) = (Settings::default(), class("gvisor", "runsc"));
    let with_class: Vec<Item> = items.iter().cloned().chain([Item { object: classes, place: None }]).collect();
    for items in [items, with_class] {
        let facts = Facts::of(&items, Source::Manifests, "agents", &settings);
        let report = super::rules::judge(&items, &facts, None, &settings);
        let errors: Vec<&Finding> = report.findings.iter().filter(|f| f.rule.level() == Level::Error).collect();
        assert!(errors.is_empty() && report.workloads > 5, "{} {errors:#?}", report.workloads);
        assert!(!found(&report).iter().any(|(rule, _)| *rule == "invalid-object"), "{:#?}", report.findings);
    }
    assert!(notes.iter().all(|note| note.contains("no apiVersion and kind")), "{notes:?}");
}

fn sample() -> Report {
    let host = json!({ "runtimeClassName": "host", "volumes": [{ "name": "root", "hostPath": { "path": "/" } }] });
    let mut invalid = sandbox("notebook", &json!({ "automountServiceAccountToken": true }));
    invalid["spec"]["idleTimeout"] = "soon".into();
    audited([class("host", "runc"), class("gvisor", "runsc"), pod("worker", &host), invalid], Source::Manifests)
}

/// Compares a text with a file of this folder. `UPDATE=1` writes the file.
fn compare(file: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("commands/audit/tests").join(file);
    let actual = actual.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &actual).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), actual, "{file}: UPDATE=1 writes it");
}

#[test]
fn report_has_its_formats() {
    let report = sample();
    compare("report.txt", &Format::Table.text(&report).unwrap());
    compare("report.json", &Format::Json.text(&report).unwrap());
    compare("report.sarif", &Format::Sarif.text(&report).unwrap());
    let ocsf = Format::Ocsf.text(&report).unwrap();
    let events: Vec<Value> = ocsf.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), report.findings.len());
    for event in events {
        for field in ["activity_id", "category_uid", "class_uid", "type_uid", "time", "severity_id"] {
            assert!(event[field].is_i64(), "{field}: {event}");
        }
        assert_eq!(event["type_uid"], 100 * event["class_uid"].as_i64().unwrap() + 1);
        for field in ["/metadata/version", "/metadata/product/vendor_name", "/finding_info/uid", "/finding_info/title"]
        {
            assert!(event.pointer(field).is_some_and(Value::is_string), "{field}: {event}");
        }
    }
}

#[test]
fn object_of_a_cluster_has_a_logical_location_alone() {
    let mut items = items([pod("worker", &json!({ "hostNetwork": true }))]);
    items[0].place = None;
    let settings = Settings::default();
    let facts = Facts::of(&items, Source::Cluster, DEFAULT_NAMESPACE, &settings);
    let report = super::rules::judge(&items, &facts, None, &settings);
    let log: Value = serde_json::from_str(&Format::Sarif.text(&report).unwrap()).unwrap();
    let location = &log["runs"][0]["results"][0]["locations"][0];
    assert!(location.get("physicalLocation").is_none(), "{location}");
    let name = location["logicalLocations"][0]["fullyQualifiedName"].as_str().unwrap();
    assert!(name.starts_with("Pod default/worker spec."), "{name}");
}

#[test]
fn table_has_no_control_characters() {
    let text =
        Format::Table.text(&audited([pod("a\u{1b}[2J\nb", &json!({ "hostPID": true }))], Source::Cluster)).unwrap();
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn page_lists_the_rules() {
    let page = std::fs::read_to_string(root().join("docs/audit.md")).unwrap();
    for rule in finding::Rule::ALL {
        let row = format!("| `{}` | {} |", rule.id(), rule.level().as_str());
        assert!(page.contains(&row), "docs/audit.md: {row}");
    }
}
