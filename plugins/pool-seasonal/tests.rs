//! Tests of `pool-seasonal`.

use std::time::Duration;

use super::*;
use paddock_plugin_sdk::testing::pool_size::{
    assert_schema_agrees, at_next_check, decide, later, question, settings_error,
};
use proptest::prelude::*;

/// A Monday at midnight, in milliseconds since 1970.
const MONDAY: u64 = 1_767_571_200_000;
const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The claims in the bucket of ten seconds that begins at this time, of a demand in claims a minute.
type Demanded = fn(u64) -> f64;

/// Office hours: 30 claims a minute from 8 to 18, and none at night.
fn office(at: u64) -> f64 {
    if (8 * HOUR..18 * HOUR).contains(&(at % DAY)) { 30.0 } else { 0.0 }
}

fn steady(_: u64) -> f64 {
    30.0
}

/// The question at a time. The claims come at even intervals, and the newest bucket is as full as it can be.
fn at(now: u64, demanded: Demanded, state: &[u8]) -> Question {
    let open = now / 10_000;
    // Claims are whole: the bucket gets what the demand adds to the sum since midnight, rounded.
    let until = |bucket: u64| demanded(bucket * 10_000) * ((bucket * 10_000 % DAY) as f64 / MINUTE as f64);
    let claims = |bucket: u64| {
        let rate = demanded(bucket * 10_000);
        let before = until(bucket).round();
        ((until(bucket) + rate / 6.0).round() - before) as u32
    };
    let arrivals = (open - 59..=open).map(claims).collect();
    Question { max: 100, now, arrivals, refill_ms: Some(9000), state: state.to_vec(), ..question() }
}

fn answer(question: &Question) -> Answer {
    decide::<PoolSeasonal>(question, "{}")
}

/// The state after so many days from Monday on, if the plugin is asked every five minutes.
fn taught(days: u64, demanded: Demanded) -> Vec<u8> {
    let mut state = vec![];
    for now in (MONDAY..MONDAY + days * DAY).step_by(5 * MINUTE as usize) {
        if let Some(new) = answer(&at(now, demanded, &state)).state {
            state = new;
        }
    }
    state
}

#[test]
fn pool_grows_before_the_demand_that_comes_each_day() {
    let state = taught(8, office);
    let monday = MONDAY + 7 * DAY;
    let size = |time: u64, state: &[u8]| answer(&at(monday + DAY + time, office, state));
    let (night, morning) = (size(4 * HOUR, &state), size(8 * HOUR - 10_000, &state));
    assert_eq!(night.desired, 0, "{night:?}");
    assert!(morning.desired >= 4, "{morning:?}");
    assert!(morning.reason.contains("expected"), "{morning:?}");
    // The rule of pool-by-demand knows nothing of it.
    assert_eq!(size(8 * HOUR - 10_000, &[]).desired, 0);
}

#[test]
fn plugin_that_has_not_learnt_decides_as_pool_by_demand_does() {
    let settings = Settings::default().by_demand();
    let mut pool = at(MONDAY + 9 * HOUR, office, &[]);
    let mut held = Level::default();
    for arrivals in [vec![0, 0, 5, 9], vec![5, 9, 30, 2], vec![0, 0, 0, 0], vec![0, 1, 0, 0]] {
        pool.arrivals = arrivals;
        let wanted = stock(&Demand::measure(&pool, &settings), settings.z()).max(held.rest(&pool, &settings));
        held = Level { level: wanted, at: pool.now };
        let found = answer(&pool);
        assert_eq!(found.desired, whole(wanted), "{found:?}");
        assert!(found.reason.starts_with("still learning: "), "{found:?}");
        pool = later(&pool, &found, Duration::from_secs(90));
    }
}

#[test]
fn state_that_was_lost_is_learnt_again() {
    let state = taught(4, steady);
    let taught = answer(&at(MONDAY + 4 * DAY, steady, &state));
    let lost = answer(&at(MONDAY + 4 * DAY, steady, &[]));
    assert!(taught.reason.contains("expected"), "{taught:?}");
    assert!(lost.reason.starts_with("still learning"), "{lost:?}");
    assert!(lost.state.is_some());
}

