//! A real node with the operator and the gateway beside it, and Sandboxes that the idle policy suspended.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use http::Method;
use jiff::Timestamp;
use kube::Client;
use kube::api::WatchEvent;
use kube::core::{DynamicObject, ObjectMeta};
use paddock_cluster::{AnyCluster, Cluster, Gateway, Options, WORKSPACE, WakePhases};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::phases::{Moments, Wake};
use super::request::{self, Asked};
use crate::args::Setting;
use crate::audit::{AuditLog, Names, Wanted};
use crate::client::{self, Load, get, send};
use crate::controller::{self, GATEWAY, Plan, Replica, Who};
use crate::environment::manifests;
use crate::objects::{self, NAMESPACE};
use crate::progress::say;

/// The domain of the hosts that name Sandboxes.
const DOMAIN: &str = "bench.localhost";
/// The longest time for a step of the preparation. Fifty Sandboxes under gVisor start within a minute on two cores.
const PATIENCE: Duration = Duration::from_secs(300);
/// The interval of the preparation's checks.
const POLL: Duration = Duration::from_millis(200);
/// The pause before a wake, in which the work for the wake before it ends.
const PAUSE: Duration = Duration::from_millis(500);

/// The parts of the run.
pub(super) struct Scene<'a> {
    cluster: &'a Cluster,
    client: Client,
    gateway: Gateway,
    audit: AuditLog,
    addresses: Addresses,
    _operator: Replica,
}

impl<'a> Scene<'a> {
    /// Starts everything. The cluster is put into `slot`, so that the owner of the slot can end it.
    pub(super) async fn open(slot: &'a mut Option<AnyCluster>, program: &Path, keep_logs: bool) -> Result<Self> {
        say("starting a cluster with a real node");
        let options = Options { audit: true, ..Options::default().with_node() };
        let place = slot.insert(AnyCluster::Local(Cluster::start(options).await?));
        for object in manifests(Path::new(&format!("{WORKSPACE}/crds")))? {
            place.create(&object).await?;
        }
        let namespace: DynamicObject = serde_json::from_value(objects::namespace()).context("making a namespace")?;
        place.create(&namespace).await?;
        controller::grant(place, program).await?;
        let operator = Replica::start(place, "operator", &Plan { program, flags: Vec::new(), webhook: true }).await?;
        operator.ready().await?;
        operator.leads().await?;
        let place: &'a AnyCluster = place;
        let AnyCluster::Local(cluster) = place else { bail!("the cluster is not ours") };
        if keep_logs {
            cluster.keep_logs();
        }
        let gateway = Gateway::start(cluster, program, GATEWAY, DOMAIN).await?;
        let client = client::connect(&cluster.kubeconfig()).await?;
        let users = [(Who::Paddock.user(), "operator".to_owned()), (controller::gateway_user(), "gateway".to_owned())];
        let audit = AuditLog::new(cluster.audit_log(), NAMESPACE, Names { users: users.into() });
        let addresses = Addresses::watch(client.clone());
        Ok(Self { cluster, client, gateway, audit, addresses, _operator: operator })
    }

    /// The version of Kubernetes.
    pub(super) async fn version(&self) -> Result<String> {
        let version = self.cluster.client().apiserver_version().await.context("the API server's version")?;
        Ok(version.git_version)
    }

    /// Makes Sandboxes that have run and that the idle policy suspended, and returns their names.
    pub(super) async fn suspended(&self, setting: Setting, count: u32) -> Result<Vec<String>> {
        let names: Vec<String> = (0..count).map(|number| format!("{}-{number}", setting.name())).collect();
        for name in &names {
            let (path, sandbox) = (objects::seed_sandboxes(), setting.sandbox(name));
            let made = send(&self.client, Method::POST, &path, Load::Json(&sandbox)).await?;
            made.object(&format!("creating {name}"))?;
        }
        let ready = |sandbox: &Value| condition(sandbox, "Ready");
        self.all(&names, "Ready", ready).await?;
        self.idle_timeout(&names, "1s").await?;
        let asleep = |sandbox: &Value| sandbox["status"]["suspendedBy"] == "Idle" && condition(sandbox, "Suspended");
        self.all(&names, "suspended", asleep).await?;
        // Nothing may suspend a Sandbox while it is measured.
        self.idle_timeout(&names, "1h").await?;
        self.none(&objects::pods()).await?;
        Ok(names)
    }

    async fn idle_timeout(&self, names: &[String], value: &str) -> Result<()> {
        let patch = json!({ "spec": { "idleTimeout": value } });
        for name in names {
            let path = format!("{}/{name}", objects::seed_sandboxes());
            let patched = send(&self.client, Method::PATCH, &path, Load::Merge(&patch)).await?;
            patched.object(&format!("setting the idleTimeout of {name}"))?;
        }
        Ok(())
    }

