//! Every limit and interval of the Sandbox half in one table, with the reason for each value.

use std::num::NonZeroUsize;
use std::time::Duration;

use paddock_kube::backoff::Backoff;
use paddock_kube::fair_queue::QueueLimits;
use paddock_kube::limits::{ENDPOINT_SERVER, ReviewLimits, ServerLimits, nonzero};
use paddock_kube::pace::Rate;

/// The limits of held requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldLimits {
    /// The number of held requests. A request with a large head counts as several. No namespace gets all places.
    pub places: usize,
    /// The number of held requests for one Sandbox.
    pub per_sandbox: usize,
    /// The longest time for which a request is held.
    pub time: Duration,
}

impl Default for HoldLimits {
    /// A held request needs some 50 kB with its connection, so that all of them fit into 200 MB. The time is the one for
    /// which upstream's clients wait for an answer.
    fn default() -> Self {
        Self { places: 4096, per_sandbox: 512, time: Duration::from_secs(60) }
    }
}

/// The time for which a request for an unknown Sandbox is held. A client that has just learned from its own watch that
/// the Sandbox is Ready may be faster than the gateway's watch.
pub(crate) const ABSENT_GRACE: Duration = Duration::from_secs(1);

/// The requests for unknown Sandboxes that are held.
pub(crate) const ABSENT_HOLD: HoldLimits = HoldLimits { places: 256, per_sandbox: 64, time: ABSENT_GRACE };

/// The time for which the first connection may take before the request is held: far more than a round trip in a
/// cluster.
pub(crate) const FIRST_DIAL: Duration = Duration::from_millis(100);

/// The pause after a port refused a connection. A connection costs the node some 50 microseconds, and one dialler serves
/// all requests for a port.
pub(crate) const DIAL_PAUSE: Duration = Duration::from_millis(5);

/// The time for which a closed port is asked that often. A server that needs longer to start does not notice the longer
/// pause.
pub(crate) const DIAL_SOON: Duration = Duration::from_secs(1);

/// The pause after that time.
pub(crate) const DIAL_LATER_PAUSE: Duration = Duration::from_millis(20);

/// The ports of one pod that are dialled at the same time. A Sandbox has a few ports, and a client may name all.
pub(crate) const DIALLERS_PER_POD: usize = 8;

/// The time after which another connection is opened beside one that gets no answer. The first packet to a pod whose
/// network is not set up yet is lost, and the kernel sends it again only after a second, and then ever more rarely.
pub(crate) const DIAL_AGAIN: Duration = Duration::from_millis(100);

/// The time for which one connection may take. More than a round trip takes anywhere, and the dialler has at most ten
/// connections to one port in flight with it.
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(1);

/// The time after the start of a container for which a closed port may still open. A Python server under gVisor needs
/// about 0.3 s, and one that loads a model may need many seconds.
pub(crate) const START_GRACE: Duration = Duration::from_secs(30);

/// The time for which a closed port of a container that has run for long is dialled: upstream's three retries.
pub(crate) const DIAL_GRACE: Duration = Duration::from_millis(1400);

/// The time in which a woken Sandbox that missed its request may be tried again, in the header Retry-After.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(2);

/// The bytes of a request for which it takes one more place among the held ones.
pub(crate) const HELD_BYTES_PER_PLACE: usize = 16 * 1024;

/// The queue of wakes. A storm in one namespace leaves half of the writes to the others. The rates are far below what an
/// API server and a scheduler can do, and no namespace wakes a thousand Sandboxes at once by chance.
pub(crate) const WAKE_QUEUE: QueueLimits = QueueLimits {
    capacity: 2048,
    concurrency: 32,
    namespace: Rate::new(Duration::from_millis(20), 200),
    process: Rate::new(Duration::from_millis(5), 500),
};

/// The waits between the attempts of one wake. Together they are shorter than a request may be held.
pub(crate) const WAKE_BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));

/// The number of attempts of one wake.
pub(crate) const WAKE_ATTEMPTS: u32 = 8;

/// The time for one write.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// The time for which the watch may take to show the version that a write conflicted with.
pub(crate) const CONFLICT_WAIT: Duration = Duration::from_secs(1);

/// The interval at which the directory is asked for that version.
pub(crate) const CONFLICT_POLL: Duration = Duration::from_millis(20);

/// The time for which a refused wake is not tried again.
pub(crate) const REFUSED_TIME: Duration = Duration::from_secs(2);

/// The interval at which the Sandboxes in use are looked at. The shortest step of a record is a second.
pub(crate) const ACTIVITY_INTERVAL: Duration = Duration::from_millis(500);

/// The queue of records of activity. A thousand Sandboxes with the usual timeout of 30 minutes cost 6 writes in a
/// second. A Sandbox stays awake for as long as one record in each idle timeout is written.
pub(crate) const ACTIVITY_QUEUE: QueueLimits = QueueLimits {
    capacity: 16_384,
    concurrency: 8,
    namespace: Rate::new(Duration::from_millis(50), 50),
    process: Rate::new(Duration::from_millis(20), 100),
};

/// The limits of the questions about clients. A platform has a few tokens and asks for many Sandboxes at once, each of
/// which costs one question about a right in a minute. A client that sends more unknown tokens than a burst is a stranger.
pub(crate) const REVIEWS: ReviewLimits = ReviewLimits {
    client: Rate::new(Duration::from_millis(20), 200),
    tokens: Rate::new(Duration::from_millis(5), 1000),
    user: Rate::new(Duration::from_micros(2500), 1000),
    rights: Rate::new(Duration::from_micros(2500), 2000),
    concurrency: 64,
    waiting: 4096,
    capacity: nonzero(65_536),
    admitted: Duration::from_secs(60),
    refused: Duration::from_secs(10),
};

/// The time for which a kind may be without a watch before the gateway is not ready.
pub(crate) const WATCH_OUTAGE: Duration = Duration::from_secs(60);

/// The time for which the directory is used without a watch. It is the time for which clients stay admitted without the
/// API server. An address may belong to another pod soon after, and a request must not reach another tenant's pod.
pub(crate) const STALE_TIME: Duration = paddock_kube::limits::AUTH_STALE_TIME;

/// The queue of wishes that sandboxes send from inside. A wish is a write, and few sandboxes have one in a minute.
pub(crate) const WISH_QUEUE: QueueLimits = QueueLimits {
    capacity: 1024,
    concurrency: 8,
    namespace: Rate::new(Duration::from_millis(100), 50),
    process: Rate::new(Duration::from_millis(20), 100),
};

/// The shortest time between two wishes of one Sandbox. Sandboxed code must not be able to use up the writes of its
/// namespace.
pub(crate) const WISH_INTERVAL: Duration = Duration::from_secs(1);

/// The number of Sandboxes whose last wish is remembered for that: more than all Sandboxes can send in the interval.
pub(crate) const WISH_MEMORY: NonZeroUsize = nonzero(1024);

/// The number of attempts of one wish, because the status of a Sandbox may change at the same time.
pub(crate) const WISH_ATTEMPTS: u32 = 4;

/// The time for which a sandbox waits for the write of its wish.
pub(crate) const WISH_TIMEOUT: Duration = Duration::from_secs(10);

/// The limits of the listener for requests from inside. Each sandbox has a few connections for a moment, and no body.
pub(crate) const INSIDE_SERVER: ServerLimits = ServerLimits {
    connections: 512,
    connections_per_peer: 4,
    first_request: Duration::from_secs(5),
    idle: Duration::from_secs(15),
    age: Duration::from_mins(5),
    streams: 4,
    head: 8 * 1024,
    ..ENDPOINT_SERVER
};
