//! Tests of the parsers: a manifest, and the errors that it gives.

mod claims;

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use paddock_api::kind::ApiShape;
use paddock_api::{OperatingMode, ResumePolicy};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;

fn from_yaml<T: DeserializeOwned>(yaml: &str) -> T {
    serde_yaml_ng::from_str(yaml).unwrap()
}

fn wire<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// The errors in the form `path: message`.
fn errors<T>(result: Result<T, FieldErrors>) -> Vec<String> {
    result.err().map(|e| e.as_slice().iter().map(ToString::to_string).collect()).unwrap_or_default()
}

/// Expects exactly one error, in this field and with this text.
fn expect<T>(what: &str, result: Result<T, FieldErrors>, path: &str, message: &str) {
    let errors = errors(result);
    assert_eq!(errors.len(), 1, "{what}: {errors:?}");
    assert!(errors[0].starts_with(&format!("{path}: ")), "{what}: {errors:?} is not about {path}");
    assert!(errors[0].contains(message), "{what}: {errors:?} does not say {message:?}");
}

/// A valid Sandbox of the upstream shape, with `change` merged into it.
fn sandbox(change: Value) -> Result<Sandbox, FieldErrors> {
    let mut value = json!({
        "apiVersion": "agents.x-k8s.io/v1beta1",
        "kind": "Sandbox",
        "metadata": { "name": "a", "namespace": "n" },
        "spec": { "podTemplate": { "spec": { "containers": [{ "name": "main", "image": "i" }] } } },
    });
    json_patch::merge(&mut value, &change);
    parse(&value, parse_sandbox)
}

/// Parses the metadata and the spec of a manifest.
fn parse<W: DeserializeOwned, M>(
    manifest: &Value,
    model: impl FnOnce(&ObjectMeta, &W) -> Result<M, FieldErrors>,
) -> Result<M, FieldErrors> {
    model(&wire(manifest["metadata"].clone()), &wire(manifest["spec"].clone()))
}

/// A valid Sandbox with this pod spec.
fn pod(spec: Value) -> Result<Sandbox, FieldErrors> {
    sandbox(json!({ "spec": { "podTemplate": { "spec": spec } } }))
}

/// A valid Sandbox whose only container has these changes.
fn container(change: Value) -> Result<Sandbox, FieldErrors> {
    let mut value = json!({ "name": "main", "image": "i" });
    json_patch::merge(&mut value, &change);
    pod(json!({ "containers": [value] }))
}

const SEED_SANDBOX: &str = "
apiVersion: agents.x-k8s.io/v1alpha1
kind: Sandbox
metadata: { name: research-agent, namespace: agents }
spec:
  runtimeClassName: gvisor
  template:
    spec:
      containers:
        - name: agent
          image: example.com/agent:1
          resources: { requests: { cpu: 500m, memory: 1Gi }, limits: { cpu: 2, memory: 4Gi } }
      volumes:
        - name: workspace
          emptyDir: {}
  idleTimeout: 30m
  resumePolicy: OnDemand
";

#[test]
fn a_seed_sandbox_means_what_its_author_expects() {
    let sandbox = parse(&from_yaml(SEED_SANDBOX), parse_sandbox).unwrap();
    assert_eq!(sandbox.shape, ApiShape::Seed);
    assert_eq!(sandbox.runtime_class.as_deref(), Some("gvisor"));
    assert_eq!(sandbox.idle_timeout, Some(Duration::from_secs(1800)));
    assert_eq!((sandbox.resume, sandbox.service), (ResumePolicy::OnDemand, ServiceIntent::Stable));
    let spec = sandbox.pod.spec.parse();
    assert_eq!(spec.containers.len(), 1);
    let limits = spec.containers[0].resources.as_ref().unwrap().limits.as_ref().unwrap();
    assert_eq!(limits["cpu"].0, "2", "a number is a quantity too");
    assert_eq!((sandbox.operating_mode, sandbox.replicas), (None, None));
}

#[test]
fn seed_templates_pools_and_claims_mean_what_their_author_expects() {
    let template = parse_template(
        ApiShape::Seed,
        &wire(json!({
            "template": { "spec": { "runtimeClassName": "gvisor", "containers": [{ "name": "agent" }] } },
        })),
    )
    .unwrap();
    assert_eq!((template.shape, template.runtime_class.as_deref()), (ApiShape::Seed, Some("gvisor")));
    assert_eq!((template.service, template.network), (ServiceIntent::Headless, NetworkPolicy::SecureDefault));
    let pool = json!({ "templateRef": { "name": "t" }, "minReady": 5, "maxReady": 20 });
    let pool = parse_pool(ApiShape::Seed, &wire(pool)).unwrap();
    assert_eq!((pool.template.as_str(), pool.size), ("t", PoolSize::Between { min: 5, max: 20 }));
    let claim = parse_claim(ApiShape::Seed, &wire(json!({ "templateRef": { "name": "t" } })));
    assert_eq!(claim.unwrap().source, ClaimSource::Template { name: "t".to_owned(), pools: PoolChoice::Any });
}

