//! Requests for tokens, before an API server that has some objects.

use std::sync::{Arc, Mutex};

use http::{Method, Response};
use kube::client::Body;
use paddock_api::kind::Kind;
use serde_json::{Value, json};
use tower::service_fn;

use super::*;
use crate::values::parsed;

/// The path of the tokens of `sandbox-client` in `team`.
const TOKENS: &str = "/api/v1/namespaces/team/serviceaccounts/sandbox-client/token";
const REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

/// The answer to a method and a path: its status, and its body.
type Known = (Method, String, u16, Value);

/// An API server: the answers by method and path, and what was sent to it.
#[derive(Clone, Default)]
struct Server {
    answers: Arc<Mutex<Vec<Known>>>,
    sent: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Server {
    /// A server with the Sandbox `box`, whose account may use it.
    fn new() -> Self {
        let server = Self::default();
        server.has(&format!("{}/box", sandboxes()), object("Sandbox", "box", "uid-of-box"));
        server.issues(3600);
        server.allows(true);
        server
    }

    fn has(&self, path: &str, object: Value) {
        self.answer(Method::GET, path, 200, object);
    }

    fn answer(&self, method: Method, path: &str, code: u16, answer: Value) {
        let mut answers = self.answers.lock().unwrap();
        answers.retain(|(known, of, ..)| (known, of.as_str()) != (&method, path));
        answers.push((method, path.to_owned(), code, answer));
    }

    fn issues(&self, seconds: u32) {
        let status = json!({ "token": "the.token.itself", "expirationTimestamp": "2026-11-29T12:00:00Z" });
        let answer = json!({ "spec": { "audiences": [], "expirationSeconds": seconds }, "status": status });
        self.answer(Method::POST, TOKENS, 201, answer);
    }

    fn allows(&self, allowed: bool) {
        self.answer(Method::POST, REVIEWS, 201, json!({ "spec": {}, "status": { "allowed": allowed } }));
    }

    fn refuses(&self, method: Method, path: &str, code: u16, kind: &str) {
        let details = json!({ "kind": kind, "name": "x" });
        self.answer(
            method,
            path,
            code,
            json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "no", "reason": "",
                "details": details,
            }),
        );
    }

    fn client(&self) -> Client {
        let server = self.clone();
        let service = service_fn(move |request: http::Request<Body>| {
            let server = server.clone();
            async move {
                let (parts, body) = request.into_parts();
                let path = parts.uri.path().to_owned();
                let sent = serde_json::from_slice(&body.collect_bytes().await.unwrap()).unwrap_or_default();
                server.sent.lock().unwrap().push((path.clone(), sent));
                let known =
                    server.answers.lock().unwrap().iter().find(|a| (&a.0, &a.1) == (&parts.method, &path)).cloned();
                let missing = json!({ "kind": "Status", "status": "Failure", "code": 404, "message": "not found", "reason": "NotFound" });
                let (code, answer) = known.map_or((404, missing), |(_, _, code, answer)| (code, answer));
                let answer = Response::builder().status(code).body(Body::from(answer.to_string().into_bytes()));
                Ok::<_, std::convert::Infallible>(answer.unwrap())
            }
        });
        Client::new(service, "default")
    }

    async fn issue(&self, args: &[&str]) -> Result<(String, String), String> {
        let request = request(parsed::<TokenArgs>(args)?, "team").map_err(|error| error.to_string())?;
        let issued = issue(&self.client(), &self.client(), &request).await.map_err(|error| format!("{error:#}"))?;
        Ok((issued.token, issued.notes.join("\n")))
    }

    /// What was sent to a path last.
    fn last(&self, path: &str) -> Value {
        let sent = self.sent.lock().unwrap();
        sent.iter().rev().find(|(of, _)| of == path).map(|(_, body)| body.clone()).unwrap_or_default()
    }
}

fn sandboxes() -> String {
    format!("/apis/{}/namespaces/team/sandboxes", Kind::Sandbox.api_version())
}

fn claims(kind: Kind) -> String {
    format!("/apis/{}/namespaces/team/sandboxclaims", kind.api_version())
}

fn object(kind: &str, name: &str, uid: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": kind, "metadata": { "name": name, "namespace": "team", "uid": uid } })
}

#[tokio::test]
async fn token_is_limited_to_the_uid_and_the_ports() {
    let server = Server::new();
    let mut claimed = object("SandboxClaim", "mine", "uid-of-mine");
    claimed["status"] = json!({ "sandbox": { "name": "pool-x1" } });
    server.has(&format!("{}/mine", claims(Kind::Claim)), claimed);
    for (args, audiences, used) in [
        (&["box"][..], &["paddock.dev/sandbox/team/box/uid-of-box"][..], "box"),
        (&["box", "--port=8888"], &["paddock.dev/sandbox/team/box/uid-of-box/8888"], "box"),
        (
            &["box", "--port=9000,80", "--port=80"],
            &["paddock.dev/sandbox/team/box/uid-of-box/80", "paddock.dev/sandbox/team/box/uid-of-box/9000"],
            "box",
        ),
        (&["--claim=mine"], &["paddock.dev/claim/team/mine/uid-of-mine"], "pool-x1"),
        (&["--claim=mine", "--port=1"], &["paddock.dev/claim/team/mine/uid-of-mine/1"], "pool-x1"),
    ] {
        assert_eq!(server.issue(args).await, Ok(("the.token.itself".to_owned(), String::new())), "{args:?}");
        let wanted = server.last(TOKENS)["spec"].clone();
        assert_eq!((&wanted["audiences"], &wanted["expirationSeconds"]), (&json!(audiences), &json!(3600)), "{args:?}");
        assert_eq!(wanted["boundObjectRef"], Value::Null);
        let asked = &server.last(REVIEWS)["spec"]["resourceAttributes"];
        let right = json!({
            "verb": "create", "group": "agents.x-k8s.io", "resource": "sandboxes", "subresource": "proxy",
            "namespace": "team", "name": used,
        });
        assert_eq!(*asked, right, "{args:?}");
    }
    server.issue(&["box", "--ttl=30m", "--bound-object-kind=secret", "--bound-object-name=s"]).await.unwrap();
    let wanted = server.last(TOKENS)["spec"].clone();
    let bound = json!({ "apiVersion": "v1", "kind": "Secret", "name": "s" });
    assert_eq!((&wanted["expirationSeconds"], &wanted["boundObjectRef"]), (&json!(1800), &bound));
}

