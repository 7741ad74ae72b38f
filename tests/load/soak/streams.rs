//! The streams of a soak: WebSockets, and server-sent events over HTTP/2. They outlast a drain, so a gateway that shuts down
//! has to end them.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Shared;
use super::report::{End, Kind};
use crate::client::{Connection, Version, full, request};
use crate::websocket::{Message, WebSocket};

/// The streams of each kind.
const EACH: usize = 4;
/// The interval of the messages on a WebSocket.
const MESSAGES: Duration = Duration::from_millis(100);
/// The time for an answer or for the next message.
const NEXT: Duration = Duration::from_secs(60);
/// The code with which a server that shuts down closes a WebSocket.
const GOING_AWAY: u16 = 1001;

/// Starts the streams. Each is opened again when it ends, until the soak is stopped.
pub(super) fn spawn(streams: &mut JoinSet<()>, shared: &Shared) {
    for kind in [Kind::WebSocket, Kind::Events] {
        for _ in 0..EACH {
            let shared = shared.clone();
            streams.spawn(async move { keep(kind, &shared).await });
        }
    }
}

async fn keep(kind: Kind, shared: &Shared) {
    while !shared.streams_stopped() {
        let ended = match kind {
            Kind::WebSocket => websocket(shared).await,
            Kind::Events => events(shared).await,
        };
        let end = ended.unwrap_or_else(|error| End::Fault(format!("{error:#}")));
        shared.count(|counting, phase| counting.stream(kind, phase, end));
    }
}

/// Sends numbers, which have to come back in order.
async fn websocket(shared: &Shared) -> Result<End> {
    let connected = shared.service.connect().await?;
    let headers: String = shared.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let opened = timeout(NEXT, WebSocket::open(connected.stream, "/socket", &headers)).await;
    let mut socket = opened.context("no answer to a handshake")??;
    for number in 0_u64.. {
        if shared.streams_stopped() {
            break;
        }
        let sent = Message::Data(number.to_be_bytes().to_vec());
        // After a close frame, the other side may already be gone. The frame is read next.
        let written = socket.send(&sent).await;
        match timeout(NEXT, socket.next()).await.context("no message came")? {
            Ok(got) if got == sent => written.context("sending a message")?,
            Ok(Message::Close(GOING_AWAY)) => {
                let _ = socket.send(&Message::Close(GOING_AWAY)).await;
                return Ok(End::InOrder);
            }
            Ok(got) => bail!("{got:?} came for {sent:?}"),
            Err(error) => return Err(error).context("the WebSocket ended without a close frame"),
        }
        sleep(MESSAGES).await;
    }
    Ok(End::Stopped)
}

/// Reads events, whose numbers have to follow each other.
async fn events(shared: &Shared) -> Result<End> {
    let connected = shared.service.connect().await?;
    let mut connection = Connection::begin(connected.stream, Version::Http2).await?;
    let request = request(Version::Http2, "/events", &shared.headers, full(""))?;
    let sent = timeout(NEXT, connection.send(request)).await.context("no answer came")?;
    let response = match sent {
        Ok(response) => response,
        Err(mut failed) => match failed.take_message() {
            // The gateway was about to leave, and the request was not sent.
            Some(_unsent) => return Ok(End::NotBegun),
            None => return Err(failed.into_error()).context("no answer came"),
        },
    };
    ensure!(response.status().is_success(), "the answer was {}", response.status());
    let read = numbers(response.into_body(), shared).await;
    match read {
        Ok(()) => Ok(End::Stopped),
        Err(Broken::Ended(_)) if connection.is_going_away() => Ok(End::InOrder),
        Err(Broken::Ended(error)) => Err(error).context("the events ended without GOAWAY"),
        Err(Broken::Wrong(error)) => Err(error),
    }
}

enum Broken {
    Ended(anyhow::Error),
    Wrong(anyhow::Error),
}

async fn numbers(mut body: Incoming, shared: &Shared) -> Result<(), Broken> {
    let (mut text, mut wanted) = (String::new(), 0_u64);
    while !shared.streams_stopped() {
        let frame = timeout(NEXT, body.frame()).await;
        let frame = frame.map_err(|_elapsed| Broken::Wrong(anyhow::anyhow!("no event came")))?;
        let frame = frame.ok_or_else(|| Broken::Ended(anyhow::anyhow!("the body ended")))?;
        let frame = frame.map_err(|error| Broken::Ended(error.into()))?;
        text.push_str(&String::from_utf8_lossy(frame.data_ref().map_or(&[][..], |data| data)));
        while let Some((event, rest)) = text.split_once("\n\n") {
            if event != format!("data: {wanted}") {
                return Err(Broken::Wrong(anyhow::anyhow!("{event:?} came in the place of event {wanted}")));
            }
            (wanted, text) = (wanted + 1, rest.to_owned());
        }
    }
    Ok(())
}