#[test]
fn steady_demand_needs_less_than_the_rule_that_follows_each_peak() {
    let state = taught(8, steady);
    let mut pool = at(MONDAY + 8 * DAY, steady, &state);
    // The same number of claims, by chance in fewer buckets.
    pool.arrivals = (0..60).map(|bucket| if bucket % 3 == 0 { 13 } else { 1 }).collect();
    let seasonal = answer(&pool).desired;
    let by_demand = answer(&Question { state: vec![], ..pool }).desired;
    assert!(seasonal < by_demand && seasonal >= 5, "{seasonal} {by_demand}");
}

#[test]
fn burst_is_served_by_the_larger_of_both_rules() {
    let state = taught(8, steady);
    let mut pool = at(MONDAY + 8 * DAY, steady, &state);
    let usual = answer(&pool).desired;
    let newest = pool.arrivals.len() - 1;
    pool.arrivals[newest] = 60;
    let burst = answer(&pool);
    assert!(burst.desired > 2 * usual && burst.reason.contains("and a burst"), "{usual} {burst:?}");
    let by_demand = answer(&Question { state: vec![], ..pool });
    assert!(burst.desired >= by_demand.desired, "{burst:?} {by_demand:?}");
}

#[test]
fn holiday_is_no_day_like_others() {
    let state = taught(8, office);
    let noon = MONDAY + 8 * DAY + 12 * HOUR;
    let holiday = answer(&at(noon, |_| 0.0, &state));
    assert_eq!(holiday.desired, 0, "{holiday:?}");
    assert!(holiday.reason.starts_with("unlike other weeks"), "{holiday:?}");
}

#[test]
fn demand_without_a_shape_gets_the_rule_of_pool_by_demand() {
    // Bursts at times that do not repeat: a hash of the number of the half hour decides.
    let random: Demanded = |at| {
        let half = at / (30 * MINUTE);
        if half.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17).is_multiple_of(5) { 60.0 } else { 0.0 }
    };
    let state = taught(15, random);
    let found = answer(&at(MONDAY + 15 * DAY, random, &state));
    assert!(found.reason.starts_with("no shape that repeats"), "{found:?}");
}

#[test]
fn size_does_not_flap_while_claims_vary_by_chance() {
    let mut state = taught(8, steady);
    let (mut sizes, mut random) = (vec![], 7_u64);
    let mut arrivals = vec![5_u32; 60];
    for step in 0..360 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        arrivals.remove(0);
        // From two to eight claims, five on average.
        arrivals.push(2 + (random >> 33) as u32 % 7);
        let pool = at(MONDAY + 8 * DAY + step * 10_000, steady, &state);
        let found = answer(&Question { arrivals: arrivals.clone(), ..pool });
        sizes.push(found.desired);
        state = found.state.unwrap_or(state);
    }
    let spread = sizes.iter().max().unwrap() - sizes.iter().min().unwrap();
    let changes = sizes.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(spread <= 1 && changes <= 12, "{changes} changes in an hour: {sizes:?}");
}

#[test]
fn quiet_pool_is_written_once_in_five_minutes() {
    let state = taught(8, |_| 0.0);
    let start = MONDAY + 8 * DAY;
    let start = start + MINUTE;
    let state = answer(&at(start, |_| 0.0, &state)).state.unwrap_or(state);
    let returned = |seconds: u64| answer(&at(start + seconds * 1000, |_| 0.0, &state)).state.is_some();
    assert_eq!([30, 120, 280, 330].map(returned), [false, false, false, true]);
}

#[test]
fn size_falls_to_the_minimum_at_the_checks_that_it_names() {
    let mut pool = Question { min: 1, arrivals: vec![100; 60], ..at(MONDAY, steady, &[]) };
    let mut last = answer(&pool);
    assert!(last.desired > 50);
    for _ in 0..300 {
        let next = at_next_check(&pool, &last).unwrap();
        assert!(next.now > pool.now, "the next check is not in the future");
        pool = Question { arrivals: vec![0; 60], ..next };
        let before = last.desired;
        last = answer(&pool);
        assert!(last.desired <= before);
    }
    assert_eq!(last.desired, 1);
}

