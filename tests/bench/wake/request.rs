//! One request for a Sandbox, as a client of the gateway sends it.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The times of a request that was answered with 200.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// The client began to connect to the gateway.
    pub(super) sent: Timestamp,
    /// The client read the first byte of the answer.
    pub(super) answered: Timestamp,
}

/// Asks for the first page of a Sandbox on the default port.
pub(super) async fn get(gateway: SocketAddr, host: &str) -> Result<Asked> {
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let sent = Timestamp::now();
    let mut stream = TcpStream::connect(gateway).await.context("connecting to the gateway")?;
    stream.write_all(request.as_bytes()).await.context("sending a request")?;
    let mut answer = vec![0; 4096];
    let first = stream.read(&mut answer).await.context("waiting for an answer")?;
    let answered = Timestamp::now();
    answer.truncate(first);
    stream.read_to_end(&mut answer).await.context("reading an answer")?;
    if !answer.starts_with(b"HTTP/1.1 200 ") {
        bail!("{host} was not answered with 200: {}", String::from_utf8_lossy(&answer));
    }
    Ok(Asked { sent, answered })
}
