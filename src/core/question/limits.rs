//! Limits of a plugin's answer. The host cuts or refuses an answer by them, and the core checks patches by them.

/// The longest reason of an answer, in characters.
pub const MAX_REASON_CHARS: usize = 256;
/// The longest message of a denial or a failure, in characters.
pub const MAX_MESSAGE_CHARS: usize = 1024;
/// The longest warning, in characters: the API server passes on a warning of this length whole.
pub const MAX_WARNING_CHARS: usize = 256;
/// The most warnings of an answer.
pub const MAX_WARNINGS: usize = 16;
/// The largest state that is kept for a plugin, in bytes.
pub const MAX_STATE_BYTES: usize = 16 << 10;
/// The largest JSON Patch of an answer, in bytes: a PodSpec with every field set is an order of magnitude smaller.
pub const MAX_PATCH_BYTES: usize = 256 << 10;
