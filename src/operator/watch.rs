//! The only reader of the cluster: one watch for each kind, and the periodic resync of all objects.

mod outage;
mod resync;
mod watcher;

pub use self::resync::resync;
pub use self::watcher::Watch;