#[test]
fn the_service_follows_shape_field_and_resume_policy() {
    let seed = |spec: Value| {
        let mut value =
            json!({ "spec": { "podTemplate": null, "template": { "spec": { "containers": [{ "name": "m" }] } } } });
        json_patch::merge(&mut value, &json!({ "spec": spec }));
        sandbox(value).unwrap().service
    };
    let upstream = |spec: Value| sandbox(json!({ "spec": spec })).unwrap().service;
    for (service, intent) in [
        (json!(null), ServiceIntent::Keep),
        (json!(true), ServiceIntent::Headless),
        (json!(false), ServiceIntent::Absent),
    ] {
        assert_eq!(upstream(json!({ "service": service })), intent);
        assert_eq!(upstream(json!({ "service": service, "resumePolicy": "OnDemand" })), ServiceIntent::Stable);
        assert_eq!(seed(json!({ "service": service })), ServiceIntent::Headless);
        assert_eq!(seed(json!({ "service": service, "resumePolicy": "OnDemand" })), ServiceIntent::Stable);
    }
}

#[test]
fn a_sandbox_is_described_in_exactly_one_shape() {
    let template = json!({ "spec": { "containers": [{ "name": "m" }] } });
    expect("both", sandbox(json!({ "spec": { "template": template } })), "spec.template", "one of the two");
    expect("neither", sandbox(json!({ "spec": { "podTemplate": null } })), "spec.podTemplate", "spec.template");
}

#[test]
fn two_runtime_classes_agree_or_are_an_error() {
    let named = |beside: Value, inside: Value| {
        sandbox(
            json!({ "spec": { "runtimeClassName": beside, "podTemplate": { "spec": { "runtimeClassName": inside } } } }),
        )
    };
    for (beside, inside) in [(json!("a"), json!(null)), (json!(null), json!("a")), (json!("a"), json!("a"))] {
        assert_eq!(named(beside, inside).unwrap().runtime_class.as_deref(), Some("a"));
    }
    assert_eq!(named(json!(""), json!(null)).unwrap().runtime_class, None);
    expect("at odds", named(json!("a"), json!("b")), "spec.runtimeClassName", "must agree");
    expect("no name", named(json!("A b"), json!(null)), "spec.runtimeClassName", "DNS name");
    expect("no name", named(json!(null), json!("A")), "spec.podTemplate.spec.runtimeClassName", "DNS name");
}

#[test]
fn modes_are_read_from_both_fields() {
    let read = |spec: Value| {
        let sandbox = sandbox(json!({ "spec": spec })).unwrap();
        (sandbox.operating_mode, sandbox.replicas)
    };
    assert_eq!(read(json!({ "replicas": 0 })), (None, Some(OperatingMode::Suspended)));
    assert_eq!(read(json!({ "replicas": 1 })), (None, Some(OperatingMode::Running)));
    assert_eq!(read(json!({ "operatingMode": "Suspended" })), (Some(OperatingMode::Suspended), None));
    for n in [2, -1] {
        expect(
            "replicas",
            sandbox(json!({ "spec": { "replicas": n } })),
            "spec.replicas",
            "0 (suspended) or 1 (running)",
        );
    }
}

#[test]
fn durations_and_times_are_read_or_named() {
    for (text, message) in [
        ("30 minutes", "unknown unit"),
        ("1d", "unknown unit"),
        ("30", "without a unit"),
        ("0s", "above zero"),
        ("-5m", "above zero"),
        ("", "empty"),
        ("87600h1ns", "too long"),
        ("99999999h", "too long"),
    ] {
        let result = sandbox(json!({ "spec": { "idleTimeout": text } }));
        expect(text, result, "spec.idleTimeout", message);
        let again = errors(sandbox(json!({ "spec": { "idleTimeout": text } })));
        assert!(again[0].contains("such as 30m"), "{again:?} says what would be right");
    }
    let longest = sandbox(json!({ "spec": { "idleTimeout": "87600h" } })).unwrap();
    assert_eq!(longest.idle_timeout, Some(Duration::from_secs(87_600 * 3600)));
    let at = sandbox(json!({ "spec": { "shutdownTime": "2030-01-31T12:00:00.5+01:00" } })).unwrap().shutdown.at;
    assert_eq!(at, Some("2030-01-31T11:00:00.5Z".parse().unwrap()));
    for text in [
        "tomorrow",
        "2030-01-31",
        "2030-01-31 12:00:00Z",
        "2030-13-31T12:00:00Z",
        "2030-01-31T12:00:00Z[UTC]",
        "1900000000",
    ] {
        expect(text, sandbox(json!({ "spec": { "shutdownTime": text } })), "spec.shutdownTime", "2030-01-31T12:00:00Z");
    }
}

