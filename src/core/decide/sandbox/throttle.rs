//! The idle tier `throttle`: the pod of an idle Sandbox gets little CPU by a resize in place, and gets its CPU back when
//! the Sandbox is used.
//!
//! The status of the Sandbox records the CPU that the containers had. The record is written before the first resize, so
//! that a crash between both leaves no pod throttled for ever: whenever a record exists and the idle policy does not
//! throttle the Sandbox, the CPU is restored. A resize whose reply was lost may still be stored later, so the record stays
//! for some time after the CPU was restored. A request or limit that is neither the recorded one nor the throttled one was
//! changed by somebody else, and stays.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use paddock_api::kind::Kind;
use paddock_api::{ThrottleState, ThrottleStatus, ThrottledContainer};
use serde_json::{Map, Value, json};

use super::status::first_ready;
use crate::model::Quantity;
use crate::object::{ConditionStatus, ContainerCpu, Object, Pod, PodCondition, PodCpu};
use crate::plan::{Event, Op, Reason};
use crate::snapshot::{RefusedResize, SandboxSnapshot};
use crate::time::{saturating_add, time_left};

/// The time that a pod has to become Ready again, after it was not Ready with little CPU.
const RECOVER: std::time::Duration = std::time::Duration::from_secs(60);

/// What the idle policy wants for the CPU of the pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Wish {
    /// The containers have the CPU of their spec.
    #[default]
    Full,
    /// The containers have little CPU.
    Throttled,
}

/// The decision about the CPU of the pod.
#[derive(Debug, Default)]
pub(super) struct Throttling {
    /// The record for the status.
    pub(super) record: Option<Box<ThrottleStatus>>,
    /// The resize that restores the CPU.
    pub(super) restore: Option<Op>,
    /// The resize that lowers the CPU. The record is stored before it.
    pub(super) throttle: Option<Op>,
    /// The time of the next check.
    pub(super) check_at: Option<Timestamp>,
    pub(super) events: Vec<Event>,
    /// The Events that are sent if every write of the plan was stored.
    pub(super) results: Vec<Event>,
}

/// The reason why the pod cannot be throttled now. `None` if it can be, or is.
pub(super) fn obstacle(snapshot: &SandboxSnapshot, object: &Object, pod: &Pod) -> Option<String> {
    let Some(throttled) = snapshot.common.settings.throttle_cpu else {
        return Some("the operator runs without --throttle-cpu".to_owned());
    };
    let Some(PodCpu { containers, obstacle }) = pod.cpu() else {
        return Some("no container of its pod has a CPU limit; set resources.limits.cpu".to_owned());
    };
    if let Some(obstacle) = obstacle {
        return Some(obstacle.to_string());
    }
    let record = record_of(snapshot, object);
    match record {
        Some(record) if record.is_throttled() => match failure(snapshot, record, pod)? {
            (why, TakeBack::Now) => Some(why),
            (_, TakeBack::At(_)) => None,
        },
        Some(record) if record.state == ThrottleState::Failed && retry_at(snapshot, record).is_some() => {
            Some(record.reason.clone().unwrap_or_else(|| "an attempt failed".to_owned()))
        }
        Some(_) | None if starts(snapshot, object, pod) => Some("its pod was not Ready yet".to_owned()),
        Some(_) | None if containers.iter().all(|container| container.limit <= throttled) && record.is_none() => {
            Some(format!("the CPU limits of its pod are at most {} already", text(throttled)))
        }
        Some(_) | None => None,
    }
}

/// Whether a new pod may still become Ready for the first time, which needs its CPU. Later changes of its readiness do not
/// count, and neither do pods that replace it: code in the sandbox can stop its own readiness probe and get its pod
/// evicted, and so could have all of its CPU.
fn starts(snapshot: &SandboxSnapshot, object: &Object, pod: &Pod) -> bool {
    let Some(sandbox) = snapshot.sandbox.sandbox() else { return false };
    let timeout = sandbox.spec.as_ref().ok().and_then(|model| model.idle_timeout).unwrap_or_default();
    first_ready(&sandbox.status, pod).is_none()
        && time_left(object.meta.created, timeout, snapshot.common.now).is_some()
}

