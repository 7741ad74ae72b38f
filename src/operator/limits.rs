//! Every limit and timeout of the operator process in one table, with the reason for each value.

use std::num::NonZeroUsize;
use std::time::Duration;

use paddock_kube::backoff::Backoff;
use paddock_kube::fair_queue::QueueLimits;
use paddock_kube::limits::nonzero;
use paddock_kube::pace::Rate;
use paddock_kube::server::ServerLimits;

/// The time for one write, from handing it to the connection to its reply. It is more than twice the webhook timeout of
/// the API server (2 s for our webhook). It is not longer than the rest of a lease after a renewal has failed (15 s −
/// 10 s). So no write of an old leader is in flight under a new leader.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// The interval at which webhook entries are compared that another program completes. The operator's own are compared
/// together with the certificate.
pub const REGISTRATION_CHECK_INTERVAL: Duration = paddock_kube::limits::CERTIFICATE_CHECK_INTERVAL;

/// The restorations of one difference in a row. Several writers may change an entry during a rollout, but not as often.
pub const RESTORES_IN_A_ROW: u32 = 3;

/// The time between two restorations of a difference that somebody makes again and again.
pub const RESTORE_PAUSE: Duration = Duration::from_mins(5);

/// The interval at which an Event repeats that webhook entries are not registered. Events last an hour.
pub const REGISTRATION_EVENT_INTERVAL: Duration = Duration::from_mins(10);

/// The number of reconciles and writes that concern large objects at the same time. The questions, the plan, the request and
/// the reply each contain the whole object, and the plan of a pool several, so each of them needs some tens of megabytes.
pub const LARGE_OBJECTS: usize = 2;

/// The longest body of a failed request that is read, in bytes. The API server repeats refused values, of up to several
/// megabytes, and at most [`WRITE_CONCURRENCY`] requests are in flight. Usual failures have less than a kilobyte.
pub const FAILURE_BYTES: usize = 64 * 1024;

/// The time for one request that publishes an Event. No reconcile waits for an Event. A check of the webhook
/// configurations waits for its own Events.
pub const EVENT_REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The time after a list within which the watch has to show every object that was written while the list was made.
/// After that the kind is listed again. It is longer than the time for the reply to a write, and longer than the few
/// seconds by which the watch of a busy API server lags.
pub const UNVERIFIED_TIMEOUT: Duration = Duration::from_secs(15);

/// The time for which a watch may fail before its kind counts as unknown and no decisions are made. It is shorter than
/// the idle timeouts that make sense, and longer than the restart of an API server.
pub const WATCH_OUTAGE: Duration = Duration::from_secs(60);

/// The longest time between a failure and an interruption of a watch in the same outage: the longest wait between two
/// attempts, and the time for a connection. After a longer time, the watch has worked in between.
pub const WATCH_FAILURE_GAP: Duration =
    paddock_kube::limits::WATCH_BACKOFF.longest.saturating_add(paddock_kube::limits::CONNECT_TIMEOUT);

/// The longest time between a failure and the failed start of a watch, or the first failed list, in the same outage. Such
/// an attempt may hang until the connection gives up.
pub const WATCH_START_FAILURE_GAP: Duration = WATCH_FAILURE_GAP.saturating_add(paddock_kube::limits::READ_TIMEOUT);

/// The longest time for one list of CPU use, in all its pages and namespaces. It is below
/// [`LIST_AT_MOST`](paddock_core::cpu_use::LIST_AT_MOST), and below the interval that is usual.
pub const CPU_METRICS_TIMEOUT: Duration = Duration::from_secs(20);

/// The longest time for the list of one namespace alone. metrics-server answers within milliseconds from its memory.
pub const CPU_METRICS_NAMESPACE_TIMEOUT: Duration = Duration::from_secs(4);

/// The time for which each namespace is listed alone after the list of all of them was too large or too slow. Otherwise,
/// every interval would begin with such a list.
pub const CPU_METRICS_APART: Duration = Duration::from_mins(10);

