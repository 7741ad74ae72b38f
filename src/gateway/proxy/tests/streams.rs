//! Bodies of any length in both directions, and what a slow side costs.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::harness::{Gateway, PATIENCE, accept, listener};

const ID: &str = "X-Sandbox-ID: box\r\n";

/// The most bytes that fit into the buffers of two loopback connections and the gateway.
const BOUND: usize = 24 << 20;

#[tokio::test]
async fn events_arrive_one_by_one_while_the_answer_goes_on() {
    let gateway = Gateway::new().await;
    let sandbox = listener(&gateway, "box").await;
    let mut client = gateway.client().await;
    client.write(format!("GET /events HTTP/1.1\r\nHost: g\r\n{ID}\r\n")).await;
    let (mut stream, _) = accept(&sandbox).await;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = client.head().await;
    assert!(answer.contains("text/event-stream"), "{answer}");
    for event in 0..20 {
        stream
            .write_all(
                format!("8\r\ndata: {event}\n\r\n")
                    .replace("8\r\n", &format!("{:x}\r\n", format!("data: {event}\n").len()))
                    .as_bytes(),
            )
            .await
            .unwrap();
        let wanted = format!("{:X}\r\ndata: {event}\n\r\n", format!("data: {event}\n").len());
        assert_eq!(String::from_utf8(client.exact(wanted.len()).await).unwrap(), wanted);
    }
}

#[tokio::test]
async fn an_answer_comes_before_the_request_has_ended() {
    let gateway = Gateway::new().await;
    let sandbox = listener(&gateway, "box").await;
    let mut client = gateway.client().await;
    client.write(format!("POST /echo HTTP/1.1\r\nHost: g\r\n{ID}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")).await;
    let (mut stream, head) = accept(&sandbox).await;
    assert!(
        head.to_ascii_lowercase().contains("transfer-encoding: chunked")
            && !head.to_ascii_lowercase().contains("content-length")
    );
    let mut chunk = [0; 8];
    stream.read_exact(&mut chunk).await.unwrap();
    assert_eq!(&chunk, b"3\r\nabc\r\n");
    stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await.unwrap();
    assert!(client.head().await.starts_with("HTTP/1.1 200"));
    assert_eq!(client.exact(8).await, b"3\r\nabc\r\n");
    client.write("2\r\nde\r\n").await;
    let mut chunk = [0; 7];
    stream.read_exact(&mut chunk).await.unwrap();
    assert_eq!(&chunk, b"2\r\nde\r\n");
}

#[tokio::test]
async fn a_body_without_end_needs_a_bounded_buffer() {
    let gateway = Gateway::new().await;
    let sandbox = listener(&gateway, "box").await;
    // Downwards: the client reads nothing.
    let mut client = gateway.client().await;
    client.write(format!("GET / HTTP/1.1\r\nHost: g\r\n{ID}\r\n")).await;
    let (mut stream, _) = accept(&sandbox).await;
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    let sent = fill(&mut stream).await;
    assert!(sent < BOUND, "{sent}");
    // Upwards: the Sandbox reads nothing.
    let mut uploader = gateway.client().await;
    uploader.write(format!("POST / HTTP/1.1\r\nHost: g\r\n{ID}Content-Length: 99999999999\r\n\r\n")).await;
    let (_unread, _) = accept(&sandbox).await;
    let sent = fill(&mut uploader.0).await;
    assert!(sent < BOUND, "{sent}");
    // When the client reads again, the stream goes on.
    let mut read = 0;
    let mut buffer = vec![0; 1 << 16];
    while read < BOUND / 8 {
        read += timeout(PATIENCE, client.0.read(&mut buffer)).await.unwrap().unwrap();
        let _ = stream.try_write(&buffer);
    }
}

/// Writes until nothing was taken for a while, and returns the number of bytes.
async fn fill(stream: &mut tokio::net::TcpStream) -> usize {
    let piece = vec![b'x'; 1 << 16];
    let mut sent = 0;
    while let Ok(written) = timeout(Duration::from_millis(500), stream.write(&piece)).await {
        sent += written.unwrap();
        if sent > BOUND {
            break;
        }
    }
    sent
}

