//! The only reader of the cluster: one watch for each kind, the lists of CPU use, the questions to the gateways, and the
//! periodic resync of all objects.

mod cpu_use;
mod open_connections;
pub(crate) mod outage;
mod resync;
mod watcher;

pub use self::cpu_use::CpuUseLists;
pub use self::open_connections::{Ask, ConnectionRounds, over_http};
pub use self::resync::resync;
pub use self::watcher::Watch;
