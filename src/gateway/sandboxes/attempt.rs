//! One request on its way to its Sandbox: it waits for the Sandbox, wakes it if necessary, and dials its port.

use std::net::SocketAddr;
use std::sync::Arc;

use paddock_kube::clock::Clock;
use paddock_kube::traces;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tracing::{Level, event};

use super::dial::{Dial, Port};
use super::directory::{Directory, Follow, Running, Seen, State};
use super::feed::Outages;
use super::hold::{Full, Hold, Holds};
use super::limits;
use super::metrics::{Metrics, Phase};
use super::observed::{Name, Wakes};
use super::wake::{Wake, Woken};
use crate::arrival::{Arrival, Purpose};
use crate::refusal::{Reason, Refusal, SandboxState, unreachable};
use crate::target::Target;

/// What an attempt uses on its way.
pub(super) struct Ways {
    pub(super) metrics: Metrics,
    pub(super) directory: Directory,
    pub(super) dial: Dial,
    pub(super) holds: Holds,
    /// The requests for Sandboxes that do not exist.
    pub(super) absent: Holds,
    pub(super) wake: Wake,
    pub(super) outages: Outages,
    pub(super) clock: Clock,
}

/// The attempt of one request to reach its Sandbox.
pub(super) struct Attempt<'a> {
    ways: &'a Ways,
    target: &'a Target,
    arrival: &'a Arrival,
    name: Name,
    /// The UID of the only Sandbox of the name that counts. `None` if each of the name does.
    uid: Option<&'a str>,
    begun: Instant,
    deadline: Instant,
    /// The places of the request, from the first time at which it has to wait.
    hold: Option<Hold>,
    /// The phase of a wake that has begun, and its time. `None` if the Sandbox was not suspended.
    phase: Option<(Phase, Instant)>,
}

/// The next step of an attempt.
enum Step {
    /// Look at the state again when it has changed, or fail at this time.
    Wait(Instant, Refusal),
    /// Look at the state again now.
    Again,
    /// The port answered.
    Open(Running, TcpStream),
}

impl<'a> Attempt<'a> {
    pub(super) fn new(ways: &'a Ways, target: &'a Target, arrival: &'a Arrival, deadline: Instant) -> Self {
        let begun = Instant::now();
        let deadline = deadline.min(begun + ways.holds.time());
        Self { ways, target, arrival, name: Name::of(target), uid: None, begun, deadline, hold: None, phase: None }
    }

    /// The attempt wakes and dials only the Sandbox with this UID.
    pub(super) fn of_sandbox(self, uid: &'a str) -> Self {
        Self { uid: Some(uid), ..self }
    }

    pub(super) async fn run(mut self) -> Result<(Running, TcpStream), Refusal> {
        if self.ways.outages.is_stale() {
            let detail = "the gateway has not seen the Sandboxes for too long";
            return Err(Refusal::new(Reason::NotReady, detail).retry_after(limits::RETRY_AFTER));
        }
        let mut follow = self.ways.directory.follow(&self.name);
        loop {
            let Seen { state, identity } = follow.seen();
            if state != State::Unknown && self.uid.is_some_and(|uid| !self.ways.directory.has(&self.name, uid)) {
                return Err(self.not_found());
            }
            if let Some(identity) = &identity {
                self.arrival.only.check(&self.target.name, identity, self.ways.clock.now())?;
            }
            let step = match state {
                State::Running(running) => {
                    self.ended(Phase::Pod, Some(Phase::Port));
                    tokio::select! {
                        biased;
                        step = self.dial(running) => step?,
                        // Another pod may have another address.
                        () = follow.changed() => Step::Again,
                    }
                }
                State::Suspended(Wakes::OnDemand) if self.arrival.purpose == Purpose::Use => {
                    // A Sandbox that is being deleted counts as absent, so a suspended one has an identity.
                    let Some(identity) = identity else { return Err(self.not_found()) };
                    self.wake(&identity.sandbox).await?
                }
                State::Absent if self.arrival.purpose == Purpose::Use => self.appears(&mut follow).await?,
                state @ (State::Unknown
                | State::Absent
                | State::Warm
                | State::Ended
                | State::Suspended(_)
                | State::Starting(_)) => self.refuse_or_wait(&state)?,
            };
            match step {
                Step::Again => {}
                Step::Open(running, stream) => {
                    self.ended(Phase::Port, None);
                    // Another Sandbox may have the name since the state was read, and the credential may have ended.
                    self.arrival.only.check(&self.target.name, &running.identity, self.ways.clock.now())?;
                    return Ok((running, stream));
                }
                Step::Wait(until, refusal) => {
                    self.hold()?;
                    tokio::select! {
                        biased;
                        () = follow.changed() => {}
                        () = sleep_until(until.min(self.deadline)) => return Err(refusal),
                    }
                }
            }
        }
    }

