//! Records of activity, in virtual time.

use std::collections::BTreeMap;

use super::*;
use crate::sandboxes::metrics::RecordResult;

const RECORD: &str = "policy.paddock.dev/last-activity";

/// The times that were recorded for a Sandbox.
fn records(world: &World, name: &str) -> Vec<Timestamp> {
    let of = |(sandbox, patch): &(String, serde_json::Value)| {
        let at = patch["metadata"]["annotations"][RECORD].as_str().filter(|_| sandbox == name)?;
        Some(at.parse().unwrap())
    };
    world.server.patches().iter().filter_map(of).collect()
}

#[tokio::test(start_paused = true)]
async fn open_stream_is_recorded_at_every_tenth_of_the_idle_timeout() {
    let world = World::new().await;
    world.server.running("a", POD);
    world.seen("a", |state| matches!(state, State::Running(_))).await;
    let stream = world.connect("a").await.unwrap();
    sleep(Duration::from_secs(3600)).await;
    let open = records(&world, "a").len();
    assert!((19..=21).contains(&open), "{open}");
    drop(stream);
    sleep(Duration::from_secs(3600)).await;
    let closed = records(&world, "a").len();
    assert!(closed <= open + 1, "{closed}");
    assert!(world.sandboxes.0.in_use.is_empty());
}

#[tokio::test(start_paused = true)]
async fn thousand_busy_sandboxes_cost_a_few_writes_a_second() {
    let world = World::new().await;
    for n in 0..1000 {
        world.server.running(&n.to_string(), POD);
    }
    world.seen("999", |state| matches!(state, State::Running(_))).await;
    let arrival = arrival(Purpose::Use);
    let busy = (0..1000).map(|n| world.sandboxes.awake(&world.target(&n.to_string()), &arrival).unwrap().mark.begin());
    let _busy: Vec<Activity> = busy.collect();
    sleep(Duration::from_secs(1800)).await;
    let written = world.metrics.records_of(RecordResult::Written);
    assert!((9_000..=12_000).contains(&written), "{written} in half an hour");
    // Nobody is idle: the longest time between two records of each is far below the timeout.
    let mut records: BTreeMap<String, Vec<Timestamp>> = BTreeMap::new();
    for (sandbox, patch) in world.server.patches() {
        let at = patch["metadata"]["annotations"][RECORD].as_str().unwrap().parse().unwrap();
        records.entry(sandbox).or_default().push(at);
    }
    assert_eq!(records.len(), 1000);
    for (sandbox, times) in records {
        assert!(times.len() >= 9, "{sandbox}: {}", times.len());
        let longest = times.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_secs()).max().unwrap();
        assert!((180..400).contains(&longest), "{sandbox}: {longest} s");
    }
}

/// The open connections of each pod, by the name of its Sandbox.
fn open(world: &World) -> Vec<(String, String, u32)> {
    let list = world.sandboxes.open_connections();
    assert_eq!(list.at, virtual_time());
    list.sandboxes.into_iter().map(|of| (of.name, of.pod_uid, of.open)).collect()
}

#[tokio::test(start_paused = true)]
async fn open_connections_are_counted_for_each_pod_until_they_end() {
    let world = World::new().await;
    for name in ["a", "b", "c"] {
        world.server.running(name, POD);
        world.seen(name, |state| matches!(state, State::Running(_))).await;
    }
    assert_eq!(open(&world), []);
    let pods =
        [world.connect("b").await.unwrap(), world.connect("a").await.unwrap(), world.connect("a").await.unwrap()];
    let _probe = world.connect_as("c", Purpose::Probe).await.unwrap();
    let [b, a, second] = pods;
    let pod = |of: &Connected| of.endpoint.pod_uid.to_string();
    assert_eq!(open(&world), [("a".to_owned(), pod(&a), 2), ("b".to_owned(), pod(&b), 1)]);
    drop((second, b));
    assert_eq!(open(&world), [("a".to_owned(), pod(&a), 1)]);
    drop(a);
    assert_eq!(open(&world), []);
}

