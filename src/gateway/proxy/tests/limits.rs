//! Shares of clients and Sandboxes, and clients that are slow, silent or too large.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpSocket;

use super::harness::{Client, Gateway, Server, accept, listener, pass};
use crate::client::Places;
use crate::limits::EVICTION_GRACE;
use crate::server::{Protocol, serve};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const ID: &str = "X-Sandbox-ID: box\r\n";

#[tokio::test]
async fn a_busy_sandbox_does_not_stop_others() {
    let gateway = Gateway::with(|config| config.limits.requests_per_sandbox = 2).await;
    let silent = listener(&gateway, "box").await;
    let _other = gateway.answering("other", OK).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut client = gateway.client().await;
        client.write(format!("GET / HTTP/1.1\r\nHost: g\r\n{ID}\r\n")).await;
        open.push((client, accept(&silent).await));
    }
    let busy = gateway.get("/", ID).await;
    assert_eq!(
        (busy.status, busy.header("retry-after"), busy.header("x-paddock-reason")),
        (503, Some("1"), Some("SandboxBusy"))
    );
    assert_eq!(gateway.get("/", "X-Sandbox-ID: other\r\n").await.status, 200);
    open.pop();
    gateway.await_metric("sandbox_router_inflight_requests 1").await;
    let mut client = gateway.client().await;
    client.write(format!("GET / HTTP/1.1\r\nHost: g\r\n{ID}\r\n")).await;
    accept(&silent).await;
}

#[tokio::test]
async fn a_client_has_a_share_of_requests_and_connections() {
    let gateway = Gateway::with(|config| config.limits.requests_per_client = 1).await;
    let silent = listener(&gateway, "box").await;
    let mut client = gateway.client().await;
    client.write(format!("GET / HTTP/1.1\r\nHost: g\r\n{ID}\r\n")).await;
    let _held = accept(&silent).await;
    assert_eq!(gateway.get("/", ID).await.header("x-paddock-reason"), Some("ClientBusy"));
    let gateway = Gateway::with(|config| config.limits.connections_per_client = 1).await;
    let silent = listener(&gateway, "box").await;
    let mut first = gateway.client().await;
    first.write(format!("GET / HTTP/1.1\r\nHost: g\r\n{ID}\r\n")).await;
    let _held = accept(&silent).await;
    let mut second = gateway.client().await;
    assert!(second.rest().await.is_empty());
    gateway.await_metric("paddock_gateway_connection_faults_total{fault=\"refused\"} 1").await;
}

#[tokio::test]
async fn a_silent_connection_makes_room_for_a_new_one() {
    let gateway = Gateway::with(|config| config.limits.connections_per_client = 2).await;
    let _sandbox = gateway.answering("box", OK).await;
    let mut silent = gateway.client().await;
    gateway.await_metric("paddock_gateway_client_connections 1").await;
    let mut used = gateway.client().await;
    used.write(format!("GET / HTTP/1.1\r\nHost: g\r\n{ID}\r\n")).await;
    assert_eq!(used.answer().await.status, 200);
    // A new connection has this time to show something.
    tokio::time::sleep(paddock_kube::limits::SILENCE_MIN).await;
    assert_eq!(gateway.get("/", ID).await.status, 200);
    assert!(silent.rest().await.is_empty());
    gateway.await_metric("paddock_gateway_connection_faults_total{fault=\"evicted\"} 1").await;
    used.write(format!("GET / HTTP/1.1\r\nHost: g\r\n{ID}\r\n")).await;
    assert_eq!(used.answer().await.status, 200, "a connection with a request stays");
}

