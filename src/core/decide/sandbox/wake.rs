//! The schedule of a Sandbox: resumes the Sandbox at each time of the schedule, if the operator suspended it.

use jiff::Timestamp;
use paddock_api::SuspendedBy;
use paddock_api::activity;
use paddock_api::names::annotation;
use serde_json::json;

use super::situation::PodState;
use crate::model::{self, Schedule};
use crate::plan::{Event, Op, Reason};
use crate::snapshot::SandboxSnapshot;

/// The time at which the schedule resumes the Sandbox. It may have passed: the operator may have been away then. `None`
/// if the Sandbox is not suspended, or if a user suspended it.
pub(super) fn next(snapshot: &SandboxSnapshot, model: &model::Sandbox, state: &PodState<'_>) -> Option<Timestamp> {
    let meta = &snapshot.sandbox.meta;
    let schedule = model.schedule().filter(|_| matches!(state, PodState::Suspended(_)) && !meta.in_pool())?;
    match SuspendedBy::of_annotation(meta.annotations.get(annotation::SUSPENDED_BY)) {
        SuspendedBy::User => return None,
        SuspendedBy::Idle | SuspendedBy::Drain => {}
    }
    let passed = snapshot.common.passed;
    // A clock that was wrong may have written a time in the future.
    let suspended = meta.annotations.get(annotation::SUSPENDED_AT).and_then(|at| at.parse::<Timestamp>().ok());
    let status = &snapshot.sandbox.sandbox()?.status;
    let reported = match (&status.next_wake, status.suspended_by) {
        (Some(at), _) => Reported::Time(at.0),
        // The schedule is newer than the status about this suspend.
        (None, Some(_)) => Reported::NoSchedule,
        (None, None) => Reported::Nothing,
    };
    after(schedule, suspended.map(|at| at.min(passed)), reported, passed)
}

/// What the status says about the schedule of a suspended Sandbox.
#[derive(Clone, Copy)]
enum Reported {
    /// The status is not about a suspend.
    Nothing,
    /// The Sandbox is suspended, and had no schedule.
    NoSchedule,
    /// The next time.
    Time(Timestamp),
}

/// The first time of a schedule that resumes a Sandbox. A user may change the schedule while the Sandbox is suspended.
/// Times of the new schedule that have passed do not count, because nobody asked for them when they came.
fn after(
    schedule: &Schedule,
    suspended: Option<Timestamp>,
    reported: Reported,
    passed: Timestamp,
) -> Option<Timestamp> {
    match reported {
        // The status may still be about an earlier suspend.
        Reported::Time(at) if suspended.is_some_and(|suspended| at <= suspended) => schedule.next(suspended?),
        Reported::Time(at) if !schedule.has(at) => schedule.next(passed),
        Reported::Time(at) if at <= passed => Some(at),
        Reported::Time(at) => schedule.next(passed).map(|next| next.min(at)).or(Some(at)),
        Reported::NoSchedule => schedule.next(passed),
        Reported::Nothing => schedule.next(suspended.unwrap_or(passed)),
    }
}

/// Resumes the Sandbox. The compare-and-swap fails if a user changed the Sandbox meanwhile.
pub(super) fn resume(snapshot: &SandboxSnapshot) -> Op {
    let body = json!({
        "metadata": { "annotations": {
            annotation::SUSPENDED_BY: null,
            annotation::SUSPENDED_AT: null,
            // The pod may still exist, and must not be idle at once.
            annotation::LAST_ACTIVITY: activity::text(snapshot.common.now),
        } },
        "spec": { "operatingMode": "Running", "replicas": 1 },
    });
    Op::patch_if_unchanged(&snapshot.sandbox, Reason::ScheduledWake, body)
}

/// The Event about a resume by the schedule.
pub(super) fn event(snapshot: &SandboxSnapshot, at: Timestamp) -> Event {
    let note = format!("Resuming the Sandbox: its wakeSchedule has the time {at}");
    Event::normal(&snapshot.sandbox, Reason::ScheduledWake, note)
}

#[cfg(test)]
mod tests {
    use paddock_api::kind::Kind;

    use super::*;
    use crate::object::Object;

    #[test]
    fn times_after_the_suspend_resume_and_those_of_an_earlier_schedule_do_not() {
        let spec = json!({
            "podTemplate": { "spec": { "containers": [{ "name": "c" }] } }, "wakeSchedule": { "cron": "0 9 * * *" },
        });
        let object = Object::from_json(Kind::Sandbox, json!({ "metadata": { "name": "a" }, "spec": spec })).unwrap();
        let model = object.sandbox().unwrap().spec.clone().unwrap();
        let daily = model.schedule().unwrap();
        let at = |hour: &str| format!("2030-01-{hour}:00:00Z").parse::<Timestamp>().unwrap();
        for (what, suspended, reported, passed, expected) in [
            ("suspended in the evening", Some("01T20"), None, "01T20", "02T09"),
            ("nothing has changed", Some("01T20"), Some("02T09"), "02T08", "02T09"),
            ("the time has come", Some("01T20"), Some("02T09"), "02T09", "02T09"),
            ("the operator was away for days", Some("01T20"), Some("02T09"), "05T12", "02T09"),
            ("the operator was away from the suspend on", Some("01T20"), None, "05T12", "02T09"),
            ("the status is about an earlier suspend", Some("03T10"), Some("02T09"), "03T10", "04T09"),
            ("the same, and the operator was away", Some("03T08"), Some("02T09"), "03T12", "03T09"),
            ("the schedule is new", None, None, "02T10", "03T09"),
            ("the schedule is new, and reported", None, Some("03T09"), "03T09", "03T09"),
            ("the schedule was removed, and another one is new", Some("01T20"), Some(""), "05T10", "06T09"),
            ("the schedule was another one", Some("01T20"), Some("02T08"), "02T10", "03T09"),
            ("the schedule was another one, with later times", Some("01T20"), Some("02T18"), "02T08", "02T09"),
            ("the schedule was a rarer one", Some("01T20"), Some("07T09"), "02T08", "02T09"),
            ("the schedule was a rarer one, and times have passed", Some("01T20"), Some("07T09"), "03T12", "04T09"),
        ] {
            let reported = match reported {
                None => Reported::Nothing,
                Some("") => Reported::NoSchedule,
                Some(time) => Reported::Time(at(time)),
            };
            let suspended = suspended.map(at);
            assert_eq!(after(daily, suspended, reported, at(passed)), Some(at(expected)), "{what}");
        }
    }
}
