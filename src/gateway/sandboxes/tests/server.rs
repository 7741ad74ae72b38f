//! An API server in memory, with the Sandboxes, the pods, and what an operator and a kubelet do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use futures::{StreamExt, stream};
use http::{Method, Request, Response, StatusCode};
use kube::Client;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower::service_fn;

/// The reply to the next write, if it is not the usual one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Another client changes the Sandbox first, and the watch is late.
    Conflict,
    /// The write is forbidden.
    Forbidden,
    /// The API server fails.
    Unavailable,
}

#[derive(Default)]
struct Store {
    version: u64,
    objects: BTreeMap<(String, String), Value>,
    events: Vec<(u64, String, String)>,
    watches: Vec<(String, mpsc::UnboundedSender<String>)>,
    patches: Vec<(String, Value)>,
    faults: Vec<Fault>,
    /// The kinds whose lists and watches fail.
    away: BTreeSet<String>,
    /// Whether a woken Sandbox gets a pod at once, with this address.
    pod_address: Option<String>,
    /// The time that a write takes.
    write_time: Duration,
}

#[derive(Clone, Default)]
pub(crate) struct Server(Arc<Mutex<Store>>);

impl Server {
    pub(crate) fn client(&self) -> Client {
        let server = self.clone();
        let service = service_fn(move |request: Request<kube::client::Body>| {
            let server = server.clone();
            async move { Ok::<_, std::convert::Infallible>(server.answer(request).await) }
        });
        Client::new(service, "default")
    }

    /// Stores an object, and tells the watches. Metadata that is missing is added.
    pub(crate) fn put(&self, plural: &str, name: &str, mut object: Value) {
        let mut store = self.0.lock();
        let metadata = &mut object["metadata"];
        metadata["name"] = name.into();
        metadata["namespace"] = "ns".into();
        if metadata["uid"].is_null() {
            metadata["uid"] = format!("{plural}-{name}").into();
        }
        store.put(plural, name, object);
    }

    pub(crate) fn change(&self, plural: &str, name: &str, patch: &Value) {
        let mut store = self.0.lock();
        let mut object = store.objects[&(plural.to_owned(), name.to_owned())].clone();
        json_patch::merge(&mut object, patch);
        store.put(plural, name, object);
    }

    pub(crate) fn delete(&self, plural: &str, name: &str) {
        let mut store = self.0.lock();
        let mut object = store.objects.remove(&(plural.to_owned(), name.to_owned())).unwrap();
        store.version += 1;
        object["metadata"]["resourceVersion"] = store.version.to_string().into();
        store.tell(plural, "DELETED", &object);
    }

    /// An OnDemand Sandbox that the idle policy suspended.
    pub(crate) fn suspended(&self, name: &str) {
        self.put(
            "sandboxes",
            name,
            json!({
                "metadata": { "annotations": { "policy.paddock.dev/suspended-by": "Idle" } },
                "spec": {
                    "operatingMode": "Suspended", "replicas": 0, "resumePolicy": "OnDemand", "idleTimeout": "30m",
                },
                "status": { "mode": "Suspended" },
            }),
        );
    }

    /// A Sandbox that runs.
    pub(crate) fn running(&self, name: &str, address: &str) {
        self.put(
            "sandboxes",
            name,
            json!({
                "spec": {
                    "operatingMode": "Running", "replicas": 1, "resumePolicy": "OnDemand", "idleTimeout": "30m",
                },
                "status": { "mode": "Running" },
            }),
        );
        self.pod(name, &format!("sandboxes-{name}"), address);
    }

    /// A pod of the Sandbox with this UID.
    pub(crate) fn pod(&self, name: &str, sandbox_uid: &str, address: &str) {
        let version = self.0.lock().version;
        self.put("pods", name, pod(&format!("pod-{version}"), name, sandbox_uid, address));
    }

    /// From now on, a Sandbox that is to run gets a pod with this address.
    pub(crate) fn operate(&self, address: &str) {
        self.0.lock().pod_address = Some(address.to_owned());
    }

    /// From now on, each write takes this long.
    pub(crate) fn writes_take(&self, time: Duration) {
        self.0.lock().write_time = time;
    }

    pub(crate) fn fail_next(&self, fault: Fault) {
        self.0.lock().faults.push(fault);
    }

    /// From now on, lists and watches fail, or work again.
    pub(crate) fn away(&self, away: bool) {
        ["sandboxes", "pods"].into_iter().for_each(|plural| self.away_for(plural, away));
    }

    /// From now on, lists and watches of one kind fail, or work again.
    pub(crate) fn away_for(&self, plural: &str, away: bool) {
        let mut store = self.0.lock();
        if away {
            store.away.insert(plural.to_owned());
        } else {
            store.away.remove(plural);
        }
        store.watches.retain(|(of, _)| of != plural);
    }

    /// The patches of Sandboxes that were stored.
    pub(crate) fn patches(&self) -> Vec<(String, Value)> {
        self.0.lock().patches.clone()
    }

    /// The stored patches that change the mode.
    pub(crate) fn wakes(&self) -> usize {
        self.patches().iter().filter(|(_, patch)| patch["spec"]["operatingMode"] == "Running").count()
    }

    pub(crate) fn get(&self, plural: &str, name: &str) -> Value {
        self.0.lock().objects[&(plural.to_owned(), name.to_owned())].clone()
    }

