//! Warning Events and log lines about webhook entries that are not registered as they should be, and about policies that do
//! not judge Pods in the place of the webhook although they should.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{EventType, Recorder};
use paddock_core::admission::Phase;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{info, warn};

use super::registered::{EntryState, RegisteredEntry};
use super::registration::{CONFIGURATION, resource};
use crate::limits;
use crate::write::{new_event, publish, reporter};

/// Reports faults: at once when they change, and then once in a while.
pub(super) struct RegistrationEvents {
    client: Client,
    entries: Mutex<Reported>,
    isolation: Mutex<Reported>,
}

/// The faults that were reported last, and when.
#[derive(Default)]
struct Reported(Option<(Vec<String>, Instant)>);

impl Reported {
    /// Whether these faults are reported now, or their end. If so, they count as reported.
    fn is_due(&mut self, faults: &[String]) -> bool {
        let due = match &self.0 {
            None => !faults.is_empty(),
            Some((before, at)) => {
                before != faults || !faults.is_empty() && at.elapsed() >= limits::REGISTRATION_EVENT_INTERVAL
            }
        };
        if due {
            self.0 = Some((faults.to_vec(), Instant::now()));
        }
        due
    }
}

impl RegistrationEvents {
    pub(super) fn new(client: Client) -> Self {
        Self { client, entries: Mutex::default(), isolation: Mutex::default() }
    }

    /// Reports the faults of the policies that should judge Pods in the place of the webhook.
    pub(super) async fn isolation(&self, faults: &[String]) {
        if !self.isolation.lock().await.is_due(faults) {
            return;
        }
        if faults.is_empty() {
            return info!("the policies about isolation are in force again, and so is --isolation-policies");
        }
        let note = format!(
            "--isolation-policies has no effect: {}; apply what `paddock generate vap` prints with the operator's own flags",
            faults.join("; ")
        );
        warn!(note, "Pods of generated code are denied without an answer of the webhook, as without the flag");
        self.publish(Phase::Validate, "IsolationPoliciesNotInForce", &note).await;
    }

    /// Reports the faults of all entries.
    pub(super) async fn faults(&self, entries: &[RegisteredEntry]) {
        let faults: Vec<String> = entries.iter().filter_map(RegisteredEntry::fault).collect();
        if !self.entries.lock().await.is_due(&faults) {
            return;
        }
        if faults.is_empty() {
            return info!("every webhook entry is registered");
        }
        for phase in [Phase::Mutate, Phase::Validate] {
            let of_phase = entries.iter().filter(|entry| entry.phase == phase);
            let faults: Vec<String> = of_phase.filter_map(RegisteredEntry::fault).collect();
            if faults.is_empty() {
                continue;
            }
            let note = faults.join("; ");
            warn!(faults = note, "webhook entries are not registered as they should be");
            self.publish(phase, "WebhookNotRegistered", &note).await;
        }
    }

    /// Reports entries that somebody changed and the operator restored. After each rotation of the certificate, the
    /// operator itself changes the CA bundle.
    pub(super) async fn restored(&self, faults: &[RegisteredEntry]) {
        let rotated = |state: &EntryState| match state {
            EntryState::Differs(fields) => fields.iter().all(|field| field == "clientConfig.caBundle"),
            EntryState::Registered
            | EntryState::Missing
            | EntryState::OfAnotherOperator(_)
            | EntryState::Unreadable(_) => false,
        };
        let faults: Vec<&RegisteredEntry> = faults.iter().filter(|fault| !rotated(&fault.state)).collect();
        let Some(first) = faults.first() else { return };
        let note: Vec<String> = faults.iter().map(|fault| format!("restored: {fault}")).collect();
        let note = note.join("; ");
        warn!(faults = note, "somebody changed webhook entries, and the operator restored them");
        self.publish(first.phase, "WebhookRestored", &note).await;
    }

    async fn publish(&self, phase: Phase, reason: &str, note: &str) {
        let event = new_event(EventType::Warning, reason, note);
        let resource = resource(phase);
        let regarding = ObjectReference {
            api_version: Some(resource.api_version),
            kind: Some(resource.kind),
            name: Some(CONFIGURATION.to_owned()),
            ..ObjectReference::default()
        };
        // A recorder keeps the first note of a series, so each note has a recorder of its own.
        let recorder = Recorder::new(self.client.clone(), reporter(None));
        publish(&recorder, &event, &regarding).await;
    }
}
