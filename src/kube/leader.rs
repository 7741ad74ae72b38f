//! Leader election on two Leases, and the fence that stops every write when this replica may have lost the leadership.
//! A process without an election acts while nobody holds one of the Leases.

mod election;
mod elsewhere;
mod fence;
mod lease;
mod timing;
mod unelected;

use tokio::sync::watch;

pub use self::election::Election;
pub use self::elsewhere::Obstacle;
pub use self::fence::Fence;
pub use self::lease::{Candidate, Scope};
pub use self::timing::{BadTiming, Timing};
pub use self::unelected::Unelected;

/// Sends a value to the receivers only if it differs from the last one. Returns whether it does.
fn send_if_different<T: PartialEq>(sender: &watch::Sender<T>, value: T) -> bool {
    sender.send_if_modified(|last| {
        let differs = *last != value;
        *last = value;
        differs
    })
}
