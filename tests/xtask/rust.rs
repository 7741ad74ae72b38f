//! Rust sources, parsed as far as the checks need: the module of each file, and the item that a name refers to.
//!
//! Code that the compiler generates (derives, `bindgen!`) is ignored. Names inside macro calls are found by their
//! tokens.

mod methods;
mod modules;
mod names;
mod resolve;

pub use modules::{Import, Module, Program, flatten, is_test_only};
pub use names::{Name, names_in};
pub use resolve::Target;
