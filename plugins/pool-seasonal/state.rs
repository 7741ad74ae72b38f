//! The plugin's state as bytes: what it has learnt, and the size at its last answer.

use pool_sizing::Level;

use crate::week::{self, Week};

/// The first bytes of the state. The last one is the version of the form.
const MAGIC: [u8; 4] = *b"psn\x01";
/// The numbers in front of the week.
const FLOATS: usize = 11;
/// The length of the state.
pub(crate) const LENGTH: usize = MAGIC.len() + 3 * 8 + FLOATS * 4 + week::LENGTH;
/// The largest number in the state. It is larger than any number of claims.
const LARGEST: f64 = 1e15;

/// A sum beside the sum that it is a share of. Both fade, so that newer parts count more.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Share {
    pub(crate) part: f64,
    pub(crate) of: f64,
}

impl Share {
    /// Adds to both sums, after this share of them was kept.
    pub(crate) fn add(&mut self, kept: f64, part: f64, of: f64) {
        self.part = (self.part * kept + part).min(LARGEST);
        self.of = (self.of * kept + of).min(LARGEST);
    }

    pub(crate) fn value(self) -> Option<f64> {
        (self.of > 0.0).then(|| self.part / self.of)
    }
}

/// What the plugin remembers.
#[derive(Clone, PartialEq)]
pub(crate) struct State {
    /// The size at the last answer.
    pub(crate) held: Level,
    /// The end of the last bucket that was counted, in milliseconds since 1970.
    pub(crate) counted_until: u64,
    /// The slot that is being counted, in slots since 1970.
    pub(crate) slot: u64,
    /// The claims of this slot so far.
    pub(crate) claims: f64,
    /// The milliseconds of this slot in which they were counted.
    pub(crate) covered: f64,
    /// The claims, the expected claims and the milliseconds of the lead time that is being counted.
    pub(crate) lead: [f64; 3],
    /// The variance of the claims in a lead time around the forecast, as a share of their mean.
    pub(crate) dispersion: Share,
    /// The error of the forecasts of slots, as a share of their claims.
    pub(crate) error: Share,
    /// The claims a second that one more member must serve. Zero if it was not computed yet.
    pub(crate) worth: f64,
    pub(crate) week: Week,
}

impl State {
    /// The state of a plugin that has seen nothing until this time.
    pub(crate) fn new(now: u64) -> Self {
        Self {
            held: Level::default(),
            counted_until: now,
            slot: now / week::SLOT,
            claims: 0.0,
            covered: 0.0,
            lead: [0.0; 3],
            // As if some lead times had been as even as independent claims are.
            dispersion: Share { part: 20.0, of: 20.0 },
            error: Share::default(),
            worth: 0.0,
            week: Week::empty(),
        }
    }

    /// The state of these bytes. `None` if they are not of this plugin and this version.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.strip_prefix(&MAGIC)?;
        let (times, bytes) = bytes.split_first_chunk::<24>()?;
        let (numbers, bytes) = bytes.split_first_chunk::<{ FLOATS * 4 }>()?;
        let week = Week::read(bytes)?;
        let mut times = times.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let mut numbers = numbers.as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes)));
        let mut number = || numbers.next().filter(|number| (0.0..=LARGEST * 2.0).contains(number));
        Some(Self {
            held: Level { level: number()?, at: times.next()? },
            counted_until: times.next()?,
            slot: times.next()?,
            claims: number()?,
            covered: number()?,
            lead: [number()?, number()?, number()?],
            dispersion: Share { part: number()?, of: number()? },
            error: Share { part: number()?, of: number()? },
            worth: number()?,
            week,
        })
    }

    /// The bytes of the state.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.extend(MAGIC);
        [self.held.at, self.counted_until, self.slot].iter().for_each(|time| bytes.extend(time.to_le_bytes()));
        let [claims, expected, passed] = self.lead;
        let Self { dispersion, error, .. } = self;
        let numbers: [f64; FLOATS] = [
            self.held.level,
            self.claims,
            self.covered,
            claims,
            expected,
            passed,
            dispersion.part,
            dispersion.of,
            error.part,
            error.of,
            self.worth,
        ];
        numbers.iter().for_each(|number| bytes.extend((*number as f32).to_le_bytes()));
        bytes.extend(self.week.bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_read_as_it_was_written() {
        let mut state = State::new(1_800_000_000_000);
        state.held = Level { level: 7.25, at: 1_799_999_999_999 };
        (state.claims, state.covered, state.lead, state.worth) = (12.0, 600_000.0, [1.0, 2.5, 10_000.0], 0.125);
        state.dispersion.add(0.5, 3.0, 2.0);
        state.error.add(1.0, 0.5, 4.0);
        state.week.learn(100, 1200.0, &crate::Settings::default());
        let bytes = state.bytes();
        assert_eq!(bytes.len(), LENGTH);
        assert!(State::read(&bytes).is_some_and(|read| read == state));
    }

    #[test]
    fn bytes_of_another_form_are_no_state() {
        let bytes = State::new(5).bytes();
        assert!(State::read(&[]).is_none());
        assert!(State::read(&bytes[..LENGTH - 1]).is_none());
        assert!(State::read(&[&bytes[..], &[0]].concat()).is_none());
        assert!(State::read(br#"{"level":7.0,"at":5}"#).is_none());
        for wrong in [f32::NAN, f32::INFINITY, -1.0] {
            let mut bytes = bytes.clone();
            bytes[28..32].copy_from_slice(&wrong.to_le_bytes());
            assert!(State::read(&bytes).is_none(), "{wrong}");
        }
    }
}
