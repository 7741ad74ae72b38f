//! Where a kind has its pods, and which RuntimeClasses an object names.

use paddock_plugin_sdk::json;
use serde_json::Value;

/// The label with which a workload is marked as running generated code.
const MARKER: &str = "policy.paddock.dev/generated-code";

/// A place where a kind may have the spec of its pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    /// Pointer to the PodSpec.
    pod: &'static str,
    /// Pointer to the labels that its pods get, where they are not the object's own.
    labels: Option<&'static str>,
    /// A field beside the PodSpec that names the class too, and is where a class is set.
    beside: Option<&'static str>,
}

const fn shape(pod: &'static str, labels: &'static str) -> Shape {
    Shape { pod, labels: Some(labels), beside: None }
}

/// Every shape that a kind can have; empty for kinds that the webhook does not send here, or that have no pod in them.
fn shapes(group: &str, kind: &str) -> &'static [Shape] {
    const POD: [Shape; 1] = [Shape { pod: "/spec", labels: None, beside: None }];
    const SANDBOX: [Shape; 2] = [
        Shape { pod: "/spec/podTemplate/spec", labels: Some("/spec/podTemplate/metadata/labels"), beside: None },
        Shape {
            pod: "/spec/template/spec",
            labels: Some("/spec/template/metadata/labels"),
            beside: Some("/spec/runtimeClassName"),
        },
    ];
    const SANDBOX_TEMPLATE: [Shape; 2] = [
        shape("/spec/podTemplate/spec", "/spec/podTemplate/metadata/labels"),
        shape("/spec/template/spec", "/spec/template/metadata/labels"),
    ];
    match (group, kind) {
        ("", "Pod") => &POD,
        ("agents.x-k8s.io", "Sandbox") => &SANDBOX,
        ("agents.x-k8s.io" | "extensions.agents.x-k8s.io", "SandboxTemplate") => &SANDBOX_TEMPLATE,
        _ => &[],
    }
}

/// What an object says about the pods that it is, or makes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Workload<'a> {
    /// The PodSpec.
    pub(crate) pod: &'a Value,
    /// Fields that name a class, with the class.
    pub(crate) named: Vec<(&'static str, &'a str)>,
    /// Where to write a class: pointer to a field whose parent exists.
    pub(crate) settable: String,
    /// Whether the object or its pods carry the marker themselves.
    pub(crate) marked: bool,
}

impl<'a> Workload<'a> {
    /// Reads an object; `None` when its kind makes no pods of its own, or it has no PodSpec.
    pub(crate) fn read(group: &str, kind: &str, object: &'a Value) -> Option<Self> {
        let found = |shape: &&Shape| object.pointer(shape.pod).is_some_and(Value::is_object);
        let shapes = shapes(group, kind);
        let shape = shapes.iter().find(found)?;
        let pod = object.pointer(shape.pod)?;
        // The field beside counts for either shape: nothing hinders its use with the other one.
        let beside = shapes.iter().filter_map(|shape| shape.beside);
        let beside = beside.filter_map(|field| Some((field, json::text(object, field)?)));
        let within = json::text(pod, "/runtimeClassName").map(|class| (shape.pod, class));
        let marked = |labels: &str| object.pointer(labels).and_then(|l| l.get(MARKER)).is_some_and(|v| v == "true");
        Some(Self {
            pod,
            named: beside.chain(within).collect(),
            settable: shape.beside.map_or_else(|| format!("{}/runtimeClassName", shape.pod), String::from),
            marked: marked("/metadata/labels") || shape.labels.is_some_and(marked),
        })
    }
}

/// A pointer as people write the field: `spec.template.spec.runtimeClassName`.
pub(crate) fn field(pointer: &str) -> String {
    let path = pointer.trim_start_matches('/').replace('/', ".");
    if path.ends_with("runtimeClassName") { path } else { format!("{path}.runtimeClassName") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_kind_that_is_sent_is_read() {
        let pod = json!({"containers": [], "runtimeClassName": "x"});
        for (group, kind, object, settable) in [
            ("", "Pod", json!({"spec": pod}), "/spec/runtimeClassName"),
            (
                "agents.x-k8s.io",
                "Sandbox",
                json!({"spec": {"podTemplate": {"spec": pod}}}),
                "/spec/podTemplate/spec/runtimeClassName",
            ),
            ("agents.x-k8s.io", "Sandbox", json!({"spec": {"template": {"spec": pod}}}), "/spec/runtimeClassName"),
            (
                "agents.x-k8s.io",
                "SandboxTemplate",
                json!({"spec": {"template": {"spec": pod}}}),
                "/spec/template/spec/runtimeClassName",
            ),
            (
                "extensions.agents.x-k8s.io",
                "SandboxTemplate",
                json!({"spec": {"podTemplate": {"spec": pod}}}),
                "/spec/podTemplate/spec/runtimeClassName",
            ),
        ] {
            let workload = Workload::read(group, kind, &object).unwrap_or_else(|| panic!("{kind}"));
            assert_eq!(workload.settable, settable, "{kind}");
            assert_eq!(workload.named.len(), 1, "{kind}");
        }
    }

    #[test]
    fn other_kinds_and_other_groups_make_no_pods_here() {
        let object = json!({"spec": {"template": {"spec": {}}}});
        for (group, kind) in [("agents.x-k8s.io", "SandboxClaim"), ("apps", "Deployment"), ("apps", "Pod")] {
            assert_eq!(Workload::read(group, kind, &object), None, "{group}/{kind}");
        }
    }

    #[test]
    fn a_sandbox_may_name_its_class_in_two_places() {
        let object = json!({"spec": {"runtimeClassName": "a", "podTemplate": {"spec": {"runtimeClassName": "b"}}}});
        let workload = Workload::read("agents.x-k8s.io", "Sandbox", &object).unwrap();
        assert_eq!(workload.named, [("/spec/runtimeClassName", "a"), ("/spec/podTemplate/spec", "b")]);
        let fields: Vec<_> = workload.named.iter().map(|(pointer, _)| field(pointer)).collect();
        assert_eq!(fields, ["spec.runtimeClassName", "spec.podTemplate.spec.runtimeClassName"]);
    }

    #[test]
    fn the_marker_is_seen_on_the_object_and_on_its_pods() {
        let labels = json!({"labels": {"policy.paddock.dev/generated-code": "true"}});
        for (object, marked) in [
            (json!({"spec": {"template": {"spec": {}}}}), false),
            (json!({"metadata": labels, "spec": {"template": {"spec": {}}}}), true),
            (json!({"spec": {"template": {"metadata": labels, "spec": {}}}}), true),
            (
                json!({"metadata": {"labels": {"policy.paddock.dev/generated-code": "false"}}, "spec": {"template": {"spec": {}}}}),
                false,
            ),
        ] {
            assert_eq!(
                Workload::read("agents.x-k8s.io", "SandboxTemplate", &object).unwrap().marked,
                marked,
                "{object}"
            );
        }
    }
}
