//! Tests of the warnings about objects that are admitted.

use super::kinds::{SANDBOX, create, sandbox, update};
use super::*;
use crate::settings::Settings;

/// The warnings of an object that is admitted.
pub(super) fn warnings(review: Review) -> Vec<String> {
    let (_, outcome) = decide(&Review { phase: Phase::Validate, ..review }, &context(), gvisor);
    assert_eq!(outcome.denial, None);
    outcome.warnings
}

#[test]
fn modes_that_contradict_each_other_are_told_at_creation() {
    for (mode, replicas, warning) in [
        ("Suspended", 1, Some("spec.replicas: 1 has no effect")),
        ("Running", 0, Some("spec.operatingMode: Running has no effect")),
        ("Suspended", 0, None),
        ("Running", 1, None),
    ] {
        let object = sandbox(json!({ "operatingMode": mode, "replicas": replicas }));
        for (review, warning) in [
            (create(SANDBOX, object.clone()), warning),
            (update(SANDBOX, sandbox(json!({ "operatingMode": "Running", "replicas": 1 })), object), None),
        ] {
            let (_, outcome) = decide(&Review { phase: Phase::Mutate, ..review }, &context(), gvisor);
            assert_eq!(outcome.denial, None);
            let warned = outcome.warnings;
            assert_eq!(warned.len(), usize::from(warning.is_some()), "{mode} {replicas}: {warned:?}");
            assert!(warned.iter().all(|w| w.contains(warning.unwrap_or_default())), "{mode} {replicas}: {warned:?}");
        }
    }
}

#[test]
fn a_hostname_without_effect_is_told() {
    for field in ["hostname", "hostnameOverride"] {
        for (hostname, warns) in [(json!("other"), 1), (json!(""), 0), (json!(null), 0), (json!("a"), 0)] {
            let with = sandbox(json!({ "podTemplate": { "spec": { field: hostname } } }));
            let warned = warnings(create(SANDBOX, with));
            assert_eq!(warned.len(), warns, "{field}: {warned:?}");
            let expected = format!("spec.podTemplate.spec.{field} has no effect");
            assert!(warned.iter().all(|w| w.starts_with(&expected)), "{field}: {warned:?}");
        }
    }
}

#[test]
fn a_container_without_an_image_is_told() {
    let with = |list: &str, image: Value| {
        let container = json!({ "name": "d", "image": image });
        sandbox(json!({ "podTemplate": { "spec": { list: [{ "name": "e", "image": "i" }, container] } } }))
    };
    for list in ["containers", "initContainers"] {
        for (image, warns) in [(json!(null), 1), (json!(""), 1), (json!("i"), 0)] {
            let warned = warnings(create(SANDBOX, with(list, image)));
            let expected = format!("spec.podTemplate.spec.{list}[1].image is missing");
            assert_eq!(warned.iter().filter(|w| w.starts_with(&expected)).count(), warns, "{warned:?}");
            assert_eq!(warned.len(), warns, "{warned:?}");
        }
    }
}

