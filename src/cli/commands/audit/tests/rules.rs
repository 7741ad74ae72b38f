//! Each rule, for each kind that it applies to.

use paddock_core::isolation::{HostAccess, POD_KINDS};

use super::*;

const ISOLATION: &str = "policy.paddock.dev/isolation";

/// A workload of each kind with this PodSpec, and the path of the PodSpec. The pods have the marker if they are `marked`.
fn workloads(spec: &Value, marked: bool) -> Vec<(Value, String)> {
    let labels = if marked { json!({ MARKER: "true" }) } else { json!({}) };
    let template = json!({ "metadata": { "labels": labels }, "spec": spec });
    let object = |version: &str, kind: &str| json!({ "apiVersion": version, "kind": kind, "metadata": { "name": "worker" }, "spec": {} });
    let mut all = Vec::new();
    for kind in &POD_KINDS {
        let version = if kind.group.is_empty() { "v1".to_owned() } else { format!("{}/v1", kind.group) };
        let mut made = object(&version, kind.kind);
        let path = if kind.template.is_empty() {
            made["metadata"]["labels"] = labels.clone();
            made["spec"] = spec.clone();
            "spec".to_owned()
        } else {
            let place = kind.template.split('.').fold(&mut made, |at, field| &mut at[field]);
            *place = template.clone();
            format!("{}.spec", kind.template)
        };
        all.push((made, path));
    }
    let (seed, upstream) = ("agents.x-k8s.io/v1alpha1", "extensions.agents.x-k8s.io/v1beta1");
    for (version, kind, field) in [
        ("agents.x-k8s.io/v1beta1", "Sandbox", "podTemplate"),
        ("agents.x-k8s.io/v1alpha1", "Sandbox", "template"),
        (seed, "SandboxTemplate", "template"),
        (seed, "SandboxWarmPool", "template"),
        (seed, "SandboxClaim", "template"),
        (upstream, "SandboxTemplate", "podTemplate"),
        (upstream, "SandboxWarmPool", "podTemplate"),
        (upstream, "SandboxClaim", "podTemplate"),
    ] {
        let mut made = object(version, kind);
        made["spec"][field] = template.clone();
        all.push((made, format!("spec.{field}.spec")));
    }
    all
}

/// For each way to the host, the fields of a PodSpec that give it, and the end of the path of the field.
fn host_access() -> Vec<(HostAccess, Value, &'static str)> {
    use HostAccess as A;
    let container = |with: Value| {
        let mut container = json!({ "name": "main", "image": "busybox" });
        container.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        json!({ "containers": [container] })
    };
    let context = |with: Value| container(json!({ "securityContext": with }));
    vec![
        (A::HostPath, json!({ "volumes": [{ "name": "v", "hostPath": { "path": "/" } }] }), ".volumes[0].hostPath"),
        (A::HostNetwork, json!({ "hostNetwork": true }), ".hostNetwork"),
        (A::HostPid, json!({ "hostPID": true }), ".hostPID"),
        (A::HostIpc, json!({ "hostIPC": true }), ".hostIPC"),
        (A::HostPort, container(json!({ "ports": [{ "containerPort": 1, "hostPort": 1 }] })), ".ports[0].hostPort"),
        (A::Privileged, context(json!({ "privileged": true })), ".privileged"),
        (A::Capabilities, context(json!({ "capabilities": { "add": ["SYS_ADMIN"] } })), ".capabilities.add[0]"),
        (A::ProcMount, context(json!({ "procMount": "Unmasked" })), ".procMount"),
        (
            A::Sysctls,
            json!({ "securityContext": { "sysctls": [{ "name": "kernel.msgmax", "value": "1" }] } }),
            ".sysctls[0].name",
        ),
        (A::SeccompProfile, context(json!({ "seccompProfile": { "type": "Unconfined" } })), ".seccompProfile.type"),
        (A::AppArmorProfile, context(json!({ "appArmorProfile": { "type": "Unconfined" } })), ".appArmorProfile.type"),
        (A::SeLinuxOptions, context(json!({ "seLinuxOptions": { "user": "root" } })), ".seLinuxOptions.user"),
        (A::HostProcess, context(json!({ "windowsOptions": { "hostProcess": true } })), ".hostProcess"),
        (
            A::VolumeDevices,
            container(json!({ "volumeDevices": [{ "name": "v", "devicePath": "/d" }] })),
            ".volumeDevices",
        ),
        (
            A::ProbeHost,
            container(json!({ "livenessProbe": { "httpGet": { "port": 1, "host": "10.0.0.1" } } })),
            ".livenessProbe.httpGet.host",
        ),
    ]
}