/// Decides about the CPU of the pod for which the status has a record, or which the idle policy throttles.
pub(super) fn decide(snapshot: &SandboxSnapshot, wish: Wish) -> Throttling {
    let recorded = || snapshot.sandbox.sandbox().and_then(|s| s.status.throttle.as_deref());
    let (record, found) = match (wish, recorded()) {
        (Wish::Full, None) => return Throttling::default(),
        (Wish::Full, Some(record)) => (Some(record), snapshot.pods.iter().find(|p| *p.meta.uid == *record.pod_uid)),
        (Wish::Throttled, record) => {
            let pod = snapshot.pods.first();
            (record.filter(|r| pod.is_some_and(|pod| *pod.meta.uid == *r.pod_uid)), pod)
        }
    };
    // The record of a pod that is gone ends with it. Nothing resizes a pod that ended or is terminating.
    let Some(object) = found else { return Throttling::default() };
    let live = object.pod().filter(|pod| object.meta.deletion_timestamp.is_none() && !pod.ended());
    let Some(pod) = live else { return Throttling::default() };
    // Without `--throttle-cpu`, the World has the CPU of resized pods alone. A resize may still be stored late.
    let containers = pod.cpu().map_or(&[][..], |cpu| &cpu.containers);
    let inputs = Inputs { snapshot, object, pod, containers };
    let failed = record.filter(|record| record.is_throttled()).and_then(|record| failure(snapshot, record, pod));
    match (wish, record, failed) {
        // The tier is not offered any more, so this is not the wish of the policy.
        (Wish::Full | Wish::Throttled, Some(record), Some((why, TakeBack::Now))) => inputs.take_back(record, why),
        (Wish::Full, Some(record), Some((_, TakeBack::At(_))) | None) => inputs.restore(record),
        (Wish::Full, None, _) => Throttling::default(),
        (Wish::Throttled, record, Some((_, TakeBack::At(due)))) => inputs.throttle(record, Some(due)),
        (Wish::Throttled, record, Some((_, TakeBack::Now)) | None) => inputs.throttle(record, None),
    }
}

/// The time until which the pod of a Sandbox that is suspended or ends may stay, because a process with little CPU may
/// not finish within its grace period. `None` if its CPU is restored, or was not restored in time.
pub(super) fn holds_delete(snapshot: &SandboxSnapshot, object: &Object) -> Option<Timestamp> {
    let record = record_of(snapshot, object)?;
    let has_little = |container: &ContainerCpu| {
        recorded(record, container).is_some_and(|former| container.applied_limit.is_some_and(|now| now < former.limit))
    };
    if !object.pod()?.cpu()?.containers.iter().any(has_little) {
        return None;
    }
    let (now, wait) = (snapshot.common.now, snapshot.common.settings.throttle_restore);
    match record.state {
        // The plan stores that the restore begins, and the wait counts from there. A status that cannot be stored holds
        // nothing.
        ThrottleState::Throttling | ThrottleState::Throttled => {
            snapshot.common.refused(Kind::Sandbox).is_none().then(|| saturating_add(now, wait))
        }
        ThrottleState::Restoring | ThrottleState::Failed => time_left(record.since.0, wait, now),
    }
}

/// The inputs of one decision.
struct Inputs<'a> {
    snapshot: &'a SandboxSnapshot,
    object: &'a Object,
    pod: &'a Pod,
    containers: &'a [ContainerCpu],
}

