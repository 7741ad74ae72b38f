//! Behaviour of back-pressure, in virtual time.

use super::*;

async fn now(pressure: &Pressure, urgency: Urgency) -> Option<Permit> {
    tokio::time::timeout(Duration::ZERO, pressure.enter(urgency)).await.ok()
}

async fn fill(pressure: &Pressure, urgency: Urgency) -> Vec<Permit> {
    let mut permits = Vec::new();
    while let Some(permit) = now(pressure, urgency).await {
        permits.push(permit);
    }
    permits
}

#[tokio::test(start_paused = true)]
async fn begins_where_the_table_says_and_grows_with_every_reply_while_it_is_used() {
    let pressure = Pressure::new(None, None);
    let permits = fill(&pressure, Urgency::Normal).await;
    assert_eq!(permits.len(), limits::WRITES.0);
    for permit in permits {
        permit.done(Signal::Served);
    }
    // The first half of the replies came while the limit was in use.
    let grown = pressure.load().0;
    assert!(grown > limits::WRITES.0 && grown < limits::WRITES.0 * 2, "{grown}");
    // One at a time never uses it, and says nothing about more.
    for _ in 0..1000 {
        pressure.enter(Urgency::Normal).await.done(Signal::Served);
    }
    assert_eq!(pressure.load(), (grown, 0));
}

