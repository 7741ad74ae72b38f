//! The adapter of `paddock:policy@0.2.0`, with the bindings that wasmtime generates from `wit/v0.2.0`. A plugin
//! gives a JSON Schema of its settings.

#![expect(clippy::duplicate_mod, reason = "the files in hooks are compiled against the bindings of each version")]

#[path = "hooks/answers.rs"]
mod answers;
#[path = "hooks/calls.rs"]
mod calls;
#[path = "hooks/questions.rs"]
mod questions;

use wasmtime::component::Instance;
use wasmtime::{Result, Store};

pub(crate) use self::calls::Exports;
pub(super) use self::calls::add_to_linker;
use crate::call::CallState;

/// The version as the exports of components name it.
pub(super) const NAME: &str = "0.2.0";
/// The interfaces that a component may import. `types` has no functions. It defines the records that the other
/// interfaces use.
pub(super) const IMPORTS: &[&str] = &["paddock:policy/log@0.2.0", "paddock:policy/types@0.2.0"];

mod bindings {
    wasmtime::component::bindgen!({ path: "../../wit/v0.2.0", world: "every-hook" });
}

use bindings::exports::paddock::policy as exports;
use bindings::paddock::policy::{log, types};

/// The schema of the settings of a hook, as the plugin returns it.
fn settings_schema(
    settings: &exports::settings::GuestIndices,
    store: &mut Store<CallState>,
    instance: &Instance,
    hook: types::Hook,
) -> Result<Option<String>> {
    settings.load(&mut *store, instance)?.call_schema(store, hook).map(Some)
}