/// The answer has left the Sandbox, and the library holds its end until the client reads.
#[tokio::test]
async fn a_connection_that_makes_room_writes_the_end_of_its_answer() {
    const LENGTH: usize = 60_000;
    let gateway = Gateway::with(|config| config.limits.connections_per_client = 1).await;
    let large = Server::start(|_| format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n{}", "x".repeat(LENGTH)));
    let large = large.await;
    gateway.sandbox("large", large.address);
    let small = gateway.answering("box", OK).await;
    // The kernel keeps about 10 kB of an answer that nobody reads, and not megabytes.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(4096).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(8).unwrap();
    let address = listener.local_addr().unwrap();
    let places = Places::new(&gateway.proxy.config.limits);
    let serving = tokio::spawn(serve(listener, Protocol::Plain, places, gateway.proxy.clone()));
    let connect = async || {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        Client(socket.connect(address).await.unwrap())
    };
    let ask = async |name: &str| {
        let mut client = connect().await;
        client.write(format!("GET / HTTP/1.1\r\nHost: g\r\nX-Sandbox-ID: {name}\r\n\r\n")).await;
        client
    };
    let evicted = async |count: usize| {
        gateway.await_metric(&format!("paddock_gateway_connection_faults_total{{fault=\"evicted\"}} {count}")).await;
        // The new connection is not served before the end of the other one.
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let answered = async |count: usize| {
        let family = "sandbox_router_response_size_bytes_count{sandbox_namespace=\"default\"}";
        gateway.await_metric(&format!("{family} {count}")).await;
    };
    let mut slow = ask("large").await;
    answered(1).await;
    let mut next = ask("box").await;
    evicted(1).await;
    assert_eq!(small.accepted.load(Ordering::Relaxed), 0, "there is one place");
    let answer = slow.rest().await;
    let (head, body) = answer.split_at(answer.len() - LENGTH.min(answer.len()));
    assert!(head.starts_with(b"HTTP/1.1 200 OK") && body.iter().all(|byte| *byte == b'x'), "{}", answer.len());
    assert_eq!(next.answer().await.status, 200);
    drop(next);
    gateway.await_metric("paddock_gateway_client_connections 0").await;
    // A client that never reads has this time.
    let stuck = ask("large").await;
    answered(3).await;
    let mut last = ask("box").await;
    evicted(2).await;
    pass(EVICTION_GRACE).await;
    assert_eq!(last.answer().await.status, 200);
    drop(stuck);
    serving.abort();
}

#[tokio::test]
async fn a_slow_or_silent_head_ends_the_connection() {
    let gateway = Gateway::with(|config| config.timeouts.request_head = Duration::from_millis(400)).await;
    let _sandbox = gateway.answering("box", OK).await;
    let mut silent = gateway.client().await;
    let mut slow = gateway.client().await;
    let mut second = gateway.client().await;
    // A second head on a connection is as slow as a first one.
    second.write(format!("GET / HTTP/1.1\r\nHost: g\r\n{ID}\r\n")).await;
    assert_eq!(second.answer().await.status, 200);
    second.write("GET / HTTP/1.1\r\n").await;
    let drip = async {
        use tokio::io::AsyncWriteExt;
        for _ in 0..200 {
            if slow.0.write_all(b"X").await.is_err() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    };
    let (ended, rest, third) = tokio::join!(drip, silent.rest(), second.rest());
    assert!(ended && rest.is_empty() && third.is_empty());
    gateway.await_metric("paddock_gateway_connection_faults_total{fault=\"slow-head\"} 3").await;
    // A slow answer is no slow head, and neither is a pause between two requests.
    let mut idle = gateway.client().await;
    for _ in 0..2 {
        idle.write(format!("GET / HTTP/1.1\r\nHost: g\r\n{ID}\r\n")).await;
        assert_eq!(idle.answer().await.status, 200);
        tokio::time::sleep(Duration::from_millis(900)).await;
    }
}

#[tokio::test]
async fn an_idle_connection_ends_after_its_time() {
    let gateway = Gateway::with(|config| config.timeouts.client_idle = Duration::from_millis(300)).await;
    let _sandbox = gateway.answering("box", OK).await;
    let mut client = gateway.client().await;
    client.write(format!("GET / HTTP/1.1\r\nHost: g\r\n{ID}\r\n")).await;
    assert_eq!(client.answer().await.status, 200);
    assert!(client.rest().await.is_empty());
}

#[tokio::test]
async fn a_connection_that_moves_no_byte_is_cut() {
    let gateway = Gateway::with(|config| config.timeouts.stream_idle = Duration::from_millis(400)).await;
    let silent = listener(&gateway, "box").await;
    let mut client = gateway.client().await;
    client.write(format!("POST / HTTP/1.1\r\nHost: g\r\n{ID}Content-Length: 10\r\n\r\n")).await;
    let _held = accept(&silent).await;
    assert!(client.rest().await.is_empty());
    gateway.await_metric("paddock_gateway_connection_faults_total{fault=\"stalled\"} 1").await;
}

#[tokio::test]
async fn header_bombs_are_refused() {
    let gateway = Gateway::new().await;
    let _sandbox = gateway.answering("box", OK).await;
    let many = "X-A: b\r\n".repeat(101);
    let large = format!("X-A: {}\r\n", "b".repeat(70 * 1024));
    let long = format!("/{}", "a".repeat(70 * 1024));
    for request in [
        format!("GET / HTTP/1.1\r\nHost: g\r\n{ID}{many}\r\n"),
        format!("GET / HTTP/1.1\r\nHost: g\r\n{ID}{large}\r\n"),
        format!("GET {long} HTTP/1.1\r\nHost: g\r\n{ID}\r\n"),
    ] {
        let mut client = gateway.client().await;
        use tokio::io::AsyncWriteExt;
        let _ = client.0.write_all(request.as_bytes()).await;
        let rest = client.rest().await;
        let text = String::from_utf8_lossy(&rest);
        assert!(
            rest.is_empty()
                || ["HTTP/1.1 431", "HTTP/1.1 400", "HTTP/1.1 414"].iter().any(|code| text.starts_with(code)),
            "{text}"
        );
    }
    assert!(gateway.cluster.dialled.lock().is_empty());
}

#[tokio::test]
async fn an_oversized_http2_frame_ends_the_connection() {
    let gateway = Gateway::new().await;
    let mut client = gateway.client().await;
    client.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    // A DATA frame of 1 MiB on stream 1.
    client.write([&[0x10, 0, 0, 0, 0, 0, 0, 0, 1][..], &[0; 1000]].concat()).await;
    client.rest().await;
}

/// A client counts its time from the end of its upload, and a slow upload that moves is no fault.
#[tokio::test]
async fn the_time_that_a_client_asks_for_begins_with_the_end_of_its_upload() {
    let gateway = Gateway::new().await;
    let _sandbox = gateway.answering("box", OK).await;
    let mut slow = gateway.client().await;
    let head = format!("POST / HTTP/1.1\r\nHost: g\r\n{ID}X-Sandbox-Timeout: 1.2\r\nContent-Length: 10\r\n\r\n");
    slow.write(&head).await;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        slow.write("x").await;
    }
    assert_eq!(slow.answer().await.status, 200);
    // An upload that does not move ends.
    let mut stuck = gateway.client().await;
    stuck.write(&head).await;
    assert_eq!(stuck.answer().await.status, 504);
    // The own limit of the gateway counts from the head of the request.
    let gateway = Gateway::with(|config| config.timeouts.proxy = Duration::from_millis(1500)).await;
    let _sandbox = gateway.answering("box", OK).await;
    let mut slow = gateway.client().await;
    slow.write(head.replace("10\r\n", "1000\r\n")).await;
    let upload = async {
        use tokio::io::AsyncWriteExt;
        while slow.0.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(3), upload).await;
    assert_eq!(slow.answer().await.status, 504);
}