/// The findings about isolation, without those about what the parser says.
fn isolation(report: &Report) -> Vec<(&'static str, &str)> {
    found(report).into_iter().filter(|(rule, _)| *rule != "invalid-object").collect()
}

#[test]
fn access_to_the_host_is_an_error_of_generated_code_in_every_kind() {
    let ways = host_access();
    assert_eq!(ways.iter().map(|(way, ..)| *way).collect::<Vec<_>>(), HostAccess::ALL);
    for (way, with, end) in ways {
        for (workload, path) in workloads(&spec(&with), true) {
            let report = audited([class("gvisor", "runsc"), workload.clone()], Source::Manifests);
            let found = isolation(&report);
            let [(rule, field)] = found[..] else { panic!("{way:?} {workload}: {found:?}") };
            assert!(rule == "host-access" && field.starts_with(&path) && field.ends_with(end), "{workload}: {field}");
            let settings = Settings { isolation_allow: [way].into_iter().collect(), ..Settings::default() };
            let items = items([class("gvisor", "runsc"), workload]);
            let facts = Facts::of(&items, Source::Manifests, DEFAULT_NAMESPACE, &settings);
            assert_eq!(
                isolation(&super::super::rules::judge(&items, &facts, None, &settings)),
                [],
                "{way:?} is allowed"
            );
        }
        for (workload, _) in workloads(&spec(&with), false) {
            let report = audited([class("gvisor", "runsc"), workload.clone()], Source::Manifests);
            assert!(isolation(&report).is_empty(), "{way:?}, not marked: {workload}");
        }
    }
}

#[test]
fn policies_allow_fields_and_limit_classes_in_the_namespaces_that_they_select() {
    let policy = |selector: Value| {
        json!({
            "apiVersion": "policy.paddock.dev/v1alpha1", "kind": "SandboxPolicy", "metadata": { "name": "open" },
            "spec": { "namespaceSelector": selector, "isolation": { "allow": ["hostPID"], "runtimeClasses": ["gvisor"] } },
        })
    };
    let by_name = policy(json!({ "matchLabels": { "kubernetes.io/metadata.name": "default" } }));
    let by_team = policy(json!({ "matchLabels": { "team": "red" } }));
    let namespace = |team: &str| {
        let metadata = json!({ "name": "default", "labels": { "team": team } });
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata })
    };
    let (access, class_of) = ("host-access", "runtime-class");
    for (objects, name, expected) in [
        (vec![], "gvisor", &[access][..]),
        (vec![by_name.clone()], "gvisor", &[]),
        (vec![by_name], "kata", &[class_of]),
        // The labels of the namespace are not known, so the policy allows nothing and limits.
        (vec![by_team.clone()], "gvisor", &[access]),
        (vec![by_team.clone()], "kata", &[access, class_of]),
        (vec![by_team.clone(), namespace("red")], "gvisor", &[]),
        (vec![by_team.clone(), namespace("red")], "later", &[class_of]),
        (vec![by_team, namespace("blue")], "kata", &[access]),
    ] {
        for (workload, _) in workloads(&spec(&json!({ "runtimeClassName": name, "hostPID": true })), true) {
            let known = [class("gvisor", "runsc"), class("kata", "kata")];
            let report = audited(known.into_iter().chain(objects.clone()).chain([workload.clone()]), Source::Manifests);
            let mut rules: Vec<&str> = isolation(&report).into_iter().map(|(rule, _)| rule).collect();
            rules.sort_unstable();
            assert_eq!(rules, expected, "{name} {objects:?} {workload}");
        }
    }
}

#[test]
fn generated_code_needs_a_runtime_class_that_isolates() {
    let gvisor = || class("gvisor", "runsc");
    for (classes, name, source, of_pods, of_own) in [
        (vec![gvisor()], "gvisor", Source::Manifests, None, None),
        (vec![class("gvisor", "kata-qemu")], "gvisor", Source::Cluster, None, None),
        (vec![class("gvisor", "runc")], "gvisor", Source::Manifests, Some("runtime-class"), Some("runtime-class")),
        (vec![class("gvisor", "runsc2")], "gvisor", Source::Cluster, Some("runtime-class"), Some("runtime-class")),
        // A name says nothing about the handler.
        (vec![], "gvisor", Source::Manifests, Some("unknown-runtime-class"), Some("unknown-runtime-class")),
        (vec![gvisor()], "kata", Source::Cluster, Some("runtime-class"), Some("unknown-runtime-class")),
        // The operator chooses a class for a Sandbox without one.
        (vec![], "", Source::Manifests, Some("runtime-class"), None),
        (vec![gvisor()], "", Source::Cluster, Some("runtime-class"), None),
        (vec![class("host", "runc")], "", Source::Manifests, Some("runtime-class"), Some("runtime-class")),
        (vec![], "", Source::Cluster, Some("runtime-class"), Some("runtime-class")),
    ] {
        for (workload, path) in workloads(&spec(&json!({ "runtimeClassName": name })), true) {
            let report = audited(classes.iter().cloned().chain([workload.clone()]), source);
            let own = workload["apiVersion"].as_str().unwrap().contains("agents");
            let field = format!("{path}.runtimeClassName");
            let expected: Vec<_> =
                (if own { of_own } else { of_pods }).map(|rule| (rule, field.as_str())).into_iter().collect();
            assert_eq!(isolation(&report), expected, "{name:?} {source:?} {workload}");
        }
    }
}

