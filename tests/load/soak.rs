//! Requests with ids and streams, through replicas of the gateway that are restarted one after another meanwhile. In the
//! end, one of them is killed.

mod report;
mod requests;
mod streams;

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

pub use self::report::{Counts, Report, Streams};
pub use self::requests::CLIENTS;
use self::requests::Style;
use crate::client::Version;
use crate::gateway::Gateway;
use crate::scene::Scene;
use crate::service::Service;

/// The settings of a soak.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The shortest time until the kill. The restarts are spread over it.
    pub time: Duration,
    /// The rolling restarts. In each of them, every replica is restarted once, one after another.
    pub restarts: u32,
    /// The longest pause of a client that keeps its connection. It is shorter than the drain delay of the gateways: a client
    /// that says nothing for longer finds its connection closed, and another request may cross with that.
    pub pause: Duration,
    /// The interval at which the Service looks at its replicas.
    pub notices: Duration,
    /// The time after the kill in which requests are counted.
    pub after_kill: Duration,
}

/// The part of a soak in which something ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Restarts,
    Kill,
}

/// The facts that all clients of a soak share. Clones are handles on the same facts.
#[derive(Clone, Debug)]
struct Shared {
    service: Service,
    headers: Arc<[(&'static str, String)]>,
    pause: Duration,
    counts: Arc<Mutex<report::Counting>>,
    killed: Arc<AtomicBool>,
    stopped: Arc<AtomicU8>,
}

impl Shared {
    fn phase(&self) -> Phase {
        if self.killed.load(Ordering::SeqCst) { Phase::Kill } else { Phase::Restarts }
    }

    /// Whether the clients are to begin nothing more.
    fn stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst) > 0
    }

    /// Whether the streams are to end. They end after the requests, so that the last ones are sent beside them.
    fn streams_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst) > 1
    }

    fn count(&self, change: impl FnOnce(&mut report::Counting, Phase)) {
        let phase = self.phase();
        change(&mut self.counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner), phase);
    }
}

/// Runs a soak through these gateways.
///
/// # Errors
/// If a gateway does not end in order when it gets SIGTERM, or does not start again. Lost requests are no error, but are in
/// the report.
pub async fn soak(scene: &Scene, gateways: Vec<Gateway>, plan: &Plan, say: impl Fn(&str)) -> Result<Report> {
    let replicas = gateways.len();
    let shared = Shared {
        service: Service::of(gateways, plan.notices),
        headers: scene.headers().into(),
        pause: plan.pause,
        counts: Arc::default(),
        killed: Arc::default(),
        stopped: Arc::default(),
    };
    let (mut requests, mut open) = (JoinSet::new(), JoinSet::new());
    for style in Style::ALL {
        requests::spawn(&mut requests, style, &shared);
    }
    streams::spawn(&mut open, &shared);

    let began = Instant::now();
    let mut drains = Vec::new();
    let mut memory = 0;
    for restart in 0..plan.restarts {
        tokio::time::sleep_until(began + plan.time * restart / plan.restarts.max(1)).await;
        for number in 0..replicas {
            let resident = shared.service.gateways().get(number).and_then(|gateway| gateway.process.resident_bytes());
            memory = memory.max(resident.unwrap_or_default());
            let (exit, drained) = shared.service.restart(number).await?;
            ensure!(exit.code == 0, "replica {number} did not end in order: {exit}");
            drains.push(drained);
        }
        say(&format!("rolling restart {} of {}: {}", restart + 1, plan.restarts, progress(&shared)));
    }
    tokio::time::sleep_until(began + plan.time).await;

    let until_kill = began.elapsed();
    shared.killed.store(true, Ordering::SeqCst);
    shared.service.kill(0).await?;
    sleep(plan.after_kill).await;
    say(&format!("killed a replica: {}", progress(&shared)));
    shared.stopped.store(1, Ordering::SeqCst);
    while requests.join_next().await.is_some() {}
    shared.stopped.store(2, Ordering::SeqCst);
    while open.join_next().await.is_some() {}

    let counting = std::mem::take(&mut *shared.counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    Ok(counting.report(&scene.upstream.arrivals, until_kill, drains, memory))
}

fn progress(shared: &Shared) -> String {
    let mut text = String::new();
    shared.count(|counting, _| text = counting.progress());
    text
}

/// The versions of HTTP with their names.
fn name(version: Version) -> &'static str {
    match version {
        Version::Http1 => "HTTP/1.1",
        Version::Http2 => "HTTP/2",
    }
}
