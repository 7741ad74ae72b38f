//! Tests of the kinds that Paddock serves: defaults, parsing and immutable fields.

use super::*;

pub(super) const SANDBOX: (&str, &str) = ("agents.x-k8s.io", "sandboxes");
pub(super) const CLAIM: (&str, &str) = ("extensions.agents.x-k8s.io", "sandboxclaims");

pub(super) fn sandbox(spec: Value) -> Value {
    let mut sandbox = json!({
        "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox",
        "metadata": { "name": "a", "namespace": "agents" },
        "spec": { "podTemplate": { "spec": { "containers": [{ "name": "c", "image": "i" }] } } },
    });
    json_patch::merge(&mut sandbox["spec"], &spec);
    sandbox
}

fn claim(annotations: Value) -> Value {
    json!({
        "apiVersion": "extensions.agents.x-k8s.io/v1beta1", "kind": "SandboxClaim",
        "metadata": { "name": "a", "namespace": "agents", "annotations": annotations },
        "spec": { "warmPoolRef": { "name": "not-there" } },
    })
}

pub(super) fn create(resource: (&str, &str), object: Value) -> Review {
    review(Entry::OwnKinds, Verb::Create, resource, object)
}

pub(super) fn update(resource: (&str, &str), old: Value, new: Value) -> Review {
    Review { old_object: old, ..review(Entry::OwnKinds, Verb::Update, resource, new) }
}

#[test]
fn a_new_sandbox_says_its_mode_in_both_fields() {
    for (spec, mode, replicas) in [
        (json!({}), "Running", 1),
        (json!({ "operatingMode": "Running" }), "Running", 1),
        (json!({ "operatingMode": "Suspended" }), "Suspended", 0),
        (json!({ "replicas": 1 }), "Running", 1),
        (json!({ "replicas": 0 }), "Suspended", 0),
        (json!({ "replicas": 0, "operatingMode": "Running" }), "Suspended", 0),
        (json!({ "replicas": 1, "operatingMode": "Suspended" }), "Suspended", 0),
    ] {
        let stored = admit(create(SANDBOX, sandbox(spec.clone())), &context(), gvisor).expect("admitted");
        assert_eq!(
            (&stored["spec"]["operatingMode"], &stored["spec"]["replicas"]),
            (&json!(mode), &json!(replicas)),
            "{spec}"
        );
    }
}

#[test]
fn an_update_changes_the_mode_by_whichever_field_it_changes() {
    let running = json!({ "operatingMode": "Running", "replicas": 1 });
    let suspended = json!({ "operatingMode": "Suspended", "replicas": 0 });
    let scaled = json!({ "operatingMode": "Running", "replicas": 0 });
    let (r, s) = (json!("Running"), json!("Suspended"));
    for (what, old, acted, new, mode) in [
        ("suspend by mode, replicas dropped", &running, &r, json!({ "operatingMode": "Suspended" }), "Suspended"),
        (
            "suspend by mode, replicas kept",
            &running,
            &r,
            json!({ "operatingMode": "Suspended", "replicas": 1 }),
            "Suspended",
        ),
        ("suspend by replicas, mode dropped", &running, &r, json!({ "replicas": 0 }), "Suspended"),
        (
            "resume by mode before the suspend was acted on",
            &suspended,
            &r,
            json!({ "operatingMode": "Running", "replicas": 0 }),
            "Running",
        ),
        (
            "suspend by replicas before the resume was acted on",
            &running,
            &s,
            json!({ "operatingMode": "Running", "replicas": 0 }),
            "Suspended",
        ),
        (
            "a client that drops replicas of a suspended one",
            &suspended,
            &s,
            json!({ "operatingMode": "Suspended" }),
            "Suspended",
        ),
        ("a client that drops both", &suspended, &s, json!({}), "Suspended"),
        ("another field, while a scale is not acted on", &scaled, &r, scaled.clone(), "Suspended"),
        (
            "a dropped field, while a scale is not acted on",
            &scaled,
            &r,
            json!({ "operatingMode": "Running" }),
            "Suspended",
        ),
    ] {
        let mut old = sandbox(old.clone());
        old["status"]["mode"] = acted.clone();
        let stored = admit(update(SANDBOX, old, sandbox(new)), &context(), gvisor).expect("admitted");
        let replicas = i32::from(mode == "Running");
        assert_eq!(
            (&stored["spec"]["operatingMode"], &stored["spec"]["replicas"]),
            (&json!(mode), &json!(replicas)),
            "{what}"
        );
    }
}

