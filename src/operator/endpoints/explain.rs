//! The explanation of an object for `/debug/explain`: its snapshot, its last reconcile, and the recent decisions about it.

use std::sync::Arc;
use std::time::Duration;

use paddock_api::kind::Key;
use paddock_core::explanation::{Explanation, Section, asked, decided, seen, status, when};
use paddock_core::question::PluginReply;
use paddock_core::record::{Decision, Subject};

use crate::queue::{Done, Trigger};
use crate::reconcile::{Trace, Traces};
use crate::record::Recorder;
use crate::world::SharedWorld;
use crate::write::Progress;

/// The most decisions of plugins from before the last reconcile that are shown.
const EARLIER_MAX: usize = 10;

/// The explanation of an object.
pub(super) fn explanation(world: &SharedWorld, traces: &Traces, recorder: &Recorder, key: &Key) -> Explanation {
    let now = world.now();
    let snapshot = world.snapshot(key, now);
    let subject = Subject::of(&snapshot);
    let mut now_seen = seen(&snapshot);
    now_seen.extend(
        world.read(|world| world.pending(key)).into_iter().map(|write| format!("A write is pending: {write}.")),
    );
    let mut sections = vec![Section::new(format!("Seen at {}", when(now)), now_seen)];
    sections.push(Section::new("Status", status(&snapshot)));
    let last = traces.last(key);
    match &last {
        Some(trace) => sections.extend(reconciled(trace, recorder)),
        None => sections.push(Section::new(
            "Decided",
            vec![
                "This replica has not decided about it, or that was long ago. Only the leader decides, so another \
                 replica may know more."
                    .to_owned(),
            ],
        )),
    }
    let since = last.map(|trace| trace.at);
    let object = &subject.object;
    let about = |decision: &Decision| {
        let other = &decision.subject.object;
        let is_of_reconcile = decision.subject.asker == subject.asker && since.is_some_and(|at| decision.time >= at);
        (&other.group, &other.kind, &other.namespace, &other.name)
            == (&object.group, &object.kind, &object.namespace, &object.name)
            && !is_of_reconcile
    };
    let earlier = recorder.recent(about).take(EARLIER_MAX);
    let lines: Vec<String> = earlier.flat_map(|record| asked(&record)).collect();
    sections.push(Section::new("Asked before, the newest first", lines));
    sections.retain(|section| !section.lines.is_empty());
    let name =
        if object.namespace.is_empty() { object.name.clone() } else { format!("{}/{}", object.namespace, object.name) };
    Explanation { object: format!("{} {name}", object.kind), uid: subject.object.uid.clone(), sections }
}

/// What was asked, answered and decided in the last reconcile.
fn reconciled(trace: &Trace, recorder: &Recorder) -> [Section; 2] {
    let subject = Arc::new(Subject::of(&trace.snapshot));
    // A trace does not have what a call used, and no sentence is about that.
    let decision = |reply: &PluginReply| Decision {
        time: trace.at,
        subject: Arc::clone(&subject),
        request: reply.request.clone(),
        result: reply.result.clone(),
        fuel: 0,
        memory_bytes: 0,
        took: Duration::ZERO,
    };
    let replies = trace.answers.iter().map(decision);
    let questions = replies.flat_map(|decision| asked(&recorder.record(&decision))).collect();
    let mut lines = decided(&trace.plan);
    if !trace.plan.is_empty() {
        lines.push(progress(&trace.progress).to_owned());
    }
    let title = format!("Decided at {}, because {}", when(trace.at), trigger(trace.trigger));
    [Section::new("Asked", questions), Section::new(title, lines)]
}

fn trigger(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::Changed => "it changed",
        Trigger::Related => "something that it depends on changed",
        Trigger::Wake => "a requeue was due",
        Trigger::Retry => "an earlier write did not succeed",
        Trigger::Leading => "this replica became the leader",
        Trigger::Resync => "every object is decided about once an hour",
    }
}

fn progress(progress: &Progress) -> &'static str {
    match progress {
        Progress::Stored => "The API server stored everything that was to be written.",
        Progress::Stale => "The plan was out of date before it began, so the operator decides again.",
        Progress::Stopped(Done::Converged | Done::Again) => {
            "A write did not fit the state of the cluster any more, so the operator decides again."
        }
        Progress::Stopped(Done::Failed { .. }) => {
            "A write was refused or had no reply. The operator tries again after a while."
        }
    }
}
