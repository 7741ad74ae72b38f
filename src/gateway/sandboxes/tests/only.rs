//! Requests whose credential is limited to one Sandbox or claim.

use super::*;
use crate::only::Holder;

fn limited(holder: Holder) -> Arrival {
    Arrival { only: Only::Of { holders: [holder].into(), until: jiff::Timestamp::MAX }, ..arrival(Purpose::Use) }
}

fn owner(kind: &str, uid: &str) -> serde_json::Value {
    json!({ "metadata": { "ownerReferences": [{
        "apiVersion": "extensions.agents.x-k8s.io/v1beta1", "kind": kind, "name": "mine", "uid": uid, "controller": true,
    }] } })
}

impl World {
    async fn connect_limited(&self, name: &str, holder: Holder) -> Result<Connected, Refusal> {
        let deadline = Instant::now() + Duration::from_secs(20);
        self.sandboxes.connect(&self.target(name), &limited(holder), deadline).await
    }

    /// What the three questions about a Sandbox say: whether an open connection may be used, a new one may be opened, and
    /// the credential is good.
    async fn answers(&self, name: &str, holder: Holder) -> [bool; 3] {
        let (target, arrival) = (self.target(name), limited(holder.clone()));
        [
            self.sandboxes.awake(&target, &arrival).is_some(),
            self.connect_limited(name, holder).await.is_ok(),
            self.sandboxes.check_only(&target, &arrival.only).is_ok(),
        ]
    }
}

#[tokio::test]
async fn credential_opens_the_sandbox_or_the_claim_that_it_names_by_uid() {
    let world = World::new().await;
    world.server.running("a", POD);
    world.server.change("sandboxes", "a", &owner("SandboxClaim", "claim-1"));
    world.seen("a", |state| matches!(state, State::Running(running) if running.identity.claim.is_some())).await;
    for (holder, opens) in [
        (Holder::Sandbox("sandboxes-a".into()), true),
        (Holder::Sandbox("sandboxes-b".into()), false),
        (Holder::Sandbox("".into()), false),
        (Holder::Claim("claim-1".into()), true),
        (Holder::Claim("claim-2".into()), false),
        (Holder::Claim("sandboxes-a".into()), false),
        (Holder::Claim("".into()), false),
        (Holder::Sandbox("claim-1".into()), false),
    ] {
        assert_eq!(world.answers("a", holder.clone()).await, [opens; 3], "{holder:?}");
    }
    let refusal = world.connect_limited("a", Holder::Sandbox("old".into())).await.unwrap_err();
    assert_eq!(
        (refusal.reason, &*refusal.detail),
        (Reason::Forbidden, "the token is for another Sandbox of the name a")
    );
    // The claim is released, and its Sandbox stays.
    world.server.change("sandboxes", "a", &json!({ "metadata": { "ownerReferences": null } }));
    world.seen("a", |state| matches!(state, State::Running(running) if running.identity.claim.is_none())).await;
    assert_eq!(world.answers("a", Holder::Claim("claim-1".into())).await, [false; 3]);
    let refusal = world.connect_limited("a", Holder::Claim("claim-1".into())).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::Forbidden);
    assert_eq!(refusal.detail, "the token is for a claim that does not have Sandbox a now");
    // An owner that is no controller, or no claim, has no Sandbox.
    let mut owned = owner("SandboxClaim", "claim-1");
    owned["metadata"]["ownerReferences"][0]["controller"] = false.into();
    for change in [owned, owner("SandboxTemplate", "claim-1")] {
        world.server.change("sandboxes", "a", &change);
        world.server.running("marker", POD);
        world.seen("marker", |state| matches!(state, State::Running(_))).await;
        assert_eq!(world.answers("a", Holder::Claim("claim-1".into())).await, [false; 3], "{change}");
        world.server.delete("sandboxes", "marker");
        world.seen("marker", |state| *state == State::Absent).await;
    }
}

#[tokio::test(start_paused = true)]
async fn held_request_does_not_reach_a_later_sandbox_of_the_name() {
    for later_runs in [true, false] {
        let world = World::new().await;
        world.server.suspended("a");
        world.seen("a", |state| matches!(state, State::Suspended(_))).await;
        let held = world.connect_limited("a", Holder::Sandbox("sandboxes-a".into()));
        let (connected, ()) = tokio::join!(held, async {
            world.until(|world| world.server.wakes() == 1).await;
            world.server.delete("sandboxes", "a");
            let (mode, replicas) = if later_runs { ("Running", 1) } else { ("Suspended", 0) };
            let later = json!({
                "metadata": { "uid": "later", "annotations": { "policy.paddock.dev/suspended-by": "Idle" } },
                "spec": { "operatingMode": mode, "replicas": replicas, "resumePolicy": "OnDemand" },
                "status": { "mode": mode },
            });
            world.server.put("sandboxes", "a", later);
            if later_runs {
                world.server.pod("a", "later", POD);
            }
        });
        let refusal = connected.unwrap_err();
        assert!(matches!(refusal.reason, Reason::Forbidden | Reason::SandboxNotFound), "{later_runs}: {refusal:?}");
        assert_eq!(world.server.wakes(), 1, "the later Sandbox is not woken");
    }
}

