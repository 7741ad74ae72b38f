//! The client against registries that misbehave. A real registry is in the tests of the whole program.

mod fake;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axum::body::Body;
use futures::StreamExt as _;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, LOCATION, WWW_AUTHENTICATE};
use serde_json::json;

use self::fake::{Reply, blob, manifest, reply, serve};
use super::transport::Call;
use super::*;
use crate::limits::{MANIFEST_BYTES, REDIRECTS};

const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0 a component";
const LIMIT: usize = 1 << 20;

fn reference(host: &str) -> Reference {
    format!("oci://{host}/plugins/sizer:v1").parse().unwrap()
}

fn client() -> Client {
    let options = Options { plain_http: true, timeout: Duration::from_secs(20), ..Options::new(LIMIT) };
    Client::new(options).unwrap()
}

fn user() -> Credentials {
    Credentials::Basic { username: "user".to_owned(), password: "secret".to_owned() }
}

/// The header of [`user`].
const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";

async fn pull(host: &str) -> Result<Artifact, Error> {
    client().pull(&reference(host), &user()).await
}

#[tokio::test]
async fn component_is_pulled_with_its_digests() {
    let host = serve(|path, _| if path.contains("/manifests/") { manifest(COMPONENT) } else { blob(COMPONENT) }).await;
    let artifact = pull(&host).await.unwrap();
    assert_eq!(artifact.component, COMPONENT);
    assert_eq!(artifact.component_digest, Digest::of(COMPONENT));
    let by_digest = reference(&host).at(&artifact.manifest_digest);
    assert_eq!(client().pull(&by_digest, &user()).await.unwrap(), artifact);
    assert_eq!(client().resolve(&by_digest, &user()).await.unwrap(), artifact.manifest_digest);

    let other = reference(&host).at(&Digest::of(b"other"));
    for error in
        [client().pull(&other, &user()).await.unwrap_err(), client().resolve(&other, &user()).await.unwrap_err()]
    {
        assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    }
}

#[tokio::test]
async fn content_that_differs_from_its_digest_is_refused() {
    let host = serve(|path, _| {
        let changed = [COMPONENT.get(1..).unwrap(), b"!"].concat();
        if path.contains("/manifests/") { manifest(COMPONENT) } else { blob(&changed) }
    });
    let error = pull(&host.await).await.unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }) && !error.is_transient(), "{error}");

    let host = serve(|_, _| {
        let mut reply = manifest(COMPONENT);
        reply.headers_mut().insert("docker-content-digest", Digest::of(b"other").as_str().parse().unwrap());
        reply
    });
    let error = pull(&host.await).await.unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
}

#[tokio::test]
async fn body_that_ends_early_is_truncated() {
    let short = COMPONENT.get(..10).unwrap();
    let host = serve(move |path, _| if path.contains("/manifests/") { manifest(COMPONENT) } else { blob(short) }).await;
    let error = pull(&host).await.unwrap_err();
    let expected = COMPONENT.len() as u64;
    assert!(matches!(error, Error::Truncated { expected: e, got: 10, .. } if e == expected), "{error}");

    // The connection breaks.
    let host = serve(move |path, _| {
        if path.contains("/manifests/") {
            return manifest(COMPONENT);
        }
        let parts = [Ok(Bytes::from_static(short)), Err(std::io::Error::other("broken"))];
        let mut reply = reply(200, Body::from_stream(futures::stream::iter(parts)));
        reply.headers_mut().insert(CONTENT_LENGTH, COMPONENT.len().into());
        reply
    });
    let error = pull(&host.await).await.unwrap_err();
    assert!(matches!(error, Error::Truncated { .. } | Error::Unreachable { .. }) && error.is_transient(), "{error}");
}

/// An endless body, which counts the bytes that were taken of it.
fn endless(taken: &Arc<AtomicU64>) -> Reply {
    let taken = Arc::clone(taken);
    let parts = futures::stream::repeat(Bytes::from_static(&[b' '; 16 << 10])).map(move |part| {
        taken.fetch_add(part.len() as u64, Ordering::Relaxed);
        Ok::<_, std::io::Error>(part)
    });
    reply(200, Body::from_stream(parts))
}

