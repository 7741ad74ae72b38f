//! The sample Sandbox in a container under gVisor: it is suspended when nobody uses it, and a request through the gateway
//! resumes it with its files. So does a TCP connection to its Service.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Api;
use paddock_api::Sandbox;
use paddock_cluster::{AGENT_IMAGE, Agent};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::idle::suspended;
use super::sandbox::ready;
use crate::gateway::{Gateway, parts_of_request};
use crate::manifests::{SANDBOX, objects};
use crate::screen::time;
use crate::session::StepContext;
use crate::wait::until;

/// The lines of the sample that are replaced. The image is the one that this machine made, and nobody wants to wait for
/// half an hour.
const EDITS: [(&str, &str); 2] =
    [("image: ghcr.io/collabnix/research-agent:0.4.2", AGENT_IMAGE), ("idleTimeout: 30m", "20s")];
/// The name of the sample.
pub(super) const NAME: &str = "research-agent-ajeet";
/// The port of a Sandbox that declares none.
const PORT: u16 = 8888;
const FILE: &str = "notes/today.txt";
const CONTENT: &str = "written before the sandbox slept";

pub(super) async fn run(context: &mut StepContext<'_>, gateway: &Gateway) -> Result<()> {
    let screen = context.screen;
    screen.chapter("The sample in a container · kubectl apply -f deploy/samples/sandbox.yaml, with two edits");
    let edited = edited()?;
    for line in difference(SANDBOX, &edited) {
        screen.quote(&line);
    }
    let manifest = objects(&edited, None)?.into_iter().next().context("the sample holds a Sandbox")?;
    ensure!(manifest.metadata.name.as_deref() == Some(NAME), "the sample is not called {NAME}");
    let sandboxes: Api<Sandbox> = context.api();
    let work = async {
        context.create(&manifest).await?;
        let sandbox = until(screen, &sandboxes, NAME, ready).await?.context("the Sandbox")?;
        Ok((sandbox, format!("{NAME} is Ready")))
    };
    let sandbox = screen.step("Sandbox", "creating it", work).await?;
    let agent = gateway.agent(NAME);
    let work = async {
        let kernel = agent.execute("cat /proc/version").await.context("running a command")?.stdout;
        Ok((kernel, "a command ran in it, through the gateway".to_owned()))
    };
    let kernel = screen.step("command", "running one", work).await?;
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

    screen.chapter("It sleeps when nobody uses it");
    sleeps(context, &sandbox).await?;

    screen.chapter(&format!("One request wakes it · {}", request(gateway, NAME)));
    let before = gateway.wake_phases().await?;
    let began = Instant::now();
    let work = async {
        let content = agent.download(FILE).await.context("asking for the file")?;
        ensure!(content == CONTENT, "the file has another content: {content}");
        Ok((began.elapsed(), format!("the answer: {content:?}")))
    };
    let took = screen.step("woken", "waiting for the answer", work).await?;
    for (part, took) in parts_of_request(gateway.wake_phases().await?.since(before), took) {
        screen.fact(&time(took), part);
    }
    connect(context, &sandboxes).await
}

/// Waits until nobody has used the Sandbox for its idle timeout.
async fn sleeps(context: &StepContext<'_>, sandbox: &Sandbox) -> Result<()> {
    let (screen, sandboxes) = (context.screen, context.api());
    let work = async {
        until(screen, &sandboxes, NAME, suspended).await?;
        let pods: Api<Pod> = context.api();
        ensure!(pods.get_opt(NAME).await?.is_none(), "the pod is still there");
        let direct = Agent::new(address(sandbox)?);
        ensure!(!direct.is_active().await, "the agent still answers");
        Ok(((), format!("{NAME} is Suspended, and its container is gone")))
    };
    screen.step("idle", "nobody uses it; waiting", work).await
}

/// Connects to the stable address of the Sandbox while it sleeps. The bytes happen to be HTTP; the gateway does not look.
async fn connect(context: &StepContext<'_>, sandboxes: &Api<Sandbox>) -> Result<()> {
    let screen = context.screen;
    let services: Api<Service> = context.api();
    let service = services.get(NAME).await.context("reading the Service of the Sandbox")?;
    let ip = service.spec.and_then(|spec| spec.cluster_ip).context("the Service has no address")?;
    let at = format!("{ip}:{PORT}");
    screen.chapter(&format!("So does one TCP connection to its Service · {at}"));
    let awake = until(screen, sandboxes, NAME, ready).await?.context("the Sandbox")?;
    sleeps(context, &awake).await?;
    let began = Instant::now();
    let work = async {
        let mut stream = TcpStream::connect(&at).await.context("connecting")?;
        let connected = began.elapsed();
        let asked = format!("GET /download/{FILE} HTTP/1.0\r\n\r\n");
        stream.write_all(asked.as_bytes()).await.context("sending")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.context("waiting for the answer")?;
        ensure!(answer.ends_with(CONTENT), "the file has another content: {answer}");
        Ok((connected, format!("the answer: {CONTENT:?}")))
    };
    let connected = screen.step("woken", "waiting for the answer", work).await?;
    screen.fact(&time(connected), "the gateway takes the connection, and holds it");
    Ok(())
}

/// The command that asks for the file.
pub(super) fn request(gateway: &Gateway, sandbox: &str) -> String {
    gateway.request(sandbox, &format!("/download/{FILE}"))
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

/// The address of the pod of a Sandbox that is Ready.
fn address(sandbox: &Sandbox) -> Result<&str> {
    let address = sandbox.status.as_ref().and_then(|status| status.pod_ips.first());
    address.map(String::as_str).context("the Sandbox has no address")
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
