//! Upgrades: WebSockets and other protocols.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::harness::{Client, Gateway, PATIENCE, accept, listener, pass};

const REQUEST: &str = "GET /ws?x=1 HTTP/1.1\r\nHost: g\r\nX-Sandbox-ID: box\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nOrigin: http://o\r\nSec-WebSocket-Key: abc\r\nSec-WebSocket-Version: 13\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: xyz\r\n\r\n";

/// An open WebSocket: the side of the client and the side of the Sandbox.
pub(super) async fn websocket(gateway: &Gateway, sandbox: &TcpListener) -> (Client, TcpStream) {
    let mut client = gateway.client().await;
    client.write(REQUEST).await;
    let (mut stream, head) = accept(sandbox).await;
    let lower = head.to_ascii_lowercase();
    assert!(lower.starts_with("get /ws?x=1 http/1.1\r\n"), "{head}");
    assert!(lower.contains("upgrade: websocket\r\n") && lower.contains("connection: upgrade\r\n"), "{head}");
    assert!(lower.contains("sec-websocket-key: abc") && !lower.contains("origin"), "{head}");
    stream.write_all(SWITCHED.as_bytes()).await.unwrap();
    let answer = client.head().await.to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 101") && answer.contains("sec-websocket-accept: xyz"), "{answer}");
    assert!(answer.contains("upgrade: websocket") && answer.contains("connection: upgrade"), "{answer}");
    (client, stream)
}

#[tokio::test]
async fn a_websocket_carries_bytes_in_both_directions() {
    let gateway = Gateway::new().await;
    let sandbox = listener(&gateway, "box").await;
    let (mut client, mut stream) = websocket(&gateway, &sandbox).await;
    for _ in 0..50 {
        client.write(b"\x82\x85\x01\x02\x03\x04hello").await;
        let mut got = [0; 11];
        stream.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"\x82\x85\x01\x02\x03\x04hello");
        stream.write_all(b"\x82\x05world").await.unwrap();
        assert_eq!(client.exact(7).await, b"\x82\x05world");
    }
    // More than the buffers hold, in both directions at once.
    let big = vec![7; 8 << 20];
    let (mut near, mut far) = (client.0.into_split(), stream.into_split());
    let all = async {
        let (mut up, mut down) = (vec![0; big.len()], vec![0; big.len()]);
        let (a, b, c, d) = tokio::join!(
            near.1.write_all(&big),
            far.1.write_all(&big),
            far.0.read_exact(&mut up),
            near.0.read_exact(&mut down)
        );
        a.unwrap();
        b.unwrap();
        c.unwrap();
        d.unwrap();
        up == big && down == big
    };
    assert!(timeout(PATIENCE, all).await.unwrap());
}

#[tokio::test]
async fn the_end_of_one_side_reaches_the_other() {
    let gateway = Gateway::new().await;
    let sandbox = listener(&gateway, "box").await;
    let (mut client, mut stream) = websocket(&gateway, &sandbox).await;
    client.0.shutdown().await.unwrap();
    assert_eq!(timeout(PATIENCE, stream.read(&mut [0; 1])).await.unwrap().unwrap(), 0);
    // The other direction is still open.
    stream.write_all(b"\x81\x02ok").await.unwrap();
    assert_eq!(client.exact(4).await, b"\x81\x02ok");
    drop(stream);
    assert!(client.rest().await.is_empty());
    gateway.await_metric("paddock_gateway_client_connections 0").await;
    gateway
        .await_metric("sandbox_router_requests_total{code=\"101\",method=\"GET\",sandbox_namespace=\"default\"} 1")
        .await;
    gateway.await_metric("sandbox_router_inflight_requests 0").await;
}

/// The fault of other gateways: the upgrade of a sleeping application is lost.
#[tokio::test]
async fn an_upgrade_survives_a_cold_start() {
    let gateway = Gateway::new().await;
    let sandbox = listener(&gateway, "box").await;
    gateway.cluster.asleep.lock().insert("box".to_owned(), Duration::from_millis(300));
    let (mut client, mut stream) = websocket(&gateway, &sandbox).await;
    stream.write_all(b"\x81\x02ok").await.unwrap();
    assert_eq!(client.exact(4).await, b"\x81\x02ok");
}

#[tokio::test]
async fn bytes_that_come_with_the_handshake_are_not_lost() {
    let gateway = Gateway::new().await;
    let sandbox = listener(&gateway, "box").await;
    let mut client = gateway.client().await;
    client.write([REQUEST.as_bytes(), b"\x81\x82\0\0\0\0hi"].concat()).await;
    let (mut stream, _) = accept(&sandbox).await;
    stream.write_all(&[SWITCHED.as_bytes(), b"\x81\x02ok"].concat()).await.unwrap();
    assert!(client.head().await.starts_with("HTTP/1.1 101"));
    assert_eq!(client.exact(4).await, b"\x81\x02ok");
    let mut got = [0; 8];
    timeout(PATIENCE, stream.read_exact(&mut got)).await.unwrap().unwrap();
    assert_eq!(&got, b"\x81\x82\0\0\0\0hi");
}

#[tokio::test]
async fn a_sandbox_may_decline_an_upgrade() {
    let gateway = Gateway::new().await;
    let _sandbox = gateway.answering("box", "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno").await;
    let answer = gateway.send(REQUEST).await;
    assert_eq!((answer.status, answer.body.as_str(), answer.header("connection")), (426, "no", Some("close")));
}

#[tokio::test]
async fn a_quiet_websocket_outlives_the_timeouts_of_requests_and_not_the_idle_timeout() {
    let gateway = Gateway::new().await;
    let idle = gateway.proxy.config.timeouts.stream_idle;
    let sandbox = listener(&gateway, "box").await;
    let (mut client, mut stream) = websocket(&gateway, &sandbox).await;
    client.write("\u{1}").await;
    for _ in 0..2 {
        // The other timeouts are shorter by far.
        pass(idle - PATIENCE).await;
        stream.write_all(b"\x81\x02ok").await.unwrap();
        assert_eq!(client.exact(4).await, b"\x81\x02ok");
    }
    pass(idle).await;
    assert!(client.rest().await.is_empty());
}
