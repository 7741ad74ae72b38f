//! Every limit and timeout of the shared parts in one table, with the reason for each value.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::pace::Rate;

/// The time for a TCP and TLS connection to the API server.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The time for one request of the leader election: half of the renew deadline, so that a lost request can be repeated.
pub const LEASE_REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The duration of a Lease in another namespace that states none: client-go's default.
pub const OTHER_LEASE_DURATION: Duration = Duration::from_secs(15);

/// The interval at which an operator without an election looks for Leases that expired. Like the retry period of a
/// candidate.
pub const UNELECTED_POLL_INTERVAL: Duration = Duration::from_secs(2);

/// The time after which an unchanged Lease in another namespace has expired, whatever duration it states. The longest
/// durations that distributions set are about two minutes. Without this limit, one forgotten Lease could stop the
/// operator for good.
pub const OTHER_LEASE_DURATION_MAX: Duration = Duration::from_mins(5);

/// The number of characters of a holder's name that are kept. Strangers write it.
pub const OTHER_LEASE_HOLDER_CHARS: usize = 100;

/// The difference from the API server's clock up to which the local clock is used as it is. Times in objects are whole
/// seconds, and time daemons keep clocks much closer.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(2);

/// The longest time of a request whose reply says something about the clock.
pub const CLOCK_REPLY_MAX: Duration = Duration::from_secs(5);

/// The number of replies that have to agree before they change the clock: more than one odd API server answers in a row
/// by chance, and a few seconds of requests.
pub const CLOCK_REPLIES: u32 = 5;

/// The interval at which a process reads its admission policies. They change with an upgrade, or by mistake. Each policy
/// takes two small requests.
pub const GUARD_CHECK_INTERVAL: Duration = Duration::from_mins(1);

/// The time for each of these requests.
pub const GUARD_REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The time for which the API server keeps one watch open. The kube crate gives up a watch that is silent for five seconds
/// more than this time. So it notices a broken connection that nothing reports.
pub const WATCH_TIMEOUT: Duration = Duration::from_secs(60);

/// The time for which nothing of a reply may arrive. It is longer than any watch. Without it, a list or the start of
/// a watch would notice a broken connection only after a quarter of an hour. The kind would not be watched until
/// then.
pub const READ_TIMEOUT: Duration = WATCH_TIMEOUT.saturating_add(Duration::from_secs(15));

/// The smallest number of objects in one page of a list. See [`LIST_PAGE_SIZE_MAX`].
pub const LIST_PAGE_SIZE_MIN: u32 = 8;

/// The largest number of objects in one page of a list that has not expired yet.
///
/// Anybody who may create pods or Sandboxes can make each of them as large as an API server stores, which is 1.5 MiB, and
/// a page is in memory two or three times while it is read. A page of 8 such objects needs 38 MB, and a page of 128
/// needs 600 MB. Only a kind with 8,192 objects has such pages. At the start, every kind has one page in memory.
///
/// Small pages take time: each is a request, and before Kubernetes 1.34 etcd answers it. A list has to end within five
/// minutes, before etcd compacts its version. With the largest pages, a list of 150,000 pods has 1,172 pages of at most a
/// quarter of a second. If it expires nevertheless, the next list has pages of twice the size.
pub const LIST_PAGE_SIZE_MAX: u32 = 128;

/// The number of pages into which a list is divided, within [`LIST_PAGE_SIZE_MIN`] and
/// [`LIST_PAGE_SIZE_MAX`].
pub const LIST_PAGES: u64 = 64;

/// The first and the longest wait before an interrupted watch is started again.
pub const WATCH_BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));

/// The interval of the requests for a kind whose CRD is not installed.
pub const ABSENT_KIND_POLL_INTERVAL: Duration = Duration::from_secs(3);

/// The limits of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// The number of connections. Half as many may wait for a place.
    pub connections: usize,
    /// The number of connections from one address.
    pub connections_per_peer: usize,
    /// The time from the begin of a connection to its first complete request, and between requests that had no success.
    pub first_request: Duration,
    /// The time for which a connection may wait for its next request after one that had success.
    pub idle: Duration,
    /// The age after which a connection ends with its next answer.
    pub age: Duration,
    /// The number of concurrent requests on one HTTP/2 connection.
    pub streams: u32,
    /// The largest head of a request, in bytes.
    pub head: u32,
    /// The largest body, in bytes.
    pub body: usize,
    /// The bytes of the buffers for all bodies together.
    pub bytes: usize,
    /// The memory of all requests that have their turn, in bytes. Large requests share three quarters of it, and small
    /// ones the rest, so that a small request never waits for a large one.
    pub memory: usize,
}

impl ServerLimits {
    /// The memory of the largest request, in bytes, and of all large requests together.
    #[must_use]
    pub fn largest(&self) -> usize {
        self.memory / 4 * 3
    }

    /// The memory up to which a request counts as small, in bytes.
    #[must_use]
    pub fn small(&self) -> usize {
        self.memory / 64
    }
}

/// The limits of the servers for probes, metrics and debug pages. They have few clients, and take no bodies.
pub const ENDPOINT_SERVER: ServerLimits = ServerLimits {
    connections: 64,
    connections_per_peer: 32,
    first_request: Duration::from_secs(5),
    idle: Duration::from_secs(120),
    age: Duration::from_mins(30),
    streams: 16,
    head: 16 * 1024,
    body: 0,
    bytes: 0,
    memory: 0,
};

