//! The reports of several operators, which share an API server in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{Method, Request, Response};
use kube::client::Body;
use paddock_api::{SandboxPlugin, SandboxPolicy};
use parking_lot::Mutex;

use super::super::{BoundState, Fault, FaultReason, LoadedState};
use super::*;

#[test]
fn field_manager_fits_and_ends_as_the_name_of_the_replica() {
    for name in ["a", &"n".repeat(99), &format!("{}-last", "n".repeat(300))] {
        let manager = Replica::Process(name.to_owned()).manager();
        assert!(manager.len() <= 128 && manager.starts_with("paddock-plugins-"), "{manager}");
        let end: String = name.chars().rev().take(5).collect::<Vec<_>>().into_iter().rev().collect();
        assert!(manager.ends_with(&end), "{manager}");
    }
}

/// A plugin and a policy, their statuses, and the writes.
struct Stored {
    plugin: Value,
    policy: Value,
    /// The field manager of each write, with the name of the object.
    writes: Vec<(String, String)>,
}

#[derive(Clone)]
struct Server(Arc<Mutex<Stored>>);

impl Server {
    fn new() -> Self {
        let object = |kind: &str, name: &str, spec: Value| {
            json!({
                "apiVersion": "policy.paddock.dev/v1alpha1", "kind": kind,
                "metadata": { "name": name, "uid": name, "generation": 1 }, "spec": spec, "status": {},
            })
        };
        let plugin = object("SandboxPlugin", "plugin", json!({ "source": { "builtIn": { "name": "idle-timeout" } } }));
        let policy = object("SandboxPolicy", "policy", json!({ "plugin": "plugin", "hook": "idle" }));
        Self(Arc::new(Mutex::new(Stored { plugin, policy, writes: Vec::new() })))
    }

    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                let sent: Value = serde_json::from_slice(&body).unwrap_or_default();
                let reply = server.answer(&parts.method, &parts.uri, sent);
                Ok::<_, std::io::Error>(Response::new(Body::from(reply.to_string().into_bytes())))
            }
        });
        Client::new(service, "ns")
    }

    /// Applies a status as a real API server does: the entries by their names, and the other fields as a whole.
    fn answer(&self, method: &Method, uri: &http::Uri, sent: Value) -> Value {
        if *method != Method::PATCH {
            return sent;
        }
        let mut stored = self.0.lock();
        let query = uri.query().unwrap_or_default();
        let manager = query.split('&').find_map(|pair| pair.strip_prefix("fieldManager=")).unwrap_or_default();
        let name = sent["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        stored.writes.push((manager.to_owned(), name.clone()));
        let object = if name == "plugin" { &mut stored.plugin } else { &mut stored.policy };
        if manager == object::POLICY_STATUS_MANAGER {
            let replicas = object["status"]["replicas"].clone();
            object["status"] = sent["status"].clone();
            object["status"]["replicas"] = replicas;
        } else {
            let of_manager = |entry: &Value| {
                manager.ends_with(entry["name"].as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default())
            };
            let before = object["status"]["replicas"].as_array().cloned().unwrap_or_default();
            let kept = before.into_iter().filter(|entry| !of_manager(entry));
            let new = sent["status"]["replicas"].as_array().cloned().unwrap_or_default();
            object["status"]["replicas"] = kept.chain(new).collect::<Vec<_>>().into();
        }
        object.clone()
    }

    fn seen(&self) -> SeenObjects {
        let stored = self.0.lock();
        let read = |mut object: Value| {
            if object["status"]["replicas"].is_null() {
                object["status"]["replicas"] = json!([]);
            }
            object
        };
        let plugin: SandboxPlugin = serde_json::from_value(read(stored.plugin.clone())).unwrap();
        let policy: SandboxPolicy = serde_json::from_value(read(stored.policy.clone())).unwrap();
        SeenObjects {
            plugins: BTreeMap::from([("plugin".to_owned(), Arc::new(plugin))]),
            policies: BTreeMap::from([("policy".to_owned(), Arc::new(policy))]),
        }
    }

    /// The reasons of the conditions of the plugin and of the policy.
    fn reasons(&self) -> [String; 2] {
        let stored = self.0.lock();
        [&stored.plugin, &stored.policy]
            .map(|object| object["status"]["conditions"][0]["reason"].as_str().unwrap_or_default().to_owned())
    }

    fn names(&self) -> Vec<String> {
        let stored = self.0.lock();
        let entries = stored.plugin["status"]["replicas"].as_array().cloned().unwrap_or_default();
        entries.iter().map(|entry| entry["name"].as_str().unwrap_or_default().to_owned()).collect()
    }

    fn writes(&self) -> usize {
        self.0.lock().writes.len()
    }
}

