//! The annotations that change what a Pod is or may do when somebody adds them.

/// The prefixes of annotations that Paddock, a container runtime or a network plugin reads from a Pod. A prefix with a
/// `/` at its end is a whole domain.
///
/// Annotations that such a program writes itself must not be here: network plugins and autoscalers annotate every pod.
const READ: [&str; 29] = [
    // Paddock and the API that it serves.
    "policy.paddock.dev/",
    "agents.x-k8s.io/",
    // The kubelet: profiles of AppArmor and seccomp, before they were fields.
    "container.apparmor.security.beta.kubernetes.io/",
    "container.seccomp.security.alpha.kubernetes.io/",
    "seccomp.security.alpha.kubernetes.io/",
    // Kata Containers: docs/how-to/how-to-set-sandbox-config-kata.md. gVisor: runsc/config, "flag overrides".
    "io.katacontainers.",
    "dev.gvisor.",
    // containerd and CRI-O pass annotations of these prefixes to the runtime; CRI-O: docs/crio.conf.5.md,
    // `allowed_annotations`.
    "io.kubernetes.cri.",
    "io.kubernetes.cri-o.",
    "io.containerd.",
    "io.crun.",
    "run.oci.",
    "cpu-load-balancing.crio.io",
    "cpu-quota.crio.io",
    "cpu-freq-governor.crio.io",
    "cpu-c-states.crio.io",
    "cpu-shared.crio.io",
    "irq-load-balancing.crio.io",
    "link-logs.crio.io",
    "seccomp-profile.kubernetes.cri-o.io",
    // Devices of the Container Device Interface, and plugins of NRI.
    "cdi.k8s.io/",
    "devices.nri.io/",
    // The bandwidth plugin of CNI.
    "kubernetes.io/ingress-bandwidth",
    "kubernetes.io/egress-bandwidth",
    // Multus: docs/how-to-use.md. Its status annotation is `k8s.v1.cni.cncf.io/network-status`, which is not in the list.
    "k8s.v1.cni.cncf.io/networks",
    "v1.multus-cni.io/default-network",
    // Calico: "Pod annotations". It writes `podIP`, `podIPs` and `containerID` in the same domain.
    "cni.projectcalico.org/ip",
    "cni.projectcalico.org/floatingIPs",
    // Spiderpool: "Annotation". It writes none of these.
    "ipam.spidernet.io/",
];

/// Whether Paddock, a runtime or a network plugin acts on an annotation of a Pod.
pub(super) fn has_effect(key: &str) -> bool {
    READ.iter().any(|prefix| key.starts_with(prefix))
}
