//! Where plugins come from: the built-ins, and a directory that is watched.
//!
//! `NAME.wasm` in the directory takes over every hook that it exports, for every object, as soon as it is
//! seen; `NAME.yaml` beside it narrows that ([`plugin_config`]). A component or a file that is not in order is
//! refused, with the reason in the log and in the status, and what worked before goes on. A file taken away
//! gives its hooks back to the built-ins.
//!
//! The directory is looked at once a second. A ConfigMap's mount is changed by renaming a symbolic link beside
//! the files, and network file systems tell nobody of changes made elsewhere: file notifications miss the
//! one or the other, and a look at some files costs nothing.

mod client;
pub mod directory;
mod failures;
pub mod plugin_config;
mod source;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use paddock_core::binding::Bindings;
use paddock_core::question::Hook;
use paddock_plugin_host::{Host, LoadError, PluginReport};
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use client::{PluginClient, Policies};
pub(crate) use client::{ask_all, metered};
use failures::Failures;
use source::Source;
pub use source::check_name;

/// The loaded plugins and their quarantines at a time.
pub type Reports = Arc<dyn Fn(Timestamp) -> Vec<PluginReport> + Send + Sync>;

/// Where to look, and how often.
#[derive(Clone, Debug)]
pub struct PluginsConfig {
    /// The directory; without one there are only the built-ins.
    pub dir: Option<PathBuf>,
    /// Time between two looks.
    pub every: Duration,
    /// How long a component that was replaced stays loaded, for decisions that were begun with it.
    pub keep_replaced: Duration,
}

impl PluginsConfig {
    /// This directory, with the usual times: a look takes effect within a second of a drop, and no decision
    /// takes a minute.
    #[must_use]
    pub fn new(dir: Option<PathBuf>) -> Self {
        Self { dir, every: Duration::from_secs(1), keep_replaced: Duration::from_secs(60) }
    }
}

/// Plugins in force, kept up to date by a task that ends with the token given to [`start`].
#[derive(Clone)]
pub struct Plugins {
    /// Who answers, and what is bound.
    pub policies: Policies,
    /// Every plugin and file, in order or not.
    pub status: watch::Receiver<Vec<PluginStatus>>,
    /// What is loaded, and what of it is quarantined.
    pub reports: Reports,
}

/// How it stands with one plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginStatus {
    /// Its name.
    pub name: String,
    /// The component's file; `None` for a built-in.
    pub path: Option<PathBuf>,
    /// The digest in force; `None` where nothing of that name works.
    pub digest: Option<String>,
    /// The version of `paddock:policy` in force.
    pub wit_version: Option<String>,
    /// The hooks bound.
    pub hooks: Vec<Hook>,
    /// What is wrong with the file as it is now. With a digest in force, that is an older one.
    pub error: Option<String>,
}

/// Loads the built-ins and what the directory holds now, then follows the directory.
///
/// # Errors
/// Where a built-in does not load. What is wrong in the directory is no error here: it is in the status.
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

/// Who answers, for reconciles and reviews alike: so this is where every failure of a plugin comes by, and is logged.
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

/// Tells the receivers only of what is new: a change of bindings wakes every object.
fn publish<T: PartialEq>(sender: &watch::Sender<T>, value: T) {
    sender.send_if_modified(|current| {
        let new = *current != value;
        *current = value;
        new
    });
}

/// Compiling a component takes from milliseconds to seconds of processor time.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Bindings of the built-ins alone, for what runs without a directory.
///
/// # Errors
/// Where a built-in does not load.
pub fn built_ins(host: &Host) -> Result<Bindings, LoadError> {
    host.load_built_ins().map(Bindings::new)
}
