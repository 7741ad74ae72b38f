//! Kubernetes quantities such as `500m` or `1.5Gi`, as far as comparisons need them.

use std::cmp::Ordering;

/// A quantity in billionths (nano). It is rounded away from zero, as in Kubernetes. A number that is too large becomes
/// the largest value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantity(i128);

impl Quantity {
    /// The quantity zero.
    pub const ZERO: Quantity = Quantity(0);

    /// Parses a quantity. Returns `None` if the text is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Quantity> {
        let (negative, text) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (whole, rest) = split_digits(text);
        let (fraction, suffix) = rest.strip_prefix('.').map_or(("", rest), split_digits);
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let nanos = scaled(whole, fraction, Scale::parse(suffix)?);
        Some(Quantity(if negative { -nanos } else { nanos }))
    }

    /// The quantity rounded up to a whole number. For storage this is the number of bytes.
    #[must_use]
    pub fn ceil(self) -> i128 {
        self.0.div_euclid(NANO) + i128::from(self.0.rem_euclid(NANO) > 0)
    }

    /// The sum of two quantities. A sum that is too large becomes the largest value.
    #[must_use]
    pub fn plus(self, other: Quantity) -> Quantity {
        Quantity(self.0.saturating_add(other.0))
    }

    /// A quantity of CPU in thousandths of a core, rounded up as the kubelet does. `None` if it is negative or too large.
    #[must_use]
    pub fn millicores(self) -> Option<u32> {
        const MILLI: i128 = NANO / 1000;
        u32::try_from(self.0.div_euclid(MILLI) + i128::from(self.0.rem_euclid(MILLI) > 0)).ok()
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

/// The number one, in billionths.
const NANO: i128 = 1_000_000_000;

/// The factor of a suffix.
#[derive(Clone, Copy)]
enum Scale {
    /// A power of ten.
    Ten(i32),
    /// A power of two.
    Two(u32),
}

impl Scale {
    fn parse(suffix: &str) -> Option<Scale> {
        Some(match suffix {
            "n" => Scale::Ten(-9),
            "u" => Scale::Ten(-6),
            "m" => Scale::Ten(-3),
            "" => Scale::Ten(0),
            "k" => Scale::Ten(3),
            "M" => Scale::Ten(6),
            "G" => Scale::Ten(9),
            "T" => Scale::Ten(12),
            "P" => Scale::Ten(15),
            "E" => Scale::Ten(18),
            "Ki" => Scale::Two(10),
            "Mi" => Scale::Two(20),
            "Gi" => Scale::Two(30),
            "Ti" => Scale::Two(40),
            "Pi" => Scale::Two(50),
            "Ei" => Scale::Two(60),
            _ => Scale::Ten(suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
        })
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// Computes `whole.fraction` times the scale, in billionths, rounded up.
fn scaled(whole: &str, fraction: &str, scale: Scale) -> i128 {
    // An i128 has room for 38 digits. 28 of them are kept, and a rest that is cut off rounds up. A number that is too
    // large becomes the largest value.
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return 0;
    }
    let kept = digits.len().min(28);
    let cut_is_zero = digits[kept..].bytes().all(|b| b == b'0');
    let Ok(mut value) = digits[..kept].parse::<i128>() else {
        return i128::MAX;
    };
    if !cut_is_zero {
        value += 1;
    }
    // The quantity in billionths is value × 10^exponent (× 2^n).
    let exponent =
        i64::try_from(digits.len() - kept).unwrap_or(i64::MAX) - i64::try_from(fraction.len()).unwrap_or(0) + 9;
    let (exponent, factor) = match scale {
        Scale::Ten(e) => (exponent.saturating_add(i64::from(e)), 1),
        Scale::Two(n) => (exponent, 1_i128 << n),
    };
    if exponent >= 0 {
        let power = u32::try_from(exponent).ok().and_then(|e| 10_i128.checked_pow(e));
        return power.and_then(|p| value.checked_mul(p)).and_then(|v| v.checked_mul(factor)).unwrap_or(i128::MAX);
    }
    let Some(divisor) = u32::try_from(-exponent).ok().and_then(|e| 10_i128.checked_pow(e)) else {
        return 1;
    };
    let Some(product) = value.checked_mul(factor) else {
        return (value / divisor + 1).saturating_mul(factor);
    };
    product / divisor + i128::from(product % divisor > 0)
}

#[cfg(test)]
mod tests {
    use super::{NANO, Quantity};

    fn quantity(text: &str) -> Option<Quantity> {
        Quantity::parse(text)
    }

    #[test]
    fn quantities_are_read_in_all_three_notations() {
        for (text, nanos) in [
            ("0", 0),
            ("1", NANO),
            ("500m", NANO / 2),
            ("0.5", NANO / 2),
            (".5", NANO / 2),
            ("5.", 5 * NANO),
            ("+1", NANO),
            ("-1", -NANO),
            ("1e3", 1_000 * NANO),
            ("1E3", 1_000 * NANO),
            ("1E", 1_000_000_000_000_000_000 * NANO),
            ("1e-3", NANO / 1_000),
            ("1Ki", 1_024 * NANO),
            ("1.5Gi", 1_610_612_736 * NANO),
            ("1n", 1),
            ("0.1n", 1),
            ("0.0000000001Ki", 103),
            ("00001", NANO),
        ] {
            assert_eq!(quantity(text), Some(Quantity(nanos)), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "-", ".", "Gi", "1 Gi", "1GB", "1gi", "two", "1e", "1ee3", "0x10", "1Gi ", "1,5", "--1", "1mi"]
        {
            assert_eq!(quantity(text), None, "{text}");
        }
    }

    #[test]
    fn quantities_of_different_notations_compare() {
        for (small, large) in [("1G", "1Gi"), ("999m", "1"), ("1023Mi", "1Gi"), ("-1", "0"), ("8Ei", "1e40")] {
            assert!(quantity(small) < quantity(large), "{small} < {large}");
        }
        assert_eq!(quantity("1024Mi"), quantity("1Gi"));
        assert_eq!(quantity("1e400000"), quantity("9e500000"), "beyond what any quantity can be, all are the largest");
    }

    #[test]
    fn bytes_are_rounded_up() {
        for (text, bytes) in [("1Gi", 1 << 30), ("100m", 1), ("0", 0), ("1.5", 2), ("-1.5", -1)] {
            assert_eq!(quantity(text).map(Quantity::ceil), Some(bytes), "{text}");
        }
    }
}
