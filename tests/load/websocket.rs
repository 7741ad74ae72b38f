//! WebSockets, as far as a test needs them: the handshake, and messages of one short frame.

use std::io;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The key of each handshake: the example of RFC 6455.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The answer to this key.
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const LAST: u8 = 0x80;
const MASKED: u8 = 0x80;
/// The longest payload whose length is in the second byte.
const SHORT: usize = 125;

/// The side that sends a frame. Frames of clients are masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Some bytes, at most 125.
    Data(Vec<u8>),
    /// The end, with its code.
    Close(u16),
}

/// Reads the next message.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Message> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).await?;
    let [kind, length] = head;
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{what}: {kind:#x} {length:#x}"));
    let mut mask = [0; 4];
    if length & MASKED != 0 {
        stream.read_exact(&mut mask).await?;
    }
    let length = usize::from(length & !MASKED);
    if length > SHORT {
        return Err(wrong("a frame that nobody sent"));
    }
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    match kind {
        0x82 => Ok(Message::Data(payload)),
        // A close frame without a code means 1005.
        0x88 => Ok(Message::Close(payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code)))),
        _ => Err(wrong("a frame that nobody sent")),
    }
}

/// Writes a message.
pub(crate) async fn write(stream: &mut (impl AsyncWrite + Unpin), from: Side, message: &Message) -> io::Result<()> {
    let (kind, payload) = match message {
        Message::Data(bytes) => (BINARY, bytes.clone()),
        Message::Close(code) => (CLOSE, code.to_be_bytes().to_vec()),
    };
    let length = u8::try_from(payload.len()).ok().filter(|length| usize::from(*length) <= SHORT);
    let length =
        length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a message has at most 125 bytes"))?;
    let frame = match from {
        Side::Server => [&[LAST | kind, length][..], &payload].concat(),
        Side::Client => {
            let mask = fastrand::u32(..).to_be_bytes();
            let masked: Vec<u8> = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
            [&[LAST | kind, MASKED | length][..], &mask, &masked].concat()
        }
    };
    stream.write_all(&frame).await
}

/// A WebSocket of a client.
#[derive(Debug)]
pub struct WebSocket(TcpStream);

impl WebSocket {
    /// Makes the handshake for a path on an open connection. `headers` are lines, each with its end.
    ///
    /// # Errors
    /// If the answer is not that of a WebSocket.
    pub async fn open(mut stream: TcpStream, path: &str, headers: &str) -> Result<Self> {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: load\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).await.context("sending a handshake")?;
        let mut head = Vec::new();
        // The first frame may follow at once, so no byte after the head may be read.
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.context("reading the answer to a handshake")?);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        if !head.starts_with("HTTP/1.1 101 ") || !head.contains(ACCEPT) {
            bail!("the handshake was refused: {head}");
        }
        Ok(Self(stream))
    }

    /// Sends a message.
    ///
    /// # Errors
    /// If the connection has ended.
    pub async fn send(&mut self, message: &Message) -> io::Result<()> {
        write(&mut self.0, Side::Client, message).await
    }

    /// Reads the next message.
    ///
    /// # Errors
    /// If the connection has ended, or the frame is none that the Sandbox or the gateway sends.
    pub async fn next(&mut self) -> io::Result<Message> {
        read(&mut self.0).await
    }

    /// Sends some bytes, and waits until they come back.
    ///
    /// # Errors
    /// If another message comes, or none.
    pub async fn echo(&mut self, bytes: &[u8]) -> Result<()> {
        let sent = Message::Data(bytes.to_vec());
        self.send(&sent).await.context("sending a message")?;
        let got = self.next().await.context("waiting for a message")?;
        if got != sent {
            bail!("{got:?} came for {sent:?}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_of_both_sides_are_read_as_they_were_written() {
        for side in [Side::Client, Side::Server] {
            for message in [Message::Data(Vec::new()), Message::Data(vec![7; SHORT]), Message::Close(1001)] {
                let mut wire = Vec::new();
                write(&mut wire, side, &message).await.unwrap();
                assert_eq!(read(&mut wire.as_slice()).await.unwrap(), message);
                assert_eq!(wire[1] & MASKED != 0, side == Side::Client);
            }
        }
        let long = Message::Data(vec![7; SHORT + 1]);
        assert!(write(&mut Vec::new(), Side::Server, &long).await.is_err());
    }
}
