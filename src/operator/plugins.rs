//! The plugins: the built-ins, those of a source such as the plugin directory, and those of objects in the cluster
//! ([`objects`]), whose components may be in a registry ([`registry`]).
//!
//! `NAME.wasm` in the directory takes over every hook that it exports, for every object, as soon as the operator finds
//! it. `NAME.yaml` beside it can narrow that ([`plugin_config`]). If a component or a file is invalid, it is refused,
//! the log and the status report the reason, and the last good version stays in force, also after a restart of the
//! container ([`cache`]). If there is none, the plugin fails for its hooks. If its files are removed, its hooks return to
//! the built-ins.

mod blocking;
pub mod cache;
mod client;
pub mod directory;
mod failures;
mod loader;
mod loading;
pub mod memory;
pub mod objects;
pub mod plugin_config;
pub mod registry;
pub mod source;
mod sources;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use paddock_core::binding::Bindings;
use paddock_plugin_host::{Host, LoadError, PluginReport};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use blocking::blocking;
pub use cache::PluginCache;
pub use client::{MeasuredClient, PluginClient, Policies};
pub(crate) use client::{ask_all, metered};
use failures::Failures;
pub use loader::{PluginState, PluginStatus};
pub use loading::{check, check_name};
use objects::check::PolicyCheck;
use objects::feed::{ObjectSource, Outages, SeenObjects};
use objects::usage::CallCounts;
use objects::{ObjectContent, ObjectStates};
pub use source::PluginSource;
use source::{SourceContent, SourceError};
use sources::Loaders;

use crate::limits;

/// A function that reports the loaded plugins and their quarantines at a time.
pub type Reports = Arc<dyn Fn(Timestamp) -> Vec<PluginReport> + Send + Sync>;

/// The plugins in force. A task keeps them up to date until the token given to [`start`] is cancelled.
#[derive(Clone)]
pub struct Plugins {
    /// The client that asks plugins, and the bindings in force.
    pub policies: Policies,
    /// The state of every plugin and every file, valid or not.
    pub status: watch::Receiver<Vec<PluginStatus>>,
    /// The loaded plugins and their quarantines.
    pub reports: Reports,
    /// The plugins and policies that are objects of the cluster.
    pub objects: Objects,
}

/// The plugins and policies that are objects of the cluster.
#[derive(Clone)]
pub struct Objects {
    /// The objects with their status.
    pub seen: watch::Receiver<SeenObjects>,
    /// The state of the objects on this replica.
    pub states: watch::Receiver<ObjectStates>,
    /// The kinds whose watch fails.
    pub outages: watch::Receiver<Outages>,
    /// The check of a policy before it is stored.
    pub check: PolicyCheck,
    /// The numbers of calls.
    pub calls: CallCounts,
}

/// The places that plugins come from.
pub struct Sources<S> {
    /// The source of files, such as the plugin directory.
    pub files: Option<S>,
    /// The objects of the cluster.
    pub objects: Option<ObjectSource>,
    /// The directory that keeps the last good version of each plugin.
    pub cache: Option<PathBuf>,
}

