//! The requests that are held while their Sandbox is being woken: at most so many, with a fair share for each namespace.

use std::sync::Arc;
use std::time::Duration;

use paddock_kube::turns::Held;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::limits::{self, HoldLimits};
use super::metrics::Metrics;
use super::observed::Name;

/// The limit that keeps a request from being held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Sandbox,
    Namespace,
}

/// All held requests. Clones are handles on the same requests.
#[derive(Clone, Debug)]
pub(crate) struct Holds {
    limits: HoldLimits,
    metrics: Metrics,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    places: usize,
    namespaces: Held<Arc<str>>,
    sandboxes: Held<Name>,
}

/// The places of one held request, until it is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    of: Holds,
    name: Name,
    places: usize,
    since: Instant,
}

impl Holds {
    pub(crate) fn new(limits: HoldLimits, metrics: Metrics) -> Self {
        Self { limits, metrics, taken: Arc::default() }
    }

    /// The longest time for which a request is held.
    pub(crate) fn time(&self) -> Duration {
        self.limits.time
    }

    /// Holds a request that needs this many bytes of memory.
    pub(crate) fn take(&self, name: &Name, bytes: usize) -> Result<Hold, Full> {
        let places = 1 + bytes / limits::HELD_BYTES_PER_PLACE;
        let mut taken = self.taken.lock();
        if taken.sandboxes.of(name) >= self.limits.per_sandbox {
            return Err(Full::Sandbox);
        }
        let free = self.limits.places.saturating_sub(taken.places + places - 1);
        if !taken.namespaces.may_take(&name.namespace, free) {
            return Err(Full::Namespace);
        }
        taken.places += places;
        (0..places).for_each(|_| taken.namespaces.take(name.namespace.clone()));
        taken.sandboxes.take(name.clone());
        drop(taken);
        self.metrics.held(1);
        Ok(Hold { of: self.clone(), name: name.clone(), places, since: Instant::now() })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut taken = self.of.taken.lock();
        taken.places -= self.places;
        (0..self.places).for_each(|_| taken.namespaces.give_back(&self.name.namespace));
        taken.sandboxes.give_back(&self.name);
        drop(taken);
        self.of.metrics.held(-1);
        self.of.metrics.hold_time(self.since.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(places: usize, per_sandbox: usize) -> Holds {
        Holds::new(HoldLimits { places, per_sandbox, time: Duration::from_secs(60) }, Metrics::for_tests())
    }

    fn name(namespace: &str, name: &str) -> Name {
        Name { namespace: namespace.into(), name: name.into() }
    }

    fn take(holds: &Holds, of: &Name, count: usize, bytes: usize) -> (Vec<Hold>, Option<Full>) {
        let mut held = Vec::new();
        for _ in 0..count {
            match holds.take(of, bytes) {
                Ok(hold) => held.push(hold),
                Err(full) => return (held, Some(full)),
            }
        }
        (held, None)
    }

    #[tokio::test]
    async fn a_sandbox_and_a_namespace_leave_places_for_others_and_every_place_comes_back() {
        let holds = holds(900, 100);
        let (first, full) = take(&holds, &name("busy", "a"), 1000, 0);
        assert_eq!((first.len(), full), (100, Some(Full::Sandbox)));
        let mut others: Vec<_> = (0..20).map(|n| take(&holds, &name("busy", &n.to_string()), 100, 0)).collect();
        assert_eq!(others.iter().map(|(held, _)| held.len()).sum::<usize>() + 100, 800, "eight ninths");
        assert_eq!(others.pop().and_then(|(_, full)| full), Some(Full::Namespace));
        let (quiet, full) = take(&holds, &name("quiet", "a"), 50, 0);
        assert_eq!((quiet.len(), full), (50, None));
        drop((first, others, quiet));
        let taken = holds.taken.lock();
        let left = (taken.places, taken.namespaces.of(&"busy".into()), taken.sandboxes.of(&name("busy", "a")));
        assert_eq!(left, (0, 0, 0));
    }

    #[tokio::test]
    async fn a_request_with_a_large_head_takes_more_places() {
        let holds = holds(90, 100);
        let (held, full) = take(&holds, &name("ns", "a"), 100, 4 * limits::HELD_BYTES_PER_PLACE);
        assert_eq!(full, Some(Full::Namespace));
        assert!((14..=17).contains(&held.len()), "{}", held.len());
        assert!(holds.taken.lock().places <= 90);
    }
}
