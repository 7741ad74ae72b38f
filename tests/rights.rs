//! The operator's rights in `deploy/`, beside what its plans write: nothing planned is forbidden, and nothing is granted
//! that no scenario needs. Read from the files, not from the code that made either.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde::Deserialize as _;
use serde_json::Value;

use crate::framework::{Outcome, Test, test};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("rights::every_planned_write_is_granted", granted),
        test("rights::every_granted_write_is_planned_somewhere", planned_somewhere),
    ]
}

/// A write: verb, API group, resource with its subresource.
type Write = (String, String, String);

/// The kinds as plans call them.
const KINDS: [(&str, &str, &str); 12] = [
    ("Sandbox", "agents.x-k8s.io", "sandboxes"),
    ("Template", "extensions.agents.x-k8s.io", "sandboxtemplates"),
    ("Pool", "extensions.agents.x-k8s.io", "sandboxwarmpools"),
    ("Claim", "extensions.agents.x-k8s.io", "sandboxclaims"),
    ("SeedTemplate", "agents.x-k8s.io", "sandboxtemplates"),
    ("SeedPool", "agents.x-k8s.io", "sandboxwarmpools"),
    ("SeedClaim", "agents.x-k8s.io", "sandboxclaims"),
    ("Pod", "", "pods"),
    ("Service", "", "services"),
    ("VolumeClaim", "", "persistentvolumeclaims"),
    ("NetworkPolicy", "networking.k8s.io", "networkpolicies"),
    ("EndpointSlice", "discovery.k8s.io", "endpointslices"),
];

fn granted() -> Outcome {
    let (planned, granted) = (planned()?, rights()?);
    let missing: Vec<_> = planned.difference(&granted).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("planned and not granted: {missing:?}").into()) }
}

fn planned_somewhere() -> Outcome {
    let (planned, granted) = (planned()?, rights()?);
    let unused: Vec<_> = granted.difference(&planned).collect();
    if unused.is_empty() { Ok(()) } else { Err(format!("granted, and in no scenario's plan: {unused:?}").into()) }
}

/// What the plans of all scenarios write.
fn planned() -> Result<BTreeSet<Write>, Box<dyn std::error::Error>> {
    let mut writes = BTreeSet::new();
    for folder in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios"))? {
        let folder = folder?.path();
        if !folder.is_dir() {
            continue;
        }
        for file in fs::read_dir(folder)? {
            let file = file?.path();
            if file.extension().is_some_and(|e| e == "plan") {
                writes.extend(fs::read_to_string(file)?.lines().filter_map(write));
            }
        }
    }
    if writes.is_empty() { Err("no scenario plans anything".into()) } else { Ok(writes) }
}

/// `create Pod/agents/a because PodMissing`, as plans are written.
fn write(line: &str) -> Option<Write> {
    let (verb, subresource, rest) = if let Some(rest) = line.strip_prefix("patch status of ") {
        ("patch", "/status", rest)
    } else {
        let (verb, rest) = line.split_once(' ')?;
        (["create", "patch", "delete"].contains(&verb).then_some(verb)?, "", rest)
    };
    let kind = rest.split('/').next()?;
    let (_, group, plural) = KINDS.iter().find(|(name, ..)| *name == kind)?;
    Some((verb.to_owned(), (*group).to_owned(), format!("{plural}{subresource}")))
}

/// What the operator's ClusterRole lets it write of these kinds.
fn rights() -> Result<BTreeSet<Write>, Box<dyn std::error::Error>> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/base/rbac.yaml"))?;
    let documents: Vec<Value> =
        serde_yaml_ng::Deserializer::from_str(&text).map(Value::deserialize).collect::<Result<_, _>>()?;
    let role = documents
        .iter()
        .find(|d| d["kind"] == "ClusterRole" && d["metadata"]["name"] == "agent-sandbox-controller")
        .ok_or("no ClusterRole")?;
    let texts = |rule: &Value, field: &str| -> Vec<String> {
        let list = rule[field].as_array().cloned().unwrap_or_default();
        list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()
    };
    let mut writes = BTreeSet::new();
    for rule in role["rules"].as_array().ok_or("no rules")? {
        for group in texts(rule, "apiGroups") {
            for resource in texts(rule, "resources") {
                let plural = resource.split('/').next().unwrap_or_default();
                let ours = KINDS.iter().any(|(_, g, p)| *g == group && *p == plural);
                // The right to name an owner: nothing is ever written there.
                if !ours || resource.ends_with("/finalizers") {
                    continue;
                }
                let verbs = texts(rule, "verbs").into_iter().filter(|v| v != "list" && v != "watch");
                writes.extend(verbs.map(|verb| (verb, group.clone(), resource.clone())));
            }
        }
    }
    Ok(writes)
}