#[test]
fn name_of_a_sandbox_with_a_service_is_a_dns_label() {
    let seed = json!({ "podTemplate": null, "template": { "spec": { "containers": [{ "name": "m" }] } } });
    let with = [json!({ "service": true }), json!({ "resumePolicy": "OnDemand" }), seed];
    let long = "a".repeat(64);
    for name in ["a.b", "A", &long] {
        for spec in &with {
            let made = sandbox(json!({ "metadata": { "name": name }, "spec": spec }));
            expect(name, made, "metadata.name", "Service");
        }
    }
    // The API server has its own rule for the other names.
    for (name, service) in [("a.b", json!(null)), ("a.b", json!(false)), (&*long, json!(null)), ("7up", json!(true))] {
        let made = sandbox(json!({ "metadata": { "name": name }, "spec": { "service": service } }));
        assert_eq!(errors(made), [""; 0], "{name}");
    }
    let generated = |prefix: &str| {
        let metadata = json!({ "name": null, "generateName": prefix });
        sandbox(json!({ "metadata": metadata, "spec": { "service": true } }))
    };
    for prefix in ["job-", &"x".repeat(80)] {
        assert_eq!(errors(generated(prefix)), [""; 0], "{prefix}: the API server shortens it");
    }
    expect("prefix", generated("a."), "metadata.generateName", "Service");
}

#[test]
fn a_pod_that_the_api_server_would_refuse_is_refused() {
    const SPEC: &str = "spec.podTemplate.spec";
    let main = json!([{ "name": "main" }]);
    for (what, result, path, message) in [
        ("no containers", pod(json!({ "containers": [] })), "containers", "at least one"),
        ("a nameless container", pod(json!({ "containers": [{ "name": "" }] })), "containers[0].name", "required"),
        ("a container's odd name", container(json!({ "name": "Main" })), "containers[0].name", "DNS label"),
        (
            "two containers of a name",
            pod(json!({ "containers": [{ "name": "a" }, { "name": "a" }] })),
            "containers[1].name",
            "used once",
        ),
        (
            "an init container of a container's name",
            pod(json!({ "containers": main, "initContainers": [{ "name": "main" }] })),
            "containers[0].name",
            "used once",
        ),
        (
            "two volumes of a name",
            pod(
                json!({ "containers": main, "volumes": [{ "name": "v", "emptyDir": {} }, { "name": "v", "emptyDir": {} }] }),
            ),
            "volumes[1].name",
            "used once",
        ),
        (
            "a size that is none",
            pod(json!({ "containers": main, "volumes": [{ "name": "v", "emptyDir": { "sizeLimit": "1GB" } }] })),
            "volumes[0].emptyDir.sizeLimit",
            "such as 500m, 2 or 1Gi",
        ),
        (
            "a restart policy that is none",
            pod(json!({ "containers": main, "restartPolicy": "Sometimes" })),
            "restartPolicy",
            "Always, OnFailure or Never",
        ),
        (
            "ephemeral containers",
            pod(json!({ "containers": main, "ephemeralContainers": [{ "name": "debug" }] })),
            "ephemeralContainers",
            "kubectl debug",
        ),
    ] {
        expect(what, result, &format!("{SPEC}.{path}"), message);
    }
    let twice =
        container(json!({ "volumeMounts": [{ "name": "v", "mountPath": "/w" }, { "name": "v", "mountPath": "/w" }] }));
    assert!(errors(twice).iter().any(|e| e.contains("volumeMounts[1].mountPath: `/w` must be used once")));
}

#[test]
fn impossible_quantities_are_refused() {
    const AT: &str = "spec.podTemplate.spec.containers[0].resources";
    for (resources, path, message) in [
        (json!({ "limits": { "cpu": "two" } }), "limits.cpu", "must be a quantity"),
        (json!({ "limits": { "memory": "4GB" } }), "limits.memory", "must be a quantity"),
        (json!({ "requests": { "cpu": "-1" } }), "requests.cpu", "must not be negative"),
        (
            json!({ "requests": { "cpu": "2" }, "limits": { "cpu": "1500m" } }),
            "requests.cpu",
            "at most the limit, which is `1500m`",
        ),
        (
            json!({ "requests": { "memory": "1Gi" }, "limits": { "memory": "1G" } }),
            "requests.memory",
            "at most the limit",
        ),
    ] {
        expect(path, container(json!({ "resources": resources })), &format!("{AT}.{path}"), message);
    }
    for resources in [
        json!({ "requests": { "cpu": 1 }, "limits": { "cpu": "1000m" } }),
        json!({ "requests": { "cpu": "5" }, "limits": { "memory": "1Gi" } }),
        json!({ "limits": { "example.com/gpu": 1 } }),
    ] {
        assert_eq!(errors(container(json!({ "resources": resources }))), [""; 0], "{resources}");
    }
}

