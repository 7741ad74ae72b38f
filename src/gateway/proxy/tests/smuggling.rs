//! Requests that two programs may read differently.

use super::harness::Gateway;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn ambiguous_requests_are_refused_and_the_connection_ends() {
    let gateway = Gateway::new().await;
    let sandbox = gateway.answering("box", OK).await;
    for head in [
        "Content-Length: 6\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 6",
        "Content-Length: 6\r\nContent-Length: 6",
        "Content-Length: 6\r\nContent-Length: 7",
        "Content-Length: 6, 6",
        "Content-Length: +6",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding:\u{b}chunked",
        "X: y\r\n Transfer-Encoding: chunked",
        "X: y\nTransfer-Encoding: chunked",
        "X: y\rContent-Length: 6",
        "Host: other",
    ] {
        let mut client = gateway.client().await;
        let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: gateway\r\nX-Sandbox-ID: box\r\n\r\n";
        client
            .write(format!("POST / HTTP/1.1\r\nHost: gateway\r\nX-Sandbox-ID: box\r\n{head}\r\n\r\n{smuggled}"))
            .await;
        let all = String::from_utf8_lossy(&client.rest().await).into_owned();
        assert!(all.starts_with("HTTP/1.1 400"), "{head}: {all}");
        assert_eq!(all.matches("HTTP/1.1").count(), 1, "{head}: {all}");
        assert!(sandbox.requests.lock().is_empty(), "{head}");
    }
    assert!(gateway.cluster.dialled.lock().is_empty());
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let gateway = Gateway::new().await;
    let sandbox = gateway.answering("box", OK).await;
    let mut client = gateway.client().await;
    let get = "GET /1 HTTP/1.1\r\nHost: g\r\nX-Sandbox-ID: box\r\n\r\n";
    let chunked =
        "POST /2 HTTP/1.1\r\nHost: g\r\nX-Sandbox-ID: box\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let sized = "POST /3 HTTP/1.1\r\nHost: g\r\nX-Sandbox-ID: box\r\nContent-Length: 3\r\n\r\nabc";
    client.write([get, chunked, sized, get].concat()).await;
    for _ in 0..4 {
        assert_eq!(client.answer().await.status, 200);
    }
    let paths: Vec<String> = sandbox.requests.lock().iter().map(|request| request[..7].to_owned()).collect();
    assert_eq!(paths, ["GET /1 ", "POST /2", "POST /3", "GET /1 "]);
}

#[tokio::test]
async fn a_request_behind_a_refused_upgrade_is_not_served() {
    let gateway = Gateway::new().await;
    let sandbox = gateway.answering("box", OK).await;
    let mut client = gateway.client().await;
    let upgrade = "GET / HTTP/1.1\r\nHost: g\r\nX-Sandbox-ID: box\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    client.write([upgrade, "GET /smuggled HTTP/1.1\r\nHost: g\r\nX-Sandbox-ID: box\r\n\r\n"].concat()).await;
    let all = String::from_utf8_lossy(&client.rest().await).into_owned();
    assert_eq!(all.matches("HTTP/1.1").count(), 1, "{all}");
    assert!(!sandbox.request().to_ascii_lowercase().contains("upgrade"), "HTTP/2 is not tunnelled");
}

#[tokio::test]
async fn what_is_no_http_ends_the_connection() {
    let gateway = Gateway::new().await;
    for bytes in [
        &b"\x16\x03\x01\x02\x00"[..],
        b"SSH-2.0-x\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/3.0\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
    ] {
        let mut client = gateway.client().await;
        client.write(bytes).await;
        if bytes.ends_with(b"\n") {
            let all = client.rest().await;
            assert!(all.is_empty() || all.starts_with(b"HTTP/1.1 4"), "{bytes:?}: {all:?}");
        }
    }
}
