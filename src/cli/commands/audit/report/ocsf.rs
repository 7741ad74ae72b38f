//! The report as compliance findings of the Open Cybersecurity Schema Framework, for data lakes of security events.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::commands::audit::finding::{Finding, Level, Report};

/// The version of the schema.
const VERSION: &str = "1.3.0";
/// The standard whose profile *baseline* the rules about host access enforce.
const STANDARD: &str = "Kubernetes Pod Security Standards";

/// One event on each line.
pub(super) fn lines(report: &Report, now: Timestamp) -> String {
    report.findings.iter().map(|finding| event(finding, now).to_string() + "\n").collect()
}

fn event(finding: &Finding, now: Timestamp) -> Value {
    // The identifiers are those of the schema: category 2 is Findings, class 2003 is Compliance Finding, activity 1 is
    // Create.
    let (severity_id, severity, status_id, status) = match finding.rule.level() {
        Level::Error => (4, "High", 3, "Fail"),
        Level::Warning => (3, "Medium", 2, "Warning"),
    };
    let (rule, object) = (finding.rule.id(), finding.object());
    let message = format!("{object}: {}: {}", finding.field, finding.message);
    json!({
        "activity_id": 1,
        "activity_name": "Create",
        "category_uid": 2,
        "category_name": "Findings",
        "class_uid": 2003,
        "class_name": "Compliance Finding",
        "type_uid": 200_301,
        "time": now.as_millisecond(),
        "severity_id": severity_id,
        "severity": severity,
        "status_id": 1,
        "status": "New",
        "message": message,
        "metadata": {
            "version": VERSION,
            "product": { "name": "paddock audit", "vendor_name": "Paddock", "version": env!("CARGO_PKG_VERSION") },
        },
        "finding_info": {
            "uid": format!("{rule}/{object}/{}", finding.field),
            "title": finding.rule.summary(),
            "desc": message,
        },
        "compliance": { "control": rule, "standards": [STANDARD], "status_id": status_id, "status": status },
        "remediation": { "desc": finding.rule.remedy() },
        "resources": [{ "type": finding.kind, "name": finding.name, "namespace": finding.namespace }],
    })
}