#[test]
fn settings_error_names_the_field() {
    for (settings, field) in [
        (r#"{"hitRate":1.0}"#, "hitRate: must be from 0.5 to 0.9999"),
        (r#"{"learnWeeks":0}"#, "learnWeeks: must be from 1 to 12"),
        (r#"{"memoryWeeks":99}"#, "memoryWeeks: must be from 1 to 12"),
        (r#"{"memoryWeeks":"four"}"#, "memoryWeeks: "),
        (r#"{"refillSeconds":0.0}"#, "refillSeconds: "),
        (r#"{"halfLifeBuckets":-1.0}"#, "halfLifeBuckets: "),
        (r#"{"releaseSeconds":1e9}"#, "releaseSeconds: "),
        (r#"{"peakBuckets":0}"#, "peakBuckets: "),
    ] {
        let error = settings_error::<PoolSeasonal>(settings);
        assert!(error.starts_with(field), "{settings}: {error}");
    }
    assert!(settings_error::<PoolSeasonal>(r#"{"serviceLevel":0.9}"#).contains("unknown field `serviceLevel`"));
}

#[test]
fn schema_has_the_ranges_of_the_check_and_the_defaults() {
    assert_eq!(assert_schema_agrees::<PoolSeasonal>(), 14, "seven fields with two bounds");
}

/// Any bytes, and bytes that have the form of a state.
fn any_state() -> impl Strategy<Value = Vec<u8>> {
    let arbitrary = proptest::collection::vec(any::<u8>(), 0..64);
    let of_the_form = proptest::collection::vec(any::<u8>(), state::LENGTH).prop_map(|mut bytes| {
        bytes[..4].copy_from_slice(b"psn\x01");
        bytes
    });
    // Numbers that are valid, so that the rest of the bytes has an effect.
    let valid = (of_the_form.clone(), proptest::collection::vec(0.0..1e9_f32, 11), any::<[u64; 3]>()).prop_map(
        |(mut bytes, numbers, times)| {
            for (index, time) in times.iter().enumerate() {
                bytes[4 + index * 8..12 + index * 8].copy_from_slice(&(time % 300_000_000_000_000).to_le_bytes());
            }
            for (index, number) in numbers.iter().enumerate() {
                bytes[28 + index * 4..32 + index * 4].copy_from_slice(&number.to_le_bytes());
            }
            bytes
        },
    );
    prop_oneof![arbitrary, of_the_form, valid]
}

prop_compose! {
    fn any_question()(
        (min, max, bucket_seconds) in (any::<u32>(), any::<u32>(), prop_oneof![Just(10), Just(0), any::<u32>()]),
        arrivals in proptest::collection::vec(prop_oneof![0_u32..50, any::<u32>()], 0..90),
        refill_ms in prop_oneof![Just(None), (0_u64..600_000).prop_map(Some), any::<u64>().prop_map(Some)],
        state in any_state(),
        now in 0_u64..250_000_000_000_000,
    ) -> Question {
        Question { min, max, bucket_seconds, arrivals, refill_ms, state, now, ..question() }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn every_question_has_one_answer_within_the_bounds(pool in any_question(), hit_rate in 0.5..0.9999_f64) {
        let settings = format!(r#"{{"hitRate":{hit_rate}}}"#);
        let found = decide::<PoolSeasonal>(&pool, &settings);
        prop_assert!((pool.min..=pool.max.max(pool.min)).contains(&found.desired));
        prop_assert!(found.next_check.is_some_and(|next| next > pool.now && next <= pool.now + ASKED_EVERY));
        prop_assert!(found.reason.chars().count() <= 256, "{}", found.reason);
        prop_assert!(found.state.as_ref().is_none_or(|state| state.len() <= 16 << 10 && State::read(state).is_some()));
        prop_assert_eq!(&found, &decide::<PoolSeasonal>(&pool, &settings));
        // The state of the answer is as good as any other.
        let next = later(&pool, &found, Duration::from_secs(30));
        let again = decide::<PoolSeasonal>(&next, &settings);
        prop_assert!((pool.min..=pool.max.max(pool.min)).contains(&again.desired));
    }
}
