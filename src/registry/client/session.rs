//! The requests of one operation in a repository: credentials, redirects, manifests and blobs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use serde::Deserialize;

use super::challenge::Challenge;
use super::transport::{Call, Reply, Transport, clean, host, is_private, located, same_origin, with_query};
use crate::credentials::Credentials;
use crate::digest::Digest;
use crate::error::Error;
use crate::limits;
use crate::manifest::{Descriptor, MANIFEST, MANIFESTS};
use crate::reference::Reference;

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// The host of Docker Hub's registry, whose name in references is another one.
const DOCKER_HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// The right that an operation needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Pull,
    Push,
}

impl Access {
    fn scope(self) -> &'static str {
        match self {
            Access::Pull => "pull",
            Access::Push => "pull,push",
        }
    }
}

/// One operation.
pub(super) struct Session<'a> {
    transport: &'a Transport,
    reference: &'a Reference,
    credentials: &'a Credentials,
    access: Access,
    /// The header that the registry asked for. It is sent to no other server.
    authorization: Option<HeaderValue>,
}

/// A manifest as it arrived.
pub(super) struct Received {
    pub(super) content: Bytes,
    pub(super) digest: Digest,
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        transport: &'a Transport,
        reference: &'a Reference,
        credentials: &'a Credentials,
        access: Access,
    ) -> Self {
        Self { transport, reference, credentials, access, authorization: None }
    }

    /// The digest of the manifest, as the registry says it.
    pub(super) async fn resolve(&mut self) -> Result<Digest, Error> {
        let what = self.reference.to_string();
        let uri = self.manifest_uri()?;
        let reply = self.call(Method::HEAD, uri, accept(), Bytes::new()).await?.successful(&what).await?;
        match stated_digest(&reply) {
            Some(got) => same(&what, self.reference.digest(), got),
            // Not every registry answers with the digest.
            None => Ok(self.manifest().await?.digest),
        }
    }

    /// The manifest, whose digest is checked.
    pub(super) async fn manifest(&mut self) -> Result<Received, Error> {
        let what = self.reference.to_string();
        let uri = self.manifest_uri()?;
        let reply = self.call(Method::GET, uri, accept(), Bytes::new()).await?.successful(&what).await?;
        let stated = stated_digest(&reply);
        let (content, digest) = reply.read(&what, limits::MANIFEST_BYTES as u64).await?;
        let digest = same(&what, self.reference.digest().or(stated.as_ref()), digest)?;
        Ok(Received { content, digest })
    }

    /// Stores the manifest by the tag of the reference.
    pub(super) async fn put_manifest(&mut self, content: Bytes) -> Result<Digest, Error> {
        let what = self.reference.to_string();
        let digest = Digest::of(&content);
        let uri = self.manifest_uri()?;
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(MANIFEST))]);
        let reply = self.call(Method::PUT, uri, headers, content).await?.successful(&what).await?;
        let got = stated_digest(&reply).unwrap_or_else(|| digest.clone());
        same(&what, Some(&digest), got)
    }

    /// A blob, whose size and digest are those of its descriptor. One with more bytes than the limit is not asked for.
    pub(super) async fn blob(&mut self, what: &str, descriptor: &Descriptor, limit: u64) -> Result<Bytes, Error> {
        if descriptor.size > limit {
            return Err(Error::TooLarge { what: what.to_owned(), limit });
        }
        let uri = self.uri(&format!("blobs/{}", descriptor.digest))?;
        let reply = self.call(Method::GET, uri, HeaderMap::new(), Bytes::new()).await?.successful(what).await?;
        let (content, digest) = reply.read(what, descriptor.size).await?;
        let got = content.len() as u64;
        if got < descriptor.size {
            return Err(Error::Truncated { what: what.to_owned(), expected: descriptor.size, got });
        }
        same(what, Some(&descriptor.digest), digest)?;
        Ok(content)
    }

    /// Stores a blob, unless the repository has it.
    pub(super) async fn put_blob(&mut self, what: &str, content: Bytes) -> Result<(), Error> {
        let digest = Digest::of(&content);
        let uri = self.uri(&format!("blobs/{digest}"))?;
        let reply = self.call(Method::HEAD, uri, HeaderMap::new(), Bytes::new()).await?;
        if reply.status != StatusCode::NOT_FOUND {
            reply.successful(what).await?;
            return Ok(());
        }
        let uri = self.uri("blobs/uploads/")?;
        let reply =
            self.call(Method::POST, uri.clone(), HeaderMap::new(), Bytes::new()).await?.successful(what).await?;
        let upload = reply.header(LOCATION).and_then(|location| located(&uri, location));
        let target = upload.and_then(|upload| with_query(&upload, &format!("digest={digest}")));
        let target = target.ok_or_else(|| Error::protocol(&reply.host, "names no address for an upload"))?;
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))]);
        self.call(Method::PUT, target, headers, content).await?.successful(what).await?;
        Ok(())
    }

    /// The address of the manifest that the reference names.
    fn manifest_uri(&self) -> Result<Uri, Error> {
        self.uri(&format!("manifests/{}", self.reference.version()))
    }

    /// An address of the repository.
    fn uri(&self, path: &str) -> Result<Uri, Error> {
        let host = self.reference.host();
        let authority = if host == DOCKER_HUB.0 { DOCKER_HUB.1 } else { host };
        let path = format!("/v2/{}/{path}", self.reference.repository());
        let path: Result<PathAndQuery, _> = path.parse();
        let wrong = || Error::protocol(host, "is not the address of a registry");
        let uri = Uri::builder().scheme(self.transport.scheme()).authority(authority);
        uri.path_and_query(path.map_err(|_| wrong())?).build().map_err(|_| wrong())
    }

    /// Sends a request, with credentials if the registry asks for them, and follows redirects of reads.
    async fn call(&mut self, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Result<Reply, Error> {
        let registry = self.uri("")?;
        let (mut uri, mut redirects, mut asked) = (uri, 0, false);
        loop {
            let own = same_origin(&uri, &registry);
            let mut headers = headers.clone();
            if let Some(authorization) = self.authorization.as_ref().filter(|_| own) {
                headers.insert(AUTHORIZATION, authorization.clone());
            }
            let call = Call { method: method.clone(), uri: uri.clone(), headers, body: body.clone() };
            let reply = self.transport.send(call).await?;
            if reply.status == StatusCode::UNAUTHORIZED && own && !asked {
                asked = true;
                self.authorization = Some(self.authorize(&registry, &reply).await?);
                continue;
            }
            let read = method == Method::GET || method == Method::HEAD;
            if !reply.status.is_redirection() || !read {
                return Ok(reply);
            }
            let next = reply.header(LOCATION).and_then(|location| located(&uri, location));
            uri = next.ok_or_else(|| Error::protocol(&reply.host, "redirects to no address"))?;
            redirects += 1;
            if redirects > limits::REDIRECTS {
                return Err(Error::protocol(&reply.host, "redirects too often"));
            }
        }
    }

    /// The header that the challenge in an answer asks for.
    async fn authorize(&self, registry: &Uri, reply: &Reply) -> Result<HeaderValue, Error> {
        let wrong = || Error::unauthorized(&reply.host, "it asks for credentials in an unknown way");
        match Challenge::of(&reply.headers).ok_or_else(wrong)? {
            Challenge::Basic => {
                let missing = || Error::unauthorized(&reply.host, "it needs a user and a password, and none are given");
                self.basic(registry)?.ok_or_else(missing)
            }
            Challenge::Bearer { realm, service } => self.token(&realm, service.as_deref()).await,
        }
    }

    /// The credentials as a header for this server. `None` without credentials.
    fn basic(&self, server: &Uri) -> Result<Option<HeaderValue>, Error> {
        let Credentials::Basic { username, password } = self.credentials else { return Ok(None) };
        if !is_private(server) {
            let reason = "the credentials were not sent, because the connection would have no TLS";
            return Err(Error::unauthorized(&host(server), reason));
        }
        let text = format!("Basic {}", STANDARD.encode(format!("{username}:{password}")));
        secret(&text).map(Some).ok_or_else(|| Error::unauthorized(&host(server), "the user is invalid"))
    }

    /// Asks a token server for a token.
    async fn token(&self, realm: &Uri, service: Option<&str>) -> Result<HeaderValue, Error> {
        let server = host(realm);
        let scope = format!("repository:{}:{}", self.reference.repository(), self.access.scope());
        let invalid = || Error::protocol(&server, "is not the address of a token server");
        let uri = Challenge::question(realm, service, &scope).ok_or_else(invalid)?;
        let mut headers = HeaderMap::new();
        if let Some(basic) = self.basic(&uri)? {
            headers.insert(AUTHORIZATION, basic);
        }
        let call = Call { method: Method::GET, uri, headers, body: Bytes::new() };
        let reply = self.transport.send(call).await?;
        // A redirect is not followed: it would lead to a server that the registry did not name.
        if reply.status == StatusCode::NOT_FOUND {
            return Err(Error::unauthorized(&server, "it has no token"));
        }
        let reply = reply.successful("the token").await?;
        let (body, _) = reply.read("the token", limits::SMALL_BODY_BYTES as u64).await?;
        let answer: Token =
            serde_json::from_slice(&body).map_err(|_| Error::protocol(&server, "its answer is not a token"))?;
        let token = if answer.token.is_empty() { answer.access_token } else { answer.token };
        let header = secret(&format!("Bearer {token}")).filter(|_| !token.is_empty());
        header.ok_or_else(|| Error::protocol(&server, "its answer has no token"))
    }
}

/// A header that debug output does not show.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

fn accept() -> HeaderMap {
    HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(MANIFESTS))])
}

fn stated_digest(reply: &Reply) -> Option<Digest> {
    reply.header(CONTENT_DIGEST)?.parse().ok()
}

/// The digest, if it is the expected one.
fn same(what: &str, expected: Option<&Digest>, got: Digest) -> Result<Digest, Error> {
    match expected {
        Some(expected) if *expected != got => {
            Err(Error::DigestMismatch { what: clean(what), expected: expected.clone(), got })
        }
        Some(_) | None => Ok(got),
    }
}
