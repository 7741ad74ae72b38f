//! The SDK for Paddock policy plugins in Rust.
//!
//! A plugin is a type that implements the [`Plugin`](pool_size::Plugin) trait of one or more hooks, and one line that
//! exports it:
//!
//! ```
//! use paddock_plugin_sdk::pool_size::{Answer, Plugin, Question};
//! use paddock_plugin_sdk::serde::Deserialize;
//!
//! struct HalfOfMaximum;
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
//! impl Plugin for HalfOfMaximum {
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
//!             reason: format!("{} divided by {}", question.max, settings.divisor),
//!             state: None,
//!         })
//!     }
//! }
//!
//! paddock_plugin_sdk::export!(HalfOfMaximum: pool_size);
//! ```
//!
//! The modules [`admission`], [`runtime_class`], [`idle`] and [`pool_size`] have the questions and the answers of their
//! hooks. A field means what its comment in the WIT files says.
//!
//! An [`admission`] plugin is asked when a user writes an object, and again by the operator, with an empty user name,
//! before a claim gets a Sandbox and before a Sandbox gets its pod. The table in `docs/plugins.md` lists all moments.
//!
//! Build the crate as a `cdylib` for `wasm32-unknown-unknown`; `paddock plugin componentize` turns the module into a
//! component. The traits are ordinary Rust, so `cargo test` runs their tests without WebAssembly:
//!
//! ```
//! # use paddock_plugin_sdk::pool_size::{Answer, Plugin};
//! # use paddock_plugin_sdk::settings::NoSettings;
//! use paddock_plugin_sdk::pool_size::Question;
//! use paddock_plugin_sdk::testing::pool_size::{decide, question};
//!
//! # struct HalfOfMaximum;
//! # impl Plugin for HalfOfMaximum {
//! #     type Settings = NoSettings;
//! #     fn decide(question: &Question, _: &NoSettings) -> Result<Answer, String> {
//! #         Ok(Answer { desired: question.max / 2, next_check: None, reason: "half".into(), state: None })
//! #     }
//! # }
//! assert_eq!(decide::<HalfOfMaximum>(&Question { max: 8, ..question() }, "{}").desired, 4);
//! ```
//!
//! A plugin is pure. Its question and its settings hold everything that it may know, and each call gets a new instance,
//! so a static does not outlive the call. What the plugin needs for its next answer, it returns as `state`.

mod arena;
#[doc(hidden)]
pub mod bindings;
mod hooks;
pub mod isolation;
pub mod json;
pub mod log;
pub mod settings;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

pub use bindings::types::paddock::policy::types::{Hook, Label, RuntimeClassFact};
pub use hooks::{admission, idle, label, pool_size, runtime_class};
pub use serde;
pub use serde_json;

/// Exports a plugin's hooks: `export!(MyPlugin: admission, pool_size)`.
///
/// The type must implement the `Plugin` trait of each of these hooks. On targets other than WebAssembly the macro only
/// checks that it does.
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
