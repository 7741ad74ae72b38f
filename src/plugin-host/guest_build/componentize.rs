//! Turns the core module that a compiler writes into a component that the host can load.
//!
//! The build scripts include this file, so built-ins become components in the same way as users' plugins.

use wit_component::ComponentEncoder;

/// Wraps a core WebAssembly module into a component. The custom sections of the module describe its world.
///
/// # Errors
/// The fault of the module.
pub fn componentize(module: &[u8]) -> Result<Vec<u8>, ComponentizeError> {
    let encode = || ComponentEncoder::default().validate(true).module(module)?.encode();
    encode().map_err(|error| ComponentizeError(format!("{error:#}")))
}

/// The reason why a module cannot become a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentizeError(String);

impl std::fmt::Display for ComponentizeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not a module that can become a component: {}", self.0)
    }
}

impl std::error::Error for ComponentizeError {}