#[tokio::test]
async fn limited_credential_wakes_its_sandbox() {
    let world = World::new().await;
    world.server.suspended("a");
    world.server.operate(POD);
    world.seen("a", |state| matches!(state, State::Suspended(_))).await;
    let refused = world.connect_limited("a", Holder::Sandbox("old".into())).await.unwrap_err();
    assert_eq!((refused.reason, world.server.wakes()), (Reason::Forbidden, 0));
    world.connect_limited("a", Holder::Sandbox("sandboxes-a".into())).await.unwrap();
    assert_eq!(world.server.wakes(), 1);
}

#[tokio::test(start_paused = true)]
async fn credential_is_good_as_soon_as_the_watch_shows_its_sandbox() {
    let world = World::new().await;
    let pool = json!({ "metadata": { "ownerReferences": [{
        "apiVersion": "extensions.agents.x-k8s.io/v1beta1", "kind": "SandboxWarmPool", "name": "p", "uid": "p",
        "controller": true,
    }] } });
    world.server.running("warm", POD);
    world.server.change("sandboxes", "warm", &pool);
    world.seen("warm", |state| *state == State::Warm).await;
    world.server.suspended("asleep");
    world.seen("asleep", |state| matches!(state, State::Suspended(_))).await;
    world.server.running("new", POD);
    world.seen("new", |state| matches!(state, State::Running(_))).await;
    let claimed = owner("SandboxClaim", "claim-1");
    let becomes = async |name: &str, holder: Holder| {
        let begun = Instant::now();
        let only = limited(holder).only;
        assert!(world.sandboxes.check_only(&world.target(name), &only).is_err(), "{name}: not now");
        let became = world.sandboxes.becomes(&world.target(name), &only).await;
        (became.map_err(|refusal| refusal.reason), begun.elapsed())
    };
    // A warm Sandbox and a suspended one get a claim, another Sandbox gets the name, and one is unknown.
    for (name, holder) in [
        ("warm", Holder::Claim("claim-1".into())),
        ("asleep", Holder::Claim("claim-1".into())),
        ("new", Holder::Sandbox("later".into())),
        ("unknown", Holder::Claim("claim-1".into())),
    ] {
        let ((became, time), ()) = tokio::join!(becomes(name, holder.clone()), async {
            sleep(Duration::from_millis(300)).await;
            match name {
                "new" => {
                    world.server.delete("sandboxes", "new");
                    world.server.put("sandboxes", "new", json!({ "metadata": { "uid": "later" } }));
                }
                "unknown" => {
                    world.server.running(name, POD);
                    world.server.change("sandboxes", name, &claimed);
                }
                _ => world.server.change("sandboxes", name, &claimed),
            }
        });
        assert_eq!(became, Ok(()), "{name} {holder:?}");
        assert!(time < limits::ABSENT_GRACE, "{name}: {time:?}");
    }
    for (name, holder) in [
        ("warm", Holder::Claim("another".into())),
        ("new", Holder::Sandbox("another".into())),
        ("nowhere", Holder::Claim("claim-1".into())),
    ] {
        assert_eq!(becomes(name, holder).await, (Err(Reason::Forbidden), limits::ABSENT_GRACE), "{name}");
    }
    // A Sandbox that does not exist is no other one.
    let only = limited(Holder::Sandbox("uid".into())).only;
    assert_eq!(world.sandboxes.check_only(&world.target("nowhere"), &only), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn credential_that_ends_while_its_request_is_held_opens_nothing() {
    let world = World::new().await;
    world.server.running("a", POD);
    world.seen("a", |state| matches!(state, State::Running(_))).await;
    let until = virtual_time() + jiff::SignedDuration::from_secs(10);
    let only = Only::Of { holders: [Holder::Sandbox("sandboxes-a".into())].into(), until };
    let arrival = Arrival { only, ..arrival(Purpose::Use) };
    let target = world.target("a");
    assert!(world.sandboxes.awake(&target, &arrival).is_some());
    // The port is closed until the credential has ended.
    world.refused.store(usize::MAX, Ordering::Relaxed);
    let held = world.sandboxes.connect(&target, &arrival, Instant::now() + Duration::from_secs(30));
    let (connected, ()) = tokio::join!(held, async {
        sleep(Duration::from_secs(11)).await;
        world.refused.store(0, Ordering::Relaxed);
    });
    let refusal = connected.unwrap_err();
    assert_eq!((refusal.reason, &*refusal.detail), (Reason::Unauthenticated, "the token has expired"));
    assert!(world.sandboxes.awake(&target, &arrival).is_none());
    assert!(world.sandboxes.check_only(&target, &arrival.only).is_err());
}
