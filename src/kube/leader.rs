//! Leader election, and the fence that stops every write when the lead may have been lost.

mod election;
mod fence;
mod lease;
mod timing;

pub use self::election::{Candidate, Election};
pub use self::fence::Fence;
pub use self::timing::{BadTiming, Timing};
