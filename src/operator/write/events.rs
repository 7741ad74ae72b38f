//! Publishes Kubernetes Events in the background. Namespaces share the queue and the rate, repetitions are sent once in
//! a while, and Events that do not fit are dropped.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event as KubeEvent, EventType, Recorder, Reporter};
use lru::LruCache;
use paddock_api::kind::{Kind, OwnKind};
use paddock_core::plan::{Event, Reason};
use paddock_core::text::{MESSAGE_BYTES, elide};
use paddock_kube::fair_queue::{FairQueue, Queued};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::limits;
use crate::metrics::Metrics;

/// The sending half of the queue. Sending never waits.
#[derive(Clone)]
pub struct Events {
    disabled_events: DisabledEvents,
    queue: FairQueue<Event>,
    metrics: Metrics,
}

/// The receiving half of the queue. [`EventQueue::run`] publishes the Events.
pub struct EventQueue {
    queue: FairQueue<Event>,
    metrics: Metrics,
}

/// The kinds of objects about which no Events are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DisabledEvents {
    /// No Events are sent about claims (`--disable-claim-events`).
    pub claims: bool,
    /// No Events are sent about Sandboxes (`--disable-sandbox-events`).
    pub sandboxes: bool,
}

impl DisabledEvents {
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
pub fn events(metrics: Metrics, disabled_events: DisabledEvents) -> (Events, EventQueue) {
    let queue = FairQueue::new(limits::EVENTS);
    (Events { disabled_events, queue: queue.clone(), metrics: metrics.clone() }, EventQueue { queue, metrics })
}

impl Events {
    /// Queues Events. Events that do not fit are dropped and counted. A new note of type `Normal` replaces a note with
    /// the same reason about the same object that still waits, because it says what is true now.
    pub fn send(&self, events: impl IntoIterator<Item = Event>) {
        for event in events.into_iter().filter(|event| !self.disabled_events.includes(event.regarding.kind)) {
            let (namespace, uid) = (event.regarding.namespace.clone(), Arc::from(event.uid.as_str()));
            let (warning, reason, note) = (event.warning, event.reason, event.note.clone());
            let replaces = |old: &Event| old.reason == reason && (old.note == note || !warning && !old.warning);
            match self.queue.push(&namespace, &uid, event, replaces) {
                Queued::Waits => {}
                Queued::Merged => self.metrics.event("merged"),
                Queued::Dropped => self.metrics.event("dropped"),
            }
        }
    }
}

impl EventQueue {
    /// Publishes Events, a few at the same time, until the future is dropped. A series of equal Events is one Event
    /// object with a count.
    pub async fn run(self, client: Client, identity: String) {
        let reporter = reporter(Some(identity));
        let sent = Mutex::new(RecentEvents::default());
        // kube's recorder treats Events with the same reason as one series and keeps the first note. Each note
        // therefore has a recorder of its own.
        let series: Mutex<LruCache<EventKey, Recorder>> = Mutex::new(LruCache::new(limits::RECENT_EVENTS_CAPACITY));
        let metrics = self.metrics;
        self.queue
            .run(async |event| {
                if !sent.lock().is_due(&event, Instant::now()) {
                    return metrics.event("repeated");
                }
                let new = || Recorder::new(client.clone(), reporter.clone());
                let recorder = series.lock().get_or_insert(event_key(&event), new).clone();
                let (kube_event, reference) = convert(&event);
                metrics.event(if publish(&recorder, &kube_event, &reference).await { "sent" } else { "failed" });
            })
            .await;
    }
}

/// The name under which the operator reports. An Event of no particular replica has no instance.
pub(crate) fn reporter(instance: Option<String>) -> Reporter {
    Reporter { controller: "paddock".to_owned(), instance }
}

/// An Event whose action is its reason.
pub(crate) fn new_event(type_: EventType, reason: &str, note: &str) -> KubeEvent {
    KubeEvent {
        type_,
        reason: reason.to_owned(),
        // The API server accepts no more.
        note: Some(elide(note, MESSAGE_BYTES)),
        action: reason.to_owned(),
        secondary: None,
    }
}

/// Publishes an Event. Returns whether the API server has accepted it in time.
pub(crate) async fn publish(recorder: &Recorder, event: &KubeEvent, regarding: &ObjectReference) -> bool {
    let ObjectReference { kind, namespace, name, .. } = regarding;
    match timeout(limits::EVENT_REQUEST_TIMEOUT, recorder.publish(event, regarding)).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            debug!(%error, kind, namespace, name, reason = event.reason, "the Event was not sent");
            false
        }
        Err(_elapsed) => {
            debug!(kind, namespace, name, reason = event.reason, "the Event was not sent in time");
            false
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
    let type_ = if event.warning { EventType::Warning } else { EventType::Normal };
    let kube_event = new_event(type_, event.reason.as_str(), &event.note);
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
        let (events, _queue) = events(metrics.clone(), DisabledEvents::default());
        events.send((0..limits::EVENTS.capacity + 3).map(|n| event(&n.to_string())));
        let text = String::from_utf8(metrics.text().unwrap()).unwrap();
        assert!(text.contains("paddock_events_total{result=\"dropped\"} 3\n"), "{text}");
    }

