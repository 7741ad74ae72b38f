//! Sandboxed code as a client of a gateway that asks for no credential.

use super::*;
use crate::authorize::{Authorizer, Credential};
use crate::proxy::backend::{Backend as _, Cluster};

/// Whether a gateway for everybody admits a client with this address.
async fn admits(world: &World, client: &str) -> bool {
    let cluster = Cluster { sandboxes: world.sandboxes.clone(), authorizer: Authorizer::everybody() };
    let target = world.target("victim");
    match cluster.check(&Credential::None, client.parse().unwrap(), &target).await {
        Ok(_) => true,
        Err(refusal) => {
            assert_eq!(refusal.reason, Reason::Forbidden);
            false
        }
    }
}

#[tokio::test]
async fn sandboxed_code_reaches_no_sandbox_without_a_credential() {
    let world = World::new().await;
    world.server.running("evil", "10.0.0.7");
    world.seen("evil", |state| matches!(state, State::Running(_))).await;
    assert!(!admits(&world, "10.0.0.7").await && !admits(&world, "::ffff:10.0.0.7").await);
    assert!(admits(&world, "10.0.0.8").await);
    // Every address of the pod counts, and also while it terminates.
    let change = json!({
        "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" },
        "status": { "hostIP": "192.0.2.1", "podIPs": [{ "ip": "10.0.0.7" }, { "ip": "fd00::7" }, { "ip": "192.0.2.1" }] },
    });
    world.server.change("pods", "evil", &change);
    world.seen("evil", |state| matches!(state, State::Starting(_))).await;
    assert!(!admits(&world, "10.0.0.7").await && !admits(&world, "fd00::7").await);
    assert!(admits(&world, "192.0.2.1").await, "the address of a node is that of many clients");
    world.server.delete("pods", "evil");
    world.until(|world| !world.sandboxes.is_pod("10.0.0.7".parse().unwrap())).await;
    assert!(admits(&world, "fd00::7").await);
}
