//! Properties of the model.

use std::collections::VecDeque;
use std::time::Duration;

use paddock_core::settings::Settings;
use proptest::prelude::*;

use super::*;
use crate::conditions::Refill;
use crate::shapes::{Shape, generate};
use crate::trace::monday;

fn conditions(refill_seconds: f64) -> Conditions {
    Conditions {
        min: 0,
        max: 100,
        refill: Refill::Fixed { seconds: refill_seconds },
        hold: Duration::from_mins(10),
        // Without the time in which the operator gathers changes, the theory holds exactly.
        gather: Duration::ZERO,
        learning: Duration::ZERO,
        seed: 1,
        cost_per_hour: None,
        settings: Settings::default(),
    }
}

fn trace(arrivals: &[u64]) -> Trace {
    Trace::new("test", monday(), Duration::from_mins(10), arrivals.to_vec()).unwrap()
}

fn fixed(trace: &Trace, conditions: &Conditions, size: u32) -> Outcome {
    simulate(trace, conditions, &Contender::Fixed(size))
}

/// The share of claims that a pool of a fixed size misses: each replacement is a call that occupies a line for the time
/// of a refill, and a claim that finds no member leaves without one. That is Erlang's loss formula, which holds for every
/// distribution of the time.
fn erlang_b(size: u32, load: f64) -> f64 {
    (1..=size).fold(1.0, |blocked, n| load * blocked / (f64::from(n) + load * blocked))
}

#[test]
fn fixed_pool_misses_as_many_poisson_claims_as_erlang_says() {
    // A claim every ten seconds, and refills of 10, 30 and 60 s.
    for (refill, size) in [(10.0, 3), (30.0, 5), (60.0, 8)] {
        for gather in [Duration::ZERO, Duration::from_millis(50)] {
            let conditions = Conditions { gather, ..conditions(refill) };
            let outcomes =
                (1..=10).map(|seed| fixed(&generate(Shape::Poisson, 6.0, 1, seed).unwrap(), &conditions, size));
            let (claims, misses) = outcomes.fold((0, 0), |(c, m), outcome| (c + outcome.claims, m + outcome.misses));
            let (wanted, found) = (erlang_b(size, 0.1 * refill), misses as f64 / claims as f64);
            assert!((found / wanted - 1.0).abs() < 0.08, "{size} of {refill} s: {found}, and not {wanted}");
        }
    }
}

#[test]
fn lognormal_refills_follow_the_same_formula() {
    let refill = Refill::Lognormal { median_seconds: 24.0, p99_seconds: 80.0 };
    let sigma = (80.0_f64 / 24.0).ln() / 2.326;
    let mean = 24.0 * (sigma * sigma / 2.0).exp();
    let conditions = Conditions { refill, ..conditions(0.0) };
    let outcomes = (1..=10).map(|seed| fixed(&generate(Shape::Poisson, 6.0, 1, seed).unwrap(), &conditions, 5));
    let (claims, misses) = outcomes.fold((0, 0), |(c, m), outcome| (c + outcome.claims, m + outcome.misses));
    let (wanted, found) = (erlang_b(5, mean / 10.0), misses as f64 / claims as f64);
    assert!((found / wanted - 1.0).abs() < 0.1, "{found}, and not {wanted}");
}

/// The idle time of a pool of a fixed size, counted in another way: in steps of a millisecond, by the rules alone.
fn idle_by_steps(arrivals: &[u64], length: u64, refill: u64, size: usize) -> (u64, u64) {
    let (mut ready, mut refills, mut hits, mut idle) = (size, VecDeque::new(), 0, 0);
    for now in 0..length {
        while refills.front() == Some(&now) {
            refills.pop_front();
            ready += 1;
        }
        for _ in arrivals.iter().filter(|at| **at == now) {
            if ready > 0 {
                ready -= 1;
                hits += 1;
                refills.push_back(now + refill);
            }
        }
        idle += ready as u64;
    }
    (hits, idle)
}

