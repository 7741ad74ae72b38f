//! `pool-headroom`: a pool keeps as many warm Sandboxes as claims came lately, and some percent more.
//!
//! Settings: `{"headroomPercent": 50, "windowSeconds": 60}` is the default. The examples in Python, JavaScript and Go are
//! the same plugin, and a test compares their answers with those of this one.

use paddock_plugin_sdk::pool_size::{Answer, Plugin, Question};
use serde::Deserialize;

/// The plugin.
pub struct PoolHeadroom;

/// The settings.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Settings {
    headroom_percent: u64,
    window_seconds: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { headroom_percent: 50, window_seconds: 60 }
    }
}

impl Plugin for PoolHeadroom {
    type Settings = Settings;
    const SETTINGS_SCHEMA: &'static str = include_str!("settings.schema.json");

    fn decide(question: &Question, settings: &Settings) -> Result<Answer, String> {
        let Settings { headroom_percent, window_seconds } = *settings;
        let bucket_seconds = u64::from(question.bucket_seconds).max(1);
        let buckets = usize::try_from(window_seconds.div_ceil(bucket_seconds)).unwrap_or(usize::MAX);
        let claims: u64 = question.arrivals.iter().rev().take(buckets).map(|claims| u64::from(*claims)).sum();
        let wanted = claims.saturating_mul(100 + headroom_percent).div_ceil(100);
        Ok(Answer {
            desired: u32::try_from(wanted).unwrap_or(u32::MAX).max(question.min).min(question.max),
            next_check: Some(question.now + bucket_seconds * 1000),
            reason: format!("{claims} claims in {window_seconds} s, and {headroom_percent} % headroom"),
            state: None,
        })
    }
}

paddock_plugin_sdk::export!(PoolHeadroom: pool_size);

#[cfg(test)]
mod tests {
    use super::*;
    use paddock_plugin_sdk::testing::pool_size::{decide, question, settings_error};

    #[test]
    fn size_is_the_recent_claims_with_the_headroom() {
        let arrivals = vec![9, 0, 0, 4, 1, 0, 2];
        for (settings, min, max, desired) in [
            ("{}", 0, 50, 11),
            (r#"{"headroomPercent":0}"#, 0, 50, 7),
            (r#"{"windowSeconds":5}"#, 0, 50, 3),
            (r#"{"windowSeconds":600}"#, 0, 50, 24),
            (r#"{"windowSeconds":600}"#, 0, 5, 5),
            (r#"{"windowSeconds":5}"#, 4, 50, 4),
        ] {
            let pool = Question { min, max, arrivals: arrivals.clone(), bucket_seconds: 10, ..question() };
            assert_eq!(decide::<PoolHeadroom>(&pool, settings).desired, desired, "{settings}");
        }
    }

    #[test]
    fn settings_error_names_the_field() {
        assert!(settings_error::<PoolHeadroom>(r#"{"headroomPercent":-1}"#).contains("headroomPercent"));
    }
}
