//! `my-plugin`: decides how many warm Sandboxes a pool keeps.
//!
//! The pool keeps as many as claims came in the last minute, and some more. Settings: `{"spare": 2}` is the default.

use paddock_plugin_sdk::pool_size::{Answer, Plugin, Question};
use paddock_plugin_sdk::serde::Deserialize;

/// The plugin.
pub struct Policy;

/// The settings. They come from the plugin's YAML file. `settings.schema.json` describes them for users, and the operator
/// checks them with it.
#[derive(Deserialize)]
#[serde(crate = "paddock_plugin_sdk::serde", default, deny_unknown_fields)]
pub struct Settings {
    /// The number of warm Sandboxes beyond the claims of the last minute.
    spare: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { spare: 2 }
    }
}

impl Plugin for Policy {
    type Settings = Settings;
    const SETTINGS_SCHEMA: &'static str = include_str!("../settings.schema.json");

    fn check(settings: &Settings) -> Result<(), String> {
        if settings.spare > 1000 { Err("spare: must be at most 1000".into()) } else { Ok(()) }
    }

    fn decide(question: &Question, settings: &Settings) -> Result<Answer, String> {
        let buckets = usize::try_from(60 / question.bucket_seconds.max(1)).unwrap_or(usize::MAX).max(1);
        let claims = question.arrivals.iter().rev().take(buckets).fold(0, |sum: u32, new| sum.saturating_add(*new));
        let wanted = claims.saturating_add(settings.spare);
        Ok(Answer {
            desired: wanted.clamp(question.min, question.max.max(question.min)),
            // The number can sink when a bucket leaves the last minute.
            next_check: Some(question.now.saturating_add(10_000)),
            reason: format!("{claims} claims in a minute, and {} to spare", settings.spare),
            state: None,
        })
    }
}

paddock_plugin_sdk::export!(Policy: pool_size);

#[cfg(test)]
mod tests {
    use super::*;
    use paddock_plugin_sdk::testing::pool_size::{decide, question, settings_error};

    #[test]
    fn size_follows_the_claims_of_the_last_minute() {
        let busy = Question { arrivals: vec![50, 0, 0, 1, 0, 2, 0], ..question() };
        assert_eq!(decide::<Policy>(&busy, "{}").desired, 5);
        assert_eq!(decide::<Policy>(&busy, r#"{"spare": 0}"#).desired, 3);
    }

    #[test]
    fn size_stays_within_the_bounds_of_the_pool() {
        let pool = Question { min: 4, max: 6, ..question() };
        assert_eq!(decide::<Policy>(&pool, "{}").desired, 4);
        assert_eq!(decide::<Policy>(&pool, r#"{"spare": 9}"#).desired, 6);
    }

    #[test]
    fn settings_error_names_the_field() {
        assert!(settings_error::<Policy>(r#"{"spare": -1}"#).starts_with("spare: "));
        assert!(settings_error::<Policy>(r#"{"spare": 1001}"#).starts_with("spare: must be at most"));
    }
}
