//! A tunnel, of an upgraded connection or of a TCP connection: bytes in both directions, until one side ends, nothing
//! moves for too long, or the gateway shuts down. An idle connection has no buffers.

mod pipe;
mod websocket;

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use self::pipe::Pipe;
use self::websocket::Sender;
use crate::drain::{Drain, Stage};
use crate::timeouts::Timeouts;

/// The protocol of the tunnel, as far as its end depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    WebSocket,
    Other,
}

/// The two sides of an upgrade.
pub(crate) struct Tunnel {
    pub(crate) client: OnUpgrade,
    pub(crate) sandbox: OnUpgrade,
    pub(crate) protocol: Protocol,
}

/// The end of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// The bytes that went to the client.
    pub(crate) bytes: u64,
    /// The bytes that came from the client.
    pub(crate) from_client: u64,
    /// Whether the gateway or an error ended it.
    pub(crate) cut: bool,
}

impl Tunnel {
    /// Copies until the end.
    pub(crate) async fn run(self, timeouts: &Timeouts, drain: &Drain) -> Ended {
        let (client, sandbox) = match tokio::try_join!(self.client, self.sandbox) {
            Ok(sides) => sides,
            Err(error) => {
                debug!(%error, "an upgrade failed");
                return Ended { bytes: 0, from_client: 0, cut: true };
            }
        };
        copy(TokioIo::new(client), TokioIo::new(sandbox), self.protocol, timeouts, drain).await
    }
}

/// Copies in both directions until the end.
pub(crate) async fn copy(
    client: impl AsyncRead + AsyncWrite + Unpin,
    sandbox: impl AsyncRead + AsyncWrite + Unpin,
    protocol: Protocol,
    timeouts: &Timeouts,
    drain: &Drain,
) -> Ended {
    let tracked = |sender| (protocol == Protocol::WebSocket).then_some(sender);
    let mut copy = Copy {
        client,
        sandbox,
        to_sandbox: Pipe::new(tracked(Sender::Client)),
        to_client: Pipe::new(tracked(Sender::Server)),
    };
    let mut closes = false;
    let mut moved = Instant::now();
    let mut closing = pin!(drain.reached(Stage::Closing));
    let mut end = pin!(sleep_until(idle_end(moved, timeouts.stream_idle)));
    let cut = loop {
        tokio::select! {
            biased;
            () = closing.as_mut(), if !closes => {
                closes = true;
                end.as_mut().reset(Instant::now() + timeouts.close);
                copy.to_client.close();
                copy.to_sandbox.close();
            }
            step = copy.step() => match step {
                Step::Moved => moved = Instant::now(),
                Step::Ended => break closes,
                Step::Failed(error) => {
                    debug!(%error, "a tunnel ended with an error");
                    break true;
                }
            },
            () = end.as_mut() => {
                // A timer is not set again for each message, so bytes may have moved since.
                let idle = idle_end(moved, timeouts.stream_idle);
                if closes || idle <= Instant::now() {
                    break true;
                }
                end.as_mut().reset(idle);
            }
        }
    };
    Ended { bytes: copy.to_client.bytes(), from_client: copy.to_sandbox.bytes(), cut }
}

fn idle_end(moved: Instant, idle: Duration) -> Instant {
    // Without a limit, the end is a year away.
    moved + if idle.is_zero() { Duration::from_secs(365 * 24 * 3600) } else { idle }
}

struct Copy<C, S> {
    client: C,
    sandbox: S,
    to_sandbox: Pipe,
    to_client: Pipe,
}

enum Step {
    Moved,
    Ended,
    Failed(std::io::Error),
}

impl<C: AsyncRead + AsyncWrite + Unpin, S: AsyncRead + AsyncWrite + Unpin> Copy<C, S> {
    /// Copies what can be copied now, in both directions.
    async fn step(&mut self) -> Step {
        poll_fn(|cx| {
            let before = (self.to_client.bytes(), self.to_sandbox.bytes());
            let there = self.to_sandbox.poll(cx, &mut self.client, &mut self.sandbox);
            let back = self.to_client.poll(cx, &mut self.sandbox, &mut self.client);
            match (there, back) {
                (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => Poll::Ready(Step::Failed(error)),
                (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Step::Ended),
                (_, _) if before != (self.to_client.bytes(), self.to_sandbox.bytes()) => Poll::Ready(Step::Moved),
                (_, _) => Poll::Pending,
            }
        })
        .await
    }
}
