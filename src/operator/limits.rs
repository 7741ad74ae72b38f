//! Every limit and timeout of the operator process, in one table, each with where it comes from.

use std::time::Duration;

/// One write to the API server, from handing it to the connection to its reply. Longer than the API
/// server's own webhook timeout (ours is 2 s) twice over, shorter than what is left of a lease when
/// renewing has just failed (15 s − 10 s), so that no write of an old leader is under way under a new one.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Making a TCP and TLS connection to the API server.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// One request of the elector: half of the renew deadline, so that a lost request can be repeated.
pub const LEASE_REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// One request for an Event: it is nobody's to wait for.
pub const EVENT_REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the API server keeps one watch open. kube gives a silent watch up five seconds after
/// this, so it is also how long a cut that nobody reports can go unnoticed.
pub const WATCH_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a connection may bring nothing: longer than any watch. Of a cut that nobody reports, a list or the beginning of a watch
/// would not learn for a quarter of an hour otherwise, and the kind would go unseen.
pub const READ_TIMEOUT: Duration = WATCH_TIMEOUT.saturating_add(Duration::from_secs(15));

/// How long after a list the watch may take to show what was written while the list was made; then the kind is listed
/// again. Every reply to a write has come by then, and a watch of a busy API server is some seconds late.
pub const UNVERIFIED_TIMEOUT: Duration = Duration::from_secs(15);

/// Objects asked for in one page of a list: client-go's own page size.
pub const LIST_PAGE_SIZE: u32 = 500;

/// First and longest wait before a broken watch is tried again.
pub const WATCH_BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// How often to look for a kind whose CRD is not installed.
pub const ABSENT_KIND_POLL_INTERVAL: Duration = Duration::from_secs(3);

/// First and longest wait before a key that failed is tried again. The first is a few round trips; the longest is what a person
/// who has just mended something waits for.
pub const KEY_BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(60));

/// Conflicts in a row that are followed by an immediate second look; then backoff begins. A conflict
/// says that the world has moved on, and the third in a row that somebody is writing in a loop.
pub const IMMEDIATE_CONFLICT_RETRIES: u32 = 3;

/// How long what a claim leaves to be done (its pod's labels, the refill) waits when its status is written: some round trips, in
/// which whoever waits for the claim is told of it.
pub const CLAIM_FOLLOW_UP_DELAY: Duration = Duration::from_millis(20);

/// How long a pool waits for more to happen to it before it is looked at: longer than a claim takes that has begun, which the
/// refill would be in the way of where nothing else is going on, and so short that a refill which begins this much later is not noticed.
pub const POOL_DEBOUNCE: Duration = Duration::from_millis(50);

/// The same where looking at the pool takes long: this many times as long as that, so that one pool uses a tenth of a
/// processor at the most; and never longer than what a person takes for an instant.
pub const SLOW_POOL_DEBOUNCE_FACTOR: u32 = 10;
/// See [`SLOW_POOL_DEBOUNCE_FACTOR`].
pub const SLOW_POOL_DEBOUNCE_MAX: Duration = Duration::from_secs(1);

/// How often every object is derived again from scratch, spread evenly over that time. What was missed is found by it, which
/// nothing is known to need; controller-runtime does it every ten hours. With 50,000 Sandboxes at rest, it would be 14 a second.
pub const RESYNC_PERIOD: Duration = Duration::from_hours(1);

/// How often some of them are, and how often the clock is looked at: a wakeup a second costs nothing that can be measured.
pub const RESYNC_STEP_INTERVAL: Duration = Duration::from_secs(1);

/// By how much the wall clock may differ from the steady one within [`RESYNC_STEP_INTERVAL`] and not have been set: a time daemon
/// slews by less than a tenth of that, and a busy machine reads the two apart.
pub const CLOCK_STEP_THRESHOLD: Duration = Duration::from_millis(500);

/// Times that one reconcile looks again within itself because its plan was stale before it began.
pub const STALE_PLAN_RETRIES: u32 = 8;

/// Rounds of questions in one reconcile: runtime class, admission, then one fallback for each, twice over.
pub const QUESTION_ROUNDS: usize = 8;

/// Writes under way at once: where slow start begins, the least, and the most. The most is what one
/// API server's priority level `workload-low` gives its whole cluster by default (some 245 of 600 seats).
pub const WRITE_CONCURRENCY: (usize, usize, usize) = (32, 4, 256);

