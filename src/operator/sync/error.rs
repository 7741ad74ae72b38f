//! Why a watch was interrupted: the label of metrics, and what the watch does next.

use kube::runtime::watcher;

/// Why a watch was interrupted. The label of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchError {
    /// The kind is not served: its CRD is not installed.
    Absent,
    /// We may not read it.
    Forbidden,
    /// The version to go on from is too old (410): it is listed again.
    Expired,
    /// Anything else; it is tried again.
    Failed,
}

impl WatchError {
    /// Every cause.
    pub const ALL: [WatchError; 4] =
        [WatchError::Absent, WatchError::Forbidden, WatchError::Expired, WatchError::Failed];

    /// The label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            WatchError::Absent => "absent",
            WatchError::Forbidden => "forbidden",
            WatchError::Expired => "expired",
            WatchError::Failed => "failed",
        }
    }

    /// The cause behind an error of the watch stream.
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
