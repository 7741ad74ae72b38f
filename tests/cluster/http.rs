//! Plain HTTP requests to programs on this machine and in pods.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::{Error, Result};

/// The address of a served page, as `http://HOST:PORT/PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: u16,
    path: String,
    /// The address to connect to, if it is not that of the host.
    through: Option<SocketAddr>,
    /// More lines of the head of a request, each with its end.
    headers: String,
}

impl Endpoint {
    /// An address on this machine.
    #[must_use]
    pub fn local(port: u16, path: &str) -> Self {
        Self::at("127.0.0.1", port, path)
    }

    /// An address on a host.
    pub(crate) fn at(host: &str, port: u16, path: &str) -> Self {
        Self { host: host.to_owned(), port, path: path.to_owned(), through: None, headers: String::new() }
    }

    /// The same page behind a proxy, for requests with more headers.
    pub(crate) fn through(self, proxy: SocketAddr, headers: &str) -> Self {
        Self { through: Some(proxy), headers: headers.to_owned(), ..self }
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?}: expected http://HOST:PORT/PATH");
        let url: http::Uri = text.parse().map_err(|_| wrong())?;
        match (url.scheme_str(), url.host()) {
            (Some("http"), Some(host)) => Ok(Self::at(host, url.port_u16().unwrap_or(80), url.path())),
            (Some(_) | None, Some(_) | None) => Err(wrong()),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}{}", self.host, self.port, self.path)
    }
}

/// The status and the body of a page.
pub async fn http_get(at: &Endpoint) -> Result<(u16, String)> {
    exchange(at, format!("GET {} HTTP/1.0\r\nHost: {}\r\n{}\r\n", at.path, at.host, at.headers)).await
}

/// The status and the body of the answer to a POST of a body of this content type.
pub(crate) async fn http_post(at: &Endpoint, kind: &str, body: &str) -> Result<(u16, String)> {
    let length = body.len();
    let head = format!("POST {} HTTP/1.0\r\nHost: {}\r\nContent-Type: {kind}\r\n{}", at.path, at.host, at.headers);
    exchange(at, format!("{head}Content-Length: {length}\r\n\r\n{body}")).await
}

/// Sends a request of HTTP/1.0. The answer is not chunked and ends with the connection, so no library is needed to read
/// it.
async fn exchange(at: &Endpoint, request: String) -> Result<(u16, String)> {
    let io = |what: &str| Error::io(format!("{what} {at}"));
    let connected = match at.through {
        Some(proxy) => TcpStream::connect(proxy).await,
        None => TcpStream::connect((at.host.as_str(), at.port)).await,
    };
    let mut stream = connected.map_err(io("connecting to"))?;
    stream.write_all(request.as_bytes()).await.map_err(io("asking"))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(io("reading"))?;
    let wrong = |problem: &str| Error::Format { what: format!("reading {at}"), problem: problem.to_owned() };
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| wrong("an answer without a body"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(|| wrong("an answer without a status"))?, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_plain_http() {
        let at: Endpoint = "http://127.0.0.1:8080/metrics".parse().unwrap();
        assert_eq!(at, Endpoint::local(8080, "/metrics"));
        assert_eq!(at.to_string(), "http://127.0.0.1:8080/metrics");
        for wrong in ["https://127.0.0.1:8080/metrics", "127.0.0.1:8080", "metrics", ""] {
            assert!(wrong.parse::<Endpoint>().unwrap_err().contains("expected http://"), "{wrong}");
        }
    }
}
