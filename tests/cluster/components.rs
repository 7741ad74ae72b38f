//! The command line and the configuration of each component.
//!
//! The clients' own rate limits are raised, and etcd does not sync to disk. A test measures the operator and not the
//! limits of the other components, and the data lives no longer than the test.

use std::path::Path;

use serde_json::json;

use crate::cluster::Options;
use crate::kubeconfig::NAME;
use crate::layout::Layout;
use crate::node::{Network, REAL_NODE};
use crate::ports::Ports;
use crate::{Binaries, Error, Program, Result, Spawn};

/// The requests per second that a component may send. The defaults of 20 to 50 are low, although they are for clusters
/// with many nodes.
const QPS: u32 = 2_000;
/// The parallelism of kwok. A higher value does not help on two cores.
const KWOK_PARALLELISM: u32 = 16;
/// The time for which a node may be unresponsive. The simulated nodes never fail, but on a busy machine kwok may not
/// renew their Leases within the default of 50 s, and then every pod would be evicted.
const NODE_GRACE: &str = "5m0s";

const SERVICES: &str = "10.96.0.0/16";
const PODS: &str = "10.244.0.0/16";

/// The provisioner that the StorageClasses name.
pub(crate) const PROVISIONER: &str = "paddock.dev/host-path";
pub(crate) const KWOK_USER: &str = "paddock:kwok";
pub(crate) const PROVISIONER_USER: &str = "paddock:volume-provisioner";

/// The values from which command lines are built.
pub(crate) struct Components<'a> {
    pub(crate) binaries: &'a Binaries,
    pub(crate) layout: &'a Layout,
    pub(crate) options: &'a Options,
    pub(crate) addresses: &'a Addresses,
}

/// The ports of the components on the loopback address.
#[derive(Debug)]
pub(crate) struct Addresses {
    etcd: u16,
    etcd_peer: u16,
    api_server: u16,
    controller_manager: u16,
    scheduler: u16,
    kwok: u16,
    /// The ranges of a cluster with a real node.
    pub(crate) network: Option<Network>,
}

impl Addresses {
    pub(crate) fn new(ports: &Ports, network: Option<Network>) -> Result<Self> {
        Ok(Self {
            etcd: ports.next()?,
            etcd_peer: ports.next()?,
            api_server: ports.next()?,
            controller_manager: ports.next()?,
            scheduler: ports.next()?,
            kwok: ports.next()?,
            network,
        })
    }

    pub(crate) fn api_server(&self) -> u16 {
        self.api_server
    }

    /// The range of the Services.
    fn services(&self) -> String {
        self.network.as_ref().map_or_else(|| SERVICES.to_owned(), Network::services)
    }

    pub(crate) fn server(&self) -> String {
        format!("https://127.0.0.1:{}", self.api_server)
    }

    pub(crate) fn scheduler(&self) -> String {
        format!("https://127.0.0.1:{}", self.scheduler)
    }
}

