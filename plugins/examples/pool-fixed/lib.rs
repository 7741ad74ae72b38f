//! `pool-fixed`: a pool keeps as many warm as the settings say, whatever the demand.
//!
//! Settings: `{"desired": N}`, 1 where not given. The smallest useful plugin, and the one that the demo
//! drops in while the operator runs.

use paddock_plugin_sdk::pool_size::{Answer, Plugin, Question};
use serde::Deserialize;

/// The plugin.
pub struct PoolFixed;

/// What users may set.
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
    use paddock_plugin_sdk::pool_size::run;

    fn pool(min: u32, max: u32) -> Question {
        Question {
            namespace: "agents".into(),
            name: "pool".into(),
            labels: vec![],
            min,
            max,
            ready: 0,
            creating: 0,
            claimed: 0,
            bucket_seconds: 60,
            arrivals: vec![9; 10],
            hits: 0,
            misses: 0,
            refill_ms: None,
            state: vec![],
            now: 0,
        }
    }

    #[test]
    fn the_size_is_the_one_set_within_the_bounds() {
        for (settings, min, max, desired) in [
            ("{}", 0, 9, 1),
            (r#"{"desired":7}"#, 0, 9, 7),
            (r#"{"desired":12}"#, 0, 9, 9),
            (r#"{"desired":1}"#, 3, 9, 3),
        ] {
            assert_eq!(run::<PoolFixed>(&pool(min, max), settings).unwrap().desired, desired, "{settings}");
        }
    }

    #[test]
    fn a_setting_of_the_wrong_kind_is_named() {
        assert!(run::<PoolFixed>(&pool(0, 9), r#"{"desired":-1}"#).unwrap_err().starts_with("desired: "));
    }
}
