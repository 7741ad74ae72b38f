//! Tokens that are limited to one Sandbox, in every form of a request: the real authorization and the real directory,
//! before an API server in memory.

use http::{Request, Version};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use paddock_kube::clock::Clock;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use super::harness::{Answer, Client, Server, config};
use crate::authorize::tests::issuer::{Issuer, now, scoped, signed, token};
use crate::authorize::{Authorizer, ScopedTokens};
use crate::client::Places;
use crate::metrics::Metrics;
use crate::proxy::Proxy;
use crate::proxy::backend::Cluster;
use crate::sandboxes::tests::server::Server as ApiServer;
use crate::sandboxes::{self, HoldLimits, Sandboxes};
use crate::server::{Protocol, serve};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const UPGRADED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// A gateway before an API server with the Sandboxes `box` and `other`, and one program on the port of both.
struct World {
    address: std::net::SocketAddr,
    api: ApiServer,
    issuer: Issuer,
    agent: Server,
    proxy: std::sync::Arc<Proxy>,
    tasks: Vec<AbortHandle>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// The forms of a request that carry a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Header,
    LowerCaseScheme,
    Path,
    PathQuery,
    Host,
    HostQuery,
    AbsoluteUri,
    Upgrade,
    UpgradeByPathQuery,
    Http2,
    Http2Host,
}

impl Form {
    const ALL: [Form; 11] = [
        Form::Header,
        Form::LowerCaseScheme,
        Form::Path,
        Form::PathQuery,
        Form::Host,
        Form::HostQuery,
        Form::AbsoluteUri,
        Form::Upgrade,
        Form::UpgradeByPathQuery,
        Form::Http2,
        Form::Http2Host,
    ];

    /// The status of a request whose credential is good.
    fn good(self) -> u16 {
        match self {
            Form::PathQuery | Form::HostQuery => 302,
            Form::Upgrade | Form::UpgradeByPathQuery => 101,
            Form::Header
            | Form::LowerCaseScheme
            | Form::Path
            | Form::Host
            | Form::AbsoluteUri
            | Form::Http2
            | Form::Http2Host => 200,
        }
    }
}

impl World {
    async fn new() -> Self {
        let (api, issuer) = (ApiServer::default(), Issuer::default());
        api.running("box", "127.0.0.1");
        api.running("other", "127.0.0.1");
        let metrics = Metrics::new().unwrap();
        let of_sandboxes = sandboxes::Metrics::register(metrics.registry()).unwrap();
        let settings = sandboxes::Config { namespace: None, allow_loopback_pod_ip: true, hold: HoldLimits::default() };
        let sandboxes = Sandboxes::new(api.client(), settings, Clock::default(), of_sandboxes);
        let authorizer = Authorizer::reviewed(issuer.client(), ScopedTokens::Accept, Clock::default());
        let backend = Cluster { sandboxes: sandboxes.clone(), authorizer };
        let config = config();
        let places = Places::new(&config.limits);
        let proxy = std::sync::Arc::new(Proxy::new(config, backend, metrics));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let watches = sandboxes.clone();
        let tasks = vec![
            tokio::spawn(async move { watches.run().await }).abort_handle(),
            tokio::spawn(serve(listener, Protocol::Plain, places, proxy.clone())).abort_handle(),
        ];
        let agent = Server::start(|request| {
            let upgrades = request.to_ascii_lowercase().contains("upgrade: websocket");
            if upgrades { UPGRADED } else { OK }.to_owned()
        })
        .await;
        let world = Self { address, api, issuer, agent, proxy, tasks };
        super::harness::patience("the Sandboxes are listed", || sandboxes.waiting_for().is_empty()).await;
        world
    }

    async fn send(&self, request: &str) -> Answer {
        let mut client = Client(tokio::net::TcpStream::connect(self.address).await.unwrap());
        client.write(request).await;
        client.answer().await
    }

