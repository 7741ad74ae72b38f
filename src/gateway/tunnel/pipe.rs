//! One direction of a tunnel. Bytes are kept only while the reader is slower than the writer, and then a bounded number.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::websocket::{Frames, Sender};

/// The bytes that one read takes, and the most that a direction keeps.
const READ: usize = 32 * 1024;

/// The reads of one poll, after which another task has its turn.
const TURN: usize = 16;

thread_local! {
    /// The buffer of the reads. Each thread needs one, however many tunnels there are.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

/// One direction.
pub(super) struct Pipe {
    /// The bytes that were read and not written yet, and how many of them were written.
    left: (Vec<u8>, usize),
    frames: Option<Frames>,
    bytes: u64,
    state: State,
    unflushed: bool,
    closing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The source has ended, and the end is passed on.
    Ending,
    Ended,
}

impl Pipe {
    pub(super) fn new(sender: Option<Sender>) -> Self {
        Self {
            left: (Vec::new(), 0),
            frames: sender.map(Frames::new),
            bytes: 0,
            state: State::Open,
            unflushed: false,
            closing: false,
        }
    }

    /// The bytes that were read.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ends the direction between two frames, with a close frame. Without frames it ends at once.
    pub(super) fn close(&mut self) {
        self.closing = true;
    }

    /// Copies what can be copied now. Ready when the direction has ended.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        for _ in 0..TURN {
            ready!(self.poll_left(cx, to))?;
            match self.state {
                State::Ended => return Poll::Ready(Ok(())),
                State::Ending => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.state = State::Ended;
                    return Poll::Ready(Ok(()));
                }
                State::Open => {}
            }
            if self.closing && self.frames.as_ref().is_none_or(Frames::between) {
                self.left = (self.frames.as_mut().map(Frames::going_away).unwrap_or_default(), 0);
                self.state = State::Ending;
                continue;
            }
            match SCRATCH.with_borrow_mut(|scratch| self.poll_read(cx, from, to, scratch)) {
                Poll::Ready(result) => result?,
                Poll::Pending => {
                    if self.unflushed {
                        ready!(Pin::new(&mut *to).poll_flush(cx))?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_left(&mut self, cx: &mut Context<'_>, to: &mut (impl AsyncWrite + Unpin)) -> Poll<io::Result<()>> {
        while let Some(rest) = self.left.0.get(self.left.1..).filter(|rest| !rest.is_empty()) {
            let written = ready!(Pin::new(&mut *to).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.left.1 += written;
            self.unflushed = true;
        }
        self.left = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        scratch: &mut [u8],
    ) -> Poll<io::Result<()>> {
        let mut buffer = ReadBuf::new(scratch);
        ready!(Pin::new(from).poll_read(cx, &mut buffer))?;
        let read = buffer.filled();
        if read.is_empty() {
            self.state = State::Ending;
            return Poll::Ready(Ok(()));
        }
        self.bytes += read.len() as u64;
        // While closing, what follows a frame's end stays behind the close frame.
        let read = match &mut self.frames {
            Some(frames) if self.closing => frames.until_boundary(read),
            Some(frames) => {
                frames.see(read);
                read
            }
            None => read,
        };
        let written = match Pin::new(to).poll_write(cx, read) {
            Poll::Ready(Ok(written)) => written,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => 0,
        };
        self.unflushed |= written > 0;
        let rest = read.get(written..).unwrap_or_default();
        self.left = (rest.to_vec(), 0);
        Poll::Ready(Ok(()))
    }
}
