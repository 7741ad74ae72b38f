//! Follows the state of the plugins: holds readiness back at the start, and sets the metrics.

use tokio::sync::watch;
use tokio::time::timeout;
use tracing::warn;

use super::supervise::changed;
use crate::limits;
use crate::metrics::Metrics;
use crate::plugins::objects::feed::{Outages, WATCHED};
use crate::plugins::{PluginState, PluginStatus};

/// The names of the plugins that are configured and not loaded.
pub(super) fn not_loaded(plugins: &[PluginStatus]) -> Vec<String> {
    let missing = plugins.iter().filter(|plugin| plugin.state == PluginState::NotLoaded);
    missing.map(|plugin| plugin.name.clone()).collect()
}

/// Holds readiness back until every plugin is loaded for the first time, and for a limited time. A replica without a
/// plugin is useful: the plugin fails there by its policy.
pub(super) async fn await_plugins(
    mut plugins: watch::Receiver<Vec<PluginStatus>>,
    awaited: watch::Sender<Vec<String>>,
) {
    let loaded = async {
        loop {
            let missing = not_loaded(&plugins.borrow_and_update());
            awaited.send_if_modified(|before| std::mem::replace(before, missing.clone()) != missing);
            if missing.is_empty() || plugins.changed().await.is_err() {
                return;
            }
        }
    };
    if timeout(limits::PLUGIN_READINESS_WAIT, loaded).await.is_err() {
        warn!(plugins = ?not_loaded(&plugins.borrow()), "plugins are not loaded; this replica becomes ready without them");
    }
    awaited.send_replace(Vec::new());
    std::future::pending().await
}

/// Sets the metrics of plugins whenever the state of one changes.
pub(super) async fn follow_plugins(mut plugins: watch::Receiver<Vec<PluginStatus>>, metrics: Metrics) {
    loop {
        metrics.plugins(&plugins.borrow_and_update());
        // The plugins end with the operator.
        changed(&mut plugins).await;
    }
}

/// Sets the metric of the watches of plugins and policies.
pub(super) async fn follow_outages(mut outages: watch::Receiver<Outages>, metrics: Metrics) {
    loop {
        let now = outages.borrow_and_update().clone();
        WATCHED.into_iter().for_each(|kind| metrics.watch_failing(kind, now.contains_key(kind)));
        changed(&mut outages).await;
    }
}
