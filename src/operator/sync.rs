//! The completeness of the World: the kinds that are not listed yet, and the reasons why a watch fails.

mod error;
mod unsynced;

pub use self::error::WatchError;
pub use self::unsynced::UnsyncedKinds;