#[test]
fn a_class_beside_the_pod_template_counts() {
    let mut sandbox = sandbox("a", &json!({ "runtimeClassName": null }));
    sandbox["metadata"]["labels"] = json!({ MARKER: "true" });
    sandbox["spec"]["runtimeClassName"] = "host".into();
    let report = audited([class("gvisor", "runsc"), class("host", "runc"), sandbox], Source::Manifests);
    assert_eq!(found(&report), [("runtime-class", "spec.runtimeClassName")]);
}

#[test]
fn marker_counts_at_each_place_and_a_namespace_can_take_its_place() {
    let namespace = |value: &str| json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "default", "labels": { ISOLATION: value } } });
    let host = spec(&json!({ "hostPID": true }));
    for (value, errors) in [("required", 1), ("other", 1), ("none", 0)] {
        for (workload, _) in workloads(&host, false) {
            let report = audited([class("gvisor", "runsc"), namespace(value), workload.clone()], Source::Manifests);
            assert_eq!(isolation(&report).len(), errors, "{value} {workload}");
        }
    }
    for (mut workload, path) in workloads(&host, false) {
        workload["metadata"]["labels"] = json!({ MARKER: "true" });
        let report = audited([class("gvisor", "runsc"), workload], Source::Manifests);
        assert_eq!(isolation(&report), [("host-access", format!("{path}.hostPID").as_str())]);
    }
}

#[test]
fn marker_that_is_not_clear_is_reported_and_counts() {
    for (mut workload, path) in workloads(&spec(&json!({ "hostPID": true })), true) {
        let labels = path.strip_suffix("spec").unwrap().replace('.', "/");
        *workload.pointer_mut(&format!("/{labels}metadata/labels")).unwrap() = json!({ MARKER: "yes" });
        let report = audited([class("gvisor", "runsc"), workload], Source::Manifests);
        let marker = format!("{}metadata.labels[{MARKER}]", path.strip_suffix("spec").unwrap());
        let access = format!("{path}.hostPID");
        assert_eq!(isolation(&report), [("host-access", access.as_str()), ("invalid-marker", marker.as_str())]);
    }
}

#[test]
fn token_is_a_warning_unless_nobody_mounts_it() {
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "quiet" },
        "automountServiceAccountToken": false,
    });
    for (flag, name, of_pods, of_own) in [
        (json!(false), "default", 0, 0),
        (json!(true), "quiet", 1, 1),
        (json!("no"), "quiet", 1, 1),
        (Value::Null, "default", 1, 0),
        (Value::Null, "quiet", 0, 0),
    ] {
        for (workload, path) in
            workloads(&spec(&json!({ "automountServiceAccountToken": flag, "serviceAccountName": name })), true)
        {
            let own = workload["apiVersion"].as_str().unwrap().contains("agents");
            let report = audited([class("gvisor", "runsc"), account.clone(), workload.clone()], Source::Manifests);
            let field = format!("{path}.automountServiceAccountToken");
            let expected = vec![("service-account-token", field.as_str()); if own { of_own } else { of_pods }];
            assert_eq!(isolation(&report), expected, "{workload}");
        }
    }
}

fn volume(claim: &str, read_only: bool) -> Value {
    let source = json!({ "claimName": claim, "readOnly": read_only });
    json!({ "volumes": [{ "name": "data", "persistentVolumeClaim": source }] })
}

