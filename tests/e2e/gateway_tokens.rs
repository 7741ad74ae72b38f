//! Tokens that are limited to one Sandbox or claim: `paddock token` requests them from a real API server, and the gateway
//! has them reviewed there.

use std::path::Path;
use std::process::Stdio;

use paddock_cluster::{Cluster, eventually_some};
use serde_json::{Value, json};
use tokio::process::Command;

use super::gateway::{Agent, Gateway, give_address, on_demand};
use super::json::{ready, text, uid};
use super::kinds::{CLAIM, SANDBOX};
use super::manifests::{claim, pool, template};
use super::namespace::TestNamespace;
use super::programs;
use super::setup::{namespace, setup};
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        token_opens_one_sandbox_and_ends_with_it,
        forged_and_outdated_tokens_are_refused,
        token_that_is_good_for_the_api_server_too_is_refused,
        token_of_a_claim_ends_with_the_claim,
        users_are_told_what_they_lack,
    ]
}

/// Runs `paddock token`, and returns its output, or else its error.
async fn paddock_token(kubeconfig: &Path, ns: &TestNamespace, args: &[&str]) -> Result<String, String> {
    let mut command = Command::new(programs::paddock().await);
    command.args(["token", "-n", &ns.namespace]).arg("--kubeconfig").arg(kubeconfig).args(args);
    let output = command.stdin(Stdio::null()).output().await.expect("paddock starts");
    let [said, complained] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("a text"));
    if output.status.success() { Ok(said) } else { Err(complained) }
}

/// A namespace whose ServiceAccount `sandbox-client` may use every Sandbox.
async fn with_client(name: &str) -> TestNamespace {
    let ns = namespace(name).await;
    ns.kubectl(&["create", "serviceaccount", "sandbox-client"], None).await.expect("an account");
    let subject = format!("--serviceaccount={}:sandbox-client", ns.namespace);
    let bind = ["create", "rolebinding", "sandbox-client", "--clusterrole=paddock-sandbox-user", &subject];
    ns.kubectl(&bind, None).await.expect("a binding");
    ns
}

/// A token. The API server may know the right of the ServiceAccount a moment later.
async fn token(ns: &TestNamespace, args: &[&str]) -> String {
    let admin = setup().await.cluster.kubeconfig();
    let printed = eventually_some("a token", async || paddock_token(&admin, ns, args).await).await;
    // Nothing but the token is printed, so that a shell can use it.
    let token = printed.strip_suffix('\n').expect("one line").to_owned();
    assert!(token.split('.').count() == 3 && !token.contains(char::is_whitespace), "{printed}");
    token
}

async fn running(ns: &TestNamespace, name: &str) -> Value {
    ns.create(on_demand(name)).await;
    let sandbox = ns.until(SANDBOX, name, "Ready", ready).await;
    give_address(ns, name).await;
    sandbox
}

/// The status and the body of a request with a token.
async fn ask(gateway: &Gateway, ns: &TestNamespace, sandbox: &str, port: u16, token: &str) -> (String, String) {
    let (head, body) = gateway.get(ns, sandbox, port, &format!("Authorization: Bearer {token}\r\n")).await;
    answer((head, body))
}

/// The status and the body of an answer.
fn answer((head, body): (String, String)) -> (String, String) {
    (head.split(' ').nth(1).unwrap_or_default().to_owned(), body)
}

