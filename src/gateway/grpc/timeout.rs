//! The header `grpc-timeout`: at most eight digits and a unit.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use crate::refusal::{Reason, Refusal};

/// The most digits of a timeout.
const DIGITS: usize = 8;

/// The time that the client gives the call. `None` if it gives none.
///
/// # Errors
/// If the header is not valid, or has several values. A call without its deadline could run for ever.
pub(crate) fn timeout_of(headers: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    let invalid = || Refusal::new(Reason::InvalidTimeout, "invalid grpc-timeout");
    let mut values = headers.get_all("grpc-timeout").iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => parse_timeout(Some(value)).map(Some).ok_or_else(invalid),
        (Some(_), Some(_)) => Err(invalid()),
    }
}

/// The time that the client gives the call. `None` if the header is absent or not valid.
pub(crate) fn parse_timeout(value: Option<&HeaderValue>) -> Option<Duration> {
    let text = value?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > DIGITS || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

/// The time in the finest unit that fits into eight digits.
pub(crate) fn timeout_value(timeout: Duration) -> HeaderValue {
    let limit = 10_u128.pow(8);
    let units = [
        (timeout.as_nanos(), 'n'),
        (timeout.as_micros(), 'u'),
        (timeout.as_millis(), 'm'),
        (u128::from(timeout.as_secs()), 'S'),
        (u128::from(timeout.as_secs() / 60), 'M'),
    ];
    let (amount, unit) = units
        .into_iter()
        .find(|(amount, _)| *amount < limit)
        .unwrap_or_else(|| (u128::from(timeout.as_secs() / 3600).min(limit - 1), 'H'));
    HeaderValue::from_str(&format!("{amount}{unit}")).unwrap_or_else(|_| HeaderValue::from_static("0n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_and_written() {
        for (text, wanted) in [
            ("5S", Duration::from_secs(5)),
            ("100m", Duration::from_millis(100)),
            ("2H", Duration::from_secs(7200)),
            ("3M", Duration::from_secs(180)),
            ("7u", Duration::from_micros(7)),
            ("99999999n", Duration::from_nanos(99_999_999)),
        ] {
            let read = parse_timeout(Some(&HeaderValue::from_static(text))).unwrap();
            assert_eq!(read, wanted, "{text}");
            assert_eq!(parse_timeout(Some(&timeout_value(wanted))), Some(wanted), "{text}");
        }
        for bad in ["", "S", "5", "123456789S", "-1S", "1.5S", "5s", "5 S"] {
            assert_eq!(parse_timeout(Some(&HeaderValue::from_static(bad))), None, "{bad}");
        }
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("grpc-timeout", HeaderValue::from_static(value));
            }
            timeout_of(&headers).map_err(|refusal| (refusal.reason, refusal.detail))
        };
        let invalid = Err((Reason::InvalidTimeout, "invalid grpc-timeout".to_owned()));
        assert_eq!((of(&[]), of(&["5S"])), (Ok(None), Ok(Some(Duration::from_secs(5)))));
        assert_eq!((of(&["soon"]), of(&["5S", "5S"]), of(&[""])), (invalid.clone(), invalid.clone(), invalid));
        let long = Duration::from_secs(400 * 24 * 3600);
        assert_eq!(parse_timeout(Some(&timeout_value(long))), Some(long));
        assert_eq!(timeout_value(Duration::MAX), "99999999H");
    }
}
