//! The requests of a soak. A client sends each of them once, and again only if no byte of it was sent, or if the gateway said
//! that it did not take it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use http_body_util::BodyExt as _;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Shared, name};
use crate::client::{Connection, Version, full, request};
use crate::pattern::Pattern;
use crate::upstream::stream_of;

/// The time for an answer. On a busy machine, a gateway of a development build takes seconds.
const ANSWER: Duration = Duration::from_secs(60);
/// The bytes of an upload.
const UPLOAD: u64 = 300_000;

/// A way in which clients send requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// One request after another on a connection, with short pauses.
    Steady(Version),
    /// One request on each connection.
    Fresh,
    /// Long pauses on a connection that is kept.
    Pausing,
    /// Answers that take a second, so that a drain has to wait for them.
    Slow(Version),
    /// Bodies of 300 kB.
    Uploads(Version),
}

impl Style {
    pub(super) const ALL: [Self; 8] = [
        Self::Steady(Version::Http1),
        Self::Steady(Version::Http2),
        Self::Fresh,
        Self::Pausing,
        Self::Slow(Version::Http1),
        Self::Slow(Version::Http2),
        Self::Uploads(Version::Http1),
        Self::Uploads(Version::Http2),
    ];

    const fn version(self) -> Version {
        match self {
            Self::Steady(version) | Self::Slow(version) | Self::Uploads(version) => version,
            Self::Fresh | Self::Pausing => Version::Http1,
        }
    }

    /// The number of connections, and of clients on each of them. A connection of HTTP/1.1 has one client.
    const fn clients(self) -> (usize, usize) {
        match self {
            Self::Steady(Version::Http1) | Self::Slow(Version::Http1) => (6, 1),
            Self::Steady(Version::Http2) | Self::Slow(Version::Http2) => (2, 4),
            Self::Fresh | Self::Uploads(Version::Http1) => (2, 1),
            Self::Uploads(Version::Http2) => (1, 2),
            Self::Pausing => (8, 1),
        }
    }

    /// The longest pause between an answer and the next request.
    fn pause(self, shared: &Shared) -> Duration {
        match self {
            Self::Steady(_) | Self::Fresh => Duration::from_millis(60),
            Self::Slow(_) | Self::Uploads(_) => Duration::from_millis(200),
            Self::Pausing => shared.pause,
        }
    }

    fn path(self, id: u64) -> String {
        match self {
            Self::Slow(_) => format!("/count/{id}?delay=1000"),
            Self::Steady(_) | Self::Fresh | Self::Pausing | Self::Uploads(_) => format!("/count/{id}"),
        }
    }

    fn bytes(self) -> u64 {
        match self {
            Self::Uploads(_) => UPLOAD,
            Self::Steady(_) | Self::Fresh | Self::Pausing | Self::Slow(_) => 0,
        }
    }
}

/// The number of clients, which is the highest number of requests at the same time.
pub const CLIENTS: usize = {
    let (mut sum, mut at) = (0, 0);
    while at < Style::ALL.len() {
        let (connections, each) = Style::ALL[at].clients();
        sum += connections * each;
        at += 1;
    }
    sum
};

/// The connection of some clients.
type Slot = Arc<Mutex<Option<Connection>>>;

/// Starts the clients of a style. Each ends by itself when the soak is stopped.
pub(super) fn spawn(clients: &mut JoinSet<()>, style: Style, shared: &Shared) {
    let (connections, each) = style.clients();
    for _ in 0..connections {
        let slot = Slot::default();
        for _ in 0..each {
            let (slot, shared) = (slot.clone(), shared.clone());
            clients.spawn(async move { client(style, &slot, &shared).await });
        }
    }
}

async fn client(style: Style, slot: &Slot, shared: &Shared) {
    while !shared.stopped() {
        let mut id = 0;
        shared.count(|counting, _| id = counting.next_id());
        let answered = timeout(ANSWER, send(style, id, slot, shared)).await;
        let lost = match answered {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("{}: {error:#}", name(style.version()))),
            Err(_elapsed) => Some(format!("{}: no answer within {} s", name(style.version()), ANSWER.as_secs())),
        };
        if lost.is_some() || style == Style::Fresh {
            *slot.lock().await = None;
        }
        shared.count(|counting, phase| counting.ended(id, phase, lost));
        sleep(style.pause(shared).mul_f64(fastrand::f64())).await;
    }
}

/// Sends one request, and checks its answer.
async fn send(style: Style, id: u64, slot: &Slot, shared: &Shared) -> Result<()> {
    let response = loop {
        let body = match style.bytes() {
            0 => full(""),
            bytes => stream_of(Pattern::default(), bytes),
        };
        let request = request(style.version(), &style.path(id), &shared.headers, body)?;
        let mut connection = take(style.version(), slot, shared).await?;
        match connection.send(request).await {
            Ok(response) => {
                // A connection of HTTP/1.1 is kept when the answer has been read. Only its own client uses the slot.
                if style.version() == Version::Http1 {
                    *slot.lock().await = Some(connection);
                }
                break response;
            }
            Err(mut failed) => {
                if failed.take_message().is_some() {
                    shared.count(|counting, phase| counting.repeated(phase));
                    continue;
                }
                let error = failed.into_error();
                if !was_not_taken(&error) {
                    return Err(error).context("no answer came");
                }
                shared.count(|counting, phase| counting.not_taken(phase));
            }
        }
    };
    let status = response.status();
    let body = response.into_body().collect().await.context("the answer ended early")?.to_bytes();
    if !status.is_success() || body != format!("{id} {}", style.bytes()) {
        bail!("the answer was {status} {}", String::from_utf8_lossy(&body));
    }
    Ok(())
}

/// Whether a server of HTTP/2 that leaves has said, by the last stream of its GOAWAY, that it did not take the request. Its
/// client has to send the request elsewhere (RFC 9113, section 6.8): the request crossed with the GOAWAY.
fn was_not_taken(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| cause.is_go_away() && cause.is_remote() && cause.reason() == Some(h2::Reason::NO_ERROR))
}

/// The connection of the slot, or a new one.
async fn take(version: Version, slot: &Slot, shared: &Shared) -> Result<Connection> {
    let mut slot = slot.lock().await;
    if let Some(mut connection) = slot.take()
        && connection.usable().await
    {
        *slot = connection.shared();
        return Ok(connection);
    }
    let connected = shared.service.connect().await?;
    shared.count(|counting, phase| counting.refused(phase, connected.refused));
    let connection = Connection::begin(connected.stream, version).await?;
    *slot = connection.shared();
    Ok(connection)
}
