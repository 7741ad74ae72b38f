//! The client's own watch of claims or sandboxes. An event counts as having happened when this watch delivers it.
//!
//! API servers close watches that are slow or old. The watch is then resumed from the last version, or from a new list
//! if that version is too old. Only the measured fields of each event are parsed. The rest is skipped and not
//! allocated.

use std::borrow::Cow;
use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde::Deserialize;

use crate::client::{Load, send};

/// The wait before another try to open a watch.
const AGAIN: Duration = Duration::from_millis(100);
/// The number of failures in a row after which the watch gives up. They take five seconds.
const FAILURES: usize = 50;
/// The page size of a list, which is that of Kubernetes clients.
const PAGE: usize = 500;

/// An event of an object.
#[derive(Debug, PartialEq)]
pub(crate) struct Event<'a> {
    /// The time at which its bytes arrived.
    pub(crate) at: Instant,
    /// The object's name.
    pub(crate) name: &'a str,
    /// The object's state, or `None` if it was deleted.
    pub(crate) state: Option<State<'a>>,
}

/// The measured fields of an object.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct State<'a> {
    /// The object's UID.
    pub(crate) uid: &'a str,
    /// Whether its condition Ready is True.
    pub(crate) ready: bool,
    /// The sandbox of a claim, from `status.sandbox.name`.
    pub(crate) sandbox: Option<&'a str>,
    /// Whether an annotation of a claim names its future sandbox.
    pub(crate) hinted: bool,
    /// The launch type of a sandbox, from its label.
    pub(crate) launch: Option<&'a str>,
}

/// A resource in one namespace.
#[derive(Clone)]
pub(crate) struct Watch {
    client: Client,
    path: String,
    version: String,
    known: HashSet<String>,
}

impl Watch {
    /// Lists the existing objects and passes them to `on`. [`Watch::follow`] delivers later changes.
    pub(crate) async fn begin(client: &Client, path: &str, mut on: impl FnMut(Event<'_>)) -> Result<Self> {
        let mut watch =
            Self { client: client.clone(), path: path.to_owned(), version: String::new(), known: HashSet::new() };
        watch.list(&mut on).await?;
        Ok(watch)
    }

    /// Passes every change to `on`. It ends only with an error.
    pub(crate) async fn follow(mut self, mut on: impl FnMut(Event<'_>)) -> Result<std::convert::Infallible> {
        let mut failures = 0;
        loop {
            let before = self.version.clone();
            match self.stream(&mut on).await {
                Ok(End::Closed) => {}
                Ok(End::TooOld) => self.list(&mut on).await?,
                // The API server is busy, or the connection broke, so the watch tries again.
                Err(error) => {
                    failures = if self.version == before { failures + 1 } else { 0 };
                    if failures == FAILURES {
                        return Err(error);
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    async fn list(&mut self, on: &mut impl FnMut(Event<'_>)) -> Result<()> {
        let mut there = HashSet::new();
        let mut more = String::new();
        loop {
            let path = format!("{}?limit={PAGE}&continue={more}", self.path);
            let reply = send(&self.client, Method::GET, &path, Load::Empty).await?;
            if reply.status != StatusCode::OK {
                reply.object(&format!("listing {}", self.path))?;
            }
            let at = Instant::now();
            let list: List<'_> = serde_json::from_slice(&reply.body).context("reading a list")?;
            for object in &list.items {
                there.insert(object.metadata.name.clone().into_owned());
                on(Event { at, name: &object.metadata.name, state: Some(object.state()) });
            }
            self.version = list.metadata.resource_version.into_owned();
            more = list.metadata.more.into_owned();
            if more.is_empty() {
                break;
            }
        }
        for name in self.known.difference(&there) {
            on(Event { at: Instant::now(), name, state: None });
        }
        self.known = there;
        Ok(())
    }

    async fn stream(&mut self, on: &mut impl FnMut(Event<'_>)) -> Result<End> {
        let uri = format!("{}?watch=true&allowWatchBookmarks=true&resourceVersion={}", self.path, self.version);
        let request = Request::get(uri).body(Body::empty()).context("making a request")?;
        let response = self.client.send(request).await?;
        if response.status() == StatusCode::GONE {
            return Ok(End::TooOld);
        }
        if !response.status().is_success() {
            bail!("watching {}: {}", self.path, response.status());
        }
        let mut body = response.into_body();
        let mut buffer: Vec<u8> = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            let at = Instant::now();
            buffer.extend_from_slice(&data);
            let Some(end) = buffer.iter().rposition(|byte| *byte == b'\n') else { continue };
            for line in buffer[..end].split(|byte| *byte == b'\n') {
                match Line::read(line)? {
                    Line::Changed(object) => {
                        self.version.clear();
                        self.version.push_str(&object.metadata.resource_version);
                        if !self.known.contains(&*object.metadata.name) {
                            self.known.insert(object.metadata.name.clone().into_owned());
                        }
                        on(Event { at, name: &object.metadata.name, state: Some(object.state()) });
                    }
                    Line::Gone(object) => {
                        self.version.clear();
                        self.version.push_str(&object.metadata.resource_version);
                        self.known.remove(&*object.metadata.name);
                        on(Event { at, name: &object.metadata.name, state: None });
                    }
                    Line::Bookmark(version) => self.version = version,
                    Line::Error { code: 410 } => return Ok(End::TooOld),
                    Line::Error { code } => bail!("watching {}: error {code}", self.path),
                }
            }
            buffer.drain(..=end);
        }
        Ok(End::Closed)
    }
}

enum End {
    /// The API server or the network closed the watch.
    Closed,
    /// The API server no longer knows the last version.
    TooOld,
}

enum Line<'a> {
    Changed(Object<'a>),
    Gone(Object<'a>),
    Bookmark(String),
    Error { code: u16 },
}

impl<'a> Line<'a> {
    /// API servers write the type first. The type decides how the object is parsed.
    fn read(line: &'a [u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Carrier<T> {
            object: T,
        }
        #[derive(Deserialize)]
        struct Mark {
            metadata: Version,
        }
        #[derive(Deserialize)]
        struct Version {
            #[serde(rename = "resourceVersion")]
            version: String,
        }
        #[derive(Deserialize)]
        struct Failure {
            code: u16,
        }
        fn object<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T> {
            Ok(serde_json::from_slice::<Carrier<T>>(line).context("reading a watch event")?.object)
        }
        let kind = line.strip_prefix(br#"{"type":""#).and_then(|rest| rest.split(|byte| *byte == b'"').next());
        match kind {
            Some(b"ADDED" | b"MODIFIED") => Ok(Self::Changed(object(line)?)),
            Some(b"DELETED") => Ok(Self::Gone(object(line)?)),
            Some(b"BOOKMARK") => Ok(Self::Bookmark(object::<Mark>(line)?.metadata.version)),
            Some(b"ERROR") => Ok(Self::Error { code: object::<Failure>(line)?.code }),
            Some(_) | None => bail!("a watch event of no known type: {}", String::from_utf8_lossy(line)),
        }
    }
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(borrow)]
    metadata: ListMeta<'a>,
    items: Vec<Object<'a>>,
}

#[derive(Deserialize)]
struct ListMeta<'a> {
    #[serde(borrow, rename = "resourceVersion")]
    resource_version: Cow<'a, str>,
    #[serde(borrow, default, rename = "continue")]
    more: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow)]
    metadata: Meta<'a>,
    #[serde(borrow, default)]
    status: Status<'a>,
}

#[derive(Deserialize)]
struct Meta<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, rename = "resourceVersion")]
    resource_version: Cow<'a, str>,
    #[serde(borrow)]
    uid: Cow<'a, str>,
    #[serde(borrow, default)]
    labels: Labels<'a>,
    #[serde(borrow, default)]
    annotations: Annotations<'a>,
}

#[derive(Default, Deserialize)]
struct Annotations<'a> {
    #[serde(borrow, default, rename = "agents.x-k8s.io/sandbox-name")]
    sandbox: Option<Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
struct Labels<'a> {
    #[serde(borrow, default, rename = "agents.x-k8s.io/launch-type")]
    launch: Option<Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
struct Status<'a> {
    #[serde(borrow, default)]
    conditions: Vec<Condition<'a>>,
    #[serde(borrow, default)]
    sandbox: Option<Sandbox<'a>>,
}

#[derive(Deserialize)]
struct Condition<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    status: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Sandbox<'a> {
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
}

