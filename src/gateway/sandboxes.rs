//! The Sandboxes: where each one answers, and how it is woken.
//!
//! `directory` has what the watches show: `observed` reads the objects, and `feed` runs the watches. `attempt` is one
//! request on its way: it is counted by `hold`, waits for `wake` if its Sandbox is suspended, and then for `dial`, which
//! asks the port itself. `activity` records that the Sandbox is in use, and `wishes` what the code in it wishes. `patch`
//! makes the writes of all three.

mod activity;
mod allotments;
mod attempt;
mod dial;
mod directory;
mod feed;
mod hold;
pub(crate) mod limits;
mod metrics;
mod observed;
mod patch;
mod wake;
mod wishes;

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use jiff::Timestamp;
use kube::Client;
use paddock_api::open_connections::OpenConnections;
use paddock_kube::clock::Clock;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use self::activity::{Busy, InUse, Used};
use self::attempt::{Attempt, Ways};
use self::dial::Dial;
use self::directory::{Directory, Running, State};
use self::feed::{Feed, Outages};
use self::hold::Holds;
use self::observed::Name;
use self::wake::Wake;
use self::wishes::Wishes;
use crate::arrival::{Arrival, Purpose};
use crate::only::Only;
use crate::refusal::{Reason, Refusal};
use crate::target::Target;

pub(crate) use self::allotments::Allotment;
pub use self::limits::HoldLimits;
pub use self::metrics::Metrics;
pub(crate) use self::wishes::{NotTaken, Wish};

/// The pod and the address that answer for a target now. Connections are reused only for an equal endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The UID of the pod.
    pub pod_uid: Arc<str>,
    /// The address of the port in the pod.
    pub address: SocketAddr,
}

/// Marks a Sandbox as busy until it is dropped. A guard of a probe marks nothing.
#[derive(Default)]
pub struct Activity {
    busy: Option<Busy>,
}

/// A mark that has not begun: nobody uses the Sandbox before there is a connection to it.
#[derive(Default)]
pub struct Mark {
    of: Option<(InUse, Used)>,
}

impl Mark {
    /// Marks the Sandbox as busy.
    #[must_use]
    pub fn begin(&self) -> Activity {
        Activity { busy: self.of.as_ref().map(|(in_use, used)| in_use.begin(used)) }
    }
}

/// A Sandbox that answers now.
#[derive(Debug)]
pub struct Awake {
    /// The pod and the address.
    pub endpoint: Endpoint,
    /// The mark of the request, for the case that there is an open connection.
    pub mark: Mark,
}

/// An open connection to a Sandbox, on which no byte was sent.
#[derive(Debug)]
pub struct Connected {
    /// The connection.
    pub stream: TcpStream,
    /// The pod and the address.
    pub endpoint: Endpoint,
    /// The mark of the request. It is dropped when the request, its answer and its streams have ended.
    pub activity: Activity,
}

/// The settings of the Sandbox half.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The only namespace whose Sandboxes are served. If absent, all namespaces.
    pub namespace: Option<String>,
    /// Whether pods may have loopback addresses, which are the gateway's own. Only for tests.
    pub allow_loopback_pod_ip: bool,
    /// The limits of held requests.
    pub hold: HoldLimits,
}

/// The directory of the Sandboxes. Clones are handles on the same directory.
#[derive(Clone)]
pub struct Sandboxes(Arc<Parts>);

struct Parts {
    client: Client,
    config: Config,
    clock: Clock,
    ways: Ways,
    in_use: InUse,
    wishes: Wishes,
}

impl Sandboxes {
    /// A directory that knows nothing until [`Sandboxes::run`] is polled. The client must not repeat requests itself,
    /// and its read timeout has to be longer than a watch.
    #[must_use]
    pub fn new(client: Client, config: Config, clock: Clock, metrics: Metrics) -> Self {
        Self::with(client, config, clock, metrics, Dial::default())
    }

    fn with(client: Client, config: Config, clock: Clock, metrics: Metrics, dial: Dial) -> Self {
        let directory = Directory::default();
        let holds = Holds::new(config.hold, metrics.clone());
        let absent = Holds::new(limits::ABSENT_HOLD, metrics.clone());
        let wake = Wake::new(client.clone(), directory.clone(), metrics.clone(), clock.clone());
        let in_use = InUse::new(client.clone(), directory.clone(), metrics.clone(), clock.clone());
        let outages = Outages::default();
        let wishes = Wishes::new(client.clone(), directory.clone(), outages.clone(), in_use.clone(), clock.clone());
        let ways = Ways { metrics, directory, dial, holds, absent, wake, outages, clock: clock.clone() };
        Self(Arc::new(Parts { client, config, clock, ways, in_use, wishes }))
    }

