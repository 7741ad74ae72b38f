//! A plugin that repeats its question, so that tests see every field as a plugin sees it. Its answers have every case.
//!
//! Settings: `{"part": 0}`. The reason (in `admission` the only warning) is this part of the question's text, of at most
//! [`PART`] characters.

use std::fmt::Debug;

use paddock_plugin_sdk::{admission, idle, log, pool_size, runtime_class};
use serde::Deserialize;

/// The characters of one part. A reason has room for it.
const PART: usize = 200;

/// The schema of the settings.
const SCHEMA: &str = r#"{
    "type": "object",
    "properties": { "part": { "type": "integer", "minimum": 0, "maximum": 1000 } },
    "additionalProperties": false
}"#;

/// The plugin.
pub(crate) struct Repeat;

/// The settings.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    part: usize,
}

impl Settings {
    fn part_of(&self, question: &impl Debug) -> String {
        log::info("asked");
        let text = format!("{question:?}");
        text.chars().skip(self.part * PART).take(PART).collect()
    }
}

impl admission::Plugin for Repeat {
    type Settings = Settings;
    const SETTINGS_SCHEMA: &'static str = SCHEMA;

    fn decide(question: &admission::Question, settings: &Settings) -> Result<admission::Answer, String> {
        let denies = question.dry_run;
        let verdict = if denies { admission::Verdict::Deny("a dry run".into()) } else { admission::Verdict::Allow };
        let patch = (!denies).then(|| "[]".to_owned());
        Ok(admission::Answer { verdict, warnings: vec![settings.part_of(question)], patch })
    }
}

impl runtime_class::Plugin for Repeat {
    type Settings = Settings;
    const SETTINGS_SCHEMA: &'static str = SCHEMA;

    fn decide(question: &runtime_class::Question, settings: &Settings) -> Result<runtime_class::Answer, String> {
        let choice = match &question.requested {
            Some(class) => runtime_class::Choice::Class(class.clone()),
            None if question.generated_code => runtime_class::Choice::Refuse,
            None => runtime_class::Choice::Default,
        };
        Ok(runtime_class::Answer { choice, reason: settings.part_of(question) })
    }
}

impl idle::Plugin for Repeat {
    type Settings = Settings;
    const SETTINGS_SCHEMA: &'static str = SCHEMA;

    fn decide(question: &idle::Question, settings: &Settings) -> Result<idle::Answer, String> {
        Ok(idle::Answer {
            action: question.tiers.first().copied(),
            next_check: Some(question.now + 1000),
            reason: settings.part_of(question),
            state: Some(vec![1, 2]),
        })
    }
}

impl pool_size::Plugin for Repeat {
    type Settings = Settings;
    const SETTINGS_SCHEMA: &'static str = SCHEMA;

    fn check(settings: &Settings) -> Result<(), String> {
        if settings.part == 999 { Err("part: must be another one".into()) } else { Ok(()) }
    }

    fn decide(question: &pool_size::Question, settings: &Settings) -> Result<pool_size::Answer, String> {
        Ok(pool_size::Answer {
            desired: question.max,
            next_check: None,
            reason: settings.part_of(question),
            state: Some(vec![3]),
        })
    }
}