    /// What a state means for a request, if nobody has to be asked.
    fn refuse_or_wait(&self, state: &State) -> Result<Step, Refusal> {
        let name = &self.target.name;
        match (state, self.arrival.purpose) {
            (State::Unknown, _) => {
                let detail = "the gateway has not read the Sandboxes yet";
                Ok(Step::Wait(self.deadline, Refusal::new(Reason::NotReady, detail).retry_after(limits::RETRY_AFTER)))
            }
            // A Sandbox that no claim has taken is nobody's yet.
            (State::Absent | State::Warm, _) => Err(self.not_found()),
            (State::Ended, _) => {
                let detail = format!("Sandbox {name} has expired or finished, and requests do not start it again");
                Err(Refusal::new(Reason::Ended, detail).state(SandboxState::Ended))
            }
            (State::Suspended(Wakes::ManualPolicy), _) => Err(suspended(
                Reason::Suspended,
                format!("Sandbox {name} is suspended, and its resumePolicy is Manual: set its mode to Running"),
            )),
            (State::Suspended(Wakes::SuspendedByUser), _) => Err(suspended(
                Reason::Suspended,
                format!("Sandbox {name} was suspended by a user, so requests do not wake it: set its mode to Running"),
            )),
            (State::Suspended(Wakes::OnDemand), Purpose::Probe) => Err(suspended(
                Reason::SuspendedForProbes,
                format!("Sandbox {name} is suspended, and probes do not wake it"),
            )),
            (State::Starting(_), Purpose::Probe) => {
                let detail = format!("Sandbox {name} is starting, and probes do not wait for it");
                Err(Refusal::new(Reason::SuspendedForProbes, detail).state(SandboxState::Waking))
            }
            (State::Starting(message), Purpose::Use) => {
                Ok(Step::Wait(self.deadline, self.too_late(message.as_deref())))
            }
            // The caller wakes the Sandbox, and handles a pod with an address.
            (State::Suspended(Wakes::OnDemand), Purpose::Use) | (State::Running(_), _) => Ok(Step::Again),
        }
    }

    /// Waits a moment for a Sandbox that another watch may have shown to the client already.
    async fn appears(&self, follow: &mut Follow) -> Result<Step, Refusal> {
        let until = (self.begun + limits::ABSENT_GRACE).min(self.deadline);
        // Requests for names of nothing have places of their own.
        let Ok(_place) = self.ways.absent.take(&self.name, self.arrival.held_bytes) else {
            return Err(self.not_found());
        };
        tokio::select! {
            biased;
            () = follow.changed() => Ok(Step::Again),
            () = sleep_until(until) => Err(self.not_found()),
        }
    }

