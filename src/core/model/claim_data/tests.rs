//! Tests of the parsers and checks of claim data: a change of a valid object, and the error that it gives.

use paddock_api::SandboxTemplateSpec;
use paddock_api::kind::ApiShape;
use serde_json::{Value, json};

use super::*;
use crate::model::{parse_claim, parse_template};
use crate::settings::Settings;

fn template(claim_data: &Value, change: &Value) -> Result<Template, FieldErrors> {
    let mut spec = json!({
        "podTemplate": { "spec": { "containers": [
            { "name": "agent", "image": "i", "volumeMounts": [{ "name": "cache", "mountPath": "/cache" }] },
            { "name": "side", "image": "i" },
        ], "volumes": [{ "name": "cache", "emptyDir": {} }] } },
        "claimData": claim_data,
    });
    json_patch::merge(&mut spec, change);
    let spec: SandboxTemplateSpec = serde_json::from_value(spec).unwrap();
    parse_template(ApiShape::Upstream, &spec)
}

fn claim(change: &Value) -> Result<Claim, FieldErrors> {
    let mut spec = json!({ "warmPoolRef": { "name": "p" } });
    json_patch::merge(&mut spec, change);
    let spec: SandboxClaimSpec = serde_json::from_value(spec).unwrap();
    parse_claim(ApiShape::Upstream, &spec)
}

/// Expects no error, or one that begins with the path and contains the text.
fn expect<T>(what: &Value, result: Result<T, FieldErrors>, expected: Option<(&str, &str)>) {
    let errors: Vec<String> =
        result.err().map(FieldErrors::into_vec).unwrap_or_default().iter().map(ToString::to_string).collect();
    match expected {
        None => assert!(errors.is_empty(), "{what}: {errors:?}"),
        Some((path, text)) => {
            assert_eq!(errors.len(), 1, "{what}: {errors:?}");
            assert!(errors[0].starts_with(&format!("{path}: ")) && errors[0].contains(text), "{what}: {errors:?}");
        }
    }
}

#[test]
fn template_declares_where_claim_data_appears() {
    let at = "spec.claimData.mountPath";
    for (rules, expected) in [
        (json!({}), None),
        (json!({ "mountPath": "/data", "containers": ["side"], "secrets": ["a", "b.c"] }), None),
        // Only containers that get the directory count.
        (json!({ "mountPath": "/cache", "containers": ["side"] }), None),
        (json!({ "mountPath": "/cache" }), Some((at, "volumeMounts"))),
        (json!({ "mountPath": "/cache/" }), Some((at, "volumeMounts"))),
        (json!({ "mountPath": "//./cache" }), Some((at, "volumeMounts"))),
        (json!({ "mountPath": "/cache/x" }), None),
        (json!({ "mountPath": "//./" }), Some((at, "absolute path"))),
        (json!({ "mountPath": "data" }), Some((at, "absolute path"))),
        (json!({ "mountPath": "/" }), Some((at, "absolute path"))),
        (json!({ "mountPath": "/a:b" }), Some((at, "absolute path"))),
        (json!({ "mountPath": "/a/../b" }), Some((at, "absolute path"))),
        (json!({ "containers": ["agent", "x"] }), Some(("spec.claimData.containers[1]", "name of one of"))),
        (json!({ "secrets": ["A"] }), Some(("spec.claimData.secrets[0]", "DNS name"))),
        (json!({ "secrets": ["a", "paddock-claim-p"] }), Some(("spec.claimData.secrets[1]", "must not begin with"))),
    ] {
        expect(&rules, template(&rules, &json!({})), expected);
    }
    let taken = json!({ "podTemplate": { "spec": { "volumes": [
        { "name": "cache", "emptyDir": {} }, { "name": "paddock-claim", "emptyDir": {} },
    ] } } });
    expect(&taken, template(&json!({}), &taken), Some(("spec.claimData", "rename")));
    expect(&taken, template(&Value::Null, &taken), None);
    let rules = template(&json!({}), &json!({})).unwrap().claim_data.unwrap();
    assert_eq!((rules.mount_path.as_str(), rules.reaches("side")), ("/run/paddock/claim", true));
}

