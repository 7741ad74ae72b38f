//! What TCP connections may not take or reach.

use super::*;
use crate::arrival::{Arrival, Purpose};
use crate::only::Only;

#[tokio::test]
async fn recorded_port_outside_of_the_range_is_counted() {
    for range in [Some("1024-1030"), None] {
        let (gateway, complete) = Gateway::start(Server::default(), Timeouts::DEFAULT, range);
        until("the gateway is ready", complete).await;
        gateway.server.suspended("a");
        gateway.record("a", 1, 20_000);
        until("the port is counted", || gateway.state("outside") == 1.0).await;
        assert_eq!(gateway.state("open") + gateway.state("failed"), 0.0);
        gateway.server.delete("sandboxes", "a");
        until("the port is not counted any more", || gateway.state("outside") == 0.0).await;
    }
}

#[tokio::test]
async fn tcp_connections_leave_half_of_the_places_to_requests() {
    let gateway = Gateway::new().await;
    gateway.server.operate("127.0.0.1");
    let port = gateway.suspended("a", agent("hi").await).await;
    let (places, metrics) = (&gateway.of.places, &gateway.of.proxy.metrics);
    let limits = gateway.of.proxy.config.limits;
    let taken: Vec<_> =
        (0..u32::MAX).map_while(|n| places.admit_tcp(Ipv4Addr::from(0x0a00_0000 + n).into(), metrics)).collect();
    assert!((limits.connections / 4..=limits.connections / 2).contains(&taken.len()), "{}", taken.len());
    let closed = || gateway.sample("paddock_gateway_tcp_connections_total{result=\"closed\"}");
    let before = closed();
    match TcpStream::connect((HOST, port)).await {
        Ok(mut stream) => {
            let error = timeout(PATIENCE, stream.read_u8()).await.expect("in time").expect_err("no byte");
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
    until("the connection is counted", || closed() > before).await;
    // Connections without a request would make room for each other.
    let admit = |address| places.admit(address, "http", metrics).and_then(|(client, _)| client.authorized());
    let of_requests = (0..u32::MAX).map_while(|n| admit(Ipv4Addr::from(n).into()));
    assert_eq!(of_requests.collect::<Vec<_>>().len() + taken.len(), limits.connections);
    drop(taken);
    assert_eq!(greeting(port).await.as_deref(), Some(&b"hi"[..]));
}

#[tokio::test]
async fn one_address_leaves_half_of_its_places_to_requests() {
    let gateway = Gateway::new().await;
    let (places, metrics) = (&gateway.of.places, &gateway.of.proxy.metrics);
    let address: IpAddr = "10.0.0.1".parse().unwrap();
    let tcp: Vec<_> = std::iter::from_fn(|| places.admit_tcp(address, metrics)).collect();
    let admit = || places.admit(address, "http", metrics).and_then(|(client, _)| client.authorized());
    let requests: Vec<_> = std::iter::from_fn(admit).collect();
    assert!(!tcp.is_empty() && requests.len() + 1 >= tcp.len(), "{} {}", tcp.len(), requests.len());
}

#[tokio::test]
async fn connection_that_was_held_wakes_no_other_sandbox_of_the_name() {
    let gateway = Gateway::new().await;
    let port = gateway.suspended("a", agent("hi").await).await;
    let owner = gateway.of.sandboxes.allotment(port).unwrap();
    let sandboxes = gateway.of.sandboxes.clone();
    let held = tokio::spawn(async move {
        let arrival = Arrival { client: HOST.into(), purpose: Purpose::Use, held_bytes: 0, only: Only::Any };
        sandboxes.connect_port(port, &owner, &arrival, Instant::now() + PATIENCE).await
    });
    until("the Sandbox is woken", || gateway.server.wakes() == 1).await;
    // Nothing makes a pod, so the connection waits. The watch shows the other Sandbox in the place of the first one.
    gateway.server.put(
        "sandboxes",
        "a",
        json!({
            "metadata": { "uid": "other", "annotations": { "policy.paddock.dev/suspended-by": "Idle" } },
            "spec": { "operatingMode": "Suspended", "replicas": 0, "resumePolicy": "OnDemand" },
            "status": { "mode": "Suspended" },
        }),
    );
    let refusal = timeout(PATIENCE, held).await.expect("in time").unwrap().expect_err("another Sandbox");
    assert_eq!(refusal.reason, Reason::SandboxNotFound);
    assert_eq!(gateway.server.wakes(), 1);
}
