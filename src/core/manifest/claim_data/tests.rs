//! Tests of the volume and of the Secret.

use paddock_api::kind::Kind;
use serde_json::{Value, json};

use super::*;
use crate::manifest::{PodPlan, pod, warm_sandbox};
use crate::object::Object;

fn object(kind: Kind, document: Value) -> Object {
    Object::from_json(kind, document).expect("metadata")
}

fn made(kind: Kind, spec: Value) -> Value {
    let pool =
        object(Kind::SeedPool, json!({ "metadata": { "name": "p", "namespace": "ns", "uid": "p" }, "spec": {} }));
    let template = object(kind, json!({ "metadata": { "name": "t", "namespace": "ns" }, "spec": spec }));
    let model = template.template().expect("a template").spec.as_ref().expect("a valid one");
    let mut sandbox = warm_sandbox(&pool, &template, model, "p-a");
    sandbox["metadata"]["uid"] = "uid-of-sandbox".into();
    sandbox
}

fn pod_of(sandbox: &Value, at: &str) -> Value {
    let sandbox = object(Kind::Sandbox, sandbox.clone());
    let model = sandbox.sandbox().expect("a Sandbox").spec.as_ref().expect("a valid one");
    let plan = PodPlan {
        name: "p-a",
        runtime_class: None,
        class_reason: None,
        class_plugin: None,
        kept_dirs: &[],
        now: at.parse().expect("a time"),
        init_image: Some("paddock:1"),
        isolate: false,
    };
    pod(&sandbox, model, &plan)
}

fn containers() -> Value {
    json!([{ "name": "agent", "image": "i" }, { "name": "side", "image": "i" }])
}

const NOON: &str = "2030-01-01T12:00:00.25Z";

#[test]
fn volume_is_mounted_where_the_template_says_and_has_a_secret_of_the_pods_own() {
    let rules = json!({ "mountPath": "/data", "containers": ["side"] });
    let spec = json!({ "podTemplate": { "spec": { "containers": containers() } }, "claimData": rules });
    let sandbox = made(Kind::Template, spec);
    let pod = pod_of(&sandbox, NOON);
    let mounts = |n: usize| pod["spec"]["containers"][n]["volumeMounts"].clone();
    assert_eq!(mounts(0), Value::Null);
    assert_eq!(mounts(1), json!([{ "name": "paddock-claim", "mountPath": "/data", "readOnly": true }]));
    let sources = &pod["spec"]["volumes"][0]["projected"]["sources"];
    let secret = sources[0]["secret"]["name"].as_str().expect("a name").to_owned();
    assert!(secret.starts_with("paddock-claim-p-a-"), "{secret}");
    assert_eq!(sources[0]["secret"]["optional"], true);
    let announced = &sources[1]["downwardAPI"]["items"][0];
    assert_eq!(announced["path"], "delivery");
    assert_eq!(announced["fieldRef"]["fieldPath"], "metadata.annotations['policy.paddock.dev/claim-data']");
    let read = object(Kind::Pod, pod.clone());
    let read = read.pod().expect("a pod");
    assert_eq!(read.claim_secret(), Some(secret.as_str()));
    // Another pod of the Sandbox, and a pod of a Sandbox that has the name later, have other Secrets.
    let other = |sandbox: &Value, at| {
        let pod = object(Kind::Pod, pod_of(sandbox, at));
        pod.pod().and_then(|pod| pod.claim_secret().map(str::to_owned)).expect("a Secret")
    };
    assert_eq!(other(&sandbox, NOON), secret);
    assert_ne!(other(&sandbox, "2030-01-01T12:00:00.250000001Z"), secret);
    let mut later = sandbox.clone();
    later["metadata"]["uid"] = "uid-of-another".into();
    assert_ne!(other(&later, NOON), secret);
}

#[test]
fn name_of_a_secret_says_whose_it_is() {
    let made = secret_name("p-a", "uid", NOON);
    for (pod, name, expected) in [
        ("p-a", made.as_str(), true),
        ("p-a", "paddock-claim-p-a-0011223344556677", true),
        ("p-a", "paddock-claim-p-b-0011223344556677", false),
        // The names of both pods begin equally.
        ("p", "paddock-claim-p-a-0011223344556677", false),
        ("p", "paddock-claim-p-0123456789abcdef-0011223344556677", false),
        ("p-a", "paddock-claim-p-0011223344556677", false),
        ("p-a", "paddock-claim-p-a-001122334455667", false),
        ("p-a", "paddock-claim-p-a-00112233445566778", false),
        ("p-a", "paddock-claim-p-a-001122334455667G", false),
        ("p-a", "paddock-claim-p-a-00112233445566AA", false),
        ("p-a", "paddock-claim-p-a-", false),
        ("p-a", "paddock-claim", false),
        ("p-a", "api-key", false),
    ] {
        assert_eq!(is_secret_of(pod, name), expected, "{pod} {name}");
    }
}

