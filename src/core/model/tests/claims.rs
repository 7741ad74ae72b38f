//! Tests of the parsers of pools and claims: a manifest, and the errors that it gives.

use crate::object::TextMap;
use std::sync::Arc;
use std::time::Duration;

use paddock_api::kind::ApiShape;
use paddock_api::names::annotation;
use serde_json::{Value, json};

use super::super::*;
use super::{errors, expect, parse, sandbox};
use crate::model;
use crate::settings::Settings;

#[test]
fn a_pools_size_comes_from_bounds_before_replicas() {
    let size = |spec: Value| {
        let mut value = json!({ "metadata": { "name": "p" }, "spec": { "sandboxTemplateRef": { "name": "t" } } });
        json_patch::merge(&mut value, &json!({ "spec": spec }));
        parse(&value, |_, spec| parse_pool(ApiShape::Upstream, spec)).map(|p| p.size)
    };
    for (spec, expected) in [
        (json!({}), PoolSize::Fixed(1)),
        (json!({ "replicas": 0 }), PoolSize::Fixed(0)),
        (json!({ "replicas": 3 }), PoolSize::Fixed(3)),
        (json!({ "replicas": 1, "minReady": 5, "maxReady": 20 }), PoolSize::Between { min: 5, max: 20 }),
        (json!({ "minReady": 5 }), PoolSize::Between { min: 5, max: 5 }),
        (json!({ "maxReady": 5 }), PoolSize::Between { min: 0, max: 5 }),
        (json!({ "minReady": 0, "maxReady": 0 }), PoolSize::Between { min: 0, max: 0 }),
    ] {
        assert_eq!(size(spec.clone()), Ok(expected), "{spec}");
    }
    expect("crossed", size(json!({ "minReady": 6, "maxReady": 5 })), "spec.minReady", "at most maxReady, which is `5`");
    expect("negative", size(json!({ "maxReady": -1 })), "spec.maxReady", "negative");
    expect("negative", size(json!({ "replicas": -1 })), "spec.replicas", "negative");
    assert_eq!((PoolSize::Fixed(3).min(), PoolSize::Fixed(3).max()), (3, 3));
}

fn claim(spec: Value) -> Result<Claim, FieldErrors> {
    claim_of(ApiShape::Upstream, spec)
}

fn claim_of(shape: ApiShape, spec: Value) -> Result<Claim, FieldErrors> {
    let manifest = json!({ "metadata": { "name": "c" }, "spec": spec });
    parse(&manifest, |_, spec| parse_claim(shape, spec))
}

#[test]
fn a_claim_names_a_pool_or_a_template_of_either_version() {
    let template = |pools| ClaimSource::Template { name: "t".to_owned(), pools };
    for (spec, expected) in [
        (json!({ "warmPoolRef": { "name": "p" } }), ClaimSource::Pool("p".to_owned())),
        (json!({ "sandboxTemplateRef": { "name": "t" } }), template(PoolChoice::Any)),
        (json!({ "sandboxTemplateRef": { "name": "t" }, "warmpool": "default" }), template(PoolChoice::Any)),
        (json!({ "sandboxTemplateRef": { "name": "t" }, "warmpool": "none" }), template(PoolChoice::NoPool)),
        (
            json!({ "sandboxTemplateRef": { "name": "t" }, "warmpool": "p" }),
            template(PoolChoice::Named("p".to_owned())),
        ),
    ] {
        assert_eq!(claim(spec.clone()).unwrap().source, expected, "{spec}");
    }
    let (pool, template) = (json!({ "name": "p" }), json!({ "name": "t" }));
    expect(
        "both",
        claim(json!({ "warmPoolRef": pool, "sandboxTemplateRef": template })),
        "spec.sandboxTemplateRef",
        "a pool or a template, not both",
    );
    expect("neither", claim(json!({})), "spec.warmPoolRef", "spec.sandboxTemplateRef names a template");
    expect("a pool and a choice", claim(json!({ "warmPoolRef": pool, "warmpool": "q" })), "spec.warmpool", "absent");
    expect("no name", claim(json!({ "warmPoolRef": { "name": "" } })), "spec.warmPoolRef.name", "DNS name");
    let seed = |spec: Value| claim_of(ApiShape::Seed, spec);
    assert_eq!(seed(json!({ "warmPoolRef": pool })).unwrap().source, ClaimSource::Pool("p".to_owned()));
    expect("both", seed(json!({ "warmPoolRef": pool, "templateRef": template })), "spec.templateRef", "not both");
    expect("neither", seed(json!({})), "spec.warmPoolRef", "spec.templateRef names a template");
}