#[test]
fn an_idle_timeout_that_cannot_hold_is_told() {
    let of = |idle: Value, mut volume: Value| {
        volume["name"] = "work".into();
        sandbox(json!({ "idleTimeout": idle, "podTemplate": { "spec": { "volumes": [
            { "name": "config", "configMap": { "name": "c" } }, volume,
        ] } } }))
    };
    let with = |idle: Value, dir: Value| of(idle, json!({ "emptyDir": dir }));
    let ephemeral = json!({ "ephemeral": { "volumeClaimTemplate": { "spec": { "accessModes": ["ReadWriteOnce"] } } } });
    let warning = "spec.podTemplate.spec.volumes[1] is deleted with the pod";
    for lost in [ephemeral.clone(), json!({ "csi": { "driver": "d" } })] {
        let warned = warnings(create(SANDBOX, of(json!("30m"), lost)));
        assert!(warned.len() == 1 && warned[0].starts_with(warning), "{warned:?}");
        assert!(warned[0].chars().count() < 256, "it is not cut off");
    }
    for volumes in ["true", "work", "cache, work"] {
        let mut lossy = of(json!("30m"), ephemeral.clone());
        lossy["metadata"]["annotations"] = json!({ "policy.paddock.dev/ephemeral-volumes": volumes });
        assert_eq!(warnings(create(SANDBOX, lossy)), [""; 0]);
    }
    let media = ["", "Memory", "HugePages", "HugePages-2Mi"].map(|m| with(json!("30m"), json!({ "medium": m })));
    let secrets = of(json!("30m"), json!({ "csi": { "driver": "d", "readOnly": true } }));
    for fine in [of(json!(null), ephemeral), secrets].into_iter().chain(media) {
        assert_eq!(warnings(create(SANDBOX, fine)), [""; 0]);
    }

    // If `idleTimeout` is added to a running Sandbox, its emptyDir is not a volume claim yet.
    let running = |mut object: Value, replicas: i32| {
        object["status"] = json!({ "replicas": replicas });
        object
    };
    let (plain, idle) = (with(json!(null), json!({})), with(json!("30m"), json!({})));
    let warned = warnings(update(SANDBOX, running(plain.clone(), 1), running(idle.clone(), 1)));
    assert!(warned.len() == 1 && warned[0].contains("suspend and resume the Sandbox once"), "{warned:?}");
    for old in [running(plain, 0), running(idle.clone(), 1)] {
        assert_eq!(warnings(update(SANDBOX, old, idle.clone())), [""; 0]);
    }
}

#[test]
fn template_whose_sandboxes_this_operator_cannot_make_is_told() {
    let template = |start: &str| {
        let container = json!({ "name": "a", "image": "i", "command": ["run"] });
        json!({
            "apiVersion": "extensions.agents.x-k8s.io/v1beta1", "kind": "SandboxTemplate",
            "metadata": { "name": "t", "namespace": "agents" },
            "spec": { "podTemplate": { "spec": { "containers": [container] } }, "claimData": { "start": start } },
        })
    };
    for (start, image, expected) in [
        ("AfterDelivery", None, Some("no sandboxes of this template are made")),
        ("AfterDelivery", Some("paddock:1"), None),
        ("Immediate", None, None),
    ] {
        let settings = Settings { init_image: image.map(str::to_owned), ..Settings::default() };
        let context = Context { settings: Arc::new(settings), ..context() };
        let review = Review {
            phase: Phase::Validate,
            ..create(("extensions.agents.x-k8s.io", "sandboxtemplates"), template(start))
        };
        let (_, outcome) = decide(&review, &context, gvisor);
        assert_eq!(outcome.denial, None);
        let warned = outcome.warnings;
        assert_eq!(warned.len(), usize::from(expected.is_some()), "{start} {image:?}: {warned:?}");
        assert!(warned.iter().all(|w| w.contains("--init-image")), "{start} {image:?}: {warned:?}");
    }
}

#[test]
fn a_volume_that_keeps_a_drain_from_suspending_is_told() {
    let with = |policy: Value, volume: Value| {
        let mut spec = json!({ "resumePolicy": "OnDemand", "podTemplate": { "spec": {
            "containers": [{ "name": "c", "image": "i" }], "volumes": [volume],
        } } });
        json_patch::merge(&mut spec, &policy);
        warnings(create(SANDBOX, sandbox(spec)))
    };
    let suspend = || json!({ "drainPolicy": "Suspend" });
    let disk = || json!({ "name": "v", "emptyDir": {} });
    let told = with(suspend(), disk());
    assert!(told.len() == 1 && told[0].contains("drainPolicy does not suspend"), "{told:?}");
    assert!(told[0].starts_with("spec.podTemplate.spec.volumes[0]: ") && told[0].chars().count() < 256, "{told:?}");
    for fine in [
        with(json!({}), disk()),
        with(json!({ "drainPolicy": "Suspend", "idleTimeout": "10m" }), disk()),
        with(suspend(), json!({ "name": "v", "emptyDir": { "medium": "Memory" } })),
        with(suspend(), json!({ "name": "v", "configMap": { "name": "c" } })),
    ] {
        assert_eq!(fine, [""; 0]);
    }
}

