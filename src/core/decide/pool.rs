//! Decides about a warm pool: it keeps as many fresh Sandboxes as were decided, and never more than its maximum. It
//! never deletes a Sandbox that a claim took.

mod members;

use std::cmp::Ordering;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use paddock_api::kind::Kind;
use paddock_api::names::{condition, label, name_hash, reason};
use paddock_api::{PolicyState, SandboxWarmPoolStatus, UpdateStrategyType};

use self::members::{Members, is_ready, replaced_from_age};
use super::ask::failure_events;
use super::pool_size::{FIRST_STEP, PoolCounts, PoolFacts, Refilling, dip_ends, status_due};
use crate::conditions::{NewCondition, find_condition, set_conditions, status_patch};
use crate::deciding;
use crate::manifest;
use crate::model::{self, PoolSize};
use crate::object::{Object, budget};
use crate::plan::{Event, Op, Plan, Reason};
use crate::question::{PluginReply, PluginRequest};
use crate::snapshot::{Member, PoolSnapshot};
use crate::time::time_left;

/// The estimated memory of the Sandboxes that one plan creates, in bytes, after which it creates no more. Each has the pod
/// spec of the template, so a plan has a few of them if the template is large, and a whole batch otherwise.
const PLAN_BYTES: usize = 8 * 1024 * 1024;

pub(super) fn questions(snapshot: &PoolSnapshot, replies: &[PluginReply]) -> Vec<PluginRequest> {
    let live = snapshot.pool.pool().filter(|_| snapshot.pool.meta.deletion_timestamp.is_none());
    let Some(Ok(model)) = live.map(|p| &p.spec) else { return vec![] };
    let PoolSize::Between { min, max } = size_of(snapshot, model) else { return vec![] };
    facts(snapshot, (min, max), &Members::of(snapshot)).request(&snapshot.common, replies).into_iter().collect()
}

/// The size that the spec asks for, within the limit of the operator.
fn size_of(snapshot: &PoolSnapshot, model: &model::Pool) -> PoolSize {
    model.size.at_most(snapshot.common.settings.max_pool_size)
}

/// The size that was decided, with the status, the plugin state, the next check and Events.
struct Sized {
    desired: usize,
    /// Whether the plugin wants a size outside the bounds of the pool.
    limited: bool,
    reason: String,
    /// The message of the condition `Sized`, and its end, which names the plugin with its version and settings.
    message: String,
    decided_by: Option<String>,
    state: Option<PolicyState>,
    next_check: Option<Timestamp>,
    events: Vec<Event>,
}

