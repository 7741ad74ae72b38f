//! A connection of HTTP/2 whose incoming frames are looked at, because the HTTP library does not report a GOAWAY.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The bytes of the head of a frame.
const HEAD: usize = 9;
const GOAWAY: u8 = 7;

/// Whether the other side of a connection has sent GOAWAY. Clones are handles on the same fact.
#[derive(Clone, Debug, Default)]
pub(crate) struct GoAway(Arc<AtomicBool>);

impl GoAway {
    pub(crate) fn was_sent(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The connection.
pub(crate) struct Observed<S> {
    inner: S,
    head: Vec<u8>,
    /// The bytes of the payload that are still to come.
    payload: usize,
    goaway: GoAway,
}

impl<S> Observed<S> {
    pub(crate) fn new(inner: S) -> (Self, GoAway) {
        let goaway = GoAway::default();
        (Self { inner, head: Vec::with_capacity(HEAD), payload: 0, goaway: goaway.clone() }, goaway)
    }

    fn see(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.payload > 0 {
                let skipped = self.payload.min(bytes.len());
                self.payload -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            self.head.push(bytes[0]);
            bytes = &bytes[1..];
            if let [a, b, c, kind, ..] = *self.head.as_slice()
                && self.head.len() == HEAD
            {
                self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                if kind == GOAWAY {
                    self.goaway.0.store(true, Ordering::Relaxed);
                }
                self.head.clear();
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Observed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let read = buf.filled()[before..].to_vec();
        self.see(&read);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Observed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        [&[0, 0, payload.len() as u8, kind, 0, 0, 0, 0, 0][..], payload].concat()
    }

    #[test]
    fn goaway_is_seen_and_no_payload_is_taken_for_one() {
        let others = [frame(0, &[GOAWAY; 30]), frame(4, &[]), frame(6, &[GOAWAY; 8])].concat();
        let all = [others.clone(), frame(GOAWAY, &[0; 8])].concat();
        for pieces in [1, 5, 100] {
            let (mut observed, goaway) = Observed::new(());
            others.chunks(pieces).for_each(|piece| observed.see(piece));
            assert!(!goaway.was_sent(), "{pieces}");
            let (mut observed, goaway) = Observed::new(());
            all.chunks(pieces).for_each(|piece| observed.see(piece));
            assert!(goaway.was_sent(), "{pieces}");
        }
    }
}
