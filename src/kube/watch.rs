//! Lists and watches a kind, and decides after an interruption when the watch is started again.
//!
//! Lists are consistent reads. The kube crate's streaming lists may return an arbitrary version from the API server's
//! cache. Such a list could show a new leader a pool as it was before the old leader filled it.

use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use kube::api::{ApiResource, ListParams};
use kube::runtime::watcher;
use kube::{Api, Client};
use paddock_api::document::Document;
use paddock_api::kind::Kind;
use strum::{IntoStaticStr, VariantArray};

use crate::limits;

/// The resource of a kind in the form of the kube crate.
#[must_use]
pub fn resource(kind: Kind) -> ApiResource {
    ApiResource {
        group: kind.group().to_owned(),
        version: kind.version().to_owned(),
        api_version: kind.api_version(),
        kind: kind.name().to_owned(),
        plural: kind.plural().to_owned(),
    }
}

/// Lists a kind and then watches it. If a namespace is given and the kind is namespaced, only in that namespace.
///
/// Every list begins with the number of the objects, which determines the size of its pages. If a list expires before
/// its last page, the next one has pages of twice the size. After an error, the next poll tries again; the caller waits
/// before it. The caller drops the stream in order to list the kind again.
pub fn events(
    client: &Client,
    kind: Kind,
    namespace: Option<&str>,
) -> impl Stream<Item = watcher::Result<watcher::Event<Document>>> + Send + use<> {
    selected_events(client, kind, Selection { namespace, labels: None })
}

/// The objects of a kind that are watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selection<'a> {
    /// The only namespace, if the kind is namespaced. If absent, all namespaces.
    pub namespace: Option<&'a str>,
    /// A label selector. If absent, all objects.
    pub labels: Option<&'a str>,
}

/// Lists and watches some objects of a kind, as [`events`] does for all of them.
pub fn selected_events(
    client: &Client,
    kind: Kind,
    selection: Selection<'_>,
) -> impl Stream<Item = watcher::Result<watcher::Event<Document>>> + Send + use<> {
    let namespace = selection.namespace.filter(|_| kind.namespaced());
    resource_events(client, &resource(kind), Selection { namespace, ..selection })
}

/// Lists and watches some objects of a resource, as [`events`] does for all objects of a kind. A namespace selects the
/// objects in it, so the resource has to be namespaced.
pub fn resource_events(
    client: &Client,
    resource: &ApiResource,
    selection: Selection<'_>,
) -> impl Stream<Item = watcher::Result<watcher::Event<Document>>> + Send + use<> {
    let api: Api<Document> = match selection.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
        None => Api::all_with(client.clone(), resource),
    };
    let config = watcher::Config { label_selector: selection.labels.map(str::to_owned), ..watcher_config() };
    // The lists that expired one after the other, and the watcher that continues.
    stream::unfold((api, config, 0_u32, None), |(api, config, mut expired, continued)| async move {
        let mut events = match continued {
            Some(events) => events,
            None => match count(&api, config.label_selector.as_deref()).await {
                Ok(objects) => watcher(api.clone(), config.clone().page_size(page_size(objects, expired))).boxed(),
                Err(error) => {
                    let error = Err(watcher::Error::InitialListFailed(error));
                    return Some((error, (api, config, expired, None)));
                }
            },
        };
        let event = events.next().await?;
        let continued = match &event {
            Ok(watcher::Event::InitDone) => {
                expired = 0;
                Some(events)
            }
            Ok(_) => Some(events),
            Err(error) => {
                let (attempt, is_expired) = (Attempt::of(error), WatchError::of(error) == WatchError::Expired);
                expired += u32::from(attempt == Attempt::List && is_expired);
                (attempt != Attempt::List && !is_expired).then_some(events)
            }
        };
        Some((event, (api, config, expired, continued)))
    })
}

/// The configuration of a watch that the API server keeps open for [`limits::WATCH_TIMEOUT`].
pub(crate) fn watcher_config() -> watcher::Config {
    watcher::Config::default().timeout(u32::try_from(limits::WATCH_TIMEOUT.as_secs()).unwrap_or(u32::MAX))
}