#[test]
fn a_claims_end_is_read() {
    let lifecycle = |lifecycle: Value| claim(json!({ "warmPoolRef": { "name": "p" }, "lifecycle": lifecycle }));
    let end = lifecycle(json!({
        "shutdownTime": "2030-01-31T12:00:00Z", "ttlSecondsAfterFinished": 60, "shutdownPolicy": "DeleteForeground",
    }))
    .unwrap()
    .end;
    assert_eq!(
        (end.after_finished, end.policy),
        (Some(Duration::from_secs(60)), paddock_api::ClaimShutdownPolicy::DeleteForeground)
    );
    assert_eq!(lifecycle(json!({})).unwrap().end, ClaimEnd::default());
    let negative = lifecycle(json!({ "ttlSecondsAfterFinished": -1 }));
    expect("negative", negative, "spec.lifecycle.ttlSecondsAfterFinished", "negative");
    expect("no time", lifecycle(json!({ "shutdownTime": "soon" })), "spec.lifecycle.shutdownTime", "RFC 3339");
}

/// Each of the two has a reason of its own in the status of the claim.
#[test]
fn errors_of_variables_and_volume_claims_are_kept_for_the_status() {
    let of = |spec: Value| {
        let mut whole = json!({ "warmPoolRef": { "name": "p" } });
        json_patch::merge(&mut whole, &spec);
        let claim = claim(whole).unwrap();
        (claim.env_errors.map_or(Ok(()), Err), claim.volume_errors.map_or(Ok(()), Err))
    };
    let (env, volumes) = of(json!({ "env": [{ "name": "A=B", "value": "" }] }));
    expect("env", env, "spec.env[0].name", "without '='");
    assert_eq!(volumes, Ok(()));
    let data = json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } });
    let (env, volumes) = of(json!({ "volumeClaimTemplates": [{ "spec": data }] }));
    assert_eq!(env, Ok(()));
    expect("volumes", volumes, "spec.volumeClaimTemplates[0].metadata.name", "required");
    let many: Vec<Value> = (0..40).map(|_| json!({ "name": "", "value": "" })).collect();
    let many = errors(of(json!({ "env": many })).0);
    assert_eq!((many.len(), many[32].as_str()), (33, "spec: 8 more fields are invalid"));
}

#[test]
fn a_claim_adds_only_metadata_that_nobody_acts_on() {
    let template = sandbox(json!({ "spec": { "podTemplate": { "metadata": {
        "labels": { "sandbox.users.io/tier": "gold" }, "annotations": { "note": "theirs" },
    } } } }))
    .unwrap()
    .pod;
    let label_domains = vec!["sandbox.users.io".to_owned(), "example.com".to_owned()];
    let settings = Settings { label_domains, ..Settings::default() };
    let check = |metadata: Value| {
        let claim = claim(json!({ "warmPoolRef": { "name": "p" }, "additionalPodMetadata": metadata })).unwrap();
        check_claim_metadata(&claim, &template, &settings)
    };
    for metadata in [
        json!({}),
        json!({ "labels": { "sandbox.users.io/user": "ann", "team.example.com/x": "1" } }),
        json!({ "labels": { "sandbox.users.io/tier": "gold" } }),
        json!({ "annotations": { "mine": "1", "sandbox.users.io/x": "anything at all" } }),
        json!({ "annotations": { "podsnapshot.gke.io/ps-name": "snapshot" } }),
        json!({ "annotations": { "cluster-autoscaler.kubernetes.io/safe-to-evict": "false" } }),
    ] {
        assert_eq!(check(metadata.clone()), Ok(()), "{metadata}");
    }
    for (metadata, key, message) in [
        (json!({ "labels": { "team": "a" } }), "labels[team]", "allowed domain: sandbox.users.io, example.com"),
        (
            json!({ "labels": { "agents.x-k8s.io/claim-uid": "a" } }),
            "labels[agents.x-k8s.io/claim-uid]",
            "allowed domain",
        ),
        (
            json!({ "labels": { "policy.paddock.dev/generated-code": "" } }),
            "labels[policy.paddock.dev/generated-code]",
            "allowed domain",
        ),
        (json!({ "labels": { "evilsandbox.users.io/a": "a" } }), "labels[evilsandbox.users.io/a]", "allowed domain"),
        (json!({ "labels": { "sandbox.users.io/a": "not a value" } }), "labels[sandbox.users.io/a]", "letters"),
        (
            json!({ "labels": { "sandbox.users.io/tier": "lead" } }),
            "labels[sandbox.users.io/tier]",
            "`gold`, as the template says",
        ),
        (json!({ "annotations": { "Example.org/x": "" } }), "annotations[Example.org/x]", "allowed domain"),
        (json!({ "annotations": { "not a key": "" } }), "annotations[not a key]", "must be a key"),
        (json!({ "annotations": { "note": "ours" } }), "annotations[note]", "`theirs`, as the template says"),
    ] {
        expect(key, check(metadata), &format!("spec.additionalPodMetadata.{key}"), message);
    }
}