impl Inputs<'_> {
    /// Throttles the pod, or keeps it throttled. The node has until `due` to apply the resize. The resize waits for a
    /// snapshot whose status has the record: an API server with an older definition of Sandboxes drops it.
    fn throttle(&self, record: Option<&ThrottleStatus>, due: Option<Timestamp>) -> Throttling {
        let settings = &self.snapshot.common.settings;
        let Some(mut record) = record.filter(|record| record.is_throttled()).cloned() else {
            let record = settings.throttle_cpu.and_then(|limit| self.new_record(record, limit)).map(Box::new);
            let check_at = record.as_ref().map(|record| saturating_add(record.since.0, settings.throttle_apply));
            return Throttling { record, check_at, ..Throttling::default() };
        };
        let throttle = match record.state {
            ThrottleState::Throttling => {
                self.resize(Reason::IdleThrottled, |container| self.lowered(&record, container))
            }
            ThrottleState::Throttled | ThrottleState::Restoring | ThrottleState::Failed => None,
        };
        let due = due.or_else(|| throttle.as_ref().map(|_| saturating_add(record.since.0, settings.throttle_apply)));
        if throttle.is_none() {
            record.state = ThrottleState::Throttled;
        }
        Throttling { throttle, check_at: due, record: Some(Box::new(record)), ..Throttling::default() }
    }

    /// The record with which a throttle begins. While a container still has some of its throttled CPU, it is to have the
    /// recorded CPU again, and the limit of the throttle stays the same. Every other container is to have what it has now.
    fn new_record(&self, former: Option<&ThrottleStatus>, limit: u32) -> Option<ThrottleStatus> {
        let to_restore = |container: &ContainerCpu| {
            let wanted = self.wanted(former?, container)?;
            (wanted != Cpu::of(container)).then_some(wanted)
        };
        let restoring = self.containers.iter().any(|container| to_restore(container).is_some());
        let limit = former.filter(|_| restoring).and_then(|former| millicores(&former.cpu_limit)).unwrap_or(limit);
        let with_cpu = self.containers.iter().map(|c| (c, to_restore(c).unwrap_or_else(|| Cpu::of(c))));
        let containers: Vec<ThrottledContainer> = with_cpu
            .filter(|(_, cpu)| cpu.limit > limit)
            .map(|(container, cpu)| ThrottledContainer {
                name: container.name.to_string(),
                cpu_request: text(cpu.request),
                cpu_limit: text(cpu.limit),
            })
            .collect();
        let pod_uid = self.object.meta.uid.to_string();
        (!containers.is_empty()).then(|| ThrottleStatus {
            pod_uid,
            state: ThrottleState::Throttling,
            since: self.now(),
            cpu_limit: text(limit),
            reason: None,
            not_ready: former.and_then(|former| former.not_ready.clone()),
            containers,
        })
    }

    /// Takes back a throttle that failed.
    fn take_back(&self, record: &ThrottleStatus, why: String) -> Throttling {
        let (since, state) = (self.now(), ThrottleState::Failed);
        let note = format!("The pod is not throttled: {why}");
        let not_ready = record.not_ready.clone().or_else(|| (!self.pod.ready()).then(|| since.clone()));
        let failed = ThrottleStatus { state, since, reason: Some(why), not_ready, ..record.clone() };
        let mut throttling = self.restore(&failed);
        throttling.events.push(Event::warning(&self.snapshot.sandbox, Reason::ThrottleFailed, note));
        throttling
    }

    /// Gives the containers the CPU that they had. If the node has no room for the requests, or a quota does not allow
    /// them, the limits come first, because they need no room.
    fn restore(&self, record: &ThrottleStatus) -> Throttling {
        let settings = &self.snapshot.common.settings;
        let pending = pending(self.pod);
        let refused = refusal(self.snapshot, record);
        // A quota may refuse the requests, and a LimitRange limits without their requests. Both are tried in turn.
        let limits_first = refused.is_some_and(|refused| refused.times % 2 == 1);
        let restore =
            self.resize(Reason::ThrottleEnded, |container| self.restored(record, container, limits_first, &pending));
        let is_restored = |container: &ContainerCpu| {
            let Some((wanted, former)) = self.wanted(record, container).zip(recorded(record, container)) else {
                return true;
            };
            let has = Cpu::of(container);
            has == wanted && (has != former || container.applied_limit.is_none_or(|limit| limit == former.limit))
        };
        let begins = record.is_throttled();
        let since = if begins { self.now() } else { record.since.clone() };
        // A resize that throttles the pod may have got no reply, and may be stored for as long as this.
        let late = time_left(since.0, settings.unknown_timeout, self.snapshot.common.now);
        let restored = pending.is_none() && self.containers.iter().all(is_restored);
        let done = restored && late.is_none();
        let problem = refused
            .filter(|_| restore.is_some())
            .map(|refused| format!("the API server refused to restore the CPU of its pod: {}", refused.refusal.message))
            .or_else(|| not_restored_yet(self.pod));
        let after = match (record.state, done) {
            (ThrottleState::Failed, false) => Some(record.clone()),
            // The reason stays for as long as the pod is not throttled because of it.
            (ThrottleState::Failed, true) => {
                retry_at(self.snapshot, record).map(|_| ThrottleStatus { containers: vec![], ..record.clone() })
            }
            (ThrottleState::Throttling | ThrottleState::Throttled | ThrottleState::Restoring, true) => None,
            (ThrottleState::Throttling | ThrottleState::Throttled | ThrottleState::Restoring, false) => {
                let state = ThrottleState::Restoring;
                // The Sandbox is in use.
                Some(ThrottleStatus { state, since, reason: problem, not_ready: None, ..record.clone() })
            }
        };
        // No event reports that the pod may be throttled again, and an hour is as long as the longest idle check.
        let again = retry_at(self.snapshot, record).filter(|_| done && recovers(record));
        let note = "The pod gets back the CPU that it had";
        let ended = begins.then(|| Event::normal(&self.snapshot.sandbox, Reason::ThrottleEnded, note));
        Throttling {
            restore,
            record: after.map(Box::new),
            check_at: late.filter(|_| restored).or(again),
            results: ended.into_iter().collect(),
            ..Throttling::default()
        }
    }

    /// The CPU that a container gets back now. `None` if it has it, or the node has to act first.
    fn restored(
        &self,
        record: &ThrottleStatus,
        container: &ContainerCpu,
        limits_first: bool,
        pending: &Option<String>,
    ) -> Option<Cpu> {
        let (low, former) = (low(record, container)?, recorded(record, container)?);
        let (has, wanted) = (Cpu::of(container), self.wanted(record, container)?);
        let in_force = container.applied_limit.is_none_or(|limit| limit >= has.limit);
        let limit_alone = Cpu { request: has.request, limit: wanted.limit };
        if has.limit != wanted.limit {
            Some(if limits_first { limit_alone } else { wanted })
        } else if has != wanted {
            // The limit has to be in force before the node may defer the request.
            in_force.then_some(wanted)
        } else {
            let deferred = has == former && !in_force && pending.is_some() && low.request != former.request;
            deferred.then_some(Cpu { request: low.request, limit: former.limit })
        }
    }

    /// The CPU that a container is to have again. A request or limit that somebody else changed stays.
    fn wanted(&self, record: &ThrottleStatus, container: &ContainerCpu) -> Option<Cpu> {
        let (low, former) = (low(record, container)?, recorded(record, container)?);
        let has = Cpu::of(container);
        let limit = if has.limit == low.limit { former.limit } else { has.limit };
        let request = if has.request == low.request { former.request } else { has.request };
        Some(Cpu { request: request.min(limit), limit })
    }

    /// The CPU that a container of a throttled pod is to have. `None` if it has it, or the record does not name it.
    fn lowered(&self, record: &ThrottleStatus, container: &ContainerCpu) -> Option<Cpu> {
        low(record, container).filter(|low| Cpu::of(container) != *low)
    }

    /// One patch for all containers whose CPU changes.
    fn resize(&self, reason: Reason, target: impl Fn(&ContainerCpu) -> Option<Cpu>) -> Option<Op> {
        let mut lists: Map<String, Value> = Map::new();
        for container in self.containers {
            let Some(Cpu { request, limit }) = target(container) else { continue };
            let resources = json!({ "requests": { "cpu": text(request) }, "limits": { "cpu": text(limit) } });
            let list = lists.entry(container.list.field()).or_insert_with(|| json!([]));
            if let Value::Array(list) = list {
                list.push(json!({ "name": container.name, "resources": resources }));
            }
        }
        (!lists.is_empty()).then(|| Op::resize_if_unchanged(self.object, reason, json!({ "spec": lists })))
    }

    fn now(&self) -> Time {
        let now = self.snapshot.common.now;
        Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
    }
}