/// Covers all old, new and applied values of the two mode fields. `admit` checks that a second mutation changes
/// nothing.
#[test]
fn mutating_any_combination_of_modes_twice_is_mutating_once() {
    let modes = [json!({}), json!({ "operatingMode": "Running" }), json!({ "operatingMode": "Suspended" })];
    let counts = [json!({}), json!({ "replicas": 0 }), json!({ "replicas": 1 })];
    let acted = [json!(null), json!("Running"), json!("Suspended")];
    let specs: Vec<Value> = modes
        .iter()
        .flat_map(|m| {
            counts.iter().map(move |c| {
                let mut spec = m.clone();
                json_patch::merge(&mut spec, c);
                spec
            })
        })
        .collect();
    for old in &specs {
        for new in &specs {
            for acted in &acted {
                let mut old = sandbox(old.clone());
                old["status"] = json!({ "mode": acted });
                admit(update(SANDBOX, old, sandbox(new.clone())), &context(), gvisor).expect("admitted");
            }
        }
    }
}

#[test]
fn a_claim_is_stamped_once_and_hints_are_the_operators() {
    const STAMP: &str = "agents.x-k8s.io/controller-first-observed-at";
    for (what, annotations, stamp) in [
        ("no annotations", json!(null), "2026-11-23T12:00:00.000000Z"),
        ("others", json!({ "a": "b" }), "2026-11-23T12:00:00.000000Z"),
        ("this call's own", json!({ STAMP: "2026-11-23T11:59:59.5Z" }), "2026-11-23T11:59:59.5Z"),
        ("an old one", json!({ STAMP: "2020-01-01T00:00:00Z" }), "2026-11-23T12:00:00.000000Z"),
        ("one of tomorrow", json!({ STAMP: "2026-11-24T00:00:00Z" }), "2026-11-23T12:00:00.000000Z"),
        ("nonsense", json!({ STAMP: "yesterday" }), "2026-11-23T12:00:00.000000Z"),
        ("a hint", json!({ "agents.x-k8s.io/sandbox-name": "mine" }), "2026-11-23T12:00:00.000000Z"),
    ] {
        let stored =
            admit(create(CLAIM, claim(annotations)), &context(), gvisor).expect("dangling references are fine");
        assert_eq!(stored["metadata"]["annotations"][STAMP], stamp, "{what}");
        assert_eq!(stored["metadata"]["annotations"].get("agents.x-k8s.io/sandbox-name"), None, "{what}");
    }
    let trace = json!({ "opentelemetry.io/trace-context": "{}" });
    let stored = admit(create(CLAIM, claim(trace)), &context(), gvisor).expect("admitted");
    assert_eq!(stored["metadata"]["annotations"]["opentelemetry.io/trace-context"], "{}");
    let (_, verdict) = decide(&update(CLAIM, claim(json!({})), claim(json!({}))), &context(), gvisor);
    assert!(verdict.patch.is_empty(), "only new claims are stamped");
}

#[test]
fn what_does_not_parse_is_denied_with_its_fields_named() {
    let container = json!({ "spec": { "containers": [{ "name": "c", "image": "i" }] } });
    for (spec, field) in [
        (json!({ "idleTimeout": "ten minutes" }), "spec.idleTimeout"),
        (json!({ "template": container }), "spec"),
        (json!({ "replicas": 2 }), "spec.replicas"),
        (json!({ "shutdownTime": "tomorrow" }), "spec.shutdownTime"),
    ] {
        let denial = admit(create(SANDBOX, sandbox(spec.clone())), &context(), gvisor).expect_err("denied");
        assert_eq!(denial.why, Why::Invalid, "{spec}");
        assert!(denial.causes.iter().any(|c| c.field.starts_with(field)), "{spec}: {:?}", denial.causes);
    }
}

