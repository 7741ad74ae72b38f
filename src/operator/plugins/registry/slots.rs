//! Limits the pulls under way, so that the memory for them is bounded. One registry gets one of the slots, so a registry
//! that sends slowly does not keep others from being asked.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits;

/// The slots for pulls.
pub(super) struct Slots {
    all: Arc<Semaphore>,
    /// The turn of each registry that is being pulled from or waited for, by its host.
    registries: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// A slot. The pull ends with it.
pub(super) struct Slot {
    _of_registry: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Default for Slots {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(limits::PLUGIN_PULLS)), registries: Mutex::default() }
    }
}

impl Slots {
    /// Waits for a slot. The turn of the registry comes first, so that nobody waits for it with a slot in hand. `None` never
    /// happens, because the slots are never closed.
    pub(super) async fn take(&self, host: &str) -> Option<Slot> {
        let turn = {
            let mut registries = self.registries.lock();
            // An entry that only the table holds is used by nobody.
            registries.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(registries.entry(host.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(1))))
        };
        let of_registry = turn.acquire_owned().await.ok()?;
        let of_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Slot { _of_registry: of_registry, _of_all: of_all })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_registry_has_one_slot_and_all_have_two() {
        let slots = Slots::default();
        let now = |host: &'static str| timeout(Duration::from_secs(1), slots.take(host));
        let slow = now("slow").await.unwrap();
        assert!(now("slow").await.is_err(), "a second pull from the same registry waits");
        let other = now("other").await.unwrap();
        assert!(now("third").await.is_err(), "a third pull waits");
        drop(slow);
        assert!(now("third").await.is_ok());
        drop(other);
        assert!(now("other").await.is_ok());
        assert!(slots.registries.lock().len() <= 2, "a registry that nobody waits for has no entry");
    }
}