pub(super) fn decide(snapshot: &PoolSnapshot, replies: &[PluginReply]) -> Plan {
    let pool = &snapshot.pool;
    let mut plan = Plan::default();
    let Some(parsed) = pool.pool().filter(|_| pool.meta.deletion_timestamp.is_none()) else { return plan };
    let members = Members::of(snapshot);
    let model = match &parsed.spec {
        Ok(model) => &**model,
        Err(invalid) => {
            let problem = (reason::RECONCILER_ERROR, format!("the pool is not valid: {invalid}"));
            write_status(snapshot, &members, None, Some(problem), &mut plan);
            return plan;
        }
    };
    if let Some(at) = snapshot.pending_take {
        // If the take or delete was stored, the watch delivers it. If not, no event follows.
        plan.requeue_at(at, Reason::Waiting);
    }
    if let Some(at) = members.unscheduled_at {
        plan.requeue_at(at, Reason::Waiting);
    }
    let size = sized(snapshot, model, &members, replies);
    if let Some(at) = size.next_check {
        plan.requeue_at(at, Reason::PoolSizeCheck);
    }
    plan.events.extend(size.events.iter().cloned());
    let template = usable_template(snapshot);
    let problem = match (&snapshot.template, &template) {
        (None, _) => Some((reason::TEMPLATE_NOT_FOUND, format!("SandboxTemplate {} does not exist", model.template))),
        (Some(_), Err(why)) => Some((reason::RECONCILER_ERROR, format!("SandboxTemplate {} {why}", model.template))),
        (Some(_), Ok(_)) => {
            let refused = snapshot.common.refusals.iter().find(|(key, _)| key.kind != Kind::Pod);
            let is_short = members.ready.len() < size.desired;
            let without_pod = || members.without_pod_because(snapshot).filter(|_| is_short);
            let pods_end = || members.pods_end_because(snapshot).filter(|_| is_short);
            let without_node = || members.without_node_because().filter(|_| is_short);
            refused
                .map(|(_, r)| (reason::RECONCILER_ERROR, format!("the API server refused: {}", r.message)))
                .or_else(|| Some((reason::NETWORK_POLICY_NOT_READY, snapshot.network_policy.blocked()?.to_owned())))
                .or_else(|| Some((reason::RECONCILER_ERROR, without_pod()?)))
                .or_else(|| Some((reason::POD_FAILED, pods_end()?)))
                .or_else(|| Some((reason::DEPENDENCIES_NOT_READY, without_node()?)))
        }
    };
    let counts = members.counts(snapshot);
    let deletions = deletions(snapshot, model, (&members, counts), size.desired, &mut plan);
    let deleted = deletions.len();
    plan.steps.push(deletions);
    if let Ok((object, template)) = template {
        let maximum = usize::try_from(size_of(snapshot, model).max()).unwrap_or(usize::MAX);
        let wanted = members.to_create(counts, size.desired, maximum, snapshot);
        // Nothing is created in a plan that deletes, because a refused delete would leave the pool above its maximum.
        let wanted = if deleted > 0 { 0 } else { wanted };
        // A Sandbox whose creation had no reply may exist or not. The creation is sent again only if the Sandbox would
        // be wanted in both cases.
        let certain = counts.for_size() - snapshot.lost.len();
        let certainly_alive = counts.alive + counts.sent - snapshot.lost.len();
        let again = size.desired.saturating_sub(certain).min(maximum.saturating_sub(certainly_alive));
        let again = if deleted > 0 { 0 } else { again };
        let mut bytes = 0;
        for name in names(snapshot, again, wanted) {
            // A new Sandbox reconciles its pool again.
            if bytes >= PLAN_BYTES {
                break;
            }
            let key = pool.key.sibling(Kind::Sandbox, name);
            let body = manifest::warm_sandbox(pool, object, template, name);
            bytes += budget::memory(&body);
            push_growing(&mut plan.steps, Op::create(key, Reason::PoolBelowDesired, body));
        }
    }
    write_status(snapshot, &members, Some(&size), problem, &mut plan);
    if !snapshot.common.refusals.is_empty() {
        plan.status_first(0);
    }
    plan
}

/// The template, if this operator can make Sandboxes of it, or the reason why not.
fn usable_template(snapshot: &PoolSnapshot) -> Result<(&Object, &model::Template), String> {
    let parsed = snapshot.template.as_deref().and_then(|object| Some((object, object.template()?.spec.as_ref().ok()?)));
    let (object, template) = parsed.ok_or_else(|| "is not valid".to_owned())?;
    let lacks = template.lacks(&snapshot.common.settings).map(str::to_owned).or_else(|| {
        // Without a Service, the sandboxes may have any name.
        let problem = model::generated_name(&format!("{}-", snapshot.pool.key.name));
        let problem = problem.filter(|_| template.service.is_made())?;
        Some(format!("the Services of the sandboxes would have their names, but {problem}; rename the pool"))
    });
    lacks.map_or(Ok((object, template)), |why| Err(format!("cannot be used: {why}")))
}

/// The names of the Sandboxes to create. Names whose creation had no reply come first, because it does no harm to
/// repeat such a creation.
fn names(snapshot: &PoolSnapshot, again: usize, wanted: usize) -> impl Iterator<Item = &str> {
    snapshot.lost.iter().take(again).map(|name| &**name).chain(snapshot.names.iter().take(wanted).map(String::as_str))
}

/// Adds a creation to the steps, which have 8, 16, 32 … operations.
fn push_growing(steps: &mut Vec<Vec<Op>>, op: Op) {
    let creates = steps.iter().skip(1).count();
    let full = FIRST_STEP << creates.saturating_sub(1).min(16);
    match steps.last_mut().filter(|step| creates > 0 && step.len() < full) {
        Some(step) => step.push(op),
        None => steps.push(vec![op]),
    }
}