    /// Watches, wakes and records, until the future is dropped.
    pub async fn run(&self) {
        let parts = &*self.0;
        let feed = Feed {
            client: parts.client.clone(),
            directory: parts.ways.directory.clone(),
            metrics: parts.ways.metrics.clone(),
            clock: parts.clock.clone(),
            namespace: parts.config.namespace.clone(),
            allow_loopback: parts.config.allow_loopback_pod_ip,
            outages: parts.ways.outages.clone(),
        };
        let (wake, in_use, wishes) = (parts.ways.wake.clone(), parts.in_use.clone(), parts.wishes.clone());
        tokio::join!(feed.run(), wake.run(), in_use.run(), wishes.run());
    }

    /// Writes the wish that a sandbox with this address sent, and returns the time that it is about.
    ///
    /// # Errors
    /// If the address is not that of a running Sandbox, or the wish has no effect or is not allowed.
    pub(crate) async fn wish(&self, source: IpAddr, wish: Wish) -> Result<Timestamp, NotTaken> {
        self.0.wishes.take(source, wish).await
    }

    /// The requests and connections that are open to Sandboxes now.
    pub(crate) fn open_connections(&self) -> OpenConnections {
        OpenConnections { at: self.0.clock.now(), sandboxes: self.0.in_use.open() }
    }

    /// The reasons why the directory is not complete: a kind has not been listed yet, or has not been watched for a
    /// minute. The gateway is ready if there are none.
    #[must_use]
    pub fn waiting_for(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if !self.0.ways.directory.is_complete() {
            reasons.push("the list of Sandboxes and their pods".to_owned());
        }
        reasons.extend(self.0.ways.outages.kinds().into_iter().map(|kind| format!("the watch of {kind}")));
        reasons
    }

    /// The pod that answers for this target now, without waiting, so that an open connection to it can be reused.
    /// `None` if the Sandbox is suspended, unknown, or its pod has no address yet: call [`Sandboxes::connect`].
    #[must_use]
    pub fn awake(&self, target: &Target, arrival: &Arrival) -> Option<Awake> {
        let name = Name::of(target);
        if self.0.ways.outages.is_stale() {
            return None;
        }
        let State::Running(running) = self.0.ways.directory.state(&name) else { return None };
        arrival.only.check(&target.name, &running.identity, self.0.clock.now()).ok()?;
        Some(Awake { endpoint: running.endpoint(target), mark: self.mark(name, &running, arrival) })
    }

    /// Checks that a credential admits to the Sandbox that has the name now, as far as that is known. The connection to the
    /// Sandbox is checked again.
    ///
    /// # Errors
    /// If the credential is for another Sandbox, or has ended.
    pub(crate) fn check_only(&self, target: &Target, only: &Only) -> Result<(), Refusal> {
        // Most credentials have no limit, and this is on the way of each request.
        if *only == Only::Any {
            return Ok(());
        }
        match self.0.ways.directory.identity(&Name::of(target)) {
            Some(identity) => only.check(&target.name, &identity, self.0.clock.now()),
            None if self.is_complete() => only.check_absent(&target.name),
            None => Ok(()),
        }
    }

    /// Waits a moment until a credential admits to the Sandbox of the name. The client may have learned from its own watch
    /// that the claim has the Sandbox, or that a later Sandbox has the name.
    ///
    /// # Errors
    /// If the credential is for another Sandbox then, or has ended.
    pub(crate) async fn becomes(&self, target: &Target, only: &Only) -> Result<(), Refusal> {
        let (ways, name) = (&self.0.ways, Name::of(target));
        let mut follow = ways.directory.follow(&name);
        let until = Instant::now() + limits::ABSENT_GRACE;
        let Ok(_place) = ways.absent.take(&name, 0) else { return self.check_only(target, only) };
        loop {
            follow.seen();
            let Err(refusal) = self.check_only(target, only) else { return Ok(()) };
            tokio::select! {
                biased;
                () = follow.changed() => {}
                () = sleep_until(until) => return Err(refusal),
            }
        }
    }

