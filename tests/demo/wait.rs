//! Waits until an object has the state that a step expects, by watching it.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Result, bail};
use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::watch_object;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use crate::screen::Screen;

/// The time limit of a step. It is hundreds of times the duration on an idle machine, so that a step fails only if
/// something is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The state of an object, compared with the expected state.
pub(crate) enum Look {
    /// The object has the expected state.
    Done,
    /// The object has another state, which is described here.
    NotYet(String),
}

/// Watches the object with this name until it has the expected state.
pub(crate) async fn until<K>(
    screen: &Screen,
    api: &Api<K>,
    name: &str,
    mut look: impl FnMut(Option<&K>) -> Look,
) -> Result<Option<K>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut last = "was not seen".to_owned();
    let waiting = async {
        let mut seen = std::pin::pin!(watch_object(api.clone(), name).default_backoff());
        while let Some(object) = seen.next().await {
            // The watch recovers by itself.
            let Ok(object) = object else { continue };
            match look(object.as_ref()) {
                Look::Done => return Some(object),
                Look::NotYet(what) => {
                    screen.say(&format!("{name}: {what}"));
                    last = what;
                }
            }
        }
        None
    };
    match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(Some(object)) => Ok(object),
        Ok(None) => bail!("the watch of {name} ended by itself"),
        Err(_) => bail!("{name} did not come to it within {} s: {last}", PATIENCE.as_secs()),
    }
}

/// Whether a condition is True, with its message if it is not.
pub(crate) fn holds(conditions: &[Condition], kind: &str) -> Look {
    match conditions.iter().find(|condition| condition.type_ == kind) {
        Some(condition) if condition.status == "True" => Look::Done,
        Some(condition) => {
            Look::NotYet(format!("{kind} is {}, {}: {}", condition.status, condition.reason, condition.message))
        }
        None => Look::NotYet(format!("it has no condition {kind} yet")),
    }
}
