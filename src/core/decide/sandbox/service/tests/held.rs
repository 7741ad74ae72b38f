//! Gateways in the place of a pod whose containers wait for the data of a claim.

use super::*;
use crate::plan::Reason;

/// The command of a held container starts after the pod was told what its claim brings, which may be long after Ready.
#[test]
fn gateways_stay_until_a_held_pod_was_told_what_its_claim_brings() {
    let (told, sent) = ("policy.paddock.dev/claim-data", "policy.paddock.dev/claim-data-sent");
    let held = json!([{ "name": "paddock-init", "emptyDir": {} }]);
    let just_sent = json!({ told: "data u", sent: at(-1).to_string() });
    for (what, pod, lists, volumes, annotations, expected, again) in [
        ("not told", PodIs::ReadyForLong, Lists::Gateways, &held, json!({}), &GATEWAYS[..], None),
        ("not told", PodIs::JustReady, Lists::Gateways, &held, json!({}), &GATEWAYS[..], None),
        ("just told", PodIs::ReadyForLong, Lists::Gateways, &held, just_sent, &GATEWAYS[..], Some(at(29))),
        ("told", PodIs::ReadyForLong, Lists::Gateways, &held, json!({ told: "data u" }), &[POD][..], None),
        ("told", PodIs::JustReady, Lists::Gateways, &held, json!({ told: "none" }), &GATEWAYS[..], Some(at(25))),
        ("not held", PodIs::ReadyForLong, Lists::Gateways, &json!([]), json!({}), &[POD][..], None),
        // Its clients reach the pod already.
        ("no gateways", PodIs::JustReady, Lists::Pod, &held, json!({}), &[POD][..], None),
    ] {
        let case = Case { pod, lists, recorded: true, ..RUNNING };
        let mut objects = case.objects();
        let index = objects.iter().position(|object| object.key.kind == Kind::Pod).unwrap();
        let mut pod = case.pod_document();
        pod["spec"]["volumes"] = volumes.clone();
        pod["metadata"]["annotations"] = annotations;
        objects[index] = Object::from_json(Kind::Pod, pod).unwrap();
        let (mut world, key) = (world(&objects), Key::new(Kind::Sandbox, "ns", "a"));
        world.take_ports(&key, at(0));
        let plan = decide(&world.snapshot(&key, at(0)), &[]);
        assert_eq!(slice_after(&world, &plan).0, expected, "{what}: {case:?}");
        let reason = plan.requeue.as_ref().filter(|requeue| requeue.reason == Reason::EndpointsChanged);
        assert_eq!(reason.map(|requeue| requeue.at), again, "{what}: {case:?}");
    }
}
