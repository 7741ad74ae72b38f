//! Reuse of connections to Sandboxes, and repeated attempts.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::harness::{Gateway, PATIENCE, Server, accept, listener};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const ID: &str = "X-Sandbox-ID: box\r\n";

#[tokio::test]
async fn a_connection_serves_the_next_request_of_the_same_target() {
    let gateway = Gateway::with(|config| config.timeouts.sandbox_idle = Duration::from_secs(60)).await;
    let sandbox = gateway.answering("box", OK).await;
    for _ in 0..5 {
        assert_eq!(gateway.get("/", ID).await.status, 200);
        // The connection is free a moment after the answer.
        gateway.await_free_connection().await;
    }
    assert_eq!(sandbox.accepted.load(Ordering::Relaxed), 1);
    assert_eq!(gateway.get("/", "X-Sandbox-ID: box\r\nX-Sandbox-Port: 81\r\n").await.status, 200);
    assert_eq!(sandbox.accepted.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_connection_never_serves_another_pod() {
    let gateway = Gateway::with(|config| config.timeouts.sandbox_idle = Duration::from_secs(60)).await;
    let sandbox = gateway.answering("box", OK).await;
    gateway.get("/", ID).await;
    gateway.await_free_connection().await;
    // Another pod has taken over the address.
    gateway.pod("box", "other-pod", sandbox.address);
    gateway.get("/", ID).await;
    assert_eq!(sandbox.accepted.load(Ordering::Relaxed), 2);
}

/// The fault of other gateways: sessions are kept for a target that is gone.
#[tokio::test]
async fn a_pod_that_is_gone_gets_no_request() {
    let gateway = Gateway::with(|config| config.timeouts.sandbox_idle = Duration::from_secs(60)).await;
    let first = gateway.answering("box", OK).await;
    gateway.get("/", ID).await;
    gateway.await_free_connection().await;
    let second = Server::start(|_| OK.to_owned()).await;
    gateway.pod("box", "second", second.address);
    gateway.get("/", ID).await;
    assert_eq!((first.requests.lock().len(), second.requests.lock().len()), (1, 1));
}

#[tokio::test]
async fn a_connection_that_the_sandbox_closed_is_not_used() {
    let gateway = Gateway::with(|config| config.timeouts.sandbox_idle = Duration::from_secs(60)).await;
    let sandbox = listener(&gateway, "box").await;
    for _ in 0..3 {
        let served = async {
            let (mut stream, _) = accept(&sandbox).await;
            stream.write_all(OK.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            // The gateway closes its side when it notices the end.
            timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.unwrap().unwrap();
        };
        let request = format!("POST / HTTP/1.1\r\nHost: g\r\n{ID}Content-Length: 3\r\n\r\nabc");
        let (answer, ()) = tokio::join!(gateway.send(&request), served);
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test]
async fn a_request_of_which_a_byte_was_sent_is_not_repeated() {
    let gateway = Gateway::new().await;
    let sandbox = listener(&gateway, "box").await;
    for (sent, method) in [(1, "GET"), (2, "POST")] {
        let request = format!("{method} / HTTP/1.1\r\nHost: g\r\n{ID}Content-Length: 0\r\n\r\n");
        let (answer, ()) = tokio::join!(gateway.send(&request), async { drop(accept(&sandbox).await) });
        assert_eq!((answer.status, gateway.cluster.connections.load(Ordering::Relaxed)), (502, sent), "{method}");
    }
}

#[tokio::test]
async fn unused_connections_are_closed() {
    let gateway = Gateway::with(|config| config.timeouts.sandbox_idle = Duration::from_millis(100)).await;
    let sandbox = listener(&gateway, "box").await;
    let proxy = gateway.proxy.clone();
    let sweep = tokio::spawn(async move { proxy.ways.pool.sweep().await });
    let served = async {
        let (mut stream, _) = accept(&sandbox).await;
        stream.write_all(OK.as_bytes()).await.unwrap();
        stream
    };
    let (answer, mut stream) = tokio::join!(gateway.get("/", ID), served);
    assert_eq!(answer.status, 200);
    let mut byte = [0; 1];
    let ended = stream.read(&mut byte);
    assert_eq!(timeout(PATIENCE, ended).await.unwrap().unwrap(), 0);
    sweep.abort();
}
