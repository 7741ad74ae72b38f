//! The policies about isolation, on which it depends whether the entries for Pods may fail open.

use paddock_kube::guard::Guards;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::limits;

/// The policies that judge Pods beside the webhook, as the last checks of the configurations saw them.
#[derive(Default)]
pub(super) struct Isolation {
    /// `None` without the flag `--isolation-policies`.
    policies: Option<watch::Receiver<Guards>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The first check of those in a row at which a policy was absent or differed. `None` while the policies are in force.
    faulty_since: Option<Instant>,
    /// Whether the policies came into force or ceased to be in force since the check before.
    has_changed: bool,
}

impl Isolation {
    pub(super) fn new(policies: Option<watch::Receiver<Guards>>) -> Self {
        Self { policies, ..Self::default() }
    }

    /// Whether the policies are in force, and their faults. Waits until they were read once. `None` without the flag.
    pub(super) async fn look(&self) -> Option<(bool, Vec<String>)> {
        let mut policies = self.policies.clone()?;
        let read = policies.wait_for(|guards| *guards != Guards::Unread).await;
        // The sender ends with the operator.
        let guards = read.map(|guards| guards.clone()).unwrap_or_default();
        let in_force = guards.all_in_force();
        let mut state = self.state.lock();
        state.has_changed = state.faulty_since.is_none() != in_force;
        state.faulty_since = if in_force { None } else { state.faulty_since.or_else(|| Some(Instant::now())) };
        Some((in_force, guards.faults()))
    }

    /// Whether the last check saw another state than the check before it.
    pub(super) fn has_changed(&self) -> bool {
        self.state.lock().has_changed
    }

    /// Whether an entry of manifests has to be closed: it fails open, the desired one does not, and the policies have had
    /// faults for so long that no upgrade explains them.
    pub(super) fn closes(&self, desired: &[Value], entry: &Value) -> bool {
        let since = self.state.lock().faulty_since;
        since.is_some_and(|since| since.elapsed() >= limits::ISOLATION_GRACE)
            && entry["failurePolicy"] == "Ignore"
            && desired.iter().any(|desired| desired["name"] == entry["name"] && desired["failurePolicy"] == "Fail")
    }
}
