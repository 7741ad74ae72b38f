//! Why a watch was interrupted: the label of metrics, and what the watch does next.

use kube::runtime::watcher;

/// Why a watch was interrupted. The label of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// The kind is not served: its CRD is not installed.
    Absent,
    /// We may not read it.
    Forbidden,
    /// The version to go on from is too old (410): it is listed again.
    Expired,
    /// Anything else; it is tried again.
    Failed,
}

impl Break {
    /// Every cause.
    pub const ALL: [Break; 4] = [Break::Absent, Break::Forbidden, Break::Expired, Break::Failed];

    /// The label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Break::Absent => "absent",
            Break::Forbidden => "forbidden",
            Break::Expired => "expired",
            Break::Failed => "failed",
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
            404 => Break::Absent,
            401 | 403 => Break::Forbidden,
            410 => Break::Expired,
            _ => Break::Failed,
        }
    }
}
