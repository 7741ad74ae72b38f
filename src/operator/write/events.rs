//! Publishes Kubernetes Events in the background. The queue has a limit, repetitions are sent once in a while, and
//! Events that do not fit are dropped.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event as KubeEvent, EventType, Recorder, Reporter};
use lru::LruCache;
use paddock_api::kind::{Kind, OwnKind};
use paddock_core::plan::{Event, Reason};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::limits;
use crate::metrics::Metrics;

/// The sending half of the queue. Sending never waits.
#[derive(Clone)]
pub struct Events {
    silent: Silent,
    sender: mpsc::Sender<Event>,
    metrics: Metrics,
}

/// The receiving half of the queue. [`EventQueue::run`] publishes the Events.
pub struct EventQueue {
    receiver: mpsc::Receiver<Event>,
    metrics: Metrics,
}

/// The kinds of objects about which no Events are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Silent {
    /// No Events are sent about claims (`--disable-claim-events`).
    pub claims: bool,
    /// No Events are sent about Sandboxes (`--disable-sandbox-events`).
    pub sandboxes: bool,
}

impl Silent {
    fn includes(self, kind: Kind) -> bool {
        match kind.own() {
            Some(OwnKind::Claim(_)) => self.claims,
            Some(OwnKind::Sandbox) => self.sandboxes,
            Some(OwnKind::Template(_) | OwnKind::Pool(_)) | None => false,
        }
    }
}

/// Creates both halves of a queue.
#[must_use]
pub fn events(metrics: Metrics, silent: Silent) -> (Events, EventQueue) {
    let (sender, receiver) = mpsc::channel(limits::EVENT_QUEUE_CAPACITY);
    (Events { silent, sender, metrics: metrics.clone() }, EventQueue { receiver, metrics })
}

impl Events {
    /// Queues Events. Events that do not fit are dropped and counted.
    pub fn send(&self, events: impl IntoIterator<Item = Event>) {
        for event in events.into_iter().filter(|event| !self.silent.includes(event.regarding.kind)) {
            if self.sender.try_send(event).is_err() {
                self.metrics.event("dropped");
            }
        }
    }
}

impl EventQueue {
    /// Publishes Events one after the other until the future is dropped. A series of equal Events is one Event object
    /// with a count.
    pub async fn run(mut self, client: Client, identity: String) {
        let reporter = Reporter { controller: "paddock".to_owned(), instance: Some(identity) };
        let mut sent = RecentEvents::default();
        // kube's recorder treats Events with the same reason as one series and keeps the first note. Each note
        // therefore has a recorder of its own.
        let mut series: LruCache<EventKey, Recorder> = LruCache::new(limits::RECENT_EVENTS_CAPACITY);
        while let Some(event) = self.receiver.recv().await {
            if !sent.is_due(&event, Instant::now()) {
                self.metrics.event("repeated");
                continue;
            }
            let new = || Recorder::new(client.clone(), reporter.clone());
            let recorder = series.get_or_insert(event_key(&event), new);
            let (kube_event, reference) = convert(&event);
            let result = match timeout(limits::EVENT_REQUEST_TIMEOUT, recorder.publish(&kube_event, &reference)).await {
                Ok(Ok(())) => "sent",
                Ok(Err(error)) => {
                    debug!(%error, regarding = %event.regarding, reason = %event.reason, "the Event was not sent");
                    "failed"
                }
                Err(_elapsed) => "failed",
            };
            self.metrics.event(result);
        }
    }
}

/// The UID of the object, the reason and the note. Events with the same key are repetitions.
type EventKey = (String, Reason, String);

fn event_key(event: &Event) -> EventKey {
    (event.uid.clone(), event.reason, event.note.clone())
}

/// The keys of recent Events, each with the time at which the Event was sent.
struct RecentEvents {
    last: LruCache<EventKey, Instant>,
}

