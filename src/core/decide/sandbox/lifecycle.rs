//! Events about the transitions of a Sandbox, with the reasons of upstream.

use paddock_api::SandboxStatus;
use paddock_api::names::{condition, reason};

use crate::conditions::{find_condition, is_true};
use crate::object::Object;
use crate::plan::{Event, Reason};

/// The Events about the transitions from one status to the next. A Sandbox of a pool has no Events about its start,
/// because no client uses it yet. `detail` is the message of a pod that ended.
pub(super) fn transitions(
    sandbox: &Object,
    before: &SandboxStatus,
    after: &SandboxStatus,
    detail: Option<&str>,
) -> Vec<Event> {
    let became = |kind: &str| is_true(&after.conditions, kind) && !is_true(&before.conditions, kind);
    let now_because = |why: &str| {
        let because = |status: &SandboxStatus| {
            find_condition(&status.conditions, condition::READY).filter(|c| c.reason == why).map(|c| c.message.clone())
        };
        because(after).filter(|_| because(before).is_none())
    };
    let mut events = Vec::new();
    if !sandbox.meta.in_pool() {
        if after.replicas == Some(1) && before.replicas != Some(1) {
            let note = format!("Pod {} exists", crate::manifest::pod_name(sandbox));
            events.push(Event::normal(sandbox, Reason::SandboxPodCreated, note));
        }
        if became(condition::READY) {
            events.push(Event::normal(sandbox, Reason::SandboxReady, "The Sandbox is Ready"));
        }
    }
    if became(condition::SUSPENDED) {
        events.push(Event::normal(sandbox, Reason::SandboxSuspended, "The Sandbox is suspended"));
    }
    if let Some(note) = now_because(reason::MULTIPLE_PODS) {
        events.push(Event::warning(sandbox, Reason::MultiplePods, note));
    }
    if let Some(problem) = after.wake_problem.as_ref().filter(|problem| before.wake_problem.as_ref() != Some(problem)) {
        let note = format!("The wakeSchedule has no effect: {problem}");
        events.push(Event::warning(sandbox, Reason::WakeScheduleInvalid, note));
    }
    if became(condition::FINISHED) {
        let succeeded = find_condition(&after.conditions, condition::FINISHED)
            .is_some_and(|finished| finished.reason == reason::POD_SUCCEEDED);
        events.push(if succeeded {
            Event::normal(sandbox, Reason::PodSucceeded, "The pod succeeded")
        } else {
            Event::warning(
                sandbox,
                Reason::PodFailed,
                format!("The pod failed: {}", detail.unwrap_or("its status gives no reason")),
            )
        });
    }
    events
}