/// The number of pods in one page of such a list. metrics-server keeps its samples in memory and answers with all of them.
pub const CPU_METRICS_PAGE: u32 = 500;

/// The largest number of pages of one list: 200,000 pods, which is more than a cluster has.
pub const CPU_METRICS_PAGES_MAX: usize = 400;

/// The largest page, in bytes. The sample of a pod with two containers and the labels of a Sandbox has about 700 bytes, so
/// 45,000 pods fit. Users choose the labels of their pods, and metrics-server repeats them. If a list of all namespaces is
/// larger, the namespaces are listed one by one.
pub const CPU_METRICS_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The number of samples that are put into the World at once. Readers wait for less than a millisecond.
pub const CPU_METRICS_CHUNK: usize = 1000;

/// The longest time for one round of questions to all gateways. It is below
/// [`ASK_AT_MOST`](paddock_core::open_connections::ASK_AT_MOST), and as long as a gateway may need to have a token and a right
/// reviewed.
pub const CONNECTIONS_TIMEOUT: Duration = Duration::from_secs(10);

/// The number of gateways that are asked at once. Each may answer with
/// [`BYTES_MAX`](paddock_api::open_connections::BYTES_MAX), and four such answers are a thirtieth of the memory limit in
/// `deploy/base`.
pub const CONNECTIONS_QUESTIONS: usize = 4;

/// The largest number of gateways of all Services. The autoscaler in `deploy/base` makes ten, and an update one more.
pub const CONNECTIONS_GATEWAYS_MAX: usize = 64;

/// The largest number of EndpointSlices of a Service of gateways. A slice has a hundred endpoints by default, and there is
/// one for each address family and set of ports.
pub const CONNECTIONS_SLICES_MAX: u32 = 16;

/// The time by which the clock of a gateway may be behind that of the operator. Both correct theirs by the API server's, to
/// within a few seconds.
pub const CONNECTIONS_CLOCKS: Duration = Duration::from_secs(15);

/// The first and the longest wait before a failed key is reconciled again. The first is a few round trips. The longest
/// is a time for which a person waits after removing the cause of a failure.
pub const KEY_BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(60));

/// The number of consecutive conflicts after which a key is reconciled again at once. Then the backoff begins. One
/// conflict says that the object has changed, and three in a row say that another program writes in a loop.
pub const IMMEDIATE_CONFLICT_RETRIES: u32 = 3;

/// The delay of the work that follows a take (the labels of the pod, and the refill), while the status of the claim is
/// written. It is some round trips, in which the status reaches the client.
pub const CLAIM_FOLLOW_UP_DELAY: Duration = Duration::from_millis(20);

/// The delay between a change that concerns a pool and the reconcile of the pool, in which more changes may come. It is
/// longer than the time from a claim's creation to Ready, because a refill would compete with the claim. It is too
/// short for the later begin of the refill to be noticed.
pub const POOL_DEBOUNCE: Duration = Duration::from_millis(50);

/// The factor of the delay for a pool whose reconcile takes long: the delay is this many times the time that the
/// snapshot and the decision took. One pool thereby uses at most a tenth of a processor.
pub const SLOW_POOL_DEBOUNCE_FACTOR: u32 = 10;
/// The longest delay from [`SLOW_POOL_DEBOUNCE_FACTOR`]: a time that a person takes for an instant.
pub const SLOW_POOL_DEBOUNCE_MAX: Duration = Duration::from_secs(1);

/// The time in which every object is reconciled once more, spread evenly. The resync finds missed changes. No known bug
/// requires it, and controller-runtime does the same every ten hours. With 50,000 Sandboxes it means 14 reconciles a
/// second.
pub const RESYNC_PERIOD: Duration = Duration::from_hours(1);

/// The interval at which the resync queues a part of the objects and compares the clocks. The cost of one wakeup a
/// second cannot be measured.
pub const RESYNC_STEP_INTERVAL: Duration = Duration::from_secs(1);

