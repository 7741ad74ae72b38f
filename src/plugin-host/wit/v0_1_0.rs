//! The adapter of `paddock:policy@0.1.0`, with the bindings that wasmtime generates from `wit/v0.1.0`. It has no
//! schemas of settings.

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
pub(super) const NAME: &str = "0.1.0";
/// The interfaces that a component may import. `types` has no functions. It defines the records that the other
/// interfaces use.
pub(super) const IMPORTS: &[&str] = &["paddock:policy/log@0.1.0", "paddock:policy/types@0.1.0"];

mod bindings {
    wasmtime::component::bindgen!({ path: "../../wit/v0.1.0", world: "every-hook" });
}

use bindings::exports::paddock::policy as exports;
use bindings::paddock::policy::{log, types};

/// The schema of the settings of a hook: none. The plugin alone checks its settings.
fn settings_schema(
    _: &exports::settings::GuestIndices,
    _: &mut Store<CallState>,
    _: &Instance,
    _: types::Hook,
) -> Result<Option<String>> {
    Ok(None)
}
