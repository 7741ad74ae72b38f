//! One address for the webhook, as a Service is, and behind it whichever replica listens.

use std::net::Ipv4Addr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::e2e::operator::NAMESPACE;

/// An address that leads to the first replica, or to the second where the first is gone; to none, it ends the connection at
/// once.
///
/// Not to both in turn: to a loopback address API servers speak HTTP/2, and all they ask goes over one connection. So it is
/// the one that leads first who is asked.
pub(super) struct Service {
    port: u16,
    replicas: [u16; 2],
}

impl Service {
    /// Begins to listen.
    pub(super) async fn start(replicas: [u16; 2]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                tokio::spawn(lead(client, replicas));
            }
        });
        Self { port, replicas }
    }

    /// Flags of the first or the second replica.
    pub(super) fn flags(&self, which: usize) -> [String; 3] {
        [
            format!("--webhook-bind-address=127.0.0.1:{}", self.replicas[which]),
            format!("--webhook-url=https://127.0.0.1:{}", self.port),
            format!("--webhook-service-namespace={NAMESPACE}"),
        ]
    }
}

async fn lead(mut client: TcpStream, replicas: [u16; 2]) {
    for port in replicas {
        if let Ok(mut replica) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
            // However it ends: a replica that dies breaks its connections.
            let _ = copy_bidirectional(&mut client, &mut replica).await;
            return;
        }
    }
}
