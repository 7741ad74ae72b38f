//! Lines in the operator's log, marked with the plugin's name.
//!
//! The host takes 16 lines of 1 KiB from a call and cuts off what is more. On other targets than
//! WebAssembly lines go to standard error, so that tests of plugins show them.

pub use crate::bindings::types::paddock::policy::log::Level;

/// Writes one line.
pub fn write(level: Level, message: &str) {
    #[cfg(target_family = "wasm")]
    crate::bindings::types::paddock::policy::log::write(level, message);
    #[cfg(not(target_family = "wasm"))]
    eprintln!("{level:?}: {message}");
}

/// For the plugin's author.
pub fn debug(message: &str) {
    write(Level::Debug, message);
}

/// For the curious.
pub fn info(message: &str) {
    write(Level::Info, message);
}

/// Something is odd.
pub fn warn(message: &str) {
    write(Level::Warn, message);
}

/// Something is broken.
pub fn error(message: &str) {
    write(Level::Error, message);
}

/// Sends the message of a panic to the log: `wasm32-unknown-unknown` has no standard error, and the trap
/// that follows says only that unreachable code was reached.
pub(crate) fn report_panics() {
    #[cfg(target_family = "wasm")]
    std::panic::set_hook(Box::new(|panic| error(&panic.to_string())));
}