    async fn wake(&mut self, uid: &Arc<str>) -> Result<Step, Refusal> {
        self.hold()?;
        self.phase.get_or_insert_with(|| (Phase::Write, Instant::now()));
        let woken = tokio::select! {
            biased;
            woken = self.ways.wake.wake(&self.name, uid) => woken,
            () = sleep_until(self.deadline) => return Err(self.too_late(None)),
        };
        let failed = |why: String| {
            let detail = format!("Sandbox {} could not be woken: {why}", self.target.name);
            suspended(Reason::WakeFailed, detail).retry_after(limits::RETRY_AFTER)
        };
        match woken {
            Woken::Written | Woken::NotNeeded => {
                self.ended(Phase::Write, Some(Phase::Pod));
                Ok(Step::Again)
            }
            Woken::Refused(why) => Err(failed(format!("the API server refused the write: {why}"))),
            Woken::Failed => Err(failed("the API server cannot be asked now".to_owned())),
        }
    }

    /// Dials the port. The future is dropped when the Sandbox gets another pod.
    async fn dial(&mut self, running: Running) -> Result<Step, Refusal> {
        let address = SocketAddr::new(running.address, self.target.port);
        let begun = Instant::now();
        let opened = |ways: &Ways, running, stream| {
            ways.metrics.dial_time(begun.elapsed());
            Ok(Step::Open(running, stream))
        };
        if let Some(stream) = self.ways.dial.once(address).await {
            return opened(self.ways, running, stream);
        }
        if self.arrival.purpose == Purpose::Probe {
            return Err(self.closed());
        }
        self.hold()?;
        // A container that has just been started opens its port soon.
        let until = (running.started + limits::START_GRACE).max(begun + limits::DIAL_GRACE).min(self.deadline);
        let port = Port { pod_uid: running.pod_uid.clone(), address };
        tokio::select! {
            biased;
            stream = self.ways.dial.until_open(&port) => opened(self.ways, running, stream),
            () = sleep_until(until) => Err(self.closed()),
        }
    }

    /// The refusal of a request for no Sandbox.
    fn not_found(&self) -> Refusal {
        Refusal::new(Reason::SandboxNotFound, unreachable(self.target)).state(SandboxState::NotFound)
    }

    /// The refusal of a request whose port is closed.
    fn closed(&self) -> Refusal {
        Refusal::new(Reason::Unreachable, unreachable(self.target)).state(SandboxState::Running)
    }

    /// Takes the places of a held request, unless it has them.
    fn hold(&mut self) -> Result<(), Refusal> {
        if self.hold.is_some() {
            return Ok(());
        }
        let full = match self.ways.holds.take(&self.name, self.arrival.held_bytes) {
            Ok(hold) => {
                self.hold = Some(hold);
                return Ok(());
            }
            Err(full) => full,
        };
        let (limit, whose) = match full {
            Full::Sandbox => ("sandbox", format!("Sandbox {}", self.target.name)),
            Full::Namespace => ("namespace", format!("namespace {}", self.target.namespace)),
        };
        self.ways.metrics.not_held(limit);
        let detail = format!("as many requests for {whose} as allowed wait already");
        let refusal = Refusal::new(Reason::HoldLimit, detail).retry_after(limits::RETRY_AFTER);
        Err(refusal.state(SandboxState::Waking))
    }

    /// The refusal of a request that waited for too long.
    fn too_late(&self, message: Option<&str>) -> Refusal {
        let why = message.map(|message| format!(": {message}")).unwrap_or_default();
        let detail = format!("Sandbox {} did not start in time{why}", self.target.name);
        let refusal = Refusal::new(Reason::WakeTimeout, detail).retry_after(limits::RETRY_AFTER);
        refusal.state(SandboxState::Waking)
    }

    /// Records the end of a phase, if it is the one that has begun.
    fn ended(&mut self, phase: Phase, next: Option<Phase>) {
        if let Some((_, since)) = self.phase.filter(|(begun, _)| *begun == phase) {
            self.ways.metrics.phase(phase, since.elapsed());
            let (name, milliseconds): (&str, _) = (phase.into(), since.elapsed().as_secs_f64() * 1000.0);
            event!(target: traces::TARGET, Level::INFO, milliseconds, "{name}");
            self.phase = next.map(|next| (next, Instant::now()));
        }
    }
}

fn suspended(reason: Reason, detail: String) -> Refusal {
    Refusal::new(reason, detail).state(SandboxState::Suspended)
}