/// Otherwise the operator would write what the user wants and what it did in turn, and a template could announce data.
#[test]
fn pod_template_sets_no_annotation_of_the_operator() {
    let sandbox = |annotations: &Value| {
        let mut sandbox =
            made(Kind::Template, json!({ "podTemplate": { "spec": { "containers": containers() } }, "claimData": {} }));
        sandbox["spec"]["podTemplate"]["metadata"]["annotations"] = annotations.clone();
        pod_of(&sandbox, NOON)["metadata"]["annotations"].clone()
    };
    let usual = sandbox(&json!({}));
    for name in [
        "claim-data",
        "claim-data-sent",
        "pod-revision",
        "runtime-class-reason",
        "runtime-class-plugin",
        "plugin-labels",
        "plugin-annotations",
    ] {
        assert_eq!(sandbox(&json!({ format!("policy.paddock.dev/{name}"): "none" })), usual, "{name}");
    }
    assert_eq!(sandbox(&json!({ "policy.paddock.dev/other": "x" }))["policy.paddock.dev/other"], "x");
}

#[test]
fn held_container_starts_with_the_program_that_an_init_container_copies() {
    let held = json!({ "name": "agent", "image": "i", "command": ["python3", "-m"], "args": ["server"] });
    let rules = json!({ "containers": ["agent"], "start": "AfterDelivery" });
    let containers = json!([held, { "name": "side", "image": "i" }]);
    let first = json!({ "name": "fetch", "image": "i" });
    let spec = json!({
        "podTemplate": { "spec": { "containers": containers, "initContainers": [first] } }, "claimData": rules,
    });
    let sandbox = made(Kind::Template, spec);
    // A pod always has the image of the present operator, whichever operator made the Sandbox.
    let of_sandbox = &sandbox["spec"]["podTemplate"]["spec"]["initContainers"][0];
    assert_eq!(of_sandbox["image"], "paddock-init.invalid/paddock-init");
    let pod = pod_of(&sandbox, NOON);
    let spec = &pod["spec"];
    let program = "/run/paddock/init/paddock-init";
    let directory = "/run/paddock/claim";
    let command = [program, "--directory", directory, "--container", "agent", "--first", "--", "python3", "-m"];
    assert_eq!(spec["containers"][0]["command"], json!(command));
    assert_eq!(spec["containers"][0]["args"], json!(["server"]));
    assert_eq!(spec["containers"][1]["command"], Value::Null);
    let mounts = spec["containers"][0]["volumeMounts"].as_array().expect("mounts");
    assert!(mounts.contains(&json!({ "name": "paddock-init", "mountPath": "/run/paddock/init", "readOnly": true })));
    let copies = &spec["initContainers"][0];
    assert_eq!((&copies["name"], &copies["image"]), (&json!("paddock-init"), &json!("paddock:1")));
    assert_eq!(copies["command"], json!(["/paddock-init", "--copy-to", program]));
    assert_eq!(spec["initContainers"][1]["name"], "fetch");
    let volume = spec["volumes"].as_array().expect("volumes").iter().find(|v| v["name"] == "paddock-init");
    assert_eq!(volume.expect("the volume")["emptyDir"]["medium"], "Memory");
}

#[test]
fn seed_shape_mounts_the_volume_once() {
    let spec = json!({
        "template": { "spec": {
            "containers": [{ "name": "agent", "image": "i" }],
            "volumes": [{ "name": "cache", "emptyDir": {} }],
        } },
        "claimData": {},
    });
    let pod = pod_of(&made(Kind::SeedTemplate, spec), NOON);
    let mounts = pod["spec"]["containers"][0]["volumeMounts"].as_array().expect("mounts");
    let paths: Vec<&Value> = mounts.iter().map(|mount| &mount["mountPath"]).collect();
    assert_eq!(paths, [&json!("/cache"), &json!("/run/paddock/claim")]);
}

#[test]
fn template_that_declares_nothing_gets_no_volume() {
    let sandbox = made(Kind::Template, json!({ "podTemplate": { "spec": { "containers": containers() } } }));
    let text = format!("{sandbox}{}", pod_of(&sandbox, NOON));
    assert!(!text.contains("paddock-claim") && !text.contains("claim-data"), "{text}");
}

