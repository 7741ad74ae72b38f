//! Ports that change while the gateway is cut off from the API server.

use super::*;
use crate::sandboxes::limits::STALE_TIME;

/// The outage begins before the gateway starts, or after that.
#[tokio::test(start_paused = true)]
async fn port_that_changes_in_an_outage_is_open_after_it() {
    for cut in ["sandboxes", "pods"] {
        for starts_in_it in [true, false] {
            let server = Server::default();
            server.operate("127.0.0.1");
            let (port, changed) = (free_port().await, free_port().await);
            if starts_in_it {
                server.away_for(cut, true);
            }
            let (gateway, complete) = Gateway::start(server, Timeouts::DEFAULT, Some("1024-65535"));
            if !starts_in_it {
                until("the gateway is ready", &complete).await;
                gateway.server.suspended("b");
                gateway.record("b", 1, changed);
                gateway.opened(changed).await;
                gateway.server.away_for(cut, true);
            }
            sleep(STALE_TIME * 2).await;
            gateway.server.suspended("a");
            gateway.record("a", agent("hi").await, port);
            if !starts_in_it {
                gateway.record("b", agent("hi").await, changed);
            }
            sleep(STALE_TIME).await;
            assert_eq!(greeting(port).await, None, "the port may be another Sandbox's by now");
            gateway.server.away_for(cut, false);
            let open = if starts_in_it { 1.0 } else { 2.0 };
            until("the ports are open", || gateway.of.sandboxes.waiting_for().is_empty() && complete()).await;
            until("the ports are open", || gateway.state("open") == open).await;
            for port in [Some(port), (!starts_in_it).then_some(changed)].into_iter().flatten() {
                assert_eq!(greeting(port).await.as_deref(), Some(&b"hi"[..]), "{cut} {starts_in_it}");
            }
        }
    }
}
