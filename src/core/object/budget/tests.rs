//! Objects within their budget and beyond it.

use paddock_api::kind::Kind;
use serde_json::{Value, json};

use super::*;
use crate::object::Object;

fn sandbox(pod: Value) -> Value {
    json!({
        "metadata": { "name": "s", "namespace": "n", "uid": "u", "resourceVersion": "1" },
        "spec": { "podTemplate": { "spec": pod } },
    })
}

fn errors(kind: Kind, document: Value) -> Vec<String> {
    let object = Object::from_json(kind, document).unwrap();
    let of_sandbox = object.sandbox().and_then(|body| body.spec.as_ref().err());
    let of_template = object.template().and_then(|body| body.spec.as_ref().err());
    let of_claim = object.claim().and_then(|body| body.spec.as_ref().err());
    let spec = of_sandbox.or(of_template).or(of_claim);
    spec.into_iter().flat_map(|errors| errors.as_slice()).map(ToString::to_string).collect()
}

fn many(count: usize, item: impl Fn(usize) -> Value) -> Value {
    (0..count).map(item).collect()
}

#[test]
fn a_list_of_too_many_objects_is_an_error_at_its_path() {
    let long = || many(LIST_ITEMS_MAX + 1, |n| json!({ "name": format!("v{n}") }));
    let at = "spec.podTemplate.spec";
    for (pod, path) in [
        (json!({ "containers": [{ "name": "c" }], "volumes": long() }), format!("{at}.volumes")),
        (json!({ "containers": long() }), format!("{at}.containers")),
        (json!({ "containers": [{ "name": "c" }, { "name": "d", "env": long() }] }), format!("{at}.containers[1].env")),
        (json!({ "containers": [{ "name": "c" }], "tolerations": long() }), format!("{at}.tolerations")),
        (
            json!({ "volumes": [{ "name": "v", "projected": { "sources": long() } }] }),
            format!("{at}.volumes[0].projected.sources"),
        ),
    ] {
        assert_eq!(
            errors(Kind::Sandbox, sandbox(pod)),
            [format!("{path}: too large: the list has more than the 1000 items that are allowed")]
        );
    }
    let claim = json!({ "warmPoolRef": { "name": "p" }, "env": long() });
    assert!(
        errors(Kind::Claim, json!({ "metadata": { "name": "c" }, "spec": claim }))[0]
            .starts_with("spec.env: too large")
    );
}

#[test]
fn the_budget_counts_what_users_write() {
    let of = |value: usize, status: usize, managed: usize| {
        let mut document = sandbox(json!({ "containers": [{
            "name": "c", "image": "i", "env": [{ "name": "E", "value": "x".repeat(value) }],
        }] }));
        document["status"] = json!({ "selector": "x".repeat(status) });
        let fields = json!({ "f:spec": { "x".repeat(managed): {} } });
        document["metadata"]["managedFields"] = json!([{ "manager": "m", "operation": "Update", "fieldsV1": fields }]);
        document
    };
    let fixed = Object::from_json(Kind::Sandbox, of(0, 0, 0))
        .map(|_| paddock_api::document::Document::parse(&of(0, 0, 0).to_string()).unwrap().bytes);
    let room = OBJECT_BYTES_MAX - fixed.unwrap();
    assert_eq!(errors(Kind::Sandbox, of(room, 400_000, 1_400_000)), [""; 0]);
    assert_eq!(
        errors(Kind::Sandbox, of(room + 1, 0, 0)),
        [
            "spec: too large: the object has 1025 KiB of JSON without status and managed fields, and at most 1024 KiB are allowed"
        ]
    );
    let object = Object::from_json(Kind::Sandbox, of(room + 1, 5, 0)).unwrap();
    assert_eq!(object.sandbox().unwrap().status.selector.as_deref(), Some("xxxxx"), "the status is read");
}

