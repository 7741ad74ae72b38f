//! gRPC-Web: a call of a browser, in which trailers are the last frame of the body.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http::header::HeaderValue;
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;

use crate::body::{Body, BodyError};
use crate::kind::WebEncoding;

/// The flag of the frame that contains trailers.
const TRAILERS_FLAG: u8 = 0x80;

/// The content type of an answer, for the content type that the Sandbox sent.
pub(crate) fn content_type(encoding: WebEncoding, sandbox: Option<&HeaderValue>) -> HeaderValue {
    let codec = sandbox.and_then(|value| value.to_str().ok()).and_then(|text| text.strip_prefix("application/grpc"));
    let base = match encoding {
        WebEncoding::Binary => "application/grpc-web",
        WebEncoding::Text => "application/grpc-web-text",
    };
    let text = format!("{base}{}", codec.filter(|codec| codec.starts_with('+')).unwrap_or("+proto"));
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("application/grpc-web+proto"))
}

/// The content type of the call to the Sandbox, for that of the browser.
pub(crate) fn sandbox_content_type(browser: Option<&HeaderValue>) -> HeaderValue {
    let text = browser.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let codec = text.split(';').next().unwrap_or_default().split_once('+').map_or("proto", |(_, codec)| codec.trim());
    HeaderValue::from_str(&format!("application/grpc+{codec}"))
        .unwrap_or_else(|_| HeaderValue::from_static("application/grpc"))
}

/// The body of a call as the Sandbox gets it.
pub(crate) fn request_body(body: Body, encoding: WebEncoding) -> Body {
    match encoding {
        WebEncoding::Binary => body,
        WebEncoding::Text => Decoded { inner: body, rest: BytesMut::new(), ended: false }.boxed_unsync(),
    }
}

/// The body of an answer as the browser gets it.
pub(crate) fn response_body(body: Body, encoding: WebEncoding) -> Body {
    Encoded { inner: body, encoding }.boxed_unsync()
}

/// Decodes base64, of which each group of four characters may be padded.
struct Decoded {
    inner: Body,
    rest: BytesMut,
    ended: bool,
}

impl HttpBody for Decoded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    self.rest.extend(data.iter().filter(|b| !b.is_ascii_whitespace()));
                    let whole = self.rest.len() / 4 * 4;
                    if whole > 0 {
                        let groups = self.rest.split_to(whole);
                        return Poll::Ready(Some(decode(&groups).map(Frame::data)));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    self.ended = true;
                    if !self.rest.is_empty() {
                        return Poll::Ready(Some(Err("the base64 body of the call is cut off".into())));
                    }
                }
            }
        }
    }
}

/// Decodes whole groups. Browsers may join several padded texts.
fn decode(groups: &[u8]) -> Result<Bytes, BodyError> {
    let mut decoded = BytesMut::with_capacity(groups.len() / 4 * 3);
    let mut start = 0;
    for (index, group) in groups.chunks(4).enumerate() {
        let end = (index + 1) * 4;
        if group.ends_with(b"=") || end == groups.len() {
            let part = groups.get(start..end).unwrap_or_default();
            decoded.put_slice(&STANDARD.decode(part)?);
            start = end;
        }
    }
    Ok(decoded.freeze())
}

/// Turns the trailers into a frame of the body, and encodes the body if the browser wants text. Each piece is padded on
/// its own, so that a message of a stream does not wait for the next one.
struct Encoded {
    inner: Body,
    encoding: WebEncoding,
}

impl HttpBody for Encoded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(frame) = ready!(Pin::new(&mut self.inner).poll_frame(cx)?) else { return Poll::Ready(None) };
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => trailers_frame(&frame.into_trailers().unwrap_or_default()),
        };
        let data = match self.encoding {
            WebEncoding::Binary => data,
            WebEncoding::Text => STANDARD.encode(data).into(),
        };
        Poll::Ready(Some(Ok(Frame::data(data))))
    }
}

/// The frame of trailers: a flag, a length of four bytes, and one line for each trailer.
fn trailers_frame(trailers: &HeaderMap) -> Bytes {
    let mut lines = BytesMut::new();
    for (name, value) in trailers {
        lines.put_slice(name.as_str().as_bytes());
        lines.put_slice(b": ");
        lines.put_slice(value.as_bytes());
        lines.put_slice(b"\r\n");
    }
    let mut frame = BytesMut::with_capacity(lines.len() + 5);
    frame.put_u8(TRAILERS_FLAG);
    frame.put_u32(u32::try_from(lines.len()).unwrap_or(u32::MAX));
    frame.put_slice(&lines);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use http_body_util::StreamBody;

    use super::*;

    fn body(frames: Vec<Frame<Bytes>>) -> Body {
        StreamBody::new(stream::iter(frames.into_iter().map(Ok::<_, BodyError>))).boxed_unsync()
    }

    fn answer() -> Body {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        let data = |bytes: &'static [u8]| Frame::data(Bytes::from_static(bytes));
        body(vec![data(b"\0\0\0\0\x05he"), data(b"llo"), Frame::trailers(trailers)])
    }

    const WANTED: &[u8] = b"\0\0\0\0\x05hello\x80\0\0\0\x10grpc-status: 0\r\n";

    #[tokio::test]
    async fn trailers_are_the_last_frame_of_the_body() {
        let binary = response_body(answer(), WebEncoding::Binary).collect().await.unwrap();
        assert_eq!(binary.to_bytes(), WANTED);
        // A browser decodes the pieces as this gateway decodes those of a browser.
        let text = response_body(answer(), WebEncoding::Text);
        let decoded = request_body(text, WebEncoding::Text).collect().await.unwrap();
        assert_eq!(decoded.to_bytes(), WANTED);
    }

    #[tokio::test]
    async fn text_is_decoded_in_pieces_of_any_size() {
        let text = format!("{}{}", STANDARD.encode("\0\0\0\0\x01a"), STANDARD.encode("bcd!"));
        for size in 1..text.len() {
            let pieces = text.as_bytes().chunks(size).map(|piece| Frame::data(Bytes::copy_from_slice(piece)));
            let decoded = request_body(body(pieces.collect()), WebEncoding::Text).collect().await.unwrap();
            assert_eq!(decoded.to_bytes(), &b"\0\0\0\0\x01abcd!"[..], "{size}");
        }
        let cut = body(vec![Frame::data(Bytes::from_static(b"AAA"))]);
        assert!(request_body(cut, WebEncoding::Text).collect().await.is_err());
    }

    #[test]
    fn content_types_keep_the_codec() {
        let value = HeaderValue::from_static;
        assert_eq!(sandbox_content_type(Some(&value("application/grpc-web+json"))), "application/grpc+json");
        assert_eq!(sandbox_content_type(Some(&value("application/grpc-web-text"))), "application/grpc+proto");
        let sent = value("application/grpc+json");
        assert_eq!(content_type(WebEncoding::Text, Some(&sent)), "application/grpc-web-text+json");
        assert_eq!(content_type(WebEncoding::Binary, None), "application/grpc-web+proto");
    }
}