#[tokio::test]
async fn no_more_is_read_than_the_limit() {
    // What the system and the server have in their buffers.
    const SLACK: u64 = 16 << 20;
    let taken = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&taken);
    let host = serve(move |path, _| if path.contains("/manifests/") { manifest(COMPONENT) } else { endless(&counted) });
    let error = pull(&host.await).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit, .. } if limit == COMPONENT.len() as u64), "{error}");
    assert!(taken.load(Ordering::Relaxed) < SLACK);

    let counted = Arc::clone(&taken);
    let host = serve(move |_, _| endless(&counted)).await;
    for error in [
        pull(&host).await.unwrap_err(),
        client().signatures(&reference(&host), &user(), &Digest::of(b"")).await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::TooLarge { limit, .. } if limit == MANIFEST_BYTES as u64), "{error}");
    }
    assert!(taken.load(Ordering::Relaxed) < 2 * (SLACK + MANIFEST_BYTES as u64));
}

#[tokio::test]
async fn component_above_the_limit_is_not_asked_for() {
    let asked = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&asked);
    let host = serve(move |path, _| {
        if path.contains("/blobs/") {
            seen.store(true, Ordering::Relaxed);
        }
        manifest(&vec![0; LIMIT + 1])
    });
    let error = pull(&host.await).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit, .. } if limit == LIMIT as u64), "{error}");
    assert!(!asked.load(Ordering::Relaxed));
}

#[tokio::test]
async fn artifact_without_one_component_is_refused() {
    let layer = |kind: &str| json!({ "mediaType": kind, "digest": Digest::of(COMPONENT), "size": COMPONENT.len() });
    let wasm = "application/vnd.wasm.content.layer.v1+wasm";
    for (layers, part) in [
        (json!({ "layers": [] }), "none of its 0 layers"),
        (json!({ "layers": [layer("application/vnd.oci.image.layer.v1.tar+gzip")] }), "none of its 1 layers"),
        (json!({ "layers": [layer(wasm), layer("application/wasm")] }), "2 layers"),
        (json!({ "layers": [layer(wasm)], "manifests": [layer(wasm)] }), "list of manifests"),
        (json!({ "layers": [{ "mediaType": wasm, "digest": "sha512:00", "size": 1 }] }), "malformed"),
        (json!({ "layers": [{ "mediaType": wasm, "digest": Digest::of(b""), "size": -1 }] }), "malformed"),
    ] {
        let mut manifest = layers.clone();
        manifest["schemaVersion"] = 2.into();
        let host = serve(move |_, _| blob(manifest.to_string().as_bytes())).await;
        let error = pull(&host).await.unwrap_err();
        assert!(matches!(error, Error::NotAComponent { .. }) && error.to_string().contains(part), "{layers}: {error}");
    }
    let manifest = json!({ "schemaVersion": 2, "layers": [layer("text/plain"), layer(wasm)] });
    let host = serve(
        move |path, _| if path.contains("/blobs/") { blob(COMPONENT) } else { blob(manifest.to_string().as_bytes()) },
    );
    assert_eq!(pull(&host.await).await.unwrap().component, COMPONENT, "other layers are left alone");
}

#[tokio::test]
async fn failures_are_classified() {
    let class = |status: u16| async move {
        let body = r#"{"errors":[{"code":"CODE","message":"about\nit"}]}"#;
        let host = serve(move |_, _| reply(status, body.into())).await;
        let error = pull(&host).await.unwrap_err();
        assert!(status == 401 || status == 404 || error.to_string().contains("CODE about it"), "{error}");
        error
    };
    assert!(matches!(class(404).await, Error::NotFound(_)));
    assert!(matches!(class(403).await, Error::Unauthorized { .. }));
    assert!(matches!(class(401).await, Error::Unauthorized { .. }), "without a challenge");
    assert!(matches!(class(400).await, Error::Protocol { .. }));
    for status in [408, 429, 500, 503] {
        let error = class(status).await;
        assert!(matches!(error, Error::Unreachable { .. }) && error.is_transient(), "{error}");
    }
    // Port 1 of this machine has no listener.
    assert!(matches!(pull("127.0.0.1:1").await, Err(Error::Unreachable { .. })));
    let with_tls = Client::new(Options::new(LIMIT)).unwrap();
    let host = serve(|_, _| manifest(COMPONENT)).await;
    let error = with_tls.pull(&reference(&host), &user()).await.unwrap_err();
    assert!(matches!(error, Error::Tls { .. }) && error.to_string().contains("plain HTTP"), "{error}");
}

