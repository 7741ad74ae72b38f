//! Leader election on two Leases, and the fence that stops every write when this replica may have lost the leadership.

mod election;
mod fence;
mod lease;
mod timing;

pub use self::election::{Candidate, Election};
pub use self::fence::Fence;
pub use self::timing::{BadTiming, Timing};
