//! One sandbox, from the unchanged sample manifest.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use paddock_api::Sandbox;
use paddock_api::names::condition;

use crate::manifests::{SANDBOX, objects};
use crate::session::StepContext;
use crate::wait::{Look, holds, until};

/// The RuntimeClass in the sample.
const CLASS: &str = "gvisor";

pub(super) async fn run(context: &mut StepContext<'_>) -> Result<()> {
    let screen = context.screen;
    screen.chapter("One sandbox · kubectl apply -f deploy/samples/sandbox.yaml");
    let manifest = objects(SANDBOX, None)?.into_iter().next().context("the sample holds a Sandbox")?;
    let name = manifest.metadata.name.clone().context("the sample's name")?;
    let sandboxes: Api<Sandbox> = context.api();
    let ready = async {
        context.create(&manifest).await?;
        let ready = until(screen, &sandboxes, &name, ready).await?.context("the Sandbox")?;
        Ok((ready, format!("{name} is Ready")))
    };
    let sandbox = screen.step("Sandbox", "creating it", ready).await?;

    let pods: Api<Pod> = context.api();
    let pod = pods.get(&name).await.context("the Sandbox's pod")?;
    let spec = pod.spec.unwrap_or_default();
    let class = spec.runtime_class_name.unwrap_or_default();
    ensure!(class == CLASS, "the pod's runtimeClassName is {class:?}, not {CLASS}");
    ensure!(spec.hostname.as_deref() == Some(&*name), "the pod's hostname is {:?}, not {name}", spec.hostname);
    let status = sandbox.status.unwrap_or_default();
    let address = status.service_fqdn.context("the Sandbox has no serviceFQDN")?;
    let reason = status.runtime_class.and_then(|choice| choice.reason).map(|why| format!(": {why}"));
    screen.fact("runs under", &format!("{class}{}", reason.unwrap_or_default()));
    screen.fact("hostname", &name);
    screen.fact("answers at", &address);
    let volumes = spec.volumes.unwrap_or_default();
    for (volume, claim) in volumes.iter().filter_map(|v| Some((&v.name, v.persistent_volume_claim.as_ref()?))) {
        screen.fact("keeps", &format!("/{volume}, in the volume claim {}", claim.claim_name));
    }
    Ok(())
}

/// Whether the sandbox is Ready.
pub(super) fn ready(sandbox: Option<&Sandbox>) -> Look {
    match sandbox.and_then(|sandbox| sandbox.status.as_ref()) {
        Some(status) => holds(&status.conditions, condition::READY),
        None => Look::NotYet("has no status yet".to_owned()),
    }
}
