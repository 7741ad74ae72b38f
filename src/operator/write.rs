//! Step 5 of a reconcile: sends the writes of a plan to the API server. No other part sends the operations of plans.
//!
//! [`Writer`] executes a plan, `request` turns an operation into an HTTP request, and `reply` turns the response into
//! an outcome. `body` reads the bodies of responses, within a limit for failures. `deliver` creates the Secret with the
//! data of a claim. `calls` sends the other requests of an operation. `events` publishes Kubernetes Events, independently
//! of the writes.

mod body;
mod calls;
mod deliver;
mod events;
mod reply;
mod request;
mod writer;

pub use self::events::{DisabledEvents, EventQueue, Events, events};
pub(crate) use self::events::{new_event, publish, reporter};
pub use self::writer::{LargePlace, Progress, Writer};
