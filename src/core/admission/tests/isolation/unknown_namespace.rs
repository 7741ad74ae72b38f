//! Isolation in a namespace whose labels are not known.

use super::*;

/// A policy that selects by the name of the namespace needs no other label.
#[test]
fn isolation_in_an_unknown_namespace_is_judged_if_no_policy_depends_on_its_labels() {
    let by_name = |operator: &str, name: &str| {
        let key = "kubernetes.io/metadata.name";
        let selector = json!({ "matchExpressions": [{ "key": key, "operator": operator, "values": [name] }] });
        ("named", json!({ "namespaceSelector": selector, "isolation": { "allow": ["hostPID"] } }))
    };
    let everywhere = ("all", json!({ "isolation": { "allow": ["hostPID"] } }));
    let exposed = json!({ "spec": { "hostPID": true } });
    for (group, resource, kind, field) in WORKLOADS {
        let judged = |marker: Option<&str>, policy: &(&str, Value), missing: Missing| {
            let object = workload(kind, field, exposed.clone(), marker);
            let review = review(entry(resource, marker), Verb::Create, (group, resource), object);
            let review = Review { phase: Phase::Validate, ..review };
            let labels = [("kubernetes.io/metadata.name", "agents"), ("team", "red")];
            // The other label is from before the watch failed.
            let labels = if missing == Missing::FreshLabels { &labels[..] } else { &labels[..1] };
            let policies = [policy.clone()];
            let known = with_policies(&policies, labels);
            let context = Context { missing: Some(missing), ..known };
            let why = decide(&review, &context, gvisor).1.denial.map(|denial| denial.why);
            assert_eq!(awaits_a_fact(&review, &context), why == Some(Why::NotSeen) && missing == Missing::Namespace);
            why
        };
        for missing in [Missing::Namespace, Missing::FreshLabels] {
            let marked = |policy: &(&str, Value)| judged(Some("true"), policy, missing);
            let unclear = marked(&open_to_the_red_team(HostAccess::HostPid));
            assert_eq!(unclear, Some(Why::NotSeen), "{kind} {missing:?}");
            for policy in [by_name("In", "agents"), by_name("NotIn", "lab"), everywhere.clone()] {
                assert_eq!(marked(&policy), None, "{kind} {missing:?} {policy:?}");
            }
            for policy in [by_name("In", "lab"), by_name("NotIn", "agents")] {
                let why = marked(&policy);
                assert!(why.is_some_and(|why| why != Why::NotSeen), "{kind} {missing:?} {policy:?}: {why:?}");
            }
            if resource != "pods" {
                let open = open_to_the_red_team(HostAccess::HostPid);
                assert_eq!(judged(None, &open, missing), None, "{kind} {missing:?} is no generated code");
            }
        }
    }
}

/// A review that judges no pod, or a pod that was judged before, does not wait for the labels of the namespace.
#[test]
fn unknown_namespace_delays_no_review_that_leaves_the_isolation_as_it_was() {
    let policies = [open_to_the_red_team(HostAccess::HostPid)];
    let known = with_policies(&policies, &[("kubernetes.io/metadata.name", "agents")]);
    let unknown = Context { missing: Some(Missing::FreshLabels), ..known };
    let waits = |review: &Review| {
        let denial = decide(review, &unknown, gvisor).1.denial;
        denial.is_some_and(|denial| denial.why == Why::NotSeen)
    };
    let meta = json!({ "name": "a", "labels": { MARKER: "true" } });
    for (resource, kind, spec) in [
        ("sandboxclaims", "SandboxClaim", json!({ "sandboxTemplateRef": { "name": "t" } })),
        ("sandboxwarmpools", "SandboxWarmPool", json!({ "replicas": 1, "sandboxTemplateRef": { "name": "t" } })),
    ] {
        let object = json!({ "kind": kind, "metadata": meta, "spec": spec });
        let created = review(Entry::OwnKinds, Verb::Create, ("extensions.agents.x-k8s.io", resource), object);
        assert!(!waits(&created), "{kind} has no pod");
    }
    for (group, resource, kind, field) in WORKLOADS {
        let object = workload(kind, field, json!({ "spec": { "hostPID": true } }), Some("true"));
        let prefix = if field.is_empty() { "/spec".to_owned() } else { format!("/spec/{field}/spec") };
        let image = format!("{prefix}/containers/0/image");
        for (what, path, before, after, expected) in [
            ("an annotation", "/metadata/annotations", json!({}), json!({ "a": "b" }), false),
            ("another image", &image, json!("image:1"), json!("image:2"), true),
            ("the marker", "/metadata/labels", json!({}), json!({ MARKER: "true" }), true),
        ] {
            let [old, new] = [before, after].map(|value| {
                let change: json_patch::Patch =
                    serde_json::from_value(json!([{ "op": "add", "path": path, "value": value }])).unwrap();
                let mut object = object.clone();
                json_patch::patch(&mut object, &change).unwrap();
                object
            });
            let review = review(entry(resource, Some("true")), Verb::Update, (group, resource), new);
            assert_eq!(waits(&Review { old_object: old, ..review }), expected, "{kind} {field}: {what}");
        }
    }
}
