//! The Sandboxes and their pods as the watches show them, and the state of each Sandbox for those who wait for it.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use paddock_api::document::Document;
use paddock_api::{OperatingMode, activity};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::allotments::{Allotment, Allotments};
use super::limits;
use super::observed::{Name, Pod, Sandbox, Stage, Wakes};
use crate::only::Identity;

/// The state of a Sandbox, as far as a request depends on it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum State {
    /// The Sandboxes or the pods are not known yet.
    Unknown,
    /// There is no such Sandbox, or it is being deleted.
    Absent,
    /// The Sandbox belongs to a pool, and no claim has taken it.
    Warm,
    /// The Sandbox has expired, or its workload has finished.
    Ended,
    /// The Sandbox is suspended.
    Suspended(Wakes),
    /// The Sandbox is to run and has no pod with an address yet. The message says why it is not Ready, if it does.
    Starting(Option<Arc<str>>),
    /// The Sandbox has a pod with an address. Nothing says that its port is open.
    Running(Running),
}

/// The pod of a running Sandbox.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Running {
    pub(crate) identity: Identity,
    pub(crate) pod_uid: Arc<str>,
    pub(crate) address: IpAddr,
    /// The time at which its containers were started, as far as this process knows.
    pub(crate) started: Instant,
}

/// The facts that a write of a Sandbox needs.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) uid: Arc<str>,
    pub(crate) resource_version: Arc<str>,
    pub(crate) number: u64,
}

/// A Sandbox that is known by the address of its pod.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) name: Name,
    pub(crate) version: Version,
    pub(crate) pod_uid: Arc<str>,
    /// Whether the Sandbox has an idle policy.
    pub(crate) can_be_idle: bool,
}

/// The directory. Clones are handles on the same directory.
#[derive(Clone, Default)]
pub(crate) struct Directory(Arc<Mutex<Tables>>);

#[derive(Default)]
struct Tables {
    sandboxes: HashMap<Name, Sandbox>,
    /// The ports of the gateway that stand for their ports.
    allotments: Allotments,
    pods: HashMap<Name, Pod>,
    /// The pods with each address. There may be several for a moment, while an address passes on.
    sources: HashMap<IpAddr, Vec<Name>>,
    /// The Sandboxes for whose states somebody waits.
    followed: HashMap<Name, watch::Sender<Seen>>,
    listed: Listed,
}

/// What those who wait for a Sandbox are told about.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) state: State,
    /// `None` if there is no such Sandbox, or if it is being deleted.
    pub(crate) identity: Option<Identity>,
}

/// Which kinds have been listed.
#[derive(Clone, Copy, Debug, Default)]
struct Listed {
    sandboxes: bool,
    pods: bool,
}

/// Observes one Sandbox until it is dropped.
pub(crate) struct Follow {
    name: Name,
    directory: Directory,
    states: Option<watch::Receiver<Seen>>,
}

impl Directory {
    /// The state of a Sandbox now.
    pub(crate) fn state(&self, name: &Name) -> State {
        self.0.lock().state(name)
    }

    /// Observes the states of a Sandbox.
    pub(crate) fn follow(&self, name: &Name) -> Follow {
        let mut tables = self.0.lock();
        let seen = tables.seen(name);
        let states = tables.followed.entry(name.clone()).or_insert_with(|| watch::channel(seen).0).subscribe();
        Follow { name: name.clone(), directory: self.clone(), states: Some(states) }
    }

    /// The version of a Sandbox that a request may wake now.
    pub(crate) fn wakeable(&self, name: &Name) -> Option<Version> {
        let tables = self.0.lock();
        let wakes = tables.state(name) == State::Suspended(Wakes::OnDemand);
        tables.sandboxes.get(name).filter(|_| wakes).map(Sandbox::at)
    }

    /// The version of a Sandbox whose record of activity has to move to the time `at`. Another process may have recorded
    /// a later use. Only a record in the future moves back. Another Sandbox of the name was not used.
    pub(crate) fn to_record(&self, name: &Name, uid: &str, at: Timestamp, now: Timestamp) -> Option<Version> {
        let tables = self.0.lock();
        let sandbox = tables.sandboxes.get(name).filter(|known| known.stage == Stage::InUse && &*known.uid == uid)?;
        let later = sandbox.last_activity.is_some_and(|recorded| recorded > at && recorded <= now);
        let (recorded, timeout) = (sandbox.last_activity, sandbox.idle_timeout?);
        let moves = activity::moves(recorded, at, timeout, sandbox.throttled, sandbox.idle_since);
        (moves && !later).then(|| sandbox.at())
    }