async fn token_opens_one_sandbox_and_ends_with_it() {
    let ns = with_client("gateway-tokens").await;
    let agent = Agent::start().await;
    let gateway = Gateway::of(&ns, "gateway-tokens", &[]).await;
    running(&ns, "mine").await;
    running(&ns, "other").await;
    let port = agent.port.to_string();
    let of_sandbox = token(&ns, &["mine"]).await;
    let of_port = token(&ns, &["mine", "--port", &port]).await;
    let of_another_port = token(&ns, &["mine", "--port", "1", "--ttl", "10m"]).await;
    for (name, token, wanted) in [
        ("mine", &of_sandbox, ("200", "hi")),
        ("mine", &of_port, ("200", "hi")),
        ("other", &of_sandbox, ("403", "another Sandbox")),
        ("other", &of_port, ("403", "another Sandbox")),
        ("mine", &of_another_port, ("403", "not for port")),
    ] {
        let (status, body) = ask(&gateway, &ns, name, agent.port, token).await;
        assert!(status == wanted.0 && body.contains(wanted.1), "{name} {wanted:?}: {status} {body}");
    }
    // The API server itself takes no such token.
    let review =
        json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": { "token": of_sandbox } });
    let review = ns.post("/apis/authentication.k8s.io/v1/tokenreviews", &review).await.expect("a review");
    assert_ne!(review["status"]["authenticated"], json!(true), "{review}");
    // Another Sandbox has the name.
    ns.delete(SANDBOX, "mine").await;
    ns.until_gone(SANDBOX, "mine").await;
    running(&ns, "mine").await;
    let new = token(&ns, &["mine"]).await;
    eventually_some("the later Sandbox answers", async || match ask(&gateway, &ns, "mine", agent.port, &new).await {
        (status, _) if status == "200" => Ok(()),
        answer => Err(format!("{answer:?}")),
    })
    .await;
    for old in [&of_sandbox, &of_port] {
        let (status, body) = ask(&gateway, &ns, "mine", agent.port, old).await;
        assert!(status == "403" && body.contains("another Sandbox of the name mine"), "{status} {body}");
    }
    // The deletion of the object to which a token is bound revokes the token.
    ns.kubectl(&["create", "secret", "generic", "session"], None).await.expect("a Secret");
    let bound = token(&ns, &["mine", "--bound-object-kind", "secret", "--bound-object-name", "session"]).await;
    ns.kubectl(&["delete", "secret", "session"], None).await.expect("no Secret");
    let (status, body) = ask(&gateway, &ns, "mine", agent.port, &bound).await;
    assert!(status == "401" && body.contains("has been revoked"), "{status} {body}");
    let (log, metrics) = (gateway.log(), gateway.metrics().await);
    for part in [&of_sandbox, &new, &bound].into_iter().flat_map(|token| token.split('.').skip(1)) {
        assert!(!log.contains(part) && !metrics.contains(part), "no output has a part of a token");
    }
    // The log says who used a token, and who misused one.
    let user = format!("system:serviceaccount:{}:sandbox-client", ns.namespace);
    for word in ["200", "Forbidden"] {
        let line = log.lines().find(|line| line.contains(&user) && line.contains(word));
        assert!(line.is_some(), "{word}: {log}");
    }
}

async fn forged_and_outdated_tokens_are_refused() {
    let ns = with_client("gateway-forged").await;
    let agent = Agent::start().await;
    let gateway = Gateway::of(&ns, "gateway-forged", &[]).await;
    let mine = running(&ns, "mine").await;
    let other = running(&ns, "other").await;
    let cluster: &Cluster = &setup().await.cluster;
    let genuine = token(&ns, &["mine"]).await;
    let claims = claims(&genuine);
    let now = claims["iat"].as_i64().expect("a time");
    let resigned = |change: Value| {
        let mut claims = claims.clone();
        super::manifests::merge(&mut claims, &change);
        cluster.sign_token(&claims).expect("a token")
    };
    let scope = |sandbox: &Value, uid: &str| {
        format!("paddock.dev/sandbox/{}/{}/{uid}", ns.namespace, text(sandbox, "/metadata/name"))
    };
    // Without this control, the cases below would prove nothing.
    let (status, body) = ask(&gateway, &ns, "mine", agent.port, &resigned(json!({ "jti": "another" }))).await;
    assert_eq!((status.as_str(), body.as_str()), ("200", "hi"));
    let parts: Vec<&str> = genuine.split('.').collect();
    let to_other = encoded(&{
        let mut claims = claims.clone();
        claims["aud"] = json!([scope(&other, uid(&other))]);
        claims
    });
    let header = |value: Value| encoded(&value);
    let public_key = cluster.token_public_key().expect("a key");
    let hs256 = {
        let signed = format!("{}.{to_other}", header(json!({ "alg": "HS256", "typ": "JWT" })));
        format!("{signed}.{}", paddock_cluster::hmac_sha256(public_key.as_bytes(), signed.as_bytes()))
    };
    for (what, sandbox, token, wanted) in [
        ("altered claims", "other", format!("{}.{to_other}.{}", parts[0], parts[2]), "401"),
        ("alg none", "other", format!("{}.{to_other}.", header(json!({ "alg": "none" }))), "401"),
        ("HS256 with the public key", "other", hs256, "401"),
        ("expired for 30 s", "mine", resigned(json!({ "exp": now - 30 })), "401"),
        ("expired for an hour", "mine", resigned(json!({ "exp": now - 3600 })), "401"),
        ("not valid yet", "mine", resigned(json!({ "nbf": now + 3600 })), "401"),
        ("another issuer", "mine", resigned(json!({ "iss": "https://elsewhere.example.com" })), "401"),
        ("another audience", "mine", resigned(json!({ "aud": ["https://elsewhere.example.com"] })), "401"),
        ("an unknown scope", "mine", resigned(json!({ "aud": ["paddock.dev/all"] })), "401"),
        ("another UID", "mine", resigned(json!({ "aud": [scope(&mine, uid(&other))] })), "403"),
        ("another Sandbox", "mine", resigned(json!({ "aud": [scope(&other, uid(&other))] })), "403"),
        (
            "an earlier account of the name",
            "mine",
            resigned(json!({ "kubernetes.io": { "serviceaccount": { "uid": "gone" } } })),
            "401",
        ),
    ] {
        let (status, body) = ask(&gateway, &ns, sandbox, agent.port, &token).await;
        assert!(status == wanted && body.contains("\"detail\""), "{what}: {status} {body}");
    }
}