#[tokio::test(start_paused = true)]
async fn requests_during_the_write_of_a_record_cause_no_other_one() {
    let world = World::new().await;
    world.server.running("a", POD);
    world.seen("a", |state| matches!(state, State::Running(_))).await;
    world.server.writes_take(Duration::from_secs(2));
    for _ in 0..40 {
        drop(world.connect("a").await.unwrap());
        sleep(Duration::from_millis(100)).await;
    }
    sleep(Duration::from_secs(5)).await;
    assert_eq!(records(&world, "a").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn sandbox_without_idle_timeout_and_a_probe_are_not_recorded() {
    let world = World::new().await;
    world.server.running("a", POD);
    world.server.change("sandboxes", "a", &json!({ "spec": { "idleTimeout": null } }));
    world.server.running("b", POD);
    world.seen("b", |state| matches!(state, State::Running(_))).await;
    let open = (world.connect("a").await.unwrap(), world.connect_as("b", Purpose::Probe).await.unwrap());
    sleep(Duration::from_secs(3600)).await;
    drop(open);
    assert_eq!(world.server.patches(), []);
}

#[tokio::test(start_paused = true)]
async fn record_of_another_process_counts_and_a_failed_one_is_repeated() {
    let world = World::new().await;
    world.server.running("a", POD);
    world.seen("a", |state| matches!(state, State::Running(_))).await;
    let now = world.sandboxes.0.clock.now();
    world.server.change("sandboxes", "a", &json!({ "metadata": { "annotations": { RECORD: now.to_string() } } }));
    sleep(Duration::from_secs(1)).await;
    let stream = world.connect("a").await.unwrap();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(records(&world, "a"), []);
    world.server.fail_next(Fault::Unavailable);
    sleep(Duration::from_secs(300)).await;
    assert!(world.metrics.records_of(RecordResult::Failed) == 1, "the record is due after three minutes");
    assert!(!records(&world, "a").is_empty());
    drop(stream);
}

/// A tenth of a short timeout is less than five seconds, and five seconds may be longer than the timeout.
#[tokio::test(start_paused = true)]
async fn open_stream_is_never_idle_however_short_the_idle_timeout_is() {
    let world = World::new().await;
    for seconds in [3, 5, 8, 12] {
        let (name, timeout) = (format!("s{seconds}"), format!("{seconds}s"));
        world.server.running(&name, POD);
        world.server.change("sandboxes", &name, &json!({ "spec": { "idleTimeout": timeout } }));
    }
    sleep(Duration::from_secs(1)).await;
    for seconds in [3, 5, 8, 12] {
        let name = format!("s{seconds}");
        let stream = world.connect(&name).await.unwrap();
        sleep(Duration::from_secs(60)).await;
        drop(stream);
        let times = records(&world, &name);
        let longest = times.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_millis()).max().unwrap();
        assert!(longest < seconds * 1000, "{name}: {longest} ms");
        assert!(times.len() <= 60, "{name}: {} writes in a minute", times.len());
    }
}

/// A stream whose node died may hang for an hour. It is no use of the pod that came after.
#[tokio::test(start_paused = true)]
async fn stream_to_a_pod_that_is_gone_keeps_neither_the_next_pod_nor_another_sandbox_awake() {
    let world = World::new().await;
    world.server.running("a", POD);
    world.seen("a", |state| matches!(state, State::Running(_))).await;
    let _stream = world.connect("a").await.unwrap();
    sleep(Duration::from_secs(1)).await;
    world.server.delete("pods", "a");
    world.server.pod("a", "sandboxes-a", POD);
    sleep(Duration::from_secs(1)).await;
    let before = records(&world, "a").len();
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(records(&world, "a").len(), before, "another pod");
    let _again = world.connect("a").await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let mut next = world.server.get("sandboxes", "a");
    next["metadata"]["uid"] = "another".into();
    next["metadata"]["annotations"] = json!({});
    world.server.delete("sandboxes", "a");
    world.server.put("sandboxes", "a", next);
    sleep(Duration::from_secs(1)).await;
    let before = records(&world, "a").len();
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(records(&world, "a").len(), before, "another Sandbox");
}

/// A client that asks a closed port again and again uses nothing.
#[tokio::test(start_paused = true)]
async fn request_without_a_connection_is_no_use() {
    let world = World::new().await;
    world.server.running("a", POD);
    world.seen("a", |state| matches!(state, State::Running(_))).await;
    world.refused.store(usize::MAX, Ordering::Relaxed);
    for _ in 0..100 {
        let awake = world.sandboxes.awake(&world.target("a"), &arrival(Purpose::Use));
        drop(awake.expect("the pod has an address"));
        world.connect("a").await.unwrap_err();
        sleep(Duration::from_secs(60)).await;
    }
    assert_eq!(records(&world, "a"), []);
}