/// The difference between the wall clock and the monotonic clock within [`RESYNC_STEP_INTERVAL`] above which the wall
/// clock was set. A time daemon slews the clock by less than a tenth of this, and a busy machine reads the two clocks
/// at slightly different times.
pub const CLOCK_STEP_THRESHOLD: Duration = Duration::from_millis(500);

/// The number of attempts in one reconcile. Another attempt follows if the plan became stale before one of its steps
/// began.
pub const STALE_PLAN_ATTEMPTS: u32 = 8;

/// The number of writes in flight: the value at which slow start begins, the smallest and the largest. The largest is
/// the share of the priority level `workload-low` in one API server by default (about 245 of 600 seats).
pub const WRITE_CONCURRENCY: (usize, usize, usize) = (32, 4, 256);

/// The factor by which a refusal reduces the write limit.
pub const BUSY_CUT_FACTOR: f64 = 0.5;
/// The factor by which a slow reply reduces the write limit.
pub const SLOW_CUT_FACTOR: f64 = 0.9;

/// The time from which a reply counts as slow, because the write waited inside the API server. It is ten times the time
/// of a write on a busy API server, and a quarter of the second within which a person takes a claim for immediate.
pub const SLOW_WRITE_THRESHOLD: Duration = Duration::from_millis(250);

/// The share of the writes in flight that refills and clean-up may use, in percent. The rest is kept for claims.
pub const BACKGROUND_WRITE_SHARE: usize = 75;

/// The share of the writes in flight that refills and clean-up may use while a claim is being written, in percent. An
/// API server processes all writes side by side. With a limit of 32 writes, four may be new Sandboxes, which makes some
/// hundred a second and hardly delays a claim. If there are many claims, the limit grows, and this share grows with it.
pub const BACKGROUND_WRITE_SHARE_BESIDE_CLAIMS: usize = 13;

/// The time after a cut of the write limit in which there is no further cut. Writes that were in flight when the API
/// server began to refuse give no new information.
pub const CUT_INTERVAL: Duration = Duration::from_millis(500);

/// The longest `Retry-After` that the operator obeys.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// The limits of the Events. A kilobyte waits for each, so the queue holds a megabyte. Several requests are under way,
/// so one slow request does not hold up the others. A namespace may have a burst of warnings, and then ten in a second.
pub const EVENTS: QueueLimits = QueueLimits {
    capacity: 1024,
    concurrency: 4,
    namespace: Rate::new(Duration::from_millis(100), 200),
    process: Rate::new(Duration::from_millis(20), 500),
};

/// The time in which the same Event about the same object is sent once.
pub const EVENT_REPEAT_INTERVAL: Duration = Duration::from_secs(30);

/// The number of Events that are remembered in order to recognise repetitions: some megabytes, because each is remembered
/// with its note of at most a kilobyte.
pub const RECENT_EVENTS_CAPACITY: NonZeroUsize = nonzero(4096);

/// The time in which the same failure of the same plugin is logged once. A log of some minutes then shows the failure,
/// and a plugin that fails on every question does not fill it.
pub const PLUGIN_FAILURE_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The interval at which the plugin directory is read. A new file takes effect within a second.
pub const PLUGIN_DIRECTORY_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The time for which a replaced component stays loaded. Decisions that began with it may still ask it, and no decision
/// takes a minute.
pub const REPLACED_PLUGIN_LIFETIME: Duration = Duration::from_secs(60);

/// The longest time for which readiness waits for the plugins after a start. A component of an interpreted language is
/// compiled in some seconds, and a volume is mounted in less than a minute. After that the replica serves, and a plugin
/// that is not loaded fails by its policy.
pub const PLUGIN_READINESS_WAIT: Duration = Duration::from_secs(60);

/// The longest wait at the start for the plugins and policies of the cluster. An API server answers a list in
/// milliseconds. Without an answer, every hook fails until there is one.
pub const PLUGIN_OBJECTS_WAIT: Duration = Duration::from_secs(5);

