//! Step 5 of a reconcile: the writes of a plan are sent to the API server, and nobody else sends any.
//!
//! [`Writer`] carries out a plan, `request` turns an operation into an HTTP request, `reply` turns the response into
//! an outcome, and `events` publishes Kubernetes Events beside it.

mod events;
mod reply;
mod request;
mod writer;

pub use self::events::{EventQueue, Events, events};
pub use self::writer::{Progress, Writer};
