//! Tests of updates: removed mode fields, changes that wait for a new pod, and claims that have their Sandbox.

use super::kinds::{CLAIM, SANDBOX, create, sandbox, update};
use super::warnings::warnings;
use super::*;

/// A field that its writer removes asks for its default. A field that a client omits, because it does not know it, does
/// not change.
#[test]
fn mode_field_that_its_writer_removes_means_running() {
    let owned = |manager: &str, field: &str| json!([{ "manager": manager, "operation": "Update", "fieldsV1": { "f:spec": { format!("f:{field}"): {} } } }]);
    let with = |mode: Value, replicas: Value, managed: &Value| {
        let mut object = sandbox(json!({ "operatingMode": mode, "replicas": replicas }));
        object["metadata"]["managedFields"] = managed.clone();
        object["status"] = json!({ "mode": "Suspended" });
        object
    };
    let (patch, put) = (Write { is_patch: true, manager: None }, Write::default());
    let by = |manager: &str| Write { is_patch: false, manager: Some(manager.to_owned()) };
    let (suspended, one, zero, none) = (json!("Suspended"), json!(1), json!(0), json!(null));
    let mine = owned("me", "operatingMode");
    for (what, write, managed, mode, replicas, expected) in [
        ("an apply without the mode", patch.clone(), &none, &none, &zero, "Running"),
        ("an apply without replicas", patch.clone(), &none, &suspended, &none, "Running"),
        ("an apply without both", patch.clone(), &none, &none, &none, "Running"),
        ("a patch of another field", patch.clone(), &none, &suspended, &zero, "Suspended"),
        ("a PUT by its manager", by("me"), &mine, &none, &zero, "Running"),
        ("a PUT by another manager", by("you"), &mine, &none, &zero, "Suspended"),
        ("a PUT by its manager of the other field", by("me"), &owned("me", "replicas"), &none, &zero, "Suspended"),
        ("a PUT by nobody", put.clone(), &mine, &none, &zero, "Suspended"),
        ("a PUT without both", put.clone(), &mine, &none, &none, "Suspended"),
        ("a PUT that resumes by replicas", put, &mine, &none, &one, "Running"),
    ] {
        let old = with(suspended.clone(), zero.clone(), managed);
        let review = Review { write, ..update(SANDBOX, old, with(mode.clone(), replicas.clone(), &none)) };
        let written = admit(review, &context(), gvisor).expect(what);
        assert_eq!(written["spec"]["operatingMode"], expected, "{what}");
        assert_eq!(written["spec"]["replicas"], i32::from(expected == "Running"), "{what}");
    }
}

/// The record of who suspended a Sandbox is about one suspend. A write that changes the mode and not the record makes it
/// wrong.
#[test]
fn record_of_who_suspended_a_sandbox_ends_with_that_suspend() {
    const RECORD: &str = "policy.paddock.dev/suspended-by";
    let of = |mode: &str, record: Option<&str>| {
        let mut object = sandbox(json!({ "operatingMode": mode, "replicas": i32::from(mode == "Running") }));
        object["metadata"]["annotations"] = json!({ "a": "b" });
        if let Some(record) = record {
            object["metadata"]["annotations"][RECORD] = record.into();
        }
        object
    };
    let idle = Some("Idle");
    for (what, old, new, expected) in [
        ("the idle policy suspends", of("Running", None), of("Suspended", idle), idle),
        ("a user suspends", of("Running", None), of("Suspended", None), None),
        ("a user suspends, with an old record", of("Running", idle), of("Suspended", idle), None),
        ("a drain suspends, with an old record", of("Running", idle), of("Suspended", Some("Drain")), Some("Drain")),
        ("a user resumes", of("Suspended", idle), of("Running", idle), None),
        ("the gateway resumes", of("Suspended", idle), of("Running", None), None),
        ("a change while suspended", of("Suspended", idle), of("Suspended", idle), idle),
        ("a user claims the suspend", of("Suspended", idle), of("Suspended", None), None),
        ("a record while running", of("Running", None), of("Running", idle), None),
        (
            "a resume by replicas",
            of("Suspended", idle),
            {
                let mut scaled = of("Suspended", idle);
                scaled["spec"]["replicas"] = 1.into();
                scaled
            },
            None,
        ),
    ] {
        let written = admit(update(SANDBOX, old, new), &context(), gvisor).expect(what);
        let annotations = &written["metadata"]["annotations"];
        assert_eq!(annotations[RECORD].as_str(), expected, "{what}");
        assert_eq!(annotations["a"], "b", "{what}");
    }
    let created = create(SANDBOX, of("Suspended", idle));
    let written = admit(created, &context(), gvisor).expect("a restored backup");
    assert_eq!(written["metadata"]["annotations"][RECORD], "Idle");
}

