//! The source of plugins: the built-ins, and a directory that the operator polls.
//!
//! `NAME.wasm` in the directory takes over every hook that it exports, for every object, as soon as the operator finds
//! it. `NAME.yaml` beside it can narrow that ([`plugin_config`]). If a component or a file is invalid, it is refused,
//! the log and the status report the reason, and the previous version stays in force. If a file is removed, its hooks
//! return to the built-ins.
//!
//! The directory is read once a second instead of being watched. Kubernetes changes the mount of a ConfigMap by
//! renaming a symbolic link beside the files, and network file systems do not report changes from other machines. File
//! notifications miss one or the other, and reading the metadata of some files costs nothing.

mod client;
pub mod directory;
mod failures;
pub mod plugin_config;
mod source;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use paddock_core::binding::Bindings;
use paddock_plugin_host::{Host, LoadError, PluginReport};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use client::{PluginClient, Policies};
pub(crate) use client::{ask_all, metered};
use failures::Failures;
use source::Source;
pub use source::{PluginStatus, PluginsConfig, check_name};

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

/// Loads the built-ins and the plugins that are in the directory now. Then follows the changes of the directory.
///
/// # Errors
/// If a built-in does not load. Faults of files in the directory are in the status and not in this error.
pub async fn start(host: Arc<Host>, config: PluginsConfig, stop: CancellationToken) -> Result<Plugins, LoadError> {
    let every = config.every;
    let mut source = blocking({
        let host = Arc::clone(&host);
        move || {
            let mut source = Source::new(host, config)?;
            source.look(Instant::now());
            Ok(source)
        }
    })
    .await?;
    let (bindings, status) = (watch::Sender::new(source.bindings()), watch::Sender::new(source.status()));
    let reports: Reports = Arc::new({
        let host = Arc::clone(&host);
        move |now| host.plugins(now)
    });
    let policies = Policies { judge: judge(host), bindings: bindings.subscribe() };
    let plugins = Plugins { policies, status: status.subscribe(), reports };
    tokio::spawn(async move {
        while stop.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
            source = blocking(move || {
                source.look(Instant::now());
                source
            })
            .await;
            publish(&bindings, source.bindings());
            publish(&status, source.status());
        }
    });
    Ok(plugins)
}

/// The client that reconciles and reviews use to ask plugins. It logs the failures of all plugins.
fn judge(host: Arc<Host>) -> PluginClient {
    let failures: Mutex<Failures> = Mutex::default();
    Arc::new(move |ask, now| {
        let result = host.ask(ask, now);
        if let Err(failure) = &result {
            let hook = ask.question.hook();
            let due =
                failures.lock().unwrap_or_else(PoisonError::into_inner).due(&ask.plugin.name, hook, failure.kind, now);
            if let Some(unsaid) = due {
                failures::tell(ask, failure, unsaid);
            }
        }
        result
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

/// Runs work on a blocking thread. Compiling a component uses the processor for milliseconds to seconds.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, and this task ends with it.
            Err(_) => std::future::pending().await,
        },
    }
}

/// The bindings of the built-ins alone, for programs without a plugin directory.
///
/// # Errors
/// If a built-in does not load.
pub fn built_ins(host: &Host) -> Result<Bindings, LoadError> {
    host.load_built_ins().map(Bindings::new)
}
