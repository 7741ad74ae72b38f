//! Generated code never runs on the host's kernel.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use paddock_api::names::label;
use serde_json::json;

use crate::session::{PLAIN_CLASS, StepContext};
use crate::wait::PATIENCE;

/// API servers receive a new webhook configuration through a watch of their own, so the demo polls.
const POLL: Duration = Duration::from_millis(100);

pub(super) async fn run(context: &mut StepContext<'_>) -> Result<()> {
    let screen = context.screen;
    screen.chapter("Generated code stays off the host's kernel");
    if !context.has_webhook() {
        screen.remark(
            "Left out: an API server elsewhere cannot ask a webhook on this machine. Install deploy/ to see it.",
        );
        return Ok(());
    }
    let pods: Api<Pod> = context.api();
    let work = async {
        let message = denied(&pods, &generated("wild-code", Some(PLAIN_CLASS))?).await?;
        Ok((message, format!("marked as generated code, runtimeClassName: {PLAIN_CLASS}: denied")))
    };
    let message = screen.step("Pod", "creating one that is not isolated", work).await?;
    screen.quote(&message);

    let work = async {
        let created = pods.create(&PostParams::default(), &generated("tame-code", None)?).await;
        let class = created.context("creating the Pod")?.spec.and_then(|spec| spec.runtime_class_name);
        ensure!(class.as_deref() == Some("gvisor"), "its runtimeClassName is {class:?}, not gvisor");
        Ok(((), "the same without a class: it is given gvisor".to_owned()))
    };
    screen.step("Pod", "creating one that names no class", work).await
}

/// The API server's message when it denies a pod.
async fn denied(pods: &Api<Pod>, pod: &Pod) -> Result<String> {
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let asked = async {
        while pods.create(&dry_run, pod).await.is_ok() {
            tokio::time::sleep(POLL).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, asked).await;
    waited.context("the webhook was never asked: the Pod is taken, at least as a dry run")?;
    match pods.create(&PostParams::default(), pod).await {
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(status.message),
        Err(error) => Err(error).context("the Pod was refused, but not by the webhook"),
        Ok(_) => bail!("the Pod was taken"),
    }
}

fn generated(name: &str, class: Option<&str>) -> Result<Pod> {
    let pod = json!({
        "metadata": { "name": name, "labels": { label::GENERATED_CODE: label::TRUE } },
        "spec": { "runtimeClassName": class, "containers": [{ "name": "code", "image": "python:3.13-slim" }] },
    });
    serde_json::from_value(pod).context("the demo's Pod")
}
