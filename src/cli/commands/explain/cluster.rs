//! The explanation that the API server can give: the status of the object, and the Events about it.

use anyhow::Context as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, DynamicObject, ListParams};
use kube::{Client, Config};
use paddock_core::explanation::{Explanation, Section, condition, when};
use paddock_core::text::truncate;
use paddock_kube::watch;
use serde_json::Value;

use super::object::Object;
use crate::usage::bad_usage;

/// The title of the section with the Events.
pub(super) const EVENTS: &str = "Events";

/// The most Events that are shown. They are the newest ones.
const EVENTS_MAX: usize = 20;
/// The longest text of an Event that is shown, in characters.
const EVENT_CHARS_MAX: usize = 1024;

/// Fields of a status that say something by themselves: the path, and what a sentence begins with.
const FIELDS: [(&str, &str); 16] = [
    ("/mode", "The mode that the operator applied last is"),
    ("/suspendedBy", "It was suspended by"),
    ("/nextWake", "Its schedule resumes it at"),
    ("/nodeName", "Its pod is on node"),
    ("/runtimeClass/name", "The RuntimeClass of its pod is"),
    ("/runtimeClass/reason", "The reason for the RuntimeClass is:"),
    ("/isolation/problem", "Its pod is not isolated:"),
    ("/idle/reason", "The idle policy says:"),
    ("/idle/problem", "A wish about its idle policy has no effect:"),
    ("/wakeProblem", "Its schedule has no effect:"),
    ("/drainProblem", "It is not suspended for the drain of its node:"),
    ("/networkPolicyBypass", "Its NetworkPolicy does not apply:"),
    ("/sandbox/name", "Its Sandbox is"),
    ("/desiredReplicas", "The number of Sandboxes that it should have is"),
    ("/replicas", "The number that exist is"),
    ("/readyReplicas", "The number that are Ready is"),
];

/// The explanation of an object, and notes about the parts that are missing.
pub(super) async fn explanation(config: Config, of: &Object) -> anyhow::Result<(Explanation, Vec<String>)> {
    let client = Client::try_from(config).context("making a client of the API server")?;
    let mut found = None;
    for kind in of.kind.kinds() {
        let resource = watch::resource(*kind);
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &of.namespace, &resource);
        let read = api.get_opt(&of.name).await;
        found = read.with_context(|| format!("reading {of}"))?;
        if found.is_some() {
            break;
        }
    }
    let Some(object) = found else { return Err(bad_usage(format!("the cluster has no {of}"))) };
    let uid = object.metadata.uid.clone();
    let mut sections = sections(&object);
    let mut notes = Vec::new();
    match events(client, &of.namespace, uid.as_deref().unwrap_or_default()).await {
        Ok(lines) if lines.is_empty() => {}
        Ok(lines) => sections.push(Section::new(EVENTS, lines)),
        Err(error) => notes.push(format!("the Events about it cannot be read: {error}")),
    }
    Ok((Explanation { object: of.to_string(), uid, sections }, notes))
}

/// The sections about the object itself.
fn sections(object: &DynamicObject) -> Vec<Section> {
    let meta = &object.metadata;
    let created = meta.creation_timestamp.iter().map(|at| format!("It was created at {}.", when(at.0)));
    let deleted = meta.deletion_timestamp.iter().map(|at| format!("It has been terminating since {}.", when(at.0)));
    let mut seen: Vec<String> = created.chain(deleted).collect();
    let status = &object.data["status"];
    for (path, sentence) in FIELDS {
        let value = match status.pointer(path) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => continue,
        };
        seen.push(format!("{sentence} {value}"));
    }
    if status.is_null() {
        seen.push("It has no status, so no operator has decided about it yet.".to_owned());
    }
    let conditions: Vec<Condition> = serde_json::from_value(status["conditions"].clone()).unwrap_or_default();
    let plugins = status["plugins"].as_array().into_iter().flatten().map(plugin).collect();
    let all = [
        Section::new("Seen", seen),
        Section::new("Status", conditions.iter().map(condition).collect()),
        Section::new("Decided by plugins", plugins),
    ];
    all.into_iter().filter(|section| !section.lines.is_empty()).collect()
}

