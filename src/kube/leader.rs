//! Leader election on two Leases, and the fence that stops every write when this replica may have lost the leadership.
//! A process without an election acts while nobody holds one of the Leases.

mod election;
mod elsewhere;
mod fence;
mod lease;
mod timing;
mod unelected;

pub use self::election::Election;
pub use self::elsewhere::Obstacle;
pub use self::fence::Fence;
pub use self::lease::{Candidate, Scope};
pub use self::timing::{BadTiming, Timing};
pub use self::unelected::Unelected;