impl Object<'_> {
    fn state(&self) -> State<'_> {
        State {
            uid: &self.metadata.uid,
            ready: self.status.conditions.iter().any(|c| c.kind == "Ready" && c.status == "True"),
            sandbox: self.status.sandbox.as_ref().and_then(|sandbox| sandbox.name.as_deref()).filter(|n| !n.is_empty()),
            hinted: self.metadata.annotations.sandbox.is_some(),
            launch: self.metadata.labels.launch.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: &str = r#"{"type":"MODIFIED","object":{"apiVersion":"extensions.agents.x-k8s.io/v1beta1","kind":"SandboxClaim",
        "metadata":{"name":"c-1","uid":"u","resourceVersion":"42","labels":{"a":"b"},"managedFields":[{"x":{"y":[1]}}]},
        "spec":{"warmPoolRef":{"name":"p"}},
        "status":{"conditions":[{"type":"Finished","status":"True"},{"type":"Ready","status":"True","message":"a \"quoted\" one"}],
        "sandbox":{"name":"p-x","podIPs":["10.0.0.1"]}}}}"#;

    #[test]
    fn only_measured_fields_of_an_event_are_read() {
        let Line::Changed(object) = Line::read(READY.as_bytes()).unwrap() else { panic!("another type") };
        assert_eq!(object.metadata.name, "c-1");
        assert_eq!(object.metadata.resource_version, "42");
        let state = object.state();
        assert_eq!(state, State { uid: "u", ready: true, sandbox: Some("p-x"), hinted: false, launch: None });
    }

    #[test]
    fn another_condition_that_is_true_is_not_readiness() {
        let other = READY.replace(r#""Ready","status":"True""#, r#""Ready","status":"False""#);
        let Line::Changed(object) = Line::read(other.as_bytes()).unwrap() else { panic!("another type") };
        assert!(!object.state().ready);
    }

    #[test]
    fn bookmarks_deletions_and_errors_are_distinguished() {
        let mark = br#"{"type":"BOOKMARK","object":{"kind":"SandboxClaim","metadata":{"resourceVersion":"9"}}}"#;
        assert!(matches!(Line::read(mark).unwrap(), Line::Bookmark(version) if version == "9"));
        let gone = READY.replace("MODIFIED", "DELETED");
        assert!(matches!(Line::read(gone.as_bytes()).unwrap(), Line::Gone(_)));
        let old = br#"{"type":"ERROR","object":{"kind":"Status","status":"Failure","code":410}}"#;
        assert!(matches!(Line::read(old).unwrap(), Line::Error { code: 410 }));
        assert!(Line::read(br#"{"type":"SURPRISE","object":{}}"#).is_err());
    }
}
