//! The sample Sandbox in a container under gVisor: a file in its workspace survives a suspend.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use kube::Api;
use kube::api::{Patch, PatchParams};
use paddock_api::Sandbox;
use paddock_cluster::{AGENT_IMAGE, Agent};
use serde_json::json;

use super::idle::suspended;
use super::sandbox::ready;
use crate::manifests::{SANDBOX, objects};
use crate::session::StepContext;
use crate::wait::{PATIENCE, until};

/// The lines of the sample that are replaced. The image is the one that this machine made, and nobody wants to wait for
/// half an hour.
const EDITS: [(&str, &str); 2] =
    [("image: ghcr.io/collabnix/research-agent:0.4.2", AGENT_IMAGE), ("idleTimeout: 30m", "20s")];
const FILE: &str = "notes/today.txt";
const CONTENT: &str = "written before the sandbox slept";
/// The interval of connections to an agent that starts.
const POLL: Duration = Duration::from_millis(10);

pub(super) async fn run(context: &mut StepContext<'_>) -> Result<()> {
    let screen = context.screen;
    screen.chapter("The sample in a container · kubectl apply -f deploy/samples/sandbox.yaml, with two edits");
    let edited = edited()?;
    for line in difference(SANDBOX, &edited) {
        screen.quote(&line);
    }
    let manifest = objects(&edited, None)?.into_iter().next().context("the sample holds a Sandbox")?;
    let name = manifest.metadata.name.clone().context("the sample's name")?;
    let sandboxes: Api<Sandbox> = context.api();
    let work = async {
        context.create(&manifest).await?;
        let sandbox = until(screen, &sandboxes, &name, ready).await?.context("the Sandbox")?;
        let agent = agent_of(&sandbox).await?;
        Ok((agent, format!("{name} is Ready, and its agent answers on port 8888")))
    };
    let agent = screen.step("Sandbox", "creating it", work).await?;
    let kernel = agent.execute("cat /proc/version").await?.stdout;
    let host = std::fs::read_to_string("/proc/version").context("reading the version of this machine's kernel")?;
    ensure!(kernel != host, "the sandbox runs on this machine's kernel");
    screen.fact("its kernel", release(&kernel));
    screen.fact("this machine's", release(&host));
    let mounts = agent.execute("cat /proc/mounts").await?.stdout;
    ensure!(mounts.contains(" /workspace "), "the workspace is not mounted");
    let work = async {
        agent.upload(FILE, CONTENT).await?;
        Ok(((), format!("/workspace/{FILE} is written")))
    };
    screen.step("file", "writing it", work).await?;

    screen.chapter("It sleeps when nobody uses it, and keeps the file");
    let work = async {
        until(screen, &sandboxes, &name, suspended).await?;
        ensure!(!agent.is_active().await, "the agent still answers");
        Ok(((), format!("{name} is Suspended, and its container is gone")))
    };
    screen.step("idle", "nobody uses it; waiting", work).await?;
    let work = async {
        let running = json!({ "spec": { "operatingMode": "Running" } });
        let patched = sandboxes.patch(&name, &PatchParams::default(), &Patch::Merge(running)).await;
        patched.context("setting the mode")?;
        let sandbox = until(screen, &sandboxes, &name, ready).await?.context("the Sandbox")?;
        Ok((agent_of(&sandbox).await?, format!("{name} is Ready, and its agent answers again")))
    };
    let agent = screen.step("woken", "setting operatingMode: Running", work).await?;
    let content = agent.download(FILE).await?;
    ensure!(content == CONTENT, "the file has another content: {content}");
    screen.fact("the file", &format!("/workspace/{FILE}: {content:?}"));
    Ok(())
}

/// The sample with the edits.
fn edited() -> Result<String> {
    let mut text = SANDBOX.to_owned();
    for (line, value) in EDITS {
        ensure!(text.matches(line).count() == 1, "the sample does not contain {line:?} once");
        let key = line.split(' ').next().unwrap_or_default();
        text = text.replace(line, &format!("{key} {value}"));
    }
    Ok(text)
}

/// The lines that differ. Edits keep the number of lines.
fn difference(before: &str, after: &str) -> Vec<String> {
    let changed = before.lines().zip(after.lines()).filter(|(before, after)| before != after);
    changed.flat_map(|(before, after)| [format!("- {}", before.trim()), format!("+ {}", after.trim())]).collect()
}

/// The agent of a Sandbox, when it answers. A pod without a readiness probe is Ready before its program listens.
async fn agent_of(sandbox: &Sandbox) -> Result<Agent> {
    let address = sandbox.status.as_ref().and_then(|status| status.pod_ips.first()).context("the pod's address")?;
    let agent = Agent::new(address);
    let began = Instant::now();
    while !agent.is_active().await {
        if began.elapsed() > PATIENCE {
            bail!("the agent at {address} does not answer within {} s", PATIENCE.as_secs());
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(agent)
}

/// The name and the release of a kernel, from `/proc/version`.
fn release(version: &str) -> &str {
    version.split(" (").next().unwrap_or(version).split(" #").next().unwrap_or(version).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn difference_shows_the_two_edits_and_nothing_else() {
        let shown = difference(SANDBOX, &edited().unwrap());
        let wanted = [
            "- image: ghcr.io/collabnix/research-agent:0.4.2".to_owned(),
            format!("+ image: {AGENT_IMAGE}"),
            "- idleTimeout: 30m".to_owned(),
            "+ idleTimeout: 20s".to_owned(),
        ];
        assert_eq!(shown, wanted);
    }

    #[test]
    fn release_of_a_kernel_is_its_name_and_version() {
        for (version, wanted) in [
            ("Linux version 4.19.0-gvisor #1 SMP Sun Jan 10 15:06:54 PST 2016\n", "Linux version 4.19.0-gvisor"),
            ("Linux version 6.1.0-9-amd64 (debian-kernel@lists.debian.org) (gcc)\n", "Linux version 6.1.0-9-amd64"),
        ] {
            assert_eq!(release(version), wanted);
        }
    }
}
