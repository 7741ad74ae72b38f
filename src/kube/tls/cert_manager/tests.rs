//! The Secret in an API server in memory, which is deleted, damaged and written by several replicas.

use std::time::Duration;

use axum::body::Body;
use http::{Method, Request, Response, StatusCode};
use jiff::SignedDuration;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::*;

const NAME: &str = "paddock-webhook-tls";

#[derive(Default)]
struct Store {
    secret: Option<Value>,
    version: u64,
    /// The writes that were accepted.
    writes: usize,
}

#[derive(Clone, Default)]
struct Server(Arc<Mutex<Store>>);

impl Server {
    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let server = server.clone();
            async move {
                // A round trip, so that the requests of replicas interleave.
                sleep(Duration::from_millis(5)).await;
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                let (code, reply) = server.answer(&parts.method, serde_json::from_slice(&body).ok());
                let response = Response::builder().status(StatusCode::from_u16(code).unwrap());
                Ok::<_, std::io::Error>(response.body(Body::from(reply.to_string())).unwrap())
            }
        });
        Client::new(service, "ns")
    }

    fn answer(&self, method: &Method, sent: Option<Value>) -> (u16, Value) {
        let mut store = self.0.lock();
        let version_of = |secret: &Value| secret["metadata"]["resourceVersion"].clone();
        let stored = store.secret.as_ref().map(version_of);
        match (method, sent) {
            (&Method::GET, _) => store.secret.clone().map_or_else(|| refusal(404), |secret| (200, secret)),
            (&Method::POST, Some(sent)) if stored.is_none() => store.put(sent),
            (&Method::PUT, Some(sent)) if stored == Some(version_of(&sent)) => store.put(sent),
            (&Method::POST | &Method::PUT, Some(_)) => refusal(409),
            (other, _) => panic!("{other} is not used on the Secret"),
        }
    }

    fn state(&self) -> CertState {
        let secret = self.0.lock().secret.clone().expect("a Secret");
        let secret: Secret = serde_json::from_value(secret).unwrap();
        CertState::from_secret(&secret.data.unwrap()).expect("a state")
    }

    /// Writes the Secret as another program would.
    fn write(&self, data: &BTreeMap<String, ByteString>) {
        self.0.lock().put(json!({ "metadata": { "name": NAME }, "data": data }));
    }

    fn delete(&self) {
        self.0.lock().secret = None;
    }

    fn writes(&self) -> usize {
        self.0.lock().writes
    }
}

