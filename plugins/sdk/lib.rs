//! Write Paddock policy plugins in Rust.
//!
//! A plugin is a type that implements the [`Plugin`](pool_size::Plugin) trait of one or more hooks, and
//! one line that exports it:
//!
//! ```
//! use paddock_plugin_sdk::pool_size::{Answer, Plugin, Question};
//! use paddock_plugin_sdk::serde::Deserialize;
//!
//! struct AlwaysHalf;
//!
//! #[derive(Deserialize)]
//! #[serde(crate = "paddock_plugin_sdk::serde", default, deny_unknown_fields)]
//! struct Settings {
//!     divisor: u32,
//! }
//!
//! impl Default for Settings {
//!     fn default() -> Self {
//!         Self { divisor: 2 }
//!     }
//! }
//!
//! impl Plugin for AlwaysHalf {
//!     type Settings = Settings;
//!
//!     fn check(settings: &Settings) -> Result<(), String> {
//!         if settings.divisor == 0 { Err("divisor: must be at least 1".into()) } else { Ok(()) }
//!     }
//!
//!     fn decide(question: &Question, settings: &Settings) -> Result<Answer, String> {
//!         Ok(Answer {
//!             desired: question.max / settings.divisor,
//!             next_check: None,
//!             reason: format!("a {}th of the most allowed", settings.divisor),
//!             state: None,
//!         })
//!     }
//! }
//!
//! paddock_plugin_sdk::export!(AlwaysHalf: pool_size);
//! ```
//!
//! Build it as a `cdylib` for `wasm32-unknown-unknown`; `wit-component` turns the module into a
//! component. The traits are ordinary Rust, so that plugins are tested with `cargo test` on the host.
//!
//! A plugin is pure: everything it may know is in its question and settings, and what it wants to
//! remember goes out with its answer as `state`. It is instantiated anew for each call, so statics do not
//! last.

mod arena;
#[doc(hidden)]
pub mod bindings;
mod hooks;
pub mod isolation;
pub mod json;
pub mod log;
pub mod settings;

pub use bindings::types::paddock::policy::types::{Hook, Label, RuntimeClassFact};
pub use hooks::{admission, idle, label, pool_size, runtime_class};
pub use serde;
pub use serde_json;

/// Exports a plugin's hooks: `export!(MyPlugin: admission, pool_size)`.
///
/// The type has to implement the `Plugin` trait of each hook named. On other targets than WebAssembly the
/// macro only checks that it does.
#[macro_export]
macro_rules! export {
    ($plugin:ty: $($hook:ident),+ $(,)?) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Glue;
            impl $crate::settings::Guest for Glue {
                fn validate_settings(
                    hook: $crate::Hook,
                    settings: ::std::string::String,
                ) -> ::std::result::Result<(), ::std::string::String> {
                    $(if hook == $crate::$hook::HOOK {
                        return $crate::$hook::check::<$plugin>(&settings);
                    })+
                    ::std::result::Result::Err(::std::format!("this plugin has no hook {hook:?}"))
                }
            }
            $crate::settings::export_hook!(Glue with_types_in $crate::bindings::settings);
            $(
                impl $crate::$hook::Guest for Glue {
                    fn decide(
                        question: $crate::$hook::Question,
                        settings: ::std::string::String,
                    ) -> ::std::result::Result<$crate::$hook::Answer, ::std::string::String> {
                        $crate::$hook::run::<$plugin>(&question, &settings)
                    }
                }
                $crate::$hook::export_hook!(Glue with_types_in $crate::bindings::$hook);
            )+
        };
        #[cfg(not(target_family = "wasm"))]
        const _: () = {
            $(const _: fn(&str) -> ::std::result::Result<(), ::std::string::String> =
                $crate::$hook::check::<$plugin>;)+
        };
    };
}
