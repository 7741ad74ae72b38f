//! The configuration files of the node's programs, and the list of its processes.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::images::{BUSYBOX_IMAGE, PAUSE_IMAGE, archives};
use super::{REAL_NODE, RealNode};
use crate::components::yaml;
use crate::error::write_private;
use crate::kubeconfig::{self, Identity};
use crate::{Error, Result};

/// The user of the DNS server.
pub(crate) const DNS_USER: &str = "paddock:dns";
/// The user of the program that enforces NetworkPolicies.
pub(crate) const POLICIES_USER: &str = "paddock:network-policies";
/// The label of the pod of the DNS server, the usual one.
pub(crate) const DNS_LABEL: (&str, &str) = ("k8s-app", "kube-dns");
/// The name of the pod of the DNS server. The kubelet adds the name of the node.
const DNS_POD: &str = "dns";
/// The port at which the node reaches the API server on this machine.
pub(crate) const API_SERVER_PORT: u16 = 6443;

const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";

/// Settings that the kubelet wants to write. They belong to the whole machine, which has its own.
const MASKED: [&str; 6] = [
    "vm.overcommit_memory=1",
    "vm.panic_on_oom=0",
    "kernel.panic=10",
    "kernel.panic_on_oops=1",
    "kernel.keys.root_maxkeys=1000000",
    "kernel.keys.root_maxbytes=25000000",
];