    async fn answer(&self, request: Request<kube::client::Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let query: BTreeMap<String, String> = parts
            .uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let plural = if path.contains("sandboxes") { "sandboxes" } else { "pods" };
        if parts.method == Method::PATCH {
            let patch = serde_json::from_slice(&body.collect_bytes().await.unwrap()).unwrap();
            let time = self.0.lock().write_time;
            tokio::time::sleep(time).await;
            return self.patch(path.rsplit('/').next().unwrap(), patch);
        }
        let mut store = self.0.lock();
        if store.away.contains(plural) {
            return status(503, "away");
        }
        if query.contains_key("watch") {
            let from: u64 = query.get("resourceVersion").and_then(|v| v.parse().ok()).unwrap_or_default();
            let seconds = query.get("timeoutSeconds").and_then(|s| s.parse().ok()).unwrap_or(60);
            return store.watch(plural, from, Duration::from_secs(seconds));
        }
        let items: Vec<&Value> = store.objects.iter().filter(|((of, _), _)| of == plural).map(|(_, o)| o).collect();
        let list = json!({
            "kind": "List", "apiVersion": "v1",
            "metadata": { "resourceVersion": store.version.to_string() },
            "items": items,
        });
        Response::new(Body::from(list.to_string()))
    }

    fn patch(&self, name: &str, patch: Value) -> Response<Body> {
        let mut store = self.0.lock();
        let key = ("sandboxes".to_owned(), name.to_owned());
        match store.faults.pop() {
            Some(Fault::Forbidden) => return status(403, "no"),
            Some(Fault::Unavailable) => return status(503, "away"),
            Some(Fault::Conflict) => {
                let mut object = store.objects[&key].clone();
                object["metadata"]["labels"] = json!({ "changed": "yes" });
                store.put("sandboxes", name, object);
            }
            None => {}
        }
        let Some(object) = store.objects.get(&key) else { return status(404, "not found") };
        for field in ["resourceVersion", "uid"] {
            let wanted = &patch["metadata"][field];
            if !wanted.is_null() && *wanted != object["metadata"][field] {
                return status(409, "the object has been modified");
            }
        }
        let mut object = object.clone();
        json_patch::merge(&mut object, &patch);
        store.patches.push((name.to_owned(), patch));
        store.put("sandboxes", name, object);
        let reply = store.objects[&key].clone();
        store.operate(name);
        Response::new(Body::from(reply.to_string()))
    }
}

impl Store {
    fn put(&mut self, plural: &str, name: &str, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let kind = if self.objects.contains_key(&(plural.to_owned(), name.to_owned())) { "MODIFIED" } else { "ADDED" };
        self.tell(plural, kind, &object);
        self.objects.insert((plural.to_owned(), name.to_owned()), object);
    }

    fn tell(&mut self, plural: &str, kind: &str, object: &Value) {
        let mut object = object.clone();
        object["kind"] = if plural == "pods" { "Pod" } else { "Sandbox" }.into();
        // The type has to come first, as every API server writes it.
        let line = format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n");
        self.events.push((self.version, plural.to_owned(), line.clone()));
        self.watches.retain(|(of, watch)| of != plural || watch.send(line.clone()).is_ok());
    }

    fn watch(&mut self, plural: &str, from: u64, time: Duration) -> Response<Body> {
        let (sender, receiver) = mpsc::unbounded_channel();
        for (_, _, line) in self.events.iter().filter(|(version, of, _)| *version > from && of == plural) {
            sender.send(line.clone()).unwrap();
        }
        self.watches.push((plural.to_owned(), sender));
        let lines = stream::unfold(receiver, |mut lines| async { lines.recv().await.map(|line| (line, lines)) });
        let lines = lines.map(Ok::<_, std::convert::Infallible>).take_until(tokio::time::sleep(time));
        Response::new(Body::from_stream(lines))
    }

    /// What an operator and a kubelet do with a Sandbox that is to run.
    fn operate(&mut self, name: &str) {
        let Some(address) = self.pod_address.clone() else { return };
        let mut sandbox = self.objects[&("sandboxes".to_owned(), name.to_owned())].clone();
        if sandbox["spec"]["operatingMode"] == "Running" && sandbox["status"]["mode"] == "Suspended" {
            sandbox["status"]["mode"] = "Running".into();
            let uid = sandbox["metadata"]["uid"].as_str().unwrap().to_owned();
            self.put("sandboxes", name, sandbox);
            let mut pod = pod(&format!("pod-{}", self.version), name, &uid, &address);
            pod["metadata"]["name"] = name.into();
            pod["metadata"]["namespace"] = "ns".into();
            self.put("pods", name, pod);
        }
    }
}

fn pod(uid: &str, sandbox: &str, sandbox_uid: &str, address: &str) -> Value {
    json!({
        "metadata": {
            "uid": uid,
            "ownerReferences": [{
                "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "name": sandbox, "uid": sandbox_uid,
                "controller": true,
            }],
        },
        "status": { "phase": "Running", "podIPs": [{ "ip": address }] },
    })
}

fn status(code: u16, message: &str) -> Response<Body> {
    let status = json!({ "kind": "Status", "status": "Failure", "code": code, "reason": "x", "message": message });
    let reply = Response::builder().status(StatusCode::from_u16(code).unwrap());
    reply.body(Body::from(status.to_string())).unwrap()
}
