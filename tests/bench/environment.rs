//! The environment of a run: a new cluster, the controller under test, and a namespace with a template and a pool.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use http::{Method, StatusCode};
use jiff::Timestamp;
use kube::Client;
use kube::api::DynamicObject;
use paddock_cluster::{AnyCluster, Options, Program, WORKSPACE};
use serde::Deserialize as _;
use serde_json::Value;

use crate::args::Common;
use crate::audit::{AuditLog, Names};
use crate::client::{self, Load, get, send};
use crate::controller::{self, Plan, Replica, Who};
use crate::metrics::Scrape;
use crate::objects::{self, NAMESPACE, POOL};
use crate::progress::say;
use crate::usage::{self, Usage, Watched};
use crate::watch::Watch;

/// The user of the load.
const CLIENT: &str = "paddock-bench:client";
/// The number of pods on a node of our own. Some of its room stays free.
const PODS_PER_NODE: u32 = 1000;
/// The longest time until an API server serves new kinds.
const SERVED: Duration = Duration::from_secs(60);
/// A pool that does not grow for this time has stopped.
const STALLED: Duration = Duration::from_secs(60);
/// If there is no write for this time, all work is done.
const QUIET: Duration = Duration::from_millis(1500);

/// The state of a run.
pub(crate) struct Environment<'a> {
    /// The cluster.
    pub(crate) place: &'a mut AnyCluster,
    /// The load's connections.
    pub(crate) client: Client,
    /// The controller that is measured.
    pub(crate) who: Who,
    /// Its processes: none, one, or two.
    pub(crate) replicas: Vec<Replica>,
    /// The writes, if they can be counted.
    pub(crate) audit: Option<AuditLog>,
}

/// The counters at one time.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    /// The time on the clock that the audit log uses too.
    pub(crate) wall: Timestamp,
    /// The usage of every process.
    pub(crate) usage: BTreeMap<String, Usage>,
    /// The number of reconciles of all replicas so far.
    pub(crate) reconciles: Option<f64>,
}

/// The options of an environment.
pub(crate) struct Setup<'a> {
    /// The user's options.
    pub(crate) common: &'a Common,
    /// The controller that is measured.
    pub(crate) who: Who,
    /// Our binary, if it is measured.
    pub(crate) program: Option<&'a Path>,
    /// The largest number of sandboxes at the same time.
    pub(crate) sandboxes: u32,
    /// The number of our replicas.
    pub(crate) replicas: usize,
    /// Additional flags of our operator.
    pub(crate) flags: Vec<String>,
}

impl<'a> Environment<'a> {
    /// Starts the cluster into `slot`, so that the owner of the slot can end it, and then all other parts.
    pub(crate) async fn open(slot: &'a mut Option<AnyCluster>, setup: &Setup<'_>) -> Result<Self> {
        let Setup { common, who, .. } = *setup;
        let nodes = common.nodes.max(setup.sandboxes / PODS_PER_NODE + 1);
        let options =
            Options { nodes, audit: !common.no_audit, priority_and_fairness: common.fairness, ..Options::default() };
        say(&match common.target.kubeconfig {
            None => format!("{}: starting a cluster with {nodes} nodes", who.title()),
            Some(_) => format!("{}: on the cluster that you named", who.title()),
        });
        let place = slot.insert(common.target.open(options).await?);
        if let (AnyCluster::Local(cluster), true) = (&*place, common.run.keep_logs) {
            cluster.keep_logs();
        }
        let kubeconfig = match place {
            AnyCluster::Local(cluster) => cluster.kubeconfig_for_user(CLIENT, &["system:masters"])?,
            AnyCluster::External(external, _) => external.kubeconfig(),
        };
        let client = client::connect(&kubeconfig).await?;
        let ours = format!("{WORKSPACE}/crds");
        let crds = if who == Who::Other { common.crds.as_deref() } else { None }.unwrap_or(Path::new(&ours));
        for object in manifests(crds)? {
            place.create(&object).await?;
        }
        let mut environment = Self { place, client, who, replicas: Vec::new(), audit: None };
        environment.served().await?;
        environment.create_kept(objects::namespace()).await?;
        environment.start(setup).await?;
        environment.audit = match (&*environment.place, common.no_audit) {
            (AnyCluster::Local(cluster), false) => {
                let users = [(who.user(), who.role().to_owned()), (CLIENT.to_owned(), "bench".to_owned())];
                Some(AuditLog::new(cluster.audit_log(), NAMESPACE, Names { users: users.into() }))
            }
            (AnyCluster::Local(_) | AnyCluster::External(..), _) => None,
        };
        environment.post(&objects::templates(), &objects::template()).await?;
        client::warm(&environment.client).await?;
        Ok(environment)
    }