#[test]
fn held_container_has_a_command_and_no_probes() {
    let held = json!({ "start": "AfterDelivery" });
    let only_agent = json!({ "start": "AfterDelivery", "containers": ["agent"] });
    let at = |field: &str| format!("spec.podTemplate.spec.containers[0].{field}");
    let agent = |fields: Value| {
        let mut agent = json!({ "name": "agent", "image": "i", "command": ["run"] });
        json_patch::merge(&mut agent, &fields);
        json!({ "podTemplate": { "spec": { "containers": [agent, { "name": "side", "image": "i" }] } } })
    };
    let probe = json!({ "tcpSocket": { "port": 80 } });
    let mounted = |path: &str| json!({ "volumeMounts": [{ "name": "cache", "mountPath": path }] });
    for (rules, change, expected) in [
        (&only_agent, agent(json!({})), None),
        (&held, agent(json!({})), Some(("spec.podTemplate.spec.containers[1].command".to_owned(), "is required"))),
        (&only_agent, agent(json!({ "command": null })), Some((at("command"), "entrypoint of the image is not known"))),
        (&only_agent, agent(json!({ "command": [] })), Some((at("command"), "is required"))),
        (&only_agent, agent(json!({ "readinessProbe": probe })), Some((at("readinessProbe"), "must be absent"))),
        (&only_agent, agent(json!({ "livenessProbe": probe })), Some((at("livenessProbe"), "must be absent"))),
        (&only_agent, agent(json!({ "startupProbe": probe })), Some((at("startupProbe"), "must be absent"))),
        (
            &only_agent,
            agent(json!({ "lifecycle": { "postStart": { "sleep": { "seconds": 1 } } } })),
            Some((at("lifecycle.postStart"), "must be absent")),
        ),
        (&only_agent, agent(json!({ "lifecycle": { "preStop": { "sleep": { "seconds": 1 } } } })), None),
        (&only_agent, agent(mounted("/run/paddock/init/")), Some((at("volumeMounts"), "must not contain"))),
        (&only_agent, agent(mounted("/run//paddock/./x/../init")), Some((at("volumeMounts"), "must not contain"))),
        (&only_agent, agent(mounted("/run/paddock/init/x")), Some((at("volumeMounts"), "must not contain"))),
        (&only_agent, agent(mounted("/run/paddock/initial")), None),
        (&only_agent, agent(mounted("/run")), None),
        (
            &only_agent,
            json!({ "podTemplate": { "spec": { "containers": [{ "name": "paddock-init", "image": "i" }, agent(json!({}))["podTemplate"]["spec"]["containers"][0]] } } }),
            Some(("spec.podTemplate.spec".to_owned(), "must be left to the init container")),
        ),
        // Without `start`, nothing of this counts.
        (&json!({}), agent(json!({ "command": null, "readinessProbe": probe })), None),
        (&json!({}), agent(json!({ "lifecycle": { "postStart": { "sleep": { "seconds": 1 } } } })), None),
    ] {
        let expected = expected.as_ref().map(|(path, text)| (path.as_str(), *text));
        expect(&change, template(rules, &change), expected);
    }
    let volume = json!({ "podTemplate": { "spec": { "volumes": [
        { "name": "cache", "emptyDir": {} }, { "name": "paddock-init", "emptyDir": {} },
    ] } } });
    expect(&volume, template(&json!({}), &volume), None);
    let mut volume = agent(json!({}));
    volume["podTemplate"]["spec"]["volumes"] =
        json!([{ "name": "cache", "emptyDir": {} }, { "name": "paddock-init", "emptyDir": {} }]);
    expect(&volume, template(&only_agent, &volume), Some(("spec.claimData", "rename")));
    for (path, expected) in [
        ("/run/paddock/init", Some(("spec.claimData.mountPath", "must not be"))),
        ("/run/paddock//init/", Some(("spec.claimData.mountPath", "must not be"))),
        ("/run/paddock/init/claim", Some(("spec.claimData.mountPath", "inside"))),
        ("/run/paddock", Some(("spec.claimData.mountPath", "around"))),
        ("/run/paddock/init-of-mine", None),
    ] {
        let there = json!({ "start": "AfterDelivery", "containers": ["agent"], "mountPath": path });
        expect(&there, template(&there, &agent(json!({}))), expected);
    }
    // An operator without an image says so, and makes no sandbox that would start too early.
    let template = template(&only_agent, &agent(json!({}))).unwrap();
    let with = Settings { init_image: Some("i".to_owned()), ..Settings::default() };
    assert!(template.lacks(&Settings::default()).is_some_and(|why| why.contains("--init-image")));
    assert_eq!(template.lacks(&with), None);
}

