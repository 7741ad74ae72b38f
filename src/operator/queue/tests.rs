//! The behaviour of the work queue, in virtual time.

use std::collections::BTreeMap;

use paddock_api::kind::Kind;

use paddock_kube::backoff::Backoff;

use super::*;

fn key(kind: Kind, name: &str) -> Key {
    Key::new(kind, "ns", name)
}

fn sandbox(name: &str) -> Key {
    key(Kind::Sandbox, name)
}

fn queue(each: usize) -> Queue {
    let queue = Queue::new(Workers { claims: each, sandboxes: each, pools: each, templates: each }, 7);
    queue.open(true);
    queue
}

/// The next job, if there is one now.
async fn now(queue: &Queue) -> Option<Job> {
    tokio::time::timeout(Duration::ZERO, queue.next()).await.ok().flatten()
}

async fn name(queue: &Queue) -> Option<String> {
    let job = now(queue).await?;
    let name = job.key.name.to_string();
    job.done(Done::Converged, None);
    Some(name)
}

/// Waits for the next job. Returns the time until then, and the job.
async fn wait(queue: &Queue) -> (Duration, Job) {
    let start = Instant::now();
    let job = queue.next().await.unwrap();
    (start.elapsed(), job)
}

#[tokio::test(start_paused = true)]
async fn a_key_is_in_the_queue_once() {
    let queue = queue(4);
    queue.push([sandbox("a"), sandbox("a")], Trigger::Related);
    queue.push([sandbox("a")], Trigger::Changed);
    assert_eq!(name(&queue).await.as_deref(), Some("a"));
    assert_eq!(name(&queue).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_key_under_way_is_not_given_out_again_until_it_is_done() {
    let queue = queue(4);
    queue.push([sandbox("a")], Trigger::Changed);
    let job = now(&queue).await.unwrap();
    queue.push([sandbox("a")], Trigger::Related);
    assert!(now(&queue).await.is_none());
    job.done(Done::Converged, None);
    assert_eq!(name(&queue).await.as_deref(), Some("a"));
    assert_eq!(name(&queue).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_lane_gives_out_no_more_than_its_bound_and_lanes_do_not_share_it() {
    let queue = queue(2);
    queue.push(["a", "b", "c"].map(sandbox), Trigger::Changed);
    queue.push([key(Kind::Claim, "d")], Trigger::Changed);
    let jobs: Vec<Job> = [now(&queue).await, now(&queue).await, now(&queue).await].into_iter().flatten().collect();
    let mut kinds: Vec<Kind> = jobs.iter().map(|job| job.key.kind).collect();
    kinds.sort();
    assert_eq!(kinds, [Kind::Sandbox, Kind::Sandbox, Kind::Claim]);
    assert!(now(&queue).await.is_none());
    drop(jobs);
}

#[tokio::test(start_paused = true)]
async fn claims_are_looked_through_first() {
    let queue = queue(4);
    queue.push([key(Kind::Pool, "p"), key(Kind::Template, "t"), sandbox("s")], Trigger::Changed);
    queue.push([key(Kind::SeedClaim, "c")], Trigger::Changed);
    let mut order = Vec::new();
    while let Some(name) = name(&queue).await {
        order.push(name);
    }
    // The Sandboxes of a template wait for its NetworkPolicy.
    assert_eq!(order, ["c", "t", "s", "p"]);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_of_one_pool_do_not_hold_up_one_of_another() {
    let queue = queue(1);
    queue.push((0..10_000).map(|n| sandbox(&format!("big-{n:05}"))), Trigger::Related);
    queue.push([sandbox("small-00001")], Trigger::Related);
    let first = [name(&queue).await.unwrap(), name(&queue).await.unwrap()];
    assert!(first.contains(&"small-00001".to_owned()), "{first:?}");
}

/// A hostile namespace with ten thousand names of their own, so each is a flow, beside a good one.
#[tokio::test(start_paused = true)]
async fn names_gain_no_turns() {
    for kind in [Kind::Claim, Kind::Sandbox, Kind::Pool, Kind::Template] {
        let queue = queue(1);
        queue.push((0..10_000).map(|n| Key::new(kind, "hostile", format!("c{n}"))), Trigger::Changed);
        queue.push((0..20).map(|n| Key::new(kind, "good", format!("c{n}"))), Trigger::Changed);
        let mut good = 0;
        for _ in 0..40 {
            let job = now(&queue).await.unwrap();
            good += usize::from(&*job.key.namespace == "good");
            job.done(Done::Converged, None);
        }
        assert_eq!(good, 20, "{kind:?}: every second turn");
    }
}

#[tokio::test(start_paused = true)]
async fn a_namespace_whose_reconciles_never_end_leaves_places_for_others() {
    let queue = queue(128);
    queue.push((0..1000).map(|n| Key::new(Kind::Claim, "hostile", format!("c{n}"))), Trigger::Changed);
    let mut held = Vec::new();
    while let Some(job) = now(&queue).await {
        held.push(job);
    }
    assert!(held.len() > 100 && held.len() < 120, "one namespace alone uses most of the lane: {}", held.len());
    queue.push((0..4).map(|n| Key::new(Kind::Claim, "good", format!("c{n}"))), Trigger::Changed);
    for _ in 0..4 {
        assert_eq!(&*now(&queue).await.unwrap().key.namespace, "good");
    }
    drop(held);
}

/// Claims that never run out, as a namespace makes them that creates and deletes claims in a loop.
#[tokio::test(start_paused = true)]
async fn claims_that_never_run_out_stop_no_other_work() {
    let queue = queue(128);
    let mut next = 0;
    let mut claims = move || {
        next += 1;
        Key::new(Kind::Claim, "hostile", format!("c{next}"))
    };
    queue.push(std::iter::repeat_with(&mut claims).take(50), Trigger::Changed);
    queue.push([key(Kind::Template, "t")], Trigger::Changed);
    queue.push([key(Kind::Pool, "p")], Trigger::Changed);
    queue.push([sandbox("s")], Trigger::Resync);
    let mut others = Vec::new();
    for turn in 0..40 {
        let job = now(&queue).await.unwrap();
        queue.push([claims()], Trigger::Changed);
        if job.key.kind != Kind::Claim {
            others.push((turn, job.key.name.to_string()));
        }
        job.done(Done::Converged, None);
    }
    let names: Vec<&str> = others.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, ["t", "s", "p"]);
    assert!(others[2].0 < 12, "{others:?}");
}

/// Changes that never run out do not stop the resync, which a new leader depends on.
#[tokio::test(start_paused = true)]
async fn changes_that_never_run_out_do_not_stop_the_first_pass_of_a_leader() {
    let queue = queue(1);
    queue.push((0..3).map(|n| sandbox(&format!("old{n}"))), Trigger::Leading);
    let mut passes = 0;
    for turn in 0..40 {
        queue.push([Key::new(Kind::Sandbox, "hostile", format!("s{turn}"))], Trigger::Changed);
        let job = now(&queue).await.unwrap();
        passes += usize::from(job.trigger == Trigger::Leading);
        job.done(Done::Converged, None);
    }
    assert_eq!(passes, 3);
}

#[tokio::test(start_paused = true)]
async fn flows_take_turns() {
    let queue = queue(1);
    for flow in ["a", "b", "c"] {
        queue.push((0..50).map(|n| sandbox(&format!("{flow}-{n}"))), Trigger::Related);
    }
    let mut served: BTreeMap<char, usize> = BTreeMap::new();
    for turn in 1..=150 {
        *served.entry(name(&queue).await.unwrap().chars().next().unwrap()).or_default() += 1;
        let most = served.values().max().unwrap();
        let least = if served.len() < 3 { 0 } else { *served.values().min().unwrap() };
        assert!(most - least <= 1, "after {turn} turns: {served:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_periodic_pass_put_in_waits_for_what_changed() {
    let queue = queue(1);
    queue.push((0..3).map(|n| sandbox(&format!("old{n}"))), Trigger::Resync);
    queue.push([sandbox("new")], Trigger::Changed);
    assert_eq!(name(&queue).await.as_deref(), Some("new"));
    // A key from a resync moves forward when its object changes, and is returned once.
    queue.push([sandbox("old2")], Trigger::Changed);
    assert_eq!(queue.depth()[Lane::Sandboxes as usize].1, 3);
    let order = [name(&queue).await, name(&queue).await, name(&queue).await].map(Option::unwrap);
    assert_eq!(order, ["old2", "old0", "old1"]);
    assert_eq!(name(&queue).await, None);
    assert_eq!(queue.depth()[Lane::Sandboxes as usize].1, 0);
}

#[tokio::test(start_paused = true)]
async fn a_wake_comes_at_its_time_and_the_earliest_one_stands() {
    let queue = queue(1);
    let start = Instant::now();
    queue.push_at(sandbox("a"), start + Duration::from_secs(30), Trigger::Wake);
    queue.push_at(sandbox("a"), start + Duration::from_secs(10), Trigger::Wake);
    queue.push_at(sandbox("a"), start + Duration::from_secs(20), Trigger::Wake);
    let (waited, job) = wait(&queue).await;
    assert_eq!(waited.as_secs(), 10);
    job.done(Done::Converged, Some(Instant::now() + Duration::from_secs(5)));
    let (waited, job) = wait(&queue).await;
    assert_eq!((waited.as_secs(), job.trigger), (5, Trigger::Wake));
}

#[tokio::test(start_paused = true)]
async fn what_happens_to_a_pool_at_about_the_same_time_is_looked_at_once() {
    let queue = queue(4);
    let pool = key(Kind::SeedPool, "p");
    for _ in 0..9 {
        queue.push([pool.clone()], Trigger::Related);
        tokio::time::advance(limits::POOL_DEBOUNCE / 10).await;
        assert!(now(&queue).await.is_none());
    }
    tokio::time::advance(limits::POOL_DEBOUNCE / 10).await;
    now(&queue).await.unwrap().done(Done::Converged, None);
    assert!(now(&queue).await.is_none());
    // A change of the pool itself is not delayed.
    queue.push([pool.clone()], Trigger::Related);
    queue.push([pool], Trigger::Changed);
    assert!(now(&queue).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_change_overtakes_a_wake() {
    let queue = queue(1);
    queue.push_at(sandbox("a"), Instant::now() + Duration::from_secs(30), Trigger::Wake);
    queue.push([sandbox("a")], Trigger::Changed);
    assert_eq!(name(&queue).await.as_deref(), Some("a"));
    // The reconcile converged and set no requeue time.
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(name(&queue).await, None);
}

#[tokio::test(start_paused = true)]
async fn failures_wait_longer_each_time_up_to_the_longest_and_a_success_forgets_them() {
    let queue = queue(1);
    queue.push([sandbox("a")], Trigger::Changed);
    let Backoff { first, longest } = limits::KEY_BACKOFF;
    let (_, mut job) = wait(&queue).await;
    let mut full = first;
    for _ in 0..16 {
        job.done(Done::Failed { at_least: None }, None);
        let waited;
        (waited, job) = wait(&queue).await;
        // tokio's timer counts whole milliseconds.
        assert!(waited >= full / 2 && waited <= full + Duration::from_millis(1), "{waited:?} of {full:?}");
        assert_eq!(job.trigger, Trigger::Retry);
        full = (full * 2).min(longest);
    }
    job.done(Done::Converged, None);
    queue.push([sandbox("a")], Trigger::Changed);
    let (_, job) = wait(&queue).await;
    job.done(Done::Failed { at_least: None }, None);
    assert!(wait(&queue).await.0 <= first + Duration::from_millis(1));
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_is_waited_for() {
    let queue = queue(1);
    queue.push([sandbox("a")], Trigger::Changed);
    wait(&queue).await.1.done(Done::Failed { at_least: Some(Duration::from_secs(7)) }, None);
    assert_eq!(wait(&queue).await.0.as_secs(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_failed_key_is_held_against_its_surroundings_but_not_against_its_own_change() {
    let queue = queue(1);
    queue.push([sandbox("a")], Trigger::Changed);
    wait(&queue).await.1.done(Done::Failed { at_least: Some(Duration::from_secs(60)) }, None);
    queue.push([sandbox("a")], Trigger::Related);
    assert!(now(&queue).await.is_none());
    queue.push([sandbox("a")], Trigger::Changed);
    assert!(now(&queue).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn conflicts_are_looked_at_again_at_once_and_then_with_backoff() {
    let queue = queue(1);
    queue.push([sandbox("a")], Trigger::Changed);
    let mut waits = Vec::new();
    let (_, mut job) = wait(&queue).await;
    for _ in 0..limits::IMMEDIATE_CONFLICT_RETRIES + 2 {
        job.done(Done::Again, None);
        let waited;
        (waited, job) = wait(&queue).await;
        waits.push(waited);
    }
    let (at_once, later) = waits.split_at(limits::IMMEDIATE_CONFLICT_RETRIES as usize);
    assert!(at_once.iter().all(Duration::is_zero), "{waits:?}");
    assert!(later.iter().all(|w| !w.is_zero()), "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_dropped_counts_as_failed() {
    let queue = queue(1);
    queue.push([sandbox("a")], Trigger::Changed);
    drop(now(&queue).await.unwrap());
    assert!(now(&queue).await.is_none());
    let (waited, job) = wait(&queue).await;
    assert!(!waited.is_zero());
    assert_eq!(job.trigger, Trigger::Retry);
}

#[tokio::test(start_paused = true)]
async fn a_closed_queue_keeps_nothing_and_gives_nothing_out() {
    let queue = Queue::new(Workers { claims: 1, sandboxes: 1, pools: 1, templates: 1 }, 7);
    let hour = Duration::from_secs(3600);
    let fill = || {
        queue.push(["a", "b", "c"].map(sandbox), Trigger::Changed);
        queue.push(["b", "d"].map(sandbox), Trigger::Resync);
        queue.push_at(sandbox("later"), Instant::now() + hour, Trigger::Wake);
    };
    fill();
    queue.open(true);
    assert!(now(&queue).await.is_none());
    fill();
    let under_way = now(&queue).await.unwrap();
    queue.push([under_way.key.clone()], Trigger::Changed);
    queue.open(false);
    fill();
    assert_eq!(queue.shared.state.lock().entries.len(), 1, "what is under way");
    queue.push([under_way.key.clone()], Trigger::Changed);
    under_way.done(Done::Failed { at_least: None }, Some(Instant::now() + hour));
    assert!(queue.shared.state.lock().entries.is_empty());
    assert_eq!(queue.depth()[Lane::Sandboxes as usize], (Lane::Sandboxes, 0, 0));

    queue.open(true);
    assert!(tokio::time::timeout(2 * hour, queue.next()).await.is_err(), "it was forgotten");
    queue.push([sandbox("a")], Trigger::Leading);
    assert_eq!(name(&queue).await.as_deref(), Some("a"));
    queue.close();
    assert!(queue.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_change_ends_a_wait_whatever_else_came_while_it_was_under_way() {
    for order in [[Trigger::Changed, Trigger::Related], [Trigger::Related, Trigger::Changed]] {
        let queue = queue(1);
        queue.push([sandbox("a")], Trigger::Wake);
        let job = now(&queue).await.unwrap();
        for trigger in order {
            queue.push([sandbox("a")], trigger);
        }
        job.done(Done::Failed { at_least: Some(Duration::from_secs(60)) }, None);
        assert!(now(&queue).await.is_some(), "{order:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_push_wakes_one_who_waits() {
    let queue = queue(1);
    let waiter = tokio::spawn({
        let queue = queue.clone();
        async move { queue.next().await.map(|job| job.key.name.to_string()) }
    });
    tokio::task::yield_now().await;
    queue.push([sandbox("a")], Trigger::Changed);
    assert_eq!(waiter.await.unwrap().as_deref(), Some("a"));
}

/// Random operations on a few keys. No key has two workers, and lanes keep their limits. Every key is returned after
/// its last push, and no key is left behind.
#[tokio::test(start_paused = true)]
async fn random_operations_keep_the_promises() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let queue = queue(2);
        let mut owed: BTreeMap<Key, bool> = BTreeMap::new();
        let mut jobs: Vec<Job> = Vec::new();
        let keys: Vec<Key> = (0..6).map(|n| sandbox(&format!("f{}-{n}", n % 2))).collect();
        for _ in 0..300 {
            match random.u8(0..10) {
                0..4 => {
                    let key = keys[random.usize(..keys.len())].clone();
                    owed.insert(key.clone(), true);
                    queue.push([key], Trigger::VARIANTS[random.usize(..Trigger::VARIANTS.len())]);
                }
                4..7 => {
                    if let Some(job) = now(&queue).await {
                        assert!(
                            jobs.iter().all(|other| other.key != job.key),
                            "seed {seed}: two workers on {}",
                            job.key
                        );
                        owed.insert(job.key.clone(), false);
                        jobs.push(job);
                        assert!(jobs.len() <= 2, "seed {seed}: bound exceeded");
                    }
                }
                7..9 => {
                    if !jobs.is_empty() {
                        let job = jobs.swap_remove(random.usize(..jobs.len()));
                        match random.u8(0..4) {
                            0 => job.done(Done::Failed { at_least: None }, None),
                            1 => job.done(Done::Again, None),
                            2 => drop(job),
                            _ => job.done(Done::Converged, None),
                        }
                    }
                }
                _ => tokio::time::advance(Duration::from_millis(random.u64(0..500))).await,
            }
        }
        for job in jobs.drain(..) {
            job.done(Done::Converged, None);
        }
        while let Ok(Some(job)) = tokio::time::timeout(limits::KEY_BACKOFF.longest * 2, queue.next()).await {
            owed.insert(job.key.clone(), false);
            job.done(Done::Converged, None);
        }
        assert!(owed.values().all(|owed| !owed), "seed {seed}: never given out: {owed:?}");
        assert!(queue.shared.state.lock().entries.is_empty(), "seed {seed}: something is left");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_takes_long_to_look_at_is_looked_at_more_seldom() {
    let queue = queue(4);
    let pool = key(Kind::Pool, "p");
    let looking = limits::POOL_DEBOUNCE * 2;
    queue.push([pool.clone()], Trigger::Changed);
    let job = now(&queue).await.unwrap();
    job.took(looking);
    job.done(Done::Converged, None);
    queue.push([pool.clone()], Trigger::Related);
    tokio::time::advance(looking * limits::SLOW_POOL_DEBOUNCE_FACTOR - Duration::from_millis(1)).await;
    assert!(now(&queue).await.is_none());
    tokio::time::advance(Duration::from_millis(1)).await;
    let job = now(&queue).await.unwrap();
    // Changes of the pool itself are not delayed. A fast reconcile ends the longer delay.
    queue.push([pool.clone()], Trigger::Changed);
    job.took(Duration::from_micros(10));
    job.done(Done::Converged, None);
    now(&queue).await.unwrap().done(Done::Converged, None);
    queue.push([pool], Trigger::Related);
    tokio::time::advance(limits::POOL_DEBOUNCE).await;
    assert!(now(&queue).await.is_some());
}
