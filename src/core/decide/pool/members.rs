//! The members of a pool, classified.

use std::time::Duration;

use jiff::Timestamp;
use paddock_api::kind::Kind;
use paddock_api::names::{condition, label, reason};

use crate::conditions::{find_condition, is_true};
use crate::decide::pool_size::PoolCounts;
use crate::manifest;
use crate::marker::marker_of_all;
use crate::object::{ConditionStatus, Pod};
use crate::snapshot::{Common, Member, NodeState, PoolSnapshot};
use crate::time::{saturating_add, time_left};

/// The minimum age of an unusable Sandbox before it is replaced. Otherwise a template whose pods always fail would make
/// the pool create and delete Sandboxes in a tight loop. If pods end in a row, the World says a larger age.
const REPLACE_EVERY: Duration = Duration::from_secs(10);

/// The reason of `PodScheduled` with which the scheduler says that it found no node.
const UNSCHEDULABLE: &str = "Unschedulable";

/// The members of the pool, classified. Terminating members are in no class.
#[derive(Default)]
pub(super) struct Members<'a> {
    pub(super) ready: Vec<&'a Member>,
    pub(super) creating: Vec<&'a Member>,
    pub(super) stale: Vec<&'a Member>,
    pub(super) unusable: Vec<&'a Member>,
    /// The number of members of `unusable` that were starting or terminating for too long.
    pub(super) stuck: usize,
    /// The time at which the next member will have been starting or terminating for too long.
    pub(super) stuck_at: Option<Timestamp>,
    /// The first member for whose pod the scheduler has found no node for too long.
    pub(super) unscheduled: Option<&'a Member>,
    /// The time at which there will be such a member, or another one.
    pub(super) unscheduled_at: Option<Timestamp>,
    /// The number of members with a pending take or delete. They count as members until the write is confirmed.
    pub(super) leaving: usize,
}

impl<'a> Members<'a> {
    pub(super) fn of(snapshot: &'a PoolSnapshot) -> Self {
        let template = snapshot.template.as_ref();
        let sources = [Some(&*snapshot.pool), snapshot.template.as_deref()];
        let isolate = snapshot.common.namespace_isolates || marker_of_all(sources).is_generated_code();
        let model = snapshot.pool.pool().and_then(|pool| pool.spec.as_ref().ok());
        let grace = model.and_then(|m| m.readiness_grace).unwrap_or(snapshot.common.settings.pool_readiness_grace);
        let mut members = Self::default();
        for member in snapshot.members.iter().filter(|m| m.sandbox.meta.deletion_timestamp.is_none()) {
            let hash = member.sandbox.meta.labels.get(label::TEMPLATE_HASH);
            let stale = template.is_some_and(|template| {
                hash != Some(template.template_hash()) || member.sandbox.template.as_deref() != Some(&template.key)
            });
            let stuck_at = stuck_at(member, grace, &snapshot.common);
            let stuck = stuck_at.is_some_and(|at| at <= snapshot.common.now);
            let list = if member.leaving {
                members.leaving += 1;
                continue;
            } else if is_unusable(member)
                || (isolate || manifest::recorded_marker(&member.sandbox).is_generated_code())
                    && is_exposed(member, &snapshot.common)
                // A stale member without a pod is of no use to anybody, and its pod may be refused for ever.
                || stale && member.pod.is_none()
            {
                &mut members.unusable
            } else if stuck {
                members.stuck += 1;
                &mut members.unusable
            } else if stale {
                &mut members.stale
            } else if is_ready(member) {
                &mut members.ready
            } else {
                &mut members.creating
            };
            list.push(member);
            members.stuck_at =
                members.stuck_at.into_iter().chain(stuck_at.filter(|at| *at > snapshot.common.now)).min();
        }
        for member in &members.creating {
            match unscheduled_at(member, grace) {
                Some(at) if at <= snapshot.common.now => members.unscheduled = members.unscheduled.or(Some(*member)),
                Some(at) => members.unscheduled_at = members.unscheduled_at.into_iter().chain([at]).min(),
                None => {}
            }
        }
        members
    }