    /// Whether this pod answers for the Sandbox with this UID now.
    pub(crate) fn answers(&self, name: &Name, uid: &str, pod_uid: &str) -> bool {
        let state = self.0.lock().state(name);
        matches!(state, State::Running(running) if &*running.identity.sandbox == uid && &*running.pod_uid == pod_uid)
    }

    /// The Sandbox and the port for which a port of the gateway stands.
    pub(crate) fn allotment(&self, port: u16) -> Option<Allotment> {
        self.0.lock().allotments.of(port).cloned()
    }

    /// The ports of the gateway whose owner may have changed since the last call.
    pub(crate) fn changed_ports(&self) -> BTreeSet<u16> {
        self.0.lock().allotments.take_changed()
    }

    /// Completes when there are such ports, and after each complete list.
    pub(crate) async fn ports_changed(&self) {
        let news = self.0.lock().allotments.news.clone();
        news.notified().await;
    }

    /// The number of suspended Sandboxes to which ports of the gateway lead.
    pub(crate) fn suspended_with_ports(&self) -> usize {
        let tables = self.0.lock();
        tables.sandboxes.values().filter(|s| !s.tcp.is_empty() && s.mode == OperatingMode::Suspended).count()
    }

    /// Waits a moment until there is another version of a Sandbox than the one with this number.
    pub(crate) async fn newer(&self, name: &Name, version: u64) {
        let mut follow = self.follow(name);
        let newer = async {
            while self.version(name).is_some_and(|known| known <= version) {
                follow.seen();
                // A version with the same state does not tell those who follow.
                let _ = timeout(limits::CONFLICT_POLL, follow.changed()).await;
            }
        };
        let _ = timeout(limits::CONFLICT_WAIT, newer).await;
    }

    /// The Sandbox whose pod has this address. `None` if there is no such pod or more than one, or if the pod is not the one
    /// that answers for a Sandbox in use.
    pub(crate) fn caller(&self, address: IpAddr) -> Option<Caller> {
        let tables = self.0.lock();
        let [of_pod] = &**tables.sources.get(&address.to_canonical())? else { return None };
        let pod = tables.pods.get(of_pod)?;
        let name = Name { namespace: of_pod.namespace.clone(), name: pod.owner.name.clone() };
        let State::Running(running) = tables.state(&name) else { return None };
        let sandbox = tables.sandboxes.get(&name).filter(|_| running.pod_uid == pod.uid)?;
        Some(Caller {
            version: sandbox.at(),
            pod_uid: running.pod_uid,
            can_be_idle: sandbox.idle_timeout.is_some(),
            name,
        })
    }

    /// Whether a pod of a Sandbox has this address.
    pub(crate) fn is_source(&self, address: IpAddr) -> bool {
        self.0.lock().sources.contains_key(&address.to_canonical())
    }

    /// Whether the Sandbox of this name has this UID.
    pub(crate) fn has(&self, name: &Name, uid: &str) -> bool {
        self.0.lock().sandboxes.get(name).is_some_and(|sandbox| *sandbox.uid == *uid)
    }

    /// The UIDs of the Sandbox that has this name, unless it is being deleted.
    pub(crate) fn identity(&self, name: &Name) -> Option<Identity> {
        self.0.lock().identity(name)
    }

    /// The number of a Sandbox's version.
    pub(crate) fn version(&self, name: &Name) -> Option<u64> {
        self.0.lock().sandboxes.get(name).map(|sandbox| sandbox.version)
    }

    /// Whether both kinds have been listed.
    pub(crate) fn is_complete(&self) -> bool {
        self.0.lock().listed.both()
    }

