//! A shutdown loses no request, and tells streams to go.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::harness::{Gateway, PATIENCE, accept, listener, pass};
use super::upgrade::websocket;
use crate::drain::{Drained, Stage};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const ID: &str = "X-Sandbox-ID: box\r\n";

#[tokio::test]
async fn an_idle_gateway_ends_at_once() {
    let gateway = Gateway::new().await;
    let _sandbox = gateway.answering("box", OK).await;
    let mut idle = gateway.client().await;
    idle.write(format!("GET / HTTP/1.1\r\nHost: g\r\n{ID}\r\n")).await;
    assert_eq!(idle.answer().await.status, 200);
    let drained = timeout(Duration::from_secs(10), gateway.drain()).await.expect("the drain did not end");
    assert_eq!(drained, Drained { cut: 0 });
    assert!(idle.rest().await.is_empty());
    assert!(TcpStream::connect(gateway.address).await.is_err());
}

#[tokio::test]
async fn a_request_in_flight_is_answered() {
    let gateway = Gateway::new().await;
    let sandbox = listener(&gateway, "box").await;
    let mut client = gateway.client().await;
    client.write(format!("GET / HTTP/1.1\r\nHost: g\r\n{ID}\r\n")).await;
    let (mut stream, _) = accept(&sandbox).await;
    let answered = async {
        gateway.proxy.drain.reached(Stage::Draining).await;
        stream.write_all(OK.as_bytes()).await.unwrap();
        client.answer().await
    };
    let (drained, answer) = timeout(PATIENCE, async { tokio::join!(gateway.drain(), answered) }).await.unwrap();
    assert_eq!((drained.cut, answer.status, answer.header("connection")), (0, 200, Some("close")));
}

#[tokio::test]
async fn clients_are_asked_to_leave_before_the_listener_closes() {
    const DELAY: Duration = Duration::from_secs(3600);
    let gateway = Gateway::with(|config| config.timeouts.drain_delay = DELAY).await;
    let _sandbox = gateway.answering("box", OK).await;
    let served = async {
        gateway.proxy.drain.reached(Stage::Announced).await;
        let answer = gateway.get("/", ID).await;
        assert_eq!(gateway.proxy.drain.stage(), Stage::Announced);
        pass(DELAY).await;
        answer
    };
    let (drained, answer) = tokio::join!(gateway.drain(), served);
    assert_eq!((drained.cut, answer.status, answer.header("connection")), (0, 200, Some("close")));
}

#[tokio::test]
async fn a_websocket_is_closed_with_1001_at_the_end() {
    let gateway = Gateway::with(|config| config.timeouts.drain = Duration::from_millis(300)).await;
    let sandbox = listener(&gateway, "box").await;
    let (mut client, mut stream) = websocket(&gateway, &sandbox).await;
    // A frame is under way to the client when the time ends.
    stream.write_all(b"\x82\x05wor").await.unwrap();
    client.write(b"\x82\x85\x01\x02\x03\x04hello").await;
    assert_eq!(client.exact(5).await, b"\x82\x05wor");
    let rest = async {
        gateway.proxy.drain.reached(Stage::Closing).await;
        stream.write_all(b"ld").await.unwrap();
        let down = client.rest().await;
        let mut up = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut up)).await.unwrap();
        (down, up)
    };
    let (drained, (down, up)) = timeout(PATIENCE, async { tokio::join!(gateway.drain(), rest) }).await.unwrap();
    assert_eq!(drained.cut, 1);
    assert_eq!(&down[..2], b"ld");
    assert_eq!((down[2], &down[4..6]), (0x88, &1001_u16.to_be_bytes()[..]), "{down:?}");
    assert_eq!(&up[..11], b"\x82\x85\x01\x02\x03\x04hello");
    assert_eq!((up[11], up[12] & 0x80), (0x88, 0x80), "{up:?}");
}