impl Components<'_> {
    pub(crate) fn etcd(&self) -> Spawn {
        let a = self.addresses;
        let (client, peer) = (format!("https://127.0.0.1:{}", a.etcd), format!("http://127.0.0.1:{}", a.etcd_peer));
        self.program(Program::Etcd).args([
            "--name=etcd".to_owned(),
            format!("--data-dir={}", self.file("etcd")),
            "--unsafe-no-fsync".to_owned(),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=etcd={peer}"),
            "--client-cert-auth".to_owned(),
            format!("--trusted-ca-file={}", self.pki("etcd-ca.crt")),
            format!("--cert-file={}", self.pki("etcd-server.crt")),
            format!("--key-file={}", self.pki("etcd-server.key")),
            "--quota-backend-bytes=4294967296".to_owned(),
            "--auto-compaction-mode=periodic".to_owned(),
            "--auto-compaction-retention=5m".to_owned(),
            "--log-level=warn".to_owned(),
        ])
    }

    pub(crate) fn api_server(&self) -> Result<Spawn> {
        let a = self.addresses;
        let spawn = self.program(Program::ApiServer).args([
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=127.0.0.1".to_owned(),
            // A loopback address cannot be an endpoint of the Service `kubernetes`.
            "--endpoint-reconciler-type=none".to_owned(),
            format!("--secure-port={}", a.api_server),
            format!("--etcd-servers=https://127.0.0.1:{}", a.etcd),
            format!("--etcd-cafile={}", self.pki("etcd-ca.crt")),
            format!("--etcd-certfile={}", self.pki("etcd-client.crt")),
            format!("--etcd-keyfile={}", self.pki("etcd-client.key")),
            format!("--tls-cert-file={}", self.pki("apiserver.crt")),
            format!("--tls-private-key-file={}", self.pki("apiserver.key")),
            format!("--client-ca-file={}", self.pki("ca.crt")),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
            format!("--service-account-key-file={}", self.pki("service-account.pub")),
            format!("--service-account-signing-key-file={}", self.pki("service-account.key")),
            format!("--service-cluster-ip-range={}", self.addresses.services()),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            "--allow-privileged=true".to_owned(),
            format!("--kubelet-client-certificate={}", self.pki("kubelet-client.crt")),
            format!("--kubelet-client-key={}", self.pki("kubelet-client.key")),
            format!("--kubelet-certificate-authority={}", self.pki("ca.crt")),
            // The name of a real node means nothing to this machine's DNS.
            "--kubelet-preferred-address-types=InternalIP,Hostname".to_owned(),
            format!("--requestheader-client-ca-file={}", self.pki("front-proxy-ca.crt")),
            "--requestheader-allowed-names=front-proxy-client".to_owned(),
            "--requestheader-username-headers=X-Remote-User".to_owned(),
            "--requestheader-group-headers=X-Remote-Group".to_owned(),
            "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
            format!("--proxy-client-cert-file={}", self.pki("front-proxy-client.crt")),
            format!("--proxy-client-key-file={}", self.pki("front-proxy-client.key")),
            "--profiling=false".to_owned(),
        ]);
        let spawn = if self.options.priority_and_fairness {
            spawn
        } else {
            spawn.args([
                "--enable-priority-and-fairness=false",
                "--max-requests-inflight=0",
                "--max-mutating-requests-inflight=0",
            ])
        };
        let spawn = if self.options.audit { spawn.args(self.audit()?) } else { spawn };
        Ok(spawn.args(&self.options.api_server_args))
    }

    /// The log has one line for each request, written after the answer.
    fn audit(&self) -> Result<[String; 4]> {
        let policy = json!({
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "rules": [{ "level": "Metadata" }],
        });
        self.write("audit-policy.yaml", &policy)?;
        Ok([
            format!("--audit-policy-file={}", self.file("audit-policy.yaml")),
            format!("--audit-log-path={}", self.layout.audit_log().display()),
            "--audit-log-format=json".to_owned(),
            // The unit is MB. The log must not rotate while a test still counts its lines.
            "--audit-log-maxsize=100000".to_owned(),
        ])
    }

    pub(crate) fn controller_manager(&self) -> Spawn {
        let kubeconfig = self.layout.kubeconfig(Program::ControllerManager.name());
        self.serving(Program::ControllerManager, self.addresses.controller_manager)
            .args([
                format!("--kubeconfig={}", kubeconfig.display()),
                format!("--root-ca-file={}", self.pki("ca.crt")),
                format!("--cluster-signing-cert-file={}", self.pki("ca.crt")),
                format!("--cluster-signing-key-file={}", self.pki("ca.key")),
                format!("--service-account-private-key-file={}", self.pki("service-account.key")),
                "--use-service-account-credentials".to_owned(),
                "--leader-elect=false".to_owned(),
                // By default, it creates a folder in /usr/libexec.
                format!("--flex-volume-plugin-dir={}", self.file("flexvolume")),
                format!("--service-cluster-ip-range={}", self.addresses.services()),
                format!("--node-monitor-grace-period={NODE_GRACE}"),
                format!("--kube-api-qps={QPS}"),
                format!("--kube-api-burst={}", QPS * 2),
                "--concurrent-replicaset-syncs=20".to_owned(),
                "--concurrent-deployment-syncs=20".to_owned(),
                "--profiling=false".to_owned(),
            ])
            .args(&self.options.controller_manager_args)
    }

    pub(crate) fn scheduler(&self) -> Result<Spawn> {
        let kubeconfig = self.layout.kubeconfig(Program::Scheduler.name());
        let config = json!({
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "clientConnection": { "kubeconfig": kubeconfig, "qps": QPS, "burst": QPS * 2 },
            "leaderElection": { "leaderElect": false },
        });
        self.write("scheduler.yaml", &config)?;
        let spawn = self.serving(Program::Scheduler, self.addresses.scheduler);
        Ok(spawn.args([format!("--config={}", self.file("scheduler.yaml"))]))
    }

    /// kwok's own stages are part of its binary, which prints them as YAML documents.
    pub(crate) fn kwok(&self, stages: &str) -> Result<Spawn> {
        let port = self.addresses.kwok;
        let configuration = json!({
            "apiVersion": "config.kwok.x-k8s.io/v1alpha1",
            "kind": "KwokConfiguration",
            "options": {
                "cidr": PODS,
                "nodeIP": "127.0.0.1",
                "nodePort": port,
                "serverAddress": format!("127.0.0.1:{port}"),
                "tlsCertFile": self.pki("kwok.crt"),
                "tlsPrivateKeyFile": self.pki("kwok.key"),
                "enableDebuggingHandlers": true,
                "manageAllNodes": false,
                "manageNodesWithAnnotationSelector": "kwok.x-k8s.io/node=fake",
                "nodeLeaseDurationSeconds": 40,
                "nodeLeaseParallelism": 4,
                "nodePlayStageParallelism": 4,
                "podPlayStageParallelism": KWOK_PARALLELISM,
                "enablePodsOnNodeSyncStreamWatch": true,
            },
        });
        let log = self.file("container.log");
        crate::error::write_private(
            Path::new(&log),
            "2026-01-01T00:00:00.000000000Z stdout F this container only pretends\n",
        )?;
        let logs = json!({
            "apiVersion": "kwok.x-k8s.io/v1alpha1",
            "kind": "ClusterLogs",
            "metadata": { "name": "all" },
            "spec": { "logs": [{ "logsFile": log }] },
        });
        let mut text = stages.to_owned();
        for document in self.options.kwok_stages.iter().cloned().chain([yaml(&configuration)?, yaml(&logs)?]) {
            text.push_str("\n---\n");
            text.push_str(&document);
        }
        crate::error::write_private(Path::new(&self.file("kwok.yaml")), &text)?;
        Ok(self.program(Program::Kwok).args([
            format!("--kubeconfig={}", self.layout.kubeconfig(Program::Kwok.name()).display()),
            format!("--config={}", self.file("kwok.yaml")),
        ]))
    }

    pub(crate) fn provisioner(&self) -> Spawn {
        let kubeconfig = self.layout.kubeconfig(Program::ProvisionVolumes.name());
        let spawn = self.program(Program::ProvisionVolumes).args([
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--provisioner={PROVISIONER}"),
            format!("--root={}", self.layout.volumes().display()),
        ]);
        if self.options.real_node { spawn.args([format!("--node={REAL_NODE}")]) } else { spawn }
    }

    /// A component that serves metrics and health, and asks the API server to authorize their readers.
    fn serving(&self, program: Program, port: u16) -> Spawn {
        let name = program.name();
        let kubeconfig = self.layout.kubeconfig(name);
        self.program(program).args([
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={port}"),
            format!("--authentication-kubeconfig={}", kubeconfig.display()),
            format!("--authorization-kubeconfig={}", kubeconfig.display()),
            format!("--tls-cert-file={}", self.pki(&format!("{name}.crt"))),
            format!("--tls-private-key-file={}", self.pki(&format!("{name}.key"))),
            format!("--client-ca-file={}", self.pki("ca.crt")),
            format!("--requestheader-client-ca-file={}", self.pki("front-proxy-ca.crt")),
        ])
    }

    fn program(&self, program: Program) -> Spawn {
        // Some programs look for a home folder, and none may find the user's.
        Spawn::new(program.name(), self.binaries.path(program)).env("HOME", self.layout.folder().display().to_string())
    }

    fn pki(&self, name: &str) -> String {
        self.layout.pki().join(name).display().to_string()
    }

    fn file(&self, name: &str) -> String {
        self.layout.file(name).display().to_string()
    }

    fn write(&self, name: &str, value: &serde_json::Value) -> Result<()> {
        crate::error::write_private(Path::new(&self.file(name)), &yaml(value)?)
    }
}

/// A value as YAML.
pub(crate) fn yaml(value: &serde_json::Value) -> Result<String> {
    serde_yaml_ng::to_string(value).map_err(Error::format("writing a configuration"))
}

/// The kubeconfigs of the components, and the user in each.
pub(crate) const USERS: [(Program, &str); 4] = [
    (Program::ControllerManager, crate::pki::CONTROLLER_MANAGER),
    (Program::Scheduler, crate::pki::SCHEDULER),
    (Program::Kwok, KWOK_USER),
    (Program::ProvisionVolumes, PROVISIONER_USER),
];

/// The admin's kubeconfig has the name of its context.
pub(crate) const ADMIN_FILE: &str = NAME;