    /// The numbers of Sandboxes and pods, for metrics.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        let tables = self.0.lock();
        (tables.sandboxes.len(), tables.pods.len())
    }

    /// Takes in a Sandbox that the watch showed.
    pub(crate) fn sandbox(&self, name: Name, sandbox: Sandbox) {
        let mut tables = self.0.lock();
        tables.put_sandbox(name.clone(), sandbox);
        tables.tell(&name);
    }

    /// Takes in the reply to a write. The watch may have shown already that the Sandbox was deleted since.
    pub(crate) fn replied(&self, name: Name, sandbox: Sandbox) {
        let mut tables = self.0.lock();
        if tables.sandboxes.get(&name).is_some_and(|known| known.uid == sandbox.uid) {
            tables.put_sandbox(name.clone(), sandbox);
            tables.tell(&name);
        }
    }

    /// Takes in the end of a Sandbox. A later one may have its name already.
    pub(crate) fn no_sandbox(&self, name: &Name, uid: &str) {
        let mut tables = self.0.lock();
        if tables.sandboxes.get(name).is_some_and(|known| &*known.uid == uid) {
            let before = tables.sandboxes.remove(name);
            tables.allotments.changes(name, before.as_ref(), None);
        }
        tables.tell(name);
    }

    /// Takes in a pod. `None` if no Sandbox controls the pod any more.
    pub(crate) fn pod(&self, name: Name, pod: Option<Pod>) {
        let mut tables = self.0.lock();
        let before = tables.put_pod(&name, pod);
        tables.tell_owner(&name, before);
    }

    /// Takes in the end of a pod.
    pub(crate) fn no_pod(&self, name: &Name, uid: &str) {
        let mut tables = self.0.lock();
        if tables.pods.get(name).is_some_and(|known| &*known.uid == uid) {
            let before = tables.put_pod(name, None);
            tables.tell_owner(name, before);
        }
    }

    /// Takes in a complete list of the Sandboxes.
    pub(crate) fn sandboxes(&self, listed: Vec<(Name, Sandbox)>) {
        let mut tables = self.0.lock();
        let mut before = std::mem::take(&mut tables.sandboxes);
        for (name, sandbox) in listed {
            // A reply may have shown a newer version than the list.
            if let Some(known) = before.remove(&name) {
                tables.sandboxes.insert(name.clone(), known);
            }
            tables.put_sandbox(name, sandbox);
        }
        for (name, gone) in &before {
            tables.allotments.changes(name, Some(gone), None);
        }
        tables.listed.sandboxes = true;
        tables.allotments.news.notify_one();
        tables.tell_all();
    }

    /// Takes in a complete list of the pods.
    pub(crate) fn pods(&self, listed: Vec<(Name, Option<Pod>)>) {
        let mut tables = self.0.lock();
        let mut before = std::mem::take(&mut tables.pods);
        tables.sources.clear();
        for (name, pod) in listed {
            if let Some(known) = before.remove(&name) {
                tables.add_pod(name.clone(), known);
            }
            tables.put_pod(&name, pod);
        }
        tables.listed.pods = true;
        tables.allotments.news.notify_one();
        tables.tell_all();
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sandboxes, pods) = self.sizes();
        f.debug_struct("Directory").field("sandboxes", &sandboxes).field("pods", &pods).finish_non_exhaustive()
    }
}

impl Listed {
    fn both(self) -> bool {
        self.sandboxes && self.pods
    }
}

impl Sandbox {
    fn at(&self) -> Version {
        Version { uid: self.uid.clone(), resource_version: self.resource_version.clone(), number: self.version }
    }

    fn identity(&self) -> Identity {
        Identity { sandbox: self.uid.clone(), claim: self.claim.clone() }
    }
}

impl Tables {
    fn put_sandbox(&mut self, name: Name, sandbox: Sandbox) {
        let known = self.sandboxes.get(&name);
        if known.is_none_or(|known| known.version <= sandbox.version) {
            self.allotments.changes(&name, known, Some(&sandbox));
            self.sandboxes.insert(name, sandbox);
        }
    }

    /// Returns the Sandbox that controlled the pod of this name before.
    fn put_pod(&mut self, name: &Name, pod: Option<Pod>) -> Option<Arc<str>> {
        let known = self.take_pod(name);
        let before = known.as_ref().map(|pod| pod.owner.name.clone());
        if let Some(mut pod) = pod {
            // Other changes of the pod do not start its containers again.
            if let Some(known) = known.filter(|known| known.is_as(&pod)) {
                pod.started = known.started;
            }
            self.add_pod(name.clone(), pod);
        }
        before
    }

    fn add_pod(&mut self, name: Name, pod: Pod) {
        for source in &pod.sources {
            self.sources.entry(*source).or_default().push(name.clone());
        }
        self.pods.insert(name, pod);
    }

