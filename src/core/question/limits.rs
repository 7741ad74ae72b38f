//! The limits of a plugin's answer. The host truncates or refuses an answer according to them, and the core checks
//! patches against them.

/// The longest reason of an answer, in characters.
pub const MAX_REASON_CHARS: usize = 256;
/// The longest message of a denial or a failure, in characters.
pub const MAX_MESSAGE_CHARS: usize = 1024;
/// The longest warning, in characters. The API server does not truncate a warning of this length.
pub const MAX_WARNING_CHARS: usize = 256;
/// The maximum number of warnings in an answer.
pub const MAX_WARNINGS: usize = 16;
/// The largest state that a plugin may keep between calls, in bytes.
pub const MAX_STATE_BYTES: usize = 16 << 10;
/// The largest JSON Patch of an answer, in bytes. A PodSpec in which every field is set is an order of magnitude
/// smaller.
pub const MAX_PATCH_BYTES: usize = 256 << 10;