/// What is left of the limit after a refusal, and after a slow reply.
pub const BUSY_CUT_FACTOR: f64 = 0.5;
/// See [`BUSY_CUT_FACTOR`].
pub const SLOW_CUT_FACTOR: f64 = 0.9;

/// A reply that took this long was waiting inside the API server: ten times what a write takes on a busy one,
/// a quarter of the second in which a person takes a claim for immediate.
pub const SLOW_WRITE_THRESHOLD: Duration = Duration::from_millis(250);

/// Share of the writes under way that refills and clean-up may take, in percent: the rest is the claims'.
pub const BACKGROUND_WRITE_SHARE: usize = 75;

/// While a claim is being written, refills and clean-up may take so little of the writes under way, in percent. An API server works on
/// all that it was sent side by side: of 32 writes four are new Sandboxes then, some hundred a second, and a claim hardly notices
/// them. Where claims are many, more writes are allowed, and this share grows with them.
pub const BACKGROUND_WRITE_SHARE_BESIDE_CLAIMS: usize = 13;

/// How long a cut of the write limit stands before another one counts: replies to writes that
/// were under way when the API server began to refuse say nothing new.
pub const CUT_INTERVAL: Duration = Duration::from_millis(500);

/// Longest `Retry-After` that is believed.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// Events waiting to be sent; more are dropped and counted.
pub const EVENT_QUEUE_CAPACITY: usize = 1024;

/// The same Event about the same object is sent once in this time.
pub const EVENT_REPEAT_INTERVAL: Duration = Duration::from_secs(30);

/// Events remembered so that a repetition is known.
pub const RECENT_EVENTS_CAPACITY: usize = 4096;

/// The same failure of the same plugin is logged once in this time: often enough to be seen in a log of some minutes,
/// seldom enough for one that fails with every question.
pub const PLUGIN_FAILURE_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Reconciles kept for `/debug/seen`.
pub const TRACE_CAPACITY: usize = 512;

/// Writes of ours whose echo is awaited, to measure how far the watches lag.
pub const WATCH_LAG_CAPACITY: usize = 1024;

/// How long a shutdown waits for the writes under way: one write and its retry.
pub const WRITE_DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// One review, from its first byte to its answer: below the API server's timeout of 2 s, so that it
/// is told why instead of being left to guess.
pub const REVIEW_TIMEOUT: Duration = Duration::from_millis(1800);

/// Reviews under way at once; more wait. Each holds two objects and computes: a few hundred keep two cores busy for less
/// than a review's time.
pub const REVIEW_CONCURRENCY: usize = 256;

/// Longest body of a review: an object and its predecessor, each of at most etcd's 1.5 MiB, as JSON.
pub const REVIEW_BODY_MAX: usize = 8 * 1024 * 1024;

/// Connections to the webhook at once: an API server opens one for each call under way and keeps some.
pub const CONNECTIONS_MAX: usize = 1024;

/// Calls at once on one HTTP/2 connection.
pub const HTTP2_STREAMS_MAX: u32 = 256;

/// A TLS handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may wait for its next call. Longer than the 90 s for which Go's client keeps one, so that it is
/// never the server that closes first, under a call that was just sent.
pub const IDLE_CONNECTION_TIMEOUT: Duration = Duration::from_secs(120);

/// How long to wait when no connection can be accepted.
pub const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// How long a shutdown goes on serving reviews after readiness was taken back, since API servers learn of that late.
pub const WEBHOOK_SHUTDOWN_DELAY: Duration = Duration::from_secs(3);

/// How long a shutdown waits for reviews under way.
pub const CONNECTION_DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// Signs of activity waiting to be written; more are dropped.
pub const ACTIVITY_QUEUE_CAPACITY: usize = 256;

/// Signs of activity written at once.
pub const ACTIVITY_WRITE_CONCURRENCY: usize = 8;

/// Pauses after a try to write a sign of activity that failed; as many tries. The client itself has tried again
/// what the API server asked it to.
pub const ACTIVITY_RETRY_DELAYS: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(0)];

/// How often a mounted certificate is read: mounts of Secrets themselves lag by up to a minute.
pub const MOUNTED_CERTIFICATE_POLL_INTERVAL: Duration = Duration::from_secs(10);

/// Looking after the webhook configurations at the end of a shutdown.
pub const WEBHOOK_WITHDRAW_TIMEOUT: Duration = Duration::from_secs(5);
