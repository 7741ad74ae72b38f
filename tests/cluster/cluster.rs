//! A running control plane.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::bootstrap::within;
use crate::cache::report;
use crate::components::{ADMIN_FILE, Addresses, Components, USERS};
use crate::kubeconfig::Identity;
use crate::layout::{Layout, temporary};
use crate::node::{Network, RealNode};
use crate::pki::{ADMIN, Pair, Pki};
use crate::ports::Ports;
use crate::supervisor::Supervisor;
use crate::{
    Binaries, DetachedCluster, Error, Kubectl, Process, Result, Spawn, bootstrap, detached, kubeconfig, node, stages,
};

/// The longest time until a cluster is ready. It takes 5 s on an idle machine, and many times that on a busy one.
const START: Duration = Duration::from_secs(300);
/// The number of tries to start, because another program may take one of the ports.
const TRIES: usize = 3;
/// The lifetime of ServiceAccount tokens.
const TOKEN_SECONDS: i64 = 24 * 3600;

/// The options of a cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// The number of simulated nodes.
    pub nodes: u32,
    /// Whether the API server logs every request at the level Metadata: see [`Cluster::audit_log`].
    pub audit: bool,
    /// Whether the API server limits requests, as it does by default. Without the limit, it does not distort a burst.
    pub priority_and_fairness: bool,
    /// The RuntimeClasses. Every node reports their handlers.
    pub runtime_classes: Vec<RuntimeClass>,
    /// Whether a real node runs containers: see [`Options::with_node`].
    pub real_node: bool,
    /// Additional kwok stages, each a YAML document.
    pub kwok_stages: Vec<String>,
    /// Additional arguments of the API server.
    pub api_server_args: Vec<String>,
    /// Additional arguments of the controller manager.
    pub controller_manager_args: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: 5,
            audit: false,
            priority_and_fairness: false,
            runtime_classes: Vec::new(),
            real_node: false,
            kwok_stages: Vec::new(),
            api_server_args: Vec::new(),
            controller_manager_args: Vec::new(),
        }
    }
}

impl Options {
    /// Adds the RuntimeClasses `gvisor` and `kata`, with the handlers that those projects document.
    #[must_use]
    pub fn with_isolation(mut self) -> Self {
        self.runtime_classes = classes([("gvisor", "runsc"), ("kata", "kata")]);
        self
    }

    /// Starts a real node instead of the simulated ones. It runs containers under runc and gVisor, with the
    /// RuntimeClasses `runc` and `gvisor`. Its volumes keep their files as long as their claims exist. Pods and
    /// Services can be reached from this machine at their addresses, and no image is pulled: the node has
    /// [`crate::BUSYBOX_IMAGE`] and [`crate::AGENT_IMAGE`].
    ///
    /// The programs of the node are built once, which takes minutes. [`crate::node_is_missing`] gives the reason if
    /// this machine cannot run a node.
    #[must_use]
    pub fn with_node(mut self) -> Self {
        self.nodes = 0;
        self.real_node = true;
        self.runtime_classes = classes([("runc", "runc"), ("gvisor", "runsc")]);
        self
    }
}

fn classes<const N: usize>(all: [(&str, &str); N]) -> Vec<RuntimeClass> {
    all.map(|(name, handler)| RuntimeClass { name: name.to_owned(), handler: handler.to_owned() }).to_vec()
}

/// A RuntimeClass.
#[derive(Clone, Debug)]
pub struct RuntimeClass {
    /// The object's name, which pods refer to.
    pub name: String,
    /// The name of the runtime on the nodes.
    pub handler: String,
}

/// A running control plane. It ends when it is dropped.
pub struct Cluster {
    client: Client,
    supervisor: Arc<Supervisor>,
    processes: Mutex<BTreeMap<String, Process>>,
    binaries: Binaries,
    layout: Layout,
    ports: Ports,
    addresses: Addresses,
    pki: Pki,
    admin: Pair,
    keep_logs: AtomicBool,
}

impl Cluster {
    /// Builds the programs if necessary, starts a cluster, and waits until pods can be scheduled on it.
    pub async fn start(options: Options) -> Result<Self> {
        let binaries = Binaries::ready_async().await?;
        Self::start_with(&binaries, &options).await
    }