    fn take_pod(&mut self, name: &Name) -> Option<Pod> {
        let pod = self.pods.remove(name)?;
        for source in &pod.sources {
            if let Entry::Occupied(mut pods) = self.sources.entry(*source) {
                pods.get_mut().retain(|pod| pod != name);
                if pods.get().is_empty() {
                    pods.remove();
                }
            }
        }
        Some(pod)
    }

    fn tell_owner(&mut self, pod: &Name, before: Option<Arc<str>>) {
        let after = self.pods.get(pod).map(|pod| pod.owner.name.clone());
        for name in [before, after].into_iter().flatten() {
            self.tell(&Name { namespace: pod.namespace.clone(), name });
        }
    }

    fn tell_all(&mut self) {
        let names: Vec<Name> = self.followed.keys().cloned().collect();
        names.iter().for_each(|name| self.tell(name));
    }

    fn tell(&mut self, name: &Name) {
        let Some(states) = self.followed.get(name) else { return };
        let now = self.seen(name);
        states.send_if_modified(|seen| {
            let changed = *seen != now;
            *seen = now;
            changed
        });
    }

    fn seen(&self, name: &Name) -> Seen {
        Seen { state: self.state(name), identity: self.identity(name) }
    }

    fn identity(&self, name: &Name) -> Option<Identity> {
        let sandbox = self.sandboxes.get(name).filter(|sandbox| sandbox.stage != Stage::Terminating)?;
        Some(sandbox.identity())
    }

    fn state(&self, name: &Name) -> State {
        if !self.listed.both() {
            return State::Unknown;
        }
        let Some(sandbox) = self.sandboxes.get(name) else { return State::Absent };
        match (sandbox.stage, sandbox.mode) {
            (Stage::Terminating, _) => State::Absent,
            (Stage::Warm, _) => State::Warm,
            (Stage::Expired, _) => State::Ended,
            (Stage::Finished, OperatingMode::Running) if !sandbox.resuming => State::Ended,
            (Stage::InUse | Stage::Finished, OperatingMode::Running) => self.pod_of(name, sandbox),
            (Stage::InUse | Stage::Finished, OperatingMode::Suspended) => State::Suspended(sandbox.wakes()),
        }
    }

    fn pod_of(&self, name: &Name, sandbox: &Sandbox) -> State {
        let starting = || State::Starting(sandbox.not_ready.clone());
        // The operator may be about to delete the pod of the time before the suspend.
        if sandbox.resuming {
            return starting();
        }
        let pod_name = sandbox.pod_name.as_ref().unwrap_or(&name.name);
        let pod = self.pods.get(&Name { namespace: name.namespace.clone(), name: pod_name.clone() });
        // Another object may have had the Sandbox's name before.
        let owned = pod.filter(|pod| pod.owner.name == name.name && pod.owner.uid == sandbox.uid);
        let Some((pod, address)) = owned.and_then(|pod| Some((pod, pod.address?))) else { return starting() };
        let (identity, pod_uid) = (sandbox.identity(), pod.uid.clone());
        State::Running(Running { identity, pod_uid, address, started: pod.started })
    }
}

impl Follow {
    /// The state and the identity now, of one moment.
    pub(crate) fn seen(&mut self) -> Seen {
        match &mut self.states {
            Some(states) => states.borrow_and_update().clone(),
            None => Seen { state: State::Absent, identity: None },
        }
    }

    /// Waits until the state or the identity differs from the time of the last [`Follow::seen`].
    pub(crate) async fn changed(&mut self) {
        match &mut self.states {
            // The directory keeps the sender for as long as somebody follows.
            Some(states) => drop(states.changed().await),
            None => std::future::pending().await,
        }
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        let mut tables = self.directory.0.lock();
        self.states = None;
        if tables.followed.get(&self.name).is_some_and(|states| states.receiver_count() == 0) {
            tables.followed.remove(&self.name);
        }
    }
}

/// The name of an object.
pub(crate) fn name_of(document: &Document) -> Name {
    let text = |text: &Option<String>| Arc::from(text.as_deref().unwrap_or_default());
    Name { namespace: text(&document.metadata.namespace), name: text(&document.metadata.name) }
}

#[cfg(test)]
mod tests;
