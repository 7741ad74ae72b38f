//! One address for the webhook, like that of a Service, with the listening replicas behind it.

use std::net::Ipv4Addr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::e2e::operator::NAMESPACE;

/// An address that leads to the first replica, or to the second one if the first does not listen. If neither listens,
/// the connection ends at once.
///
/// It does not alternate between them. An API server speaks HTTP/2 to a loopback address and sends all requests over
/// one connection, so the replica that leads first gets the requests.
pub(super) struct Service {
    port: u16,
    replicas: [u16; 2],
}

impl Service {
    /// Starts to listen.
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

    /// The flags of the first or the second replica.
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
            // The result does not matter, because a replica that dies breaks its connections.
            let _ = copy_bidirectional(&mut client, &mut replica).await;
            return;
        }
    }
}
