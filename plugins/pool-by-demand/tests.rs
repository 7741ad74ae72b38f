//! Tests of `pool-by-demand`.

use std::time::Duration;

use super::*;
use paddock_plugin_sdk::testing::pool_size::{
    assert_schema_agrees, at_next_check, decide, later, question, settings_error,
};

/// A pool whose claims are counted by the minute, and whose Sandboxes are Ready within five seconds.
fn pool(min: u32, max: u32, arrivals: &[u32]) -> Question {
    Question { min, max, bucket_seconds: 60, arrivals: arrivals.to_vec(), refill_ms: Some(5000), ..question() }
}

fn answer(question: &Question) -> Answer {
    decide::<PoolByDemand>(question, "{}")
}

fn size(question: &Question) -> u32 {
    answer(question).desired
}

/// The pool `seconds` after an answer, with no claim in the time that is counted.
fn quiet_later(question: &Question, answer: &Answer, seconds: u64) -> Question {
    Question { arrivals: vec![0; 10], ..later(question, answer, Duration::from_secs(seconds)) }
}

#[test]
fn pool_without_demand_keeps_its_minimum() {
    for arrivals in [&[][..], &[0; 10]] {
        let answer = answer(&pool(2, 20, arrivals));
        assert_eq!((answer.desired, answer.next_check), (2, None));
    }
}

#[test]
fn equal_bounds_leave_no_choice() {
    let answer = answer(&pool(7, 7, &[1000; 10]));
    assert_eq!((answer.desired, answer.state), (7, None));
}

#[test]
fn steady_demand_is_covered_for_a_lead_time_with_headroom() {
    // One claim a second, a lead time of 6 s: 6 + 2.33 * sqrt(6) = 11.7.
    assert_eq!(size(&pool(0, 100, &[60; 10])), 12);
}

#[test]
fn slower_refills_need_a_larger_pool() {
    let pool = pool(0, 1000, &[60; 10]);
    let sizes = [1000, 5000, 30_000, 120_000].map(|ms| size(&Question { refill_ms: Some(ms), ..pool.clone() }));
    assert!(sizes.is_sorted_by(|a, b| a < b), "{sizes:?}");
}

#[test]
fn bursts_need_a_larger_pool_than_the_same_number_spread_out() {
    let spread = size(&pool(0, 100, &[5; 10]));
    let burst = size(&pool(0, 100, &[0, 0, 0, 0, 0, 0, 50, 0, 0, 0]));
    assert!(burst >= 4 * spread, "{burst} {spread}");
}

#[test]
fn one_claim_in_all_buckets_keeps_one() {
    assert_eq!(size(&pool(0, 100, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 1])), 1);
}

#[test]
fn size_stays_within_the_bounds() {
    assert_eq!(size(&pool(0, 4, &[600; 10])), 4);
    assert_eq!(size(&pool(50, 60, &[1; 10])), 50);
}

#[test]
fn burst_in_the_incomplete_bucket_counts_at_once() {
    let mut arrivals = [0; 10];
    let quiet = size(&pool(1, 100, &arrivals));
    arrivals[9] = 30;
    assert!(size(&pool(1, 100, &arrivals)) > quiet + 5);
}

#[test]
fn size_grows_at_once_and_falls_by_half_in_the_release_time() {
    let pool = pool(0, 100, &[600; 10]);
    let busy = answer(&pool);
    let sizes = [0, 60, 300, 600, 3600].map(|seconds| size(&quiet_later(&pool, &busy, seconds)));
    assert_eq!(sizes[0], busy.desired);
    assert!(sizes.is_sorted_by(|a, b| a >= b), "{sizes:?}");
    assert!(sizes[2].abs_diff(busy.desired / 2) <= 1, "{sizes:?}");
    assert_eq!(sizes[4], 0, "{sizes:?}");
}

#[test]
fn size_falls_alike_however_often_the_plugin_is_asked() {
    let start = pool(0, 100, &[600; 10]);
    let busy = answer(&start);
    let asked_once = size(&quiet_later(&start, &busy, 400));
    let (mut pool, mut last) = (start, busy);
    for _ in 0..400 {
        pool = quiet_later(&pool, &last, 1);
        last = answer(&pool);
    }
    assert_eq!(last.desired, asked_once);
}

#[test]
fn size_falls_to_the_minimum_at_the_checks_that_it_names() {
    let mut pool = pool(1, 100, &[600; 10]);
    let mut last = answer(&pool);
    let mut checks = 0;
    while let Some(next) = at_next_check(&pool, &last) {
        assert!(next.now > pool.now, "the next check is not in the future");
        pool = Question { arrivals: vec![0; 10], ..next };
        let before = last.desired;
        last = answer(&pool);
        assert!(last.desired <= before);
        checks += 1;
        assert!(checks < 300, "the checks do not end");
    }
    assert_eq!(last.desired, 1);
}

#[test]
fn state_that_does_not_parse_is_ignored() {
    for state in [&b"rubbish"[..], br#"{"level":1e308,"at":0}"#, br#"{"level":-5.0,"at":99}"#, &[0xff; 16]] {
        let pool = Question { state: state.to_vec(), ..pool(2, 20, &[0; 10]) };
        assert_eq!(size(&pool), 2, "{state:?}");
    }
}

#[test]
fn refill_setting_holds_until_the_first_refill() {
    let pool = Question { refill_ms: None, ..pool(0, 1000, &[60; 10]) };
    let size = |seconds| decide::<PoolByDemand>(&pool, &format!(r#"{{"refillSeconds":{seconds}}}"#)).desired;
    assert!(size(1) < size(60), "{} {}", size(1), size(60));
}

#[test]
fn reason_has_the_figures() {
    let reason = answer(&pool(0, 100, &[60; 10])).reason;
    assert_eq!(reason, "60.0 claims/min, refill 6.0 s, dispersion 1.0: 12 needed, 12 kept");
}

#[test]
fn settings_error_names_the_field() {
    for (settings, field) in [
        (r#"{"serviceLevel":1.0}"#, "serviceLevel: "),
        (r#"{"refillSeconds":0.0}"#, "refillSeconds: "),
        (r#"{"halfLifeBuckets":-1.0}"#, "halfLifeBuckets: "),
        (r#"{"releaseSeconds":1e9}"#, "releaseSeconds: "),
        (r#"{"peakBuckets":0}"#, "peakBuckets: "),
        (r#"{"peakBuckets":"ten"}"#, "peakBuckets: "),
    ] {
        let error = settings_error::<PoolByDemand>(settings);
        assert!(error.starts_with(field), "{settings}: {error}");
    }
}

#[test]
fn schema_has_the_ranges_of_the_check_and_the_defaults() {
    assert_eq!(assert_schema_agrees::<PoolByDemand>(), 10, "five fields with two bounds");
}