#[test]
fn what_was_wrong_before_is_a_warning() {
    let bad = sandbox(json!({ "idleTimeout": "ten minutes" }));
    let mut labelled = bad.clone();
    labelled["metadata"]["labels"] = json!({ "team": "a" });
    let review = Review { phase: Phase::Validate, ..update(SANDBOX, bad.clone(), labelled) };
    let (_, outcome) = decide(&review, &context(), gvisor);
    assert!(outcome.allowed());
    assert!(outcome.warnings.iter().any(|w| w.contains("spec.idleTimeout")), "{:?}", outcome.warnings);
    let worse = sandbox(json!({ "idleTimeout": "ten minutes", "shutdownTime": "tomorrow" }));
    let review = Review { phase: Phase::Validate, ..update(SANDBOX, bad, worse) };
    let (_, outcome) = decide(&review, &context(), gvisor);
    let fields: Vec<_> = outcome.denial.expect("denied").causes.into_iter().map(|c| c.field).collect();
    assert_eq!(fields, ["spec.shutdownTime"]);
}

#[test]
fn volume_claim_templates_and_resume_policy_stay() {
    let volume = |size: &str| {
        json!({ "volumeClaimTemplates": [{
            "metadata": { "name": "data" },
            "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": size } } },
        }] })
    };
    for (old, new, field) in [
        (volume("1Gi"), volume("2Gi"), Some("spec.volumeClaimTemplates")),
        (json!({}), volume("1Gi"), Some("spec.volumeClaimTemplates")),
        (json!({ "volumeClaimTemplates": [] }), json!({}), None),
        (json!({}), json!({ "resumePolicy": "Manual" }), None),
        (json!({}), json!({ "resumePolicy": "OnDemand" }), Some("spec.resumePolicy")),
    ] {
        let outcome = admit(update(SANDBOX, sandbox(old.clone()), sandbox(new.clone())), &context(), gvisor);
        let denied = outcome.err().map(|d| (d.why, d.causes[0].field.clone()));
        assert_eq!(denied, field.map(|f| (Why::Immutable, f.to_owned())), "{old} to {new}");
    }
}

#[test]
fn a_marked_sandbox_may_not_name_a_class_of_the_hosts_kernel() {
    for (marker, class, admitted) in [
        (json!("true"), json!("runc"), false),
        (json!("true"), json!("gvisor"), true),
        (json!("true"), json!(null), true),
        (json!("true"), json!("not-yet-there"), true),
        (json!("false"), json!("runc"), true),
        (json!("sure"), json!("gvisor"), false),
    ] {
        let on_pod = json!({ "podTemplate": {
            "metadata": { "labels": { "policy.paddock.dev/generated-code": marker } },
            "spec": { "runtimeClassName": class },
        } });
        let mut on_sandbox = sandbox(json!({ "runtimeClassName": class }));
        on_sandbox["metadata"]["labels"] = json!({ "policy.paddock.dev/generated-code": marker });
        for object in [sandbox(on_pod), on_sandbox] {
            let outcome = admit(create(SANDBOX, object.clone()), &context(), gvisor);
            assert_eq!(outcome.is_ok(), admitted, "{object}");
        }
    }
}

/// With a comparison of each owner with each former one, this takes minutes.
#[test]
fn owners_of_a_sandbox_are_compared_in_one_pass() {
    let mut many = sandbox(json!({}));
    many["metadata"]["ownerReferences"] = (0..60_000)
        .map(|n| json!({ "apiVersion": "extensions.agents.x-k8s.io/v1beta1", "kind": "SandboxWarmPool", "name": "p", "uid": n.to_string() }))
        .collect();
    let mut more = many.clone();
    more["metadata"]["ownerReferences"][7]["uid"] = "another".into();
    let begin = crate::stopwatch::Stopwatch::start();
    for (old, new, denied) in [(&many, &many, false), (&many, &more, true)] {
        let review = update(SANDBOX, old.clone(), new.clone());
        let review = Review { entry: Entry::OwnedSandboxes, phase: Phase::Validate, ..review };
        assert_eq!(decide(&review, &context(), gvisor).1.allowed(), !denied);
    }
    begin.assert_linear();
}

