//! Large bodies through a gateway: their bytes are checked, and its memory is watched.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use http::Request;
use http_body_util::BodyExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::client::{Body, Connection, Version, full, request};
use crate::gateway::Gateway;
use crate::pattern::{Checker, Pattern};
use crate::upstream::stream_of;

/// The pause of a client before it reads the body of an answer. A gateway that keeps what nobody reads takes memory then.
const PAUSE: Duration = Duration::from_secs(2);
/// The interval at which the memory is read.
const SAMPLE: Duration = Duration::from_millis(10);

/// The direction of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The body of a request.
    Upload,
    /// The body of an answer. The client reads it after a pause of two seconds.
    Download,
}

/// A body to send.
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    /// The version of HTTP of the client.
    pub version: Version,
    /// The direction.
    pub direction: Direction,
    /// The length of the body.
    pub bytes: u64,
}

/// A body that went through.
#[derive(Clone, Copy, Debug)]
pub struct Transferred {
    /// The time for the body, without the pause.
    pub took: Duration,
    /// The bytes of resident memory that the gateway took more than before.
    pub growth: u64,
}

/// Sends a body through a gateway.
///
/// # Errors
/// If a byte is lost or changed, or the memory of the process cannot be read.
pub async fn transfer(
    gateway: &Gateway,
    headers: &[(&'static str, String)],
    Transfer { version, direction, bytes }: Transfer,
) -> Result<Transferred> {
    let process = &gateway.process;
    let stream = TcpStream::connect(gateway.proxy).await.context("connecting to the gateway")?;
    let mut connection = Connection::begin(stream, version).await?;
    let memory = || process.resident_bytes().with_context(|| format!("{} has no memory", process.name()));
    let before = memory()?;
    let most = Arc::new(AtomicU64::new(before));
    // A task of its own, because a body that is always there would leave it no time.
    let sampler = tokio::spawn({
        let (process, most) = (process.clone(), most.clone());
        async move {
            loop {
                most.fetch_max(process.resident_bytes().unwrap_or_default(), Ordering::Relaxed);
                sleep(SAMPLE).await;
            }
        }
    });
    let (path, body) = match direction {
        Direction::Upload => ("/upload".to_owned(), stream_of(Pattern::default(), bytes)),
        Direction::Download => (format!("/download/{bytes}"), full("")),
    };
    let request = request(version, &path, headers, body)?;
    let took = exchange(&mut connection, request, direction, bytes).await;
    sampler.abort();
    let most = most.load(Ordering::Relaxed).max(memory()?);
    Ok(Transferred { took: took?, growth: most - before })
}

async fn exchange(
    connection: &mut Connection,
    request: Request<Body>,
    direction: Direction,
    bytes: u64,
) -> Result<Duration> {
    let began = Instant::now();
    let response = connection.send(request).await.map_err(|failed| failed.into_error())?;
    let status = response.status();
    let mut body = response.into_body();
    let paused = match direction {
        Direction::Upload => Duration::ZERO,
        Direction::Download => {
            sleep(PAUSE).await;
            PAUSE
        }
    };
    let (mut checker, mut text) = (Checker::default(), Vec::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.context("reading the body of the answer")?;
        let Some(data) = frame.data_ref() else { continue };
        match direction {
            Direction::Upload => text.extend_from_slice(data),
            Direction::Download => checker.see(data),
        }
    }
    let took = began.elapsed().saturating_sub(paused);
    ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&text));
    let got = match direction {
        Direction::Upload => String::from_utf8_lossy(&text).parse().ok(),
        Direction::Download => Some(checker.end().map_err(anyhow::Error::msg)?),
    };
    if got != Some(bytes) {
        bail!("{got:?} bytes arrived of {bytes}");
    }
    Ok(took)
}
