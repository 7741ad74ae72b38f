//! The adoption by each kind of Sandbox, as a table of objects that somebody prepared.

use std::sync::Arc;

use paddock_api::kind::{Key, Kind};
use paddock_api::names::{label, name_hash};
use serde_json::{Value, json};

use super::*;

/// A Sandbox that has the name of the prepared objects.
fn sandbox(owner: Option<(&str, &str)>, template: bool) -> Object {
    let owners: Vec<Value> = owner
        .into_iter()
        .map(|(version, kind)| json!({ "apiVersion": version, "kind": kind, "name": "o", "uid": "o-1", "controller": true }))
        .collect();
    let metadata = json!({ "name": "s", "namespace": "n", "uid": "s-1", "ownerReferences": owners });
    let spec = json!({ "podTemplate": { "spec": { "containers": [{ "name": "c", "image": "i" }] } } });
    let mut sandbox = Object::from_json(Kind::Sandbox, json!({ "metadata": metadata, "spec": spec })).unwrap();
    sandbox.template = template.then(|| Arc::new(Key::new(Kind::Template, "n", "t")));
    sandbox
}

/// The kinds that are adopted. The first spec of each is as the operator makes it, and the others are the same with what
/// the API server and its controllers fill in when a pod runs or a volume is filled.
fn specs() -> [(Kind, Vec<Value>); 3] {
    [
        (
            Kind::Pod,
            vec![
                json!({ "containers": [{ "name": "c", "image": "i" }] }),
                json!({ "containers": [{ "name": "c", "image": "i" }], "nodeName": "n1", "restartPolicy": "Always" }),
            ],
        ),
        (
            Kind::VolumeClaim,
            vec![
                json!({ "accessModes": ["ReadWriteOnce"] }),
                json!({ "accessModes": ["ReadWriteOnce"], "storageClassName": "standard" }),
                json!({ "accessModes": ["ReadWriteOnce"], "volumeName": "pv" }),
            ],
        ),
        (Kind::Service, vec![json!({ "clusterIP": "None" }), json!({ "clusterIP": "None", "type": "ClusterIP" })]),
    ]
}

/// A pod that is as wanted now may have run another image, and a volume claim may have been filled.
#[test]
fn only_a_stand_alone_sandbox_adopts_what_runs_code_or_holds_files() {
    const AGENTS: &str = "agents.x-k8s.io/v1beta1";
    const EXTENSIONS: &str = "extensions.agents.x-k8s.io/v1beta1";
    let sandboxes = [
        ("by hand", sandbox(None, false), true),
        ("of another controller", sandbox(Some(("example.com/v1", "SandboxClaim")), false), true),
        ("of a claim", sandbox(Some((EXTENSIONS, "SandboxClaim")), false), false),
        ("of a pool", sandbox(Some((EXTENSIONS, "SandboxWarmPool")), false), false),
        ("of a seed claim", sandbox(Some((AGENTS, "SandboxClaim")), false), false),
        ("of a seed pool", sandbox(Some((AGENTS, "SandboxWarmPool")), false), false),
        ("of a claim and its template", sandbox(Some((EXTENSIONS, "SandboxClaim")), true), false),
        ("of a template whose claim left it behind", sandbox(None, true), false),
    ];
    let hash = name_hash("s");
    let labels = [json!({ label::ADOPTABLE: "true" }), json!({ label::SANDBOX_NAME_HASH: hash })];
    for (whose, sandbox, stand_alone) in &sandboxes {
        for (kind, specs) in specs() {
            let wanted = json!({ "spec": specs[0] });
            for (spec, labels) in specs.into_iter().flat_map(|s| labels.iter().map(move |l| (s.clone(), l))) {
                let metadata = json!({ "name": "s", "namespace": "n", "uid": "x", "labels": labels });
                let object = Object::from_json(kind, json!({ "metadata": metadata, "spec": spec })).unwrap();
                let expected = if *stand_alone || kind == Kind::Service { Adoption::Yes } else { Adoption::Prepared };
                assert_eq!(adoption(sandbox, &object, &wanted), expected, "{whose}: {kind:?} {labels} {spec}");
                // An object that nobody offers is never adopted.
                let metadata = json!({ "name": "s", "namespace": "n", "uid": "x" });
                let foreign = Object::from_json(kind, json!({ "metadata": metadata, "spec": spec })).unwrap();
                assert_eq!(adoption(sandbox, &foreign, &wanted), Adoption::No, "{whose}: {kind:?} {spec}");
            }
        }
    }
}