impl Default for RecentEvents {
    fn default() -> Self {
        Self { last: LruCache::new(limits::RECENT_EVENTS_CAPACITY) }
    }
}

impl RecentEvents {
    fn is_due(&mut self, event: &Event, now: Instant) -> bool {
        let key = event_key(event);
        if self.last.peek(&key).is_some_and(|at| now.duration_since(*at) < limits::EVENT_REPEAT_INTERVAL) {
            return false;
        }
        // If there are more different Events in half a minute than the cache holds, some Events may be sent twice.
        self.last.put(key, now);
        true
    }
}

fn convert(event: &Event) -> (KubeEvent, ObjectReference) {
    let kube_event = KubeEvent {
        type_: if event.warning { EventType::Warning } else { EventType::Normal },
        reason: event.reason.as_str().to_owned(),
        // The API server accepts at most a kilobyte.
        note: Some(event.note.chars().take(1000).collect()),
        action: event.reason.as_str().to_owned(),
        secondary: None,
    };
    let key = &event.regarding;
    let reference = ObjectReference {
        api_version: Some(key.kind.api_version()),
        kind: Some(key.kind.name().to_owned()),
        namespace: key.kind.namespaced().then(|| key.namespace.to_string()),
        name: Some(key.name.to_string()),
        uid: Some(event.uid.clone()),
        ..ObjectReference::default()
    };
    (kube_event, reference)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use paddock_api::kind::Key;

    use super::*;

    fn event(note: &str) -> Event {
        let regarding = Key::new(Kind::Sandbox, "ns", "s");
        Event { regarding, uid: "u".into(), warning: true, reason: Reason::PluginFailed, note: note.into() }
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_event_is_sent_once_in_a_while_and_another_at_once() {
        let mut sent = RecentEvents::default();
        assert!(sent.is_due(&event("a"), Instant::now()));
        assert!(!sent.is_due(&event("a"), Instant::now()));
        assert!(sent.is_due(&event("b"), Instant::now()));
        tokio::time::advance(limits::EVENT_REPEAT_INTERVAL - Duration::from_millis(1)).await;
        assert!(!sent.is_due(&event("a"), Instant::now()));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(sent.is_due(&event("a"), Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let mut sent = RecentEvents::default();
        for n in 0..3 * limits::RECENT_EVENTS_CAPACITY.get() {
            sent.is_due(&event(&n.to_string()), Instant::now());
        }
        assert!(sent.last.len() <= limits::RECENT_EVENTS_CAPACITY.get());
    }

    #[tokio::test]
    async fn a_full_queue_drops_and_counts() {
        let metrics = Metrics::new().unwrap();
        let (events, _queue) = events(metrics.clone(), Silent::default());
        events.send((0..limits::EVENT_QUEUE_CAPACITY + 3).map(|n| event(&n.to_string())));
        let text = String::from_utf8(metrics.text().unwrap()).unwrap();
        assert!(text.contains("paddock_events_total{result=\"dropped\"} 3\n"), "{text}");
    }

    #[tokio::test]
    async fn kinds_that_are_silent_have_no_events() {
        for (silent, kind, expected) in [
            (Silent { claims: true, sandboxes: false }, Kind::Claim, 0),
            (Silent { claims: true, sandboxes: false }, Kind::SeedClaim, 0),
            (Silent { claims: true, sandboxes: false }, Kind::Sandbox, 1),
            (Silent { claims: false, sandboxes: true }, Kind::Sandbox, 0),
            (Silent { claims: false, sandboxes: true }, Kind::Claim, 1),
            (Silent { claims: true, sandboxes: true }, Kind::Pool, 1),
        ] {
            let (events, queue) = events(Metrics::new().unwrap(), silent);
            events.send([Event { regarding: Key::new(kind, "ns", "s"), ..event("a") }]);
            assert_eq!(queue.receiver.len(), expected, "{silent:?} {kind:?}");
        }
    }
}
