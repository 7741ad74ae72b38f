//! Follows one resource: all its objects, each time that one of them changes.
//!
//! If the resource is not served, it has no objects. A resource that had objects counts as empty only after a minute,
//! because a proxy may answer for the API server. Without the right to read it, the discovery of the API server says
//! whether it is served, so a new operator with the ClusterRole of an earlier version works as that version did.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt, stream};
use kube::Client;
use kube::api::ApiResource;
use kube::runtime::watcher;
use paddock_api::document::Document;
use paddock_kube::watch::{Attempt, Selection, WatchError, resource_events};
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, info, warn};

use crate::limits;
use crate::watch::outage::{Consequence, Outage};

/// The objects that are followed.
pub(super) struct Followed {
    pub(super) resource: ApiResource,
    pub(super) namespace: Option<String>,
    pub(super) labels: Option<String>,
}

/// The news about a resource.
#[derive(Debug)]
pub(super) enum Update<T> {
    /// All objects, by name.
    Objects(BTreeMap<String, T>),
    /// The objects cannot be watched now. This says nothing about them.
    Fault {
        /// The reason.
        message: String,
        /// Whether the watch has failed for so long that the objects that are known may be out of date.
        is_outage: bool,
    },
}

/// Follows a resource. `read` keeps the part of an object that matters.
pub(super) fn follow<T: Clone + Send + 'static>(
    client: Client,
    followed: Followed,
    read: fn(&Document) -> T,
) -> impl Stream<Item = Update<T>> + Send + 'static {
    let follow = Follow {
        client,
        followed,
        read,
        events: None,
        known: BTreeMap::new(),
        listing: BTreeMap::new(),
        failures: 0,
        outage: Outage::default(),
        is_out: false,
        absent_since: None,
        pause: Duration::ZERO,
    };
    stream::unfold(follow, |mut follow| async move {
        let update = follow.update().await;
        Some((update, follow))
    })
}

struct Follow<T> {
    client: Client,
    followed: Followed,
    read: fn(&Document) -> T,
    events: Option<BoxStream<'static, watcher::Result<watcher::Event<Document>>>>,
    known: BTreeMap<String, T>,
    listing: BTreeMap<String, T>,
    failures: u32,
    outage: Outage,
    /// Whether the outage is confirmed.
    is_out: bool,
    /// The time of the first list that found no such resource.
    absent_since: Option<Instant>,
    /// The wait before the next attempt.
    pause: Duration,
}

impl<T: Clone> Follow<T> {
    async fn update(&mut self) -> Update<T> {
        loop {
            sleep(std::mem::take(&mut self.pause)).await;
            let events = match self.events.take() {
                Some(events) => events,
                None => self.begin(),
            };
            let event = self.events.insert(events).next().await;
            let update = match event {
                None => {
                    self.events = None;
                    None
                }
                Some(Ok(event)) => self.take_in(event),
                Some(Err(error)) => self.failed(&error).await,
            };
            if let Some(update) = update {
                return update;
            }
        }
    }

    fn begin(&self) -> BoxStream<'static, watcher::Result<watcher::Event<Document>>> {
        let Followed { resource, namespace, labels } = &self.followed;
        let selection = Selection { namespace: namespace.as_deref(), labels: labels.as_deref() };
        resource_events(&self.client, resource, selection).boxed()
    }

    fn take_in(&mut self, event: watcher::Event<Document>) -> Option<Update<T>> {
        let name = |object: &Document| object.metadata.name.clone().unwrap_or_default();
        match event {
            watcher::Event::Init => {
                self.listing.clear();
                return None;
            }
            watcher::Event::InitApply(object) => {
                self.listing.insert(name(&object), (self.read)(&object));
                return None;
            }
            watcher::Event::InitDone => {
                self.known = std::mem::take(&mut self.listing);
                self.listed();
            }
            watcher::Event::Apply(object) => drop(self.known.insert(name(&object), (self.read)(&object))),
            watcher::Event::Delete(object) => drop(self.known.remove(&name(&object))),
        }
        self.outage.event();
        (self.failures, self.absent_since) = (0, None);
        Some(Update::Objects(self.known.clone()))
    }

    /// Notes that all objects are known.
    fn listed(&mut self) {
        self.outage.listed();
        if std::mem::take(&mut self.is_out) {
            info!(resource = self.followed.resource.plural, "the objects are known again");
        }
    }

    async fn failed(&mut self, error: &watcher::Error) -> Option<Update<T>> {
        let (mut cause, attempt) = (WatchError::of(error), Attempt::of(error));
        if cause == WatchError::Forbidden && !may_be_served(&self.client, &self.followed.resource).await {
            cause = WatchError::Absent;
        }
        self.pause = cause.pause(self.failures);
        self.failures = self.failures.saturating_add(1);
        let resource = &self.followed.resource.plural;
        match (cause, attempt) {
            (WatchError::Absent, Attempt::List) => {
                let since = *self.absent_since.get_or_insert_with(Instant::now);
                if self.failures == 1 {
                    info!(resource, "the CRD is not installed; waiting for it");
                    return None;
                }
                if !self.known.is_empty() && since.elapsed() < limits::WATCH_OUTAGE {
                    return None;
                }
                self.known.clear();
                self.listed();
                Some(Update::Objects(BTreeMap::new()))
            }
            // Only a list shows that nothing is left, and begins a watch when the resource is back.
            (WatchError::Absent, Attempt::Start | Attempt::Watch) => {
                self.events = None;
                None
            }
            (WatchError::Expired, _) => None,
            (WatchError::Forbidden | WatchError::Failed, _) => {
                let message = format!("{resource} cannot be watched: {error}");
                if self.failures > 1 || cause == WatchError::Forbidden {
                    warn!(resource, %error, failures = self.failures, "the watch of plugins keeps failing");
                }
                let consequence = self.outage.failed(attempt, Instant::now());
                if consequence == Consequence::List {
                    self.events = None;
                }
                let is_outage = consequence == Consequence::Unknown;
                if is_outage && !std::mem::replace(&mut self.is_out, true) {
                    error!(
                        resource,
                        "the objects have not been watched for a minute; those that are known stay in force"
                    );
                }
                Some(Update::Fault { message, is_outage })
            }
        }
    }
}

