//! A bounded queue of small tasks that nothing waits for, such as Events. Namespaces share it: they take turns, each
//! has a rate, and if the queue is full, the namespace with the most entries loses one.

use std::sync::Arc;
use std::time::Duration;

use crate::pace::{Pace, Rate};
use crate::turns::{Held, Turns};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

/// The interval at which entries that wait for their rate are looked at.
const PACE_STEP: Duration = Duration::from_millis(20);

/// The limits of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// The number of entries that may wait.
    pub capacity: usize,
    /// The number of entries that are handled at the same time. One namespace has at most half of them.
    pub concurrency: usize,
    /// The rate of one namespace.
    pub namespace: Rate,
    /// The rate of all namespaces together.
    pub process: Rate,
}

/// The end of an attempt to queue an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queued {
    /// The entry waits.
    Waits,
    /// The entry took the place of an older entry, which it replaces.
    Merged,
    /// The queue was full. The entry, or one of the namespace with the most entries, was dropped.
    Dropped,
}

/// The queue. Clones are handles on the same queue.
pub struct FairQueue<T> {
    shared: Arc<Shared<T>>,
}

/// The entries that wait, by namespace and by object, each with its namespace.
type Waiting<T> = Turns<Arc<str>, Arc<str>, (Arc<str>, T)>;

struct Shared<T> {
    limits: QueueLimits,
    waiting: Mutex<Waiting<T>>,
    changed: Notify,
}

impl<T> Clone for FairQueue<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<T> FairQueue<T> {
    /// An empty queue.
    #[must_use]
    pub fn new(limits: QueueLimits) -> Self {
        Self { shared: Arc::new(Shared { limits, waiting: Mutex::default(), changed: Notify::new() }) }
    }

    /// Queues an entry about an object of a namespace. It replaces a waiting entry about the same object for which
    /// `replaces` returns true.
    pub fn push(&self, namespace: &Arc<str>, object: &Arc<str>, entry: T, replaces: impl Fn(&T) -> bool) -> Queued {
        let mut waiting = self.shared.waiting.lock();
        if let Some((_, old)) = waiting.of_family(namespace, object).find(|(_, old)| replaces(old)) {
            *old = entry;
            return Queued::Merged;
        }
        let mut queued = Queued::Waits;
        if waiting.len() >= self.shared.limits.capacity {
            queued = Queued::Dropped;
            match waiting.longest().map(|(longest, _)| longest.clone()) {
                Some(longest) if longest != *namespace => drop(waiting.drop_of(&longest)),
                Some(_) | None => return queued,
            }
        }
        waiting.push(namespace.clone(), object.clone(), (namespace.clone(), entry));
        drop(waiting);
        self.shared.changed.notify_one();
        queued
    }

