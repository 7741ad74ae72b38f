//! Writes lines to the operator's log, which marks them with the plugin's name.
//!
//! The host takes at most 16 lines of 1024 characters from one call. On targets other than WebAssembly the lines are
//! written to standard error, so that tests of plugins show them.

pub use crate::bindings::types::paddock::policy::log::Level;

/// Writes one line.
pub fn write(level: Level, message: &str) {
    #[cfg(target_family = "wasm")]
    crate::bindings::types::paddock::policy::log::write(level, message);
    #[cfg(not(target_family = "wasm"))]
    eprintln!("{level:?}: {message}");
}

/// Writes details for the plugin's author.
pub fn debug(message: &str) {
    write(Level::Debug, message);
}

/// Writes a line about normal operation.
pub fn info(message: &str) {
    write(Level::Info, message);
}

/// Writes a line about something unexpected that the plugin can handle.
pub fn warn(message: &str) {
    write(Level::Warn, message);
}

/// Writes a line about something that the plugin cannot handle.
pub fn error(message: &str) {
    write(Level::Error, message);
}

/// Writes the message of a panic to the log. `wasm32-unknown-unknown` has no standard error, and the trap that follows
/// only reports that unreachable code was reached.
pub(crate) fn report_panics() {
    #[cfg(target_family = "wasm")]
    std::panic::set_hook(Box::new(|panic| error(&panic.to_string())));
}