/// A genuine token for the API server and for one Sandbox, in every spelling that the API server takes.
async fn token_that_is_good_for_the_api_server_too_is_refused() {
    let ns = with_client("gateway-mixed").await;
    let agent = Agent::start().await;
    let cluster = &setup().await.cluster;
    let mine = running(&ns, "mine").await;
    running(&ns, "other").await;
    let scope = format!("paddock.dev/sandbox/{}/mine/{}", ns.namespace, uid(&mine));
    let path = format!("/api/v1/namespaces/{}/serviceaccounts/sandbox-client/token", ns.namespace);
    let request = async |audiences: Value| {
        let spec = json!({ "audiences": audiences, "expirationSeconds": 600 });
        let request = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec });
        let answer = ns.post(&path, &request).await.expect("a token");
        text(&answer, "/status/token").to_owned()
    };
    let plain = claims(&cluster_token(&ns).await);
    let issuer = text(&plain, "/iss").to_owned();
    let mixed = request(json!([issuer, scope])).await;
    let parts: Vec<&str> = mixed.split('.').collect();
    let (begin, end) = parts[1].split_at(8);
    let mut spelled = vec![
        ("as it was issued", mixed.clone()),
        ("a word behind it", format!("{mixed} .")),
        ("a line end in the claims", format!("{}.{begin}\n{end}.{}", parts[0], parts[2])),
    ];
    let mut changed = claims(&mixed);
    while encoded(&changed).len().is_multiple_of(4) {
        changed["filler"] = json!(format!("{}x", changed["filler"].as_str().unwrap_or_default()));
    }
    let resigned = cluster.sign_token(&changed).expect("a token");
    spelled.push(("bits that fill up the claims", with_other_bits(&resigned)));
    for (what, token) in &spelled {
        let review =
            json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": { "token": token } });
        let review = ns.post("/apis/authentication.k8s.io/v1/tokenreviews", &review).await.expect("a review");
        assert_eq!(review["status"]["authenticated"], json!(true), "{what}: the API server takes it: {review}");
    }
    for rule in ["accept", "require", "refuse"] {
        let flags = [
            "--authz-cookie-name=session",
            "--authz-cookie-query-param=token",
            "--path-routing-prefix=/sb",
            &format!("--authz-scoped-tokens={rule}"),
        ];
        let gateway = Gateway::of(&ns, &format!("gateway-mixed-{rule}"), &flags).await;
        for (what, token) in &spelled {
            for name in ["mine", "other"] {
                let (status, body) = if token.contains('\n') {
                    let query = token.replace('\n', "%0A");
                    let path = format!("/sb/{}/{name}/{}/?token={query}", ns.namespace, agent.port);
                    answer(gateway.get_path(&path, "").await)
                } else {
                    ask(&gateway, &ns, name, agent.port, token).await
                };
                assert!(status == "401", "{rule} {what} {name}: {status} {body}");
            }
        }
    }
}

/// A token of the ServiceAccount for the API server alone.
async fn cluster_token(ns: &TestNamespace) -> String {
    let printed = ns.kubectl(&["create", "token", "sandbox-client"], None).await.expect("a token");
    printed.trim().to_owned()
}

/// The token with other bits behind the last byte of its claims, which decode to the same claims.
fn with_other_bits(token: &str) -> String {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let parts: Vec<&str> = token.split('.').collect();
    let (rest, last) = parts[1].split_at(parts[1].len() - 1);
    let digit = DIGITS.find(last).expect("a digit");
    let other = DIGITS.chars().nth(digit ^ 1).expect("a digit");
    format!("{}.{rest}{other}.{}", parts[0], parts[2])
}