/// The number of objects of a kind. With a label selector, the API server does not say how many there are after the
/// first, so there may be any number.
async fn count(api: &Api<Document>, labels: Option<&str>) -> kube::Result<u64> {
    let params = ListParams { label_selector: labels.map(str::to_owned), ..ListParams::default().limit(1) };
    let list = api.list(&params).await?;
    let unknown = if list.metadata.continue_.is_some_and(|more| !more.is_empty()) { u64::MAX } else { 0 };
    let more = list.metadata.remaining_item_count.and_then(|more| u64::try_from(more).ok()).unwrap_or(unknown);
    Ok(u64::try_from(list.items.len()).unwrap_or(u64::MAX).saturating_add(more))
}

/// The number of objects in one page of a list, after this many lists expired one after the other.
fn page_size(objects: u64, expired: u32) -> u32 {
    let share = u32::try_from(objects / limits::LIST_PAGES).unwrap_or(u32::MAX);
    let size = share.clamp(limits::LIST_PAGE_SIZE_MIN, limits::LIST_PAGE_SIZE_MAX);
    size.saturating_mul(2_u32.saturating_pow(expired))
}

/// The HTTP status of the reply behind an error of the watch stream. Zero without a reply.
#[must_use]
pub fn status_code(error: &watcher::Error) -> u16 {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status.code,
        watcher::Error::InitialListFailed(_)
        | watcher::Error::WatchStartFailed(_)
        | watcher::Error::WatchFailed(_)
        | watcher::Error::NoResourceVersion => 0,
    }
}

/// The request that an error interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// A list. It begins again with its first page.
    List,
    /// The start of a watch.
    Start,
    /// An established watch.
    Watch,
}

impl Attempt {
    /// The request behind an error of the watch stream.
    #[must_use]
    pub fn of(error: &watcher::Error) -> Self {
        match error {
            watcher::Error::InitialListFailed(_) | watcher::Error::NoResourceVersion => Attempt::List,
            watcher::Error::WatchStartFailed(_) => Attempt::Start,
            watcher::Error::WatchFailed(_) | watcher::Error::WatchError(_) => Attempt::Watch,
        }
    }
}

/// The reason why a watch was interrupted. It is a label of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum WatchError {
    /// The kind is not served, because its CRD is not installed.
    Absent,
    /// The process has no right to read the kind.
    Forbidden,
    /// The resource version to continue from is too old (410). The kind is listed again.
    Expired,
    /// Any other error. The request is repeated.
    Failed,
}

impl WatchError {
    /// The word in the label of metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The reason behind an error of the watch stream.
    #[must_use]
    pub fn of(error: &watcher::Error) -> Self {
        match status_code(error) {
            404 => WatchError::Absent,
            401 | 403 => WatchError::Forbidden,
            410 => WatchError::Expired,
            _ => WatchError::Failed,
        }
    }

    /// The wait after this many consecutive failures.
    #[must_use]
    pub fn pause(self, failures: u32) -> Duration {
        match self {
            // The second request comes soon, because an API server that just started does not serve all CRDs at once.
            WatchError::Absent if failures == 0 => limits::WATCH_BACKOFF.delay(0),
            WatchError::Absent => limits::ABSENT_KIND_POLL_INTERVAL,
            WatchError::Expired if failures == 0 => Duration::ZERO,
            WatchError::Expired | WatchError::Forbidden | WatchError::Failed => limits::WATCH_BACKOFF.delay(failures),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_grow_with_the_kind_and_with_every_list_that_expired() {
        let (least, most) = (limits::LIST_PAGE_SIZE_MIN, limits::LIST_PAGE_SIZE_MAX);
        for (objects, expired, expected) in [
            (0, 0, least),
            (500, 0, least),
            (500, 1, least * 2),
            (500, 6, least * 64),
            (64 * 20, 0, 20),
            (64 * 20, 2, 80),
            (150_000, 0, most),
            (150_000, 3, most * 8),
            (u64::MAX, 0, most),
            (u64::MAX, u32::MAX, u32::MAX),
        ] {
            assert_eq!(page_size(objects, expired), expected, "{objects} objects after {expired} lists");
        }
    }
}