/// The interval at which the digest of a tag is asked for, unless `--plugin-registry-poll-interval` says otherwise. All
/// replicas follow a tag that moves within it. Each replica then makes one small request a minute for each such plugin.
pub const PLUGIN_IMAGE_POLL_INTERVAL: Duration = Duration::from_secs(60);

/// The wait after the first failure of a registry. Each further wait is twice the one before it, up to the interval of the
/// polls. A registry that restarts is away for some seconds.
pub const PLUGIN_PULL_RETRY: Duration = Duration::from_secs(2);

/// The pulls under way. Each may hold a component of 64 MiB two or three times, which is a tenth of the memory limit in
/// `deploy/base`.
pub const PLUGIN_PULLS: usize = 2;

/// The longest wait for the answer to a small request to a registry: a digest, or the signatures of an image. A pull has
/// the limit of the client.
pub const PLUGIN_REGISTRY_TIMEOUT: Duration = Duration::from_secs(30);

/// The pulled components that wait until the former one is compiled.
pub const PLUGIN_PULL_UPDATES: usize = 8;

/// The interval between two trials of a plugin, while the calls of other plugins leave no memory for a trial.
pub const PLUGIN_TRIAL_RETRY: Duration = Duration::from_secs(1);

/// The time for which a component still decides after `spec.digest` of its SandboxPlugin excluded it, until the wanted one
/// is there and accepts the policies. A pull and a compilation take some seconds, a registry that restarts is away for
/// some, and the next poll of a tag that was late comes within a minute.
pub const PLUGIN_PIN_WAIT: Duration = Duration::from_secs(60);

/// The interval at which a replica writes the numbers of a plugin's calls, if they changed. Dashboards read the metrics
/// instead, and one write in a minute for each plugin and replica costs little.
pub const PLUGIN_CALLS_INTERVAL: Duration = Duration::from_secs(60);

/// The interval at which a replica renews its entries in the status of plugins and policies.
pub const PLUGIN_ENTRY_RENEWAL: Duration = Duration::from_mins(5);

/// The age of an entry from which its replica counts as gone. A replica of another namespace may have been killed, and the
/// operator may not read its Pod. Two renewals may fail before that.
pub const PLUGIN_ENTRY_LIFETIME: Duration = Duration::from_mins(15);

/// The wait before a failed write of the status of a plugin or policy is repeated.
pub const PLUGIN_REPORT_RETRY: Duration = Duration::from_secs(2);

/// The longest wait for the API server's discovery. Without an answer, the resource may be served.
pub const PLUGIN_DISCOVERY_TIMEOUT: Duration = Duration::from_secs(5);

/// The time for which a replica that ends removes its entries from the status of plugins.
pub const PLUGIN_REPORT_END: Duration = Duration::from_secs(3);

/// The rate at which the conditions of one plugin or policy are written. A change needs a few writes. Should two operators
/// ever disagree about an object, the rate limits their writes.
pub const PLUGIN_CONDITIONS: Rate = Rate::new(Duration::from_secs(10), 20);

/// The number of reconciles that `/debug/seen` keeps.
pub const TRACE_CAPACITY: NonZeroUsize = nonzero(512);

/// The estimated memory of these reconciles together, in bytes. A usual one needs some kilobytes, and eight for each
/// question. One that needs more than a quarter is not kept.
pub const TRACE_BYTES: usize = 32 * 1024 * 1024;

/// The memory that the snapshot of a large object counts in a trace: the object, its pod and its template, of 1 MiB each,
/// which the World may have replaced meanwhile.
pub const LARGE_SNAPSHOT_BYTES: usize = 3 * 1024 * 1024;

/// The number of decisions that `/debug/decisions` keeps, unless `--recent-decisions` says otherwise. They still show an
/// incident after some hundred more reviews and reconciles.
pub const RECENT_DECISIONS: usize = 256;

/// The bytes of these decisions together. A question about a usual Sandbox has five kilobytes.
pub const RECENT_DECISIONS_BYTES: usize = 4 * 1024 * 1024;