impl Store {
    fn put(&mut self, mut secret: Value) -> (u16, Value) {
        self.version += 1;
        self.writes += 1;
        secret["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.secret = Some(secret.clone());
        (200, secret)
    }
}

fn refusal(code: u16) -> (u16, Value) {
    let reason = if code == 404 { "NotFound" } else { "Conflict" };
    (code, json!({ "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason }))
}

/// The webhook configurations: the last bundle that was written.
#[derive(Default)]
struct Configurations(Mutex<String>);

impl CaBundlePublisher for Configurations {
    async fn trust(&self, bundle: &str) -> Result<bool, kube::Error> {
        bundle.clone_into(&mut self.0.lock());
        Ok(true)
    }
}

fn hosts() -> Vec<String> {
    vec!["paddock-webhook.agent-sandbox-system.svc".to_owned()]
}

fn manager(server: &Server) -> CertManager<Configurations> {
    let shown = (ServingCert::default(), Arc::new(Configurations::default()));
    CertManager::new((server.client(), "ns", NAME), hosts(), Lifetimes::default(), shown)
}

impl CertManager<Configurations> {
    async fn ticks(&self) {
        self.tick(&Clock::default()).await.expect("a tick");
    }

    fn serves(&self) -> KeyPair {
        self.served.lock().clone().expect("a certificate").current
    }

    fn publishes(&self, pair: &KeyPair) -> bool {
        self.trust.0.lock().contains(&pair.authority)
    }
}

/// A state that was issued so many hours ago.
fn issued_before(hours: i64) -> CertState {
    let issued = Timestamp::now() - SignedDuration::from_hours(hours);
    CertState::new(issue(&hosts(), issued, Lifetimes::default().certificate).expect("issued"))
}

type Damage = fn(&CertState) -> BTreeMap<String, ByteString>;

#[tokio::test]
async fn secret_that_is_damaged_is_restored_with_the_certificate_that_is_served() {
    let damages: [(&str, Damage); 6] = [
        ("no data", |_| BTreeMap::new()),
        ("no JSON", |_| BTreeMap::from([("paddock.json".to_owned(), ByteString(b"{".to_vec()))])),
        ("the key of another certificate", |state| {
            let key = issued_before(0).current.key;
            let current = KeyPair { key, ..state.current.clone() };
            CertState { current, ..state.clone() }.to_secret().unwrap()
        }),
        ("a CA that cannot be read", |state| {
            let authority = state.current.authority.replace("-----END", "-----");
            let current = KeyPair { authority, ..state.current.clone() };
            CertState { current, ..state.clone() }.to_secret().unwrap()
        }),
        ("a backup with another CA", |_| issued_before(24 * 7).to_secret().unwrap()),
        ("a new CA", |_| issued_before(0).to_secret().unwrap()),
    ];
    for (what, damage) in damages {
        let (server, before) = (Server::default(), issued_before(1));
        server.write(&before.to_secret().unwrap());
        let replica = manager(&server);
        replica.ticks().await;
        assert_eq!(server.writes(), 1, "{what}: an intact Secret is not written");
        let damaged = damage(&before);
        server.write(&damaged);
        replica.ticks().await;
        assert_eq!(server.state().current, before.current, "{what}");
        assert_eq!(replica.serves(), before.current, "{what}");
        assert!(replica.publishes(&before.current), "{what}");
        // Another replica may already serve a certificate that can be served.
        if let Some(found) = usable(&damaged) {
            assert!(replica.publishes(&found.current), "{what}");
        }
        let writes = server.writes();
        replica.ticks().await;
        assert_eq!(server.writes(), writes, "{what}: the restored Secret is not written again");
    }
}

#[tokio::test]
async fn replicas_that_restore_a_deleted_secret_at_the_same_time_agree() {
    let server = Server::default();
    let (a, b) = (manager(&server), manager(&server));
    a.ticks().await;
    b.ticks().await;
    let before = server.state();
    server.delete();
    let writes = server.writes();
    tokio::join!(a.ticks(), b.ticks());
    assert_eq!(server.state(), before);
    assert_eq!(server.writes(), writes + 1, "the second writer lost the comparison and read the Secret");
    assert_eq!([a.serves(), b.serves()], [before.current.clone(), before.current]);
}

#[tokio::test]
async fn replica_that_starts_without_the_secret_follows_those_that_serve() {
    let server = Server::default();
    let old = manager(&server);
    old.ticks().await;
    let before = server.state().current;
    server.delete();
    let new = manager(&server);
    new.ticks().await;
    let theirs = new.serves();
    assert_ne!(theirs, before, "a new process knows no certificate");
    for _ in 0..2 {
        old.ticks().await;
        assert_eq!(old.serves(), before);
        assert!(old.publishes(&before) && old.publishes(&theirs));
        new.ticks().await;
        assert_eq!(new.serves(), before);
        assert!(new.publishes(&before) && new.publishes(&theirs));
    }
}

#[tokio::test]
async fn rotation_that_a_replica_missed_is_followed() {
    let (server, newer) = (Server::default(), issued_before(1));
    server.write(&issued_before(2).to_secret().unwrap());
    let replica = manager(&server);
    replica.ticks().await;
    server.write(&newer.to_secret().unwrap());
    replica.ticks().await;
    assert_eq!((server.state(), replica.serves()), (newer.clone(), newer.current));
}

#[tokio::test]
async fn damaged_part_that_is_not_served_does_not_reach_the_bundle() {
    let (server, before) = (Server::default(), issued_before(1));
    let damaged = |pair: KeyPair| KeyPair { authority: "-----BEGIN CERTIFICATE-----".to_owned(), ..pair };
    let next = Some(damaged(issued_before(0).current));
    server.write(&CertState { next, ..before.clone() }.to_secret().unwrap());
    let replica = manager(&server);
    replica.ticks().await;
    assert_eq!(*replica.trust.0.lock(), before.current.authority);
    assert_eq!(replica.serves(), before.current);
}
