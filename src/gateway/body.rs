//! The bodies of requests and answers, streamed in both directions without a buffer of their own.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};

use crate::progress::Progress;

/// The error of a body that ended early.
pub(crate) type BodyError = Box<dyn Error + Send + Sync>;

/// A body of any kind.
pub(crate) type Body = UnsyncBoxBody<Bytes, BodyError>;

/// A body without content.
pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body of one piece.
pub(crate) fn full(content: impl Into<Bytes>) -> Body {
    Full::new(content.into()).map_err(|never| match never {}).boxed_unsync()
}

/// The body of a request exceeded its limit.
#[derive(Debug, thiserror::Error)]
#[error("the body of the request is larger than the limit")]
pub(crate) struct TooLarge;

/// Whether a body has exceeded its limit. Clones are handles on the same fact.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exceeded(Arc<AtomicBool>);

impl Exceeded {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A body that fails when it has delivered more bytes than a limit.
pub(crate) struct Limited<B> {
    inner: B,
    left: u64,
    exceeded: Exceeded,
}

impl<B> Limited<B> {
    pub(crate) fn new(inner: B, limit: u64, exceeded: Exceeded) -> Self {
        Self { inner, left: limit, exceeded }
    }
}

impl<B: HttpBody<Data = Bytes, Error: Into<BodyError>> + Unpin> HttpBody for Limited<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            None => return Poll::Ready(None),
        };
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        if length > self.left {
            self.exceeded.0.store(true, Ordering::Relaxed);
            return Poll::Ready(Some(Err(Box::new(TooLarge))));
        }
        self.left -= length;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A body that says when its last byte was taken, and how many were.
pub(crate) struct Moving<B> {
    inner: B,
    progress: Progress,
}

impl<B> Moving<B> {
    pub(crate) fn new(inner: B, progress: Progress) -> Self {
        Self { inner, progress }
    }
}

impl<B: HttpBody + Unpin> HttpBody for Moving<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        self.progress.moved();
        let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref);
        self.progress.took(data.map_or(0, Buf::remaining));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A body that keeps a value until its last byte was taken, or it is dropped.
pub(crate) struct Guarded<B, G> {
    inner: B,
    guard: Option<G>,
}

/// The value that a [`Guarded`] body keeps.
pub(crate) trait BodyGuard {
    /// Some bytes went through.
    fn passed(&mut self, bytes: u64);
    /// The trailers of the body.
    fn trailers(&mut self, trailers: &http::HeaderMap);
    /// The body ended before its end.
    fn failed(&mut self, error: &BodyError);
}

impl<B, G> Guarded<B, G> {
    pub(crate) fn new(inner: B, guard: G) -> Self {
        Self { inner, guard: Some(guard) }
    }
}

impl<B, G> HttpBody for Guarded<B, G>
where
    B: HttpBody<Data = Bytes, Error: Into<BodyError>> + Unpin,
    G: BodyGuard + Unpin,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
            Some(Ok(frame)) => {
                if let Some(guard) = &mut this.guard {
                    if let Some(data) = frame.data_ref() {
                        guard.passed(data.len() as u64);
                    }
                    if let Some(trailers) = frame.trailers_ref() {
                        guard.trailers(trailers);
                    }
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                let error = error.into();
                if let Some(mut guard) = this.guard.take() {
                    guard.failed(&error);
                }
                Poll::Ready(Some(Err(error)))
            }
            None => {
                this.guard = None;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
