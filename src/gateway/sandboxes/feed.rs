//! One watch for each kind, which feeds the directory.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use kube::Client;
use kube::runtime::watcher::Event;
use paddock_api::document::Document;
use paddock_api::kind::Kind;
use paddock_api::names::label;
use paddock_kube::clock::Clock;
use paddock_kube::watch::{self, Selection, WatchError};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use super::directory::{Directory, name_of};
use super::limits;
use super::metrics::Metrics;
use super::observed::{Name, Pod, Sandbox};

/// The watches of the directory.
pub(crate) struct Feed {
    pub(crate) client: Client,
    pub(crate) directory: Directory,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Clock,
    /// The only namespace to watch. If absent, all namespaces.
    pub(crate) namespace: Option<String>,
    pub(crate) allow_loopback: bool,
    pub(crate) outages: Outages,
}

/// The time since which each watch fails. Clones are handles on the same times.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outages(Arc<Mutex<[Option<Instant>; 2]>>);

/// One of the two kinds of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fed {
    Sandboxes,
    Pods,
}

/// The objects of an unfinished list, without their JSON.
#[derive(Default)]
struct Listing {
    sandboxes: Vec<(Name, Sandbox)>,
    pods: Vec<(Name, Option<Pod>)>,
}

impl Outages {
    /// The kinds that have not been watched for so long that the directory is out of date.
    pub(crate) fn kinds(&self) -> Vec<&'static str> {
        let since = self.0.lock();
        let lasts = |since: Option<Instant>| since.is_some_and(|since| since.elapsed() >= limits::WATCH_OUTAGE);
        [Fed::Sandboxes, Fed::Pods].into_iter().filter(|fed| lasts(since[*fed as usize])).map(Fed::as_str).collect()
    }

    /// Whether the directory is so old that an address in it may be that of another pod.
    pub(crate) fn is_stale(&self) -> bool {
        self.0.lock().iter().flatten().any(|since| since.elapsed() >= limits::STALE_TIME)
    }

    fn fails(&self, fed: Fed) {
        self.0.lock()[fed as usize].get_or_insert_with(Instant::now);
    }

    fn works(&self, fed: Fed) {
        self.0.lock()[fed as usize] = None;
    }
}

impl Fed {
    fn kind(self) -> Kind {
        match self {
            Fed::Sandboxes => Kind::Sandbox,
            Fed::Pods => Kind::Pod,
        }
    }

    /// Every pod of a Sandbox has the label. Other pods are never read.
    fn labels(self) -> Option<&'static str> {
        match self {
            Fed::Sandboxes => None,
            Fed::Pods => Some(label::SANDBOX_NAME_HASH),
        }
    }

    fn as_str(self) -> &'static str {
        self.kind().plural()
    }
}

impl Feed {
    /// Watches until the future is dropped.
    pub(crate) async fn run(self) {
        tokio::join!(self.watch(Fed::Sandboxes), self.watch(Fed::Pods));
    }

    async fn watch(&self, fed: Fed) {
        let mut failures = 0_u32;
        loop {
            let selection = Selection { namespace: self.namespace.as_deref(), labels: fed.labels() };
            let mut events = pin!(watch::selected_events(&self.client, fed.kind(), selection));
            let mut listing = Listing::default();
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => {
                        // The beginning of a list shows nothing, because the list may expire again and again.
                        let shows = !matches!(event, Event::Init | Event::InitApply(_));
                        self.take_in(fed, event, &mut listing);
                        if shows {
                            failures = 0;
                            self.outages.works(fed);
                            self.metrics.sizes(self.directory.sizes());
                        }
                    }
                    Err(error) => {
                        let cause = WatchError::of(&error);
                        // A watch that works shows nothing for as long as nothing changes. The end of an outage is
                        // therefore the end of a new list.
                        let lists = cause != WatchError::Expired && failures > 0;
                        if lists {
                            self.outages.fails(fed);
                        }
                        self.metrics.watch_error(fed.as_str(), cause.as_str());
                        match failures {
                            0 => debug!(kind = fed.as_str(), %error, "the watch was interrupted"),
                            _ => warn!(kind = fed.as_str(), %error, failures, "the watch keeps failing"),
                        }
                        sleep(cause.pause(failures)).await;
                        failures = failures.saturating_add(1);
                        if lists {
                            break;
                        }
                    }
                }
            }
        }
    }

    fn take_in(&self, fed: Fed, event: Event<Document>, listing: &mut Listing) {
        match (event, fed) {
            (Event::Init, _) => *listing = Listing::default(),
            (Event::InitApply(document), Fed::Sandboxes) => listing.sandboxes.extend(read_sandbox(&document)),
            (Event::InitApply(document), Fed::Pods) => listing.pods.push((name_of(&document), self.read(&document))),
            (Event::InitDone, Fed::Sandboxes) => self.directory.sandboxes(std::mem::take(&mut listing.sandboxes)),
            (Event::InitDone, Fed::Pods) => self.directory.pods(std::mem::take(&mut listing.pods)),
            (Event::Apply(document), Fed::Sandboxes) => match read_sandbox(&document) {
                Some((name, sandbox)) => self.directory.sandbox(name, sandbox),
                None => self.directory.no_sandbox(&name_of(&document), uid_of(&document)),
            },
            (Event::Apply(document), Fed::Pods) => self.directory.pod(name_of(&document), self.read(&document)),
            (Event::Delete(document), Fed::Sandboxes) => {
                self.directory.no_sandbox(&name_of(&document), uid_of(&document));
            }
            (Event::Delete(document), Fed::Pods) => self.directory.no_pod(&name_of(&document), uid_of(&document)),
        }
    }

    fn read(&self, document: &Document) -> Option<Pod> {
        let now = self.clock.now();
        let age = |at: Timestamp| Duration::try_from(now.duration_since(at)).unwrap_or_default();
        let read = Pod::read(document, self.allow_loopback, Instant::now(), age);
        read.unwrap_or_else(|error| {
            warn!(pod = ?name_of(document), %error, "the pod cannot be read");
            None
        })
    }
}

/// Reads a Sandbox. One that cannot be read harms only itself.
pub(crate) fn read_sandbox(document: &Document) -> Option<(Name, Sandbox)> {
    let name = name_of(document);
    match Sandbox::read(document) {
        Ok(sandbox) => Some((name, sandbox)),
        Err(error) => {
            warn!(sandbox = ?name, %error, "the Sandbox cannot be read");
            None
        }
    }
}

fn uid_of(document: &Document) -> &str {
    document.metadata.uid.as_deref().unwrap_or_default()
}
