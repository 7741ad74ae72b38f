//! Tests of plugins: questions with defaults, and calls that parse settings as the host's calls do.
//!
//! Each hook has a module with a `question` that only needs the fields that a test is about. Set them with
//! struct update syntax, so that the test still compiles when a question gets another field:
//!
//! ```
//! # use paddock_plugin_sdk::pool_size::{Answer, Plugin};
//! # use paddock_plugin_sdk::settings::NoSettings;
//! use paddock_plugin_sdk::pool_size::Question;
//! use paddock_plugin_sdk::testing::pool_size::{decide, question};
//!
//! # struct ClaimedAgain;
//! # impl Plugin for ClaimedAgain {
//! #     type Settings = NoSettings;
//! #     fn decide(question: &Question, _: &NoSettings) -> Result<Answer, String> {
//! #         let desired = question.claimed.clamp(question.min, question.max);
//! #         Ok(Answer { desired, next_check: None, reason: "as many as are claimed".into(), state: None })
//! #     }
//! # }
//! #
//! // A test of the plugin `ClaimedAgain`, which keeps as many warm Sandboxes as are claimed.
//! let busy = Question { claimed: 4, max: 6, ..question() };
//! assert_eq!(decide::<ClaimedAgain>(&busy, "{}").desired, 4);
//! ```
//!
//! `decide` takes the settings as the JSON text that a user would write, so a test covers how they are parsed and
//! checked. `decide_error` and `settings_error` return the messages that users would read. The host compares settings with
//! the schema of the plugin before; `paddock plugin test` shows both. `assert_schema_agrees` compares the schema with the
//! plugin.
//!
//! The module exists on other targets than WebAssembly only.

pub mod admission;
pub mod idle;
pub mod pool_size;
pub mod runtime_class;

use std::fmt::Debug;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Label, RuntimeClassFact};

/// The time of the questions of this module: 2027-01-15T08:00:00Z.
pub const NOW: u64 = 1_800_000_000_000;

/// Labels from pairs of key and value, sorted as the host sorts them.
///
/// ```
/// # use paddock_plugin_sdk::{label, testing::labels};
/// let labels = labels([("team", "research"), ("app", "agent")]);
/// assert_eq!(label(&labels, "team"), Some("research"));
/// assert_eq!(labels[0].key, "app");
/// ```
#[must_use]
pub fn labels<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Label> {
    let label = |(key, value): (&str, &str)| Label { key: key.into(), value: value.into() };
    let mut labels: Vec<_> = pairs.into_iter().map(label).collect();
    labels.sort_by(|a, b| a.key.cmp(&b.key));
    labels
}

/// A RuntimeClass that isolates its pods, and the number of nodes that can run it.
#[must_use]
pub fn isolating_class(name: &str, nodes: u32) -> RuntimeClassFact {
    RuntimeClassFact { name: name.into(), handler: name.into(), isolated: true, nodes }
}

/// A RuntimeClass whose pods share the kernel of their node, and the number of nodes that can run it.
#[must_use]
pub fn shared_kernel_class(name: &str, nodes: u32) -> RuntimeClassFact {
    RuntimeClassFact { isolated: false, ..isolating_class(name, nodes) }
}

/// The classes of the questions of this module: `gvisor` on two nodes and `kata` on one, which isolate, and `runc`
/// on three nodes, which does not.
#[must_use]
pub fn classes() -> Vec<RuntimeClassFact> {
    vec![isolating_class("gvisor", 2), isolating_class("kata", 1), shared_kernel_class("runc", 3)]
}

