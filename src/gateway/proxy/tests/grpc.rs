//! HTTP/2 and gRPC, with and without prior knowledge of the port.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, Request, Response, Version};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::harness::{Gateway, PATIENCE, accept, listener};

type Body = UnsyncBoxBody<Bytes, Infallible>;
type Heads = Arc<Mutex<Vec<(Version, HeaderMap, String)>>>;

fn body(frames: Vec<Frame<Bytes>>) -> Body {
    StreamBody::new(stream::iter(frames.into_iter().map(Ok))).boxed_unsync()
}

async fn client(gateway: &Gateway) -> http2::SendRequest<Body> {
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// A gRPC server over h2c that echoes each request with trailers.
async fn echo(gateway: &Gateway, name: &str) -> Heads {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    gateway.sandbox(name, listener.local_addr().unwrap());
    let heads: Heads = Arc::default();
    let seen = heads.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let seen = seen.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let seen = seen.clone();
                async move {
                    let (parts, body) = request.into_parts();
                    seen.lock().push((parts.version, parts.headers, parts.uri.path().to_owned()));
                    let data = body.map_frame(|frame| Frame::data(frame.into_data().unwrap_or_default()));
                    let data = data.map_err(|error| -> Infallible { panic!("{error}") });
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", 0.into());
                    trailers.insert("x-end", "yes".parse().unwrap());
                    let body = data.with_trailers(std::future::ready(Some(Ok(trailers))));
                    let mut response = Response::new(body.boxed_unsync());
                    response.headers_mut().insert("content-type", "application/grpc+proto".parse().unwrap());
                    Ok::<_, Infallible>(response)
                }
            });
            tokio::spawn(async move {
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    heads
}

fn call(frames: Vec<Frame<Bytes>>, headers: &[(&'static str, &str)]) -> Request<Body> {
    let mut request = Request::new(body(frames));
    *request.method_mut() = http::Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = "http://gateway/process.v1.ProcessService/Start".parse().unwrap();
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    request
}

const BOX: [(&str, &str); 2] = [("x-sandbox-id", "box"), ("x-sandbox-port", "9090")];

#[tokio::test]
async fn a_call_streams_both_ways_and_ends_with_trailers() {
    let gateway = Gateway::new().await;
    let heads = echo(&gateway, "box").await;
    let mut client = client(&gateway).await;
    for _ in 0..3 {
        let data = vec![Frame::data(Bytes::from_static(b"\0\0\0\0\x02")), Frame::data(Bytes::from_static(b"hi"))];
        let response = client.send_request(call(data, &[&BOX[..], &[("grpc-timeout", "10S")]].concat())).await.unwrap();
        assert_eq!(response.status(), 200);
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(body.trailers().unwrap()["x-end"], "yes");
        assert_eq!(body.to_bytes(), &b"\0\0\0\0\x02hi"[..]);
    }
    let heads = heads.lock();
    for (version, headers, path) in heads.iter() {
        assert_eq!((*version, path.as_str()), (Version::HTTP_2, "/process.v1.ProcessService/Start"));
        assert_eq!(
            (&headers["te"], &headers["content-type"]),
            (&"trailers".parse().unwrap(), &"application/grpc".parse().unwrap())
        );
        let left = crate::grpc::parse_timeout(headers.get("grpc-timeout")).unwrap();
        assert!(left <= Duration::from_secs(10) && left > Duration::from_secs(5), "{left:?}");
    }
    // All calls shared one connection.
    assert_eq!(gateway.cluster.connections.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[tokio::test]
async fn refusals_of_calls_are_trailers() {
    let gateway = Gateway::authorized().await;
    let mut client = client(&gateway).await;
    for (headers, status, message) in [
        (vec![], "3", "X-Sandbox-ID header is required."),
        (vec![("x-sandbox-id", "Box")], "3", "Invalid sandbox ID format."),
        (vec![("x-sandbox-id", "box")], "16", "unauthenticated"),
        (
            vec![("x-sandbox-id", "box"), ("authorization", "Bearer token-of-box"), ("grpc-timeout", "soon")],
            "3",
            "invalid grpc-timeout",
        ),
        (vec![("x-sandbox-id", "box"), ("authorization", "Bearer token-of-other")], "7", "forbidden"),
        (
            vec![("x-sandbox-id", "box"), ("authorization", "Bearer token-of-box")],
            "14",
            "Could not connect to the backend sandbox: box",
        ),
    ] {
        let response = client.send_request(call(vec![], &headers)).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (200, &"application/grpc".parse().unwrap())
        );
        let body = response.into_body().collect().await.unwrap();
        let trailers = body.trailers().unwrap();
        assert_eq!(
            (&trailers["grpc-status"], &trailers["grpc-message"]),
            (&status.parse().unwrap(), &message.parse().unwrap()),
            "{headers:?}"
        );
    }
    // A call that names no port is for the default port, as a request is.
    let dialled: Vec<String> = gateway.cluster.dialled.lock().iter().map(ToString::to_string).collect();
    assert_eq!(dialled, ["default/box:8888"]);
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_and_has_no_other_limit() {
    let gateway = Gateway::with(|config| config.timeouts.response_head = Duration::from_millis(50)).await;
    let sandbox = listener(&gateway, "box").await;
    let silent = tokio::spawn(async move { accept(&sandbox).await });
    let mut client = client(&gateway).await;
    let begin = std::time::Instant::now();
    let response = client.send_request(call(vec![], &[&BOX[..], &[("grpc-timeout", "400m")]].concat())).await.unwrap();
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "4");
    assert!(begin.elapsed() >= Duration::from_millis(350), "{:?}", begin.elapsed());
    silent.abort();
}

#[tokio::test]
async fn a_request_over_http2_reaches_an_http1_sandbox() {
    let gateway = Gateway::new().await;
    let sandbox = gateway
        .answering(
            "box",
            "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        )
        .await;
    let mut client = client(&gateway).await;
    let mut request = call(vec![Frame::data(Bytes::from_static(b"abc"))], &BOX);
    request.headers_mut().insert("content-type", "text/plain".parse().unwrap());
    request.headers_mut().append("cookie", "a=1".parse().unwrap());
    request.headers_mut().append("cookie", "b=2".parse().unwrap());
    let response = client.send_request(request).await.unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (200, Version::HTTP_2));
    assert!(!response.headers().contains_key("connection"));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
    let request = sandbox.request().to_ascii_lowercase();
    assert!(
        request.starts_with("post /process.v1.processservice/start http/1.1\r\n") && request.ends_with("abc"),
        "{request}"
    );
    assert!(request.contains("cookie: a=1; b=2\r\n") && request.contains("x-forwarded-host: gateway\r\n"), "{request}");
}

#[tokio::test]
async fn one_stalled_stream_does_not_stop_the_others() {
    let gateway = Gateway::new().await;
    let stalled = listener(&gateway, "stalled").await;
    let _sandbox = gateway.answering("box", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let mut client = client(&gateway).await;
    let endless = stream::repeat_with(|| Ok(Frame::data(Bytes::from(vec![0; 16384]))));
    let mut request = call(vec![], &[("x-sandbox-id", "stalled")]).map(|_| StreamBody::new(endless).boxed_unsync());
    request.headers_mut().insert("content-type", "text/plain".parse().unwrap());
    let pending = client.send_request(request);
    let held = accept(&stalled);
    tokio::pin!(pending);
    let (_stream, _) = tokio::select! {
        biased;
        held = held => held,
        _ = &mut pending => panic!("no answer was sent"),
    };
    for _ in 0..20 {
        let mut request = call(vec![Frame::data(Bytes::from(vec![0; 1000]))], &[("x-sandbox-id", "box")]);
        request.headers_mut().insert("content-type", "text/plain".parse().unwrap());
        let answer = timeout(PATIENCE, client.send_request(request)).await.expect("the connection is blocked").unwrap();
        assert_eq!(answer.status(), 200);
    }
}

#[tokio::test]
async fn a_browser_calls_over_grpc_web() {
    let gateway = Gateway::new().await;
    echo(&gateway, "box").await;
    let request = "POST /sb/team/box/9090/process.v1.ProcessService/Start HTTP/1.1\r\nHost: g\r\nContent-Type: application/grpc-web-text\r\nContent-Length: 12\r\n\r\nAAAAAAJoaQ==";
    let answer = gateway.send(request).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/grpc-web-text+proto")));
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::STANDARD;
    let mut decoded = Vec::new();
    for part in answer.body.split_inclusive('=').collect::<String>().split("==").filter(|part| !part.is_empty()) {
        let padded =
            format!("{}{}", part.trim_end_matches('='), "=".repeat((4 - part.trim_end_matches('=').len() % 4) % 4));
        decoded.extend(engine.decode(padded).unwrap());
    }
    let text = String::from_utf8_lossy(&decoded);
    assert!(text.contains("hi") && text.contains("grpc-status: 0"), "{text}");
    let refused = gateway.send(&request.replace("box", "Box")).await;
    assert_eq!(refused.status, 200);
    assert_eq!(refused.header("x-paddock-reason"), Some("InvalidSandboxId"));
}

#[tokio::test]
async fn http2_hosts_and_header_counts_are_judged_as_well() {
    let gateway = Gateway::new().await;
    let mut client = client(&gateway).await;
    let plain = |headers: &[(&'static str, &str)]| {
        let mut request = call(vec![], headers);
        request.headers_mut().insert("content-type", "text/plain".parse().unwrap());
        request
    };
    let other_host = client.send_request(plain(&[BOX[0], ("host", "other")])).await;
    assert!(other_host.is_err() || other_host.unwrap().status() == 400);
    let mut many = plain(&BOX);
    for at in 0..200 {
        many.headers_mut().append("x-many", at.to_string().parse().unwrap());
    }
    assert_eq!(client.send_request(many).await.unwrap().status(), 431);
    let mut large = plain(&BOX);
    large.headers_mut().insert("x-large", "x".repeat(100 * 1024).parse().unwrap());
    let large = client.send_request(large).await;
    assert!(large.is_err() || large.unwrap().status() == 431);
}