#[test]
fn volume_claims_have_a_name_and_a_possible_size() {
    let claim = |change: Value| {
        let mut template = json!({
            "metadata": { "name": "data" },
            "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
        });
        json_patch::merge(&mut template, &change);
        sandbox(json!({ "spec": {
            "volumeClaimTemplates": [template],
            "podTemplate": { "spec": { "containers": [{ "name": "m", "volumeMounts": [{ "name": "data", "mountPath": "/d" }] }] } },
        } }))
    };
    assert_eq!(claim(json!({})).unwrap().volume_claims[0].name, "data");
    let storage = |text: Value| claim(json!({ "spec": { "resources": { "requests": { "storage": text } } } }));
    const AT: &str = "spec.volumeClaimTemplates[0]";
    for (what, result, path, message) in [
        ("nothing to store", storage(json!("0")), "spec.resources.requests.storage", "above zero"),
        ("no quantity", storage(json!("a lot")), "spec.resources.requests.storage", "must be a quantity"),
        (
            "more than the limit",
            claim(json!({ "spec": { "resources": { "limits": { "storage": "1M" } } } })),
            "spec.resources.requests.storage",
            "at most the limit",
        ),
        ("an odd name", claim(json!({ "metadata": { "name": "Data" } })), "metadata.name", "DNS label"),
    ] {
        let errors = errors(result);
        assert_eq!(errors.len(), 1, "{what}: {errors:?}");
        assert!(errors[0].starts_with(&format!("{AT}.{path}: ")) && errors[0].contains(message), "{what}: {errors:?}");
    }
}

/// A webhook may add volumes to pods, and access modes and a size to volume claims. Upstream admits such objects.
#[test]
fn what_a_webhook_may_add_is_not_missed() {
    let container = json!({ "name": "m", "volumeMounts": [{ "name": "w", "mountPath": "/w" }],
                            "volumeDevices": [{ "name": "d", "devicePath": "/d" }] });
    let spec = json!({
        "podTemplate": { "spec": { "containers": [container] } },
        "volumeClaimTemplates": [{ "metadata": { "name": "data" }, "spec": {} }],
    });
    assert_eq!(errors(sandbox(json!({ "spec": spec }))), [""; 0]);
    assert_eq!(errors(parse_template(ApiShape::Upstream, &wire(spec))), [""; 0]);
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let result = sandbox(json!({
        "metadata": { "name": "A" },
        "spec": {
            "service": true,
            "idleTimeout": "soon",
            "shutdownTime": "later",
            "podTemplate": { "metadata": { "labels": { "-": "ok", "ok": "-" } }, "spec": { "containers": [] } },
        },
    }));
    let paths: Vec<String> = result.unwrap_err().into_vec().into_iter().map(|e| e.path).collect();
    for path in [
        "metadata.name",
        "spec.shutdownTime",
        "spec.idleTimeout",
        "spec.podTemplate.metadata.labels",
        "spec.podTemplate.metadata.labels[ok]",
        "spec.podTemplate.spec.containers",
    ] {
        assert!(paths.iter().any(|p| p == path), "{path} in {paths:?}");
    }
    assert_eq!(paths.len(), 6, "{paths:?}");
}

#[test]
fn unknown_fields_and_extra_status_are_ignored() {
    let document = json!({
        "metadata": { "name": "a", "managedFields": [{ "manager": "m" }], "later": 1 },
        "spec": { "later": { "a": 1 }, "podTemplate": { "spec": { "containers": [{ "name": "main", "image": "i" }] } } },
        "status": { "later": true, "podIPs": ["10.0.0.1"] },
    });
    let object = crate::object::Object::from_json(paddock_api::kind::Kind::Sandbox, document).unwrap();
    let parsed = object.sandbox().unwrap();
    assert!(parsed.spec.is_ok());
    assert_eq!(parsed.status.pod_ips, ["10.0.0.1"]);
}

#[test]
fn a_missing_required_field_of_a_shape_is_named() {
    let empty = || json!({});
    for (shape, template, reference) in
        [(ApiShape::Upstream, "podTemplate", "sandboxTemplateRef"), (ApiShape::Seed, "template", "templateRef")]
    {
        expect("template", parse_template(shape, &wire(empty())), "spec", &format!("missing field `{template}`"));
        expect("pool", parse_pool(shape, &wire(empty())), "spec", &format!("missing field `{reference}`"));
    }
    let other = json!({ "templateRef": { "name": "t" } });
    expect("other shape", parse_pool(ApiShape::Upstream, &wire(other)), "spec", "`sandboxTemplateRef`");
}