/// Compares the bounds and the defaults of a schema with a check of settings and with the defaults of the settings. Returns
/// the number of bounds.
#[track_caller]
fn assert_agrees<S>(schema: &Value, check: impl Fn(&str) -> Result<(), String>) -> usize
where
    S: DeserializeOwned + Default + PartialEq + Debug,
{
    let properties = schema["properties"].as_object().cloned().unwrap_or_default();
    let mut bounds = 0;
    for (field, property) in &properties {
        let types = property["type"].as_array().map_or(std::slice::from_ref(&property["type"]), Vec::as_slice);
        let step = if types.iter().any(|of| of == "integer") { 1.0 } else { 1e-6 };
        for (bound, outwards) in [("minimum", -step), ("maximum", step)] {
            let Some(bound) = property[bound].as_f64() else { continue };
            let checked = |value: f64| check(&format!(r#"{{"{field}":{value}}}"#));
            assert_eq!(checked(bound), Ok(()), "{field}: {bound}");
            let outside = checked(bound + outwards);
            let is_named = outside.as_ref().is_err_and(|error| error.starts_with(&format!("{field}: ")));
            assert!(is_named, "{field}: {}: {outside:?}", bound + outwards);
            bounds += 1;
        }
    }
    let default = |(field, property): (&String, &Value)| (field.clone(), property["default"].clone());
    let defaults: Value = properties.iter().map(default).collect();
    assert_eq!(serde_json::from_value(defaults).map_err(|error| error.to_string()), Ok(S::default()));
    bounds
}

/// The calls of one hook.
macro_rules! calls {
    ($hook:ident) => {
        /// The answer of a plugin with these settings, which are a JSON text.
        ///
        /// # Panics
        /// If the settings are not valid, or the plugin returns an error.
        #[track_caller]
        #[must_use]
        pub fn decide<P: $crate::$hook::Plugin>(question: &$crate::$hook::Question, settings: &str) -> Answer {
            match $crate::$hook::run::<P>(question, settings) {
                Ok(answer) => answer,
                Err(error) => panic!("no answer with the settings {settings}: {error}"),
            }
        }

        /// The error of a plugin with these settings, which are a JSON text.
        ///
        /// # Panics
        /// If the plugin answers.
        #[track_caller]
        #[must_use]
        pub fn decide_error<P: $crate::$hook::Plugin>(question: &$crate::$hook::Question, settings: &str) -> String {
            match $crate::$hook::run::<P>(question, settings) {
                Ok(answer) => panic!("an answer with the settings {settings}: {answer:?}"),
                Err(error) => error,
            }
        }

        /// The JSON Schema of the plugin's settings.
        ///
        /// # Panics
        /// If the schema is not JSON.
        #[track_caller]
        #[must_use]
        pub fn settings_schema<P: $crate::$hook::Plugin>() -> $crate::serde_json::Value {
            match $crate::serde_json::from_str(P::SETTINGS_SCHEMA) {
                Ok(schema) => schema,
                Err(error) => panic!("the schema of the settings is not JSON: {error}"),
            }
        }

        /// Asserts that the schema of the plugin's settings agrees with the plugin. Its check accepts each `minimum` and
        /// `maximum`, and refuses the next value with an error that begins with the field. The defaults are those of the
        /// settings. Returns the number of bounds.
        ///
        /// # Panics
        /// If the schema differs.
        #[track_caller]
        pub fn assert_schema_agrees<P: $crate::$hook::Plugin>() -> usize
        where
            P::Settings: Default + PartialEq + std::fmt::Debug,
        {
            super::assert_agrees::<P::Settings>(&settings_schema::<P>(), $crate::$hook::check::<P>)
        }

        /// The error with which a plugin refuses these settings, which are a JSON text.
        ///
        /// # Panics
        /// If the plugin accepts them.
        #[track_caller]
        #[must_use]
        pub fn settings_error<P: $crate::$hook::Plugin>(settings: &str) -> String {
            match $crate::$hook::check::<P>(settings) {
                Ok(()) => panic!("the settings are valid: {settings}"),
                Err(error) => error,
            }
        }
    };
}

/// The next question of a hook whose plugins have a state.
macro_rules! follow_ups {
    () => {
        /// The question again after a while: `now` has moved on, and `state` is that of the answer if it has one.
        #[must_use]
        pub fn later(question: &Question, answer: &Answer, after: std::time::Duration) -> Question {
            let passed = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            let state = answer.state.clone().unwrap_or_else(|| question.state.clone());
            Question { now: question.now.saturating_add(passed), state, ..question.clone() }
        }

        /// The question again at the time that the answer names; `None` if it names none.
        #[must_use]
        pub fn at_next_check(question: &Question, answer: &Answer) -> Option<Question> {
            let wait = answer.next_check?.saturating_sub(question.now);
            Some(later(question, answer, std::time::Duration::from_millis(wait)))
        }
    };
}

use {calls, follow_ups};

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, PartialEq, serde::Deserialize)]
    #[serde(default)]
    struct Example {
        size: u32,
    }

    fn check(settings: &str) -> Result<(), String> {
        let Example { size } = crate::settings::parse(settings)?;
        if size > 9 { Err("size: must be at most 9".into()) } else { Ok(()) }
    }

    #[test]
    fn schema_that_differs_from_the_plugin_is_found() {
        let schema = |most: u32, default: u32| {
            let size = json!({ "type": ["integer", "null"], "minimum": 0, "maximum": most, "default": default });
            json!({ "properties": { "size": size } })
        };
        assert_eq!(assert_agrees::<Example>(&schema(9, 0), check), 2);
        for wrong in [schema(8, 0), schema(10, 0), schema(9, 1)] {
            let compared = std::panic::catch_unwind(|| assert_agrees::<Example>(&wrong, check));
            assert!(compared.is_err(), "{wrong}");
        }
    }
}
