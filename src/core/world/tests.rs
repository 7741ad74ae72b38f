//! Replies that come after the watch has shown the deletion of their object leave nothing behind.

use serde_json::json;

use super::*;
use crate::settings::Settings;

fn sandbox(version: u64) -> Object {
    let document = json!({
        "metadata": {
            "name": "a", "namespace": "ns", "uid": "u", "resourceVersion": version.to_string(),
            "creationTimestamp": "2030-01-01T00:00:00Z",
        },
        "spec": { "podTemplate": { "spec": { "containers": [{ "name": "c", "image": "i" }] } } },
    });
    Object::from_json(Kind::Sandbox, document).unwrap()
}

#[test]
fn reply_after_the_deletion_leaves_no_key_behind() {
    let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
    let patch = |status: bool, version: Option<&str>| Action::Patch {
        uid: "u".to_owned(),
        resource_version: version.map(str::to_owned),
        status,
        body: json!({}),
    };
    let delete = || Action::Delete { uid: "u".to_owned(), resource_version: Some("1".to_owned()), foreground: false };
    for action in [patch(true, None), patch(true, Some("1")), patch(false, None), patch(false, Some("1")), delete()] {
        for outcome in [
            Outcome::Stored(Box::new(sandbox(2))),
            Outcome::Conflict,
            Outcome::Gone,
            Outcome::Busy,
            Outcome::Unknown,
            Outcome::Rejected { status: 422, message: "no".to_owned(), by_policy: false },
        ] {
            let mut world = World::new(Settings::default());
            world.observe(Observed::Listed(Kind::Sandbox, vec![sandbox(1)]), now);
            let step = [Op { key: sandbox(1).key, reason: crate::plan::Reason::StatusChanged, action: action.clone() }];
            world.begin(&step).unwrap();
            world.observe(Observed::Deleted(sandbox(3)), now);
            world.finish(&step[0], &outcome, now);
            // Refusals and lost writes have an end of their own.
            world.pending_writes.forget_old(now + jiff::SignedDuration::from_hours(24), std::time::Duration::ZERO);
            let case = format!("{action:?} {outcome:?}");
            assert!(world.objects.is_empty() && world.status_written.is_empty(), "{case}");
            assert!(world.tombstones.is_empty() && world.awaiting_watch.is_empty(), "{case}");
            assert!(world.pending_writes.is_empty(), "{case}: {:?}", world.pending_writes);
        }
    }
}