#[test]
fn file_of_a_claim_has_a_name_and_one_source() {
    let file = |name: &str| json!({ "files": [{ "name": name, "content": "x" }] });
    let long = "x".repeat(CONTENT_BYTES_MAX + 1);
    let most = |count: usize| -> Value {
        let content = "x".repeat(CONTENT_BYTES_MAX);
        (0..count).map(|n| json!({ "name": format!("f{n}"), "content": content })).collect()
    };
    let many: Value = (0..=FILES_MAX).map(|n| json!({ "name": format!("f{n}"), "content": "" })).collect();
    for (spec, expected) in [
        (file("task.json"), None),
        (file(".env"), None),
        (file(""), Some(("spec.files[0].name", "file name"))),
        (file("a/b"), Some(("spec.files[0].name", "file name"))),
        (file("."), Some(("spec.files[0].name", "file name"))),
        (file(".."), Some(("spec.files[0].name", "file name"))),
        (file("..data"), Some(("spec.files[0].name", "file name"))),
        (file("ü"), Some(("spec.files[0].name", "file name"))),
        (file(&"x".repeat(254)), Some(("spec.files[0].name", "file name"))),
        (file("claim.json"), Some(("spec.files[0].name", "reserved"))),
        (file("delivery"), Some(("spec.files[0].name", "reserved"))),
        (file("paddock.x"), Some(("spec.files[0].name", "reserved"))),
        (
            json!({ "files": [{ "name": "a", "content": "1" }, { "name": "a", "content": "2" }] }),
            Some(("spec.files[1].name", "used once")),
        ),
        (json!({ "files": [{ "name": "a" }] }), Some(("spec.files[0]", "exactly one"))),
        (
            json!({ "files": [{ "name": "a", "content": "", "secretKeyRef": { "name": "s", "key": "k" } }] }),
            Some(("spec.files[0]", "exactly one")),
        ),
        (json!({ "files": [{ "name": "a", "secretKeyRef": { "name": "s", "key": "k" } }] }), None),
        (
            json!({ "files": [{ "name": "a", "secretKeyRef": { "name": "S", "key": "k" } }] }),
            Some(("spec.files[0].secretKeyRef.name", "DNS name")),
        ),
        (
            json!({ "files": [{ "name": "a", "secretKeyRef": { "name": "s", "key": "" } }] }),
            Some(("spec.files[0].secretKeyRef.key", "required")),
        ),
        (json!({ "files": [{ "name": "a", "content": long }] }), Some(("spec.files[0].content", "64 KiB"))),
        (json!({ "files": most(4) }), None),
        (json!({ "files": most(5) }), Some(("spec.files", "256 KiB"))),
        // JSON needs six bytes for each of these.
        (json!({ "files": [{ "name": "a", "content": "\u{1}".repeat(64 * 1024) }] }), None),
        (
            json!({ "files": [
                { "name": "a", "content": "\u{1}".repeat(64 * 1024) },
                { "name": "b", "content": "\u{1}".repeat(64 * 1024) },
            ] }),
            Some(("spec.files", "480 KiB as JSON")),
        ),
        (json!({ "files": many }), Some(("spec.files", "at most 32"))),
        // Upstream has no such limit for variables.
        (json!({ "env": [{ "name": "A", "value": "x".repeat(300 * 1024) }] }), None),
    ] {
        let what: String = spec.to_string().chars().take(120).collect();
        expect(&json!(what), claim(&spec), expected);
    }
}

/// No part of a claim can be exchanged without a new digest. The content of no field moves to another one unnoticed.
#[test]
fn digest_changes_with_every_part() {
    let digest = |spec: Value| claim(&spec).unwrap().data.map(|data| data.digest);
    let file = |name: &str, content: &str| json!({ "name": name, "content": content });
    let secret = |name: &str, key: &str| json!({ "name": "f", "secretKeyRef": { "name": name, "key": key } });
    let specs = [
        json!({ "files": [file("a", "")] }),
        json!({ "files": [file("a", "1")] }),
        json!({ "files": [file("b", "1")] }),
        json!({ "files": [file("a", "1"), file("b", "")] }),
        json!({ "files": [file("b", ""), file("a", "1")] }),
        json!({ "files": [secret("s", "k")] }),
        json!({ "files": [secret("s", "l")] }),
        json!({ "files": [secret("t", "k")] }),
        json!({ "env": [{ "name": "A", "value": "1" }] }),
        json!({ "env": [{ "name": "A", "value": "2" }] }),
        json!({ "env": [{ "name": "A", "value": "1", "containerName": "c" }] }),
        json!({ "env": [{ "name": "A", "value": "1" }], "files": [file("a", "1")] }),
    ];
    for (i, one) in specs.iter().enumerate() {
        assert_eq!(digest(one.clone()), digest(one.clone()));
        for other in &specs[i + 1..] {
            assert_ne!(digest(one.clone()), digest(other.clone()), "{one} and {other}");
        }
    }
    assert_eq!((digest(json!({})), digest(json!({ "files": [] }))), (None, None));
    // Other fields do not count, because they may change while the claim has its Sandbox.
    let extended = json!({ "files": [file("a", "1")], "lifecycle": { "shutdownTime": "2030-01-01T12:00:00Z" } });
    assert_eq!(digest(extended), digest(specs[1].clone()));
}

