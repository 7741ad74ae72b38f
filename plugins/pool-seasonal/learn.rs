//! Learns from the buckets that are complete and that were not counted yet.

use paddock_plugin_sdk::pool_size::Question;

use crate::settings::Settings;
use crate::state::State;
use crate::week::{SLOT, slot_of};

/// The share of the dispersion that is kept for each further lead time.
const DISPERSION_KEPT: f64 = 1.0 - 1.0 / 2000.0;
/// The share of the error that is kept for each further slot: half of it is younger than 17 hours.
const ERROR_KEPT: f64 = 0.99;
/// The standard deviations of independent claims in a slot that count as no error.
const NOISE: f64 = 1.5;

/// The complete buckets of a question: the time at which each begins, in milliseconds, and its claims.
pub(crate) fn buckets(question: &Question) -> impl Iterator<Item = (u64, f64)> {
    let length = bucket_length(question);
    let open = question.now / length;
    let count = question.arrivals.len() as u64;
    let complete = question.arrivals.iter().take(question.arrivals.len().saturating_sub(1));
    complete.zip(1..).filter_map(move |(claims, number)| {
        let start = open.checked_add(number)?.checked_sub(count)?.checked_mul(length)?;
        Some((start, f64::from(*claims)))
    })
}

/// The length of a bucket in milliseconds.
pub(crate) fn bucket_length(question: &Question) -> u64 {
    u64::from(question.bucket_seconds.max(1)) * 1000
}

/// Counts the buckets that were not counted yet. Returns whether a slot ended.
pub(crate) fn learn(state: &mut State, question: &Question, lead_ms: f64, settings: &Settings) -> bool {
    let length = bucket_length(question);
    let open = question.now / length * length;
    if state.counted_until > open {
        // The time went back, or the state is new: count from here.
        (state.counted_until, state.slot) = (open, open / SLOT);
        (state.claims, state.covered, state.lead) = (0.0, 0.0, [0.0; 3]);
    }
    let (counted_until, mut ended) = (state.counted_until, false);
    for (start, claims) in buckets(question).filter(|(start, _)| *start >= counted_until) {
        if start / SLOT != state.slot {
            end_slot(state, settings);
            (state.slot, state.claims, state.covered) = (start / SLOT, 0.0, 0.0);
            ended = true;
        }
        if start > state.counted_until {
            // A gap: the lead time that is being counted is not whole.
            state.lead = [0.0; 3];
        }
        state.claims += claims;
        state.covered += length as f64;
        state.counted_until = start.saturating_add(length);
        match state.week.rate(start.saturating_add(length / 2), settings) {
            Some(rate) => count_lead(state, (claims, rate * length as f64 / 1000.0, length as f64), lead_ms),
            None => state.lead = [0.0; 3],
        }
    }
    ended
}

/// Ends the slot that is being counted. It is learnt if half of it was seen.
fn end_slot(state: &mut State, settings: &Settings) {
    if state.covered * 2.0 < SLOT as f64 {
        return;
    }
    let slot = slot_of(state.slot);
    let claims = state.claims * SLOT as f64 / state.covered;
    if let Some(rate) = state.week.of_slot(slot, settings) {
        let expected = rate * SLOT as f64 / 1000.0;
        let error = ((claims - expected).abs() - NOISE * expected.sqrt()).max(0.0);
        state.error.add(ERROR_KEPT, error, claims.max(expected));
    }
    state.week.learn(slot, claims * 3_600_000.0 / SLOT as f64, settings);
}

/// Counts a bucket of the lead time that is being counted: claims, expected claims and milliseconds.
fn count_lead(state: &mut State, bucket: (f64, f64, f64), lead_ms: f64) {
    let [claims, expected, passed] = &mut state.lead;
    *claims += bucket.0;
    *expected += bucket.1;
    *passed += bucket.2;
    if *passed < lead_ms {
        return;
    }
    let [claims, expected, _] = std::mem::take(&mut state.lead);
    let difference = (claims - expected).powi(2);
    // One crowd must not raise the headroom of the following days.
    let most = 9.0 * dispersion(state) * expected + 4.0;
    state.dispersion.add(DISPERSION_KEPT, difference.min(most), expected);
}

/// The variance of the claims in a lead time around the forecast, as a share of their mean. At least 1, as for independent
/// claims.
pub(crate) fn dispersion(state: &State) -> f64 {
    state.dispersion.value().map_or(1.0, |value| value.clamp(1.0, 1e3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use paddock_plugin_sdk::testing::pool_size::question;

    /// A Monday.
    const START: u64 = 1_767_571_200_000;

    fn at(now: u64, arrivals: Vec<u32>) -> Question {
        Question { now, arrivals, ..question() }
    }

    /// The state after so many milliseconds with one claim in each bucket, if the plugin is asked at this interval.
    fn after(passed: u64, every: u64) -> State {
        let mut state = State::new(START);
        for now in (START..START + passed).step_by(every as usize).chain([START + passed]) {
            let complete = ((now - START) / 10_000).min(59) as usize;
            let mut arrivals = vec![0; 59 - complete];
            arrivals.extend(std::iter::repeat_n(1, complete));
            // The open bucket does not count.
            arrivals.push(7);
            learn(&mut state, &at(now, arrivals), 10_000.0, &Settings::default());
        }
        state
    }

    #[test]
    fn buckets_are_at_their_times_and_the_open_one_is_left_out() {
        let found: Vec<_> = buckets(&at(START + 25_000, vec![4, 5, 6])).collect();
        assert_eq!(found, [(START, 4.0), (START + 10_000, 5.0)]);
        assert_eq!(buckets(&at(5_000, vec![1, 2, 3])).count(), 0, "before 1970");
    }

    #[test]
    fn each_claim_is_counted_once_however_often_the_plugin_is_asked() {
        let hour = 3_600_000;
        let wanted = after(hour + 10_000, 10_000);
        for slot in 0..4 {
            let rate = wanted.week.of_slot(slot_of(START / SLOT) + slot, &Settings::default());
            assert!((rate.unwrap() - 0.1).abs() < 1e-3, "{slot}: {rate:?}");
        }
        for every in [1000, 30_000, 290_000] {
            let found = after(hour + 10_000, every);
            let seen = |state: &State| state.week.bytes().to_vec();
            assert!(seen(&found) == seen(&wanted), "{every}");
        }
    }

    #[test]
    fn slot_that_was_hardly_seen_is_not_learnt() {
        let mut state = State::new(START);
        // The operator did not run for an hour.
        learn(&mut state, &at(START + 3_600_000, vec![5; 60]), 10_000.0, &Settings::default());
        learn(&mut state, &at(START + 3_600_000 + SLOT, vec![5; 60]), 10_000.0, &Settings::default());
        let learnt = |minutes: u64| {
            state.week.of_slot(slot_of((START + minutes * 60_000) / SLOT), &Settings::default()).is_some()
        };
        assert_eq!([0, 15, 30, 45, 60].map(learnt), [false, false, false, true, false]);
    }

    #[test]
    fn time_that_goes_back_loses_no_week_and_counts_nothing_twice() {
        let mut state = after(3_600_000, 10_000);
        let week = state.week.clone();
        learn(&mut state, &at(START + 60_000, vec![9; 60]), 10_000.0, &Settings::default());
        assert!(state.week == week);
        assert_eq!((state.counted_until, state.claims as u32), (START + 60_000, 0));
    }
}