#[tokio::test(start_paused = true)]
async fn doubles_with_every_round_until_the_most() {
    let pressure = Pressure::new(None, None);
    for _ in 0..20 {
        for permit in fill(&pressure, Urgency::Claim).await {
            permit.done(Signal::Served);
        }
    }
    assert_eq!(pressure.load().0, limits::WRITES.2);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_halves_once_for_all_that_were_under_way_and_growth_is_slow_after_it() {
    let pressure = Pressure::new(None, None);
    for permit in fill(&pressure, Urgency::Normal).await {
        permit.done(Signal::Busy(None));
    }
    assert_eq!(pressure.load().0, limits::WRITES.0 / 2);
    let permits = fill(&pressure, Urgency::Normal).await;
    for permit in permits {
        permit.done(Signal::Served);
    }
    assert_eq!(pressure.load().0, limits::WRITES.0 / 2);
    for _ in 0..10 {
        tokio::time::advance(limits::CUT_APART).await;
        pressure.enter(Urgency::Normal).await.done(Signal::Lost);
    }
    assert_eq!(pressure.load().0, limits::WRITES.1);
}

#[tokio::test(start_paused = true)]
async fn slow_replies_shrink_the_limit_little_by_little_but_not_below_where_it_began() {
    let pressure = Pressure::new(None, None);
    for _ in 0..20 {
        for permit in fill(&pressure, Urgency::Normal).await {
            permit.done(Signal::Served);
        }
    }
    assert_eq!(pressure.load().0, limits::WRITES.2);
    let mut last = limits::WRITES.2;
    for round in 0..100 {
        let permits = fill(&pressure, Urgency::Normal).await;
        tokio::time::advance(limits::SLOW_WRITE.max(limits::CUT_APART)).await;
        for permit in permits {
            permit.done(Signal::Served);
        }
        let limit = pressure.load().0;
        assert!(limit < last || limit == limits::WRITES.0, "round {round}: {limit} after {last}");
        assert!(limit >= (last as f64 * limits::SLOW_CUT) as usize, "round {round}: {limit} after {last}");
        last = limit;
    }
    assert_eq!(last, limits::WRITES.0);
}

#[tokio::test(start_paused = true)]
async fn refills_leave_room_for_claims() {
    let pressure = Pressure::new(None, None);
    let refills = fill(&pressure, Urgency::Background).await;
    assert_eq!(refills.len(), limits::WRITES.0 * limits::BACKGROUND_SHARE / 100);
    let claims = fill(&pressure, Urgency::Claim).await;
    assert_eq!(claims.len(), limits::WRITES.0 - refills.len());
}

#[tokio::test(start_paused = true)]
async fn beside_a_claim_only_a_few_refills_go_on() {
    let pressure = Pressure::new(None, None);
    let claim = now(&pressure, Urgency::Claim).await.unwrap();
    let beside = fill(&pressure, Urgency::Background).await;
    assert_eq!(beside.len(), limits::WRITES.0 * limits::BESIDE_CLAIMS_SHARE / 100);
    assert!(now(&pressure, Urgency::Normal).await.is_some(), "a client waits for that one");
    let waits = pressure.clone();
    let next = tokio::spawn(async move { drop(waits.enter(Urgency::Background).await) });
    tokio::task::yield_now().await;
    assert!(!next.is_finished());
    claim.done(Signal::Served);
    next.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn claims_go_before_those_who_waited_longer() {
    let pressure = Pressure::new(None, None);
    let mut held = fill(&pressure, Urgency::Normal).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut waiters = Vec::new();
    for urgency in [Urgency::Background, Urgency::Normal, Urgency::Claim] {
        let (pressure, order) = (pressure.clone(), order.clone());
        waiters.push(tokio::spawn(async move {
            let permit = pressure.enter(urgency).await;
            order.lock().unwrap().push(urgency);
            drop(permit);
        }));
        tokio::task::yield_now().await;
    }
    drop(held.pop());
    for waiter in waiters {
        waiter.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), [Urgency::Claim, Urgency::Normal, Urgency::Background]);
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_holds_all_but_claims() {
    let pressure = Pressure::new(None, None);
    pressure.enter(Urgency::Normal).await.done(Signal::Busy(Some(Duration::from_secs(3))));
    assert!(now(&pressure, Urgency::Claim).await.is_some());
    assert!(now(&pressure, Urgency::Normal).await.is_none());
    let start = Instant::now();
    drop(pressure.enter(Urgency::Background).await);
    assert_eq!(start.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_fixed_rate_allows_its_burst_and_then_one_at_a_time() {
    let pressure = Pressure::new(Some(10.0), Some(5));
    let start = Instant::now();
    for _ in 0..5 {
        pressure.enter(Urgency::Claim).await.done(Signal::Served);
    }
    assert!(start.elapsed().is_zero());
    for _ in 0..10 {
        pressure.enter(Urgency::Claim).await.done(Signal::Served);
    }
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_millis(1100), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn at_a_fixed_rate_a_claim_goes_before_all_refills_that_wait() {
    let pressure = Pressure::new(Some(10.0), Some(1));
    drop(pressure.enter(Urgency::Normal).await);
    let refills: Vec<_> = (0..50)
        .map(|_| {
            let pressure = pressure.clone();
            tokio::spawn(async move { drop(pressure.enter(Urgency::Background).await) })
        })
        .collect();
    tokio::task::yield_now().await;
    let start = Instant::now();
    for _ in 0..5 {
        drop(pressure.enter(Urgency::Claim).await);
    }
    assert_eq!(start.elapsed().as_millis(), 500, "each is the next one to go");
    for refill in refills {
        refill.await.unwrap();
    }
    assert_eq!(start.elapsed().as_millis(), 5500, "and nobody waits for longer than the rate says");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_place_when_the_api_server_asks_for_time_goes_on_after_it() {
    let pressure = Pressure::new(None, None);
    let held = fill(&pressure, Urgency::Normal).await;
    let waits = pressure.clone();
    let next = tokio::spawn(async move { drop(waits.enter(Urgency::Normal).await) });
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
        let pressure = Pressure::new(qps, None);
        assert_eq!(fill(&pressure, Urgency::Normal).await.len(), limits::WRITES.0);
    }
}

#[tokio::test(start_paused = true)]
async fn one_who_stops_waiting_takes_no_place() {
    let pressure = Pressure::new(None, None);
    let mut held = fill(&pressure, Urgency::Normal).await;
    assert!(now(&pressure, Urgency::Normal).await.is_none());
    drop(held.pop());
    assert_eq!(pressure.load().1, held.len());
    assert!(now(&pressure, Urgency::Normal).await.is_some());
}
