//! Cases of `pool-by-demand`.

use super::*;
use paddock_plugin_sdk::pool_size::run;

const START: u64 = 1_800_000_000_000;

fn pool(min: u32, max: u32, arrivals: &[u32]) -> Question {
    Question {
        namespace: "agents".into(),
        name: "pool".into(),
        labels: vec![],
        min,
        max,
        ready: 0,
        creating: 0,
        claimed: 0,
        bucket_seconds: 60,
        arrivals: arrivals.to_vec(),
        hits: 0,
        misses: 0,
        refill_ms: Some(5000),
        state: vec![],
        now: START,
    }
}

fn ask(question: &Question) -> Answer {
    run::<PoolByDemand>(question, "{}").unwrap()
}

/// The answer `seconds` later, with the state of the answer before and nothing claimed since.
fn later(question: &Question, answer: &Answer, seconds: u64) -> Answer {
    let mut question = question.clone();
    question.now += seconds * 1000;
    question.state = answer.state.clone().unwrap();
    question.arrivals = vec![0; 10];
    ask(&question)
}

#[test]
fn without_demand_it_is_the_minimum() {
    for arrivals in [&[][..], &[0; 10]] {
        let answer = ask(&pool(2, 20, arrivals));
        assert_eq!((answer.desired, answer.next_check), (2, None));
    }
}

#[test]
fn equal_bounds_leave_no_choice() {
    let answer = ask(&pool(7, 7, &[1000; 10]));
    assert_eq!((answer.desired, answer.state), (7, None));
}

#[test]
fn steady_demand_is_covered_for_a_lead_time_with_headroom() {
    // One claim a second, a lead time of 6 s: 6 + 2.33 * sqrt(6) = 11.7.
    assert_eq!(ask(&pool(0, 100, &[60; 10])).desired, 12);
}

#[test]
fn slower_refills_need_a_larger_pool() {
    let mut question = pool(0, 1000, &[60; 10]);
    let sizes = [1000, 5000, 30_000, 120_000].map(|refill| {
        question.refill_ms = Some(refill);
        ask(&question).desired
    });
    assert!(sizes.is_sorted_by(|a, b| a < b), "{sizes:?}");
}

#[test]
fn bursts_need_a_larger_pool_than_the_same_number_spread_out() {
    let spread = ask(&pool(0, 100, &[5; 10])).desired;
    let burst = ask(&pool(0, 100, &[0, 0, 0, 0, 0, 0, 50, 0, 0, 0])).desired;
    assert!(burst >= 4 * spread, "{burst} {spread}");
}

#[test]
fn one_claim_a_window_keeps_one() {
    assert_eq!(ask(&pool(0, 100, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 1])).desired, 1);
}

#[test]
fn the_bounds_hold() {
    assert_eq!(ask(&pool(0, 4, &[600; 10])).desired, 4);
    assert_eq!(ask(&pool(50, 60, &[1; 10])).desired, 50);
}

#[test]
fn a_burst_in_the_open_bucket_counts_at_once() {
    let quiet = ask(&pool(1, 100, &[0; 10])).desired;
    let mut arrivals = [0; 10];
    arrivals[9] = 30;
    assert!(ask(&pool(1, 100, &arrivals)).desired > quiet + 5);
}

#[test]
fn it_grows_at_once_and_shrinks_by_half_in_the_release_time() {
    let question = pool(0, 100, &[600; 10]);
    let busy = ask(&question);
    let sizes = [0, 60, 300, 600, 3600].map(|seconds| later(&question, &busy, seconds).desired);
    assert_eq!(sizes[0], busy.desired);
    assert!(sizes.is_sorted_by(|a, b| a >= b), "{sizes:?}");
    assert!(sizes[2].abs_diff(busy.desired / 2) <= 1, "{sizes:?}");
    assert_eq!(sizes[4], 0, "{sizes:?}");
}

#[test]
fn asked_often_or_seldom_it_shrinks_alike() {
    let question = pool(0, 100, &[600; 10]);
    let busy = ask(&question);
    let seldom = later(&question, &busy, 400).desired;
    let mut answer = busy;
    for step in 1..=400 {
        let mut asked = question.clone();
        asked.now += step * 1000;
        asked.arrivals = vec![0; 10];
        asked.state = answer.state.clone().unwrap();
        answer = ask(&asked);
    }
    assert_eq!(answer.desired, seldom);
}

#[test]
fn asked_when_it_says_it_shrinks_to_the_minimum_and_then_rests() {
    let mut question = pool(1, 100, &[600; 10]);
    let mut answer = ask(&question);
    question.arrivals = vec![0; 10];
    let mut asked = 0;
    while let Some(next) = answer.next_check {
        assert!(next > question.now, "asked again at once");
        question.now = next;
        question.state = answer.state.clone().unwrap();
        let former = answer.desired;
        answer = ask(&question);
        assert!(answer.desired <= former);
        asked += 1;
        assert!(asked < 300, "it never rests");
    }
    assert_eq!(answer.desired, 1);
}

#[test]
fn a_state_that_is_not_its_own_is_no_state() {
    for state in [&b"rubbish"[..], br#"{"level":1e308,"at":0}"#, br#"{"level":-5.0,"at":99}"#, &[0xff; 16]] {
        let mut question = pool(2, 20, &[0; 10]);
        question.state = state.to_vec();
        assert_eq!(ask(&question).desired, 2, "{state:?}");
    }
}

#[test]
fn before_the_first_refill_the_setting_stands_in() {
    let mut question = pool(0, 1000, &[60; 10]);
    question.refill_ms = None;
    let sizes =
        [1, 60].map(|s| run::<PoolByDemand>(&question, &format!(r#"{{"refillSeconds":{s}}}"#)).unwrap().desired);
    assert!(sizes[0] < sizes[1], "{sizes:?}");
}

#[test]
fn the_reason_holds_the_figures() {
    let reason = ask(&pool(0, 100, &[60; 10])).reason;
    assert_eq!(reason, "60.0 claims/min, refill 6.0 s, dispersion 1.0: 12 needed, 12 kept");
}
