//! A gateway that is cut off from the API server.

use super::*;

#[tokio::test(start_paused = true)]
async fn addresses_are_used_for_a_while_without_a_watch_and_then_no_longer() {
    let world = World::new().await;
    world.server.running("a", POD);
    world.seen("a", |state| matches!(state, State::Running(_))).await;
    let awake = |world: &World| world.sandboxes.awake(&world.target("a"), &arrival(Purpose::Use)).is_some();
    world.server.away(true);
    sleep(limits::STALE_TIME - Duration::from_secs(30)).await;
    assert!(awake(&world) && world.connect("a").await.is_ok(), "an outage of the API server ends no traffic at once");
    assert!(!world.sandboxes.waiting_for().is_empty());
    sleep(Duration::from_secs(120)).await;
    assert!(!awake(&world), "the address may be that of another pod");
    let begun = Instant::now();
    let refusal = world.connect("a").await.unwrap_err();
    assert_eq!((refusal.reason, refusal.retry_after.is_some()), (Reason::NotReady, true));
    assert_eq!(begun, Instant::now(), "nobody is held");
    // Nothing changes after the outage, so that no event says that it has ended.
    world.server.away(false);
    sleep(Duration::from_secs(120)).await;
    assert!(world.sandboxes.waiting_for().is_empty() && awake(&world));
    world.connect("a").await.unwrap();
}
