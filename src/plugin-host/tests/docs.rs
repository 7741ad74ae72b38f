//! The numbers in the documentation are the numbers in the code.

use std::time::Duration;

use paddock_core::question::limits::{
    MAX_MESSAGE_CHARS, MAX_PATCH_BYTES, MAX_REASON_CHARS, MAX_STATE_BYTES, MAX_WARNING_CHARS, MAX_WARNINGS,
};
use paddock_plugin_host::{HostConfig, LOG_CHARS, LOG_LINES, Limits, QuarantinePolicy, SCHEMA_BYTES, versions};

const PAGE: &str = include_str!("../../../docs/plugins.md");

/// `1234` as `1,234`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group).into_owned());
    groups.collect::<Vec<_>>().join(",")
}

fn mebibytes(bytes: usize) -> String {
    assert_eq!(bytes % (1 << 20), 0, "{bytes}");
    format!("{} MiB", bytes >> 20)
}

fn kibibytes(bytes: usize) -> String {
    assert_eq!(bytes % (1 << 10), 0, "{bytes}");
    format!("{} KiB", bytes >> 10)
}

fn millions(fuel: u64) -> String {
    assert_eq!(fuel % 1_000_000, 0, "{fuel}");
    format!("{} million", grouped(fuel / 1_000_000))
}

fn time(time: Duration) -> String {
    match (time.as_secs(), time.subsec_millis()) {
        (seconds, 0) => format!("{seconds} s"),
        (_, _) => format!("{} ms", time.as_millis()),
    }
}

#[test]
fn documented_limits_are_those_of_the_code() {
    let (default, most) = (Limits::default(), Limits::MAX);
    let rows = [
        format!("| memory | {} | {} |", mebibytes(default.memory_bytes), mebibytes(most.memory_bytes)),
        format!("| fuel (one unit is about one instruction) | {} | {} |", millions(default.fuel), millions(most.fuel)),
        format!("| wall-clock time | {} | {} |", time(default.deadline), time(most.deadline)),
        format!("| reason | {MAX_REASON_CHARS} characters |"),
        format!("| message of a denial | {MAX_MESSAGE_CHARS} characters |"),
        format!("| warnings | {MAX_WARNINGS}, with {MAX_WARNING_CHARS} characters each |"),
        format!("| patch | {} |", kibibytes(MAX_PATCH_BYTES)),
        format!("| state | {} |", kibibytes(MAX_STATE_BYTES)),
        format!("| log lines | {LOG_LINES}, with {LOG_CHARS} characters each |"),
    ];
    for row in rows {
        assert!(PAGE.lines().any(|line| line == row), "docs/plugins.md lacks the row\n{row}");
    }
    let component = format!("A component has at most {}.", mebibytes(HostConfig::default().component_bytes));
    assert!(PAGE.contains(&component), "docs/plugins.md lacks: {component}");
    let schema = format!("The schema has at most {}.", kibibytes(SCHEMA_BYTES));
    assert!(PAGE.contains(&schema), "docs/plugins.md lacks: {schema}");
    let example = format!(
        "limits: {{ memory: {}Mi, fuel: {}, deadline: {}ms }}",
        default.memory_bytes >> 20,
        default.fuel,
        default.deadline.as_millis()
    );
    assert!(PAGE.contains(&example), "docs/plugins.md lacks: {example}");
}

#[test]
fn documented_quarantine_is_that_of_the_code() {
    let expected = QuarantinePolicy { failures: 5, first: Duration::from_secs(30), longest: Duration::from_secs(600) };
    assert_eq!(QuarantinePolicy::default(), expected, "docs/plugins.md states these numbers in words");
    let text = PAGE.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in ["After five failures in a row", "for 30 seconds", "up to ten minutes"] {
        assert!(text.contains(words), "docs/plugins.md lacks: {words}");
    }
}

#[test]
fn documented_versions_are_those_that_are_served() {
    let listed: Vec<_> = PAGE.lines().filter_map(|line| line.strip_prefix("| [")?.split_once("](../wit/v")).collect();
    let versions: Vec<_> = versions().collect();
    assert_eq!(listed.iter().map(|(version, _)| *version).collect::<Vec<_>>(), versions);
}