/// The CPU of a container, in thousandths of a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cpu {
    request: u32,
    limit: u32,
}

impl Cpu {
    fn of(container: &ContainerCpu) -> Self {
        Self { request: container.request, limit: container.limit }
    }
}

/// When a throttle that is not as it should be is taken back.
enum TakeBack {
    Now,
    /// At this time, unless the node applies it before.
    At(Timestamp),
}

/// The reason why a throttled pod is not as it should be, and when the throttle is taken back. `None` if it is in force, or
/// the resize is not stored yet.
fn failure(snapshot: &SandboxSnapshot, record: &ThrottleStatus, pod: &Pod) -> Option<(String, TakeBack)> {
    let settings = &snapshot.common.settings;
    let of_record: Vec<(&ContainerCpu, Cpu)> =
        pod.cpu()?.containers.iter().filter_map(|container| Some((container, low(record, container)?))).collect();
    // A server may need its CPU to become Ready again. Code that is never Ready with little CPU stays throttled.
    if !pod.ready() && record.not_ready.is_none() {
        return Some(("its pod was not Ready with little CPU".to_owned(), TakeBack::Now));
    }
    let mut others = of_record.iter().filter(|(container, low)| Cpu::of(container) != *low);
    if let Some((container, low)) = others.next() {
        let by_us = |(container, low): &(&ContainerCpu, Cpu)| {
            let former = recorded(record, container);
            let has = Cpu::of(container);
            has == *low || former.is_some_and(|f| has == f || has == Cpu { request: low.request, limit: f.limit })
        };
        let not_stored_yet = record.state == ThrottleState::Throttling && of_record.iter().all(by_us);
        return match refusal(snapshot, record).filter(|_| not_stored_yet) {
            Some(refused) => {
                Some((format!("the API server refused the resize: {}", refused.refusal.message), TakeBack::Now))
            }
            None if not_stored_yet => None,
            None => Some((
                format!("somebody else resized its pod: container {} has not {}", container.name, text(low.limit)),
                TakeBack::Now,
            )),
        };
    }
    if let Some(condition) = condition(pod, "PodResizePending").filter(|c| &*c.reason == "Infeasible") {
        return Some((format!("the node cannot resize its pod: {}", reason_and_message(condition)), TakeBack::Now));
    }
    if of_record.iter().all(|(container, low)| container.applied_limit == Some(low.limit)) {
        return None;
    }
    let shown = condition(pod, "PodResizePending").or_else(|| condition(pod, "PodResizeInProgress"));
    let why = shown.map_or_else(|| "its status shows no resize".to_owned(), reason_and_message);
    let waited = settings.throttle_apply;
    let why = format!("the node did not resize its pod within {} s: {why}", waited.as_secs());
    Some((why, time_left(record.since.0, waited, snapshot.common.now).map_or(TakeBack::Now, TakeBack::At)))
}

