//! The week: the average demand in each quarter of an hour.

use crate::settings::Settings;

/// The length of a slot, in milliseconds.
pub(crate) const SLOT: u64 = 15 * 60 * 1000;
/// The slots of a day.
const DAY: usize = 96;
/// The slots of a week.
pub(crate) const SLOTS: usize = 7 * DAY;
/// The bytes of a slot: an average in two bytes, and the number of weeks in which it was seen.
const BYTES: usize = 3;
/// The bytes of a week.
pub(crate) const LENGTH: usize = SLOTS * BYTES;
/// The days in which a time of day must have been seen before it counts for the days in which it was not seen.
const DAYS: u32 = 3;
/// The ratio of two slots from which the demand counts as a step.
const STEP: f64 = 3.0;
/// The largest average, in claims an hour. No cluster is that busy.
const LARGEST: f64 = 1e9;

/// The averages of a week. The bytes are those of the plugin's state, and any bytes are valid.
#[derive(Clone, PartialEq)]
pub(crate) struct Week(Vec<u8>);

impl Week {
    /// A week in which nothing was seen.
    pub(crate) fn empty() -> Self {
        Self(vec![0; LENGTH])
    }

    /// The week of these bytes, if they have the right number.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == LENGTH).then(|| Self(bytes.to_vec()))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The average of a slot in claims an hour, and the number of weeks in which it was seen.
    fn seen(&self, slot: usize) -> (f64, u32) {
        let at = slot % SLOTS * BYTES;
        match self.0.get(at..at + BYTES) {
            Some(&[low, high, weeks]) => (decode(u16::from_le_bytes([low, high])), u32::from(weeks)),
            Some(_) | None => (0.0, 0),
        }
    }

    /// The expected demand of a slot in claims a second: its own average, or that of its time of day. `None` if it has
    /// not learnt either.
    pub(crate) fn of_slot(&self, slot: usize, settings: &Settings) -> Option<f64> {
        let (own, weeks) = self.seen(slot);
        if weeks >= settings.learn_weeks {
            return Some(own / 3600.0);
        }
        let days = (0..7).map(|day| self.seen(slot % DAY + day * DAY)).filter(|(_, weeks)| *weeks > 0);
        let (sum, count) = days.fold((0.0, 0_u32), |(sum, count), (average, _)| (sum + average, count + 1));
        (count >= DAYS).then(|| sum / f64::from(count) / 3600.0)
    }

    /// The expected demand at a time in claims a second. It changes linearly between the middles of two slots, if they
    /// differ little. Otherwise something begins or ends between them, at a time that people chose.
    pub(crate) fn rate(&self, at: u64, settings: &Settings) -> Option<f64> {
        let half = SLOT / 2;
        // A week before the middle of the first slot is the end of the last week.
        let shifted = at.wrapping_add(SLOT * SLOTS as u64).wrapping_sub(half);
        let slot = slot_of(shifted / SLOT);
        let share = (shifted % SLOT) as f64 / SLOT as f64;
        match (self.of_slot(slot, settings), self.of_slot(slot + 1, settings)) {
            (Some(before), Some(after)) if before.max(after) > STEP * before.min(after) => {
                Some(if share < 0.5 { before } else { after })
            }
            (Some(before), Some(after)) => Some(before + (after - before) * share),
            (Some(rate), None) | (None, Some(rate)) => Some(rate),
            (None, None) => None,
        }
    }

    /// Adds a slot that was seen, with this many claims an hour.
    pub(crate) fn learn(&mut self, slot: usize, per_hour: f64, settings: &Settings) {
        let (average, weeks) = self.seen(slot);
        let weeks = weeks.saturating_add(1).min(255);
        let share = 1.0 / f64::from(weeks.min(settings.memory_weeks.max(1)));
        let [low, high] = encode(average + share * (per_hour - average)).to_le_bytes();
        let at = slot % SLOTS * BYTES;
        if let Some(bytes) = self.0.get_mut(at..at + BYTES) {
            bytes.copy_from_slice(&[low, high, u8::try_from(weeks).unwrap_or(u8::MAX)]);
        }
    }
}

