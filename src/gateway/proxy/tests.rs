//! The proxy with real sockets: clients, a gateway and Sandboxes in one process.

mod contract;
mod drain;
mod grpc;
mod harness;
mod limits;
mod reuse;
mod scoped_tokens;
mod smuggling;
mod streams;
mod tls;
mod upgrade;

pub(crate) use self::harness::config;
