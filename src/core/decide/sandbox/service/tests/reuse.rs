//! Ports of the gateway to which an EndpointSlice of another Sandbox still leads.

use super::leftovers::tcp_wake_patch;
use super::*;

/// A Sandbox that was deleted without its dependents leaves its Service and its EndpointSlice behind.
#[test]
fn port_of_a_slice_that_was_left_behind_is_not_given_away() {
    let settings = settings("20007-20007");
    let (rest, key) = (settings.port_rest, Key::new(Kind::Sandbox, "ns", "a"));
    let mut world = world_with(&RUNNING.objects(), settings);
    let slice = |namespace: &str, port: i64, target: Value| {
        let object = json!({
            "metadata": {
                "namespace": namespace, "name": "old", "uid": "o", "resourceVersion": "1",
                "labels": {
                    "kubernetes.io/service-name": "old", "endpointslice.kubernetes.io/managed-by": "paddock",
                    "agents.x-k8s.io/sandbox-name-hash": "0",
                },
            },
            "addressType": "IPv4", "ports": [{ "name": "ssh", "port": port, "protocol": "TCP" }],
            "endpoints": [{ "addresses": [GATEWAYS[0]], "targetRef": target }],
        });
        Object::from_json(Kind::EndpointSlice, object).unwrap()
    };
    let ports = |world: &mut World, seconds: i64| {
        world.take_ports(&key, at(seconds));
        tcp_wake_patch(&decide(&world.snapshot(&key, at(seconds)), &[])).unwrap_or_default()
    };
    let left = slice("elsewhere", GATEWAY_PORT, Value::Null);
    let _ = world.observe(Observed::Applied(left.clone()), at(1));
    let _ = world.observe(Observed::Applied(slice("third", GATEWAY_PORT, json!({ "kind": "Pod" }))), at(1));
    let _ = world.observe(Observed::Applied(slice("fourth", 22, Value::Null)), at(1));
    let status = ports(&mut world, 9999);
    assert!(status["reason"].as_str().is_some_and(|reason| reason.contains("is in use")), "{status}");
    // kube-proxy follows the deletion later.
    let _ = world.observe(Observed::Applied(slice("fifth", 22, Value::Null)), at(10_000));
    let _ = world.observe(Observed::Deleted(left), at(10_000));
    let rest = i64::try_from(rest.as_secs()).unwrap();
    let status = ports(&mut world, 10_000 + rest - 1);
    assert!(status["reason"].is_string(), "{status}");
    let status = ports(&mut world, 10_000 + rest);
    assert_eq!(status["ports"], json!([{ "port": 22, "gatewayPort": GATEWAY_PORT }]));
}
