//! Compares the operator's rights in `deploy/` with the writes of its plans. No planned write is forbidden, and no
//! right is granted that no scenario needs. The check reads the files and not the code that generated them.

use std::collections::BTreeSet;

use anyhow::Result;
use serde::Deserialize as _;
use serde_json::Value;

use crate::project::Project;
use crate::tree::Tree;

/// A write: the verb, the API group, and the resource with its subresource.
type Write = (String, String, String);

/// The kinds under their names in plans.
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

pub(super) fn granted(project: &Project) -> Result<Vec<String>> {
    let (planned, granted) = (writes(&project.tree)?, rights(&project.tree)?);
    Ok(planned.difference(&granted).map(|write| format!("planned and not granted: {write:?}")).collect())
}

pub(super) fn planned(project: &Project) -> Result<Vec<String>> {
    let (planned, granted) = (writes(&project.tree)?, rights(&project.tree)?);
    Ok(granted.difference(&planned).map(|write| format!("granted, and in no scenario's plan: {write:?}")).collect())
}

/// The writes in the plans of all scenarios.
fn writes(tree: &Tree) -> Result<BTreeSet<Write>> {
    let plans = tree.below("tests/scenarios").filter(|(path, _)| path.ends_with(".plan"));
    let writes: BTreeSet<Write> = plans.flat_map(|(_, text)| text.lines().flat_map(write)).collect();
    anyhow::ensure!(!writes.is_empty(), "no scenario plans anything");
    Ok(writes)
}

/// The requests for a line such as `create Pod/agents/a because PodMissing`. Only Sandboxes adopt, and the operator reads
/// the Sandbox first.
fn write(line: &str) -> Vec<Write> {
    let owner = ("get".to_owned(), "agents.x-k8s.io".to_owned(), "sandboxes".to_owned());
    match line.strip_prefix("adopt ") {
        Some(rest) => parse(&format!("patch {rest}")).into_iter().chain([owner]).collect(),
        None => parse(line).into_iter().collect(),
    }
}

fn parse(line: &str) -> Option<Write> {
    let (verb, subresource, rest) = if let Some(rest) = line.strip_prefix("patch status of ") {
        ("patch", "/status", rest)
    } else if let Some(rest) = line.strip_prefix("resize ") {
        ("patch", "/resize", rest)
    } else {
        let (verb, rest) = line.split_once(' ')?;
        (["create", "patch", "delete"].contains(&verb).then_some(verb)?, "", rest)
    };
    let kind = rest.split('/').next()?;
    let (_, group, plural) = KINDS.iter().find(|(name, ..)| *name == kind)?;
    Some((verb.to_owned(), (*group).to_owned(), format!("{plural}{subresource}")))
}

/// The writes of these kinds that the operator's ClusterRoles allow together.
fn rights(tree: &Tree) -> Result<BTreeSet<Write>> {
    // Some rights are in an overlay.
    let files = [tree.required("deploy/base/rbac.yaml")?, tree.required("deploy/overlays/throttle/rbac.yaml")?];
    let documents = files.into_iter().flat_map(serde_yaml_ng::Deserializer::from_str);
    let documents: Vec<Value> = documents.map(Value::deserialize).collect::<Result<_, _>>()?;
    let ours =
        |role: &Value| role["metadata"]["name"].as_str().is_some_and(|n| n.starts_with("agent-sandbox-controller"));
    let roles = documents.iter().filter(|d| d["kind"] == "ClusterRole" && ours(d));
    let rules = roles.flat_map(|role| role["rules"].as_array().cloned().unwrap_or_default()).collect::<Vec<_>>();
    anyhow::ensure!(!rules.is_empty(), "no ClusterRole of the operator has a rule");
    let texts = |rule: &Value, field: &str| -> Vec<String> {
        let list = rule[field].as_array().cloned().unwrap_or_default();
        list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()
    };
    let mut writes = BTreeSet::new();
    for rule in &rules {
        for group in texts(rule, "apiGroups") {
            for resource in texts(rule, "resources") {
                let plural = resource.split('/').next().unwrap_or_default();
                let ours = KINDS.iter().any(|(_, g, p)| *g == group && *p == plural);
                // The right to name an owner. Nothing is ever written to this subresource.
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

#[cfg(test)]
mod tests {
    use super::*;

    const ROLE: &str = "kind: ClusterRole
metadata: { name: agent-sandbox-controller }
rules:
- { apiGroups: [''], resources: [pods], verbs: [list, watch, create, patch] }
- { apiGroups: [agents.x-k8s.io], resources: [sandboxes/finalizers], verbs: [update] }
";

    const RESIZE: &str = "kind: ClusterRole
metadata: { name: agent-sandbox-controller-throttle }
rules:
- { apiGroups: [''], resources: [pods/resize], verbs: [patch] }
";

    fn project(plan: &str) -> Project {
        let files = [
            ("tests/scenarios/a/b.plan", plan),
            ("deploy/base/rbac.yaml", ROLE),
            ("deploy/overlays/throttle/rbac.yaml", RESIZE),
        ];
        Project::new(files.into_iter().collect(), Vec::new()).unwrap()
    }

    #[test]
    fn a_write_without_the_right_and_a_right_without_a_write_are_found() {
        let good = project(
            "create Pod/agents/a because PodMissing\npatch Pod/agents/a because X\nresize Pod/agents/a because X\n",
        );
        assert!(granted(&good).unwrap().is_empty() && planned(&good).unwrap().is_empty());
        let bad = project("create Pod/agents/a because PodMissing\npatch status of Sandbox/agents/a because X\n");
        assert_eq!((granted(&bad).unwrap().len(), planned(&bad).unwrap().len()), (1, 2));
    }
}