    async fn start(&mut self, setup: &Setup<'_>) -> Result<()> {
        let place = &*self.place;
        match (self.who, setup.program) {
            (Who::Paddock, Some(program)) => {
                if let AnyCluster::Local(_) = place {
                    controller::grant(place, program).await?;
                }
                // Two webhooks would need a Service in front of them, and a Service needs a real node.
                let webhook = !setup.common.no_webhook && setup.replicas == 1;
                let flags = setup.flags.iter().chain(&setup.common.operator_flag).cloned().collect();
                let plan = Plan { program, flags, webhook };
                for number in 1..=setup.replicas {
                    let name = if number == 1 { "operator".to_owned() } else { format!("operator-{number}") };
                    let replica = Replica::start(place, &name, &plan).await?;
                    replica.ready().await?;
                    if number == 1 {
                        replica.leads().await?;
                    }
                    self.replicas.push(replica);
                }
            }
            (Who::Other, _) => {
                let replica = Replica::start_other(place, setup.common).await?;
                replica.ready().await?;
                self.replicas.push(replica);
            }
            (Who::Paddock, None) => bail!("there is no operator to start"),
            (Who::Bare, _) => {}
        }
        Ok(())
    }

    /// Creates an object. At the end, it is removed from a cluster that is not ours.
    async fn create_kept(&mut self, object: Value) -> Result<()> {
        let object: DynamicObject = serde_json::from_value(object).context("making an object")?;
        self.place.create(&object).await?;
        Ok(())
    }

    /// Creates an object in our namespace. It is deleted with the namespace.
    pub(crate) async fn post(&self, path: &str, object: &Value) -> Result<Value> {
        send(&self.client, Method::POST, path, Load::Json(object)).await?.object(&format!("creating at {path}"))
    }