#[tokio::test]
async fn a_large_body_arrives_whole() {
    let gateway = Gateway::new().await;
    let sandbox = listener(&gateway, "box").await;
    const SIZE: usize = 20 << 20;
    let mut client = gateway.client().await;
    client.write(format!("PUT /f HTTP/1.1\r\nHost: g\r\n{ID}Content-Length: {SIZE}\r\n\r\n")).await;
    let (mut stream, _) = accept(&sandbox).await;
    let body: Vec<u8> = (0..SIZE).map(|at| (at % 251) as u8).collect();
    let upload = async { client.0.write_all(&body).await.unwrap() };
    let receive = async {
        let mut got = vec![0; SIZE];
        stream.read_exact(&mut got).await.unwrap();
        got
    };
    let ((), got) = timeout(PATIENCE, async { tokio::join!(upload, receive) }).await.unwrap();
    assert!(got == body);
    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    assert_eq!(client.answer().await.status, 204);
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_request_at_the_sandbox() {
    let gateway = Gateway::new().await;
    let sandbox = listener(&gateway, "box").await;
    let mut client = gateway.client().await;
    client.write(format!("GET /slow HTTP/1.1\r\nHost: g\r\n{ID}\r\n")).await;
    let (mut stream, _) = accept(&sandbox).await;
    drop(client);
    let ended = timeout(PATIENCE, stream.read(&mut [0; 1])).await.expect("the sandbox was not told");
    assert!(matches!(ended, Ok(0) | Err(_)));
    gateway.await_metric("sandbox_router_inflight_requests 0").await;
    gateway
        .await_metric("sandbox_router_requests_total{code=\"499\",method=\"GET\",sandbox_namespace=\"default\"} 1")
        .await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_completed() {
    let gateway = Gateway::new().await;
    let sandbox = listener(&gateway, "box").await;
    let mut client = gateway.client().await;
    client.write(format!("GET / HTTP/1.1\r\nHost: g\r\n{ID}\r\n")).await;
    let (mut stream, _) = accept(&sandbox).await;
    stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await.unwrap();
    assert!(client.head().await.starts_with("HTTP/1.1 200"));
    drop(stream);
    let rest = client.rest().await;
    assert!(!rest.ends_with(b"0\r\n\r\n"), "{rest:?}");
    gateway.await_metric("sandbox_router_upstream_errors_total{reason=\"eof\",sandbox_namespace=\"default\"} 1").await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_cut_off() {
    let gateway = Gateway::with(|config| config.limits.body_bytes = Some(10)).await;
    let sandbox = listener(&gateway, "box").await;
    let known = gateway.send(&format!("POST / HTTP/1.1\r\nHost: g\r\n{ID}Content-Length: 11\r\n\r\n")).await;
    assert_eq!((known.status, known.header("x-paddock-reason")), (502, Some("BodyTooLarge")));
    let chunks = format!(
        "POST / HTTP/1.1\r\nHost: g\r\n{ID}Transfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n8\r\n12345678\r\n0\r\n\r\n"
    );
    let (unknown, _connection) = tokio::join!(gateway.send(&chunks), accept(&sandbox));
    assert_eq!((unknown.status, unknown.header("x-paddock-reason")), (502, Some("BodyTooLarge")));
    let fits = format!("POST / HTTP/1.1\r\nHost: g\r\n{ID}Content-Length: 10\r\n\r\n1234567890");
    let served = async {
        let (mut stream, _) = accept(&sandbox).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    };
    let (fits, ()) = tokio::join!(gateway.send(&fits), served);
    assert_eq!(fits.status, 200);
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_sends_its_body_to_the_sandbox_only() {
    let gateway = Gateway::new().await;
    let sandbox = listener(&gateway, "box").await;
    let mut client = gateway.client().await;
    client.write(format!("POST / HTTP/1.1\r\nHost: g\r\n{ID}Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")).await;
    let (mut stream, head) = accept(&sandbox).await;
    assert!(!head.to_ascii_lowercase().contains("expect"));
    assert!(client.head().await.starts_with("HTTP/1.1 100"));
    client.write("abc").await;
    let mut body = [0; 3];
    stream.read_exact(&mut body).await.unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    assert_eq!(client.answer().await.status, 200);
}
