//! The chapters, in order.

mod denial;
mod idle;
mod plugin;
mod pool;
mod real;
mod sandbox;

use std::path::Path;

use anyhow::Result;

use crate::session::{StepContext, Story};

/// Runs all chapters of a story.
pub(crate) async fn run(context: &mut StepContext<'_>, story: Story) -> Result<()> {
    match story {
        Story::SimulatedNodes => features(context).await,
        Story::RealNode => real::run(context).await,
    }
}

async fn features(context: &mut StepContext<'_>) -> Result<()> {
    sandbox::run(context).await?;
    pool::run(context).await?;
    idle::run(context).await?;
    denial::run(context).await?;
    plugin::run(context).await
}

/// The plugin that stays active in the directory of plugins after the walkthrough, for users who keep the cluster.
pub(crate) fn remaining_plugin(plugins: &Path) -> Option<(&'static str, String)> {
    plugin::remaining_plugin(plugins)
}
