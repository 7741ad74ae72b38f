//! Lists and watches a kind, and decides after an interruption when the watch is started again.
//!
//! Lists are consistent reads. The kube crate's streaming lists may return an arbitrary version from the API server's
//! cache. Such a list could show a new leader a pool as it was before the old leader filled it.

use std::time::Duration;

use futures::Stream;
use kube::api::ApiResource;
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
/// The caller drops the stream in order to list the kind again.
pub fn events(
    client: &Client,
    kind: Kind,
    namespace: Option<&str>,
) -> impl Stream<Item = watcher::Result<watcher::Event<Document>>> + Send + use<> {
    let resource = resource(kind);
    let api: Api<Document> = match namespace {
        Some(namespace) if kind.namespaced() => Api::namespaced_with(client.clone(), namespace, &resource),
        Some(_) | None => Api::all_with(client.clone(), &resource),
    };
    let seconds = u32::try_from(limits::WATCH_TIMEOUT.as_secs()).unwrap_or(u32::MAX);
    watcher(api, watcher::Config::default().timeout(seconds).page_size(limits::LIST_PAGE_SIZE))
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
        let code = match error {
            watcher::Error::InitialListFailed(kube::Error::Api(status))
            | watcher::Error::WatchStartFailed(kube::Error::Api(status))
            | watcher::Error::WatchFailed(kube::Error::Api(status))
            | watcher::Error::WatchError(status) => status.code,
            watcher::Error::InitialListFailed(_)
            | watcher::Error::WatchStartFailed(_)
            | watcher::Error::WatchFailed(_)
            | watcher::Error::NoResourceVersion => 0,
        };
        match code {
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