#[tokio::test]
async fn http2_clients_get_goaway_and_finish_their_streams() {
    let gateway = Gateway::new().await;
    let sandbox = listener(&gateway, "box").await;
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::get("http://g/").header("x-sandbox-id", "box").body(Empty::<Bytes>::new()).unwrap();
    let pending = tokio::spawn(client.send_request(request));
    let (mut stream, _) = accept(&sandbox).await;
    let finish = async {
        gateway.proxy.drain.reached(Stage::Draining).await;
        stream.write_all(OK.as_bytes()).await.unwrap();
        pending.await.unwrap().unwrap().into_body().collect().await.unwrap().to_bytes()
    };
    let (drained, body) = timeout(PATIENCE, async { tokio::join!(gateway.drain(), finish) }).await.unwrap();
    assert_eq!((drained.cut, body), (0, Bytes::from_static(b"ok")));
    // The client has no reason of its own to end the connection.
    timeout(PATIENCE, connection).await.expect("the connection did not end").unwrap().unwrap();
}

/// Reads frames of HTTP/2 until the other side closes, answers each PING, and returns the last streams of all GOAWAYs.
async fn goaways(stream: &mut TcpStream) -> Vec<u32> {
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;
    let mut last = Vec::new();
    let mut head = [0; 9];
    while stream.read_exact(&mut head).await.is_ok() {
        let [a, b, c, kind, flags, ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload).await.unwrap();
        match kind {
            PING if flags == 0 => {
                stream.write_all(&[&[0, 0, 8, PING, 1, 0, 0, 0, 0][..], &payload].concat()).await.unwrap();
            }
            GOAWAY => last.push(u32::from_be_bytes(*payload.first_chunk().unwrap())),
            _ => {}
        }
    }
    last
}

#[tokio::test]
async fn a_request_that_crosses_with_goaway_does_not_reset_the_connection() {
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    const PRIORITY: &[u8] = &[0, 0, 5, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0];
    let gateway = Gateway::new().await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    client.write_all(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", SETTINGS].concat()).await.unwrap();
    // The connection is served when its first frame comes.
    assert_eq!(client.peek(&mut [0]).await.unwrap(), 1);
    let crossing = async {
        let last = goaways(&mut client).await;
        // The gateway has closed its side. A reset would come for the first bytes, and the next ones would fail.
        for _ in 0..3 {
            client.write_all(PRIORITY).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        drop(client);
        last
    };
    let (drained, last) = timeout(PATIENCE, async { tokio::join!(gateway.drain(), crossing) }).await.unwrap();
    assert_eq!((drained.cut, last.last()), (0, Some(&0)), "{last:?}");
}

#[tokio::test]
async fn a_client_that_stays_after_goaway_delays_the_end_by_seconds_only() {
    let gateway = Gateway::new().await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    assert_eq!(client.peek(&mut [0]).await.unwrap(), 1);
    let (drained, _) = timeout(PATIENCE, async { tokio::join!(gateway.drain(), goaways(&mut client)) }).await.unwrap();
    assert_eq!(drained, Drained { cut: 0 });
}

#[tokio::test]
async fn a_stream_that_outlasts_the_drain_is_cut_and_counted() {
    let gateway = Gateway::with(|config| {
        config.timeouts.drain = Duration::from_millis(200);
        config.timeouts.close = Duration::from_millis(200);
    })
    .await;
    let sandbox = listener(&gateway, "box").await;
    let mut client = gateway.client().await;
    client.write(format!("GET / HTTP/1.1\r\nHost: g\r\n{ID}\r\n")).await;
    let (mut stream, _) = accept(&sandbox).await;
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\ndata").await.unwrap();
    assert!(client.head().await.starts_with("HTTP/1.1 200"));
    let (drained, _) = timeout(PATIENCE, async { tokio::join!(gateway.drain(), client.rest()) }).await.unwrap();
    assert_eq!(drained.cut, 1);
}
