//! EndpointSlices whose Sandbox has its stable address no more.

use super::*;

/// A change after which the operator does not maintain the stable address of the Sandbox.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    /// The spec of the Sandbox is not valid.
    Invalid,
    /// Requests do not resume the Sandbox any more, and its Service is headless.
    Headless,
    /// The Sandbox has no Service any more.
    NoService,
    /// Somebody replaced the Service.
    ForeignService,
}

impl Change {
    const ALL: [Change; 4] = [Change::Invalid, Change::Headless, Change::NoService, Change::ForeignService];

    fn object(self, case: &Case) -> Object {
        let mut sandbox = case.sandbox();
        let (path, value) = match self {
            Change::Invalid => ("idleTimeout", json!("soon")),
            Change::Headless => ("service", json!(true)),
            Change::NoService => ("service", json!(false)),
            Change::ForeignService => {
                let service = json!({
                    "metadata": { "namespace": "ns", "name": "a", "uid": "s", "resourceVersion": "2" },
                    "spec": { "type": "ClusterIP", "clusterIP": "10.96.0.10", "ports": [{ "port": 22 }] },
                });
                return Object::from_json(Kind::Service, service).unwrap();
            }
        };
        sandbox["metadata"]["resourceVersion"] = "2".into();
        sandbox["spec"][path] = value;
        if self != Change::Invalid {
            sandbox["spec"]["resumePolicy"] = "Manual".into();
        }
        Object::from_json(Kind::Sandbox, sandbox).unwrap()
    }
}

pub(super) fn tcp_wake_patch(plan: &Plan) -> Option<Value> {
    let ops = plan.steps.iter().flatten().filter(|op| op.key.kind == Kind::Sandbox);
    let bodies = ops.filter_map(|op| if let Action::Patch { body, .. } = &op.action { Some(body) } else { None });
    bodies.filter_map(|body| body["status"].as_object()?.get("tcpWake").cloned()).next()
}

#[test]
fn sandbox_without_its_stable_address_leads_to_no_gateway() {
    let mut emptied = 0;
    let key = Key::new(Kind::Sandbox, "ns", "a");
    for case in every_case().into_iter().filter(|case| case.recorded) {
        let objects = case.objects();
        for change in Change::ALL {
            let mut world = world(&objects);
            let _ = world.observe(Observed::Applied(change.object(&case)), at(0));
            world.take_ports(&key, at(0));
            let plan = decide(&world.snapshot(&key, at(0)), &[]);
            let addresses = slice_after(&world, &plan).0;
            let wanted: &[&str] = if case.lists == Lists::Pod { &[POD] } else { &[] };
            assert_eq!(addresses, wanted, "{change:?} {case:?}");
            emptied += usize::from(plan.steps.iter().flatten().any(|op| op.key.kind == Kind::EndpointSlice));
            let patch = tcp_wake_patch(&plan);
            match change {
                Change::Invalid => {
                    let patch = patch.unwrap_or_else(|| panic!("{case:?}"));
                    assert!(patch["ports"].is_null() && patch["reason"] == "The Sandbox is not valid", "{patch}");
                }
                Change::Headless | Change::NoService => assert_eq!(patch, Some(Value::Null), "{case:?}"),
                Change::ForeignService if restricted(&case) => {
                    assert!(patch.is_some_and(|patch| patch["ports"].is_null()), "{case:?}");
                }
                Change::ForeignService => {
                    let reason = patch.map(|patch| patch["reason"].clone()).unwrap_or_default();
                    let known = reason.as_str().is_some_and(|reason| reason.contains("Service a exists"));
                    assert!(known, "{case:?}: {reason}");
                }
            }
        }
    }
    assert!(emptied > 100, "{emptied}");
}

#[test]
fn sandbox_that_is_not_valid_and_never_had_ports_gets_no_record() {
    let case = every_case().into_iter().find(|case| !case.recorded && case.pod == PodIs::ReadyForLong).unwrap();
    let (mut world, key) = (world(&case.objects()), Key::new(Kind::Sandbox, "ns", "a"));
    let _ = world.observe(Observed::Applied(Change::Invalid.object(&case)), at(0));
    world.take_ports(&key, at(0));
    assert_eq!(tcp_wake_patch(&decide(&world.snapshot(&key, at(0)), &[])), None);
}

/// A situation in which a Sandbox leads nowhere, whatever its EndpointSlice had before.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Nowhere {
    Expired,
    /// The Sandbox has another pod beside its own.
    MultiplePods,
    /// The pod of its name is not its own.
    Blocked,
}

#[test]
fn sandbox_that_no_connection_can_start_leads_nowhere() {
    let mut lists = [0_usize; 3];
    for case in every_case().into_iter().filter(|case| case.pod == PodIs::Missing && case.mode == Mode::Running) {
        for (n, nowhere) in [Nowhere::Expired, Nowhere::MultiplePods, Nowhere::Blocked].into_iter().enumerate() {
            let (mut world, key) = (world(&case.objects()), Key::new(Kind::Sandbox, "ns", "a"));
            let pod = |name: &str, owned: bool| {
                let owners = json!([{
                    "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "name": "a", "uid": "u",
                    "controller": true,
                }]);
                let pod = json!({
                    "metadata": {
                        "namespace": "ns", "name": name, "uid": name, "resourceVersion": "2",
                        "creationTimestamp": at(-500).to_string(),
                        "labels": { "agents.x-k8s.io/sandbox-name-hash": "e40c292c" },
                        "ownerReferences": owned.then_some(owners),
                    },
                    "spec": { "containers": [{ "name": "c", "image": "i" }] },
                    "status": { "phase": "Running", "podIPs": [{ "ip": POD }], "conditions": [
                        { "type": "Ready", "status": "True", "lastTransitionTime": at(-500).to_string() },
                    ] },
                });
                Object::from_json(Kind::Pod, pod).unwrap()
            };
            let changed = match nowhere {
                Nowhere::Expired => {
                    let mut sandbox = case.sandbox();
                    sandbox["metadata"]["resourceVersion"] = "2".into();
                    sandbox["spec"]["shutdownTime"] = at(-9000).to_string().into();
                    vec![Object::from_json(Kind::Sandbox, sandbox).unwrap()]
                }
                Nowhere::MultiplePods => vec![pod("a", true), pod("b", true)],
                Nowhere::Blocked => vec![pod("a", false)],
            };
            for object in changed {
                let _ = world.observe(Observed::Applied(object), at(0));
            }
            world.take_ports(&key, at(0));
            let plan = decide(&world.snapshot(&key, at(0)), &[]);
            assert_eq!(slice_after(&world, &plan).0, Vec::<String>::new(), "{nowhere:?} {case:?}");
            lists[n] += usize::from(plan.steps.iter().flatten().any(|op| op.key.kind == Kind::EndpointSlice));
        }
    }
    assert!(lists.iter().all(|count| *count > 10), "every situation changes slices: {lists:?}");
}