/// Whether the API server may serve the resource. Every authenticated user may ask.
async fn may_be_served(client: &Client, resource: &ApiResource) -> bool {
    let ApiResource { group, api_version, plural, .. } = resource;
    if group.is_empty() {
        return true;
    }
    match timeout(limits::PLUGIN_DISCOVERY_TIMEOUT, client.list_api_group_resources(api_version)).await {
        Ok(Ok(served)) => served.resources.iter().any(|resource| resource.name == *plural),
        Ok(Err(kube::Error::Api(status))) => status.code != 404,
        Ok(Err(_)) | Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU16, Ordering};

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    /// A resource on an API server that answers every request with this status. It answers the discovery of the group
    /// with the other one.
    fn answering(status: &Arc<AtomicU16>, discovery: u16) -> impl Stream<Item = Update<()>> + Send + 'static {
        let status = Arc::clone(status);
        let service = tower::service_fn(move |request: Request<Body>| {
            let is_discovery = request.uri().path() == "/apis/policy.paddock.dev/v1alpha1";
            let code = if is_discovery { discovery } else { status.load(Ordering::Relaxed) };
            let body = if code == 200 {
                json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": "1" }, "items": [
                    { "metadata": { "name": "a", "uid": "u", "resourceVersion": "1" } },
                ] })
            } else {
                json!({ "kind": "Status", "status": "Failure", "code": code, "reason": "NotFound", "message": "no" })
            };
            let response = Response::builder().status(code).body(Body::from(body.to_string().into_bytes()));
            std::future::ready(Ok::<_, std::io::Error>(response.unwrap()))
        });
        let resource = ApiResource {
            group: "policy.paddock.dev".to_owned(),
            version: "v1alpha1".to_owned(),
            api_version: "policy.paddock.dev/v1alpha1".to_owned(),
            kind: "SandboxPlugin".to_owned(),
            plural: "sandboxplugins".to_owned(),
        };
        follow(Client::new(service, "ns"), Followed { resource, namespace: None, labels: None }, |_| ())
    }

    #[tokio::test(start_paused = true)]
    async fn resource_that_is_not_served_has_no_objects_until_it_is() {
        let status = Arc::new(AtomicU16::new(404));
        let mut updates = pin!(answering(&status, 404));
        let Some(Update::Objects(none)) = updates.next().await else { panic!("it is absent") };
        assert!(none.is_empty());
        status.store(200, Ordering::Relaxed);
        let Some(Update::Objects(listed)) = updates.next().await else { panic!("it is listed") };
        assert_eq!(listed.keys().collect::<Vec<_>>(), ["a"]);
    }

    /// A 403 of the discovery is no answer to the question whether the resource is served.
    #[tokio::test(start_paused = true)]
    async fn resource_that_may_not_be_read_is_unknown() {
        let status = Arc::new(AtomicU16::new(403));
        let mut updates = pin!(answering(&status, 403));
        let Some(Update::Fault { message, is_outage }) = updates.next().await else { panic!("it is unknown") };
        assert!(message.starts_with("sandboxplugins cannot be watched") && !is_outage, "{message}");
    }

    /// Reads until the watch is out, or is known again. Returns the time that this took.
    async fn until_out(updates: &mut (impl Stream<Item = Update<()>> + Unpin), wanted: bool) -> Duration {
        let begin = Instant::now();
        loop {
            match updates.next().await.expect("updates") {
                Update::Fault { is_outage, .. } if is_outage == wanted && wanted => return begin.elapsed(),
                Update::Objects(_) if !wanted => return begin.elapsed(),
                Update::Fault { .. } | Update::Objects(_) => {}
            }
        }
    }

    /// The watch was established before, and its objects stay. Nothing else would say that they may be out of date.
    #[tokio::test(start_paused = true)]
    async fn watch_that_fails_for_a_minute_is_an_outage_until_the_next_list() {
        let status = Arc::new(AtomicU16::new(200));
        let mut updates = Box::pin(answering(&status, 200));
        assert!(until_out(&mut updates, false).await < Duration::from_secs(1));
        for code in [500, 403] {
            status.store(code, Ordering::Relaxed);
            let took = until_out(&mut updates, true).await;
            assert!(took >= limits::WATCH_OUTAGE && took < limits::WATCH_OUTAGE * 2, "{code}: {took:?}");
            status.store(200, Ordering::Relaxed);
            assert!(until_out(&mut updates, false).await < limits::WATCH_OUTAGE);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn resource_that_may_not_be_read_and_is_not_served_has_no_objects() {
        let status = Arc::new(AtomicU16::new(403));
        let mut updates = pin!(answering(&status, 404));
        let Some(Update::Objects(none)) = updates.next().await else { panic!("it is absent") };
        assert!(none.is_empty());
    }
}
