//! An exact equivalent of Go's `time.ParseDuration`. Upstream clients and CEL's `duration()` accept the same durations.

use thiserror::Error;

/// The error in a string that is not a Go duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DurationError {
    /// The string is empty, or it is only a sign.
    #[error("is empty")]
    Empty,
    /// A unit has no number.
    #[error("has a unit without a number")]
    NoNumber,
    /// A number has no unit.
    #[error("has a number without a unit")]
    NoUnit,
    /// Go does not have the unit, such as days.
    #[error("has an unknown unit; ns, us, ms, s, m and h are known")]
    UnknownUnit,
    /// The duration exceeds the 292 years that 63 bits of nanoseconds can represent.
    #[error("is too long")]
    Overflow,
}

/// Parses a Go duration such as `1h30m`, `-1.5s` or `0`, and returns it in nanoseconds.
///
/// # Errors
/// The reason for which Go's `time.ParseDuration` would refuse the string.
pub fn parse_go_duration(text: &str) -> Result<i64, DurationError> {
    /// The largest magnitude, which is that of the most negative duration.
    const LIMIT: u64 = 1 << 63;

    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        Some(_) | None => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(DurationError::Empty);
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (whole, after_whole) = split_digits(rest);
        let (fraction, after_number) = match after_whole.strip_prefix('.') {
            Some(after_point) => split_digits(after_point),
            None => ("", after_whole),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(DurationError::NoNumber);
        }
        let end = after_number.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after_number.len());
        let (unit, after_unit) = after_number.split_at(end);
        if unit.is_empty() {
            return Err(DurationError::NoUnit);
        }
        let unit = nanoseconds(unit).ok_or(DurationError::UnknownUnit)?;
        let whole = whole_number(whole).filter(|w| *w <= LIMIT / unit).ok_or(DurationError::Overflow)?;
        total = (whole * unit)
            .checked_add(fraction_of(fraction, unit))
            .and_then(|part| total.checked_add(part))
            .filter(|sum| *sum <= LIMIT)
            .ok_or(DurationError::Overflow)?;
        rest = after_unit;
    }
    if negative {
        return Ok(0_i64.wrapping_sub_unsigned(total));
    }
    i64::try_from(total).map_err(|_| DurationError::Overflow)
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn whole_number(digits: &str) -> Option<u64> {
    if digits.is_empty() { Some(0) } else { digits.parse().ok() }
}

fn nanoseconds(unit: &str) -> Option<u64> {
    match unit {
        "ns" => Some(1),
        // The micro sign (U+00B5) and the Greek letter mu (U+03BC).
        "us" | "\u{b5}s" | "\u{3bc}s" => Some(1_000),
        "ms" => Some(1_000_000),
        "s" => Some(1_000_000_000),
        "m" => Some(60_000_000_000),
        "h" => Some(3_600_000_000_000),
        _ => None,
    }
}

/// Computes `0.<digits>` of a unit in nanoseconds. It uses floating point, as Go does, so that both round in the same
/// way. Digits for which 63 bits have no room are dropped.
fn fraction_of(digits: &str, unit: u64) -> u64 {
    const LIMIT: u64 = 1 << 63;

    let mut value: u64 = 0;
    let mut scale = 1.0_f64;
    for digit in digits.bytes().map(|b| u64::from(b - b'0')) {
        match value.checked_mul(10).and_then(|v| v.checked_add(digit)) {
            Some(next) if value <= (LIMIT - 1) / 10 && next <= LIMIT => value = next,
            Some(_) | None => break,
        }
        scale *= 10.0;
    }
    (value as f64 * (unit as f64 / scale)) as u64
}

#[cfg(test)]
mod tests {
    use super::{DurationError, parse_go_duration};

    #[test]
    fn accepts_what_go_accepts() {
        const H: i64 = 3_600_000_000_000;
        for (text, nanos) in [
            ("0", 0),
            ("+0", 0),
            ("-0", 0),
            ("5s", 5_000_000_000),
            ("30m", H / 2),
            ("1h30m", H + H / 2),
            ("-1.5s", -1_500_000_000),
            ("+5s", 5_000_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("1.0000000000000000000000001s", 1_000_000_000),
            ("1\u{b5}s", 1_000),
            ("1\u{3bc}s", 1_000),
            ("1us1ns", 1_001),
            ("3m1h", H + 180_000_000_000),
            ("0.3333333333333333333h", H / 3),
            ("0.100000000000000000000h", H / 10),
            ("0.830103483285477580700h", 2_988_372_539_827),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
            ("-9223372036s854ms775us808ns", i64::MIN),
            ("2562047h47m16.854775807s", i64::MAX),
        ] {
            assert_eq!(parse_go_duration(text), Ok(nanos), "{text}");
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        for (text, error) in [
            ("", DurationError::Empty),
            ("-", DurationError::Empty),
            ("3", DurationError::NoUnit),
            ("s", DurationError::NoNumber),
            (".s", DurationError::NoNumber),
            ("-.s", DurationError::NoNumber),
            ("1d", DurationError::UnknownUnit),
            ("1 h", DurationError::UnknownUnit),
            ("thirty minutes", DurationError::NoNumber),
            ("30M", DurationError::UnknownUnit),
            ("PT30M", DurationError::NoNumber),
            ("--1s", DurationError::NoNumber),
            ("1s-1s", DurationError::UnknownUnit),
            ("9223372036854775808ns", DurationError::Overflow),
            ("3000000h", DurationError::Overflow),
            ("99999999999999999999ns", DurationError::Overflow),
        ] {
            assert_eq!(parse_go_duration(text), Err(error), "{text}");
        }
    }
}