#[test]
fn a_sandbox_passed_off_as_a_pools_is_denied() {
    let owner = |api: &str, kind: &str, uid: &str| json!([{ "apiVersion": api, "kind": kind, "name": "p", "uid": uid, "controller": true }]);
    let owned = |owners: Value| {
        let mut object = sandbox(json!({}));
        object["metadata"]["ownerReferences"] = owners;
        object
    };
    let pool = owned(owner("extensions.agents.x-k8s.io/v1beta1", "SandboxWarmPool", "1"));
    let other = owned(owner("apps/v1", "Deployment", "1"));
    let seed = owned(owner("agents.x-k8s.io/v1alpha1", "SandboxClaim", "1"));
    let alike = owned(owner("example.com/v1", "SandboxWarmPool", "1"));
    let mut quiet = pool.clone();
    quiet["metadata"]["ownerReferences"][0]["controller"] = false.into();
    let mut waits = pool.clone();
    waits["metadata"]["ownerReferences"][0]["blockOwnerDeletion"] = true.into();
    for (what, review, denied) in [
        ("created for a pool", create(SANDBOX, pool.clone()), true),
        ("created for a seed claim", create(SANDBOX, seed), true),
        ("created for another group's kind of that name", create(SANDBOX, alike.clone()), true),
        ("created for somebody else", create(SANDBOX, other.clone()), false),
        // The owner keeps its UID, and its kind changes.
        ("another kind's reference becomes a pool's", update(SANDBOX, other, pool.clone()), true),
        ("another group's reference becomes a pool's", update(SANDBOX, alike, pool.clone()), true),
        ("a pool that did not control it does", update(SANDBOX, quiet, pool.clone()), true),
        ("put into a pool", update(SANDBOX, sandbox(json!({})), pool.clone()), true),
        ("its pool's deletion no longer waits for it", update(SANDBOX, waits, pool.clone()), false),
        ("in its pool already", update(SANDBOX, pool.clone(), pool.clone()), false),
        ("taken out of its pool", update(SANDBOX, pool, sandbox(json!({}))), false),
    ] {
        let outcome = admit(review.clone(), &context(), gvisor).map_err(|d| d.why);
        assert_eq!(outcome.err(), denied.then_some(Why::Forged), "{what}");
        // The entry that fails closed makes the same check, and no other.
        let review = Review { entry: Entry::OwnedSandboxes, phase: Phase::Validate, ..review };
        let (asked, verdict) = decide(&review, &context(), gvisor);
        assert_eq!((asked.len(), verdict.allowed()), (0, !denied), "{what}");
    }
}

#[test]
fn a_running_sandbox_is_marked_only_if_its_pod_is_isolated() {
    let marker = json!({ "policy.paddock.dev/generated-code": "true" });
    let with = |marked: Option<&str>, status: Value| {
        let mut object = sandbox(json!({}));
        object["status"] = status;
        match marked {
            Some("/metadata/labels") => object["metadata"]["labels"] = marker.clone(),
            Some(_) => object["spec"]["podTemplate"]["metadata"] = json!({ "labels": marker }),
            None => {}
        }
        object
    };
    let status = |replicas: i32, class: Value| json!({ "replicas": replicas, "runtimeClass": { "name": class } });
    for (what, status, admitted) in [
        ("no class", json!({ "replicas": 1 }), false),
        ("a class of the host", status(1, json!("runc")), false),
        ("a class that is not there", status(1, json!("kata")), false),
        ("isolated", status(1, json!("gvisor")), true),
        ("asleep", status(0, json!("runc")), true),
        ("not begun", json!({}), true),
    ] {
        for at in ["/metadata/labels", "/spec/podTemplate/metadata/labels"] {
            let (plain, marked) = (with(None, status.clone()), with(Some(at), status.clone()));
            let outcome = admit(update(SANDBOX, plain.clone(), marked.clone()), &context(), gvisor);
            let why = (!admitted).then_some(Why::NotIsolated);
            assert_eq!(outcome.map_err(|d| d.why).err(), why, "{what}, {at}");
            // An object that was exposed before can still be changed in other fields. The marker stays.
            let mut again = marked.clone();
            again["metadata"]["annotations"] = json!({ "a": "b" });
            assert!(admit(update(SANDBOX, marked.clone(), again), &context(), gvisor).is_ok(), "{what}, {at}");
            let removed = admit(update(SANDBOX, marked, plain), &context(), gvisor).map_err(|d| d.why);
            assert_eq!(removed.err(), Some(Why::Immutable), "{what}, {at}");
        }
    }
    // The new object may name an isolating class, but its pod keeps the old one.
    let mut named = with(Some("/metadata/labels"), json!({ "replicas": 1 }));
    named["spec"]["runtimeClassName"] = "gvisor".into();
    let outcome = admit(update(SANDBOX, with(None, json!({ "replicas": 1 })), named), &context(), gvisor);
    assert_eq!(outcome.map_err(|d| d.why).err(), Some(Why::NotIsolated));
}

