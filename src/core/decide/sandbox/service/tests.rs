//! The EndpointSlice of a stable address in every state of a Sandbox.

use jiff::Timestamp;
use paddock_api::PortRange;
use paddock_api::kind::{Key, Kind};
use serde_json::{Value, json};

use crate::decide::decide;
use crate::object::{Body, Object};
use crate::plan::{Action, Plan};
use crate::settings::{Settings, TcpWakeSettings};
use crate::world::{Observed, World};

mod held;
mod leftovers;
mod reuse;

const POD: &str = "10.0.0.1";
const GATEWAYS: [&str; 2] = ["10.9.0.1", "10.9.0.2"];
const GATEWAY_PORT: i64 = 20_007;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_900_000_000 + seconds).unwrap()
}

fn annotation(key: &str, value: Option<&str>) -> Value {
    value.map_or_else(|| json!({}), |value| json!({ key: value }))
}

/// The mode of the Sandbox, and who set it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Running,
    Idle,
    User,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum PodIs {
    Missing,
    Starting,
    JustReady,
    ReadyForLong,
    Terminating,
    Finished,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Lists {
    NoSlice,
    Nobody,
    Pod,
    Gateways,
    OneGatewayThatIsGone,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    mode: Mode,
    pod: PodIs,
    lists: Lists,
    recorded: bool,
    gateways: usize,
    /// The labels that a NetworkPolicy selects, and its types.
    policy: Option<(&'static str, &'static [&'static str])>,
}

/// A Sandbox that runs and has no ports yet.
const RUNNING: Case = Case {
    mode: Mode::Running,
    pod: PodIs::ReadyForLong,
    lists: Lists::Pod,
    recorded: false,
    gateways: 2,
    policy: None,
};

fn settings(ports: &str) -> Settings {
    let ports = PortRange::parse(ports).unwrap();
    let tcp = TcpWakeSettings { namespace: "system".into(), service: "router".into(), ports };
    Settings { tcp_wake: Some(tcp), ..Settings::default() }
}

fn world_with(objects: &[Object], settings: Settings) -> World {
    let mut world = World::new(settings);
    for object in objects {
        let _ = world.observe(Observed::Applied(object.clone()), at(0));
    }
    world
}

fn world(objects: &[Object]) -> World {
    world_with(objects, settings("20000-29999"))
}

/// The metadata of a child of the Sandbox, with a change.
fn meta(more: Value) -> Value {
    let owner = json!([{
        "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "name": "a", "uid": "u", "controller": true,
    }]);
    let mut meta = json!({
        "namespace": "ns", "name": "a", "uid": "x", "resourceVersion": "1",
        "creationTimestamp": at(-9999).to_string(), "ownerReferences": owner,
    });
    json_patch::merge(&mut meta, &more);
    meta
}

impl Case {
    fn objects(&self) -> Vec<Object> {
        let mut objects = Vec::new();
        let mut put = |kind: Kind, object: Value| objects.push(Object::from_json(kind, object).unwrap());
        put(Kind::Namespace, json!({ "metadata": { "name": "ns", "uid": "n", "resourceVersion": "1" } }));
        let endpoints: Vec<Value> = GATEWAYS[..self.gateways].iter().map(|ip| json!({ "addresses": [ip] })).collect();
        put(
            Kind::EndpointSlice,
            json!({
                "metadata": {
                    "namespace": "system", "name": "router-1", "uid": "r", "resourceVersion": "1",
                    "labels": { "kubernetes.io/service-name": "router" },
                },
                "addressType": "IPv4", "endpoints": endpoints,
            }),
        );
        if let Some((app, types)) = self.policy {
            put(
                Kind::NetworkPolicy,
                json!({
                    "metadata": { "namespace": "ns", "name": "p", "uid": "p", "resourceVersion": "1" },
                    "spec": { "podSelector": { "matchLabels": { "app": app } }, "policyTypes": types },
                }),
            );
        }
        put(
            Kind::Service,
            json!({
                "metadata": meta(json!({ "labels": { "agents.x-k8s.io/sandbox-name-hash": "e40c292c" } })),
                "spec": {
                    "type": "ClusterIP", "clusterIP": "10.96.0.9",
                    "ports": [{ "name": "ssh", "port": 22, "targetPort": 22, "protocol": "TCP" },
                              { "name": "dns", "port": 53, "targetPort": 53, "protocol": "UDP" }],
                },
            }),
        );
        let gone = at(-60).to_string();
        let (endpoints, port, drained) = match self.lists {
            Lists::NoSlice => (None, 22, None),
            Lists::Nobody => (Some(json!([])), 22, Some(gone.as_str())),
            Lists::Pod => {
                let pod = json!({ "kind": "Pod", "namespace": "ns", "name": "a", "uid": "x" });
                (Some(json!([{ "addresses": [POD], "conditions": { "ready": true }, "targetRef": pod }])), 22, None)
            }
            Lists::Gateways => {
                let of = |ip: &&str| json!({ "addresses": [ip], "conditions": { "ready": true } });
                (Some(GATEWAYS.iter().map(of).collect()), GATEWAY_PORT, Some(gone.as_str()))
            }
            Lists::OneGatewayThatIsGone => {
                let of = json!([{ "addresses": ["10.9.0.99"], "conditions": { "ready": true } }]);
                (Some(of), GATEWAY_PORT, Some(gone.as_str()))
            }
        };
        if let Some(endpoints) = endpoints {
            let labels = json!({
                "kubernetes.io/service-name": "a", "endpointslice.kubernetes.io/managed-by": "paddock",
                "agents.x-k8s.io/sandbox-name-hash": "e40c292c",
            });
            let mut ports = vec![json!({ "name": "ssh", "port": port, "protocol": "TCP" })];
            if port == 22 {
                ports.push(json!({ "name": "dns", "port": 53, "protocol": "UDP" }));
            }
            put(
                Kind::EndpointSlice,
                json!({
                    "metadata": meta(json!({
                        "labels": labels, "annotations": annotation("policy.paddock.dev/drained-at", drained),
                    })),
                    "addressType": "IPv4", "endpoints": endpoints, "ports": ports,
                }),
            );
        }
        if self.pod != PodIs::Missing {
            put(Kind::Pod, self.pod_document());
        }
        put(Kind::Sandbox, self.sandbox());
        objects
    }

    fn pod_document(&self) -> Value {
        let ready =
            |since: i64| json!([{ "type": "Ready", "status": "True", "lastTransitionTime": at(since).to_string() }]);
        let conditions = match self.pod {
            PodIs::JustReady => ready(-5),
            PodIs::ReadyForLong | PodIs::Terminating => ready(-500),
            PodIs::Missing | PodIs::Starting | PodIs::Finished => json!([]),
        };
        let deleted = (self.pod == PodIs::Terminating).then(|| at(-1).to_string());
        let labels = json!({
            "agents.x-k8s.io/sandbox-name-hash": "e40c292c", "policy.paddock.dev/sandbox-uid": "u", "app": "seen",
        });
        json!({
            "metadata": meta(json!({ "deletionTimestamp": deleted, "labels": labels })),
            "spec": { "nodeName": "n", "containers": [{ "name": "c", "image": "i" }] },
            "status": {
                "phase": if self.pod == PodIs::Finished { "Succeeded" } else { "Running" },
                "podIPs": [{ "ip": POD }], "conditions": conditions,
            },
        })
    }

    fn sandbox(&self) -> Value {
        let (mode, replicas, by) = match self.mode {
            Mode::Running => ("Running", 1, None),
            Mode::Idle => ("Suspended", 0, Some("Idle")),
            Mode::User => ("Suspended", 0, None),
        };
        let ports = json!([{ "port": 22, "gatewayPort": GATEWAY_PORT }]);
        json!({
            "metadata": {
                "namespace": "ns", "name": "a", "uid": "u", "resourceVersion": "1", "generation": 1,
                "creationTimestamp": at(-9999).to_string(),
                "annotations": annotation("policy.paddock.dev/suspended-by", by),
            },
            "spec": {
                "operatingMode": mode, "replicas": replicas, "resumePolicy": "OnDemand",
                "podTemplate": {
                    "metadata": { "labels": { "app": "mine" } },
                    "spec": { "containers": [{ "name": "c", "image": "i", "ports": [
                        { "name": "ssh", "containerPort": 22 },
                        { "name": "dns", "containerPort": 53, "protocol": "UDP" },
                    ] }] },
                },
            },
            "status": { "mode": mode, "tcpWake": self.recorded.then(|| json!({ "ports": ports })) },
        })
    }

    fn plan(&self) -> (Plan, World) {
        let (mut world, key) = (world(&self.objects()), Key::new(Kind::Sandbox, "ns", "a"));
        world.take_ports(&key, at(0));
        (decide(&world.snapshot(&key, at(0)), &[]), world)
    }
}

/// The slice of the Sandbox, if it has one.
fn slice(world: &World) -> Option<Value> {
    let object = world.get(&Key::new(Kind::EndpointSlice, "ns", "a"))?;
    let Body::EndpointSlice(body) = &object.body else { panic!("a slice") };
    Some(body.parse())
}

/// The addresses of a slice, in order.
fn addresses(slice: &Value) -> Vec<String> {
    let endpoints = slice["endpoints"].as_array().unwrap().iter();
    let mut addresses: Vec<String> = endpoints.map(|e| e["addresses"][0].as_str().unwrap().to_owned()).collect();
    addresses.sort();
    addresses
}

/// The addresses and the ports of the slice after a plan, in order.
fn slice_after(world: &World, plan: &Plan) -> (Vec<String>, Vec<i64>) {
    let mut slice = slice(world).unwrap_or_else(|| json!({ "endpoints": [], "ports": [] }));
    for op in plan.steps.iter().flatten().filter(|op| op.key.kind == Kind::EndpointSlice) {
        match &op.action {
            Action::Create { body } => slice = body.clone(),
            Action::Patch { body, .. } | Action::Adopt { body, .. } => json_patch::merge(&mut slice, body),
            Action::Delete { .. } => slice = json!({ "endpoints": [], "ports": [] }),
            Action::Resize { .. } | Action::Deliver { .. } => panic!("a resize or a delivery of an EndpointSlice"),
        }
    }
    let ports = slice["ports"].as_array().into_iter().flatten();
    (addresses(&slice), ports.map(|port| port["port"].as_i64().unwrap()).collect())
}

fn every_case() -> Vec<Case> {
    let mut cases = Vec::new();
    for mode in [Mode::Running, Mode::Idle, Mode::User] {
        for pod in [
            PodIs::Missing,
            PodIs::Starting,
            PodIs::JustReady,
            PodIs::ReadyForLong,
            PodIs::Terminating,
            PodIs::Finished,
        ] {
            for lists in [Lists::NoSlice, Lists::Nobody, Lists::Pod, Lists::Gateways, Lists::OneGatewayThatIsGone] {
                for recorded in [true, false] {
                    for gateways in 0..=2 {
                        for policy in [
                            None,
                            Some(("mine", &["Ingress"][..])),
                            Some(("seen", &["Ingress", "Egress"])),
                            Some(("mine", &[])),
                            Some(("mine", &["Egress"])),
                            Some(("other", &["Ingress"])),
                        ] {
                            cases.push(Case { mode, pod, lists, recorded, gateways, policy });
                        }
                    }
                }
            }
        }
    }
    cases
}

/// Whether a policy of the case restricts the clients of the pod. The pod has the label `app: seen`, and the next pod has
/// `app: mine`.
fn restricted(case: &Case) -> bool {
    match case.policy {
        None | Some((_, ["Egress"])) => false,
        Some((app, _)) => app == "mine" || (app == "seen" && case.pod != PodIs::Missing),
    }
}

#[test]
fn slice_is_never_empty_or_wrong_in_any_state() {
    let mut seen = [0_usize; 3];
    for case in every_case() {
        let (plan, world) = case.plan();
        let (addresses, ports) = slice_after(&world, &plan);
        let may_wake = case.recorded && case.gateways > 0 && !restricted(&case);
        let ready = matches!(case.pod, PodIs::JustReady | PodIs::ReadyForLong);
        let of_gateways: Vec<&str> = GATEWAYS[..case.gateways].to_vec();
        if addresses == [POD] {
            seen[0] += 1;
            assert!(case.mode == Mode::Running && ready, "the pod: {case:?}");
            assert_eq!(ports, [22, 53], "{case:?}");
        } else if addresses.is_empty() {
            seen[1] += 1;
            let wanted = may_wake && case.pod != PodIs::Finished && case.mode != Mode::User
                || may_wake && case.mode == Mode::Idle
                || case.mode == Mode::Running && ready;
            assert!(!wanted, "nobody: {case:?}");
        } else {
            seen[2] += 1;
            assert!(may_wake && case.mode != Mode::User, "gateways: {case:?}");
            assert_eq!(addresses, of_gateways, "{case:?}");
            assert_eq!(ports, [GATEWAY_PORT], "a gateway forwards no UDP: {case:?}");
            let settles =
                case.pod == PodIs::JustReady && matches!(case.lists, Lists::Gateways | Lists::OneGatewayThatIsGone);
            assert!(case.mode == Mode::Idle || !ready || settles, "{case:?}");
        }
    }
    assert!(seen.iter().all(|count| *count > 100), "every kind of slice occurs: {seen:?}");
}

#[test]
fn pod_is_deleted_a_delay_after_gateways_took_its_place_and_never_before() {
    for case in every_case().into_iter().filter(|case| case.mode != Mode::Running) {
        let (plan, world) = case.plan();
        let deletes = plan.steps.iter().flatten().any(|op| op.key.kind == Kind::Pod);
        // The address of the pod was removed a minute before.
        let drained = match case.lists {
            Lists::NoSlice => true,
            Lists::Pod => false,
            Lists::Nobody | Lists::Gateways | Lists::OneGatewayThatIsGone => {
                addresses(&slice(&world).unwrap()) == slice_after(&world, &plan).0
            }
        };
        let there = !matches!(case.pod, PodIs::Missing | PodIs::Terminating);
        // The wait of a minute ago has ended in any case.
        let may = there && drained || there && case.lists != Lists::Pod && deletes;
        assert!(!deletes || may, "{case:?}");
        assert!(deletes || !(there && drained), "{case:?}");
        if case.lists == Lists::Pod && there {
            assert!(!deletes && plan.requeue.is_some(), "{case:?}");
        }
    }
}

#[test]
fn gateways_stay_for_a_while_after_the_pod_is_ready() {
    let case = Case { pod: PodIs::JustReady, lists: Lists::Gateways, recorded: true, ..RUNNING };
    let (plan, mut world) = case.plan();
    assert_eq!(plan.requeue.as_ref().map(|requeue| requeue.at), Some(at(25)), "thirty seconds after Ready");
    let key = Key::new(Kind::Sandbox, "ns", "a");
    world.take_ports(&key, at(26));
    let later = decide(&world.snapshot(&key, at(26)), &[]);
    assert_eq!(slice_after(&world, &later).0, [POD]);
}

#[test]
fn status_says_why_a_connection_does_not_wake() {
    let status = |case: Case| {
        let plan = case.plan().0;
        let patches = plan.steps.iter().flatten().filter(|op| op.key.kind == Kind::Sandbox);
        let bodies =
            patches.filter_map(|op| if let Action::Patch { body, .. } = &op.action { Some(body) } else { None });
        bodies.map(|body| body["status"]["tcpWake"].clone()).find(|status| !status.is_null()).unwrap_or_default()
    };
    let ports = &status(RUNNING)["ports"];
    assert!(ports[0]["port"] == 22 && ports[0]["gatewayPort"].as_i64().is_some_and(|p| (20_000..30_000).contains(&p)));
    for (case, wanted) in [
        (Case { policy: Some(("mine", &["Ingress"])), ..RUNNING }, "NetworkPolicy p restricts"),
        (Case { policy: Some(("seen", &["Ingress"])), recorded: true, ..RUNNING }, "NetworkPolicy p restricts"),
        (Case { gateways: 0, ..RUNNING }, "Service system/router has no gateway"),
        (Case { mode: Mode::Idle, pod: PodIs::Missing, lists: Lists::Nobody, ..RUNNING }, "Ready the next time"),
    ] {
        let status = status(case);
        assert!(status["reason"].as_str().is_some_and(|reason| reason.contains(wanted)), "{case:?}: {status}");
        assert!(status["ports"].as_array().is_none_or(Vec::is_empty), "{case:?}: {status}");
    }
    // The ports stay while the gateways are away, so that they are the same afterwards.
    let away = status(Case { gateways: 0, recorded: true, ..RUNNING });
    assert!(away["reason"].as_str().is_some_and(|reason| reason.contains("no gateway")), "{away}");
    assert!(away["ports"].is_null(), "not changed: {away}");
}

/// A webhook may have added labels to the pod by which a policy selects it. While the Sandbox has no pod, nothing shows
/// that.
#[test]
fn sandbox_that_was_restricted_when_it_ran_stays_so_until_it_runs_again() {
    let policy = Some(("seen", &["Ingress"][..]));
    let suspended = Case { mode: Mode::Idle, pod: PodIs::Missing, lists: Lists::Nobody, policy, ..RUNNING };
    let (plan, world) = suspended.plan();
    assert_eq!(slice_after(&world, &plan).0, Vec::<String>::new());
}

#[test]
fn change_of_a_policy_or_of_the_gateways_reconciles_sandboxes_with_a_stable_address() {
    let case = Case { mode: Mode::Idle, pod: PodIs::Missing, lists: Lists::Gateways, recorded: true, ..RUNNING };
    let mut world = world(&case.objects());
    let policy = |labels: Value, version: u32| {
        let object = json!({
            "metadata": { "namespace": "ns", "name": "q", "uid": "q", "resourceVersion": version.to_string() },
            "spec": { "podSelector": labels, "policyTypes": ["Ingress"] },
        });
        Object::from_json(Kind::NetworkPolicy, object).unwrap()
    };
    let key = Key::new(Kind::Sandbox, "ns", "a");
    let mut wakes = |observed: Observed| world.observe(observed, at(1)).contains(&key);
    assert!(wakes(Observed::Applied(policy(json!({}), 2))), "a policy for all pods");
    assert!(!wakes(Observed::Applied(policy(json!({}), 3))), "the same again");
    assert!(wakes(Observed::Applied(policy(json!({ "matchExpressions": [{ "key": "a", "operator": "New" }] }), 4))));
    assert!(wakes(Observed::Deleted(policy(json!({}), 5))));
    let slice = |ips: &[&str], version: u32| {
        let endpoints: Vec<Value> = ips.iter().map(|ip| json!({ "addresses": [ip] })).collect();
        let object = json!({
            "metadata": {
                "namespace": "system", "name": "router-1", "uid": "r", "resourceVersion": version.to_string(),
                "labels": { "kubernetes.io/service-name": "router" },
            },
            "addressType": "IPv4", "endpoints": endpoints,
        });
        Object::from_json(Kind::EndpointSlice, object).unwrap()
    };
    assert!(!wakes(Observed::Applied(slice(&GATEWAYS, 6))), "nothing changed");
    assert!(wakes(Observed::Applied(slice(&GATEWAYS[..1], 7))));
    let of_another = json!({
        "metadata": {
            "namespace": "ns", "name": "router-1", "uid": "z", "resourceVersion": "8",
            "labels": { "kubernetes.io/service-name": "router" },
        },
        "addressType": "IPv4", "endpoints": [{ "addresses": ["10.66.6.6"] }],
    });
    assert!(
        !wakes(Observed::Applied(Object::from_json(Kind::EndpointSlice, of_another).unwrap())),
        "of another namespace"
    );
    let plan = decide(&world.snapshot(&key, at(2)), &[]);
    assert_eq!(slice_after(&world, &plan).0, GATEWAYS[..1]);
}
