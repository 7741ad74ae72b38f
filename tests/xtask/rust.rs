//! Rust sources, read as far as the checks need: which module is in which file, and which item a name stands for.
//!
//! What the compiler generates (derives, `bindgen!`) is not seen. Names inside macro calls are, by their tokens.

mod methods;
mod modules;
mod names;
mod resolve;

pub use modules::{Import, Module, Program, flatten, is_test_only};
pub use names::{Name, names_in};
pub use resolve::Target;
