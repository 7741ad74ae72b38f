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
//!     const SETTINGS_SCHEMA: &'static str = r#"{
//!         "type": "object",
//!         "properties": {"divisor": {"type": "integer", "minimum": 1, "maximum": 4294967295, "default": 2}},
//!         "additionalProperties": false
//!     }"#;
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
//! The host compares settings with the schema before the plugin sees them, and names the wrong field by its JSON pointer:
//! `/divisor: must be at least 1, is 0`. A longer schema is a file of its own, `include_str!("settings.schema.json")`. The
//! schema is optional, and its defaults only describe: the ones of the type apply.
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
mod v0_1_0;

pub use bindings::types::paddock::policy::types::{Hook, Label, RuntimeClassFact};
pub use hooks::{admission, idle, label, pool_size, runtime_class};
pub use serde;
pub use serde_json;

/// Exports a plugin's hooks: `export!(MyPlugin: admission, pool_size)`.
///
/// The type must implement the `Plugin` trait of each of these hooks. On targets other than WebAssembly the macro only
/// checks that it does. The component implements `paddock:policy@0.2.0`.
#[macro_export]
macro_rules! export {
    ($plugin:ty: $($hook:ident),+ $(,)?) => {
        $crate::__export!(
            v0_2_0,
            {
                fn schema(hook: $crate::Hook) -> ::std::string::String {
                    $(if hook == $crate::$hook::HOOK {
                        return ::std::string::String::from(<$plugin as $crate::$hook::Plugin>::SETTINGS_SCHEMA);
                    })+
                    ::std::string::String::from($crate::settings::NO_SCHEMA)
                }
            },
            $plugin: $($hook),+
        );
    };
}

/// Exports a plugin's hooks as [`export!`] does, in a component that implements `paddock:policy@0.1.0`.
///
/// Operators that do not know version 0.2.0 load it too. It gives no schemas, so the plugin alone checks its settings.
#[macro_export]
macro_rules! export_v0_1_0 {
    ($plugin:ty: $($hook:ident),+ $(,)?) => {
        $crate::__export!(v0_1_0, {}, $plugin: $($hook),+);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($version:ident, { $($schema:tt)* }, $plugin:ty: $($hook:ident),+) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Glue;
            impl $crate::settings::$version::Guest for Glue {
                $($schema)*

                fn validate_settings(
                    hook: $crate::Hook,
                    settings: ::std::string::String,
                ) -> ::std::result::Result<(), ::std::string::String> {
                    $crate::log::$version();
                    $(if hook == $crate::$hook::HOOK {
                        return $crate::$hook::check::<$plugin>(&settings);
                    })+
                    ::std::result::Result::Err(::std::format!("this plugin has no hook {hook:?}"))
                }
            }
            $crate::settings::$version::export_hook!(Glue with_types_in $crate::bindings::$version::settings);
            $(
                impl $crate::$hook::$version::Guest for Glue {
                    fn decide(
                        question: $crate::$hook::$version::Question,
                        settings: ::std::string::String,
                    ) -> ::std::result::Result<$crate::$hook::$version::Answer, ::std::string::String> {
                        $crate::log::$version();
                        $crate::$hook::$version::run::<$plugin>(question, &settings)
                    }
                }
                $crate::$hook::$version::export_hook!(Glue with_types_in $crate::bindings::$version::$hook);
            )+
        };
        #[cfg(not(target_family = "wasm"))]
        const _: () = {
            $(const _: fn(&str) -> ::std::result::Result<(), ::std::string::String> =
                $crate::$hook::check::<$plugin>;)+
        };
    };
}
