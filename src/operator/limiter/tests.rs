//! The behaviour of the write limiter, in virtual time.

use std::sync::atomic::{AtomicUsize, Ordering};

use paddock_api::kind::Kind;

use super::*;

/// An object of a namespace that no other write concerns.
fn lone() -> Key {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    of(&format!("ns{}", NEXT.fetch_add(1, Ordering::Relaxed)))
}

fn of(namespace: &str) -> Key {
    Key::new(Kind::Sandbox, namespace, "s")
}

async fn now(limiter: &WriteLimiter, urgency: Urgency) -> Option<Permit> {
    now_of(limiter, urgency, &lone()).await
}

async fn now_of(limiter: &WriteLimiter, urgency: Urgency, key: &Key) -> Option<Permit> {
    tokio::time::timeout(Duration::ZERO, limiter.enter(urgency, key)).await.ok()
}

async fn fill(limiter: &WriteLimiter, urgency: Urgency) -> Vec<Permit> {
    let mut permits = Vec::new();
    while let Some(permit) = now(limiter, urgency).await {
        permits.push(permit);
    }
    permits
}

#[tokio::test(start_paused = true)]
async fn begins_where_the_table_says_and_grows_with_every_reply_while_it_is_used() {
    let limiter = WriteLimiter::new(None, None);
    let permits = fill(&limiter, Urgency::Normal).await;
    assert_eq!(permits.len(), limits::WRITE_CONCURRENCY.0);
    for permit in permits {
        permit.done(Signal::Served);
    }
    // Only the first half of the replies came while the limit was in use.
    let grown = limiter.load().0;
    assert!(grown > limits::WRITE_CONCURRENCY.0 && grown < limits::WRITE_CONCURRENCY.0 * 2, "{grown}");
    // One write at a time never uses the limit, so it must not raise it.
    for _ in 0..1000 {
        limiter.enter(Urgency::Normal, &lone()).await.done(Signal::Served);
    }
    assert_eq!(limiter.load(), (grown, 0));
}