#[test]
fn a_claims_forbidden_metadata_is_told_and_left_to_its_status() {
    let mut object = claim(json!({}));
    object["spec"]["additionalPodMetadata"] = json!({ "labels": { "kubernetes.io/os": "none" } });
    let review = Review { phase: Phase::Validate, ..create(CLAIM, object) };
    let (_, outcome) = decide(&review, &context(), gvisor);
    assert!(outcome.allowed());
    assert!(outcome.warnings.iter().any(|w| w.contains("kubernetes.io/os")), "{:?}", outcome.warnings);
}

/// Upstream's tests create such claims, and then read the reason in the status.
#[test]
fn variables_and_volume_claims_that_are_not_valid_are_told_and_left_to_the_status_of_the_claim() {
    let volume = |name: &str| {
        let spec = json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } });
        json!({ "metadata": { "name": name }, "spec": spec })
    };
    for (spec, told) in [
        (json!({ "env": [{ "name": "A=B", "value": "1" }] }), "spec.env[0].name: `A=B` must be a name without '='"),
        (json!({ "volumeClaimTemplates": [volume("")] }), "spec.volumeClaimTemplates[0].metadata.name: is required"),
        (
            json!({ "volumeClaimTemplates": [volume("a"), volume("a")] }),
            "spec.volumeClaimTemplates[1].metadata.name: `a` must be used once",
        ),
        (
            json!({ "volumeClaimTemplates": [{ "metadata": { "name": "a" }, "spec": { "accessModes": ["ReadWriteOnce"] } }] }),
            "spec.volumeClaimTemplates[0].spec.resources.requests.storage: is required",
        ),
    ] {
        let mut object = claim(json!({}));
        json_patch::merge(&mut object["spec"], &spec);
        let review = Review { phase: Phase::Validate, ..create(CLAIM, object) };
        let (_, outcome) = decide(&review, &context(), gvisor);
        assert_eq!(outcome.denial, None, "{spec}");
        assert!(matches!(&*outcome.warnings, [one] if one.starts_with(told)), "{:?}", outcome.warnings);
    }
}

/// A claim keeps its reservation only if the validating call reports nothing.
#[test]
fn reservation_is_kept_only_where_validation_has_nothing_to_say() {
    let ill = json!({ "spec": { "additionalPodMetadata": { "labels": { "kubernetes.io/os": "none" } } } });
    let unclear = json!({ "metadata": { "labels": { "policy.paddock.dev/generated-code": "perhaps" } } });
    for (what, change, stands) in [
        ("all is well", json!({}), true),
        ("labels of a domain that is not its own", ill, false),
        ("a marker that is neither true nor false", unclear, false),
        ("two pools", json!({ "spec": { "warmpool": "q" } }), false),
        ("against the schema, which is looked at later", json!({ "spec": { "warmPoolRef": 7 } }), false),
        ("no name yet, which nobody but our own plugins asks for", json!({ "metadata": { "name": null } }), true),
    ] {
        expect_reservation(what, &change, Context::default(), |_| allow(None), stands);
    }
    let shape = json!({ "apiVersion": "agents.x-k8s.io/v1alpha1", "spec": { "warmPoolRef": null, "templateRef": { "name": "t" } } });
    expect_reservation("the other shape", &shape, Context::default(), |_| allow(None), true);
}

