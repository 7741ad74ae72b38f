//! The periodic resync of all objects. It finds missed changes, and it repeats decisions that depend on time after the
//! clock was set.

use jiff::Timestamp;
use paddock_core::world::World;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::info;

use crate::limits;
use crate::queue::{Queue, Trigger};
use crate::world::SharedWorld;

/// Queues every object once in each period, a few every second to avoid a burst. If the wall clock was set, queues all
/// objects at once.
pub async fn resync(world: SharedWorld, queue: Queue, wall: impl Fn() -> Timestamp) {
    let steps = usize::try_from(limits::RESYNC_PERIOD.as_secs() / limits::RESYNC_STEP_INTERVAL.as_secs()).unwrap_or(1);
    let mut ticks = interval(limits::RESYNC_STEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut clocks = Clocks { wall: wall(), steady: Instant::now() };
    // The last key that was queued, and the fraction of an object that is due. Less than one object may be due in a
    // second.
    let (mut last, mut parts) = (None, 0);
    for step in 1_usize.. {
        ticks.tick().await;
        if let Some(by) = clocks.stepped(wall(), Instant::now()) {
            info!(seconds = by, "the clock was set; queueing all objects");
            queue.push(world.read(World::everything), Trigger::Resync);
        }
        parts += world.read(World::reconciled);
        let due = parts / steps;
        parts %= steps;
        let mut keys = world.read(|world| world.everything_after(last.as_ref(), due));
        if keys.len() < due {
            // These were the last keys of the order. The round begins again with the first.
            let missing = due - keys.len();
            keys.extend(world.read(|world| world.everything_after(None, missing)));
        }
        last = keys.last().cloned().or(last);
        queue.push(keys, Trigger::Resync);
        if step % steps == 0 {
            world.forget_old(wall());
        }
    }
}

/// Both clocks, as they were last read.
struct Clocks {
    wall: Timestamp,
    steady: Instant,
}

impl Clocks {
    /// The number of seconds by which the wall clock was set, if it is more than the clock may drift.
    fn stepped(&mut self, wall: Timestamp, steady: Instant) -> Option<f64> {
        let by_wall = wall.duration_since(self.wall).as_secs_f64();
        let by_steady = steady.saturating_duration_since(self.steady).as_secs_f64();
        *self = Self { wall, steady };
        let by = by_wall - by_steady;
        (by.abs() > limits::CLOCK_STEP_THRESHOLD.as_secs_f64()).then_some(by)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use paddock_api::kind::{Key, Kind};
    use paddock_core::object::Object;
    use paddock_core::settings::Settings;
    use paddock_core::world::Observed;
    use serde_json::json;

    use super::*;
    use crate::queue::{Done, Workers};

    #[test]
    fn a_step_of_the_clock_either_way_is_noticed_and_its_drift_is_not() {
        let (wall, steady) = (Timestamp::UNIX_EPOCH, Instant::now());
        let second = Duration::from_secs(1);
        let cases = [(1.0, None), (1.4, None), (0.6, None), (3601.0, Some(3600.0)), (-3599.0, Some(-3600.0))];
        for (seconds, expected) in cases {
            let mut clocks = Clocks { wall, steady };
            let later = wall + jiff::SignedDuration::from_secs_f64(seconds);
            let by = clocks.stepped(later, steady + second).map(f64::round);
            assert_eq!(by, expected, "{seconds} s by the wall clock in one second");
            assert_eq!(clocks.stepped(later + second, steady + second * 2), None, "it is told once");
        }
    }

    /// The number of claims beside the Sandboxes. Pods are not reconciled themselves.
    const OTHERS: usize = 7;

    fn world_of(sandboxes: usize) -> SharedWorld {
        let world = SharedWorld::new(World::new(Settings::default()));
        let object = |kind: Kind, n: usize| {
            let metadata = json!({ "name": format!("o-{n}"), "namespace": "n", "uid": format!("{kind:?}-{n}") });
            Object::from_json(kind, json!({ "metadata": metadata, "spec": {} })).unwrap()
        };
        let listed = |kind: Kind, count: usize| Observed::Listed(kind, (0..count).map(|n| object(kind, n)).collect());
        for (kind, count) in [(Kind::Sandbox, sandboxes), (Kind::SeedClaim, OTHERS), (Kind::Pod, sandboxes)] {
            let _ = world.observe(listed(kind, count), Timestamp::UNIX_EPOCH);
        }
        world
    }

    /// The keys that the resync queues in one second.
    async fn second(queue: &Queue) -> Vec<Key> {
        let end = tokio::time::sleep(Duration::from_secs(1));
        tokio::pin!(end);
        let mut keys = Vec::new();
        loop {
            tokio::select! {
                () = &mut end => return keys,
                Some(job) = queue.next() => {
                    keys.push(job.key.clone());
                    job.done(Done::Converged, None);
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_object_is_reconciled_once_per_period_and_not_in_a_burst() {
        for sandboxes in [0, 9000] {
            one_period(sandboxes).await;
        }
    }

    async fn one_period(sandboxes: usize) {
        let queue = Queue::new(Workers::default(), 0);
        queue.open(true);
        let began = Instant::now();
        let wall = move || Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs_f64(began.elapsed().as_secs_f64());
        let pass = tokio::spawn(resync(world_of(sandboxes), queue.clone(), wall));
        let (mut seen, mut looks, mut most) = (BTreeSet::<Key>::new(), 0, 0);
        while began.elapsed() < limits::RESYNC_PERIOD + limits::RESYNC_STEP_INTERVAL * 2 {
            let keys = second(&queue).await;
            most = most.max(keys.len());
            looks += keys.len();
            seen.extend(keys);
        }
        pass.abort();
        assert_eq!(seen.len(), sandboxes + OTHERS, "all of them");
        assert!(looks <= seen.len() + seen.len() / 100 + 1, "{looks} looks at {} objects", seen.len());
        let even = sandboxes / usize::try_from(limits::RESYNC_PERIOD.as_secs()).unwrap();
        assert!(most <= 2 * (even + 1), "{most} in one second, {even} would be even");
    }

    #[tokio::test(start_paused = true)]
    async fn every_object_is_reconciled_after_a_clock_change() {
        let queue = Queue::new(Workers::default(), 0);
        queue.open(true);
        let (began, set) = (Instant::now(), Duration::from_secs(10));
        let wall = move || {
            let ahead = if began.elapsed() > set { 86_400.0 } else { 0.0 };
            Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs_f64(began.elapsed().as_secs_f64() + ahead)
        };
        let pass = tokio::spawn(resync(world_of(100), queue.clone(), wall));
        let mut most = 0;
        while began.elapsed() < set * 2 {
            most = most.max(second(&queue).await.len());
        }
        pass.abort();
        assert_eq!(most, 100 + OTHERS, "in the second after the step");
    }
}
