//! Where the demo and the benchmark run: a cluster of their own, unless a person names another.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

use kube::Client;
use kube::api::DynamicObject;

use crate::{Cluster, CreatedObjects, Error, External, Kubectl, Options, Process, Result, Spawn};

/// Command line arguments that choose the cluster. `KUBECONFIG` has no say: people export it, often for
/// production.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Target {
    /// Use the cluster of this kubeconfig file instead of starting a local one
    #[arg(long, value_name = "FILE", requires = "context")]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the file to use
    #[arg(long, value_name = "NAME", requires = "kubeconfig")]
    pub context: Option<String>,
    /// Do not ask for the context's name to be typed
    #[arg(long, requires = "kubeconfig")]
    pub yes: bool,
}

impl Target {
    /// Starts a local cluster, or opens the one that was named.
    pub async fn open(&self, options: Options) -> Result<AnyCluster> {
        match (&self.kubeconfig, &self.context) {
            (Some(file), Some(context)) => {
                let external = External::open(file, context, self.yes).await?;
                Ok(AnyCluster::External(external, CreatedObjects::default()))
            }
            // clap lets neither come without the other.
            (None | Some(_), None) | (None, Some(_)) => Ok(AnyCluster::Local(Cluster::start(options).await?)),
        }
    }
}

/// A cluster to use, whoever it belongs to.
#[expect(clippy::large_enum_variant, reason = "there is one of them in a program")]
pub enum AnyCluster {
    /// Our own, which goes when it is dropped.
    Local(Cluster),
    /// Somebody's, with what we made there.
    External(External, CreatedObjects),
}

impl AnyCluster {
    /// A client for it.
    #[must_use]
    pub fn client(&self) -> Client {
        match self {
            Self::Local(cluster) => cluster.client(),
            Self::External(external, _) => external.client(),
        }
    }

    /// A kubeconfig file for it.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        match self {
            Self::Local(cluster) => cluster.kubeconfig(),
            Self::External(external, _) => external.kubeconfig(),
        }
    }

    /// A loopback port for a program beside it. Beside another's cluster it is free at this moment; if something else is
    /// quicker, the program says which flag it was.
    ///
    /// # Errors
    /// Where there is none left.
    pub fn port(&self) -> Result<u16> {
        match self {
            Self::Local(cluster) => cluster.port(),
            Self::External(..) => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr());
                Ok(listener.map_err(Error::io("looking for a free port"))?.port())
            }
        }
    }

    /// Where its API server listens.
    #[must_use]
    pub fn server_url(&self) -> String {
        match self {
            Self::Local(cluster) => cluster.server_url(),
            Self::External(external, _) => external.server_url().to_owned(),
        }
    }

    /// kubectl for it.
    #[must_use]
    pub fn kubectl(&self) -> Kubectl {
        match self {
            Self::Local(cluster) => cluster.kubectl(),
            Self::External(external, _) => external.kubectl(),
        }
    }

    /// Starts a program on this machine that ends when we do.
    pub async fn spawn(&self, spawn: Spawn) -> Result<Process> {
        match self {
            Self::Local(cluster) => cluster.spawn(spawn).await,
            Self::External(external, _) => external.spawn(spawn).await,
        }
    }

    /// Creates an object, and notes it for [`AnyCluster::clean_up`] where that matters.
    pub async fn create(&mut self, object: &DynamicObject) -> Result<DynamicObject> {
        match self {
            Self::Local(cluster) => CreatedObjects::default().create(&cluster.client(), object).await,
            Self::External(external, created) => created.create(&external.client(), object).await,
        }
    }

    /// Removes from somebody's cluster what [`AnyCluster::create`] made, and gives what could not be removed.
    pub async fn clean_up(&mut self) -> Vec<crate::Error> {
        match self {
            Self::Local(_) => Vec::new(),
            Self::External(_, created) => created.remove().await,
        }
    }
}
