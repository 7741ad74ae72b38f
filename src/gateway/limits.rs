//! Every limit of the proxy in one table, with the reason for each value.

use std::time::Duration;

/// The limits of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The number of connections of clients. Each needs some 20 kB of memory.
    pub connections: usize,
    /// The number of connections of one client address.
    pub connections_per_client: usize,
    /// The number of requests and streams of one client address.
    pub requests_per_client: usize,
    /// The number of requests and streams to one Sandbox.
    pub requests_per_sandbox: usize,
    /// The number of concurrent requests on one HTTP/2 connection of a client. Browsers expect 100.
    pub http2_streams: u32,
    /// The largest head of a request, in bytes.
    pub head_bytes: u32,
    /// The number of headers of a request.
    pub headers: usize,
    /// The largest body of a request, in bytes. `None` for no limit.
    pub body_bytes: Option<u64>,
}

impl Limits {
    /// The default values.
    pub const DEFAULT: Limits = Limits {
        connections: 32_768,
        connections_per_client: 16_384,
        requests_per_client: 16_384,
        requests_per_sandbox: 16_384,
        http2_streams: 100,
        head_bytes: 64 * 1024,
        headers: 100,
        body_bytes: None,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Limits::DEFAULT
    }
}

/// The bytes that one HTTP/2 stream may send before the other side has read them. This bounds the memory of a stream.
pub const HTTP2_STREAM_WINDOW: u32 = 256 * 1024;

/// The bytes that one HTTP/2 connection may send before the other side has read them.
pub const HTTP2_CONNECTION_WINDOW: u32 = 1024 * 1024;

/// The bytes that the gateway reads of an HTTP/1.1 body before the other side has taken them.
pub const HTTP1_BUFFER: usize = 64 * 1024;

/// The bytes that the HTTP library reads of a request of HTTP/1.1 with its head, before anybody asks for the body.
pub const HTTP1_READ: usize = 8 * 1024;

/// The largest HTTP/2 frame that the gateway accepts: the smallest value that the standard allows.
pub const HTTP2_FRAME: u32 = 16 * 1024;

/// The connections to one pod that wait for a request.
pub const IDLE_PER_ENDPOINT: usize = 32;

/// The connections to all pods that wait for a request.
pub const IDLE: usize = 4096;

/// The concurrent calls on one HTTP/2 connection to a Sandbox. Servers commonly allow 100 or more.
pub const CALLS_PER_CONNECTION: usize = 100;

/// The attempts to send one request. A repeated attempt is made only if no byte of the request was sent.
pub const ATTEMPTS: u32 = 4;

/// The interval at which connections that nobody uses are looked for.
pub const SWEEP_INTERVAL: Duration = Duration::from_millis(250);

/// The wait of a client whose share is in use.
pub const BUSY_RETRY_AFTER: Duration = Duration::from_secs(1);

/// The wait of a client of a gateway that shuts down. Another replica answers.
pub const DRAIN_RETRY_AFTER: Duration = Duration::from_secs(1);

/// The interval at which the certificate files are read.
pub const CERTIFICATE_POLL_INTERVAL: Duration = Duration::from_secs(10);

/// The interval of PING frames on HTTP/2 connections of clients, and the time for their answers.
pub const HTTP2_PING: Duration = Duration::from_secs(60);