    /// Starts a cluster with programs that were found before.
    pub async fn start_with(binaries: &Binaries, options: &Options) -> Result<Self> {
        let programs = if options.real_node { Some(node::Programs::ready().await?) } else { None };
        let mut tries = 0;
        loop {
            tries += 1;
            let cluster = Self::prepare(binaries, options).await?;
            let logs = cluster.layout.logs();
            // The future is large, and the stacks of test threads are small.
            let run = Box::pin(cluster.run(options, programs.as_ref()));
            let Err(error) = within(START, "a cluster's start", logs, run).await else {
                return Ok(cluster);
            };
            cluster.supervisor.end(&Layout::EVIDENCE);
            // Our own processes have ended, so a port that is still in use belongs to another program.
            if cluster.ports.free() || tries == TRIES {
                return Err(error);
            }
            let _ = std::fs::remove_dir_all(cluster.dir());
        }
    }

    /// Prepares everything except the processes.
    async fn prepare(binaries: &Binaries, options: &Options) -> Result<Self> {
        let folder = temporary(detached::PREFIX)?;
        let layout = Layout::create(folder.path())?;
        let ports = Ports::reserve()?;
        let network = if options.real_node { Some(Network::reserve()?) } else { None };
        let more = network.iter().flat_map(|n| [n.machine().into(), n.kubernetes_service().into()]);
        let pki = Pki::write(&layout, &more.collect::<Vec<_>>())?;
        let addresses = Addresses::new(&ports, network)?;
        let (server, authority) = (addresses.server(), &pki.cluster.certificate);
        let admin = pki.cluster.client(ADMIN.0, ADMIN.1)?;
        let admin_file = layout.kubeconfig(ADMIN_FILE);
        kubeconfig::write(&admin_file, &server, authority, &Identity::Certificate(&admin))?;
        for (program, user) in USERS {
            let pair = pki.cluster.client(user, &[])?;
            let file = layout.kubeconfig(program.name());
            kubeconfig::write(&file, &server, authority, &Identity::Certificate(&pair))?;
        }
        let client = kubeconfig::client(&admin_file).await?;
        let supervisor = Arc::new(Supervisor::start(binaries, &layout)?);
        let _ = folder.keep(); // the supervisor removes it from here on
        Ok(Self {
            client,
            supervisor,
            processes: Mutex::default(),
            binaries: binaries.clone(),
            layout,
            ports,
            addresses,
            pki,
            admin,
            keep_logs: AtomicBool::new(false),
        })
    }

    async fn run(&self, options: &Options, programs: Option<&node::Programs>) -> Result<()> {
        let Self { binaries, layout, addresses, .. } = self;
        let components = Components { binaries, layout, options, addresses };
        let etcd = self.component(components.etcd()).await?;
        let api_server = self.component(components.api_server()?).await?;
        let stages = stages::load(binaries).await?;
        etcd.until(api_server.until(self.wait_ready())).await?;

        // They start only now, because clients that find no API server or no roles back off for seconds.
        bootstrap::grant(&self.client).await?;
        let rest = [
            self.component(components.controller_manager()).await?,
            self.component(components.scheduler()?).await?,
            self.component(components.kwok(&stages)?).await?,
            self.component(components.provisioner()).await?,
        ];
        let work = async {
            bootstrap::create_cluster_objects(&self.client, options).await?;
            if let Some(programs) = programs {
                Box::pin(self.start_node(programs)).await?;
            }
            bootstrap::schedulable(&self.client, options.nodes).await?;
            bootstrap::healthy(&self.scheduler_client().await?, "/readyz").await
        };
        let [controller_manager, scheduler, kwok, provisioner] = &rest;
        controller_manager.until(scheduler.until(kwok.until(provisioner.until(work)))).await
    }

    async fn start_node(&self, programs: &node::Programs) -> Result<()> {
        let Some(network) = &self.addresses.network else { return Ok(()) };
        let api_server = self.addresses.api_server();
        let node = RealNode { programs, layout: &self.layout, network, authority: &self.pki.cluster, api_server };
        // The objects are first, because a client without its rights tries again only after a while.
        node::create_node_objects(&self.client, network).await?;
        let process = self.component(node.prepare()?).await?;
        process.until(node.ready(&self.client)).await
    }

    /// The address at which pods reach this machine. Without a real node, this is the loopback address.
    #[must_use]
    pub fn address_of_machine(&self) -> Ipv4Addr {
        self.addresses.network.as_ref().map_or(Ipv4Addr::LOCALHOST, Network::machine)
    }

    /// A client with every right. It belongs to the runtime that started the cluster. On another runtime, use
    /// [`Cluster::new_client`].
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// A client with every right and with its own connections.
    pub async fn new_client(&self) -> Result<Client> {
        kubeconfig::client(&self.kubeconfig()).await
    }

