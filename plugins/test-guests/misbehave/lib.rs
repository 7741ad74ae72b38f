//! A plugin that fails in every way that a plugin can, for the host's tests.
//!
//! Settings: `{"mode": "<a Mode in kebab case>"}`. Each mode is one failure.

use std::hint::black_box;

use paddock_plugin_sdk::{admission, idle, log, pool_size, runtime_class};
use serde::Deserialize;

/// The plugin.
pub struct Misbehave;

/// The ways to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Answers as it should.
    Behave,
    /// Never returns.
    Spin,
    /// Allocates memory without end.
    Hog,
    /// Panics.
    Panic,
    /// Recurses without end.
    Recurse,
    /// Returns an error.
    Refuse,
    /// Returns a state of 17 KiB, which is 1 KiB more than allowed.
    BigState,
    /// Returns a reason that is far too long and has a line break and an escape sequence.
    LongReason,
    /// Returns more Sandboxes than any pool has.
    TooMany,
    /// Returns a time after the year 9999.
    NoSuchTime,
    /// Writes more log lines than the host takes.
    Chatter,
    /// Writes a log line of eight megabytes.
    LongLine,
    /// Allocates and uses memory, but less than the limit.
    Eat,
    /// Returns a patch that is not JSON.
    BrokenPatch,
    /// Returns a patch of a field that no plugin may change.
    ForbiddenPatch,
    /// Returns a patch that moves a field that no plugin may change to one that it may.
    StealingPatch,
    /// Returns a patch beside a denial.
    PatchAndDeny,
    /// Returns a hundred warnings, each too long.
    ManyWarnings,
    /// Returns a class with a name that no object can have.
    NoSuchName,
}

/// The settings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    mode: Mode,
}

#[expect(unconditional_recursion, reason = "that is the failure")]
fn recurse(depth: u64) -> u64 {
    black_box(recurse(black_box(depth + 1))) + 1
}

/// The failures that are the same in every hook; returns the reason for the answer otherwise.
fn misbehave(mode: Mode) -> Result<String, String> {
    match mode {
        Mode::Spin => loop {
            black_box(0);
        },
        Mode::Hog => {
            let mut hoard: Vec<Vec<u8>> = Vec::new();
            loop {
                hoard.push(black_box(vec![1; 1 << 20]));
            }
        }
        Mode::Panic => panics(),
        Mode::Recurse => Ok(recurse(0).to_string()),
        Mode::Refuse => Err("I would rather not".into()),
        Mode::LongReason => Ok(format!("first line\nsecond \u{1b}[31mred {}", "é".repeat(4000))),
        Mode::Chatter => {
            (0..100).for_each(|n| log::warn(&format!("line {n}")));
            Ok("said enough".into())
        }
        Mode::LongLine => {
            log::info(&"x".repeat(8 << 20));
            Ok("said it in one line".into())
        }
        Mode::Eat => Ok(black_box(vec![1_u8; 8 << 20])
            .iter()
            .step_by(4096)
            .map(|byte| u64::from(*byte))
            .sum::<u64>()
            .to_string()),
        Mode::Behave
        | Mode::BigState
        | Mode::TooMany
        | Mode::NoSuchTime
        | Mode::BrokenPatch
        | Mode::ForbiddenPatch
        | Mode::StealingPatch
        | Mode::PatchAndDeny
        | Mode::ManyWarnings
        | Mode::NoSuchName => Ok("fine".into()),
    }
}

#[expect(clippy::panic, reason = "that is the failure")]
fn panics() -> ! {
    panic!("as ordered")
}

fn state(mode: Mode) -> Option<Vec<u8>> {
    (mode == Mode::BigState).then(|| vec![7; 17 << 10])
}

fn time(mode: Mode) -> Option<u64> {
    (mode == Mode::NoSuchTime).then_some(u64::MAX)
}

impl pool_size::Plugin for Misbehave {
    type Settings = Settings;

    fn decide(question: &pool_size::Question, settings: &Settings) -> Result<pool_size::Answer, String> {
        let reason = misbehave(settings.mode)?;
        let desired = if settings.mode == Mode::TooMany { u32::MAX } else { question.min };
        Ok(pool_size::Answer { desired, next_check: time(settings.mode), reason, state: state(settings.mode) })
    }
}

impl idle::Plugin for Misbehave {
    type Settings = Settings;

    fn decide(_: &idle::Question, settings: &Settings) -> Result<idle::Answer, String> {
        let reason = misbehave(settings.mode)?;
        Ok(idle::Answer { action: None, next_check: time(settings.mode), reason, state: state(settings.mode) })
    }
}

impl runtime_class::Plugin for Misbehave {
    type Settings = Settings;

    fn decide(_: &runtime_class::Question, settings: &Settings) -> Result<runtime_class::Answer, String> {
        let reason = misbehave(settings.mode)?;
        let choice = if settings.mode == Mode::NoSuchName {
            runtime_class::Choice::Class("Not A Name".into())
        } else {
            runtime_class::Choice::Default
        };
        Ok(runtime_class::Answer { choice, reason })
    }
}

impl admission::Plugin for Misbehave {
    type Settings = Settings;

    fn decide(_: &admission::Question, settings: &Settings) -> Result<admission::Answer, String> {
        let reason = misbehave(settings.mode)?;
        let patch = match settings.mode {
            Mode::BrokenPatch => Some("[{"),
            Mode::ForbiddenPatch => Some(r#"[{"op":"add","path":"/metadata/ownerReferences","value":[]}]"#),
            Mode::StealingPatch => {
                Some(r#"[{"op":"move","from":"/metadata/finalizers","path":"/metadata/annotations/a"}]"#)
            }
            Mode::PatchAndDeny => Some("[]"),
            Mode::Behave
            | Mode::Spin
            | Mode::Hog
            | Mode::Panic
            | Mode::Recurse
            | Mode::Refuse
            | Mode::BigState
            | Mode::LongReason
            | Mode::TooMany
            | Mode::NoSuchTime
            | Mode::Chatter
            | Mode::LongLine
            | Mode::Eat
            | Mode::ManyWarnings
            | Mode::NoSuchName => None,
        };
        let verdict = if matches!(settings.mode, Mode::PatchAndDeny | Mode::LongReason) {
            admission::Verdict::Deny(reason)
        } else {
            admission::Verdict::Allow
        };
        let warnings = if settings.mode == Mode::ManyWarnings { vec!["w".repeat(300); 100] } else { vec![] };
        Ok(admission::Answer { verdict, warnings, patch: patch.map(String::from) })
    }
}

paddock_plugin_sdk::export_v0_1_0!(Misbehave: admission, runtime_class, idle, pool_size);