/// The leader of an operator for one namespace.
struct Leader {
    reports: StatusReports,
    seen: watch::Sender<SeenObjects>,
    outages: watch::Sender<Outages>,
    _leading: watch::Sender<bool>,
    _states: watch::Sender<ObjectStates>,
}

impl Leader {
    fn new(server: &Server, replica: Replica, fault: Option<FaultReason>) -> Self {
        let fault = fault.map(|reason| Fault::new(reason, "it is not there"));
        let digest = fault.is_none().then(|| "sha256:1".to_owned());
        let loaded = LoadedState {
            uid: "plugin".to_owned(),
            generation: 1,
            digest: digest.clone(),
            fault: fault.clone(),
            ..LoadedState::default()
        };
        let bound = BoundState { uid: "policy".to_owned(), generation: 1, digest, fault };
        let states = watch::Sender::new(ObjectStates {
            plugins: [("plugin".to_owned(), loaded)].into(),
            policies: [("policy".to_owned(), bound)].into(),
        });
        let (seen, leading) = (watch::Sender::new(SeenObjects::default()), watch::Sender::new(true));
        let outages = watch::Sender::new(Outages::new());
        let reporter = Reporter {
            client: server.client(),
            replica: replica.clone(),
            seen: seen.subscribe(),
            states: states.subscribe(),
            outages: outages.subscribe(),
            leading: leading.subscribe(),
            calls: CallCounts::default(),
            clock: Clock::default(),
        };
        let mut reports = StatusReports::new(reporter);
        if let Replica::Pod { .. } = replica {
            reports.replicas = Some([(replica.name(), true)].into());
        }
        Self { reports, seen, outages, _leading: leading, _states: states }
    }

    async fn report(&mut self, server: &Server) {
        self.seen.send_replace(server.seen());
        assert!(self.reports.write().await);
    }
}

fn pod(namespace: &str, name: &str) -> Replica {
    Replica::Pod { namespace: namespace.to_owned(), name: name.to_owned() }
}

/// Each operator reads its own ConfigMaps, so one may have a component that the other one misses.
#[tokio::test(start_paused = true)]
async fn operators_that_disagree_write_no_condition_against_each_other() {
    let server = Server::new();
    let mut first = Leader::new(&server, pod("team-a", "x"), None);
    let mut second = Leader::new(&server, pod("team-b", "y"), Some(FaultReason::SourceNotFound));
    for _ in 0..3 {
        first.report(&server).await;
        second.report(&server).await;
    }
    assert_eq!(server.reasons(), ["SourceNotFound", "SourceNotFound"], "one operator judges by all entries");
    let settled = server.writes();
    for _ in 0..5 {
        first.report(&server).await;
        second.report(&server).await;
    }
    let writes = server.0.lock().writes.clone();
    assert_eq!(writes.len(), settled, "{writes:?}");
}

