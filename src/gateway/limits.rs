//! Every limit of the proxy in one table, with the reason for each value.

use std::time::Duration;

/// The limits of the proxy. The defaults are parts of the memory that the process may use: see [`Limits::within`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The number of connections of clients. Each may keep one head that is not complete.
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
    /// The bytes of all large heads that are not complete, of HTTP/1.1.
    pub large_heads: usize,
    /// The bytes of all requests that wait for their authorization. No client address gets all of them.
    pub unauthorized: usize,
    /// The bytes of the buffers of all requests that are being forwarded. No namespace gets all of them.
    pub forwarded: usize,
}

impl Limits {
    /// The values for the memory limit of the manifests.
    pub const DEFAULT: Limits = Limits::within(1 << 30);

    /// The limits with which clients cannot use more memory than the process has, given in bytes. Half of it is for heads
    /// of connections, an eighth each for large heads and for requests without authorization, and a fifth for forwarded
    /// requests. A client address has an eighth of the connections.
    #[must_use]
    pub const fn within(memory: u64) -> Limits {
        let head_bytes = 64 * 1024;
        // More memory than this would be more connections than one process should have.
        let memory = if memory > MOST_MEMORY { MOST_MEMORY as usize } else { memory as usize };
        let connections = memory / 2 / head_bytes as usize;
        let connections = if connections < LEAST_CONNECTIONS { LEAST_CONNECTIONS } else { connections };
        Limits {
            connections,
            connections_per_client: connections / 8,
            requests_per_client: connections / 2,
            requests_per_sandbox: connections / 8,
            http2_streams: 100,
            head_bytes,
            headers: 100,
            body_bytes: None,
            large_heads: memory / 8,
            unauthorized: memory / 8,
            forwarded: memory / 5,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits::DEFAULT
    }
}

/// The memory beyond which the limits do not grow: 32,768 connections.
const MOST_MEMORY: u64 = 4 << 30;

/// The connections of a gateway with little memory.
const LEAST_CONNECTIONS: usize = 256;

/// The bytes of a head of HTTP/1.1 that count as large. Few clients send more.
pub const LARGE_HEAD: usize = 16 * 1024;

/// The bytes that the gateway keeps of one answer over HTTP/2 while the client does not read.
pub const HTTP2_SEND: usize = 16 * 1024;

/// The bytes that the gateway keeps of one answer of a Sandbox over HTTP/1.1 while the client does not read, and the
/// largest head of an answer.
pub const UPSTREAM_BUFFER: usize = 32 * 1024;

/// The bytes that count for one forwarded request without a body: usual buffers, and the tasks.
pub const FORWARDED_REQUEST: usize = 32 * 1024;

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

/// The interval at which the certificate files are read.
pub const CERTIFICATE_POLL_INTERVAL: Duration = Duration::from_secs(10);

/// The interval of PING frames on HTTP/2 connections of clients, and the time for their answers.
pub const HTTP2_PING: Duration = Duration::from_secs(60);

/// The time for which a client of HTTP/2 may keep a connection after the gateway has closed its side. It is longer than the
/// way of the last frames to the client and of the client's answer.
pub const HTTP2_LINGER: Duration = Duration::from_secs(2);

/// The time in which an idle connection that has to make room ends in order. A client that reads gets the end of its answer
/// in this time, and the new connection does not wait for longer.
pub const EVICTION_GRACE: Duration = Duration::from_secs(2);

/// The interval at which a port that could not be opened is tried again.
pub const TCP_PORT_RETRY: Duration = Duration::from_secs(1);

/// The time for which a port is closed after it stood for another Sandbox. kube-proxy may lead clients of that Sandbox
/// here until it has written its rules again, which takes a second by default and much longer in a large cluster.
pub const TCP_PORT_REST: Duration = Duration::from_secs(60);

/// The time for which a gateway that shuts down accepts TCP connections after its drain delay, and the time that each
/// suspended Sandbox adds. The operator writes some hundred EndpointSlices in a second.
pub const TCP_LEAVE: Duration = Duration::from_secs(5);

/// See [`TCP_LEAVE`].
pub const TCP_LEAVE_SANDBOX: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_fit_into_the_memory_of_the_process() {
        for memory in [64_u64 << 20, 256 << 20, 1 << 30, 4 << 30, 64 << 30] {
            let limits = Limits::within(memory);
            // hyper's buffer of a head that is not large may have twice its bytes.
            let small = limits.connections * 2 * LARGE_HEAD;
            let heads = (limits.connections * limits.head_bytes as usize).max(small + limits.large_heads);
            let all = heads + limits.unauthorized + limits.forwarded;
            assert!(limits.connections == LEAST_CONNECTIONS || all as u64 <= memory, "{memory}: {all}");
            assert!(limits.connections_per_client * 8 <= limits.connections && limits.requests_per_sandbox > 0);
        }
        assert_eq!(Limits::DEFAULT.connections, 8192);
    }
}
