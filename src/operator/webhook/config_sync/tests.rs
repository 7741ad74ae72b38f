//! Webhook configurations in an API server in memory, which keeps every field of the JSON: refused writes, programs that
//! change an entry again and again, owners, and fields that this version does not know.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use http::{Method, Request, Response, StatusCode};
use paddock_kube::guard::{Guard, GuardState};
use prometheus::{Encoder, Registry, TextEncoder};
use tokio::time::advance;

use super::super::own_deployment::Workload;
use super::super::registration::ClientConfig;
use super::*;

const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/paddock-webhook";
const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/paddock-webhook";
const BOTH: [&str; 2] = [MUTATING, VALIDATING];
const NAMESPACE: &str = "/api/v1/namespaces/ns";

/// What another program makes of a configuration that is written.
type Change = fn(&mut Value);

#[derive(Default)]
struct Store {
    objects: BTreeMap<String, Value>,
    /// The methods and paths that fail with this code.
    failing: BTreeMap<(Method, String), u16>,
    /// In the same request.
    admission: Option<Change>,
    /// After the request.
    controller: Option<Change>,
    /// The accepted writes of the configurations.
    writes: Vec<(Method, String)>,
    notes: Vec<String>,
}

#[derive(Clone, Default)]
struct Server(Arc<Mutex<Store>>);

impl Server {
    fn new() -> Self {
        let server = Self::default();
        server.0.lock().objects.insert(NAMESPACE.to_owned(), json!({ "metadata": { "name": "ns", "uid": "new" } }));
        server
    }

    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let server = server.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                let sent = serde_json::from_slice(&body).unwrap_or_default();
                let (code, reply) = server.answer(parts.method, parts.uri.path(), sent);
                let response = Response::builder().status(StatusCode::from_u16(code).unwrap());
                Ok::<_, std::io::Error>(response.body(Body::from(reply.to_string())).unwrap())
            }
        });
        Client::new(service, "ns")
    }

    fn answer(&self, method: Method, path: &str, sent: Value) -> (u16, Value) {
        let mut store = self.0.lock();
        let named =
            |path: &str| if method == Method::POST { format!("{path}/paddock-webhook") } else { path.to_owned() };
        if path.contains("/events") {
            store.notes.push(format!("{} {}", sent["reason"], sent["note"]));
            return (201, sent);
        }
        let path = named(path);
        if let Some(&code) = store.failing.get(&(method.clone(), path.clone())) {
            return status(code);
        }
        let found = store.objects.get(&path).cloned();
        let mut stored = match (&method, found) {
            (&Method::GET, found) => return found.map_or_else(|| status(404), |found| (200, found)),
            (&Method::DELETE, Some(found)) => {
                store.objects.remove(&path);
                return (200, found);
            }
            (&Method::POST, None) => sent,
            (&Method::PATCH, Some(found)) => merged(found, &sent),
            (_, Some(_)) => return status(409),
            (_, None) => return status(404),
        };
        if let Some(change) = store.admission {
            change(&mut stored);
        }
        let reply = stored.clone();
        if let Some(change) = store.controller {
            change(&mut stored);
        }
        store.writes.push((method, path.clone()));
        store.objects.insert(path, stored);
        (200, reply)
    }

    fn change(&self, path: &str, change: Change) {
        change(self.0.lock().objects.get_mut(path).unwrap());
    }

    fn others_stop(&self) {
        let mut store = self.0.lock();
        store.admission = None;
        store.controller = None;
    }

    fn stored(&self, path: &str) -> Value {
        self.0.lock().objects[path].clone()
    }

    fn writes(&self) -> usize {
        self.0.lock().writes.len()
    }
}

