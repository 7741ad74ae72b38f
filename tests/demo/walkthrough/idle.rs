//! An idle sandbox is suspended, keeps its volume, and is resumed by setting its mode.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::{Patch, PatchParams};
use paddock_api::Sandbox;
use paddock_api::names::condition;
use serde_json::json;

use super::sandbox::ready;
use crate::manifests::object;
use crate::session::{NAMESPACE, StepContext};
use crate::wait::{Look, holds, until};

const NAME: &str = "night-owl";
const VOLUME_CLAIM: &str = "workspace-night-owl";
/// Short enough for the user to wait for.
const IDLE_TIMEOUT: &str = "3s";

pub(super) async fn run(context: &mut StepContext<'_>) -> Result<()> {
    let screen = context.screen;
    screen.chapter("An idle sandbox sleeps and keeps its disk");
    let sandboxes: Api<Sandbox> = context.api();
    let volume_claims: Api<PersistentVolumeClaim> = context.api();
    let pods: Api<Pod> = context.api();
    let manifest = object(json!({
        "apiVersion": "agents.x-k8s.io/v1alpha1",
        "kind": "Sandbox",
        "metadata": { "name": NAME, "namespace": NAMESPACE },
        "spec": {
            "runtimeClassName": "gvisor",
            "idleTimeout": IDLE_TIMEOUT,
            "template": { "spec": {
                "containers": [{ "name": "agent", "image": "ghcr.io/collabnix/python-agent-base:0.4.2" }],
                "volumes": [{ "name": "workspace", "emptyDir": {} }],
            } },
        },
    }))?;
    let work = async {
        context.create(&manifest).await?;
        until(screen, &sandboxes, NAME, ready).await?;
        Ok(((), format!("{NAME} is Ready, with idleTimeout {IDLE_TIMEOUT}")))
    };
    screen.step("Sandbox", "creating it", work).await?;
    let before = identity(&volume_claims).await?;

    let work = async {
        let sandbox = until(screen, &sandboxes, NAME, suspended).await?.context("the Sandbox")?;
        ensure!(pods.get_opt(NAME).await?.is_none(), "the pod is still there");
        Ok((sandbox, format!("{NAME} is Suspended, its pod is gone")))
    };
    let sandbox = screen.step("idle", "nobody uses it; waiting", work).await?;
    if let Some(reason) = sandbox.status.and_then(|status| status.idle).and_then(|idle| idle.reason) {
        screen.fact("because", &reason);
    }
    ensure!(identity(&volume_claims).await? == before, "the volume claim is another one than before");
    screen.fact("its disk", &format!("{VOLUME_CLAIM} stays ({before})"));

    let work = async {
        let running = json!({ "spec": { "operatingMode": "Running" } });
        let patched = sandboxes.patch(NAME, &PatchParams::default(), &Patch::Merge(running)).await;
        patched.context("setting the mode")?;
        until(screen, &sandboxes, NAME, ready).await?;
        Ok(((), format!("{NAME} is Ready again")))
    };
    screen.step("woken", "setting operatingMode: Running", work).await?;
    let pod = pods.get(NAME).await.context("the new pod")?;
    let mounted = pod
        .spec
        .and_then(|spec| spec.volumes)
        .unwrap_or_default()
        .into_iter()
        .any(|volume| volume.persistent_volume_claim.is_some_and(|source| source.claim_name == VOLUME_CLAIM));
    ensure!(mounted, "the new pod does not mount {VOLUME_CLAIM}");
    ensure!(identity(&volume_claims).await? == before, "the volume claim is another one than before");
    screen.fact("its disk", &format!("the same claim, mounted at /workspace ({before})"));
    // Without activity, the sandbox would be suspended again, which the user has already seen.
    let longer = json!({ "spec": { "idleTimeout": "1h" } });
    sandboxes.patch(NAME, &PatchParams::default(), &Patch::Merge(longer)).await.context("setting idleTimeout")?;
    Ok(())
}

/// The identity of this volume claim, which differs from that of another claim with the same name.
async fn identity(api: &Api<PersistentVolumeClaim>) -> Result<String> {
    let claim = api.get(VOLUME_CLAIM).await.context("the sandbox's volume claim")?;
    Ok(format!("uid {}", claim.metadata.uid.unwrap_or_default()))
}

/// Whether the sandbox is suspended and its pod is gone.
pub(super) fn suspended(sandbox: Option<&Sandbox>) -> Look {
    match sandbox.and_then(|sandbox| sandbox.status.as_ref()) {
        Some(status) => holds(&status.conditions, condition::SUSPENDED),
        None => Look::NotYet("has no status".to_owned()),
    }
}
