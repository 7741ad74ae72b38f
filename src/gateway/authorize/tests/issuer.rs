//! An API server that has issued tokens of ServiceAccounts, and answers reviews of them as a real one does.
//!
//! It reads tokens as little strictly as a real one: it takes the first word, its base64 has line ends and any bits at the
//! end, and the signature is compared with what was read.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use kube::Client;
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tower::service_fn;

/// The issuer of the tokens, which is the audience of the API server itself.
pub(crate) const CLUSTER: &str = "https://kubernetes.default.svc";

/// The time by which the API server lets a token be too old or too new.
const LEEWAY: i64 = 60;

#[derive(Default)]
struct State {
    /// The subjects whose tokens have been revoked.
    revoked: BTreeSet<String>,
    /// The Sandboxes that nobody may use.
    denied: BTreeSet<String>,
    /// Whether an authenticator that knows no audiences accepts every genuine token.
    unaware: bool,
    away: bool,
    reviews: usize,
    rights: usize,
    /// What happens while a token is reviewed.
    meanwhile: Option<fn()>,
}

/// The API server. Clones are handles on the same one.
#[derive(Clone, Default)]
pub(crate) struct Issuer(Arc<Mutex<State>>);

/// A token with these claims beside the usual ones, signed by the API server.
pub(crate) fn token(claims: &Value) -> String {
    let mut all = json!({
        "iss": CLUSTER, "sub": "system:serviceaccount:ns:client", "nbf": now() - 1, "iat": now() - 1, "exp": now() + 3600,
    });
    json_patch::merge(&mut all, claims);
    signed(&json!({ "alg": "ES256", "kid": "key" }), &all, "key of the cluster")
}

/// A token with these scopes.
pub(crate) fn scoped(scopes: &[&str]) -> String {
    token(&json!({ "aud": scopes }))
}

/// A token with a signature by this key.
pub(crate) fn signed(header: &Value, claims: &Value, key: &str) -> String {
    let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let signature = signature(key, &format!("{header}.{claims}"));
    format!("{header}.{claims}.{signature}")
}

fn signature(key: &str, signed: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::new().chain_update(key).chain_update(signed).finalize())
}

pub(crate) fn now() -> i64 {
    Timestamp::now().as_second()
}

impl Issuer {
    pub(crate) fn revoke(&self, subject: &str) {
        self.0.lock().revoked.insert(subject.to_owned());
    }

    pub(crate) fn deny(&self, sandbox: &str) {
        self.0.lock().denied.insert(sandbox.to_owned());
    }

    pub(crate) fn knows_no_audiences(&self) {
        self.0.lock().unaware = true;
    }

    pub(crate) fn away(&self) {
        self.0.lock().away = true;
    }

    pub(crate) fn back(&self) {
        self.0.lock().away = false;
    }

    /// Lets something happen while each token is reviewed.
    pub(crate) fn meanwhile(&self, happens: fn()) {
        self.0.lock().meanwhile = Some(happens);
    }

    /// The number of questions about rights.
    pub(crate) fn rights(&self) -> usize {
        self.0.lock().rights
    }

    /// Whether this is a genuine token for the API server itself.
    pub(crate) fn accepts(&self, token: &str) -> bool {
        self.review(&json!({ "token": token }))["authenticated"] == true
    }

    /// The number of reviews of tokens.
    pub(crate) fn reviews(&self) -> usize {
        self.0.lock().reviews
    }

    pub(crate) fn client(&self) -> Client {
        let issuer = self.clone();
        let service = service_fn(move |request: http::Request<kube::client::Body>| {
            let issuer = issuer.clone();
            async move {
                if issuer.0.lock().away {
                    let status = json!({ "kind": "Status", "status": "Failure", "code": 503, "message": "away" });
                    let reply = http::Response::builder().status(503).body(Body::from(status.to_string()));
                    return Ok::<_, Infallible>(reply.unwrap());
                }
                let of_token = request.uri().path().ends_with("tokenreviews");
                let mut body: Value =
                    serde_json::from_slice(&request.into_body().collect_bytes().await.unwrap()).unwrap();
                body["status"] = if of_token { issuer.review(&body["spec"]) } else { issuer.right(&body["spec"]) };
                Ok(http::Response::new(Body::from(body.to_string())))
            }
        });
        Client::new(service, "default")
    }

    fn review(&self, spec: &Value) -> Value {
        let mut state = self.0.lock();
        state.reviews += 1;
        if let Some(happens) = state.meanwhile {
            happens();
        }
        let asked: Vec<&str> = match spec["audiences"].as_array() {
            Some(asked) if !asked.is_empty() => asked.iter().filter_map(Value::as_str).collect(),
            Some(_) | None => vec![CLUSTER],
        };
        let Some(claims) = genuine(spec["token"].as_str().unwrap()) else { return json!({ "authenticated": false }) };
        let one = claims["aud"].as_str();
        let many = claims["aud"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let of_token: Vec<&str> = one.into_iter().chain(many).collect();
        let both: Vec<&str> = asked.into_iter().filter(|audience| of_token.contains(audience)).collect();
        let time = |claim: &str| claims[claim].as_i64().unwrap_or_default();
        let lives = time("exp") + LEEWAY > now() && time("nbf") - LEEWAY < now();
        let subject = claims["sub"].as_str().unwrap_or_default();
        let known = lives && claims["iss"] == CLUSTER && !state.revoked.contains(subject);
        let user = json!({ "username": subject, "groups": ["system:serviceaccounts"] });
        match (known, state.unaware, both.is_empty()) {
            (true, true, _) => json!({ "authenticated": true, "user": user }),
            (true, false, false) => json!({ "authenticated": true, "user": user, "audiences": both }),
            (true, false, true) | (false, _, _) => json!({ "authenticated": false }),
        }
    }

    fn right(&self, spec: &Value) -> Value {
        self.0.lock().rights += 1;
        let wanted = &spec["resourceAttributes"];
        let expected = json!({
            "verb": "create", "group": "agents.x-k8s.io", "resource": "sandboxes", "subresource": "proxy",
            "namespace": wanted["namespace"], "name": wanted["name"],
        });
        assert_eq!(*wanted, expected);
        json!({ "allowed": !self.0.lock().denied.contains(wanted["name"].as_str().unwrap()) })
    }
}

/// The claims of a token that the API server signed. The header `Authorization` is split at spaces, and its second word is
/// the token.
fn genuine(token: &str) -> Option<Value> {
    let header = format!("Bearer {token}");
    let parts: Vec<&str> = header.trim().split(' ').nth(1)?.split('.').collect();
    let [head, claims, mark] = parts.as_slice() else { return None };
    let (head, claims) = (decoded(head)?, decoded(claims)?);
    let signed = [&head, &claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    (decoded(mark)? == decoded(&signature("key of the cluster", &signed))?)
        .then(|| serde_json::from_slice(&claims).ok())?
}

/// The bytes of a text, as `base64.RawURLEncoding` of Go decodes it.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true);
    GeneralPurpose::new(&URL_SAFE, config).decode(text.replace(['\r', '\n'], "")).ok()
}
