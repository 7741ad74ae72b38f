//! Every timeout of the proxy in one table.

use std::time::Duration;

/// The timeouts of the proxy. Zero turns off those that say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// The time for a TLS handshake.
    pub handshake: Duration,
    /// The time from the first byte of a request's head to its last, and from the begin of a connection to the end of
    /// its first head.
    pub request_head: Duration,
    /// The time for which a connection of a client may wait for its next request.
    pub client_idle: Duration,
    /// The time for which a connection with requests may neither send nor receive a byte. Zero turns it off.
    pub stream_idle: Duration,
    /// The time from the head of a request to the head of its answer. The time for waking the Sandbox is included. A
    /// shorter `X-Sandbox-Timeout` of the client takes precedence. Upgrades and gRPC have no such limit after the
    /// connection to the Sandbox is open.
    pub proxy: Duration,
    /// The time from the last attempt to send a request to the head of its answer. Zero turns it off. It is off by
    /// default, because a command that runs for longer is not a fault.
    pub response_head: Duration,
    /// The longest time of one gRPC call, with its streams. A shorter `grpc-timeout` of the client takes precedence.
    /// Zero turns it off.
    pub grpc: Duration,
    /// The time for which an HTTP/1.1 connection to a Sandbox is kept for the next request. It is shorter than the time
    /// for which common servers keep one (gunicorn 2 s, uvicorn and Node.js 5 s), so that no request is sent on a
    /// connection that the Sandbox is closing.
    pub sandbox_idle: Duration,
    /// The time for which an HTTP/2 connection to a Sandbox is kept without calls. GOAWAY says which calls were taken,
    /// so it can be longer.
    pub sandbox_idle_http2: Duration,
    /// The time from SIGTERM until the gateway stops accepting connections. The endpoints of its Service are removed
    /// meanwhile.
    pub drain_delay: Duration,
    /// The time for which the gateway then waits for requests and streams.
    pub drain: Duration,
    /// The time for which WebSockets are told to close, at the end of the drain.
    pub close: Duration,
}

impl Timeouts {
    /// The default values.
    pub const DEFAULT: Timeouts = Timeouts {
        handshake: Duration::from_secs(10),
        request_head: Duration::from_secs(10),
        client_idle: Duration::from_secs(120),
        stream_idle: Duration::from_secs(3600),
        proxy: Duration::from_secs(180),
        response_head: Duration::ZERO,
        grpc: Duration::ZERO,
        sandbox_idle: Duration::from_secs(1),
        sandbox_idle_http2: Duration::from_secs(30),
        drain_delay: Duration::from_secs(5),
        drain: Duration::from_secs(30),
        close: Duration::from_secs(2),
    };
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts::DEFAULT
    }
}
