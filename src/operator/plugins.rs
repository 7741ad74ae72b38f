//! The plugins: the built-ins, and those of a source such as the plugin directory.
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
pub mod plugin_config;
pub mod source;

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
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use blocking::blocking;
pub use cache::PluginCache;
pub use client::{MeasuredClient, PluginClient, Policies};
pub(crate) use client::{ask_all, metered};
use failures::Failures;
use loader::Loader;
pub use loader::{PluginState, PluginStatus};
pub use loading::{check, check_name};
pub use source::PluginSource;
use source::{SourceContent, SourceError};

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
}

/// Loads the built-ins and the plugins that the source holds now. Then follows the changes of the source. The cache is
/// a directory that keeps the last good version of each plugin.
///
/// # Errors
/// If a built-in does not load. Faults of the source and its files are in the status and not in this error.
pub async fn start<S: PluginSource>(
    host: Arc<Host>,
    source: Option<S>,
    cache: Option<PathBuf>,
    stop: CancellationToken,
) -> Result<Plugins, LoadError> {
    let mut loader = blocking({
        let host = Arc::clone(&host);
        move || Loader::new(host, cache.map(PluginCache::open))
    })
    .await?;
    let mut contents = source.map(|source| Box::pin(source.contents()));
    if let Some(content) = next(&mut contents).await {
        loader = apply(loader, content).await;
    }
    let (bindings, status) = (watch::Sender::new(loader.bindings()), watch::Sender::new(loader.status()));
    let reports: Reports = Arc::new({
        let host = Arc::clone(&host);
        move |now| host.plugins(now)
    });
    let policies = Policies { plugin_client: plugin_client(host), bindings: bindings.subscribe() };
    let plugins = Plugins { policies, status: status.subscribe(), reports };
    let follow = async move {
        loop {
            match timeout(limits::REPLACED_PLUGIN_LIFETIME, next(&mut contents)).await {
                Ok(Some(content)) => loader = apply(loader, content).await,
                // The source has ended. The senders live on, or the receivers would take this for the end.
                Ok(None) => std::future::pending().await,
                Err(_elapsed) => loader.unload_replaced(Instant::now()),
            }
            publish(&bindings, loader.bindings());
            publish(&status, loader.status());
        }
    };
    tokio::spawn(async move { stop.run_until_cancelled(follow).await.unwrap_or(()) });
    Ok(plugins)
}

/// The next content of the source, if there is a source that has not ended.
async fn next<S: Stream + Unpin>(contents: &mut Option<S>) -> Option<S::Item> {
    contents.as_mut()?.next().await
}

/// Puts the content of the source in force.
async fn apply(mut loader: Loader, content: Result<SourceContent, SourceError>) -> Loader {
    blocking(move || {
        loader.apply(content, Instant::now());
        loader
    })
    .await
}

/// The client that reconciles and reviews use to ask plugins. It logs the failures of all plugins.
fn plugin_client(host: Arc<Host>) -> MeasuredClient {
    let failures: Mutex<Failures> = Mutex::default();
    Arc::new(move |ask, now| {
        let (result, usage) = host.ask_measured(ask, now);
        if let Err(failure) = &result {
            let hook = ask.question.hook();
            let due = failures.lock().due(&ask.plugin.name, hook, failure.kind, now);
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