/// The Pod of another namespace was killed, and nobody who is left may read its namespace.
#[tokio::test(start_paused = true)]
async fn entry_of_a_killed_replica_of_another_namespace_is_removed() {
    let server = Server::new();
    let mut killed = Leader::new(&server, pod("team-a", "x"), Some(FaultReason::SourceNotFound));
    killed.report(&server).await;
    drop(killed);
    let mut left = Leader::new(&server, pod("team-b", "y"), None);
    left.report(&server).await;
    left.report(&server).await;
    assert_ne!(server.reasons()[0], "Loaded", "the other operator may still live");
    // Its entry gets old.
    let past = Timestamp::now() - limits::PLUGIN_ENTRY_LIFETIME * 2;
    {
        let mut stored = server.0.lock();
        let Stored { plugin, policy, .. } = &mut *stored;
        for object in [plugin, policy] {
            let entries = object["status"]["replicas"].as_array_mut().unwrap();
            let of_killed = entries.iter_mut().find(|entry| entry["name"] == "team-a/x").unwrap();
            of_killed["renewTime"] = past.to_string().into();
        }
    }
    left.report(&server).await;
    left.report(&server).await;
    assert_eq!(server.reasons(), ["Loaded", "Bound"]);
    assert_eq!(server.names(), ["team-b/y"]);
}

#[tokio::test(start_paused = true)]
async fn entry_is_renewed_before_it_counts_as_stale() {
    let server = Server::new();
    let mut leader = Leader::new(&server, pod("sys", "x"), None);
    for _ in 0..3 {
        leader.report(&server).await;
    }
    let settled = server.writes();
    let age = |by: std::time::Duration| {
        let mut stored = server.0.lock();
        let Stored { plugin, policy, .. } = &mut *stored;
        for object in [plugin, policy] {
            object["status"]["replicas"][0]["renewTime"] = (Timestamp::now() - by).to_string().into();
        }
    };
    age(limits::PLUGIN_ENTRY_RENEWAL / 2);
    leader.report(&server).await;
    assert_eq!(server.writes(), settled);
    age(limits::PLUGIN_ENTRY_RENEWAL + std::time::Duration::from_secs(1));
    leader.report(&server).await;
    assert_eq!(server.writes(), settled + 2);
    leader.report(&server).await;
    assert_eq!(server.writes(), settled + 2);
}

/// A leader whose watch fails sees the conditions and entries of the past.
#[tokio::test(start_paused = true)]
async fn replica_whose_watch_fails_says_so_in_its_entry_and_writes_no_condition() {
    let server = Server::new();
    let mut blind = Leader::new(&server, pod("sys", "x"), None);
    for _ in 0..3 {
        blind.report(&server).await;
    }
    assert_eq!(server.reasons(), ["Loaded", "Bound"]);
    let conditions = |server: &Server| {
        let written = server.0.lock().writes.clone();
        written.into_iter().filter(|(manager, _)| manager == object::POLICY_STATUS_MANAGER).count()
    };
    let before = conditions(&server);
    blind.outages.send_replace(Outages::from([(POLICIES, "no answer".to_owned())]));
    for _ in 0..3 {
        // It sees no change, not even its own.
        assert!(blind.reports.write().await);
    }
    let entry = |object: &Value| object["status"]["replicas"][0].clone();
    let (plugin, policy) = {
        let stored = server.0.lock();
        (entry(&stored.plugin), entry(&stored.policy))
    };
    assert_eq!((&policy["reason"], &policy["digest"]), (&json!("WatchFailing"), &json!("sha256:1")), "{policy}");
    assert!(policy["lastError"].as_str().unwrap().ends_with("no answer"), "{policy}");
    assert!(plugin["reason"].is_null(), "{plugin}");
    assert_eq!(conditions(&server), before);
    // Another replica leads, and sees the entry.
    let mut other = Leader::new(&server, pod("sys", "y"), None);
    for leader in [&mut blind, &mut other] {
        leader.reports.replicas = Some([("sys/x".to_owned(), true), ("sys/y".to_owned(), true)].into());
    }
    other.report(&server).await;
    other.report(&server).await;
    assert_eq!(server.reasons(), ["Loaded", "WatchFailing"]);
    blind.outages.send_replace(Outages::new());
    blind.report(&server).await;
    other.report(&server).await;
    assert_eq!(server.reasons(), ["Loaded", "Bound"]);
}