#[tokio::test]
async fn an_operation_ends_in_time() {
    let slow = || reply(200, Body::from_stream(futures::stream::pending::<std::io::Result<Bytes>>()));
    let host = serve(move |_, _| slow()).await;
    let options = Options { plain_http: true, timeout: Duration::from_millis(50), ..Options::new(LIMIT) };
    let error = Client::new(options).unwrap().pull(&reference(&host), &user()).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
}

/// An answer that asks for credentials.
fn challenge(challenge: &str) -> Reply {
    let mut reply = reply(401, Body::empty());
    reply.headers_mut().insert(WWW_AUTHENTICATE, challenge.parse().unwrap());
    reply
}

fn redirect(to: &str) -> Reply {
    let mut reply = reply(307, Body::empty());
    reply.headers_mut().insert(LOCATION, to.parse().unwrap());
    reply
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect_to_another_server() {
    let seen = Arc::new(AtomicBool::new(false));
    let leaked = Arc::clone(&seen);
    let storage = serve(move |_, headers| {
        leaked.fetch_or(headers.contains_key(AUTHORIZATION), Ordering::Relaxed);
        blob(COMPONENT)
    });
    let storage = storage.await;
    let host = serve(move |path, headers| {
        if headers.get(AUTHORIZATION).is_none_or(|header| header != BASIC) {
            challenge("Basic realm=\"x\"")
        } else if path.contains("/manifests/v1") {
            // A redirect on the same server keeps them.
            redirect("/elsewhere")
        } else if path == "/elsewhere" {
            manifest(COMPONENT)
        } else {
            redirect(&format!("http://{storage}/blob"))
        }
    });
    assert_eq!(pull(&host.await).await.unwrap().component, COMPONENT);
    assert!(!seen.load(Ordering::Relaxed), "the storage got the credentials");
}

#[tokio::test]
async fn redirects_end() {
    let host = serve(|_, _| redirect("/again")).await;
    let error = pull(&host).await.unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }) && error.to_string().contains("too often"), "{REDIRECTS}: {error}");
    for nowhere in ["//other/x", "relative", "file:///etc/passwd"] {
        let host = serve(move |_, _| redirect(nowhere)).await;
        assert!(matches!(pull(&host).await, Err(Error::Protocol { .. })), "{nowhere}");
    }
}

#[tokio::test]
async fn token_server_gets_the_credentials_and_the_registry_the_token() {
    let tokens = serve(|path, headers| {
        let known = headers.get(AUTHORIZATION).is_some_and(|header| header == BASIC);
        assert_eq!(path, "/token?service=registry&scope=repository:plugins/sizer:pull");
        if known { reply(200, json!({ "token": "t1" }).to_string().into()) } else { reply(401, Body::empty()) }
    });
    let tokens = tokens.await;
    let host = serve(move |path, headers| {
        if headers.get(AUTHORIZATION).is_none_or(|header| header != "Bearer t1") {
            challenge(&format!("Bearer realm=\"http://{tokens}/token\",service=\"registry\",scope=\"x\""))
        } else if path.contains("/manifests/") {
            manifest(COMPONENT)
        } else {
            blob(COMPONENT)
        }
    });
    let host = host.await;
    assert_eq!(pull(&host).await.unwrap().component, COMPONENT);
    let error = client().pull(&reference(&host), &Credentials::Anonymous).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
}

