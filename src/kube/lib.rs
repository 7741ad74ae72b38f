//! The shell that every process of Paddock shares: what it needs to talk to an API server and to be called by one.
//!
//! Start with [`client`], which makes clients of the API server from the configuration of [`cluster`]. [`watch`] reads
//! a kind, [`leader`] elects one replica and fences its writes, [`tls`] issues and rotates the serving certificate,
//! [`listen`], [`server`] and [`endpoints`] answer calls, [`logs`] sets up the log and [`backoff`] spaces retries.
//! Nothing here knows what the operator decides, so a gateway can depend on this crate and on `paddock-api` alone.

pub mod backoff;
pub mod client;
pub mod cluster;
pub mod endpoints;
pub mod leader;
pub mod limits;
pub mod listen;
pub mod logs;
pub mod server;
pub mod tls;
pub mod watch;
