//! Times, durations and numbers in sentences.

use std::time::Duration;

use jiff::Timestamp;

/// A time, to the second.
#[must_use]
pub fn when(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

/// A duration in Go's notation, with its two largest units.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600, seconds / 60);
    let two = |large: u64, unit: &str, small: u64, small_unit: &str| {
        if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{small_unit}") }
    };
    match (days, hours, minutes) {
        (0, 0, 0) if seconds == 0 => format!("{}ms", duration.as_millis()),
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => two(minutes, "m", seconds % 60, "s"),
        (0 | 1, _, _) => two(hours, "h", minutes % 60, "m"),
        (_, _, _) => two(days, "d", hours % 24, "h"),
    }
}

/// The time since `at`, such as `5m ago`. A time in the future is named.
pub(super) fn ago(at: Timestamp, now: Timestamp) -> String {
    let since = now.duration_since(at);
    match Duration::try_from(since) {
        Ok(since) => format!("{} ago", duration(since)),
        Err(_) => format!("{} ahead", duration(since.unsigned_abs())),
    }
}

/// A number of things: `no claim`, `1 claim`, `2 claims`.
pub(super) fn count(number: usize, singular: &str, plural: &str) -> String {
    match number {
        0 => format!("no {singular}"),
        1 => format!("1 {singular}"),
        more => format!("{more} {plural}"),
    }
}

/// Texts with commas between them.
pub(super) fn list<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
    let texts: Vec<T> = texts.into_iter().collect();
    let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}
