//! One module for each hook: its question, its answer and the trait to implement.

use crate::Label;

/// The value of the label with this key.
#[must_use]
pub fn label<'a>(labels: &'a [Label], key: &str) -> Option<&'a str> {
    labels.iter().find(|label| label.key == key).map(|label| label.value.as_str())
}

macro_rules! hook {
    ($(#[$doc:meta])* $module:ident, $variant:ident, $macro:ident, $($name:ident),+) => {
        $(#[$doc])*
        pub mod $module {
            pub use crate::bindings::v0_2_0::$module::exports::paddock::policy::$module::{$($name),+};

            /// This hook.
            pub const HOOK: crate::Hook = crate::Hook::$variant;

            /// Implemented by a plugin of this hook.
            pub trait Plugin {
                /// The settings, parsed from a JSON object. Give every field a default and deny unknown fields. A
                /// plugin without settings uses [`NoSettings`](crate::settings::NoSettings).
                type Settings: serde::de::DeserializeOwned;

                /// The JSON Schema of the settings (draft 2020-12), mostly `include_str!("settings.schema.json")`.
                ///
                /// The host refuses settings that do not match it, with the JSON pointer of the wrong field, before
                /// the plugin sees them. It does not add the defaults of a schema: those are the ones of `Settings`.
                /// Without a schema, the plugin alone checks its settings.
                const SETTINGS_SCHEMA: &'static str = crate::settings::NO_SCHEMA;

                /// Checks settings that were parsed: what the schema cannot say.
                ///
                /// # Errors
                /// A message for the user: the field, and the values that it accepts.
                fn check(settings: &Self::Settings) -> Result<(), String> {
                    let _ = settings;
                    Ok(())
                }

                /// Answers the question.
                ///
                /// # Errors
                /// The reason why there is no answer. The plugin's `failurePolicy` decides what follows.
                fn decide(question: &Question, settings: &Self::Settings) -> Result<Answer, String>;
            }

            /// Parses and checks settings.
            ///
            /// # Errors
            /// A message for the user, which names the field.
            pub fn check<P: Plugin>(settings: &str) -> Result<(), String> {
                P::check(&crate::settings::parse(settings)?)
            }

            /// Parses and checks the settings, then answers the question, as a call of the host does.
            ///
            /// # Errors
            /// The plugin's error, or the reason why the settings are not valid.
            pub fn run<P: Plugin>(question: &Question, settings: &str) -> Result<Answer, String> {
                crate::log::report_panics();
                let settings = crate::settings::parse(settings)?;
                P::check(&settings)?;
                P::decide(question, &settings)
            }

            #[doc(hidden)]
            pub mod v0_2_0 {
                pub use super::{Answer, Question};
                pub use crate::bindings::v0_2_0::$module::$macro as export_hook;
                pub use crate::bindings::v0_2_0::$module::exports::paddock::policy::$module::Guest;

                pub fn run<P: super::Plugin>(question: Question, settings: &str) -> Result<Answer, String> {
                    super::run::<P>(&question, settings)
                }
            }

            #[doc(hidden)]
            pub mod v0_1_0 {
                pub use crate::bindings::v0_1_0::$module::$macro as export_hook;
                pub use crate::bindings::v0_1_0::$module::exports::paddock::policy::$module::{Answer, Guest, Question};

                pub fn run<P: super::Plugin>(question: Question, settings: &str) -> Result<Answer, String> {
                    super::run::<P>(&question.into(), settings).map(Into::into)
                }
            }
        }
    };
}

hook!(
    /// The hook `admission`: decides whether an object may be created or updated, and may change it.
    admission, Admission, export_admission, Question, Answer, Operation, Verdict
);
hook!(
    /// The hook `runtime-class`: chooses the RuntimeClass of a new pod.
    runtime_class, RuntimeClass, export_runtime_class, Question, Answer, Choice
);
hook!(
    /// The hook `idle`: decides whether a Sandbox is idle, and how its resources are released.
    idle, Idle, export_idle, Question, Answer, Tier
);
hook!(
    /// The hook `pool-size`: decides how many warm Sandboxes a pool keeps.
    pool_size, PoolSize, export_pool_size, Question, Answer
);
