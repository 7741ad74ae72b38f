//! The memory of proxies with idle WebSockets.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use paddock_cluster::Cluster;
use paddock_load::Scene;
use paddock_load::websocket::WebSocket;
use tokio::net::TcpStream;

use super::figures::{Figures, Sockets};
use super::ways::{GATEWAY, NGINX, Ways, watched};
use crate::progress::say;
use crate::usage::{self, Watched};

/// The handshakes at the same time.
const AT_ONCE: usize = 64;
/// The WebSockets that are opened and closed before the memory is read for the first time.
const WARM: u32 = 200;
/// The time for which the WebSockets are idle before the memory is read, and after they were closed.
const REST: Duration = Duration::from_secs(10);
/// The files of a process beside those of its WebSockets.
const OTHER_FILES: u64 = 200;

/// The number of WebSockets that the system allows, at most `wanted`. A proxy needs two open files for each of them, and so
/// does this process, which has both ends. The limit of open files is raised if this process may do that, and the proxies
/// inherit it.
///
/// # Errors
/// If the limit cannot be read or set.
pub(super) fn allowed(wanted: u32) -> Result<u32> {
    let files = 2 * u64::from(wanted) + OTHER_FILES;
    let (soft, hard) = rlimit::Resource::NOFILE.get().context("reading the limit of open files")?;
    if soft >= files || rlimit::Resource::NOFILE.set(files, hard.max(files)).is_ok() {
        return Ok(wanted);
    }
    rlimit::Resource::NOFILE.set(hard, hard).context("raising the number of open files")?;
    let allowed = u32::try_from(hard.saturating_sub(OTHER_FILES) / 2).unwrap_or(wanted).min(wanted);
    say(&format!("{allowed} WebSockets instead of {wanted}: a process may have {hard} open files here"));
    Ok(allowed)
}

/// Measures the gateway, which is a new process with higher limits, and nginx.
pub(super) async fn measure(
    cluster: &Cluster,
    scene: &Scene,
    ways: &Ways,
    count: u32,
    all: &mut [Figures],
) -> Result<()> {
    let limits =
        ["max-connections", "max-connections-per-client", "max-requests-per-client", "max-requests-per-sandbox"];
    let limits = limits.map(|name| format!("--{name}={}", count + 1000));
    let flags: Vec<&str> = ["--allow-unauthenticated"].into_iter().chain(limits.iter().map(String::as_str)).collect();
    let gateway = scene.gateway(cluster, "gateway-sockets", &flags).await?;
    let mut proxies = vec![(GATEWAY, gateway.proxy, vec![watched(&gateway.process)])];
    if let Some(way) = ways.of(NGINX) {
        proxies.push((NGINX, way.address, way.processes.clone()));
    }
    for (name, address, processes) in proxies {
        let sockets =
            idle(scene, address, &processes, count).await.with_context(|| format!("WebSockets through {name}"))?;
        say(&format!("{name}: {:.1} kB for each WebSocket", sockets.each_kb()));
        if let Some(figures) = all.iter_mut().find(|figures| figures.name == name) {
            figures.sockets = Some(sockets);
        }
    }
    Ok(())
}

async fn idle(scene: &Scene, proxy: SocketAddr, processes: &[Watched], count: u32) -> Result<Sockets> {
    let headers: String = scene.headers().iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let memory = || usage::now(processes).values().map(|usage| usage.rss_mb).sum::<f64>();
    drop(open(proxy, &headers, WARM).await?);
    tokio::time::sleep(REST).await;
    let before = memory();
    let mut sockets = open(proxy, &headers, count).await?;
    tokio::time::sleep(REST).await;
    let with = memory();
    // Each of them is still there, and through the proxy.
    for (number, socket) in sockets.iter_mut().enumerate() {
        let echo = tokio::time::timeout(REST, socket.echo(&number.to_be_bytes())).await;
        match echo {
            Ok(echo) => echo.with_context(|| format!("WebSocket {number}"))?,
            Err(_elapsed) => bail!("WebSocket {number} does not answer"),
        }
    }
    drop(sockets);
    tokio::time::sleep(REST).await;
    Ok(Sockets { count, before_mb: before, with_mb: with, after_mb: memory() })
}

async fn open(proxy: SocketAddr, headers: &str, count: u32) -> Result<Vec<WebSocket>> {
    let one = |number: u32| async move {
        let stream = TcpStream::connect(proxy).await.context("connecting")?;
        let mut socket = WebSocket::open(stream, "/socket", headers).await?;
        socket.echo(&number.to_be_bytes()).await?;
        Ok(socket)
    };
    stream::iter(0..count).map(one).buffer_unordered(AT_ONCE).try_collect().await
}
