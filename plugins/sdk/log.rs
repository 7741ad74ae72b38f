//! Writes lines to the operator's log, which marks them with the plugin's name.
//!
//! The host takes at most 16 lines of 1024 characters from one call. On targets other than WebAssembly the lines are
//! written to standard error, so that tests of plugins show them.

pub use crate::bindings::types::paddock::policy::log::Level;

/// The import that takes the lines. A component imports the log of the one version that it implements, so nothing but the
/// glue of that version may name the import.
#[cfg(target_family = "wasm")]
static IMPORT: std::sync::OnceLock<fn(Level, &str)> = std::sync::OnceLock::new();

/// Writes lines to the log of version 0.2.0. The glue of `export!` calls this first.
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub fn v0_2_0() {
    IMPORT.get_or_init(|| crate::bindings::types::paddock::policy::log::write);
}

/// Writes lines to the log of version 0.1.0. The glue of `export_v0_1_0!` calls this first.
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub fn v0_1_0() {
    use crate::bindings::v0_1_0::log::paddock::policy::log::{Level as Former, write};
    IMPORT.get_or_init(|| {
        |level, message| {
            let level = match level {
                Level::Debug => Former::Debug,
                Level::Info => Former::Info,
                Level::Warn => Former::Warn,
                Level::Error => Former::Error,
            };
            write(level, message);
        }
    });
}

/// Writes one line.
pub fn write(level: Level, message: &str) {
    #[cfg(target_family = "wasm")]
    if let Some(write) = IMPORT.get() {
        write(level, message);
    }
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
