//! The chapters of each story, in order.

mod denial;
mod idle;
mod plugin;
mod pool;
mod real;
mod sandbox;

use std::path::Path;

use anyhow::Result;

use crate::gateway::Gateway;
use crate::session::StepContext;

/// Shows every feature, on simulated nodes or on the user's cluster.
pub(crate) async fn features(context: &mut StepContext<'_>) -> Result<()> {
    sandbox::run(context).await?;
    pool::run(context).await?;
    idle::run(context).await?;
    denial::run(context).await?;
    plugin::run(context).await
}

/// Shows one Sandbox in a container under gVisor, which a request through the gateway resumes.
pub(crate) async fn real(context: &mut StepContext<'_>, gateway: &Gateway) -> Result<()> {
    real::run(context, gateway).await
}

/// The plugin that stays active in the directory of plugins after the walkthrough, for users who keep the cluster.
pub(crate) fn remaining_plugin(plugins: &Path) -> Option<(&'static str, String)> {
    plugin::remaining_plugin(plugins)
}

/// The request that resumes the Sandbox of the real node, for users who keep the cluster.
pub(crate) fn waking_request(gateway: &Gateway) -> (&'static str, String) {
    ("wakes the sandbox", real::request(gateway, real::NAME))
}
