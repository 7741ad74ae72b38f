//! The cluster of the demo and the benchmark: a local one, unless the user names another.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

use kube::Client;
use kube::api::DynamicObject;

use crate::{Cluster, CreatedObjects, Error, External, Kubectl, Options, Process, Result, Spawn};

/// The command line arguments that choose the cluster. `KUBECONFIG` is ignored, because users often export it for
/// production.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Target {
    /// Use the cluster of this kubeconfig file instead of a local one
    #[arg(long, value_name = "FILE", requires = "context")]
    pub kubeconfig: Option<PathBuf>,
    /// The context in the file
    #[arg(long, value_name = "NAME", requires = "kubeconfig")]
    pub context: Option<String>,
    /// Do not ask the user to type the context's name
    #[arg(long, requires = "kubeconfig")]
    pub yes: bool,
}

impl Target {
    /// Starts a local cluster, or opens the named one.
    pub async fn open(&self, options: Options) -> Result<AnyCluster> {
        match (&self.kubeconfig, &self.context) {
            (Some(file), Some(context)) => {
                let external = External::open(file, context, self.yes).await?;
                Ok(AnyCluster::External(external, CreatedObjects::default()))
            }
            // clap requires each of them to come with the other.
            (None | Some(_), None) | (None, Some(_)) => Ok(AnyCluster::Local(Cluster::start(options).await?)),
        }
    }
}

/// A cluster of any owner.
#[expect(clippy::large_enum_variant, reason = "there is one of them in a program")]
pub enum AnyCluster {
    /// Our own cluster, which ends when it is dropped.
    Local(Cluster),
    /// The user's cluster, with the objects that we created there.
    External(External, CreatedObjects),
}

impl AnyCluster {
    /// A client for the cluster.
    #[must_use]
    pub fn client(&self) -> Client {
        match self {
            Self::Local(cluster) => cluster.client(),
            Self::External(external, _) => external.client(),
        }
    }

    /// A kubeconfig file for the cluster.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        match self {
            Self::Local(cluster) => cluster.kubeconfig(),
            Self::External(external, _) => external.kubeconfig(),
        }
    }

    /// A loopback port for a program beside the cluster. Beside the user's cluster, the port is free at this moment. If
    /// another program takes it, the program's error message names the flag.
    ///
    /// # Errors
    /// Returns an error if no port is left.
    pub fn port(&self) -> Result<u16> {
        match self {
            Self::Local(cluster) => cluster.port(),
            Self::External(..) => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr());
                Ok(listener.map_err(Error::io("looking for a free port"))?.port())
            }
        }
    }

    /// The URL of the API server.
    #[must_use]
    pub fn server_url(&self) -> String {
        match self {
            Self::Local(cluster) => cluster.server_url(),
            Self::External(external, _) => external.server_url().to_owned(),
        }
    }

    /// kubectl for the cluster.
    #[must_use]
    pub fn kubectl(&self) -> Kubectl {
        match self {
            Self::Local(cluster) => cluster.kubectl(),
            Self::External(external, _) => external.kubectl(),
        }
    }

    /// Starts a program on this machine. It ends with this process.
    pub async fn spawn(&self, spawn: Spawn) -> Result<Process> {
        match self {
            Self::Local(cluster) => cluster.spawn(spawn).await,
            Self::External(external, _) => external.spawn(spawn).await,
        }
    }

    /// Creates an object, and records it for [`AnyCluster::clean_up`] if the cluster is the user's.
    pub async fn create(&mut self, object: &DynamicObject) -> Result<DynamicObject> {
        match self {
            Self::Local(cluster) => CreatedObjects::default().create(&cluster.client(), object).await,
            Self::External(external, created) => created.create(&external.client(), object).await,
        }
    }

    /// Removes the objects that [`AnyCluster::create`] made from the user's cluster, and returns the errors of those
    /// that could not be removed.
    pub async fn clean_up(&mut self) -> Vec<crate::Error> {
        match self {
            Self::Local(_) => Vec::new(),
            Self::External(_, created) => created.remove().await,
        }
    }
}