fn status(code: u16) -> (u16, Value) {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        _ => "InternalError",
    };
    (code, json!({ "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason }))
}

/// The object after a merge patch. The entries of an apply patch get their CA bundle only.
fn merged(mut object: Value, patch: &Value) -> Value {
    let applied = patch.get("kind").is_some();
    for (field, value) in patch["metadata"].as_object().unwrap() {
        match (field.as_str(), value) {
            ("labels", Value::Object(labels)) => {
                for (name, value) in labels {
                    object["metadata"]["labels"][name] = value.clone();
                }
            }
            _ => object["metadata"][field] = value.clone(),
        }
    }
    for (n, entry) in patch["webhooks"].as_array().unwrap().iter().enumerate().filter(|_| applied) {
        object["webhooks"][n]["clientConfig"]["caBundle"] = entry["clientConfig"]["caBundle"].clone();
        if entry["failurePolicy"].is_string() {
            object["webhooks"][n]["failurePolicy"] = entry["failurePolicy"].clone();
        }
    }
    if !applied {
        object["webhooks"] = patch["webhooks"].clone();
    }
    object
}

struct Operator {
    sync: WebhookConfigSync,
    entries: watch::Receiver<Vec<RegisteredEntry>>,
    registry: Registry,
}

/// A leader.
fn operator(server: &Server, registration: Registration) -> Operator {
    let registry = Registry::new();
    let metrics = Reviews::register(&registry).unwrap();
    let (sender, entries) = watch::channel(Vec::new());
    let desired = Desired {
        client_config: ClientConfig::Url("https://127.0.0.1:1".to_owned()),
        own_namespace: Some("ns".to_owned()),
        operator_user: None,
        isolation_policies: false,
    };
    let deployed = Deployed { namespace: "ns".to_owned(), workload: Workload::Deployment("operator".to_owned()) };
    let rest = (Fence::open(), metrics, sender);
    let sync = WebhookConfigSync::new(server.client(), (desired, registration), Some(deployed), rest);
    Operator { sync, entries, registry }
}

impl Operator {
    async fn trust(&self) -> Result<bool, kube::Error> {
        self.sync.trust("pem").await
    }

    /// The states of the entries that are not registered, by phase.
    fn faults(&self, phase: Phase) -> Vec<EntryState> {
        let entries = self.entries.borrow();
        let faults = entries.iter().filter(|entry| entry.phase == phase && entry.state != EntryState::Registered);
        faults.map(|entry| entry.state.clone()).collect()
    }

    /// The number of entries whose metric is 0.
    fn unregistered(&self) -> usize {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        text.lines().filter(|l| l.starts_with("paddock_webhook_registered{") && l.ends_with(" 0")).count()
    }

    fn registered_once(&self) -> bool {
        *self.sync.registered_once.borrow()
    }
}

fn ignore(configuration: &mut Value) {
    configuration["webhooks"][0]["failurePolicy"] = "Ignore".into();
}

/// What the admissions enforcer of Azure adds.
fn enforce(configuration: &mut Value) {
    for entry in configuration["webhooks"].as_array_mut().unwrap() {
        let expressions = entry["namespaceSelector"]["matchExpressions"].as_array_mut().unwrap();
        if !expressions.iter().any(|e| e["key"] == "control-plane") {
            expressions.push(json!({ "key": "control-plane", "operator": "DoesNotExist" }));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_request_does_not_hide_what_was_found() {
    for registration in [Registration::Owned, Registration::Injected] {
        for (phase, path, other) in [(Phase::Mutate, MUTATING, VALIDATING), (Phase::Validate, VALIDATING, MUTATING)] {
            for (method, code) in [(Method::PATCH, 403), (Method::PATCH, 422), (Method::PATCH, 500), (Method::GET, 500)]
            {
                let server = Server::new();
                operator(&server, Registration::Owned).trust().await.unwrap();
                let operator = operator(&server, registration);
                assert!(operator.trust().await.unwrap());
                let what = format!("{registration:?} {method} {path} {code}");
                assert_eq!(operator.unregistered(), 0, "{what}");

                server.0.lock().failing.insert((method.clone(), path.to_owned()), code);
                for path in BOTH {
                    server.change(path, |configuration| {
                        ignore(configuration);
                        configuration["webhooks"][0]["clientConfig"]["caBundle"] = Value::Null;
                    });
                }
                assert!(operator.trust().await.is_err(), "{what}");
                let found = operator.faults(phase);
                let fields = ["clientConfig.caBundle", "failurePolicy"].map(str::to_owned).to_vec();
                if method == Method::PATCH {
                    assert_eq!(found, [EntryState::Differs(fields)], "{what}");
                } else {
                    assert!(
                        found.iter().all(|s| matches!(s, EntryState::Unreadable(_))) && !found.is_empty(),
                        "{what}"
                    );
                }
                // The other configuration is kept as if nothing had happened.
                assert!(has_bundle(&server.stored(other)["webhooks"][0], Some("pem")), "{what}");
                let others = match phase {
                    Phase::Mutate => operator.faults(Phase::Validate),
                    Phase::Validate => operator.faults(Phase::Mutate),
                };
                assert_eq!(others.is_empty(), registration == Registration::Owned, "{what}: {others:?}");
                assert_eq!(operator.unregistered(), found.len() + others.len(), "{what}");
                let told = server.0.lock().notes.iter().filter(|note| note.contains("WebhookNotRegistered")).count();
                assert_eq!(told, 1 + usize::from(!others.is_empty()), "{what}");

                server.0.lock().failing.clear();
                assert!(operator.trust().await.unwrap(), "{what}");
                assert_eq!(operator.unregistered() == 0, registration == Registration::Owned, "{what}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_own_namespace_nothing_is_written_and_the_entries_are_shown() {
    let server = Server::new();
    operator(&server, Registration::Owned).trust().await.unwrap();
    server.0.lock().failing.insert((Method::GET, NAMESPACE.to_owned()), 500);
    server.change(VALIDATING, ignore);
    let (operator, before) = (operator(&server, Registration::Owned), server.writes());
    assert!(operator.trust().await.is_err());
    assert_eq!(operator.faults(Phase::Validate), [EntryState::Differs(vec!["failurePolicy".to_owned()])]);
    assert_eq!((operator.faults(Phase::Mutate), server.writes()), (vec![], before));
}

/// Another program changes each written entry, in the same request or after it.
#[tokio::test(start_paused = true)]
async fn who_undoes_every_restoration_is_shown_and_not_fought() {
    for in_the_request in [true, false] {
        let server = Server::new();
        let change = Some(enforce as Change);
        if in_the_request {
            server.0.lock().admission = change;
        } else {
            server.0.lock().controller = change;
        }
        let operator = operator(&server, Registration::Owned);
        assert!(operator.trust().await.unwrap());
        assert!(operator.registered_once(), "the API server has accepted the entries");
        let (mut shown, checks) = (0, 150);
        for _ in 0..checks {
            advance(limits::REGISTRATION_CHECK_INTERVAL).await;
            assert!(operator.trust().await.unwrap());
            shown += usize::from(operator.unregistered() == 10);
        }
        // Both are created, restored three times, and then restored every five minutes.
        let writes = server.writes();
        assert_eq!(writes, 2 * (1 + 3 + 2), "{in_the_request}");
        assert!(shown >= checks - 3, "{in_the_request}: shown in {shown} of {checks} checks");
        let told = server.0.lock().notes.iter().filter(|note| note.contains("WebhookRestored")).count();
        assert!(told <= writes, "{told}");

        // As soon as nobody undoes them, the entries are restored for good.
        server.others_stop();
        for _ in 0..61 {
            advance(limits::REGISTRATION_CHECK_INTERVAL).await;
            operator.trust().await.unwrap();
        }
        assert_eq!(operator.unregistered(), 0);
        // Other differences, and this one after a while, are restored at once.
        server.change(VALIDATING, ignore);
        operator.trust().await.unwrap();
        assert_eq!(operator.unregistered(), 0);
        advance(limits::RESTORE_PAUSE * 2).await;
        server.change(VALIDATING, enforce);
        operator.trust().await.unwrap();
        assert_eq!(operator.unregistered(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_label_against_the_enforcer_is_written_and_restored() {
    let server = Server::new();
    let operator = operator(&server, Registration::Owned);
    for change in [
        (|_| ()) as Change,
        |configuration| configuration["metadata"]["labels"] = json!({ "somebody": "else" }),
        |configuration| configuration["metadata"]["labels"]["admissions.enforcer/disabled"] = "false".into(),
    ] {
        server.0.lock().objects.entry(MUTATING.to_owned()).and_modify(change);
        operator.trust().await.unwrap();
        let labels = server.stored(MUTATING)["metadata"]["labels"].clone();
        assert_eq!(labels["admissions.enforcer/disabled"], "true", "{labels}");
    }
    assert_eq!(server.stored(MUTATING)["metadata"]["labels"]["somebody"], "else");
}

#[tokio::test(start_paused = true)]
async fn a_namespace_of_our_name_is_never_another_operators() {
    let reference =
        |name: &str, uid: &str| json!({ "apiVersion": "v1", "kind": "Namespace", "name": name, "uid": uid });
    let other = json!({ "apiVersion": "v1", "kind": "Node", "name": "n", "uid": "n" });
    for (owners, after) in [
        (vec![], Some(vec!["new"])),
        (vec![reference("ns", "new")], Some(vec!["new"])),
        (vec![reference("ns", "former")], Some(vec!["new"])),
        (vec![other.clone(), reference("ns", "former")], Some(vec!["n", "new"])),
        (vec![reference("ns", "former"), reference("b", "b")], None),
        (vec![reference("b", "b")], None),
        (vec![reference("b", "b"), reference("ns", "new")], Some(vec!["b", "new"])),
    ] {
        let server = Server::new();
        operator(&server, Registration::Owned).trust().await.unwrap();
        server.0.lock().objects.get_mut(VALIDATING).unwrap()["metadata"]["ownerReferences"] = owners.clone().into();
        let (operator, before) = (operator(&server, Registration::Owned), server.writes());
        operator.trust().await.unwrap();
        let stored = server.stored(VALIDATING)["metadata"]["ownerReferences"].clone();
        let uids: Vec<&str> = stored.as_array().unwrap().iter().filter_map(|o| o["uid"].as_str()).collect();
        match after {
            Some(after) => assert_eq!((uids, operator.unregistered()), (after, 0), "{owners:?}"),
            None => {
                assert_eq!((server.writes(), json!(owners)), (before, stored));
                let others = operator.faults(Phase::Validate);
                assert_eq!(others, vec![EntryState::OfAnotherOperator("b".to_owned()); 7]);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn fields_of_the_future_are_compared_and_those_of_strangers_are_kept() {
    let stranger = json!({
        "name": "stranger.example.com",
        "aFieldOfTheFuture": { "deep": [1, { "deeper": null }] },
        "clientConfig": { "url": "https://example.com", "another": true },
        "rules": [{ "resources": ["a"], "further": "x" }],
    });
    for registration in [Registration::Owned, Registration::Injected] {
        for path in ["/aFieldOfTheFuture", "/clientConfig/aFieldOfTheFuture", "/rules/0/aFieldOfTheFuture"] {
            let server = Server::new();
            operator(&server, Registration::Owned).trust().await.unwrap();
            let operator = operator(&server, registration);
            let registered = server.stored(VALIDATING)["webhooks"].clone();
            {
                let mut store = server.0.lock();
                let entries = &mut store.objects.get_mut(VALIDATING).unwrap()["webhooks"];
                let (parent, field) = path.rsplit_once('/').unwrap();
                entries[0].pointer_mut(parent).unwrap()[field] = "x".into();
                entries.as_array_mut().unwrap().push(stranger.clone());
            }
            operator.trust().await.unwrap();
            let mut stored = server.stored(VALIDATING)["webhooks"].clone();
            let kept = stored.as_array_mut().unwrap().pop().unwrap();
            assert_eq!(kept, stranger, "{registration:?} {path}");
            let restored = registration == Registration::Owned;
            assert_eq!(stored == registered, restored, "{path}: {stored}");
            assert_eq!(operator.unregistered(), usize::from(!restored), "{path}");
        }
    }
}

/// The operator registers with the flag `--isolation-policies`, and the policies come, change and go.
#[tokio::test(start_paused = true)]
async fn entries_for_pods_fail_open_only_while_the_policies_about_isolation_are_in_force() {
    let server = Server::new();
    let state = watch::Sender::new(Guards::default());
    let Operator { sync, entries, registry } = operator(&server, Registration::Owned);
    let owner = Operator { sync: sync.with_isolation(Some(state.subscribe())), entries, registry };
    let early = tokio::time::timeout(limits::REGISTRATION_CHECK_INTERVAL, owner.trust()).await;
    assert!(early.is_err() && server.writes() == 0, "nothing is registered before the policies were read");

    let guards = |state: GuardState| {
        let guard = |policy: &str, state| Guard { policy: policy.to_owned(), state };
        Guards::Checked(vec![guard("paddock-isolation-pods", state), guard("b", GuardState::InForce)])
    };
    let differs = || GuardState::PolicyDiffers(vec!["validations".to_owned()]);
    for (of_policies, wanted) in [
        (GuardState::NoPolicy, "Fail"),
        (GuardState::InForce, "Ignore"),
        (differs(), "Fail"),
        (GuardState::InForce, "Ignore"),
        (GuardState::Unreadable("no right".to_owned()), "Fail"),
    ] {
        state.send_replace(guards(of_policies.clone()));
        assert!(owner.trust().await.unwrap());
        for path in BOTH {
            let stored = server.stored(path);
            let of_pods: Vec<&Value> = (0..2).map(|n| &stored["webhooks"][n]["failurePolicy"]).collect();
            assert_eq!(of_pods, [wanted, wanted], "{of_policies:?}: {path}");
            assert_eq!(stored["webhooks"][2]["failurePolicy"], "Ignore");
        }
        assert_eq!(owner.unregistered(), 0, "{of_policies:?}");
    }
    let notes = server.0.lock().notes.clone();
    let reported = notes.iter().filter(|note| note.contains("IsolationPoliciesNotInForce")).count();
    assert_eq!((reported, notes.len()), (3, 3), "the operator's own changes are no faults: {notes:?}");

    // The manifests say that the entries fail open, and the operator may change only their CA bundle.
    state.send_replace(guards(GuardState::InForce));
    assert!(owner.trust().await.unwrap());
    let Operator { sync, entries, registry } = operator(&server, Registration::Injected);
    let injects = Operator { sync: sync.with_isolation(Some(state.subscribe())), entries, registry };
    assert!(injects.trust().await.unwrap());
    assert_eq!(injects.unregistered(), 0);
    state.send_replace(guards(GuardState::NoBinding));
    assert!(injects.trust().await.unwrap());
    for phase in [Phase::Mutate, Phase::Validate] {
        let expected = vec![EntryState::Differs(vec!["failurePolicy".to_owned()]); 2];
        assert_eq!(injects.faults(phase), expected, "it is shown");
    }
    // If that stays so, the operator closes them. It never opens them.
    advance(limits::ISOLATION_GRACE).await;
    for of_policies in [GuardState::NoBinding, GuardState::InForce] {
        state.send_replace(guards(of_policies));
        assert!(injects.trust().await.unwrap());
        for path in BOTH {
            let stored = server.stored(path);
            let policies: Vec<&Value> = (0..3).map(|n| &stored["webhooks"][n]["failurePolicy"]).collect();
            assert_eq!(policies, ["Fail", "Fail", "Ignore"]);
        }
    }
    assert_eq!(injects.faults(Phase::Validate).len(), 2, "the manifests have to be applied again");
}