#[tokio::test]
async fn errors_say_what_is_missing() {
    type Change = fn(&Server);
    let cases: [(&[&str], Change, &str); 14] = [
        (&["gone"], |_| {}, "there is no Sandbox gone in namespace team"),
        (&["--claim=gone"], |_| {}, "there is no SandboxClaim gone in namespace team"),
        (&["box"], |s| s.refuses(Method::GET, &format!("{}/box", sandboxes()), 403, ""), "you may not get sandboxes"),
        (
            &["--claim=a"],
            |s| s.refuses(Method::GET, &format!("{}/a", claims(Kind::SeedClaim)), 403, ""),
            "you may not get sandboxclaims",
        ),
        (
            &["box"],
            |s| s.refuses(Method::POST, TOKENS, 404, "serviceaccounts"),
            "kubectl -n team create serviceaccount",
        ),
        (&["box"], |s| s.refuses(Method::POST, TOKENS, 404, "secrets"), "the API server issues no token: no"),
        (&["box"], |s| s.refuses(Method::POST, TOKENS, 403, "serviceaccounts"), "create serviceaccounts/token"),
        (&["box"], |s| s.refuses(Method::POST, TOKENS, 422, ""), "the API server issues no token: no"),
        (
            &["box"],
            |s| s.allows(false),
            "ServiceAccount sandbox-client may not use Sandbox box (create sandboxes/proxy): kubectl -n team create \
             rolebinding sandbox-client --clusterrole=paddock-sandbox-user --serviceaccount=team:sandbox-client",
        ),
        (
            &["box"],
            |s| {
                let mut old = object("Sandbox", "box", "u");
                old["metadata"]["deletionTimestamp"] = json!("2026-11-29T12:00:00Z");
                s.has(&format!("{}/box", sandboxes()), old);
            },
            "Sandbox box in namespace team is being deleted",
        ),
        (
            &["box"],
            |s| {
                let mut warm = object("Sandbox", "box", "u");
                warm["metadata"]["ownerReferences"] = json!([{
                    "apiVersion": "extensions.agents.x-k8s.io/v1beta1", "kind": "SandboxWarmPool", "name": "p", "uid": "p",
                    "controller": true,
                }]);
                s.has(&format!("{}/box", sandboxes()), warm);
            },
            "belongs to pool p",
        ),
        (
            &["--claim=two"],
            |s| {
                for kind in [Kind::Claim, Kind::SeedClaim] {
                    s.has(&format!("{}/two", claims(kind)), object("SandboxClaim", "two", kind.group()));
                }
            },
            "choose one with --surface",
        ),
        (&["box", "--ttl=9m59s"], |_| {}, "at least 10m"),
        (&["box", "--claim=a"], |_| {}, "cannot be used with"),
    ];
    for (args, change, wanted) in cases {
        let server = Server::new();
        change(&server);
        let error = server.issue(args).await.unwrap_err();
        assert!(error.contains(wanted), "{args:?}: {error}");
        assert!(!error.contains("the.token.itself"), "{error}");
    }
    for (args, wanted) in [
        (&[][..], "required"),
        (&["box", "--port=0"], "--port"),
        (&["box", "--port=1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17"], "at most 16 ports"),
        (&["box", "--bound-object-kind=node"], "pod, secret"),
        (&["box", "--bound-object-kind=pod"], "--bound-object-name"),
        (&["box", "--namespace=A"], "not the name of a namespace"),
    ] {
        let error = Server::new().issue(args).await.unwrap_err();
        assert!(error.contains(wanted), "{args:?}: {error}");
    }
}

#[tokio::test]
async fn what_a_user_should_know_is_a_note_beside_the_token() {
    let server = Server::new();
    server.issues(1200);
    let (_, notes) = server.issue(&["box"]).await.unwrap();
    assert!(notes.contains("for 1200s, and not for the 3600s"), "{notes}");
    let server = Server::new();
    server.refuses(Method::POST, REVIEWS, 403, "");
    let (token, notes) = server.issue(&["box"]).await.unwrap();
    assert!(notes.contains("you may not impersonate it") && !notes.contains(&token), "{notes}");
    let server = Server::new();
    server.refuses(Method::POST, REVIEWS, 500, "");
    let (_, notes) = server.issue(&["box"]).await.unwrap();
    assert!(notes.contains("the API server could not be asked") && !notes.contains("impersonate"), "{notes}");
    // A claim without a Sandbox: only the right on every Sandbox can be asked about.
    let server = Server::new();
    let path = format!("{}/mine", claims(Kind::SeedClaim));
    server.has(&path, object("SandboxClaim", "mine", "u"));
    assert_eq!(server.issue(&["--claim=mine"]).await.unwrap().1, "");
    assert_eq!(server.last(REVIEWS)["spec"]["resourceAttributes"]["name"], Value::Null);
    server.allows(false);
    let (_, notes) = server.issue(&["--claim=mine"]).await.unwrap();
    assert!(notes.contains("has no Sandbox yet"), "{notes}");
}