    async fn served(&self) -> Result<()> {
        let began = Instant::now();
        // A kind can be listed when it is served.
        for path in [objects::sandboxes(), objects::pools(), objects::templates(), objects::claims()] {
            while let Err(error) = get(&self.client, &path).await {
                ensure!(began.elapsed() < SERVED, "the CRDs are not served: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// Creates the pool with this size.
    pub(crate) async fn pool(&self, size: u32, common: &Common) -> Result<()> {
        self.post(&objects::pools(), &objects::pool(size, common.no_refill)).await?;
        Ok(())
    }

    /// Stops the refill of the pool: the pool is deleted, and its finalizer keeps it terminating.
    pub(crate) async fn stop_refill(&self) -> Result<()> {
        let path = format!("{}/{POOL}", objects::pools());
        send(&self.client, Method::DELETE, &path, Load::Empty).await?.object("deleting the pool")?;
        let pool = get(&self.client, &path).await?;
        ensure!(pool["metadata"]["deletionTimestamp"].is_string(), "the pool is not being deleted");
        Ok(())
    }

    /// Waits until the pool has this number of Ready sandboxes. Returns the number that it has if it stops growing
    /// earlier.
    pub(crate) async fn fill(&self, size: u32) -> Result<u32> {
        let began = Instant::now();
        let (mut most, mut grew, mut reported) = (0, Instant::now(), Instant::now());
        loop {
            let pool = get(&self.client, &format!("{}/{POOL}", objects::pools())).await?;
            let ready = pool["status"]["readyReplicas"].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
            if ready > most {
                (most, grew) = (ready, Instant::now());
            }
            if ready >= size {
                say(&format!("{size} sandboxes are Ready after {:.1} s", began.elapsed().as_secs_f64()));
                return Ok(ready);
            }
            if grew.elapsed() > STALLED {
                say(&format!("the pool stays at {most} of {size}: {}", pool["status"]["conditions"]));
                return Ok(most);
            }
            if reported.elapsed() > Duration::from_secs(10) {
                reported = Instant::now();
                say(&format!("{ready} of {size} sandboxes are Ready"));
            }
            self.alive()?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the pool has this number of Ready sandboxes. A smaller number is an error.
    pub(crate) async fn full(&self, size: u32) -> Result<()> {
        say(&format!("{}: filling the pool with {size} sandboxes", self.who.title()));
        let ready = self.fill(size).await?;
        ensure!(ready >= size, "the pool has {ready} Ready sandboxes and not {size}");
        Ok(())
    }

    fn alive(&self) -> Result<()> {
        match self.replicas.iter().find(|replica| !replica.process.running()) {
            Some(ended) => bail!("{} ended; its log is {}", ended.process.name(), ended.process.log().display()),
            None => Ok(()),
        }
    }

    /// Waits until the garbage collector knows our kinds, which takes up to half a minute after their creation. Until
    /// then, the objects of a deleted claim are not deleted.
    pub(crate) async fn collects_garbage(&self) -> Result<()> {
        const ORPHAN: &str = "orphan";
        say(&format!("{}: waiting for the garbage collector to know of sandboxes", self.who.title()));
        self.post(&objects::templates(), &objects::orphan(ORPHAN)).await?;
        let (path, began) = (format!("{}/{ORPHAN}", objects::templates()), Instant::now());
        while send(&self.client, Method::GET, &path, Load::Empty).await?.status != StatusCode::NOT_FOUND {
            ensure!(began.elapsed() < SERVED * 2, "the garbage collector does not collect what is ours");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// Waits until there are no more writes. Returns whether that happened in time.
    pub(crate) async fn settle(&mut self, limit: Duration) -> Result<bool> {
        let Some(audit) = &mut self.audit else {
            // Without an audit log, it waits twice the time that is enough with one.
            tokio::time::sleep(QUIET * 2).await;
            return Ok(true);
        };
        let began = Instant::now();
        let mut quiet = Instant::now();
        while quiet.elapsed() < QUIET {
            if audit.refresh()? > 0 {
                quiet = Instant::now();
            }
            if began.elapsed() > limit {
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(true)
    }

    /// All processes whose usage is reported.
    pub(crate) fn processes(&self) -> Vec<Watched> {
        let mut all = Vec::new();
        for (number, replica) in self.replicas.iter().enumerate() {
            let role = self.who.role();
            let name = if number == 0 { role.to_owned() } else { format!("{role} {}", number + 1) };
            all.push(Watched { name, pid: replica.process.pid() });
        }
        if let AnyCluster::Local(cluster) = &*self.place {
            let parts =
                [Program::ApiServer, Program::Etcd, Program::ControllerManager, Program::Scheduler, Program::Kwok];
            let parts = parts.into_iter().filter_map(|part| cluster.process(part.name()).ok());
            all.extend(parts.map(|part| Watched { name: part.name().to_owned(), pid: part.pid() }));
        }
        all.push(usage::own());
        all
    }

    /// Reads all counters.
    pub(crate) async fn moment(&self) -> Result<Moment> {
        let mut reconciles = None;
        for replica in &self.replicas {
            if let Some(count) = Scrape::of(&replica.metrics).await?.reconciles() {
                *reconciles.get_or_insert(0.0) += count;
            }
        }
        Ok(Moment { wall: Timestamp::now(), usage: usage::now(&self.processes()), reconciles })
    }

    /// The launch type of each existing sandbox.
    pub(crate) async fn launches(&self) -> Result<HashMap<String, String>> {
        let mut launches = HashMap::new();
        Watch::begin(&self.client, &objects::sandboxes(), |event| {
            if let Some(state) = event.state {
                launches.insert(event.name.to_owned(), state.launch.unwrap_or_default().to_owned());
            }
        })
        .await?;
        Ok(launches)
    }
}

/// All objects of a YAML file, or of the YAML files of a folder.
pub(crate) fn manifests(path: &Path) -> Result<Vec<DynamicObject>> {
    let context = || format!("reading {}", path.display());
    let mut files = vec![path.to_owned()];
    if path.is_dir() {
        let entries = std::fs::read_dir(path).with_context(context)?.flatten().map(|entry| entry.path());
        files = entries.filter(|file| file.extension().is_some_and(|end| end == "yaml")).collect();
        files.sort();
    }
    let mut objects = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).with_context(context)?;
        for document in serde_yaml_ng::Deserializer::from_str(&text) {
            let value = Value::deserialize(document).with_context(context)?;
            if !value.is_null() {
                objects.push(serde_json::from_value(value).with_context(context)?);
            }
        }
    }
    ensure!(!objects.is_empty(), "{} has no manifests", path.display());
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_crds_are_found() {
        let crds = manifests(Path::new(&format!("{WORKSPACE}/crds"))).unwrap();
        let names: Vec<&str> = crds.iter().filter_map(|crd| crd.metadata.name.as_deref()).collect();
        assert!(names.contains(&"sandboxclaims.extensions.agents.x-k8s.io"), "{names:?}");
        assert!(manifests(Path::new("/nowhere")).is_err());
    }
}