/// The size of the file of `--record-decisions` at which the next one begins, unless `--record-decisions-max-size` says
/// otherwise. It holds some ten thousand decisions.
pub const RECORDING_BYTES: u64 = 64 * 1024 * 1024;

/// The decisions that wait to be recorded: those of some seconds on a busy operator. The bytes limit them first, because
/// each decision counts as eight kilobytes at least, and the namespaces share the bytes.
pub const RECORD_QUEUE: usize = 2048;

/// The bytes of these decisions together. The largest question has two objects of 1.5 MiB each.
pub const RECORD_QUEUE_BYTES: usize = 16 * 1024 * 1024;

/// The time for which a shutdown waits until the decisions are recorded. A whole queue is written in less than a second.
pub const RECORD_END_TIMEOUT: Duration = Duration::from_secs(2);

/// The time between two log lines about decisions that cannot be recorded.
pub const RECORD_FAILURE_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The number of our writes whose watch event is awaited in order to measure the lag of the watches.
pub const WATCH_LAG_CAPACITY: NonZeroUsize = nonzero(1024);

/// The time for which a shutdown waits for writes in flight: one write and one retry.
pub const WRITE_DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// The time for one review, from its first byte to its answer. It is below the API server's timeout of 2 s, so that the
/// API server gets a reason instead of no answer.
pub const REVIEW_TIMEOUT: Duration = Duration::from_millis(1800);

/// The time from the first byte of a review, after which no further plugin that acts is asked. A plugin that was asked just
/// before, and needs its default deadline of 500 ms, still answers within [`REVIEW_TIMEOUT`].
pub const ACTING_TIMEOUT: Duration = Duration::from_millis(1200);

/// The time from the first byte of a review, within which policies in the modes Warn and Audit have to answer so that the
/// reply contains their notes. A plugin that needs its default deadline of 500 ms is in time after one that acts.
pub const NOTES_TIMEOUT: Duration = Duration::from_millis(1300);

/// The number of reviews that may go on after their replies, in order to ask policies in the mode Shadow. Such a review
/// uses a thread and keeps its share of the memory of all reviews. Further ones are not asked, and counted.
pub const SHADOW_REVIEWS: usize = 16;

/// The limits of the webhook's server.
///
/// An API server opens one connection for each call in flight and keeps some of them. Two thirds of the connections may
/// come from one address, because many clients may be behind one proxy. With the connections that wait for a place,
/// and those of the other listeners, they stay below the 1024 file descriptors that a process has by default.
///
/// A client has five seconds for its first complete request, which a TLS handshake over a bad network needs. Then a
/// connection may be idle for longer than the 90 s after which Go's client closes it. If the server closed first, it
/// could close under a call that was just sent.
///
/// A body has an object and its old version as JSON, each at most etcd's 1.5 MiB. The API server writes characters such as
/// `<` in six bytes, so both have 18 MiB at most. A smaller limit would make such an object impossible to change, and its
/// finalizers impossible to remove. All bodies together may have the size of three such bodies.
///
/// Reviews under way may use 128 MiB together, and one review three quarters of it: an object of 1.4 MB in an expensive
/// shape, and its old version. That is a sixteenth of the memory limit in `deploy/base`.
pub const WEBHOOK_SERVER: ServerLimits = ServerLimits {
    connections: 384,
    connections_per_peer: 256,
    first_request: Duration::from_secs(5),
    idle: Duration::from_secs(120),
    age: Duration::from_mins(30),
    streams: 256,
    head: 16 * 1024,
    body: 20 * 1024 * 1024,
    bytes: 64 * 1024 * 1024,
    memory: 128 * 1024 * 1024,
};

/// The least memory that a review counts, in bytes. At most 256 small reviews are therefore under way. They use two
/// cores for less than the time of one review.
pub const REVIEW_MEMORY_MIN: usize = WEBHOOK_SERVER.memory / 4 / 256;

/// The size of a body in bytes from which a review runs on a thread of its own, because its parsing takes longer than
/// a millisecond.
pub const LARGE_REVIEW: usize = 128 * 1024;