/// The CPU that a container has while it is throttled. `None` if the record does not name it.
fn low(record: &ThrottleStatus, container: &ContainerCpu) -> Option<Cpu> {
    let former = recorded(record, container)?;
    let limit = millicores(&record.cpu_limit)?.min(former.limit);
    // The request stays below the limit. Otherwise the QoS class could become Guaranteed, which the API server refuses.
    Some(Cpu { request: former.request.min(limit / 2), limit })
}

/// The refusal of a resize that the record is about.
fn refusal<'a>(snapshot: &'a SandboxSnapshot, record: &ThrottleStatus) -> Option<&'a RefusedResize> {
    snapshot.refused_resize.as_ref().filter(|refused| refused.refusal.at >= record.since.0)
}

/// The node's reason why it has not applied a resize, while it has not.
fn pending(pod: &Pod) -> Option<String> {
    condition(pod, "PodResizePending").map(reason_and_message)
}

/// The reason why the node has not restored the CPU, as a sentence.
fn not_restored_yet(pod: &Pod) -> Option<String> {
    let pending = condition(pod, "PodResizePending").map(|found| {
        let infeasible = &*found.reason == "Infeasible";
        (if infeasible { "cannot resize its pod" } else { "has no room for the CPU requests of its pod yet" }, found)
    });
    let failed = || {
        let found = condition(pod, "PodResizeInProgress").filter(|c| &*c.reason == "Error")?;
        Some(("failed to resize its pod, and tries again", found))
    };
    pending.or_else(failed).map(|(what, found)| format!("the node {what}: {}", reason_and_message(found)))
}

fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.condition(kind).filter(|condition| condition.status == ConditionStatus::True)
}

fn reason_and_message(condition: &PodCondition) -> String {
    match (&*condition.reason, &*condition.message) {
        ("", "") => condition.kind.to_owned(),
        (reason, "") => reason.to_owned(),
        (reason, message) => format!("{reason}: {message}"),
    }
}

/// The record of this pod.
fn record_of<'a>(snapshot: &'a SandboxSnapshot, pod: &Object) -> Option<&'a ThrottleStatus> {
    let record = snapshot.sandbox.sandbox()?.status.throttle.as_deref()?;
    (*record.pod_uid == *pod.meta.uid).then_some(record)
}

/// The recorded CPU of a container.
fn recorded(record: &ThrottleStatus, container: &ContainerCpu) -> Option<Cpu> {
    let of_container = record.containers.iter().find(|of| *of.name == *container.name)?;
    Some(Cpu { request: millicores(&of_container.cpu_request)?, limit: millicores(&of_container.cpu_limit)? })
}

/// The time from which a pod may be throttled again after a failure. `None` if it may.
fn retry_at(snapshot: &SandboxSnapshot, record: &ThrottleStatus) -> Option<Timestamp> {
    let wait = if recovers(record) { RECOVER } else { snapshot.common.settings.throttle_retry };
    time_left(record.since.0, wait, snapshot.common.now)
}

/// Whether the last throttle of the pod was taken back because the pod was not Ready.
fn recovers(record: &ThrottleStatus) -> bool {
    record.state == ThrottleState::Failed && record.not_ready.as_ref() == Some(&record.since)
}

fn millicores(quantity: &str) -> Option<u32> {
    Quantity::parse(quantity)?.millicores()
}

fn text(millicores: u32) -> String {
    format!("{millicores}m")
}

#[cfg(test)]
mod tests;