/// Each of these changes what a runtime, a network plugin, a service mesh or a cloud does with the pod.
const INTERPRETED: [&str; 18] = [
    "kubernetes.io/x",
    "Node.Kubernetes.io/x",
    "extensions.agents.x-k8s.io/x",
    "policy.paddock.dev/last-activity",
    "iam.amazonaws.com/role",
    "eks.amazonaws.com/role-arn",
    "iam.gke.io/gcp-service-account",
    "azure.workload.identity/inject-proxy-sidecar",
    "k8s.v1.cni.cncf.io/networks",
    "io.katacontainers.config.hypervisor.kernel_params",
    "dev.gvisor.spec.mount.a.type",
    "io.kubernetes.cri-o.userns-mode",
    "run.oci.handler",
    "sidecar.istio.io/inject",
    "cni.projectcalico.org/ipAddrs",
    "policy.cilium.io/proxy-visibility",
    "vault.hashicorp.com/agent-inject",
    "container.apparmor.security.beta.kubernetes.io/agent",
];

#[test]
fn a_claim_adds_no_annotation_that_others_read() {
    let pod = model::Pod { labels: TextMap::default(), annotations: TextMap::default(), spec: Arc::default() };
    let allows = |domains: &[&str], key: &str| {
        let domains: Vec<String> = domains.iter().map(|domain| (*domain).to_owned()).collect();
        let annotation_domains = [Settings::default().annotation_domains, domains].concat();
        let settings = Settings { annotation_domains, ..Settings::default() };
        let metadata = json!({ "annotations": { key: "" } });
        let claim = claim(json!({ "warmPoolRef": { "name": "p" }, "additionalPodMetadata": metadata })).unwrap();
        check_claim_metadata(&claim, &pod, &settings).is_ok()
    };
    for domains in [&[][..], &["example.com"], &["*"]] {
        for key in INTERPRETED {
            assert!(!allows(domains, key), "{key} with {domains:?}");
        }
        for key in ["mine", "sandbox.users.io/x", "podsnapshot.gke.io/ps-name", annotation::SAFE_TO_EVICT] {
            assert!(allows(domains, key), "{key} with {domains:?}");
        }
        assert_eq!(allows(domains, "notes.example.com/x"), !domains.is_empty(), "{domains:?}");
        assert_eq!(allows(domains, "example.org/x"), domains == ["*"], "{domains:?}");
        assert!(!allows(domains, "example.com.evil.io/x") || domains == ["*"], "{domains:?}");
    }
    for (key, _) in crate::annotation_readers::examples() {
        assert!(!allows(&["*"], &key), "{key}");
    }
    assert!(allows(&["istio.io"], "sidecar.istio.io/inject"), "the operator's flag decides");
}

#[test]
fn a_readiness_grace_period_has_the_minimum_of_the_schema() {
    let grace = |seconds: Value| {
        let spec = json!({ "sandboxTemplateRef": { "name": "t" }, "readinessGracePeriodSeconds": seconds });
        let manifest = json!({ "metadata": { "name": "p" }, "spec": spec });
        parse(&manifest, |_, spec| parse_pool(ApiShape::Upstream, spec))
    };
    assert_eq!(grace(json!(null)).unwrap().readiness_grace, None);
    assert_eq!(grace(json!(30)).unwrap().readiness_grace, Some(Duration::from_secs(30)));
    for low in [29, 0, -1] {
        expect("too short", grace(json!(low)), "spec.readinessGracePeriodSeconds", "at least 30");
    }
}
