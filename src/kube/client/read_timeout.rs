//! Ends a request to the API server when nothing of its reply arrives for a while.
//!
//! The read timeout of the kube crate does the same for a connection. After every read, it sets a timer that is due at
//! once, so that each read wakes the process once more. Here, one timer is set for a reply and moved only when it ends.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::BoxError;
use axum::body::{Bytes, HttpBody};
use http::Response;
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

/// Waits for the head of a reply for at most this time. Its body ends with an error after the same time without data.
pub(super) async fn limited<B, E: Into<BoxError>>(
    reply: impl Future<Output = Result<Response<B>, E>>,
    limit: Duration,
) -> Result<Response<LimitedBody<B>>, BoxError> {
    let reply = timeout(limit, reply).await.map_err(|_elapsed| silence(limit))?;
    Ok(reply.map_err(Into::into)?.map(|body| LimitedBody { body, limit, waits_since: None, timer: None }))
}

/// The body of a reply, which ends with an error when no data arrives for a while.
pub(super) struct LimitedBody<B> {
    body: B,
    limit: Duration,
    /// The time since which the reader has waited for data. The time between two reads does not count.
    waits_since: Option<Instant>,
    /// The timer. It may end too early, because data does not move it.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B> LimitedBody<B> {
    fn poll_limit(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let end = *self.waits_since.get_or_insert_with(Instant::now) + self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(end)));
        loop {
            ready!(timer.as_mut().poll(context));
            if timer.deadline() >= end {
                return Poll::Ready(silence(self.limit));
            }
            timer.as_mut().reset(end);
        }
    }
}

impl<B> HttpBody for LimitedBody<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(frame) => {
                this.waits_since = None;
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => this.poll_limit(context).map(|silence| Some(Err(silence.into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn silence(limit: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("nothing of the reply arrived for {} s", limit.as_secs()))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::Body;
    use futures::{StreamExt, stream};
    use tokio::time::sleep;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(75);
    const ALMOST: Duration = Duration::from_millis(74_900);

    /// A reply with a part of the body after each of these times. The body ends after the last part, or stays open.
    async fn reply(parts: &[Duration], ends: bool) -> Response<LimitedBody<Body>> {
        let parts = stream::iter(parts.to_vec()).then(async |after| {
            sleep(after).await;
            Ok::<_, Infallible>(Bytes::from_static(b"part"))
        });
        let open = if ends { stream::empty().boxed() } else { stream::pending().boxed() };
        let response = Response::new(Body::from_stream(parts.chain(open)));
        limited(async { Ok::<_, Infallible>(response) }, LIMIT).await.unwrap()
    }

    /// Reads to the end of the body, with a pause before each read. Returns the number of parts, and whether the end was
    /// one of the body itself.
    async fn read(body: LimitedBody<Body>, pause: Duration) -> (usize, bool) {
        let (mut body, mut parts) = (Body::new(body).into_data_stream(), 0);
        loop {
            sleep(pause).await;
            match body.next().await {
                Some(Ok(_)) => parts += 1,
                Some(Err(_)) => return (parts, false),
                None => return (parts, true),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_that_does_not_begin_is_an_error_after_the_limit() {
        let began = Instant::now();
        let reply = limited(std::future::pending::<Result<Response<Body>, Infallible>>(), LIMIT).await;
        assert!(reply.is_err_and(|error| error.to_string().contains("75 s")));
        assert_eq!(began.elapsed(), LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_ends_after_the_limit_without_data_however_much_came_before() {
        for parts in [vec![], vec![ALMOST], vec![Duration::ZERO, ALMOST, ALMOST, Duration::from_secs(1)]] {
            let began = Instant::now();
            let end = read(reply(&parts, false).await.into_body(), Duration::ZERO).await;
            assert_eq!(end, (parts.len(), false), "{parts:?}");
            // The pauses of the reader take a millisecond each.
            let late = began.elapsed() - parts.iter().sum::<Duration>() - LIMIT;
            assert!(late < Duration::from_millis(50), "{late:?} late after {parts:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_continues_within_the_limit_is_complete() {
        let end = read(reply(&[ALMOST; 5], true).await.into_body(), Duration::ZERO).await;
        assert_eq!(end, (5, true));
    }

    /// A slow reader is no silence of the API server.
    #[tokio::test(start_paused = true)]
    async fn the_time_between_reads_does_not_count() {
        let end = read(reply(&[Duration::from_secs(1); 5], true).await.into_body(), LIMIT * 2).await;
        assert_eq!(end, (5, true));
    }
}