#[tokio::test]
async fn a_realm_without_tls_gets_no_credentials() {
    // The address is one of those for documentation, which nobody has. A connection would end in a timeout.
    for asks in ["Bearer realm=\"http://192.0.2.1/token\"", "Bearer realm=\"http://registry.example.com/token\""] {
        let host = serve(move |_, _| challenge(asks)).await;
        let error = pull(&host).await.unwrap_err();
        assert!(matches!(error, Error::Unauthorized { .. }) && error.to_string().contains("not sent"), "{error}");
    }
    for asks in ["Basic realm=\"x\"", "Digest realm=\"x\"", "Bearer realm=\"file:///x\""] {
        let host = serve(move |_, _| challenge(asks)).await;
        let error = client().pull(&reference(&host), &Credentials::Anonymous).await.unwrap_err();
        assert!(matches!(error, Error::Unauthorized { .. } | Error::Protocol { .. }), "{asks}: {error}");
    }
}

#[tokio::test]
async fn nothing_is_sent_without_tls_unless_that_is_allowed() {
    let asked = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&asked);
    let host = serve(move |_, _| {
        seen.store(true, Ordering::Relaxed);
        blob(COMPONENT)
    });
    // The address of a redirect or of a token server.
    let uri = format!("http://{}/", host.await).parse().unwrap();
    let call = Call { method: http::Method::GET, uri, headers: http::HeaderMap::new(), body: Bytes::new() };
    let error = Transport::new(&[], false).unwrap().send(call).await.err();
    assert!(matches!(&error, Some(Error::Protocol { .. })), "{error:?}");
    assert!(!asked.load(Ordering::Relaxed));
}

#[tokio::test]
async fn upload_to_another_server_gets_no_credentials() {
    let seen = Arc::new(AtomicBool::new(false));
    let leaked = Arc::clone(&seen);
    let storage = serve(move |path, headers| {
        assert!(path.contains("?state=1&digest=sha256:"), "{path}");
        leaked.fetch_or(headers.contains_key(AUTHORIZATION), Ordering::Relaxed);
        reply(201, Body::empty())
    });
    let storage = storage.await;
    let host = serve(move |path, headers| {
        if !headers.contains_key(AUTHORIZATION) {
            challenge("Basic realm=\"x\"")
        } else if path.ends_with("/blobs/uploads/") {
            let mut reply = redirect(&format!("http://{storage}/upload?state=1"));
            *reply.status_mut() = http::StatusCode::ACCEPTED;
            reply
        } else {
            reply(if path.contains("/blobs/") { 404 } else { 201 }, Body::empty())
        }
    });
    let upload = Upload {
        file_name: "sizer.wasm".to_owned(),
        component: Bytes::from_static(COMPONENT),
        imports: Vec::new(),
        exports: Vec::new(),
    };
    let host = host.await;
    let pushed = client().push(&reference(&host), &user(), &upload).await.unwrap();
    assert_eq!(pushed.component_digest, Digest::of(COMPONENT));
    assert!(!seen.load(Ordering::Relaxed), "the storage got the credentials");

    let by_digest = reference(&host).at(&pushed.manifest_digest);
    assert!(matches!(client().push(&by_digest, &user(), &upload).await, Err(Error::Options(_))));
    let large = Upload { component: vec![0; LIMIT + 1].into(), ..upload };
    assert!(matches!(client().push(&reference(&host), &user(), &large).await, Err(Error::TooLarge { .. })));
}

#[tokio::test]
async fn artifact_without_signatures_has_an_empty_list() {
    let host = serve(|_, _| reply(404, Body::empty())).await;
    let signatures = client().signatures(&reference(&host), &user(), &Digest::of(COMPONENT)).await;
    assert_eq!(signatures, Ok(Vec::new()));
    let host = serve(|_, _| reply(500, Body::empty())).await;
    let failed = client().signatures(&reference(&host), &user(), &Digest::of(COMPONENT)).await;
    assert!(matches!(failed, Err(Error::Unreachable { .. })), "a failure is no empty list");
}

#[test]
fn authorities_must_be_certificates() {
    for pem in ["", "secret", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"] {
        let options = Options { extra_ca: vec![pem.into()], ..Options::new(LIMIT) };
        assert!(matches!(Client::new(options).err(), Some(Error::Options(_))), "{pem}");
    }
}