#[test]
fn change_that_only_a_new_pod_can_take_is_warned_of() {
    let running = |spec: Value| {
        let mut object = sandbox(spec);
        object["status"] = json!({ "replicas": 1, "runtimeClass": { "name": "gvisor" } });
        object
    };
    let image = |image: &str| json!({ "podTemplate": { "spec": { "containers": [{ "name": "c", "image": image }] } } });
    let old = running(image("i:1"));
    let warned = warnings(update(SANDBOX, old.clone(), running(image("i:2"))));
    let start = "spec.podTemplate.spec.containers[0].image: only a new pod can take the change";
    assert!(warned.len() == 1 && warned[0].starts_with(start), "{warned:?}");
    assert!(warned[0].chars().count() < 256, "it is not cut off");
    let mut suspending = image("i:2");
    suspending["operatingMode"] = "Suspended".into();
    let mut labelled = image("i:1");
    labelled["podTemplate"]["metadata"] = json!({ "labels": { "a": "b" } });
    labelled["service"] = true.into();
    for fine in [running(suspending), running(labelled), old.clone()] {
        assert_eq!(warnings(update(SANDBOX, old.clone(), fine)), [""; 0]);
    }
    let mut stopped = old;
    stopped["status"]["replicas"] = 0.into();
    assert_eq!(warnings(update(SANDBOX, stopped, running(image("i:2")))), [""; 0]);
}

#[test]
fn bound_claim_takes_only_changes_that_reach_its_sandbox() {
    let claim = |spec: Value, bound: bool| {
        let mut object = json!({ "metadata": { "name": "c" }, "spec": { "warmPoolRef": { "name": "p" } } });
        json_patch::merge(&mut object, &json!({ "spec": spec }));
        if bound {
            object["status"] = json!({ "sandbox": { "name": "p-a" } });
        }
        object
    };
    let review = |spec: Value, bound| update(CLAIM, claim(json!({}), bound), claim(spec, bound));
    for (field, spec) in [
        ("warmPoolRef", json!({ "warmPoolRef": { "name": "q" } })),
        ("env", json!({ "env": [{ "name": "A", "value": "1" }] })),
        (
            "volumeClaimTemplates",
            json!({ "volumeClaimTemplates": [{ "metadata": { "name": "v" }, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } } }] }),
        ),
    ] {
        let denial = admit(review(spec.clone(), true), &context(), gvisor).expect_err(field);
        assert!(denial.message.contains(&format!("spec.{field}")), "{denial:?}");
        assert!(admit(review(spec.clone(), false), &context(), gvisor).is_ok(), "{field}");
        // The claim has taken the Sandbox, and its status follows.
        let taken = Context { sandbox_of_claim: Some("p-a".into()), ..context() };
        let denial = admit(review(spec, false), &taken, gvisor).expect_err(field);
        assert!(denial.message.contains("the claim has Sandbox p-a"), "{denial:?}");
    }
    // A claim that has ended stays ended.
    let mut ended = review(json!({ "lifecycle": { "shutdownTime": "2030-01-01T00:00:00Z" } }), true);
    ended.old_object["status"]["conditions"] =
        json!([{ "type": "Ready", "status": "False", "reason": "ClaimExpired" }]);
    let denial = admit(ended, &context(), gvisor).expect_err("renewed");
    assert!(denial.message.contains("create another claim"), "{denial:?}");
    for fine in [
        json!({ "additionalPodMetadata": { "labels": { "sandbox.users.io/team": "blue" } } }),
        json!({ "lifecycle": { "shutdownTime": "2030-01-01T00:00:00Z" } }),
        json!({ "env": [] }),
    ] {
        assert!(admit(review(fine.clone(), true), &context(), gvisor).is_ok(), "{fine}");
    }
}