    /// Sends a request in one of the forms, and returns the status and the answer's own text.
    async fn ask(&self, form: Form, sandbox: &str, port: u16, token: &str) -> (u16, String) {
        let routed = format!("X-Sandbox-ID: {sandbox}\r\nX-Sandbox-Namespace: ns\r\nX-Sandbox-Port: {port}\r\n");
        let host = format!("{sandbox}--{port}.ns.sb.example.com");
        let path = format!("/sb/ns/{sandbox}/{port}/x");
        let bearer = format!("Authorization: Bearer {token}\r\n");
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
        let get = |uri: &str, host: &str, headers: &str| format!("GET {uri} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n");
        let request = match form {
            Form::Header => get("/x", "g", &format!("{routed}{bearer}")),
            Form::LowerCaseScheme => get("/x", "g", &format!("{routed}authorization: bearer {token}\r\n")),
            Form::Path => get(&path, "g", &bearer),
            Form::PathQuery => get(&format!("{path}?token={token}"), "g", ""),
            Form::Host => get("/x", &host, &bearer),
            Form::HostQuery => get(&format!("/x?a=b&token={token}"), &host, ""),
            Form::AbsoluteUri => get(&format!("http://{host}/x"), &host, &bearer),
            Form::Upgrade => get("/x", "g", &format!("{routed}{bearer}{upgrade}")),
            Form::UpgradeByPathQuery => get(&format!("{path}?token={token}"), "g", upgrade),
            Form::Http2 | Form::Http2Host => return self.ask_http2(form, &routed, &host, token).await,
        };
        let answer = self.send(&request).await;
        (answer.status, answer.body)
    }

    async fn ask_http2(&self, form: Form, routed: &str, host: &str, token: &str) -> (u16, String) {
        let stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let host = if form == Form::Http2Host { host } else { "g" };
        let mut request = Request::get(format!("http://{host}/x")).version(Version::HTTP_2);
        if form == Form::Http2 {
            for line in routed.lines() {
                let (name, value) = line.split_once(": ").unwrap();
                request = request.header(name, value);
            }
        }
        let request = request.header("authorization", format!("Bearer {token}")).body(Empty::<bytes::Bytes>::new());
        let (parts, body) = sender.send_request(request.unwrap()).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        connection.abort();
        (parts.status.as_u16(), String::from_utf8_lossy(&body).into_owned())
    }

    fn port(&self) -> u16 {
        self.agent.address.port()
    }
}

#[tokio::test]
async fn token_opens_its_sandbox_alone_in_every_form_of_a_request() {
    let world = World::new().await;
    let port = world.port();
    let of_port = |port: u16| format!("paddock.dev/sandbox/ns/box/sandboxes-box/{port}");
    let genuine = scoped(&["paddock.dev/sandbox/ns/box/sandboxes-box"]);
    let refused = [
        ("another Sandbox's", scoped(&["paddock.dev/sandbox/ns/other/sandboxes-other"]), 403),
        ("another namespace's", scoped(&["paddock.dev/sandbox/team/box/sandboxes-box"]), 403),
        ("a predecessor's", scoped(&["paddock.dev/sandbox/ns/box/former-uid"]), 403),
        ("another port's", scoped(&[&of_port(port ^ 1)]), 403),
        ("a claim's that does not have it", scoped(&["paddock.dev/claim/ns/mine/uid"]), 403),
        ("expired", token(&json!({ "aud": [of_port(port)], "exp": now() - 1 })), 401),
        ("altered", genuine.replacen('.', ".e30", 1), 401),
        ("unsigned", format!("{}.", genuine.rsplit_once('.').unwrap().0), 401),
    ];
    for form in Form::ALL {
        world.agent.requests.lock().clear();
        // Some wait a moment for the watch.
        let answers =
            futures::future::join_all(refused.iter().map(|(_, token, _)| world.ask(form, "box", port, token)));
        for ((what, token, status), (got, body)) in refused.iter().zip(answers.await) {
            assert_eq!(got, *status, "{form:?}, {what}: {body}");
            assert!(body.starts_with("{\"detail\":\"") && !body.contains(token.as_str()), "{form:?}, {what}: {body}");
        }
        let (got, _) = world.ask(form, "other", port, &genuine).await;
        assert_eq!(got, 403, "{form:?}: the token of box at other");
        assert!(world.agent.requests.lock().is_empty(), "{form:?}: nothing reaches a Sandbox");
        for good in [&genuine, &scoped(&[&of_port(port)])] {
            let (got, body) = world.ask(form, "box", port, good).await;
            assert_eq!(got, form.good(), "{form:?}: {body}");
        }
        for request in world.agent.requests.lock().iter() {
            assert!(!request.contains(&genuine) && !request.contains("token="), "{form:?}: {request}");
        }
    }
    world.agent.requests.lock().clear();
    for authority in [format!("box--{port}.ns.sb.example.com"), format!("127.0.0.1:{port}")] {
        let connect =
            format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nAuthorization: Bearer {genuine}\r\n");
        let routed = format!("X-Sandbox-ID: box\r\nX-Sandbox-Namespace: ns\r\nX-Sandbox-Port: {port}\r\n");
        assert_eq!(world.send(&format!("{connect}{routed}\r\n")).await.status, 400, "{authority}");
    }
    assert!(world.agent.requests.lock().is_empty(), "no CONNECT reaches a Sandbox");
}

