//! A real Kubernetes control plane on this machine, for tests, the demo and the benchmark.
//!
//! [`Cluster::start`] starts etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kwok and a volume
//! provisioner, with TLS and RBAC, on its own loopback ports. The programs are built once from Go modules at pinned
//! versions ([`Binaries`]). All processes run under a supervisor, which kills them when this process ends in any way.
//! A real node can run beside them: see
//! [`Options::with_node`]. `KUBECONFIG` is never read: another cluster is used only if the user names it ([`Target`]).

mod agent;
mod binaries;
mod bootstrap;
mod cache;
mod cluster;
mod components;
mod created;
mod detached;
mod error;
mod external;
mod gateway;
mod go;
mod go_build;
mod http;
mod kubeconfig;
mod kubectl;
mod layout;
mod nginx;
mod node;
mod operator;
mod pki;
mod plugin_tools;
mod ports;
mod proc;
mod process;
mod registry;
mod sdk;
mod stages;
mod stop;
mod supervisor;
mod target;
mod tokens;
mod wait;

pub use agent::{Agent, Executed};
pub use binaries::{Binaries, Program};
pub use cluster::{Cluster, Options, RuntimeClass};
pub use created::CreatedObjects;
pub use detached::DetachedCluster;
pub use error::{Error, Result};
pub use external::External;
pub use gateway::{Gateway, TCP_WAKE_PORTS, WakePhases};
pub use http::{Endpoint, http_get};
pub use kubectl::Kubectl;
pub use nginx::nginx;
pub use node::{AGENT_IMAGE, BUSYBOX_IMAGE, REAL_NODE, build_node, node_is_missing};
pub use operator::{BESIDE, WORKSPACE, build_operator, grant, operator_rights, operator_was_built};
pub use plugin_tools::{componentize_py, componentize_qjs};
pub use process::{Exit, Process, Signal, Spawn};
pub use registry::{Registry, RegistryAccess};
pub use sdk::{go_sdk_client, python_sdk};
pub use stages::{HOLD_LABEL, READY_AFTER_ANNOTATION};
pub use stop::stopped;
pub use target::{AnyCluster, Target};
pub use tokens::{base64url, base64url_decoded, hmac_sha256};
pub use wait::{PATIENCE, eventually, eventually_some};