#[tokio::test(start_paused = true)]
async fn doubles_with_every_round_until_the_most() {
    let limiter = WriteLimiter::new(None, None);
    for _ in 0..20 {
        for permit in fill(&limiter, Urgency::Claim).await {
            permit.done(Signal::Served);
        }
    }
    assert_eq!(limiter.load().0, limits::WRITE_CONCURRENCY.2);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_halves_once_for_all_that_were_under_way_and_growth_is_slow_after_it() {
    let limiter = WriteLimiter::new(None, None);
    for permit in fill(&limiter, Urgency::Normal).await {
        permit.done(Signal::Busy(None));
    }
    assert_eq!(limiter.load().0, limits::WRITE_CONCURRENCY.0 / 2);
    let permits = fill(&limiter, Urgency::Normal).await;
    for permit in permits {
        permit.done(Signal::Served);
    }
    assert_eq!(limiter.load().0, limits::WRITE_CONCURRENCY.0 / 2);
    for _ in 0..10 {
        tokio::time::advance(limits::CUT_INTERVAL).await;
        limiter.enter(Urgency::Normal, &lone()).await.done(Signal::Lost);
    }
    assert_eq!(limiter.load().0, limits::WRITE_CONCURRENCY.1);
}

#[tokio::test(start_paused = true)]
async fn slow_replies_shrink_the_limit_little_by_little_but_not_below_where_it_began() {
    let limiter = WriteLimiter::new(None, None);
    for _ in 0..20 {
        for permit in fill(&limiter, Urgency::Normal).await {
            permit.done(Signal::Served);
        }
    }
    assert_eq!(limiter.load().0, limits::WRITE_CONCURRENCY.2);
    let mut last = limits::WRITE_CONCURRENCY.2;
    for round in 0..100 {
        let permits = fill(&limiter, Urgency::Normal).await;
        tokio::time::advance(limits::SLOW_WRITE_THRESHOLD.max(limits::CUT_INTERVAL)).await;
        for permit in permits {
            permit.done(Signal::Served);
        }
        let limit = limiter.load().0;
        assert!(limit < last || limit == limits::WRITE_CONCURRENCY.0, "round {round}: {limit} after {last}");
        assert!(limit >= (last as f64 * limits::SLOW_CUT_FACTOR) as usize, "round {round}: {limit} after {last}");
        last = limit;
    }
    assert_eq!(last, limits::WRITE_CONCURRENCY.0);
}

#[tokio::test(start_paused = true)]
async fn refills_leave_room_for_claims() {
    let limiter = WriteLimiter::new(None, None);
    let refills = fill(&limiter, Urgency::Background).await;
    assert_eq!(refills.len(), limits::WRITE_CONCURRENCY.0 * limits::BACKGROUND_WRITE_SHARE / 100);
    let claims = fill(&limiter, Urgency::Claim).await;
    assert_eq!(claims.len(), limits::WRITE_CONCURRENCY.0 - refills.len());
}

#[tokio::test(start_paused = true)]
async fn beside_a_claim_only_a_few_refills_go_on() {
    let limiter = WriteLimiter::new(None, None);
    let claim = now(&limiter, Urgency::Claim).await.unwrap();
    let beside = fill(&limiter, Urgency::Background).await;
    assert_eq!(beside.len(), limits::WRITE_CONCURRENCY.0 * limits::BACKGROUND_WRITE_SHARE_BESIDE_CLAIMS / 100);
    assert!(now(&limiter, Urgency::Normal).await.is_some(), "a client waits for that one");
    let waits = limiter.clone();
    let next = tokio::spawn(async move { drop(waits.enter(Urgency::Background, &lone()).await) });
    tokio::task::yield_now().await;
    assert!(!next.is_finished());
    claim.done(Signal::Served);
    next.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn claims_go_before_those_who_waited_longer() {
    let limiter = WriteLimiter::new(None, None);
    let mut held = fill(&limiter, Urgency::Normal).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut waiters = Vec::new();
    for urgency in [Urgency::Background, Urgency::Normal, Urgency::Claim] {
        let (limiter, order) = (limiter.clone(), order.clone());
        waiters.push(tokio::spawn(async move {
            let permit = limiter.enter(urgency, &lone()).await;
            order.lock().push(urgency);
            drop(permit);
        }));
        tokio::task::yield_now().await;
    }
    drop(held.pop());
    for waiter in waiters {
        waiter.await.unwrap();
    }
    assert_eq!(*order.lock(), [Urgency::Claim, Urgency::Normal, Urgency::Background]);
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_holds_all_but_claims() {
    let limiter = WriteLimiter::new(None, None);
    limiter.enter(Urgency::Normal, &lone()).await.done(Signal::Busy(Some(Duration::from_secs(3))));
    assert!(now(&limiter, Urgency::Claim).await.is_some());
    assert!(now(&limiter, Urgency::Normal).await.is_none());
    let start = Instant::now();
    drop(limiter.enter(Urgency::Background, &lone()).await);
    assert_eq!(start.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_fixed_rate_allows_its_burst_and_then_one_at_a_time() {
    let limiter = WriteLimiter::new(Some(10.0), Some(5));
    let start = Instant::now();
    for _ in 0..5 {
        limiter.enter(Urgency::Claim, &lone()).await.done(Signal::Served);
    }
    assert!(start.elapsed().is_zero());
    for _ in 0..10 {
        limiter.enter(Urgency::Claim, &lone()).await.done(Signal::Served);
    }
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_millis(1100), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn at_a_fixed_rate_a_claim_goes_before_all_refills_that_wait() {
    let limiter = WriteLimiter::new(Some(10.0), Some(1));
    drop(limiter.enter(Urgency::Normal, &lone()).await);
    let refills: Vec<_> = (0..50)
        .map(|_| {
            let limiter = limiter.clone();
            tokio::spawn(async move { drop(limiter.enter(Urgency::Background, &lone()).await) })
        })
        .collect();
    tokio::task::yield_now().await;
    let start = Instant::now();
    for _ in 0..5 {
        drop(limiter.enter(Urgency::Claim, &lone()).await);
    }
    assert_eq!(start.elapsed().as_millis(), 500, "each is the next one to go");
    for refill in refills {
        refill.await.unwrap();
    }
    assert_eq!(start.elapsed().as_millis(), 5500, "and nobody waits for longer than the rate says");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_place_when_the_api_server_asks_for_time_goes_on_after_it() {
    let limiter = WriteLimiter::new(None, None);
    let held = fill(&limiter, Urgency::Normal).await;
    let waits = limiter.clone();
    let next = tokio::spawn(async move { drop(waits.enter(Urgency::Normal, &lone()).await) });
    tokio::task::yield_now().await;
    let start = Instant::now();
    for permit in held {
        permit.done(Signal::Busy(Some(Duration::from_secs(2))));
    }
    next.await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn no_rate_or_a_negative_one_is_none() {
    for qps in [None, Some(-1.0), Some(0.0), Some(f64::NAN)] {
        let limiter = WriteLimiter::new(qps, None);
        assert_eq!(fill(&limiter, Urgency::Normal).await.len(), limits::WRITE_CONCURRENCY.0);
    }
}

#[tokio::test(start_paused = true)]
async fn one_who_stops_waiting_takes_no_place() {
    let limiter = WriteLimiter::new(None, None);
    let mut held = fill(&limiter, Urgency::Normal).await;
    assert!(now(&limiter, Urgency::Normal).await.is_none());
    drop(held.pop());
    assert_eq!(limiter.load().1, held.len());
    assert!(now(&limiter, Urgency::Normal).await.is_some());
}

/// A hostile namespace with a thousand waiting writes of names of their own, beside a good one with twenty.
#[tokio::test(start_paused = true)]
async fn namespaces_take_turns_whatever_their_names_are() {
    for urgency in Urgency::ALL {
        let limiter = WriteLimiter::new(Some(1000.0), Some(1));
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiters = Vec::new();
        for (namespace, count) in [("hostile", 1000), ("good", 20)] {
            for n in 0..count {
                let (limiter, order) = (limiter.clone(), order.clone());
                waiters.push(tokio::spawn(async move {
                    let key = Key::new(Kind::Sandbox, namespace, format!("s{n}"));
                    let permit = limiter.enter(urgency, &key).await;
                    order.lock().push(namespace);
                    permit.done(Signal::Served);
                }));
            }
        }
        for waiter in waiters {
            waiter.await.unwrap();
        }
        let order = order.lock();
        let last = order.iter().rposition(|of| *of == "good").unwrap();
        // The first writes may be sent before the good namespace has queued its own.
        assert!(last < 50, "{urgency:?}: the good namespace waited for {last} writes");
    }
}

#[tokio::test(start_paused = true)]
async fn a_namespace_whose_writes_get_no_reply_leaves_places_for_others() {
    let limiter = WriteLimiter::new(None, None);
    let mut held = Vec::new();
    while let Some(permit) = now_of(&limiter, Urgency::Claim, &of("hostile")).await {
        held.push(permit);
    }
    let limit = limits::WRITE_CONCURRENCY.0;
    assert!(held.len() < limit && held.len() * 10 >= limit * 8, "{} of {limit}", held.len());
    for urgency in [Urgency::Claim, Urgency::Normal] {
        assert!(now_of(&limiter, urgency, &of("good")).await.is_some(), "{urgency:?}");
    }
}

/// The writes of claims that never run out do not stop the pods and the policies of others, and not their refills.
#[tokio::test(start_paused = true)]
async fn claims_that_never_run_out_stop_no_other_write() {
    let limiter = WriteLimiter::new(Some(100.0), Some(1));
    drop(limiter.enter(Urgency::Claim, &of("hostile")).await);
    let claims = Arc::new(Mutex::new(0));
    let flood: Vec<_> = (0..4)
        .map(|_| {
            let (limiter, claims) = (limiter.clone(), claims.clone());
            tokio::spawn(async move {
                loop {
                    limiter.enter(Urgency::Claim, &of("hostile")).await.done(Signal::Served);
                    *claims.lock() += 1;
                }
            })
        })
        .collect();
    for urgency in [Urgency::Normal, Urgency::Background] {
        tokio::task::yield_now().await;
        let before = *claims.lock();
        limiter.enter(urgency, &of("good")).await.done(Signal::Served);
        let waited = *claims.lock() - before;
        assert!(waited <= 10, "{urgency:?} waited for {waited} claims");
    }
    flood.iter().for_each(tokio::task::JoinHandle::abort);
}