#[test]
fn idle_hours_are_those_of_an_independent_count() {
    let arrivals = [10, 10, 500, 1200, 1200, 1201, 1999, 5000, 59_000];
    let trace = Trace::new("test", monday(), Duration::from_secs(60), arrivals.to_vec()).unwrap();
    for size in [0, 1, 2, 5] {
        let outcome = fixed(&trace, &conditions(2.0), size);
        let (hits, idle) = idle_by_steps(&arrivals, 60_000, 2000, size as usize);
        assert_eq!(outcome.hits, hits);
        assert!((outcome.idle_hours - idle as f64 / 3_600_000.0).abs() < 5.1e-4, "{size}: {}", outcome.idle_hours);
        let shown: f64 = outcome.series.ready.iter().sum::<f64>() * 250.0;
        assert!((shown - idle as f64).abs() < 240.0, "{size}: {shown} and {idle}");
    }
}

#[test]
fn claim_that_finds_no_member_takes_none_that_is_being_created() {
    // The second claim starts cold. The third finds the replacement of the first.
    let outcome = fixed(&trace(&[1000, 2000, 11_500]), &conditions(10.0), 1);
    assert_eq!((outcome.hits, outcome.misses, outcome.created), (2, 1, 2));
    assert!((outcome.wait_p99_seconds - 10.0).abs() < 1e-9);
}

#[test]
fn pool_is_reconciled_after_the_time_in_which_changes_are_gathered() {
    let conditions = Conditions { gather: Duration::from_millis(50), ..conditions(10.0) };
    for (at, hits) in [(11_049, 1), (11_050, 2)] {
        assert_eq!(fixed(&trace(&[1000, at]), &conditions, 1).hits, hits, "{at}");
    }
}

#[test]
fn hpa_grows_with_the_claims_and_deletes_what_it_has_too_many_of() {
    let conditions = Conditions { min: 1, ..conditions(5.0) };
    let busy: Vec<u64> = (0..240).map(|n| n * 500).collect();
    let outcome = simulate(&trace(&busy), &conditions, &Contender::Hpa(6.0));
    assert_eq!((outcome.largest_size, outcome.kind), (20, "hpa"));
    assert!(outcome.deleted > 0 && outcome.size_changes >= 3, "{outcome:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_claim_is_a_hit_or_a_miss_and_the_series_add_up(
        mut arrivals in proptest::collection::vec(0_u64..600_000, 0..300), size in 0_u32..20, refill in 0.0..60.0_f64,
    ) {
        arrivals.sort_unstable();
        let outcome = fixed(&trace(&arrivals), &conditions(refill), size);
        prop_assert_eq!(outcome.hits + outcome.misses, arrivals.len() as u64);
        prop_assert_eq!(outcome.series.hits.iter().sum::<u64>(), outcome.hits);
        prop_assert_eq!(outcome.series.misses.iter().sum::<u64>(), outcome.misses);
        // Each hit takes a member, and the pool never has more members than its size.
        prop_assert!(outcome.created <= outcome.hits && outcome.created + u64::from(size) >= outcome.hits);
        let hours = outcome.idle_hours + outcome.warming_hours;
        prop_assert!(hours <= f64::from(size) / 6.0 + 1e-3);
    }

    #[test]
    fn without_a_refill_time_every_claim_of_its_own_moment_is_a_hit(
        arrivals in proptest::collection::btree_set(1_u64..600_000, 0..300), size in 1_u32..5,
    ) {
        let arrivals: Vec<u64> = arrivals.into_iter().collect();
        prop_assert_eq!(fixed(&trace(&arrivals), &conditions(0.0), size).misses, 0);
    }

    #[test]
    fn more_members_never_mean_fewer_hits(
        arrivals in proptest::collection::vec(0_u64..600_000, 0..300), size in 0_u32..8, refill in 0.0..60.0_f64,
    ) {
        let trace = trace(&arrivals);
        let hits = |size: u32| fixed(&trace, &conditions(refill), size).hits;
        prop_assert!(hits(size + 1) >= hits(size));
    }

    #[test]
    fn same_arguments_give_the_same_outcome(seed in 0_u64..50) {
        let trace = generate(Shape::Bursts, 6.0, 1, seed).unwrap();
        let refill = Refill::Lognormal { median_seconds: 6.0, p99_seconds: 30.0 };
        let conditions = Conditions { refill, seed, ..conditions(1.0) };
        let run = || simulate(&trace, &conditions, &Contender::Hpa(10.0));
        prop_assert_eq!(run(), run());
    }
}