#[test]
fn claim_brings_only_what_its_template_declares() {
    let none = template(&Value::Null, &json!({})).unwrap();
    let files = template(&json!({}), &json!({})).unwrap();
    let secrets = template(&json!({ "secrets": ["s", "t"] }), &json!({})).unwrap();
    let content = json!({ "files": [{ "name": "a", "content": "1" }] });
    let reference = |name: &str| {
        let file = json!({ "name": "b", "secretKeyRef": { "name": name, "key": "k" } });
        json!({ "files": [{ "name": "a", "content": "1" }, file] })
    };
    let volume = json!({ "volumeClaimTemplates": [{
        "metadata": { "name": "paddock-claim" },
        "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
    }] });
    let env = json!({ "env": [{ "name": "A", "value": "1" }] });
    let many = json!({ "env": [{ "name": "A", "value": "x".repeat(300 * 1024) }] });
    let held = template(
        &json!({ "start": "AfterDelivery", "containers": ["agent"] }),
        &json!({ "podTemplate": { "spec": { "containers": [{ "name": "agent", "image": "i", "command": ["run"] }] } } }),
    )
    .unwrap();
    let variable = |bytes: usize| json!({ "env": [{ "name": "ABC", "value": "x".repeat(bytes - 5) }] });
    let short: Value = (0..30_000).map(|_| json!({ "name": "A", "value": "" })).collect();
    let at = "spec.files[1].secretKeyRef.name";
    for (template, spec, expected) in [
        (&none, &json!({}), None),
        (&none, &env, None),
        (&none, &volume, None),
        (&none, &content, Some(("spec.files", "SandboxTemplate t has no spec.claimData"))),
        (&files, &content, None),
        (&files, &env, None),
        (&none, &many, None),
        (&files, &many, Some(("spec.env", "at most 256 KiB"))),
        (&files, &json!({ "env": short }), Some(("spec.env", "at most 480 KiB as JSON"))),
        (&held, &variable(128 * 1024), None),
        (&held, &variable(128 * 1024 + 1), Some(("spec.env[0].value", "at most 131067 bytes"))),
        (&files, &variable(128 * 1024 + 1), None),
        (&files, &volume, Some(("spec.volumeClaimTemplates[0].metadata.name", "must be left"))),
        (&files, &reference("s"), Some((at, "lists none"))),
        (&secrets, &reference("t"), None),
        (&secrets, &reference("u"), Some((at, "lists s, t"))),
    ] {
        expect(spec, check_claim_data(&claim(spec).unwrap(), template, "t"), expected);
    }
}

#[test]
fn secret_is_large_by_its_content_or_by_references() {
    let large = |spec: Value| claim(&spec).unwrap().data.unwrap().makes_large_secret();
    let content = |bytes: usize| json!({ "files": [{ "name": "a", "content": "x".repeat(bytes) }] });
    assert!(!large(content(10)) && !large(content(40 * 1024)) && large(content(50 * 1024)));
    let variables = |bytes: usize| json!({ "env": [{ "name": "A", "value": "x".repeat(bytes) }] });
    assert!(!large(variables(10)) && large(variables(50 * 1024)));
    assert!(large(json!({ "files": [{ "name": "a", "secretKeyRef": { "name": "s", "key": "k" } }] })));
}

#[test]
fn claim_with_variables_takes_a_warm_sandbox_only_where_files_are_declared() {
    let (none, files) = (template(&Value::Null, &json!({})).unwrap(), template(&json!({}), &json!({})).unwrap());
    let env = claim(&json!({ "env": [{ "name": "A", "value": "1" }] })).unwrap();
    assert_eq!((env.can_use_warm(&none), env.can_use_warm(&files)), (false, true));
    let plain = claim(&json!({})).unwrap();
    assert_eq!((plain.can_use_warm(&none), plain.can_use_warm(&files)), (true, true));
}
