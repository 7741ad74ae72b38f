//! The chapters, in order.

mod denial;
mod idle;
mod plugin;
mod pool;
mod sandbox;

use std::path::Path;

use anyhow::Result;

use crate::stage::Scene;

/// Tells all of it.
pub(crate) async fn tell(scene: &mut Scene<'_>) -> Result<()> {
    sandbox::tell(scene).await?;
    pool::tell(scene).await?;
    idle::tell(scene).await?;
    denial::tell(scene).await?;
    plugin::tell(scene).await
}

/// What of the story goes on in a directory of plugins when it is told: said, for whoever stays to look around.
pub(crate) fn left(plugins: &Path) -> Option<(&'static str, String)> {
    plugin::left(plugins)
}