#[test]
fn name_that_no_request_can_carry_is_told_at_creation() {
    let named = |name: &str| {
        let mut made = sandbox(json!({}));
        made["metadata"]["name"] = name.into();
        made
    };
    let long = "a".repeat(64);
    for (name, warns) in [("a", 0), ("a.b", 1), (&*long, 1)] {
        let warned = warnings(create(SANDBOX, named(name)));
        assert_eq!(warned.len(), warns, "{name}: {warned:?}");
        assert!(warned.iter().all(|w| w.starts_with("metadata.name: no request through the gateway")), "{warned:?}");
        assert_eq!(warnings(update(SANDBOX, named(name), named(name))), [""; 0], "it was there before");
    }
    let pool = ("extensions.agents.x-k8s.io", "sandboxwarmpools");
    for (name, warns) in [("python", 0), ("python-3.12", 1), (&*long, 0)] {
        let made = json!({ "metadata": { "name": name }, "spec": { "sandboxTemplateRef": { "name": "t" } } });
        assert_eq!(warnings(create(pool, made)).len(), warns, "{name}");
    }
}

#[test]
fn what_only_a_webhook_can_add_is_told() {
    let container = |field: &str, name: &str| {
        let mount = json!({ "name": name, "mountPath": "/w", "devicePath": "/w" });
        let mounts = json!({ "name": "c", "image": "i", field: [mount] });
        json!({ "podTemplate": { "spec": { "containers": [mounts], "volumes": [{ "name": "v", "emptyDir": {} }] } } })
    };
    let claim = |spec: Value| json!({ "volumeClaimTemplates": [{ "metadata": { "name": "data" }, "spec": spec }] });
    let whole = claim(json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } }));
    let mounts = "spec.podTemplate.spec.containers[0] mounts `w`";
    for (spec, told) in [
        (container("volumeMounts", "v"), None),
        (container("volumeMounts", "w"), Some(mounts)),
        (container("volumeDevices", "w"), Some(mounts)),
        (whole.clone(), None),
        (claim(json!({ "accessModes": [] })), Some("spec.volumeClaimTemplates[0].spec.accessModes is missing")),
        (
            claim(json!({ "accessModes": ["ReadWriteOnce"] })),
            Some("spec.volumeClaimTemplates[0].spec.resources.requests.storage is missing"),
        ),
    ] {
        let warned = warnings(create(SANDBOX, sandbox(spec)));
        assert_eq!(warned.len(), usize::from(told.is_some()), "{warned:?}");
        assert!(warned.iter().zip(told).all(|(warned, told)| warned.starts_with(told)), "{warned:?}");
    }
    // A volume claim is a volume, and a claim may bring one if the template lets it.
    let mut mounted = container("volumeMounts", "data");
    assert_eq!(warnings(create(SANDBOX, sandbox(mounted.clone()))).len(), 1);
    mounted["volumeClaimTemplates"] = whole["volumeClaimTemplates"].clone();
    assert_eq!(warnings(create(SANDBOX, sandbox(mounted))), [""; 0]);
    let template = ("extensions.agents.x-k8s.io", "sandboxtemplates");
    for (policy, warns) in [("Disallowed", 1), ("Allowed", 0), ("Overrides", 0)] {
        let mut spec = container("volumeMounts", "data");
        spec["volumeClaimTemplatesPolicy"] = policy.into();
        let made = json!({ "metadata": { "name": "t", "namespace": "agents" }, "spec": spec });
        assert_eq!(warnings(create(template, made)).len(), warns, "{policy}");
    }
}

#[test]
fn service_account_without_its_token_is_told() {
    for (name, automount, warns) in [
        (json!("robot"), json!(null), 1),
        (json!("robot"), json!(true), 0),
        (json!("robot"), json!(false), 0),
        (json!(""), json!(null), 0),
    ] {
        let spec = json!({ "serviceAccountName": name, "automountServiceAccountToken": automount });
        let warned = warnings(create(SANDBOX, sandbox(json!({ "podTemplate": { "spec": spec } }))));
        assert_eq!(warned.len(), warns, "{warned:?}");
        assert!(warned.iter().all(|w| w.starts_with("spec.podTemplate.spec.serviceAccountName: ")), "{warned:?}");
    }
}