/// Loads the built-ins and the plugins that the sources hold now. Then follows the changes of the sources.
///
/// # Errors
/// If a built-in does not load. Faults of the sources and their files are in the status and not in this error.
pub async fn start<S: PluginSource>(
    host: Arc<Host>,
    sources: Sources<S>,
    stop: CancellationToken,
) -> Result<Plugins, LoadError> {
    let Sources { files, objects, cache } = sources;
    let mut loaders = blocking({
        let host = Arc::clone(&host);
        move || Loaders::new(host, cache)
    })
    .await?;
    let mut files = files.map(|source| Box::pin(source.contents()));
    let seen = objects.as_ref().map_or_else(|| watch::Sender::default().subscribe(), ObjectSource::seen);
    let outages = objects.as_ref().map_or_else(|| watch::Sender::default().subscribe(), ObjectSource::outages);
    let mut objects = objects.map(|source| Box::pin(source.contents()));
    if files.is_some() {
        loaders = apply(loaders, News::Files(next(&mut files).await)).await;
    }
    if objects.is_some() {
        let first = timeout(limits::PLUGIN_OBJECTS_WAIT, next(&mut objects)).await;
        let late = |_| Err(format!("the API server did not answer within {:?}", limits::PLUGIN_OBJECTS_WAIT));
        loaders = apply(loaders, News::Objects(first.unwrap_or_else(late))).await;
    }
    let (bindings, status) = (watch::Sender::new(loaders.bindings()), watch::Sender::new(loaders.status()));
    let states = watch::Sender::new(loaders.states());
    let reports: Reports = Arc::new({
        let host = Arc::clone(&host);
        move |now| host.plugins(now)
    });
    let calls = CallCounts::default();
    let check = loaders.policy_check(Arc::clone(&host));
    let objects_in_force = Objects { seen, states: states.subscribe(), outages, check, calls: calls.clone() };
    let policies = Policies { plugin_client: plugin_client(host, calls), bindings: bindings.subscribe() };
    let plugins = Plugins { policies, status: status.subscribe(), reports, objects: objects_in_force };
    let follow = async move {
        loop {
            let wait = if loaders.waits() { limits::PLUGIN_TRIAL_RETRY } else { limits::REPLACED_PLUGIN_LIFETIME };
            let news = tokio::select! {
                content = next(&mut files) => News::Files(content),
                content = next(&mut objects) => News::Objects(content),
                () = sleep(wait) => News::Time,
            };
            loaders = apply(loaders, news).await;
            publish(&bindings, loaders.bindings());
            publish(&status, loaders.status());
            publish(&states, loaders.states());
        }
    };
    tokio::spawn(async move { stop.run_until_cancelled(follow).await.unwrap_or(()) });
    Ok(plugins)
}

/// The reason to look at the plugins again.
enum News {
    Files(Result<SourceContent, SourceError>),
    Objects(Result<ObjectContent, String>),
    Time,
}

/// The next content of a source. If there is no source, or it has ended, there is none, and the wait never ends.
async fn next<S: Stream + Unpin>(contents: &mut Option<S>) -> S::Item {
    if let Some(stream) = contents
        && let Some(content) = stream.next().await
    {
        return content;
    }
    *contents = None;
    std::future::pending().await
}

/// Puts the news in force.
async fn apply(mut loaders: Loaders, news: News) -> Loaders {
    blocking(move || {
        let now = Instant::now();
        match news {
            News::Files(content) => loaders.apply_files(content, now),
            News::Objects(content) => loaders.apply_objects(content, now),
            News::Time => loaders.pass_time(now),
        }
        loaders
    })
    .await
}

/// The client that reconciles and reviews use to ask plugins. It counts the calls, and logs the failures.
fn plugin_client(host: Arc<Host>, calls: CallCounts) -> MeasuredClient {
    let failures: Mutex<Failures> = Mutex::default();
    Arc::new(move |ask, caller, now| {
        let (result, usage) = host.ask_measured(ask, caller, now);
        calls.count(&ask.plugin.name, &result);
        if let Err(failure) = &result {
            let hook = ask.question.hook();
            let due = failures.lock().due((&ask.plugin.name, hook, failure.kind, caller), now);
            if let Some(suppressed) = due {
                failures::report(ask, failure, suppressed);
            }
        }
        (result, usage)
    })
}

/// Sends a value only if it differs, because a change of the bindings queues every object.
fn publish<T: PartialEq>(sender: &watch::Sender<T>, value: T) {
    sender.send_if_modified(|current| {
        let new = *current != value;
        *current = value;
        new
    });
}

/// The bindings of the built-ins alone, for programs without a plugin directory.
///
/// # Errors
/// If a built-in does not load.
pub fn built_ins(host: &Host) -> Result<Bindings, LoadError> {
    host.load_built_ins().map(Bindings::new)
}