    /// The members of the current template that may become Ready.
    pub(super) fn fresh(&self) -> impl Iterator<Item = &'a Member> {
        [&self.ready, &self.creating].into_iter().flatten().copied()
    }

    /// The counts that the refill depends on.
    pub(super) fn counts(&self, snapshot: &PoolSnapshot) -> PoolCounts {
        PoolCounts {
            ready: self.ready.len(),
            creating: self.creating.len(),
            leaving: self.leaving,
            sent: snapshot.creating.len(),
            with_pod: self.fresh().filter(|member| member.pod.is_some()).count(),
            alive: self.alive(),
        }
    }

    /// The number of Sandboxes to create now. The pool adds none while a member without a pod reports a problem. A quota
    /// on pods does not count Sandboxes, and stops the pool all the same.
    pub(super) fn to_create(
        &self,
        counts: PoolCounts,
        desired: usize,
        maximum: usize,
        snapshot: &PoolSnapshot,
    ) -> usize {
        if self.without_pod_because(snapshot).is_some() {
            return 0;
        }
        // A member whose replacement waits longer keeps its place. Otherwise the pool would make others beside it.
        let waiting = self.unusable.iter().filter(|member| waits_longer(member, snapshot)).count();
        counts.to_create(desired.saturating_sub(waiting), maximum, &snapshot.common.settings)
    }

    /// The reason why the pool waits longer before it replaces a member, if the pods of its members end in a row.
    pub(super) fn pods_end_because(&self, snapshot: &PoolSnapshot) -> Option<String> {
        if !pods_end_in_a_row(snapshot) {
            return None;
        }
        let ended = self.unusable.iter().filter(|member| waits_longer(member, snapshot)).find_map(|member| {
            let pod = member.pod.as_ref()?.pod()?;
            let why = pod.message.as_deref().or(pod.reason.as_deref()).unwrap_or(&*pod.phase);
            Some(format!(
                "pods of this pool end soon after their start, so the pool waits longer before it replaces them; the last \
                 one is of Sandbox {}: {why}",
                member.sandbox.key.name
            ))
        });
        // Nothing is known about the next pods while they start, so the last message stays.
        let reported = || {
            let ready = find_condition(&snapshot.pool.pool()?.status.conditions, condition::READY)?;
            (ready.reason == reason::POD_FAILED).then(|| ready.message.clone())
        };
        ended.or_else(reported)
    }

    /// The reason why a member has no pod, if there is a reason: the API server refused the pod, or the Sandbox reports
    /// another problem.
    pub(super) fn without_pod_because(&self, snapshot: &PoolSnapshot) -> Option<String> {
        self.fresh().filter(|member| member.pod.is_none()).find_map(|member| {
            let name = &member.sandbox.key.name;
            let pod = member.sandbox.key.sibling(Kind::Pod, manifest::pod_name(&member.sandbox));
            let refused = snapshot.common.refusals.iter().find(|(key, _)| *key == pod);
            let problem = refused.map(|(_, refusal)| format!("the API server refused it: {}", refusal.message));
            let reported = || {
                let conditions = &member.sandbox.sandbox()?.status.conditions;
                let ready = find_condition(conditions, condition::READY).filter(|ready| ready.status == "False")?;
                (ready.reason != reason::DEPENDENCIES_NOT_READY).then(|| ready.message.clone())
            };
            problem.or_else(reported).map(|problem| format!("Sandbox {name} has no pod: {problem}"))
        })
    }

    /// The reason why a member has had no node for too long, if there is such a member. The pool does not replace it, because
    /// the scheduler would find no node for its replacement either.
    pub(super) fn without_node_because(&self) -> Option<String> {
        let member = self.unscheduled?;
        let name = &member.sandbox.key.name;
        let scheduled = member.pod.as_ref()?.pod()?.condition(condition::POD_SCHEDULED)?;
        Some(format!("Sandbox {name} has no node: {}", scheduled.message))
    }

    pub(super) fn alive(&self) -> usize {
        self.ready.len() + self.creating.len() + self.stale.len() + self.unusable.len() + self.leaving
    }
}

