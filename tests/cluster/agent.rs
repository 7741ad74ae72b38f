//! A client of the runtime API that an agent's pod serves on port 8888, as the SDKs of the Sandbox API use it.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use crate::http::http_post;
use crate::{Endpoint, Error, Result, http_get};

/// The port of the runtime API.
const PORT: u16 = 8888;
/// The time limit of a request. A gateway holds a request for up to a minute.
const ANSWER: Duration = Duration::from_secs(90);
/// The time in which an agent that is there answers, also on a busy machine.
const ACTIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// A line that occurs in no file that is uploaded here.
const BOUNDARY: &str = "paddock-boundary-5d2c1f";

/// An agent at the address of its pod, or behind a gateway.
#[derive(Clone, Debug)]
pub struct Agent {
    host: String,
    gateway: Option<Gateway>,
}

#[derive(Clone, Debug)]
struct Gateway {
    address: SocketAddr,
    headers: String,
}

/// The result of a command.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Executed {
    /// The standard output.
    pub stdout: String,
    /// The standard error.
    pub stderr: String,
    /// The exit code. A command that does not start has the code 1.
    pub exit_code: i64,
}

impl Agent {
    /// The agent at an IP address.
    pub fn new(address: impl Into<String>) -> Self {
        Self { host: address.into(), gateway: None }
    }

    /// The agent behind a gateway, which knows it by the header `Host` or by these headers.
    pub fn behind(address: SocketAddr, host: impl Into<String>, headers: &[(&str, &str)]) -> Self {
        let headers = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        Self { host: host.into(), gateway: Some(Gateway { address, headers }) }
    }

    /// Whether the agent answers in a few seconds that it is active. Nothing answers at the address of a pod that is gone,
    /// and the system tries to connect to it for minutes.
    pub async fn is_active(&self) -> bool {
        let answer = tokio::time::timeout(ACTIVE_TIMEOUT, self.get("/")).await;
        matches!(answer, Ok(Ok((200, body))) if body.contains("Runtime is active"))
    }

    /// Runs a command without a shell.
    ///
    /// # Errors
    /// Returns an error if the agent does not answer. A command that fails is not an error.
    pub async fn execute(&self, command: &str) -> Result<Executed> {
        let request = json!({ "command": command }).to_string();
        let (status, body) = self.post("/execute", "application/json", &request).await?;
        expect(200, status, &body)?;
        serde_json::from_str(&body).map_err(Error::format("reading the result of a command"))
    }

    /// Writes a file. The path is relative to the folder of the agent's files.
    ///
    /// # Errors
    /// Returns an error if the agent does not answer or refuses the file.
    pub async fn upload(&self, path: &str, content: &str) -> Result<()> {
        let request = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{path}\"\r\n\r\n{content}\r\n\
             --{BOUNDARY}--\r\n"
        );
        let kind = format!("multipart/form-data; boundary={BOUNDARY}");
        let (status, body) = self.post("/upload", &kind, &request).await?;
        expect(200, status, &body)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Returns an error if the agent does not answer, or if the file does not exist.
    pub async fn download(&self, path: &str) -> Result<String> {
        let (status, body) = self.get(&format!("/download/{}", path.replace('/', "%2F"))).await?;
        expect(200, status, &body)?;
        Ok(body)
    }

    /// The status and the body of any page.
    ///
    /// # Errors
    /// Returns an error if the agent does not answer.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        within(http_get(&self.at(path))).await
    }

    /// The status and the body of the answer to a POST of a body of this content type.
    ///
    /// # Errors
    /// Returns an error if the agent does not answer.
    pub async fn post(&self, path: &str, kind: &str, body: &str) -> Result<(u16, String)> {
        within(http_post(&self.at(path), kind, body)).await
    }

    fn at(&self, path: &str) -> Endpoint {
        let page = Endpoint::at(&self.host, PORT, path);
        match &self.gateway {
            Some(Gateway { address, headers }) => page.through(*address, headers),
            None => page,
        }
    }
}

async fn within<T>(answer: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Error::Io { what: "asking an agent".to_owned(), cause: std::io::ErrorKind::TimedOut.into() };
    tokio::time::timeout(ANSWER, answer).await.map_err(late)?
}

fn expect(wanted: u16, status: u16, body: &str) -> Result<()> {
    if status == wanted {
        return Ok(());
    }
    Err(Error::Format { what: "asking an agent".to_owned(), problem: format!("status {status}: {body}") })
}