/// A schedule that is not valid has no effect in a reconcile, so that the rest of the spec stays in force. A user may not
/// write one all the same.
#[test]
fn schedule_that_is_not_valid_is_denied_unless_it_is_stored_already() {
    let with = |cron: &str, more: Value| {
        let mut spec = json!({ "wakeSchedule": { "cron": cron } });
        json_patch::merge(&mut spec, &more);
        sandbox(spec)
    };
    for (what, spec, problems) in [
        ("alone", json!({}), 1),
        ("with a valid time zone", json!({ "wakeSchedule": { "timeZone": "Asia/Tokyo" } }), 1),
        ("with a time zone that is none", json!({ "wakeSchedule": { "timeZone": "Asia/Tokio" } }), 2),
        ("with another problem", json!({ "idleTimeout": "soon" }), 2),
    ] {
        let denial = admit(create(SANDBOX, with("0 25 * * *", spec)), &context(), gvisor).expect_err(what);
        let fields: Vec<&str> = denial.causes.iter().map(|cause| cause.field.as_str()).collect();
        assert!(fields.len() == problems && fields.contains(&"spec.wakeSchedule.cron"), "{what}: {fields:?}");
    }
    let stored = || with("0 25 * * *", json!({}));
    let later = with("0 25 * * *", json!({ "shutdownTime": "2031-01-01T00:00:00Z" }));
    assert!(admit(update(SANDBOX, stored(), later.clone()), &context(), gvisor).is_ok());
    let warned = warnings(update(SANDBOX, stored(), later));
    assert!(warned.iter().any(|w| w.contains("invalid before this change: spec.wakeSchedule.cron")), "{warned:?}");
    let denial = admit(update(SANDBOX, stored(), with("0 26 * * *", json!({}))), &context(), gvisor);
    assert!(denial.is_err());
}

/// The operator writes no NetworkPolicy with such rules.
#[test]
fn rules_that_are_too_large_are_denied_unless_they_are_stored_already() {
    const TEMPLATE: (&str, &str) = ("extensions.agents.x-k8s.io", "sandboxtemplates");
    let template = |rules: usize, image: &str| {
        let ports: Vec<Value> = (1..900).map(|n| json!({ "port": n, "endPort": n })).collect();
        json!({
            "apiVersion": "extensions.agents.x-k8s.io/v1beta1", "kind": "SandboxTemplate",
            "metadata": { "name": "t", "namespace": "agents" },
            "spec": {
                "podTemplate": { "spec": { "containers": [{ "name": "a", "image": image }] } },
                "networkPolicy": { "egress": vec![json!({ "ports": ports }); rules] },
            },
        })
    };
    assert!(admit(create(TEMPLATE, template(1, "i")), &context(), gvisor).is_ok());
    let denial = admit(create(TEMPLATE, template(6, "i")), &context(), gvisor).expect_err("denied");
    let fields: Vec<&str> = denial.causes.iter().map(|cause| cause.field.as_str()).collect();
    assert_eq!(fields, ["spec.networkPolicy"]);
    let warned = warnings(update(TEMPLATE, template(6, "i"), template(6, "j")));
    assert!(warned.iter().any(|w| w.contains("invalid before this change: spec.networkPolicy")), "{warned:?}");
}
