//! The reasons why a watch is interrupted. They are a label of metrics, and they decide what the watch does next.

use kube::runtime::watcher;

/// The reason why a watch was interrupted. It is a label of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchError {
    /// The kind is not served, because its CRD is not installed.
    Absent,
    /// The operator has no right to read the kind.
    Forbidden,
    /// The resource version to continue from is too old (410). The kind is listed again.
    Expired,
    /// Any other error. The request is repeated.
    Failed,
}

impl WatchError {
    /// All reasons.
    pub const ALL: [WatchError; 4] =
        [WatchError::Absent, WatchError::Forbidden, WatchError::Expired, WatchError::Failed];

    /// The word in the label of metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            WatchError::Absent => "absent",
            WatchError::Forbidden => "forbidden",
            WatchError::Expired => "expired",
            WatchError::Failed => "failed",
        }
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
}
