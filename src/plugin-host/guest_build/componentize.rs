//! From the core module that a compiler writes to the component that the host loads.
//!
//! The build script uses this file too, so built-ins go the same way as everybody's plugins.

use wit_component::ComponentEncoder;

/// Wraps a core WebAssembly module, whose custom sections describe its world, into a component.
///
/// # Errors
/// What is wrong with the module, for people.
pub fn componentize(module: &[u8]) -> Result<Vec<u8>, ComponentizeError> {
    let encode = || ComponentEncoder::default().validate(true).module(module)?.encode();
    encode().map_err(|error| ComponentizeError(format!("{error:#}")))
}

/// Why a module cannot become a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentizeError(String);

impl std::fmt::Display for ComponentizeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not a module that can become a component: {}", self.0)
    }
}

impl std::error::Error for ComponentizeError {}