async fn token_of_a_claim_ends_with_the_claim() {
    let ns = with_client("gateway-claims").await;
    let agent = Agent::start().await;
    let gateway = Gateway::of(&ns, "gateway-claims", &[]).await;
    ns.create(template("t", json!({}))).await;
    ns.create(pool("p", "t", json!({ "replicas": 1 }))).await;
    for name in ["a", "b"] {
        ns.create(claim(name, "p", json!({}))).await;
        ns.until(CLAIM, name, "Ready", ready).await;
    }
    let sandbox = async |claim: &str| text(&ns.get(CLAIM, claim).await, "/status/sandbox/name").to_owned();
    let (of_a, of_b) = (sandbox("a").await, sandbox("b").await);
    give_address(&ns, &of_a).await;
    give_address(&ns, &of_b).await;
    let (a, b) = (token(&ns, &["--claim", "a"]).await, token(&ns, &["--claim", "b"]).await);
    eventually_some("the Sandbox of the claim answers", async || {
        match ask(&gateway, &ns, &of_a, agent.port, &a).await {
            (status, _) if status == "200" => Ok(()),
            answer => Err(format!("{answer:?}")),
        }
    })
    .await;
    let (status, body) = ask(&gateway, &ns, &of_a, agent.port, &b).await;
    assert!(status == "403" && body.contains("a claim that does not have Sandbox"), "{status} {body}");
    let unlimited = cluster_token(&ns).await;
    // The Sandbox outlives the claim, with the same UID.
    ns.kubectl(&["delete", "sandboxclaims.extensions.agents.x-k8s.io", "a", "--cascade=orphan"], None)
        .await
        .expect("a deletion");
    eventually_some("the token of the deleted claim is refused", async || {
        match ask(&gateway, &ns, &of_a, agent.port, &a).await {
            (status, _) if status == "403" => Ok(()),
            answer => Err(format!("{answer:?}")),
        }
    })
    .await;
    let (status, body) = ask(&gateway, &ns, &of_a, agent.port, &unlimited).await;
    assert!(status == "200", "the Sandbox itself answers: {status} {body}");
}

async fn users_are_told_what_they_lack() {
    let ns = namespace("gateway-minters").await;
    let cluster = &setup().await.cluster;
    let admin = cluster.kubeconfig();
    running(&ns, "box").await;
    let refused = async |kubeconfig: &Path, args: &[&str], wanted: &str| {
        let error = paddock_token(kubeconfig, &ns, args).await.expect_err(wanted);
        assert!(error.starts_with("error: ") && error.contains(wanted), "{args:?}: {error}");
    };
    refused(&admin, &["gone"], "there is no Sandbox gone in namespace").await;
    refused(&admin, &["--claim", "gone"], "there is no SandboxClaim gone in namespace").await;
    refused(&admin, &["box"], "there is no ServiceAccount sandbox-client in namespace").await;
    ns.kubectl(&["create", "serviceaccount", "sandbox-client"], None).await.expect("an account");
    refused(&admin, &["box"], "--clusterrole=paddock-sandbox-user").await;
    let missing = ["box", "--bound-object-kind", "secret", "--bound-object-name", "gone"];
    refused(&admin, &missing, "the API server issues no token").await;
    // A user with the role edit may request tokens, and one with the role view may not.
    let subject = format!("--serviceaccount={}:sandbox-client", ns.namespace);
    let bind = ["create", "rolebinding", "sandbox-client", "--clusterrole=paddock-sandbox-user", &subject];
    ns.kubectl(&bind, None).await.expect("a binding");
    let mut users = Vec::new();
    for role in ["edit", "view"] {
        let group = format!("{role}ors-of-{}", ns.namespace);
        let bind = ["create", "rolebinding", role, &format!("--clusterrole={role}"), &format!("--group={group}")];
        ns.kubectl(&bind, None).await.expect("a binding");
        users.push(cluster.kubeconfig_for_user(&format!("{role}or"), &[&group]).expect("a user"));
    }
    eventually_some("a user with the role edit gets a token", async || {
        paddock_token(&users[0], &ns, &["box"]).await.map(|token| assert_eq!(token.lines().count(), 1))
    })
    .await;
    eventually_some("a user with the role view is refused by the API server", async || {
        match paddock_token(&users[1], &ns, &["box"]).await {
            Err(error) if error.contains("you may not create tokens of ServiceAccount sandbox-client") => Ok(()),
            answer => Err(format!("{answer:?}")),
        }
    })
    .await;
    let stranger = cluster.kubeconfig_for_user("stranger", &["strangers"]).expect("a user");
    refused(&stranger, &["box"], "you may not get sandboxes.agents.x-k8s.io in namespace").await;
}

/// The claims of a token.
fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).expect("three parts");
    serde_json::from_slice(&paddock_cluster::base64url_decoded(part)).expect("claims")
}

fn encoded(part: &Value) -> String {
    paddock_cluster::base64url(part.to_string().as_bytes())
}
