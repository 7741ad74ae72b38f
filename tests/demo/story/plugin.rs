//! A policy is replaced while the operator runs.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::Api;
use paddock_core::api::seed::SandboxWarmPool;

use super::pool::{POOL, full};
use crate::screen::Screen;
use crate::stage::Scene;
use crate::wait::{Look, until};

/// What the plugin is told to hold; the sample's pool allows 5 to 20.
const FIRST: i32 = 8;
const SECOND: i32 = 6;
/// The operator looks at its directory once a second: three looks.
const LOOKS: Duration = Duration::from_secs(3);

pub(super) async fn tell(scene: &mut Scene<'_>) -> Result<()> {
    let screen = scene.screen;
    screen.chapter("Policy is a component, replaced while the operator runs");
    let pools: Api<SandboxWarmPool> = scene.api();
    let before = full(screen, &pools, 1).await?;
    screen.fact("so far", &format!("{POOL} holds {}", before.ready_replicas));
    screen.fact("because", &sized(&before.conditions));

    let component = scene.plugins.join("pool-fixed.wasm");
    let binding = scene.plugins.join("pool-fixed.yaml");
    let work = async {
        put(&binding, binding_of(FIRST).as_bytes())?;
        put(&component, paddock_guests::POOL_FIXED)?;
        let told = follows(screen, &pools, FIRST).await?;
        Ok((
            told,
            format!("{} KiB of WebAssembly dropped in; {POOL} holds {FIRST}", paddock_guests::POOL_FIXED.len() / 1024),
        ))
    };
    let told = screen.step("pool-fixed.wasm", "dropping a component into --plugin-dir", work).await?;
    screen.fact("because", &told);

    let work = async {
        put(&component, b"\0asm, but not what follows")?;
        put(&binding, binding_of(SECOND).as_bytes())?;
        // Neither the component may take effect nor the settings that came with it: time enough for both.
        tokio::time::sleep(LOOKS).await;
        follows(screen, &pools, FIRST).await?;
        Ok(((), format!("refused, and the good one goes on: {POOL} still holds {FIRST}")))
    };
    screen.step("a broken one", "putting a broken component in its place", work).await?;

    let work = async {
        put(&component, paddock_guests::POOL_FIXED)?;
        follows(screen, &pools, SECOND).await?;
        Ok(((), format!("the good one again, with other settings: {POOL} holds {SECOND}")))
    };
    screen.step("pool-fixed.wasm", "putting the good one back", work).await
}

/// Waits until the pool has been sized so and holds as many, and gives the reason.
async fn follows(screen: &Screen, pools: &Api<SandboxWarmPool>, size: i32) -> Result<String> {
    let pool = until(screen, pools, POOL, |pool| {
        let Some(status) = pool.and_then(|pool| pool.status.as_ref()) else {
            return Look::NotYet("has no status".to_owned());
        };
        let (ready, wanted) = (status.ready_replicas, status.desired_replicas.unwrap_or_default());
        if wanted == size && ready == size {
            Look::Done
        } else {
            Look::NotYet(format!("{ready} Ready, {wanted} wanted"))
        }
    });
    let status = pool.await?.and_then(|pool| pool.status).unwrap_or_default();
    Ok(sized(&status.conditions))
}

fn sized(conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]) -> String {
    conditions.iter().find(|c| c.type_ == "Sized").map(|c| c.message.clone()).unwrap_or_default()
}

/// What stands beside the component: which hook it takes over, and its settings.
fn binding_of(desired: i32) -> String {
    format!("hooks: [pool-size]\nsettings:\n  desired: {desired}\n")
}

/// In one rename, so that nobody reads half of a file.
fn put(file: &Path, content: &[u8]) -> Result<()> {
    let new = file.with_extension("new");
    let put = std::fs::write(&new, content).and_then(|()| std::fs::rename(&new, file));
    put.with_context(|| format!("writing {}", file.display()))
}