fn plugin(plugin: &Value) -> String {
    let field = |name: &str| plugin[name].as_str().unwrap_or("unknown");
    format!("{} ({}, {})", field("name"), field("hook"), field("digest"))
}

/// The Events about the object with this UID, the oldest first.
async fn events(client: Client, namespace: &str, uid: &str) -> Result<Vec<String>, kube::Error> {
    let api: Api<Event> = Api::namespaced(client, namespace);
    let params = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
    let mut events: Vec<(Timestamp, Event)> =
        api.list(&params).await?.items.into_iter().map(|event| (time(&event), event)).collect();
    events.sort_by_key(|(at, _)| *at);
    let skipped = events.len().saturating_sub(EVENTS_MAX);
    Ok(events.iter().skip(skipped).map(|(at, event)| sentence(*at, event)).collect())
}

/// The time at which an Event was seen last.
fn time(event: &Event) -> Timestamp {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|at| at.0);
    let last = event.last_timestamp.as_ref().map(|at| at.0);
    let first = event.event_time.as_ref().map(|at| at.0);
    series.or(last).or(first).unwrap_or_default()
}

fn sentence(at: Timestamp, event: &Event) -> String {
    // Whoever may create Events in the namespace chooses the texts, and a terminal shows them.
    let text = |text: &Option<String>| truncate(text.as_deref().unwrap_or_default(), EVENT_CHARS_MAX);
    let count = event.series.as_ref().and_then(|series| series.count).or(event.count).unwrap_or(1);
    let times = if count > 1 { format!(" ({count} times)") } else { String::new() };
    format!("{} {} {}{times}: {}", when(at), text(&event.type_), text(&event.reason), text(&event.message))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines(object: Value) -> Vec<String> {
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        sections(&object).into_iter().flat_map(|section| [vec![section.title], section.lines].concat()).collect()
    }

    #[test]
    fn status_is_sentences() {
        let object = json!({
            "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox",
            "metadata": {"name": "s", "uid": "u", "creationTimestamp": "2027-01-15T08:00:00Z"},
            "status": {
                "mode": "Suspended", "suspendedBy": "Idle",
                "conditions": [{
                    "type": "Ready", "status": "False", "reason": "SandboxSuspended", "message": "Sandbox is suspended",
                    "lastTransitionTime": "2027-01-15T09:00:00Z",
                }],
                "plugins": [{"hook": "idle", "name": "idle-timeout", "digest": "sha256:0"}],
            },
        });
        let expected = [
            "Seen",
            "It was created at 2027-01-15T08:00:00Z.",
            "The mode that the operator applied last is Suspended",
            "It was suspended by Idle",
            "Status",
            "Ready is False since 2027-01-15T09:00:00Z (SandboxSuspended): Sandbox is suspended",
            "Decided by plugins",
            "idle-timeout (idle, sha256:0)",
        ];
        assert_eq!(lines(object), expected);
        let new = json!({"apiVersion": "v1", "kind": "Sandbox", "metadata": {"name": "s"}});
        assert_eq!(lines(new), ["Seen", "It has no status, so no operator has decided about it yet."]);
    }

    #[test]
    fn events_say_when_and_how_often() {
        for (event, expected) in [
            (
                json!({
                    "eventTime": "2027-01-15T08:00:00.000000Z", "type": "Warning", "reason": "PluginFailed", "message": "m",
                    "series": {"count": 3, "lastObservedTime": "2027-01-15T08:05:00.000000Z"},
                }),
                "2027-01-15T08:05:00Z Warning PluginFailed (3 times): m",
            ),
            (
                json!({"eventTime": "2027-01-15T08:00:00.000000Z", "type": "Normal", "reason": "Claimed", "message": "m"}),
                "2027-01-15T08:00:00Z Normal Claimed: m",
            ),
            (
                json!({"lastTimestamp": "2027-01-15T08:00:00Z", "count": 2, "type": "Normal", "reason": "A", "message": "m"}),
                "2027-01-15T08:00:00Z Normal A (2 times): m",
            ),
        ] {
            let mut event = event;
            event["involvedObject"] = json!({});
            event["metadata"] = json!({});
            let event: Event = serde_json::from_value(event).unwrap();
            assert_eq!(sentence(time(&event), &event), expected);
        }
    }
}