    /// The number of entries that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.waiting.lock().len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Handles the entries in turns, until the future is dropped.
    pub async fn run<F: Future<Output = ()>>(self, handle: impl Fn(T) -> F) {
        let limits = self.shared.limits;
        let mut running = FuturesUnordered::new();
        let mut held: Held<Arc<str>> = Held::default();
        let (mut namespaces, mut process) = (Pace::new(limits.namespace), Pace::new(limits.process));
        loop {
            let now = Instant::now();
            while running.len() < limits.concurrency && process.allows(&(), now) {
                let may = |namespace: &Arc<str>| {
                    held.of(namespace) < limits.concurrency.div_ceil(2) && namespaces.allows(namespace, now)
                };
                let Some((namespace, entry)) = self.shared.waiting.lock().pop_of(may) else { break };
                process.record((), now);
                namespaces.record(namespace.clone(), now);
                held.take(namespace.clone());
                let handled = handle(entry);
                running.push(async move {
                    handled.await;
                    namespace
                });
            }
            let delayed = running.len() < limits.concurrency && !self.is_empty();
            tokio::select! {
                Some(namespace) = running.next() => held.give_back(&namespace),
                () = self.shared.changed.notified() => {}
                () = sleep(PACE_STEP), if delayed => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: QueueLimits = QueueLimits {
        capacity: 100,
        concurrency: 4,
        namespace: Rate::new(Duration::from_millis(100), 10),
        process: Rate::new(Duration::from_millis(10), 50),
    };

    /// The longest time that a handler takes.
    const TAIL: Duration = Duration::from_secs(6);

    fn push(queue: &FairQueue<u32>, namespace: &str, entry: u32) -> Queued {
        queue.push(&namespace.into(), &entry.to_string().into(), entry, |_| false)
    }

    /// Runs the queue, with a handler that takes this long, until it is empty. Returns the entries in order.
    async fn drain(queue: &FairQueue<u32>, took: impl Fn(u32) -> Duration) -> Vec<u32> {
        let done = Mutex::new(Vec::new());
        let run = queue.clone().run(|entry| {
            let (took, done) = (took(entry), &done);
            async move {
                sleep(took).await;
                done.lock().push(entry);
            }
        });
        let empty = async {
            while !queue.is_empty() {
                sleep(Duration::from_millis(1)).await;
            }
            sleep(TAIL).await;
        };
        tokio::select! { () = run => {}, () = empty => {} }
        done.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_drops_from_the_namespace_with_the_most_entries() {
        let queue = FairQueue::new(LIMITS);
        let dropped = (0..300).filter(|n| push(&queue, "hostile", *n) == Queued::Dropped).count();
        assert_eq!(dropped, 200);
        for n in 1000..1040 {
            assert_eq!(push(&queue, "good", n), Queued::Dropped, "one of the other namespace");
        }
        assert_eq!(queue.len(), LIMITS.capacity);
        let done = drain(&queue, |_| Duration::ZERO).await;
        assert_eq!(done.iter().filter(|n| **n >= 1000).count(), 40, "nothing of the good namespace is lost");
    }

    #[tokio::test(start_paused = true)]
    async fn namespaces_take_turns_and_one_that_hangs_holds_half_of_the_places() {
        let queue = FairQueue::new(LIMITS);
        (0..50).for_each(|n| assert_ne!(push(&queue, "hostile", n), Queued::Dropped));
        (1000..1008).for_each(|n| assert_ne!(push(&queue, "good", n), Queued::Dropped));
        let hangs = |n| if n < 1000 { Duration::from_secs(5) } else { Duration::from_millis(5) };
        let start = Instant::now();
        let done = drain(&queue, hangs).await;
        assert_eq!(done.len(), 58);
        assert_eq!(done[..8], [1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007]);
        assert!(start.elapsed() > Duration::from_secs(100), "two at a time");
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_has_a_rate_and_all_of_them_have_one() {
        let queue = FairQueue::new(LIMITS);
        (0..30).for_each(|n| assert_ne!(push(&queue, "one", n), Queued::Dropped));
        let start = Instant::now();
        drain(&queue, |_| Duration::ZERO).await;
        let took = start.elapsed() - TAIL;
        assert!(took >= Duration::from_secs(2) && took < Duration::from_millis(2200), "{took:?}");
        let queue = FairQueue::new(LIMITS);
        (0..90).for_each(|n| assert_ne!(push(&queue, &format!("ns{n}"), n), Queued::Dropped));
        let start = Instant::now();
        drain(&queue, |_| Duration::ZERO).await;
        let took = start.elapsed() - TAIL;
        assert!(took >= Duration::from_millis(400) && took < Duration::from_millis(600), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_replaces_an_older_one_about_the_same_object_alone() {
        let queue = FairQueue::new(LIMITS);
        let push =
            |namespace: &str, object: &str, entry| queue.push(&namespace.into(), &object.into(), entry, |_| true);
        assert_eq!(push("a", "x", 1), Queued::Waits);
        assert_eq!(push("a", "y", 2), Queued::Waits);
        assert_eq!(push("b", "x", 3), Queued::Waits);
        assert_eq!(push("a", "x", 4), Queued::Merged);
        let mut done = drain(&queue, |_| Duration::ZERO).await;
        done.sort_unstable();
        assert_eq!(done, [2, 3, 4]);
    }
}
