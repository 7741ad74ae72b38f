//! The parts that every process of Paddock shares: connections to the API server, and a server for its calls.
//!
//! A process reads its configuration from [`cluster`] and creates clients with [`client`], whose replies correct its
//! [`clock`]. [`user`] asks who the process is, and [`guard`] whether the policies that limit this user are in force, by
//! the [`differences`] of stored and desired objects. [`watch`] lists and watches a kind. [`leader`] elects one replica
//! and limits its writes. [`tls`] issues and rotates the serving certificate. [`listen`], [`server`] and [`endpoints`]
//! answer calls, [`peer`] tells their clients apart, and [`auth`] asks the API server about them. [`logs`] configures the
//! log, [`build_info`] labels the metrics of the build, and [`traces`] sends spans to a collector. [`memory`] says how much the process may use, [`backoff`] spaces
//! retries, [`turns`] orders what waits, [`pace`] limits rates, and [`fair_queue`] is a queue of small tasks that
//! namespaces share.
//!
//! This crate contains no decisions of the operator, so a gateway can depend on this crate and on `paddock-api` alone.
//! Start reading at [`client`].

pub mod auth;
pub mod backoff;
pub mod budget;
pub mod build_info;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod differences;
pub mod endpoints;
pub mod fair_queue;
pub mod guard;
pub mod leader;
pub mod limits;
pub mod listen;
pub mod logs;
pub mod memory;
pub mod pace;
pub mod peer;
pub mod server;
pub mod tls;
pub mod traces;
pub mod turns;
pub mod user;
pub mod watch;