/// The number of fields of an object, and of its metadata, that are compared if the review is too large to be parsed.
/// Kubernetes' ObjectMeta has 15.
pub const UNPARSED_FIELDS: usize = 32;

/// The waits of a review before it looks again for a namespace, a pod or a Sandbox that is not known: a second
/// together. A watch delivers a new object within milliseconds, and a review has less than two seconds.
pub const FACT_RETRY_DELAYS: [Duration; 6] = [
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(300),
    Duration::from_millis(330),
];

/// The places for reviews that wait in this way, each for [`REVIEW_MEMORY_MIN`] bytes: a quarter of the memory for small
/// reviews. One client gets eight ninths of them, and one namespace eight ninths of these. A further review is denied at
/// once.
pub const FACT_WAITS: usize = 64;

/// The time for which a shutdown continues to serve reviews after the operator stopped being ready. API servers learn
/// about that late.
pub const WEBHOOK_SHUTDOWN_DELAY: Duration = Duration::from_secs(3);

/// The time for which the policies about isolation may be absent or differ before the operator closes entries that manifests
/// open. During an upgrade, the replicas and the policies of two versions are there for some minutes.
pub const ISOLATION_GRACE: Duration = Duration::from_mins(10);

/// The limits of the activity records. There is one waiting record a Sandbox at most. A record moves by at least five
/// seconds, so ten records in a second cover a namespace with fifty busy sessions at the shortest idle timeout, and one
/// with thousands at the usual ones. Records beyond the rate wait and are not dropped.
pub const ACTIVITY: QueueLimits = QueueLimits {
    capacity: 4096,
    concurrency: 8,
    namespace: Rate::new(Duration::from_millis(100), 100),
    process: Rate::new(Duration::from_millis(10), 400),
};

/// The time in which one record is written for a Sandbox, even if the watch has not delivered the last one yet.
pub const ACTIVITY_REPEAT_INTERVAL: Duration = Duration::from_secs(5);

/// The number of Sandboxes whose last record is remembered.
pub const RECENT_ACTIVITY_CAPACITY: NonZeroUsize = nonzero(4096);

/// The waits after each failed attempt to write an activity record. There are as many attempts. The client itself
/// repeats a request if the API server asks for that.
pub const ACTIVITY_RETRY_DELAYS: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(0)];

/// The limits of the records of connections to warm pods. A record costs its pool a pod, and anybody who reaches the
/// webhook can ask for one, so the rates are those of people: one a second in a namespace, after the first twenty.
/// Connections beyond the rate wait, and are denied after [`TOUCH_TIMEOUT`].
pub const TOUCHES: QueueLimits = QueueLimits {
    capacity: 256,
    concurrency: 8,
    namespace: Rate::new(Duration::from_secs(1), 20),
    process: Rate::new(Duration::from_millis(100), 100),
};

/// The time within which a connection to a warm pod has to be recorded. A review may have waited for the pod before, by
/// [`FACT_RETRY_DELAYS`]. [`REVIEW_TIMEOUT`] then ends it earlier, with a denial too.
pub const TOUCH_TIMEOUT: Duration = Duration::from_millis(1500);

/// The waits before each attempt to record a connection to a warm pod. There are as many attempts, within the time of a
/// review. An attempt fails if the Sandbox has just changed, and the watch delivers the change soon.
pub const TOUCH_RETRY_DELAYS: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
];

/// The interval at which the CustomResourceDefinitions are compared with those of this version. They change with an upgrade.
/// The documents have about a megabyte.
pub const DEFINITIONS_INTERVAL: Duration = Duration::from_mins(10);

/// The interval while a definition lacks a field, a kind is not served, or the documents cannot be read.
pub const DEFINITIONS_RETRY: Duration = Duration::from_mins(1);

/// The time for each of these documents. The API server may have to make it first.
pub const DEFINITIONS_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The time for removing the webhook configurations at the end of a shutdown.
pub const WEBHOOK_WITHDRAW_TIMEOUT: Duration = Duration::from_secs(5);