#[tokio::test]
async fn cookie_that_carries_a_token_serves_its_sandbox_alone() {
    let world = World::new().await;
    let port = world.port();
    let both = scoped(&["paddock.dev/sandbox/ns/box/sandboxes-box", "paddock.dev/sandbox/ns/other/sandboxes-other"]);
    let one = scoped(&["paddock.dev/sandbox/ns/box/sandboxes-box"]);
    for token in [both, one] {
        let begun = world.send(&format!("GET /sb/ns/box/{port}/?token={token} HTTP/1.1\r\nHost: g\r\n\r\n")).await;
        assert_eq!(begun.status, 302);
        let cookie = begun.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        let get = async |path: String, host: String| {
            world.send(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n")).await.status
        };
        let (g, of) = ("g".to_owned(), |name: &str, port: u16| format!("/sb/ns/{name}/{port}/"));
        assert_eq!(get(of("box", port), g.clone()).await, 200);
        assert_eq!(get(of("box", port ^ 1), g.clone()).await, 401);
        assert_eq!(get(of("other", port), g.clone()).await, 401);
        assert_eq!(get("/".to_owned(), format!("other--{port}.ns.sb.example.com")).await, 401);
        assert_eq!(get("/".to_owned(), format!("box--{port}.ns.sb.example.com")).await, 200);
        // The token inside of the cookie ends with its Sandbox.
        world.api.delete("sandboxes", "box");
        world.api.put("sandboxes", "box", json!({ "metadata": { "uid": "later" }, "status": { "mode": "Running" } }));
        world.api.pod("box", "later", "127.0.0.1");
        super::harness::patience_for("the later Sandbox is known", async || {
            get(of("box", port), g.clone()).await == 403
        })
        .await;
        world.api.delete("sandboxes", "box");
        world.api.running("box", "127.0.0.1");
        super::harness::patience_for("the first Sandbox is back", async || {
            get(of("box", port), g.clone()).await == 200
        })
        .await;
    }
}

#[tokio::test]
async fn decisions_are_counted_and_no_output_has_the_token() {
    let world = World::new().await;
    let (port, good) = (world.port(), scoped(&["paddock.dev/sandbox/ns/box/sandboxes-box"]));
    assert_eq!(world.ask(Form::Header, "box", port, &good).await.0, 200);
    assert_eq!(world.ask(Form::Header, "other", port, &good).await.0, 403);
    let exposition = String::from_utf8(world.proxy.metrics.exposition().unwrap()).unwrap();
    assert!(exposition.contains("paddock_gateway_refusals_total{reason=\"Forbidden\"} 1\n"), "{exposition}");
    for part in good.split('.') {
        assert!(!exposition.contains(part), "{exposition}");
    }
}

#[tokio::test]
async fn token_of_a_claim_asks_about_no_sandbox_of_others_and_a_forged_one_learns_nothing() {
    let world = World::new().await;
    let port = world.port();
    let genuine = scoped(&["paddock.dev/claim/ns/mine/claim-1"]);
    for name in ["box", "other", "nowhere", "elsewhere"] {
        let (status, body) = world.ask(Form::Header, name, port, &genuine).await;
        assert_eq!(status, 403, "{name}: {body}");
        assert!(body.contains("a claim that does not have Sandbox"), "{name}: {body}");
    }
    assert_eq!((world.issuer.reviews(), world.issuer.rights()), (1, 0));
    let claims = |scope: &str| json!({ "aud": [scope], "exp": now() + 600 });
    let forged = |scope: &str| signed(&json!({ "alg": "ES256" }), &claims(scope), "another key");
    let mut answers = std::collections::BTreeSet::new();
    for scope in
        ["paddock.dev/claim/ns/mine/claim-1", "paddock.dev/sandbox/ns/box/another", "paddock.dev/sandbox/ns/nowhere/u"]
    {
        for name in ["box", "nowhere"] {
            answers.insert(world.ask(Form::Header, name, port, &forged(scope)).await);
        }
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert!(answers.iter().all(|(status, _)| *status == 401), "{answers:?}");
    // The Sandbox becomes that of the claim while a request waits.
    let owner = json!([{
        "apiVersion": "extensions.agents.x-k8s.io/v1beta1", "kind": "SandboxClaim", "name": "mine", "uid": "claim-1",
        "controller": true,
    }]);
    world.api.change("sandboxes", "box", &json!({ "metadata": { "ownerReferences": owner } }));
    super::harness::patience_for("the claim has the Sandbox", async || {
        world.ask(Form::Header, "box", port, &genuine).await.0 == 200
    })
    .await;
}