/// The slot of the week, from the number of slots since 1970.
pub(crate) fn slot_of(number: u64) -> usize {
    (number % SLOTS as u64) as usize
}

/// The upper half of a 32-bit floating-point number: its error is at most 0.4 %.
fn encode(number: f64) -> u16 {
    let bits = (number.clamp(0.0, LARGEST) as f32).to_bits();
    (bits.saturating_add(0x8000) >> 16) as u16
}

fn decode(bits: u16) -> f64 {
    let number = f64::from(f32::from_bits(u32::from(bits) << 16));
    if number.is_finite() { number.clamp(0.0, LARGEST) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn average_is_stored_with_a_small_error_and_any_bits_are_a_number() {
        for number in [0.0, 0.01, 1.0, 1200.0, 123_456.0, LARGEST, 1e300, f64::INFINITY] {
            let (wanted, found) = (f64::min(number, LARGEST), decode(encode(number)));
            assert!((found - wanted).abs() <= wanted * 0.004, "{number}: {found}");
        }
        assert!(decode(encode(f64::NAN)).abs() < 1e-9 && decode(encode(-5.0)).abs() < 1e-9);
        assert!((0..=u16::MAX).all(|bits| (0.0..=LARGEST).contains(&decode(bits))));
    }

    #[test]
    fn slot_has_the_average_of_its_weeks_and_newer_weeks_count_more_later() {
        let settings = Settings { memory_weeks: 2, ..Settings::default() };
        let mut week = Week::empty();
        assert_eq!(week.of_slot(5, &settings), None);
        week.learn(5, 3600.0, &settings);
        week.learn(5, 7200.0, &settings);
        assert!((week.of_slot(5, &settings).unwrap() - 1.5).abs() < 0.01);
        week.learn(5, 7200.0, &settings);
        assert!((week.of_slot(5, &settings).unwrap() - 1.75).abs() < 0.01);
        assert_eq!(week.seen(5).1, 3);
    }

    #[test]
    fn time_of_day_counts_for_a_day_that_was_not_seen_yet() {
        let (mut week, settings) = (Week::empty(), Settings::default());
        for day in 0..3 {
            assert_eq!(week.of_slot(20 + 6 * DAY, &settings), None, "{day}");
            week.learn(20 + day * DAY, 3600.0, &settings);
        }
        assert_eq!(week.of_slot(20 + 6 * DAY, &settings), Some(1.0));
    }

    #[test]
    fn rate_changes_linearly_between_the_middles_of_two_slots_also_at_the_end_of_the_week() {
        let (mut week, settings) = (Week::empty(), Settings::default());
        for slot in 0..SLOTS {
            week.learn(slot, if slot == 0 { 7200.0 } else { 3600.0 }, &settings);
        }
        let rate = |at: u64| week.rate(at, &settings).unwrap();
        let start = SLOT * SLOTS as u64 * 2900;
        assert!((rate(start + SLOT / 2) - 2.0).abs() < 0.01);
        assert!((rate(start) - 1.5).abs() < 0.01 && (rate(start + SLOT) - 1.5).abs() < 0.01);
        assert!((rate(0) - 1.5).abs() < 0.01 && rate(u64::MAX) >= 1.0);
    }

    #[test]
    fn rate_of_a_step_changes_at_the_end_of_the_slot() {
        let (mut week, settings) = (Week::empty(), Settings::default());
        for slot in 0..SLOTS {
            week.learn(slot, if slot < 40 { 0.0 } else { 3600.0 }, &settings);
        }
        let rate = |at: u64| week.rate(at, &settings).unwrap();
        let start = SLOT * (SLOTS as u64 * 2900 + 40);
        assert!(rate(start - 1000) < 0.01 && (rate(start + 1000) - 1.0).abs() < 0.01);
    }
}