/// The bytes that a client may send on an HTTP/2 connection before the server has read them.
pub const HTTP2_WINDOW: u32 = 256 * 1024;

/// The time that a connection has to show something before it may have to make room. A TLS handshake and a request take
/// some round trips in the cluster's network. With 256 places for one address, the limit admits 2,560 silent connections
/// in a second before they wait.
pub const SILENCE_MIN: Duration = Duration::from_millis(100);

/// The interval at which connections that wait for a place are looked at.
pub const PLACE_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The time for which scrapes share a text of `/metrics` that a client has not read yet. It is far below the interval at
/// which Prometheus scrapes.
pub const METRICS_TEXT_LIFETIME: Duration = Duration::from_secs(1);

/// The wait after a connection could not be accepted.
pub const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// The time for which a shutdown waits for calls in flight.
pub const CONNECTION_DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// The interval at which a mounted certificate is read. The mount of a Secret itself lags by up to a minute.
pub const MOUNTED_CERTIFICATE_POLL_INTERVAL: Duration = Duration::from_secs(10);

/// The longest interval at which the certificate's manager reads its Secret and compares the webhook configurations.
/// That is three small requests, and a changed configuration is restored after this time.
pub const CERTIFICATE_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The first and the longest wait after a failed round of the certificate's manager.
pub const CERTIFICATE_BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));

/// The lines that one place in the source writes about one subject (a namespace, a client or a plugin): a burst that shows a series of different requests,
/// and then two in each second. The level `debug` has no limit.
pub const LOG_LINES_OF_SUBJECT: Rate = Rate::new(Duration::from_millis(500), 50);

/// The lines that one place in the source writes about all subjects: those of ten.
pub const LOG_LINES: Rate = Rate::new(Duration::from_millis(50), 500);

/// The longest line of the log, in bytes. In a longer line, each text is shortened to [`LOG_TEXT`]. Usual lines have some
/// hundred bytes.
pub const LOG_LINE: usize = 16 * 1024;

/// The longest text in a line that is too long, in bytes. A line has at most ten texts.
pub const LOG_TEXT: usize = 1024;

/// The interval at which suppressed lines are reported.
pub const LOG_REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// The limits of the questions to the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReviewLimits {
    /// The rate of the questions about unknown tokens of one client address.
    pub client: Rate,
    /// The rate of the questions about unknown tokens of all clients. Their addresses take turns.
    pub tokens: Rate,
    /// The rate of the questions about the rights of one user.
    pub user: Rate,
    /// The rate of the questions about the rights of all users. They take turns.
    pub rights: Rate,
    /// The questions of each sort at the same time. One address or user has at most half of them.
    pub concurrency: usize,
    /// The questions of each sort that wait, within the time for one question. Further ones are refused.
    pub waiting: usize,
    /// The number of answers that are remembered.
    pub capacity: NonZeroUsize,
    /// The time for which an admitted client is not asked about again. A right that is taken away ends after this time.
    pub admitted: Duration,
    /// The time for which a refused client is not asked about again. A new right has to take effect soon.
    pub refused: Duration,
}

/// The limits of the questions about the clients of the metrics. Prometheus has a handful of tokens. A stranger cannot
/// push out a known client at this rate within the time for which the client is admitted.
pub const AUTH: ReviewLimits = ReviewLimits {
    client: Rate::new(Duration::from_millis(500), 20),
    tokens: Rate::new(Duration::from_millis(500), 20),
    user: Rate::new(Duration::from_millis(500), 20),
    rights: Rate::new(Duration::from_millis(500), 20),
    concurrency: 8,
    waiting: 64,
    capacity: nonzero(1024),
    admitted: Duration::from_secs(60),
    refused: Duration::from_secs(10),
};

/// The time for one question about a client.
pub const AUTH_TIMEOUT: Duration = Duration::from_secs(5);

/// The time for which a client stays admitted while the API server cannot be asked.
pub const AUTH_STALE_TIME: Duration = Duration::from_mins(5);

/// The capacity of a cache, which holds one entry at least.
#[must_use]
pub const fn nonzero(capacity: usize) -> NonZeroUsize {
    match NonZeroUsize::new(capacity) {
        Some(capacity) => capacity,
        None => NonZeroUsize::MIN,
    }
}

/// The number of spans that may wait for the collector, if the environment gives none. OpenTelemetry specifies this default.
pub const SPANS: usize = 2048;

/// The time for one request to the collector, if the environment gives none. OpenTelemetry specifies this default.
pub const SPANS_TIMEOUT: Duration = Duration::from_secs(10);

/// The most bytes of an answer of the collector. An answer is empty, or names the number of refused spans.
pub const SPANS_ANSWER: usize = 64 << 10;

/// The time to send the last spans when the process ends. Kubernetes allows 30 seconds for the whole end.
pub const LAST_SPANS_TIMEOUT: Duration = Duration::from_secs(2);

/// The most bytes of a trace context in an annotation. The W3C's header has 55 characters, and at most 512 with its state.
pub const TRACE_CONTEXT_BYTES: usize = 1024;