/// The age from which an unusable member is replaced.
pub(super) fn replaced_from_age(member: &Member, snapshot: &PoolSnapshot) -> Duration {
    if ended_by_itself(member) { snapshot.replaced_from_age } else { REPLACE_EVERY }
}

/// Whether the replacement of a member waits longer, because its pod ended soon, as the pods before it did.
fn waits_longer(member: &Member, snapshot: &PoolSnapshot) -> bool {
    let waits = || time_left(member.sandbox.meta.created, snapshot.replaced_from_age, snapshot.common.now).is_some();
    pods_end_in_a_row(snapshot) && ended_by_itself(member) && waits()
}

/// Whether the pods of several members ended in a row.
fn pods_end_in_a_row(snapshot: &PoolSnapshot) -> bool {
    snapshot.replaced_from_age > REPLACE_EVERY
}

fn has_ended(member: &Member) -> bool {
    member.pod.as_ref().and_then(|pod| pod.pod()).is_some_and(Pod::ended)
}

/// Whether the pod of a member ended, and not because it is being deleted, as in a drain.
fn ended_by_itself(member: &Member) -> bool {
    has_ended(member) && member.pod.as_ref().is_some_and(|pod| pod.meta.deletion_timestamp.is_none())
}

/// Whether no claim may ever take a member: its pod ended, it is not to run, somebody touched it, or its node is
/// cordoned.
fn is_unusable(member: &Member) -> bool {
    has_ended(member) || !member.sandbox.runs() || member.touched.is_some() || member.node == NodeState::Cordoned
}

/// Whether the pod of a member is not isolated. If it should be, no claim may take the member: its pod is older than the
/// label that demands isolation.
fn is_exposed(member: &Member, common: &Common) -> bool {
    member.pod.as_ref().and_then(|p| p.pod()).is_some_and(|pod| common.isolation().broken_by(pod).is_some())
}

/// The time from which a member counts as stuck, if it is starting or its pod is terminating.
fn stuck_at(member: &Member, grace: Duration, common: &Common) -> Option<Timestamp> {
    // A member without a pod, or whose pod has no node, waits for something that its replacement would have to wait for
    // too. A member on a node that is not Ready waits for the node or for an eviction.
    let pod = member.pod.as_ref()?;
    if let Some(deadline) = pod.meta.deletion_timestamp {
        // The node should have ended the pod by its deadline. A node that does not answer never does.
        return Some(saturating_add(deadline, REPLACE_EVERY));
    }
    if is_ready(member) || member.node != NodeState::Fit {
        return None;
    }
    let not_ready = match find_condition(&member.sandbox.sandbox()?.status.conditions, condition::READY) {
        // The pod is not Ready, and the status of the Sandbox will be updated soon.
        Some(ready) if ready.status == "True" => return None,
        Some(ready) => ready.last_transition_time.0,
        None => member.sandbox.meta.created,
    };
    let scheduled = pod.pod()?.condition(condition::POD_SCHEDULED).map(|c| c.since);
    let since = scheduled.into_iter().fold(not_ready, Timestamp::max);
    Some(time_left(since, grace, common.now).unwrap_or(common.now))
}

/// The time from which the pool reports that the scheduler finds no node for the pod of a member.
fn unscheduled_at(member: &Member, grace: Duration) -> Option<Timestamp> {
    let pod = member.pod.as_ref().filter(|pod| pod.meta.deletion_timestamp.is_none())?;
    let scheduled = pod.pod()?.condition(condition::POD_SCHEDULED)?;
    let has_no_node = scheduled.status == ConditionStatus::False && &*scheduled.reason == UNSCHEDULABLE;
    has_no_node.then(|| saturating_add(scheduled.since, grace))
}

pub(super) fn is_ready(member: &Member) -> bool {
    let sandbox_ready = member.sandbox.sandbox().is_some_and(|s| is_true(&s.status.conditions, condition::READY));
    let pod_ready =
        member.pod.as_ref().is_some_and(|o| o.meta.deletion_timestamp.is_none() && o.pod().is_some_and(|p| p.ready()));
    sandbox_ready && pod_ready
}
