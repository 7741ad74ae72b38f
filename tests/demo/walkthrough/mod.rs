//! The chapters, in order.

mod denial;
mod idle;
mod plugin;
mod pool;
mod sandbox;

use std::path::Path;

use anyhow::Result;

use crate::session::StepContext;

/// Tells all of it.
pub(crate) async fn run(context: &mut StepContext<'_>) -> Result<()> {
    sandbox::run(context).await?;
    pool::run(context).await?;
    idle::run(context).await?;
    denial::run(context).await?;
    plugin::run(context).await
}

/// What of the story goes on in a directory of plugins when it is told: said, for whoever stays to look around.
pub(crate) fn left(plugins: &Path) -> Option<(&'static str, String)> {
    plugin::left(plugins)
}
