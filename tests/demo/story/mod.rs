//! The chapters, in order.

mod denial;
mod idle;
mod plugin;
mod pool;
mod sandbox;

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