#[test]
fn a_pod_of_two_hundred_containers_is_within_the_budget() {
    let containers = many(200, |n| {
        json!({
            "name": format!("container-{n}"), "image": format!("registry.example.com/team/image-{n}:1.2.3"),
            "command": ["/bin/sh", "-c", "exec /usr/bin/server --port $PORT"],
            "env": many(50, |n| json!({ "name": format!("VARIABLE_{n}"), "value": "a value of some length" })),
            "ports": many(10, |p| json!({ "name": format!("p{n}-{p}"), "containerPort": 1 + n * 10 + p })),
            "volumeMounts": many(5, |v| json!({ "name": format!("volume-{}", n * 5 + v), "mountPath": format!("/mnt/{v}") })),
            "resources": { "requests": { "cpu": "10m", "memory": "16Mi" }, "limits": { "memory": "32Mi" } },
            "readinessProbe": { "httpGet": { "path": "/healthz", "port": 1 + n * 10 }, "periodSeconds": 5 },
        })
    });
    let volumes = many(1000, |n| json!({ "name": format!("volume-{n}"), "emptyDir": {} }));
    assert_eq!(errors(Kind::Sandbox, sandbox(json!({ "containers": containers, "volumes": volumes }))), [""; 0]);
}

#[test]
fn lists_of_texts_have_no_limit_of_their_own() {
    let args = many(100_000, |_| "x".into());
    let pod = json!({ "containers": [{ "name": "c", "image": "i", "args": args }] });
    assert_eq!(errors(Kind::Sandbox, sandbox(pod.clone())), [""; 0]);
    let template = json!({ "metadata": { "name": "t" }, "spec": { "podTemplate": { "spec": pod } } });
    assert_eq!(errors(Kind::Template, template), [""; 0]);
}
#[test]
fn zz_measure() {
    use crate::world::{Observed, World};
    use jiff::Timestamp;
    let rss = || -> usize {
        let t = std::fs::read_to_string("/proc/self/statm").unwrap();
        t.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    };
    let mut world = World::new(crate::settings::Settings::default());
    let containers = json!([{ "name": "runtime", "image": "registry.example.com/team/python:3.12", "env": [{"name":"A","value":"b"},{"name":"B","value":"c"}],
        "ports": [{"containerPort": 8888, "name": "http"}], "resources": {"requests": {"cpu":"100m","memory":"128Mi"}, "limits": {"memory":"256Mi"}},
        "volumeMounts": [{"name":"work","mountPath":"/work"}], "readinessProbe": {"httpGet": {"path":"/","port":8888}} }]);
    let cond = |t: &str| json!({"type": t, "status": "True", "reason": "DependenciesReady", "message": "Pod is Ready; Service Exists", "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let before = rss();
    let n = 5000;
    for i in 0..n {
        let name = format!("pool-{i:05}");
        let uid = format!("11111111-2222-3333-4444-{i:012}");
        let sb = json!({"metadata": {"name": name, "namespace": "team", "uid": uid, "resourceVersion": format!("{}", 1000 + i), "generation": 1,
            "labels": {"agents.x-k8s.io/sandbox-template-ref-hash": "abcd1234", "agents.x-k8s.io/sandbox-template-hash": "0123456789abcdef", "agents.x-k8s.io/warm-pool-sandbox": "12345678", "agents.x-k8s.io/launch-type": "warm"},
            "annotations": {"agents.x-k8s.io/sandbox-template-ref": "template", "agents.x-k8s.io/pod-name": name, "agents.x-k8s.io/warm-pool": "pool"},
            "ownerReferences": [{"apiVersion": "extensions.agents.x-k8s.io/v1beta1", "kind": "SandboxWarmPool", "name": "pool", "uid": "99999999-2222-3333-4444-000000000000", "controller": true}]},
            "spec": {"podTemplate": {"metadata": {"labels": {"app": "x", "agents.x-k8s.io/sandbox-template-ref-hash": "abcd1234"}}, "spec": {"containers": containers, "volumes": [{"name": "work", "emptyDir": {}}]}}, "operatingMode": "Running", "replicas": 1},
            "status": {"conditions": [cond("Ready"), cond("Suspended"), cond("PodScheduled")], "selector": "agents.x-k8s.io/sandbox-name-hash=12345678", "service": name, "serviceFQDN": format!("{name}.team.svc.cluster.local"), "podIPs": ["10.0.0.1"], "nodeName": "node-1", "replicas": 1, "mode": "Running", "runtimeClass": {"name": "gvisor", "reason": "as the Sandbox says", "plugin": "by-label"}}});
        let pod = json!({"metadata": {"name": name, "namespace": "team", "uid": format!("p{uid}"), "resourceVersion": format!("{}", 900000 + i), "generation": 1,
            "labels": {"app": "x", "agents.x-k8s.io/sandbox-template-ref-hash": "abcd1234", "agents.x-k8s.io/warm-pool-sandbox": "12345678", "agents.x-k8s.io/sandbox-name-hash": "12345678", "policy.paddock.dev/sandbox-uid": uid},
            "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "true", "policy.paddock.dev/pod-revision": "x".repeat(300), "policy.paddock.dev/runtime-class-reason": "as the Sandbox says"},
            "ownerReferences": [{"apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "name": name, "uid": uid, "controller": true}]},
            "spec": {"nodeName": "node-1", "runtimeClassName": "gvisor", "containers": containers, "volumes": [{"name": "work", "emptyDir": {}}]},
            "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}], "conditions": [cond("Ready"), cond("PodScheduled")]}});
        let _ = world.observe(Observed::Applied(Object::from_json(Kind::Sandbox, sb).unwrap()), Timestamp::UNIX_EPOCH);
        let _ = world.observe(Observed::Applied(Object::from_json(Kind::Pod, pod).unwrap()), Timestamp::UNIX_EPOCH);
    }
    let after = rss();
    eprintln!("MEASURE sandbox+pod: {} bytes", (after - before) / n);
    let before = rss();
    for i in 0..20000 {
        let pod = json!({"metadata": {"name": format!("deployment-7d8f9c6b5-{i:05}"), "namespace": "apps", "uid": format!("11111111-2222-3333-5555-{i:012}"), "resourceVersion": format!("{}", 900000 + i),
            "labels": {"app": "x", "pod-template-hash": "7d8f9c6b5"}, "annotations": {"a": "x".repeat(300)},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "deployment-7d8f9c6b5", "uid": format!("99999999-2222-3333-4444-{:012}", i / 5), "controller": true}]},
            "spec": {"nodeName": "node-1", "containers": containers}, "status": {"phase": "Running", "conditions": [cond("Ready"), cond("PodScheduled")]}});
        let _ = world.observe(Observed::Applied(Object::from_json(Kind::Pod, pod).unwrap()), Timestamp::UNIX_EPOCH);
    }
    eprintln!("MEASURE foreign pod: {} bytes", (rss() - before) / 20000);
    let before = rss();
    for (shape, make) in [("volumes", 0), ("env value", 1), ("args", 2), ("volumes under the bytes", 3)] {
        for i in 0..20 {
            let pod = match make {
                0 => {
                    json!({"containers": [{"name":"c"}], "volumes": many(44000, |n| json!({"name": format!("v{n:05}"), "emptyDir": {}}))})
                }
                1 => json!({"containers": [{"name":"c", "env": [{"name":"A","value":"x".repeat(1_000_000)}]}]}),
                2 => json!({"containers": [{"name":"c", "args": many(120_000, |n| format!("a{n}").into())}]}),
                _ => {
                    json!({"containers": [{"name":"c"}], "volumes": many(30000, |n| json!({"name": format!("v{n:05}"), "emptyDir": {}}))})
                }
            };
            let text = sandbox(pod).to_string().replace("\"name\":\"s\"", &format!("\"name\":\"s{make}{i}\""));
            let object = Object::from_text(Kind::Sandbox, &text).unwrap();
            let _ = world.observe(Observed::Applied(object), Timestamp::UNIX_EPOCH);
        }
        eprintln!("MEASURE 20 x {shape}: {} MB in all", (rss() - before) / 1_000_000);
    }
    eprintln!(
        "SIZES Object {} Meta {} Sandbox {} Status {}",
        size_of::<Object>(),
        size_of::<crate::object::Meta>(),
        size_of::<crate::model::Sandbox>(),
        size_of::<paddock_api::SandboxStatus>()
    );
}
