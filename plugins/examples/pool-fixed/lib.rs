//! `pool-fixed`: a pool keeps the number of warm Sandboxes that the settings give, whatever the demand is.
//!
//! Settings: `{"desired": 1}` is the default. This is the smallest useful plugin. The demo installs it while the
//! operator runs.

use paddock_plugin_sdk::pool_size::{Answer, Plugin, Question};
use serde::Deserialize;

/// The plugin.
pub struct PoolFixed;

/// The settings.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    desired: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { desired: 1 }
    }
}

impl Plugin for PoolFixed {
    type Settings = Settings;
    const SETTINGS_SCHEMA: &'static str = include_str!("settings.schema.json");

    fn decide(question: &Question, settings: &Settings) -> Result<Answer, String> {
        Ok(Answer {
            desired: settings.desired.clamp(question.min, question.max.max(question.min)),
            next_check: None,
            reason: format!("fixed at {}", settings.desired),
            state: None,
        })
    }
}

paddock_plugin_sdk::export!(PoolFixed: pool_size);

#[cfg(test)]
mod tests {
    use super::*;
    use paddock_plugin_sdk::testing::pool_size::{decide, question, settings_error};

    #[test]
    fn size_is_the_setting_within_the_bounds_of_the_pool() {
        for (settings, min, max, desired) in [
            ("{}", 0, 9, 1),
            (r#"{"desired":7}"#, 0, 9, 7),
            (r#"{"desired":12}"#, 0, 9, 9),
            (r#"{"desired":1}"#, 3, 9, 3),
        ] {
            let pool = Question { min, max, ..question() };
            assert_eq!(decide::<PoolFixed>(&pool, settings).desired, desired, "{settings}");
        }
    }

    #[test]
    fn settings_error_names_the_field() {
        assert!(settings_error::<PoolFixed>(r#"{"desired":-1}"#).starts_with("desired: "));
        assert!(settings_error::<PoolFixed>(r#"{"desird":1}"#).contains("unknown field `desird`"));
    }
}