    /// Opens a connection to the target. Wakes the Sandbox and holds the caller if necessary and allowed. Dials again
    /// while the port refuses connections, until `deadline`.
    ///
    /// # Errors
    /// If there is no such Sandbox, it may not be woken, a limit is reached, or the deadline has passed.
    pub async fn connect(&self, target: &Target, arrival: &Arrival, deadline: Instant) -> Result<Connected, Refusal> {
        let (running, stream) = Attempt::new(&self.0.ways, target, arrival, deadline).run().await?;
        Ok(self.connected(target, &running, stream, arrival))
    }

    /// Opens a connection for a client of a port of the gateway, as [`Sandboxes::connect`] does.
    ///
    /// # Errors
    /// Those of [`Sandboxes::connect`]. If the port does not stand for this Sandbox any more, there is no such Sandbox.
    pub(crate) async fn connect_port(
        &self,
        gateway_port: u16,
        of: &Allotment,
        arrival: &Arrival,
        deadline: Instant,
    ) -> Result<Connected, Refusal> {
        let target = of.target();
        let withdrawn = || {
            let detail = format!("port {gateway_port} of the gateway does not stand for Sandbox {target} any more");
            Refusal::new(Reason::SandboxNotFound, detail)
        };
        if self.allotment(gateway_port).as_ref() != Some(of) {
            return Err(withdrawn());
        }
        let attempt = Attempt::new(&self.0.ways, &target, arrival, deadline).of_sandbox(&of.uid);
        let (running, stream) = attempt.run().await?;
        // The connection may have been held for a while.
        if running.identity.sandbox != of.uid || self.allotment(gateway_port).as_ref() != Some(of) {
            return Err(withdrawn());
        }
        Ok(self.connected(&target, &running, stream, arrival))
    }

    /// The Sandbox and the port for which a port of the gateway stands. `None` while the watches do not work, because the
    /// port may stand for another Sandbox by now.
    pub(crate) fn allotment(&self, port: u16) -> Option<Allotment> {
        if self.0.ways.outages.is_stale() { None } else { self.0.ways.directory.allotment(port) }
    }

    /// The Sandbox and the port that the last known record names for a port of the gateway, for the listeners: each
    /// connection asks [`Sandboxes::connect_port`] whether that still counts.
    pub(crate) fn last_allotment(&self, port: u16) -> Option<Allotment> {
        self.0.ways.directory.allotment(port)
    }

    /// The ports of the gateway whose owner may have changed since the last call.
    pub(crate) fn changed_ports(&self) -> BTreeSet<u16> {
        self.0.ways.directory.changed_ports()
    }

    /// Completes when there are such ports, and after each complete list.
    pub(crate) async fn ports_changed(&self) {
        self.0.ways.directory.ports_changed().await;
    }

    /// The number of suspended Sandboxes to which ports of the gateway lead.
    pub(crate) fn suspended_with_ports(&self) -> usize {
        self.0.ways.directory.suspended_with_ports()
    }

    /// Whether the Sandboxes and their pods have been listed.
    pub(crate) fn is_complete(&self) -> bool {
        self.0.ways.directory.is_complete()
    }

    /// Whether the address of a client is that of a Sandbox's pod.
    #[must_use]
    pub fn is_pod(&self, client: IpAddr) -> bool {
        self.0.ways.directory.is_source(client)
    }

    fn connected(&self, target: &Target, running: &Running, stream: TcpStream, arrival: &Arrival) -> Connected {
        let activity = self.mark(Name::of(target), running, arrival).begin();
        Connected { stream, endpoint: running.endpoint(target), activity }
    }

    fn mark(&self, name: Name, running: &Running, arrival: &Arrival) -> Mark {
        let used = || Used { name, uid: running.identity.sandbox.clone(), pod_uid: running.pod_uid.clone() };
        Mark {
            of: match arrival.purpose {
                Purpose::Use => Some((self.0.in_use.clone(), used())),
                Purpose::Probe => None,
            },
        }
    }
}

impl Running {
    fn endpoint(&self, target: &Target) -> Endpoint {
        Endpoint { pod_uid: self.pod_uid.clone(), address: SocketAddr::new(self.address, target.port) }
    }
}

impl fmt::Debug for Sandboxes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sandboxes").field(&self.0.ways.directory).finish()
    }
}

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mark").field("of", &self.of.as_ref().map(|(_, used)| used)).finish()
    }
}

impl fmt::Debug for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Activity").field("busy", &self.busy.is_some()).finish()
    }
}

#[cfg(test)]
pub(crate) mod tests;