#[test]
fn secret_has_each_file_and_one_file_with_everything() {
    let spec: SandboxClaimSpec = serde_json::from_value(json!({
        "env": [{ "name": "A", "value": "1\n\"2\"" }],
        "files": [
            { "name": "task", "content": "do it" },
            { "name": "token", "secretKeyRef": { "name": "s", "key": "k" } },
            { "name": "blob", "secretKeyRef": { "name": "s", "key": "binary" } },
        ],
    }))
    .expect("a spec");
    let mut delivery = ClaimDelivery {
        claim: Key::new(Kind::Claim, "ns", "c"),
        claim_uid: "uid-of-c".to_owned(),
        digest: String::new(),
        secret: "paddock-claim-p-a-0".to_owned(),
        held: true,
        large: false,
    };
    let of_s = BTreeMap::from([("k".to_owned(), b"t0ken".to_vec()), ("binary".to_owned(), vec![0xff, 0])]);
    let values = SecretValues::from([("s".to_owned(), of_s)]);
    let pod = Key::new(Kind::Pod, "ns", "p-a");
    let secret = claim_secret(&pod, "uid-of-pod", &delivery, &spec, &values).expect("a Secret");
    let data: BTreeMap<String, ByteString> = serde_json::from_value(secret["data"].clone()).expect("data");
    assert_eq!(data["task"].0, b"do it");
    assert_eq!(data["token"].0, b"t0ken");
    assert_eq!(data["blob"].0, [0xff, 0]);
    assert_eq!(data["paddock.env"].0, b"/A=1\n\"2\"\0");
    let everything: Value = serde_json::from_slice(&data["claim.json"].0).expect("JSON");
    assert_eq!(
        everything,
        json!({
            "claim": { "name": "c", "namespace": "ns", "uid": "uid-of-c" },
            "env": [{ "name": "A", "value": "1\n\"2\"" }],
            "files": { "task": "do it", "token": "t0ken" },
            "binaryFiles": { "blob": "/wA=" },
        })
    );
    let owner = json!([{ "apiVersion": "v1", "kind": "Pod", "name": "p-a", "uid": "uid-of-pod", "controller": true }]);
    assert_eq!(secret["metadata"]["ownerReferences"], owner);
    assert_eq!((&secret["type"], &secret["immutable"]), (&json!("Opaque"), &Value::Null));
    // The length of a Secret that a claim refers to is known only here.
    let refers = |files: usize, value: Vec<u8>| {
        let file = |n| json!({ "name": format!("f{n}"), "secretKeyRef": { "name": "s", "key": "k" } });
        let files: Value = (0..files).map(file).collect();
        let spec: SandboxClaimSpec = serde_json::from_value(json!({ "files": files })).expect("a spec");
        let values = SecretValues::from([("s".to_owned(), BTreeMap::from([("k".to_owned(), value)]))]);
        claim_secret(&pod, "uid-of-pod", &delivery, &spec, &values)
    };
    for (what, files, value, expected) in [
        ("once", 1, vec![b'x'; 200 * 1024], None),
        ("twice", 2, vec![b'x'; 200 * 1024], Some("at most 256 KiB")),
        ("a whole Secret, often", 32, vec![1; 1024 * 1024], Some("at most 256 KiB")),
        ("binary", 1, vec![0xff; 256 * 1024], None),
        ("control characters", 1, vec![1; 200 * 1024], Some("a Secret has at most 1024 KiB")),
    ] {
        match (refers(files, value), expected) {
            (Ok(_), None) => {}
            (Err(problem), Some(expected)) => assert!(problem.contains(expected), "{what}: {problem}"),
            (Ok(_), Some(_)) => panic!("{what}: a Secret"),
            (Err(problem), None) => panic!("{what}: {problem}"),
        }
    }
    // A held container waits for the file of variables, so it exists for a claim without variables too.
    let mut files = spec.clone();
    files.env.clear();
    let secret = claim_secret(&pod, "uid-of-pod", &delivery, &files, &values).expect("a Secret");
    assert_eq!(secret["data"]["paddock.env"], "");
    // Other containers have no use for it.
    delivery.held = false;
    let secret = claim_secret(&pod, "uid-of-pod", &delivery, &spec, &values).expect("a Secret");
    assert_eq!(secret["data"]["paddock.env"], Value::Null);
    let missing = claim_secret(&pod, "uid-of-pod", &delivery, &spec, &SecretValues::new()).expect_err("no Secret");
    assert!(missing.contains("Secret s has no key k"), "{missing}");
}
