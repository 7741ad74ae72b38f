//! One module for each hook: its question, its answer and the trait to implement.

use crate::Label;

/// The value of a label.
#[must_use]
pub fn label<'a>(labels: &'a [Label], key: &str) -> Option<&'a str> {
    labels.iter().find(|label| label.key == key).map(|label| label.value.as_str())
}

macro_rules! hook {
    ($(#[$doc:meta])* $module:ident, $variant:ident, $macro:ident, $($name:ident),+) => {
        $(#[$doc])*
        pub mod $module {
            #[doc(hidden)]
            pub use crate::bindings::$module::exports::paddock::policy::$module::Guest;
            pub use crate::bindings::$module::exports::paddock::policy::$module::{$($name),+};
            #[doc(hidden)]
            pub use crate::bindings::$module::$macro as export_hook;

            /// This hook.
            pub const HOOK: crate::Hook = crate::Hook::$variant;

            /// What a plugin of this hook implements.
            pub trait Plugin {
                /// What users may set, as a JSON object. Take [`NoSettings`](crate::settings::NoSettings)
                /// for nothing; give every field a default and deny unknown ones.
                type Settings: serde::de::DeserializeOwned;

                /// Says what is wrong with settings that parse: names the field and what would be right.
                ///
                /// # Errors
                /// The text for people.
                fn check(settings: &Self::Settings) -> Result<(), String> {
                    let _ = settings;
                    Ok(())
                }

                /// Judges.
                ///
                /// # Errors
                /// Why there is no judgement, for people.
                fn decide(question: &Question, settings: &Self::Settings) -> Result<Answer, String>;
            }

            /// Parses and checks settings.
            ///
            /// # Errors
            /// The text for people, naming the field.
            pub fn check<P: Plugin>(settings: &str) -> Result<(), String> {
                P::check(&crate::settings::parse(settings)?)
            }

            /// Parses and checks settings, then decides: what the host's call does.
            ///
            /// # Errors
            /// What the plugin says, or what is wrong with its settings.
            pub fn run<P: Plugin>(question: &Question, settings: &str) -> Result<Answer, String> {
                crate::log::report_panics();
                let settings = crate::settings::parse(settings)?;
                P::check(&settings)?;
                P::decide(question, &settings)
            }
        }
    };
}

hook!(
    /// May this object be, and in what form?
    admission, Admission, export_admission, Question, Answer, Operation, Verdict
);
hook!(
    /// Which RuntimeClass does a new pod get?
    runtime_class, RuntimeClass, export_runtime_class, Question, Answer, Choice
);
hook!(
    /// Is this sandbox idle, and what follows?
    idle, Idle, export_idle, Question, Answer, Tier
);
hook!(
    /// How many sandboxes does this pool keep warm?
    pool_size, PoolSize, export_pool_size, Question, Answer
);
