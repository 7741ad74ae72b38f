//! The runtime API of an agent's pod, asked at the pod's own address.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The timeout of a request.
const ANSWER: Duration = Duration::from_secs(30);
const BOUNDARY: &str = "a-line-that-no-test-writes";

/// An agent at an address.
pub(super) struct Agent<'a> {
    pub(super) address: &'a str,
}

impl Agent<'_> {
    /// Runs a command, and returns its standard output.
    pub(super) async fn execute(&self, command: &str) -> String {
        let request = json!({ "command": command }).to_string();
        let (status, body) = self.ask("POST", "/execute", "application/json", &request).await.expect("an answer");
        let answer: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((status, &answer["exit_code"]), (200, &json!(0)), "{command}: {answer}");
        answer["stdout"].as_str().unwrap_or_default().to_owned()
    }

    /// Writes a file.
    pub(super) async fn upload(&self, path: &str, content: &str) {
        let request = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{path}\"\r\n\r\n{content}\r\n\
             --{BOUNDARY}--\r\n"
        );
        let kind = format!("multipart/form-data; boundary={BOUNDARY}");
        let answer = self.ask("POST", "/upload", &kind, &request).await;
        assert!(matches!(answer, Some((200, _))), "{answer:?}");
    }

    /// Reads a file, if it exists.
    pub(super) async fn download(&self, path: &str) -> Option<String> {
        let (status, body) = self.get(&format!("/download/{}", path.replace('/', "%2F"))).await.expect("an answer");
        (status == 200).then_some(body)
    }

    /// The status and the body of a page, or `None` without an answer.
    pub(super) async fn get(&self, path: &str) -> Option<(u16, String)> {
        self.ask("GET", path, "text/plain", "").await
    }

    async fn ask(&self, method: &str, path: &str, kind: &str, body: &str) -> Option<(u16, String)> {
        let exchange = async {
            let mut stream = TcpStream::connect((self.address, 8888)).await.ok()?;
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\nContent-Type: {kind}\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(request.as_bytes()).await.ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.ok()?;
            let (head, body) = answer.split_once("\r\n\r\n")?;
            Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
        };
        tokio::time::timeout(ANSWER, exchange).await.ok()?
    }
}