    /// A kubeconfig with every right.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.layout.kubeconfig(ADMIN_FILE)
    }

    /// A kubeconfig for any user in `groups`. With two or more groups, the admin impersonates the user, because our
    /// certificates contain one group.
    pub fn kubeconfig_for_user(&self, user: &str, groups: &[&str]) -> Result<PathBuf> {
        let pair;
        let identity = if groups.len() > 1 {
            Identity::Acting(&self.admin, user, groups)
        } else {
            pair = self.pki.cluster.client(user, groups)?;
            Identity::Certificate(&pair)
        };
        self.write_kubeconfig(&format!("user-{}", user.replace(['/', ':'], "_")), &identity)
    }

    /// A kubeconfig with a new token of an existing ServiceAccount. It has exactly the rights of the ServiceAccount.
    pub async fn kubeconfig_for_service_account(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client(), namespace);
        let spec = TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() };
        let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        let what = format!("asking for a token of service account {namespace}/{name}");
        let answer = accounts.create_token_request(name, &PostParams::default(), &request).await;
        let token = answer.map_err(Error::kube(what))?.status.and_then(|s| s.token).unwrap_or_default();
        self.write_kubeconfig(&format!("account-{namespace}-{name}"), &Identity::Token(&token))
    }

    fn write_kubeconfig(&self, name: &str, identity: &Identity<'_>) -> Result<PathBuf> {
        let path = self.layout.kubeconfig(name);
        kubeconfig::write(&path, &self.server_url(), &self.pki.cluster.certificate, identity)?;
        Ok(path)
    }

    /// The URL of the API server.
    #[must_use]
    pub fn server_url(&self) -> String {
        self.addresses.server()
    }

    /// The folder with all files of this cluster. It is removed with the cluster.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.layout.folder()
    }

    /// The API server's audit log, with one JSON object in each line. It exists with [`Options::audit`].
    #[must_use]
    pub fn audit_log(&self) -> PathBuf {
        self.layout.audit_log()
    }

    /// A free loopback port, which stays reserved for this cluster. There are 14 of them.
    pub fn port(&self) -> Result<u16> {
        self.ports.next()
    }

    /// kubectl with every right.
    #[must_use]
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new(&self.binaries, &self.kubeconfig(), self.dir())
    }

    /// A process by its name. [`Program::name`](crate::Program::name) gives the names of the control plane's processes.
    pub fn process(&self, name: &str) -> Result<Process> {
        let processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        processes.get(name).cloned().ok_or_else(|| {
            let known = processes.keys().cloned().collect::<Vec<_>>().join(", ");
            Error::Supervisor(format!("no process is called {name:?}; there are {known}"))
        })
    }

    /// Starts another program beside the control plane. It ends with the cluster. A name can be used again after its
    /// process has ended, and the new process appends to the log.
    pub async fn spawn(&self, spawn: Spawn) -> Result<Process> {
        self.begin(spawn, true).await
    }

    /// Waits until the API server reports that it is ready, for example after a restart.
    pub async fn wait_ready(&self) -> Result<()> {
        bootstrap::healthy(&self.client, "/readyz").await
    }

    /// Keeps the logs when the cluster ends, and prints their path. A panic does the same.
    pub fn keep_logs(&self) {
        self.keep_logs.store(true, Ordering::Relaxed);
    }

    /// Ends the cluster now, as dropping it does.
    pub fn stop(self) {
        drop(self);
    }

    /// Leaves the cluster running after this process has ended. The result describes how to use and stop it.
    pub async fn keep(self) -> Result<DetachedCluster> {
        self.supervisor.detach(&self.layout.socket()).await?;
        Ok(DetachedCluster::at(self.dir()))
    }

    async fn component(&self, spawn: Spawn) -> Result<Process> {
        self.begin(spawn, false).await
    }

    async fn begin(&self, spawn: Spawn, inherit: bool) -> Result<Process> {
        let process = Process::begin(&self.supervisor, spawn.start(&self.layout, inherit)?).await?;
        let mut processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        processes.insert(process.name().to_owned(), process.clone());
        Ok(process)
    }

    /// The scheduler's certificate has the same CA as the API server's.
    async fn scheduler_client(&self) -> Result<Client> {
        let mut config = kubeconfig::config(&self.kubeconfig()).await?;
        config.cluster_url = self.addresses.scheduler().parse().map_err(Error::format("the scheduler's address"))?;
        Client::try_from(config).map_err(Error::kube("making a client for the scheduler"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.keep_logs.load(Ordering::Relaxed) || std::thread::panicking() {
            self.supervisor.end(&Layout::EVIDENCE);
            report(&format!("the cluster's logs are in {}", self.layout.logs().display()));
        } else {
            self.supervisor.end(&[]);
        }
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("server", &self.server_url()).field("dir", &self.dir()).finish_non_exhaustive()
    }
}
