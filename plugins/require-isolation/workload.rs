//! Finds the pod spec of an object, and the RuntimeClasses that the object names.

use paddock_plugin_sdk::json;
use serde_json::Value;

/// The label that marks a workload as running generated code.
const MARKER: &str = "policy.paddock.dev/generated-code";

/// A place where objects of a kind may have a pod spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PodField {
    /// Pointer to the PodSpec.
    pod: &'static str,
    /// Pointer to the labels of its pods; `None` if they are the labels of the object.
    labels: Option<&'static str>,
    /// A field outside the PodSpec that names the class too. If there is one, the class is set there.
    beside: Option<&'static str>,
}

const fn pod_template(pod: &'static str, labels: &'static str) -> PodField {
    PodField { pod, labels: Some(labels), beside: None }
}

/// The places for a kind. Empty for a kind without a pod spec, and for one that admission does not ask about.
fn pod_fields(group: &str, kind: &str) -> &'static [PodField] {
    const POD: [PodField; 1] = [PodField { pod: "/spec", labels: None, beside: None }];
    const SANDBOX: [PodField; 2] = [
        PodField { pod: "/spec/podTemplate/spec", labels: Some("/spec/podTemplate/metadata/labels"), beside: None },
        PodField {
            pod: "/spec/template/spec",
            labels: Some("/spec/template/metadata/labels"),
            beside: Some("/spec/runtimeClassName"),
        },
    ];
    const SANDBOX_TEMPLATE: [PodField; 2] = [
        pod_template("/spec/podTemplate/spec", "/spec/podTemplate/metadata/labels"),
        pod_template("/spec/template/spec", "/spec/template/metadata/labels"),
    ];
    match (group, kind) {
        ("", "Pod") => &POD,
        ("agents.x-k8s.io", "Sandbox") => &SANDBOX,
        ("agents.x-k8s.io" | "extensions.agents.x-k8s.io", "SandboxTemplate") => &SANDBOX_TEMPLATE,
        _ => &[],
    }
}

/// The pod that an object is or describes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Workload<'a> {
    /// The PodSpec.
    pub(crate) pod: &'a Value,
    /// The fields that name a class, each with the class.
    pub(crate) named: Vec<(&'static str, &'a str)>,
    /// Pointer to the field where a class is set. Its parent exists.
    pub(crate) settable: String,
    /// Whether the object or its pod template has the marker.
    pub(crate) marked: bool,
}

impl<'a> Workload<'a> {
    /// Reads an object; `None` if it has no pod spec.
    pub(crate) fn read(group: &str, kind: &str, object: &'a Value) -> Option<Self> {
        let found = |field: &&PodField| object.pointer(field.pod).is_some_and(Value::is_object);
        let fields = pod_fields(group, kind);
        let place = fields.iter().find(found)?;
        let pod = object.pointer(place.pod)?;
        // The field outside the PodSpec counts with either shape, since the API accepts it with both.
        let beside = fields.iter().filter_map(|field| field.beside);
        let beside = beside.filter_map(|field| Some((field, json::text(object, field)?)));
        let within = json::text(pod, "/runtimeClassName").map(|class| (place.pod, class));
        let marked = |labels: &str| object.pointer(labels).and_then(|l| l.get(MARKER)).is_some_and(|v| v == "true");
        Some(Self {
            pod,
            named: beside.chain(within).collect(),
            settable: place.beside.map_or_else(|| format!("{}/runtimeClassName", place.pod), String::from),
            marked: marked("/metadata/labels") || place.labels.is_some_and(marked),
        })
    }
}

/// The path of a field in messages: `spec.template.spec.runtimeClassName`.
pub(crate) fn field(pointer: &str) -> String {
    let path = pointer.trim_start_matches('/').replace('/', ".");
    if path.ends_with("runtimeClassName") { path } else { format!("{path}.runtimeClassName") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pod_spec_is_found_in_every_kind_that_has_one() {
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
    fn pod_spec_of_other_kinds_and_groups_is_ignored() {
        let object = json!({"spec": {"template": {"spec": {}}}});
        for (group, kind) in [("agents.x-k8s.io", "SandboxClaim"), ("apps", "Deployment"), ("apps", "Pod")] {
            assert_eq!(Workload::read(group, kind, &object), None, "{group}/{kind}");
        }
    }

    #[test]
    fn sandbox_may_name_its_class_in_two_fields() {
        let object = json!({"spec": {"runtimeClassName": "a", "podTemplate": {"spec": {"runtimeClassName": "b"}}}});
        let workload = Workload::read("agents.x-k8s.io", "Sandbox", &object).unwrap();
        assert_eq!(workload.named, [("/spec/runtimeClassName", "a"), ("/spec/podTemplate/spec", "b")]);
        let fields: Vec<_> = workload.named.iter().map(|(pointer, _)| field(pointer)).collect();
        assert_eq!(fields, ["spec.runtimeClassName", "spec.podTemplate.spec.runtimeClassName"]);
    }

    #[test]
    fn marker_is_found_on_the_object_and_on_its_pod_template() {
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