    #[tokio::test]
    async fn kinds_that_are_silent_have_no_events() {
        for (disabled_events, kind, expected) in [
            (DisabledEvents { claims: true, sandboxes: false }, Kind::Claim, 0),
            (DisabledEvents { claims: true, sandboxes: false }, Kind::SeedClaim, 0),
            (DisabledEvents { claims: true, sandboxes: false }, Kind::Sandbox, 1),
            (DisabledEvents { claims: false, sandboxes: true }, Kind::Sandbox, 0),
            (DisabledEvents { claims: false, sandboxes: true }, Kind::Claim, 1),
            (DisabledEvents { claims: true, sandboxes: true }, Kind::Pool, 1),
        ] {
            let (events, queue) = events(Metrics::new().unwrap(), disabled_events);
            events.send([Event { regarding: Key::new(kind, "ns", "s"), ..event("a") }]);
            assert_eq!(queue.queue.len(), expected, "{disabled_events:?} {kind:?}");
        }
    }

    fn counted(metrics: &Metrics, result: &str) -> String {
        let text = String::from_utf8(metrics.text().unwrap()).unwrap();
        let name = format!("paddock_events_total{{result=\"{result}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)).unwrap_or_default().to_owned()
    }

    /// One namespace sends Events without end, and another one a few warnings.
    #[tokio::test]
    async fn a_namespace_with_many_events_drops_its_own() {
        let metrics = Metrics::new().unwrap();
        let (events, queue) = events(metrics.clone(), DisabledEvents::default());
        let of = |namespace: &str, n: usize| {
            let regarding = Key::new(Kind::Claim, namespace, format!("c{n}"));
            Event { regarding, uid: format!("{namespace}-{n}"), ..event("cold start") }
        };
        events.send((0..3 * limits::EVENTS.capacity).map(|n| of("hostile", n)));
        events.send((0..100).map(|n| of("good", n)));
        let sent = Arc::new(Mutex::new(0));
        let seen = sent.clone();
        let run = queue
            .queue
            .clone()
            .run(async |event: Event| *seen.lock() += usize::from(&*event.regarding.namespace == "good"));
        let done = async {
            while *sent.lock() < 100 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! { () = run => {}, () = done => {} }
        assert_eq!(counted(&metrics, "dropped"), (2 * limits::EVENTS.capacity + 100).to_string());
    }

    #[tokio::test]
    async fn a_newer_note_replaces_one_that_waits_and_a_warning_stays() {
        let metrics = Metrics::new().unwrap();
        let (events, _queue) = events(metrics.clone(), DisabledEvents::default());
        let normal = |note: &str| Event { warning: false, ..event(note) };
        events.send([event("a"), event("b"), normal("1"), normal("2"), event("a")]);
        assert_eq!((events.queue.len(), counted(&metrics, "merged").as_str()), (3, "2"));
    }
}
