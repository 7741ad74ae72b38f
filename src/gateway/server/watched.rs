//! The bytes of a client's connection: the scanner sees them before the HTTP library, and the time of the last one is
//! known.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::framing::Scanner;
use crate::limits;
use crate::progress::Progress;

/// The first bytes of an HTTP/2 connection.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The version of HTTP that a connection begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// A connection.
pub(super) struct Watched<S> {
    inner: S,
    /// The bytes that were read to find out the version.
    first: Vec<u8>,
    scanner: Option<Scanner>,
    progress: Progress,
    end: End,
}

/// The end of a connection, after its last byte was sent.
enum End {
    /// It is closed at once.
    AtOnce,
    /// The bytes of the client are read and dropped until the client closes the connection, or for a while. If they were not
    /// read, they would be answered with a reset, and a client that sees the reset before the last frames does not learn
    /// which of its requests were taken.
    AfterClient,
    /// The client has the last byte of ours, and has this time to close the connection.
    Waiting(Pin<Box<Sleep>>),
}

/// Reads the first bytes of a connection, and finds out its version.
///
/// # Errors
/// If the connection ends first.
pub(super) async fn version(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(Version, Vec<u8>)> {
    let mut first = Vec::with_capacity(PREFACE.len());
    loop {
        let mut byte = [0; PREFACE.len()];
        let room = byte.get_mut(..PREFACE.len() - first.len()).unwrap_or_default();
        let read = stream.read(room).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        first.extend_from_slice(room.get(..read).unwrap_or_default());
        if first == PREFACE {
            return Ok((Version::Http2, first));
        }
        if !PREFACE.starts_with(&first) {
            return Ok((Version::Http1, first));
        }
    }
}

impl<S> Watched<S> {
    /// A connection of HTTP/1.1. An answer says that it is the last one, so the client sends no more.
    pub(super) fn http1(inner: S, first: Vec<u8>, scanner: Scanner, progress: Progress) -> Self {
        Self { inner, first, scanner: Some(scanner), progress, end: End::AtOnce }
    }

    /// A connection of HTTP/2, on which requests cross with the frame that says which requests were taken.
    pub(super) fn http2(inner: S, first: Vec<u8>, progress: Progress) -> Self {
        Self { inner, first, scanner: None, progress, end: End::AfterClient }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        if this.first.is_empty() {
            ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        } else {
            let count = this.first.len().min(buf.remaining());
            let rest = this.first.split_off(count);
            buf.put_slice(&this.first);
            this.first = rest;
        }
        let read = buf.filled().get(before..).unwrap_or_default();
        if !read.is_empty() {
            this.progress.moved();
            if let Some(scanner) = &mut this.scanner {
                scanner.see(read);
                if scanner.is_refused() {
                    return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.progress.moved();
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match &mut this.end {
                End::AtOnce => return Pin::new(&mut this.inner).poll_shutdown(cx),
                End::AfterClient => {
                    ready!(Pin::new(&mut this.inner).poll_shutdown(cx))?;
                    this.end = End::Waiting(Box::pin(sleep(limits::HTTP2_LINGER)));
                }
                End::Waiting(time) => {
                    let mut dropped = [0; 4096];
                    let mut dropped = ReadBuf::new(&mut dropped);
                    if time.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(Ok(()));
                    }
                    match ready!(Pin::new(&mut this.inner).poll_read(cx, &mut dropped)) {
                        Ok(()) if !dropped.filled().is_empty() => {}
                        Ok(()) | Err(_) => return Poll::Ready(Ok(())),
                    }
                }
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.progress.moved();
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_version_is_found_with_the_fewest_bytes() {
        for (bytes, wanted, read) in [
            (&b"GET / HTTP/1.1\r\n"[..], Version::Http1, 16),
            (b"P", Version::Http1, 0),
            (b"POST /", Version::Http1, 6),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nrest", Version::Http2, 24),
            (b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", Version::Http1, 24),
        ] {
            let mut stream = bytes;
            match version(&mut stream).await {
                Ok((version, first)) => assert_eq!((version, first.as_slice()), (wanted, &bytes[..read])),
                Err(error) => assert_eq!((error.kind(), read), (io::ErrorKind::UnexpectedEof, 0)),
            }
        }
    }
}