/// A claim loses its reservation if a plugin would get another question in the validating call.
#[test]
fn reservation_is_withdrawn_where_a_plugin_has_more_to_review() {
    let label =
        |_: &PluginRequest| allow(Some(json!([{ "op": "add", "path": "/metadata/labels", "value": { "a": "b" } }])));
    let spoils = |_: &PluginRequest| {
        allow(Some(json!([{ "op": "add", "path": "/spec/additionalPodMetadata", "value": {
        "labels": { "kubernetes.io/os": "none" },
    } }])))
    };
    let others = |policy| {
        let bindings = Bindings::new(vec![binding("p", Hook::Admission, 1, policy)]);
        Context { bindings: Arc::new(bindings), ..context() }
    };
    let built_in = || {
        let bindings = vec![binding("own", Hook::Admission, Binding::BUILT_IN_ORDER, FailurePolicy::Fail)];
        Context { bindings: Arc::new(Bindings::new(bindings)), ..context() }
    };
    let (fail, ignore) = (FailurePolicy::Fail, FailurePolicy::Ignore);
    let unnamed = json!({ "metadata": { "name": null, "generateName": "a-" } });
    expect_reservation("it was asked about all of it", &json!({}), others(fail), |_| allow(None), true);
    expect_reservation("the name is not known", &unnamed, others(fail), |_| allow(None), false);
    expect_reservation("the name is not known, our own plugin reviews", &unnamed, built_in(), |_| allow(None), true);
    expect_reservation("it changed the claim", &json!({}), others(fail), label, false);
    expect_reservation("our own spoiled the claim", &json!({}), built_in(), spoils, false);
    expect_reservation("it did not answer", &json!({}), others(ignore), |_| broken(FailureKind::Deadline), false);
}

/// Checks whether a claim with this change keeps its reservation.
fn expect_reservation(what: &str, change: &Value, context: Context, plugin: Plugin, stands: bool) {
    let mut claim = claim(json!({ "agents.x-k8s.io/sandbox-name": "mine" }));
    json_patch::merge(&mut claim, change);
    let group = claim["apiVersion"].as_str().and_then(|v| v.split('/').next()).expect("a group").to_owned();
    let context = Context { reserved_sandbox: Some("p-a".into()), ..context };
    let review = create((&group, "sandboxclaims"), claim);
    let (_, verdict) = decide(&review, &context, plugin);
    assert_eq!((verdict.denial, verdict.reservation_kept), (None, stands), "{what}");
    let mut stored = review.object;
    json_patch::patch(&mut stored, &verdict.patch).expect("our own patch applies");
    let named = stored["metadata"]["annotations"]["agents.x-k8s.io/sandbox-name"].as_str();
    assert_eq!(named, stands.then_some("p-a"), "{what}");
}

#[test]
fn an_object_beyond_its_budget_is_refused_and_can_still_be_labelled() {
    let value = |kib: usize| {
        let env = json!([{ "name": "E", "value": "x".repeat(kib * 1024) }]);
        sandbox(json!({ "podTemplate": { "spec": { "containers": [{ "name": "c", "image": "i", "env": env }] } } }))
    };
    let labelled = |kib: usize| {
        let mut object = value(kib);
        object["metadata"]["labels"] = json!({ "team": "a" });
        object
    };
    let message = "spec: too large: the object has 1401 KiB of JSON without status and managed fields, and at most 1020 KiB are allowed";
    for (what, review, expected) in [
        ("a create within the budget", create(SANDBOX, value(1019)), None),
        ("a create beyond it", create(SANDBOX, value(1400)), Some(message)),
        ("an update that grows beyond it", update(SANDBOX, value(1019), value(1400)), Some(message)),
        ("a label on an object of an older version", update(SANDBOX, value(1400), labelled(1400)), None),
        ("an update that makes it smaller", update(SANDBOX, value(1450), value(1400)), None),
    ] {
        let denied = admit(review, &context(), gvisor).err().map(|denial| denial.message);
        assert_eq!(
            denied.as_deref().map(|text| text.contains(expected.unwrap_or_default())),
            expected.map(|_| true),
            "{what}: {denied:?}"
        );
    }
}