impl RealNode<'_> {
    /// Writes every file that the node reads, and returns the path of the main one.
    pub(super) fn write_files(&self) -> Result<PathBuf> {
        let folder = self.layout.file("node");
        std::fs::create_dir_all(&folder).map_err(Error::io(format!("making {}", folder.display())))?;
        // A local volume's folder must be there before the node shares its mounts.
        let volumes = self.layout.volumes();
        std::fs::create_dir_all(&volumes).map_err(Error::io(format!("making {}", volumes.display())))?;
        self.write_identities()?;
        self.write("kubelet.yaml", &yaml(&self.kubelet())?)?;
        self.write("kube-proxy.yaml", &yaml(&self.kube_proxy())?)?;
        self.write("containerd.toml", &self.containerd())?;
        self.write("runsc.toml", &self.runsc())?;
        self.write("cni/10-bridge.conflist", &self.cni().to_string())?;
        self.write("Corefile", &self.dns())?;
        let pods = self.static_pods();
        std::fs::create_dir_all(&pods).map_err(Error::io(format!("making {}", pods.display())))?;
        self.write("config.json", &self.main()?.to_string())?;
        Ok(self.file("config.json"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.layout.file("node").join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.file(name);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(Error::io(format!("making {}", folder.display())))?;
        }
        write_private(&path, text)
    }

    fn write_identities(&self) -> Result<()> {
        let server = format!("https://{}:{API_SERVER_PORT}", self.network.machine());
        let kubelet = format!("system:node:{REAL_NODE}");
        for (name, user, groups) in [
            ("kubelet", kubelet.as_str(), &["system:nodes"][..]),
            ("kube-proxy", "system:kube-proxy", &[]),
            ("dns", DNS_USER, &[]),
            ("network-policies", POLICIES_USER, &[]),
        ] {
            let pair = self.authority.client(user, groups)?;
            let path = self.file(&format!("{name}.kubeconfig"));
            kubeconfig::write(&path, &server, &self.authority.certificate, &Identity::Certificate(&pair))?;
        }
        let server = self.authority.server(REAL_NODE, &[REAL_NODE], &[self.network.node().into()])?;
        self.write("kubelet.crt", &server.certificate)?;
        self.write("kubelet.key", &server.key)
    }

    fn kubelet(&self) -> Value {
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": { "enabled": false },
                "webhook": { "enabled": true },
                "x509": { "clientCAFile": self.layout.pki().join("ca.crt") },
            },
            "authorization": { "mode": "Webhook" },
            "tlsCertFile": self.file("kubelet.crt"),
            "tlsPrivateKeyFile": self.file("kubelet.key"),
            "containerRuntimeEndpoint": format!("unix://{CONTAINERD_SOCKET}"),
            "cgroupDriver": "cgroupfs",
            "failCgroupV1": false,
            "failSwapOn": false,
            // Not every machine lets root lower the score of a process for the out-of-memory killer.
            "oomScoreAdj": 0,
            "makeIPTablesUtilChains": false,
            "clusterDomain": "cluster.local",
            "clusterDNS": [self.network.dns_service()],
            "resolvConf": "",
            // /usr is read-only in the node.
            "volumePluginDir": "/var/lib/kubelet/volume-plugins",
            "staticPodPath": self.static_pods(),
            // No image can be pulled again, and the disk belongs to the machine.
            "imageGCHighThresholdPercent": 100,
            "evictionHard": { "memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%" },
            "serializeImagePulls": false,
            "maxPods": 110,
        })
    }

    fn kube_proxy(&self) -> Value {
        json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clientConnection": { "kubeconfig": self.file("kube-proxy.kubeconfig") },
            "clusterCIDR": self.network.pods(),
            "hostnameOverride": REAL_NODE,
            "oomScoreAdj": 0,
            // The table of connections is the machine's.
            "conntrack": { "maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s" },
        })
    }

    fn containerd(&self) -> String {
        let programs = self.programs.programs.display();
        let (runsc, cni) = (self.file("runsc.toml"), self.file("cni"));
        let (runsc, cni) = (runsc.display(), cni.display());
        format!(
            r#"version = 3
disabled_plugins = ["io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.erofs", "io.containerd.differ.v1.erofs", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing", "io.containerd.nri.v1.nri"]

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{PAUSE_IMAGE}"

[plugins."io.containerd.cri.v1.runtime"]
  # Not every machine lets root lower the score of a process for the out-of-memory killer.
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["{programs}/cni"]
    conf_dir = "{cni}"
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      BinaryName = "{programs}/runc"
      SystemdCgroup = false
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runsc]
    runtime_type = "io.containerd.runsc.v1"
    pod_annotations = ["dev.gvisor.*"]
    container_annotations = ["dev.gvisor.*"]
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runsc.options]
      TypeUrl = "io.containerd.runsc.v1.options"
      ConfigPath = "{runsc}"
"#
        )
    }

    fn runsc(&self) -> String {
        let programs = self.programs.programs.display();
        format!("binary_name = \"{programs}/runsc\"\nlog_level = \"info\"\n[runsc_config]\n  platform = \"systrap\"\n")
    }

    fn cni(&self) -> Value {
        json!({
            "cniVersion": "1.0.0",
            "name": "bridge",
            "plugins": [{
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                "ipMasq": false,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": "/run/cni/addresses",
                    "ranges": [[{ "subnet": self.network.pods() }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            }],
        })
    }

    fn dns(&self) -> String {
        format!(
            ".:53 {{\n  errors\n  kubernetes cluster.local in-addr.arpa {{\n    kubeconfig {} {}\n    \
             pods insecure\n    ttl 5\n  }}\n  cache 5\n}}\n",
            self.file("dns.kubeconfig").display(),
            kubeconfig::NAME
        )
    }

    fn static_pods(&self) -> PathBuf {
        self.file("static-pods")
    }

    /// Lets the kubelet start the DNS server, and returns the name of its pod. It is a pod of the cluster, because
    /// NetworkPolicies select DNS servers by their labels. The images must be there.
    pub(super) fn start_dns(&self) -> Result<String> {
        let folders = [("programs", self.programs.programs.clone()), ("config", self.layout.file("node"))];
        let mounts = folders.clone().map(|(name, path)| json!({ "name": name, "mountPath": path, "readOnly": true }));
        let volumes = folders.map(|(name, path)| json!({ "name": name, "hostPath": { "path": path } }));
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": DNS_POD, "namespace": "kube-system", "labels": { DNS_LABEL.0: DNS_LABEL.1 } },
            "spec": {
                "dnsPolicy": "Default",
                "containers": [{
                    "name": "coredns",
                    "image": BUSYBOX_IMAGE,
                    "imagePullPolicy": "Never",
                    "command": [self.programs.programs.join("coredns"), "-conf", self.file("Corefile")],
                    "readinessProbe": { "tcpSocket": { "port": 53 }, "periodSeconds": 1 },
                    "volumeMounts": mounts,
                }],
                "volumes": volumes,
            },
        });
        self.write("dns.json", &pod.to_string())?;
        // The kubelet would read a file that is still written.
        let file = self.static_pods().join("dns.json");
        std::fs::rename(self.file("dns.json"), &file).map_err(Error::io(format!("writing {}", file.display())))?;
        Ok(format!("{DNS_POD}-{REAL_NODE}"))
    }

    /// The configuration of the process that starts the node.
    fn main(&self) -> Result<Value> {
        let programs = &self.programs.programs;
        let program = |name: &str| programs.join(name).display().to_string();
        let path = |name: &str| self.file(name).display().to_string();
        let process = |name: &str, needs: &str, once: bool, argv: Vec<String>| json!({ "name": name, "argv": argv, "log": self.layout.log(name), "needs": needs, "once": once });
        let mut kubelet = vec![program("masked-sysctls")];
        kubelet.extend(MASKED.map(str::to_owned));
        kubelet.extend([
            "--".to_owned(),
            program("kubelet"),
            format!("--config={}", path("kubelet.yaml")),
            format!("--kubeconfig={}", path("kubelet.kubeconfig")),
            format!("--hostname-override={REAL_NODE}"),
            format!("--node-ip={}", self.network.node()),
            "--v=2".to_owned(),
        ]);
        let mut processes = vec![
            process("containerd", "", false, vec![program("containerd"), "-c".to_owned(), path("containerd.toml")]),
            process("kubelet", CONTAINERD_SOCKET, false, kubelet),
            process(
                "kube-proxy",
                "",
                false,
                vec![program("kube-proxy"), format!("--config={}", path("kube-proxy.yaml")), "--v=2".to_owned()],
            ),
            process(
                "network-policies",
                "",
                false,
                vec![program("network-policies"), path("network-policies.kubeconfig"), self.network.pods()],
            ),
        ];
        for (n, archive) in archives(&self.programs.images).into_iter().enumerate() {
            let archive = archive.to_str().ok_or_else(|| Error::Input {
                field: "XDG_CACHE_HOME",
                problem: format!("{} is not UTF-8", archive.display()),
            })?;
            let import = ["-n", "k8s.io", "images", "import", "--local", archive].map(str::to_owned);
            let argv = std::iter::once(program("ctr")).chain(import).collect();
            processes.push(process(&format!("image-{n}"), CONTAINERD_SOCKET, true, argv));
        }
        let network = self.network;
        Ok(json!({
            "name": REAL_NODE,
            "folder": self.layout.folder(),
            "visible": [programs, self.programs.images],
            "started": self.started(),
            "network": {
                "link": network.link(),
                "machine": format!("{}/30", network.machine()),
                "node": format!("{}/30", network.node()),
                "routes": [network.pods(), network.services()],
                "listen": format!("{}:{API_SERVER_PORT}", network.machine()),
                "to": format!("127.0.0.1:{}", self.api_server),
            },
            "env": {
                "PATH": format!("{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", programs.display()),
                "HOME": "/root",
            },
            "processes": processes,
        }))
    }
}
