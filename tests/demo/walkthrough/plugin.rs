//! A policy is replaced while the operator runs.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube::Api;
use paddock_api::kind::Kind;

use super::pool::{POOL, full};
use crate::operator::{Operator, PluginStatus};
use crate::screen::Screen;
use crate::session::{SeedPool, StepContext};
use crate::wait::{Look, PATIENCE, until};

/// The plugin's name, which is that of its files.
const NAME: &str = "pool-fixed";
/// The sizes that the plugin requests, first one of `FIRST` that the pool does not have, and then `SECOND`. The
/// sample's pool allows 5 to 20.
const FIRST: [i32; 2] = [12, 10];
const SECOND: i32 = 6;
/// The interval at which the demo asks the operator about a file.
const POLL: Duration = Duration::from_millis(100);

pub(super) async fn run(context: &mut StepContext<'_>) -> Result<()> {
    let screen = context.screen;
    screen.chapter("Policy is a component, replaced while the operator runs");
    let pools: Api<SeedPool> = context.api_of(Kind::SeedPool);
    let before = full(screen, &pools, 1).await?;
    screen.fact("so far", &format!("{POOL} holds {}", before.ready_replicas.unwrap_or_default()));
    screen.fact("because", &sized(&before.conditions));

    let first = if before.ready_replicas == Some(FIRST[0]) { FIRST[1] } else { FIRST[0] };
    let component = context.operator.plugins.join(format!("{NAME}.wasm"));
    let binding = context.operator.plugins.join(format!("{NAME}.yaml"));
    let work = async {
        put(&binding, binding_of(first).as_bytes())?;
        put(&component, paddock_guests::POOL_FIXED)?;
        let reason = follows(screen, &pools, first).await?;
        Ok((
            reason,
            format!("{} KiB of WebAssembly dropped in; {POOL} holds {first}", paddock_guests::POOL_FIXED.len() / 1024),
        ))
    };
    let reason = screen.step("pool-fixed.wasm", "dropping a component into --plugin-dir", work).await?;
    screen.fact("because", &reason);

    let good = context.operator.plugin(NAME).await?.and_then(|plugin| plugin.digest);
    let work = async {
        put(&component, b"\0asm, but not what follows")?;
        let refused = refused(&context.operator).await?;
        ensure!(refused.digest == good, "the broken component took the place of the good one");
        follows(screen, &pools, first).await?;
        Ok((refused, format!("refused; the good one goes on, {POOL} still holds {first}")))
    };
    let refused = screen.step("a broken one", "putting a broken component in its place", work).await?;
    screen.quote(&refused.error.unwrap_or_default());

    let work = async {
        put(&binding, binding_of(SECOND).as_bytes())?;
        put(&component, paddock_guests::POOL_FIXED)?;
        follows(screen, &pools, SECOND).await?;
        Ok(((), format!("the good one again, with other settings: {POOL} holds {SECOND}")))
    };
    screen.step("pool-fixed.wasm", "putting the good one back", work).await
}

/// The plugin that stays active after the walkthrough.
pub(super) fn remaining_plugin(plugins: &Path) -> Option<(&'static str, String)> {
    let component = plugins.join(format!("{NAME}.wasm"));
    let note = format!("{NAME}.wasm is in force there, and sizes every pool, until it is removed");
    component.is_file().then_some(("", note))
}

/// Waits until the plugin has sized the pool and the pool has this number of Ready sandboxes. Returns the reason.
async fn follows(screen: &Screen, pools: &Api<SeedPool>, size: i32) -> Result<String> {
    let pool = until(screen, pools, POOL, |pool| {
        let Some(status) = pool.and_then(|pool| pool.status.as_ref()) else {
            return Look::NotYet("has no status".to_owned());
        };
        let (ready, wanted) = (status.ready_replicas.unwrap_or_default(), status.desired_replicas.unwrap_or_default());
        let by_plugin = sized(&status.conditions).contains(NAME);
        if by_plugin && wanted == size && ready == size {
            Look::Done
        } else {
            Look::NotYet(format!("{ready} Ready, {wanted} wanted"))
        }
    });
    let status = pool.await?.and_then(|pool| pool.status).unwrap_or_default();
    Ok(sized(&status.conditions))
}

/// Waits until the operator has refused the current files in its directory.
async fn refused(operator: &Operator) -> Result<PluginStatus> {
    let asked = async {
        loop {
            match operator.plugin(NAME).await?.filter(|plugin| plugin.error.is_some()) {
                Some(plugin) => return Ok(plugin),
                None => tokio::time::sleep(POLL).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.context("the operator did not report the broken component")?
}

fn sized(conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]) -> String {
    conditions.iter().find(|c| c.type_ == "Sized").map(|c| c.message.clone()).unwrap_or_default()
}

/// The file beside the component, with the hook of the plugin and its settings.
fn binding_of(desired: i32) -> String {
    format!("hooks: [pool-size]\nsettings:\n  desired: {desired}\n")
}

/// Writes a file by a rename, so that the operator never reads half of it.
fn put(file: &Path, content: &[u8]) -> Result<()> {
    let new = file.with_extension("new");
    let put = std::fs::write(&new, content).and_then(|()| std::fs::rename(&new, file));
    put.with_context(|| format!("writing {}", file.display()))
}