#[test]
fn volume_that_several_sandboxes_can_write_to_is_shared() {
    let claim = |mode: &str| {
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "data" },
            "spec": { "accessModes": [mode] },
        })
    };
    let template = |read_only| {
        json!({
            "apiVersion": "extensions.agents.x-k8s.io/v1beta1", "kind": "SandboxTemplate", "metadata": { "name": "t" },
            "spec": { "podTemplate": { "spec": spec(&volume("data", read_only)) } },
        })
    };
    let mut elsewhere = sandbox("b", &volume("data", false));
    elsewhere["metadata"]["namespace"] = "other".into();
    let mut own_pod = pod("a", &volume("data", false));
    own_pod["metadata"]["ownerReferences"] = json!([{ "kind": "Sandbox", "name": "a", "controller": true }]);
    let (a, b) =
        (|read_only| sandbox("a", &volume("data", read_only)), |read_only| sandbox("b", &volume("data", read_only)));
    for (objects, shared) in [
        (vec![a(false)], 0),
        (vec![a(false), b(false)], 2),
        (vec![a(false), b(true)], 2),
        (vec![a(true), b(true)], 0),
        (vec![a(false), elsewhere], 0),
        (vec![a(false), own_pod], 0),
        (vec![a(false), pod("p", &volume("data", false))], 2),
        (vec![a(false), claim("ReadWriteOnce")], 0),
        (vec![a(false), claim("ReadWriteMany")], 1),
        (vec![a(true), claim("ReadWriteMany")], 0),
        (vec![template(false)], 1),
        (vec![template(true)], 0),
    ] {
        let report = audited(objects.iter().cloned().chain([class("gvisor", "runsc")]), Source::Manifests);
        let field = "claimName";
        let found = found(&report);
        assert!(found.iter().all(|(rule, at)| *rule == "shared-volume" && at.ends_with(field)), "{found:?}");
        assert_eq!(found.len(), shared, "{objects:?}");
    }
}

#[test]
fn claim_templates_must_not_be_written_by_many() {
    let modes =
        json!({ "spec": { "accessModes": ["ReadWriteMany"], "resources": { "requests": { "storage": "1Gi" } } } });
    let mut by_template = sandbox("a", &json!({}));
    let mut named = modes.clone();
    named["metadata"] = json!({ "name": "data" });
    by_template["spec"]["volumeClaimTemplates"] = json!([named]);
    let ephemeral = json!({ "volumes": [{ "name": "v", "ephemeral": { "volumeClaimTemplate": modes } }] });
    let report = audited([by_template, sandbox("b", &ephemeral)], Source::Manifests);
    assert_eq!(
        found(&report),
        [
            ("shared-volume", "spec.volumeClaimTemplates[0].spec.accessModes"),
            ("shared-volume", "spec.podTemplate.spec.volumes[0].ephemeral.volumeClaimTemplate.spec.accessModes"),
        ]
    );
}

#[test]
fn invalid_object_is_reported_with_its_field() {
    let mut timeout = sandbox("a", &json!({}));
    timeout["spec"]["idleTimeout"] = "soon".into();
    let mut schema = sandbox("b", &json!({}));
    schema["spec"]["podTemplate"]["spec"]["containers"][0]["name"] = 7.into();
    let report = audited([timeout, schema], Source::Manifests);
    assert_eq!(
        found(&report),
        [("invalid-object", "spec.idleTimeout"), ("invalid-object", "spec.podTemplate.spec.containers[0].name")]
    );
}

#[test]
fn copies_and_ended_pods_are_left_out() {
    let host = json!({ "hostPID": true });
    let template = json!({ "metadata": { "labels": { MARKER: "true" } }, "spec": spec(&host) });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d" }, "spec": { "template": template },
    });
    let copy = |owner: &str| {
        let owners = json!([{ "kind": "Deployment", "name": owner, "controller": true }]);
        json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": { "name": "d-1", "ownerReferences": owners },
            "spec": { "template": template },
        })
    };
    let mut ended = pod("ended", &host);
    ended["status"] = json!({ "phase": "Succeeded" });
    let count = |objects: Vec<Value>| audited(objects, Source::Manifests).workloads;
    assert_eq!(count(vec![deployment.clone(), copy("d"), ended, pod("running", &host)]), 2);
    assert_eq!(count(vec![deployment, copy("other")]), 2, "a controller that is not there hides nothing");
}

#[test]
fn other_namespaces_are_left_out() {
    let mut elsewhere = pod("b", &json!({ "hostPID": true }));
    elsewhere["metadata"]["namespace"] = "other".into();
    let (items, settings) = (items([pod("a", &json!({ "hostPID": true })), elsewhere]), Settings::default());
    for (namespace, names) in [(None, vec!["a", "b"]), (Some("team"), vec!["a"]), (Some("other"), vec!["a", "b"])] {
        let facts = Facts::of(&items, Source::Manifests, namespace.unwrap_or(DEFAULT_NAMESPACE), &settings);
        let report = super::super::rules::judge(&items, &facts, namespace, &settings);
        let found: std::collections::BTreeSet<&str> = report.findings.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), names, "{namespace:?}");
    }
}