    /// Deletes Sandboxes, and waits for the end of their pods.
    pub(super) async fn delete(&self, names: &[String]) -> Result<()> {
        for name in names {
            let path = format!("{}/{name}", objects::sandboxes());
            send(&self.client, Method::DELETE, &path, Load::Empty).await?.object(&format!("deleting {name}"))?;
        }
        self.none(&objects::sandboxes()).await?;
        self.none(&objects::pods()).await
    }

    async fn all(&self, names: &[String], what: &str, holds: impl Fn(&Value) -> bool) -> Result<()> {
        let began = Instant::now();
        loop {
            let list = get(&self.client, &objects::sandboxes()).await?;
            let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
            let done = items.iter().filter(|sandbox| holds(sandbox)).count();
            if done == names.len() {
                return Ok(());
            }
            ensure!(began.elapsed() < PATIENCE, "{done} of {} Sandboxes are {what}: {list:#}", names.len());
            tokio::time::sleep(POLL).await;
        }
    }

    async fn none(&self, path: &str) -> Result<()> {
        let began = Instant::now();
        while get(&self.client, path).await?["items"].as_array().is_some_and(|items| !items.is_empty()) {
            ensure!(began.elapsed() < PATIENCE, "objects stay at {path}");
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    pub(super) async fn pause(&self) {
        tokio::time::sleep(PAUSE).await;
    }

    /// Sends a request for a Sandbox through the gateway, and waits for its answer.
    pub(super) async fn request(&self, name: &str) -> Result<Asked> {
        request::get(self.gateway.proxy, &format!("{name}.{NAMESPACE}.{DOMAIN}")).await
    }

    /// The phases of all wakes so far.
    pub(super) async fn phases(&self) -> Result<WakePhases> {
        Ok(self.gateway.wake_phases().await?)
    }

    /// The phases of a wake that was answered. `gateway` has those of this wake alone, or is `None` if other wakes were
    /// under way: then our own watch says when the pod had an address.
    pub(super) fn wake(&mut self, name: &str, asked: Asked, gateway: Option<WakePhases>) -> Result<Wake> {
        self.audit.refresh()?;
        let stored = |who, what| {
            let write = self.audit.first(&Wanted { who, what, name, since: asked.sent });
            write.with_context(|| format!("{name}: the audit log has no {what} of the {who}"))
        };
        let patch = stored("gateway", "patch sandboxes")?;
        let moments = Moments {
            sent: asked.sent,
            patch,
            created: stored("operator", "create pods")?.1,
            bound: stored("scheduler", "create pods/binding")?.1,
            address: match gateway {
                Some(phases) => patch.1 + phases.pod,
                None => self.addresses.of(name, asked.sent)?,
            },
            answered: asked.answered,
            port: gateway.map(|phases| phases.port),
        };
        Ok(moments.phases())
    }
}

fn condition(sandbox: &Value, kind: &str) -> bool {
    let conditions = sandbox["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == kind && condition["status"] == "True")
}

/// The times at which a watch showed the addresses of pods for the first time.
struct Addresses {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    /// By the UID of the pod: its name, and the time.
    pods: HashMap<String, (String, Timestamp)>,
    error: Option<String>,
}

/// The parts of a pod that are read.
#[derive(Clone, Debug, Deserialize)]
struct Pod {
    metadata: ObjectMeta,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    #[serde(rename = "podIP")]
    pod_ip: String,
}

impl Addresses {
    fn watch(client: Client) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let into = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let ended = follow(&client, &into).await;
            let error = ended.err().map_or("it was closed".to_owned(), |error| format!("{error:#}"));
            into.lock().unwrap_or_else(PoisonError::into_inner).error = Some(error);
        });
        Self { seen, task }
    }

    /// The time for the first pod of this name after a time.
    fn of(&self, name: &str, after: Timestamp) -> Result<Timestamp> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let times = seen.pods.values().filter(|(pod, at)| pod == name && *at >= after).map(|(_, at)| *at);
        let ended = || seen.error.as_ref().map(|error| format!("; the watch ended: {error}")).unwrap_or_default();
        times.min().with_context(|| format!("{name}: no watch showed an address of its pod{}", ended()))
    }
}

impl Drop for Addresses {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Follows the pods until the API server closes the watch, which it does after half an hour at the earliest.
async fn follow(client: &Client, seen: &Mutex<Seen>) -> Result<()> {
    let path = format!("{}?watch=true&timeoutSeconds=7200", objects::pods());
    let request = http::Request::get(path).body(Vec::new()).context("making a request")?;
    let mut events = client.request_events::<Pod>(request).await?.boxed();
    while let Some(event) = events.try_next().await? {
        match event {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) if !pod.status.pod_ip.is_empty() => {
                let at = Timestamp::now();
                let (Some(uid), Some(name)) = (pod.metadata.uid, pod.metadata.name) else { continue };
                seen.lock().unwrap_or_else(PoisonError::into_inner).pods.entry(uid).or_insert((name, at));
            }
            WatchEvent::Added(_) | WatchEvent::Modified(_) | WatchEvent::Deleted(_) | WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(error) => bail!("{}", error.message),
        }
    }
    Ok(())
}
