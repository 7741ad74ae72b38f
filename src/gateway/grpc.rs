//! gRPC: deadlines, and refusals and failures as trailers.

mod timeout;
pub(crate) mod web;

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::stream;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use http_body::{Body as HttpBody, Frame};
use http_body_util::{BodyExt, StreamBody};
use tokio::time::{Instant, Sleep, sleep_until};

#[cfg(test)]
pub(crate) use self::timeout::parse_timeout;
pub(crate) use self::timeout::{timeout_of, timeout_value};
use crate::body::{Body, BodyError, Exceeded, TooLarge};
use crate::kind::Kind;
use crate::refusal::{Reason, Refusal};

/// The status of a call, in trailers.
pub(crate) const STATUS: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";

/// The codes of gRPC that the gateway uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

/// The code for a reason: the one of its HTTP status, except that gRPC has codes of its own for deadlines and sizes.
pub(crate) fn code(reason: Reason) -> Code {
    match (reason, reason.status()) {
        (Reason::BodyTooLarge | Reason::HeadersTooLarge, _) => Code::ResourceExhausted,
        (Reason::Timeout, _) => Code::DeadlineExceeded,
        (_, StatusCode::BAD_REQUEST) => Code::InvalidArgument,
        (_, StatusCode::UNAUTHORIZED) => Code::Unauthenticated,
        (_, StatusCode::FORBIDDEN) => Code::PermissionDenied,
        (_, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT) => {
            Code::Unavailable
        }
        (_, _) => Code::Internal,
    }
}

/// The answer to a call that was refused: HTTP 200, with the status in trailers.
pub(crate) fn refuse(refusal: &Refusal, kind: Kind) -> Response<Body> {
    let trailers = trailers(code(refusal.reason), &refusal.detail);
    let frames = stream::iter([Ok::<_, BodyError>(Frame::trailers(trailers))]);
    let body = StreamBody::new(frames).boxed_unsync();
    let (body, content_type) = match kind {
        Kind::Http | Kind::Grpc => (body, HeaderValue::from_static("application/grpc")),
        Kind::GrpcWeb(encoding) => (web::response_body(body, encoding), web::content_type(encoding, None)),
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

fn trailers(code: Code, message: &str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert(STATUS, HeaderValue::from(code as u16));
    // The encoded text has printable ASCII characters only, which are a valid value.
    if let Ok(message) = HeaderValue::from_str(&percent_encoded(message)) {
        trailers.insert(MESSAGE, message);
    }
    trailers
}

/// The text in gRPC's form: printable ASCII stays, and everything else and the percent sign are escaped.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// The body of an answer to a call. If the connection to the Sandbox ends early or the deadline passes, the call ends
/// with a status in trailers, and not with a reset stream.
pub(crate) struct Answer<B> {
    inner: B,
    deadline: Option<Pin<Box<Sleep>>>,
    /// Whether the request was too large, which ends the connection to the Sandbox.
    exceeded: Exceeded,
    ended: bool,
}

impl<B> Answer<B> {
    pub(crate) fn new(inner: B, deadline: Option<Instant>, exceeded: Exceeded) -> Self {
        Self { inner, deadline: deadline.map(|at| Box::pin(sleep_until(at))), exceeded, ended: false }
    }
}

impl<B: HttpBody<Data = Bytes, Error: Into<BodyError>> + Unpin> HttpBody for Answer<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            self.ended = true;
            let late = trailers(Code::DeadlineExceeded, "the deadline of the call has passed");
            return Poll::Ready(Some(Ok(Frame::trailers(late))));
        }
        match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            Some(Ok(frame)) => {
                self.ended = frame.is_trailers();
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(_)) => {
                self.ended = true;
                let lost = if self.exceeded.is_set() {
                    trailers(Code::ResourceExhausted, &TooLarge.to_string())
                } else {
                    trailers(Code::Unavailable, "the connection to the sandbox ended during the call")
                };
                Poll::Ready(Some(Ok(Frame::trailers(lost))))
            }
            None => {
                self.ended = true;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use strum::VariantArray;

    use super::*;
    use crate::body::Limited;

    #[test]
    fn codes_follow_the_status() {
        for reason in Reason::VARIANTS {
            let wanted = match reason.status().as_u16() {
                400 => Code::InvalidArgument,
                401 => Code::Unauthenticated,
                403 => Code::PermissionDenied,
                431 => Code::ResourceExhausted,
                502 if *reason == Reason::BodyTooLarge => Code::ResourceExhausted,
                502 | 503 => Code::Unavailable,
                504 => Code::DeadlineExceeded,
                _ => Code::Internal,
            };
            assert_eq!(code(*reason), wanted, "{reason:?}");
        }
    }

    #[tokio::test]
    async fn a_refused_call_has_its_status_in_trailers() {
        let refusal = Refusal::new(Reason::Forbidden, "100% \u{e9}\n");
        let response = refuse(&refusal, Kind::Grpc);
        assert_eq!(response.status(), 200);
        assert!(!response.headers().contains_key(STATUS));
        let body = response.into_body().collect().await.unwrap();
        let trailers = body.trailers().unwrap();
        assert_eq!(
            (&trailers[STATUS], &trailers[MESSAGE]),
            (&HeaderValue::from(7), &HeaderValue::from_static("100%25 %C3%A9%0A"))
        );
    }

    #[tokio::test]
    async fn a_call_that_breaks_off_ends_with_a_status() {
        let frames = stream::iter([Ok(Frame::data(Bytes::from_static(b"x"))), Err::<_, BodyError>("reset".into())]);
        let body = Answer::new(StreamBody::new(frames), None, Exceeded::default()).collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()[STATUS], "14");
    }

    /// The error of the answer is that of its connection, which says nothing about the request.
    #[tokio::test]
    async fn a_call_whose_request_grows_too_large_ends_with_its_own_status() {
        let exceeded = Exceeded::default();
        let request = Full::new(Bytes::from_static(b"12345"));
        Limited::new(request, 4, exceeded.clone()).collect().await.unwrap_err();
        let frames = stream::iter([Err::<Frame<Bytes>, BodyError>("reset".into())]);
        let body = Answer::new(StreamBody::new(frames), None, exceeded).collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()[STATUS], "8");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_at_its_deadline() {
        let deadline = Instant::now() + std::time::Duration::from_secs(3);
        let frames = StreamBody::new(stream::pending::<Result<Frame<Bytes>, BodyError>>());
        let body = Answer::new(frames, Some(deadline), Exceeded::default()).collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()[STATUS], "4");
        assert_eq!(Instant::now(), deadline);
    }
}