fn deletions(
    snapshot: &PoolSnapshot,
    model: &model::Pool,
    (members, counts): (&Members<'_>, PoolCounts),
    desired: usize,
    plan: &mut Plan,
) -> Vec<Op> {
    let mut ops = Vec::new();
    if let Some(at) = members.stuck_at {
        plan.requeue_at(at, Reason::WarmSandboxUnusable);
    }
    if members.stuck > 0 {
        let note = "Replacing warm Sandboxes that are not Ready, or whose pods are terminating, for too long";
        plan.events.push(Event::warning(
            &snapshot.pool,
            Reason::WarmSandboxUnusable,
            format!("{note}: {}", members.stuck),
        ));
    }
    for member in &members.unusable {
        match time_left(member.sandbox.meta.created, replaced_from_age(member, snapshot), snapshot.common.now) {
            None => {
                ops.push(Op::delete_if_unchanged(&member.sandbox, Reason::WarmSandboxUnusable));
                if let Some(touch) = member.touched.as_ref().filter(|_| ops.len() <= FIRST_STEP) {
                    let note = format!("Replacing warm Sandbox {}: {touch}", member.sandbox.key.name);
                    plan.events.push(Event::warning(&snapshot.pool, Reason::WarmSandboxTouched, note));
                }
            }
            Some(due) => plan.requeue_at(due, Reason::WarmSandboxUnusable),
        }
    }
    let replaced = match model.update {
        UpdateStrategyType::Recreate => members.stale.len(),
        // One stale Sandbox is deleted for each fresh one that is Ready.
        UpdateStrategyType::OnReplenish => {
            let surplus = members.stale.len().saturating_sub(desired.saturating_sub(members.ready.len()));
            surplus.max(room_for_fresh(snapshot, model, members))
        }
    };
    let mut stale = members.stale.clone();
    // Claims may take none of them, but those that are Ready still count in the status.
    stale.sort_by_key(|member| is_ready(member));
    ops.extend(stale.iter().take(replaced).map(|m| Op::delete_if_unchanged(&m.sandbox, Reason::TemplateChanged)));
    // Excess Sandboxes are deleted in this order: stale ones, then those that are not Ready, then Ready ones. In the
    // last two groups the youngest is deleted first.
    let kept_stale = members.stale.len() - replaced;
    let maximum = usize::try_from(size_of(snapshot, model).max()).unwrap_or(usize::MAX);
    let excess = counts.excess(kept_stale, desired, maximum);
    let mut order: Vec<&&Member> = stale.iter().skip(replaced).collect();
    let mut youngest: Vec<&&Member> = members.creating.iter().collect();
    youngest.sort_by_key(|m| std::cmp::Reverse(m.sandbox.meta.created));
    let mut ready: Vec<&&Member> = members.ready.iter().collect();
    ready.sort_by_key(|m| std::cmp::Reverse(m.sandbox.meta.created));
    order.extend(youngest.into_iter().chain(ready));
    ops.extend(order.into_iter().take(excess).map(|m| Op::delete_if_unchanged(&m.sandbox, Reason::PoolAboveDesired)));
    ops.truncate(snapshot.common.settings.pool_batch);
    ops
}

/// The number of stale Sandboxes that a full pool deletes to make room for fresh ones, which no claim could have
/// otherwise. Like a rollout, the pool replaces a tenth of its Sandboxes at a time, and goes on when these are Ready.
fn room_for_fresh(snapshot: &PoolSnapshot, model: &model::Pool, members: &Members<'_>) -> usize {
    let maximum = usize::try_from(size_of(snapshot, model).max()).unwrap_or(usize::MAX);
    let starting = members.creating.len() + members.unusable.len() + members.leaving + snapshot.creating.len();
    let full = members.alive() + snapshot.creating.len() >= maximum;
    if !full || starting > 0 || usable_template(snapshot).is_err() {
        return 0;
    }
    (maximum / 10).max(1).min(members.stale.len())
}

fn sized(snapshot: &PoolSnapshot, model: &model::Pool, members: &Members<'_>, replies: &[PluginReply]) -> Sized {
    let before = snapshot.pool.pool().and_then(|p| p.status.policy_state.as_ref());
    let sized_to = |desired: u32, reason: String| Sized {
        desired: usize::try_from(desired).unwrap_or(usize::MAX),
        limited: false,
        message: reason.clone(),
        reason,
        decided_by: None,
        state: before.cloned(),
        next_check: None,
        events: vec![],
    };
    let (min, max) = match size_of(snapshot, model) {
        PoolSize::Fixed(size) => {
            let most = snapshot.common.settings.max_pool_size;
            let limited = model.size.max() > most;
            let reason = if limited {
                format!("spec.replicas is {}, and --max-pool-size of the operator is {most}", model.size.max())
            } else {
                "as spec says".to_owned()
            };
            return Sized { limited, ..sized_to(size, reason) };
        }
        PoolSize::Between { min, max } => (min, max),
    };
    let sizing = facts(snapshot, (min, max), members).size(&snapshot.common, replies);
    let mut events: Vec<Event> = failure_events(&snapshot.pool, &sizing.failures).collect();
    let desired = sizing.desired;
    let Some((binding, answer)) = sizing.answer else {
        let mut sized = sized_to(desired, "no pool-size policy answered: the minimum".to_owned());
        sized.next_check = Some(sizing.next_check);
        sized.events = events;
        return sized;
    };
    let plugin = &binding.plugin.name;
    // The message leaves out the number that the plugin wants, because the status would change with every question.
    let decided_by = format!("({})", deciding::version_clause(&deciding::decided_by(binding)));
    let limited = |bound: String| (bound.clone(), format!("{bound} {decided_by}"));
    let (reason, message) = match answer.desired.cmp(&desired) {
        Ordering::Greater => limited(format!("{plugin} wants more than maxReady, which is {max}")),
        Ordering::Less => limited(format!("{plugin} wants fewer than minReady, which is {min}")),
        Ordering::Equal => (format!("{} ({plugin})", answer.reason), format!("{} {decided_by}", answer.reason)),
    };
    let mut sized = sized_to(desired, reason);
    sized.limited = desired != answer.desired;
    sized.message = message;
    sized.decided_by = Some(decided_by);
    sized.state = sizing.state;
    sized.next_check = Some(sizing.next_check);
    let last = snapshot.pool.pool().and_then(|p| p.status.desired_replicas).and_then(|n| u32::try_from(n).ok());
    if let Some(last) = last.filter(|last| *last != desired) {
        let note = format!("Size changes from {last} to {desired}: {}", sized.reason);
        events.push(Event::normal(&snapshot.pool, Reason::PoolSized, note));
    }
    if desired != answer.desired && last != Some(desired) {
        let note = format!(
            "Plugin {plugin} wants {}, which is outside minReady {min} and maxReady {max}; the size is {desired}",
            answer.desired
        );
        events.push(Event::warning(&snapshot.pool, Reason::PluginOverruled, note));
    }
    sized.events = events;
    sized
}

/// The facts about a pool that has two bounds.
fn facts<'a>(snapshot: &'a PoolSnapshot, (min, max): (u32, u32), members: &Members<'_>) -> PoolFacts<'a> {
    let pool = &snapshot.pool;
    PoolFacts {
        namespace: &pool.key.namespace,
        name: &pool.key.name,
        labels: &pool.meta.labels,
        min,
        max,
        ready: members.ready.len(),
        creating: members.creating.len() + snapshot.creating.len(),
        claimed: snapshot.claimed,
        demand: &snapshot.demand,
        state: pool.pool().and_then(|p| p.status.policy_state.as_ref()),
    }
}

fn write_status(
    snapshot: &PoolSnapshot,
    members: &Members<'_>,
    size: Option<&Sized>,
    problem: Option<(&'static str, String)>,
    plan: &mut Plan,
) {
    let pool = &snapshot.pool;
    let Some(before) = pool.pool().map(|p| &p.status) else { return };
    let number = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    // A stale Sandbox that is Ready still counts.
    let ready = members.ready.len() + members.stale.iter().filter(|m| is_ready(m)).count();
    let ready_condition = match (problem, size) {
        (Some((reason, message)), _) => NewCondition::new(condition::READY, false, reason, message),
        (None, Some(size)) if members.ready.len() >= size.desired => {
            NewCondition::new(condition::READY, true, reason::POOL_READY, "all warm sandboxes are Ready")
        }
        (None, _) => {
            NewCondition::new(condition::READY, false, reason::POOL_NOT_READY, "warm sandboxes are being made")
        }
    };
    let mut conditions = vec![ready_condition];
    if let Some(size) = size {
        // Numbers in the reason change with every question, so the message is updated only when the size, the plugin or
        // its settings change.
        let same_decision = |old: &str| match &size.decided_by {
            Some(decided_by) => old.ends_with(decided_by),
            None => old == size.message,
        };
        let reported = find_condition(&before.conditions, condition::SIZED)
            .filter(|c| before.desired_replicas == Some(number(size.desired)) && c.reason == reason::DECIDED)
            .filter(|c| !size.limited && same_decision(&c.message));
        let message = reported.map_or_else(|| size.message.clone(), |c| c.message.clone());
        let reason = if size.limited { reason::LIMITED } else { reason::DECIDED };
        conditions.push(NewCondition::new(condition::SIZED, true, reason, message));
    }
    let generation = pool.meta.generation;
    let mut after_status = SandboxWarmPoolStatus {
        replicas: Some(number(members.alive() - members.leaving)),
        ready_replicas: Some(number(ready)),
        desired_replicas: size.map_or(before.desired_replicas, |s| Some(number(s.desired))),
        selector: Some(format!("{}={}", label::WARM_POOL_SANDBOX, name_hash(&pool.key.name))),
        observed_generation: Some(generation),
        conditions: set_conditions(&before.conditions, conditions, generation, snapshot.common.now),
        policy_state: before.policy_state.clone(),
    };
    progress(pool, &before.conditions, &after_status.conditions, plan);
    let counts_changed = status_patch(&**before, &after_status).is_some();
    after_status.policy_state = size.map_or_else(|| before.policy_state.clone(), |s| s.state.clone());
    let Some(patch) = status_patch(&**before, &after_status) else { return };
    let now = snapshot.common.now;
    let settings = &snapshot.common.settings;
    let due = status_due(counts_changed, snapshot.common.status_written, settings, now).or_else(|| {
        let ends = dip_ends(&snapshot.demand, refilling(snapshot, members, plan), settings, now);
        ends.filter(|_| !before.conditions.is_empty())
    });
    match due {
        Some(due) => plan.requeue_at(due, Reason::StatusChanged),
        None => plan.steps.push(vec![Op::patch_status(pool, patch)]),
    }
}

/// Reports that a problem stops the pool, and that the problem ended.
fn progress(pool: &Object, before: &[Condition], after: &[Condition], plan: &mut Plan) {
    let problem = |conditions: &[Condition]| {
        find_condition(conditions, condition::READY)
            .filter(|ready| ![reason::POOL_READY, reason::POOL_NOT_READY].contains(&ready.reason.as_str()))
            .map(|ready| ready.message.clone())
    };
    match (problem(before), problem(after)) {
        (None, Some(problem)) => plan.results.push(Event::warning(pool, Reason::WarmPoolNotProgressing, problem)),
        (Some(_), None) => {
            let note = "The problem that stopped the pool is over".to_owned();
            plan.results.push(Event::normal(pool, Reason::WarmPoolProgressing, note));
        }
        (None, None) | (Some(_), Some(_)) => {}
    }
}

/// The members that are being created, with the creations of the plan.
fn refilling(snapshot: &PoolSnapshot, members: &Members<'_>, plan: &Plan) -> Refilling {
    Refilling {
        creating: members.creating.len(),
        new: plan.ops().filter(|op| op.reason == Reason::PoolBelowDesired).count() + snapshot.creating.len(),
        oldest: members.creating.iter().map(|m| m.sandbox.meta.created).min(),
    }
}

#[cfg(test)]
mod tests {
    use paddock_api::kind::Key;
    use serde_json::json;

    use super::*;
    use crate::settings::Settings;
    use crate::world::{Observed, World};

    /// The Sandboxes that one plan creates of a template whose container has so many arguments.
    fn created_with_arguments(arguments: usize) -> usize {
        let mut world = World::new(Settings::default());
        let containers = json!([{ "name": "c", "image": "i", "args": vec!["a"; arguments] }]);
        let template = json!({
            "networkPolicyManagement": "Unmanaged", "podTemplate": { "spec": { "containers": containers } },
        });
        let pool = json!({ "replicas": 5, "sandboxTemplateRef": { "name": "t" } });
        for (kind, name, spec) in [(Kind::Template, "t", template), (Kind::Pool, "p", pool)] {
            let metadata = json!({ "name": name, "namespace": "ns", "uid": name, "resourceVersion": "1" });
            let object = Object::from_json(kind, json!({ "metadata": metadata, "spec": spec })).unwrap();
            world.observe(Observed::Applied(object), Timestamp::UNIX_EPOCH);
        }
        let snapshot = world.snapshot(&Key::new(Kind::Pool, "ns", "p"), Timestamp::UNIX_EPOCH);
        let plan = crate::decide::decide(&snapshot, &[]);
        plan.ops().filter(|op| op.reason == Reason::PoolBelowDesired).count()
    }

    #[test]
    fn plan_of_a_large_template_creates_few_sandboxes() {
        assert_eq!(created_with_arguments(10), 5);
        // The texts have 0.8 MB of JSON, and many times that in memory.
        assert_eq!(created_with_arguments(200_000), 1);
    }
}
