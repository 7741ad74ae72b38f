//! The annotations of a Pod that others read: Kubernetes, operators, runtimes, network plugins, service meshes, and the
//! identities of clouds. One table says which a claim may not add, and which count as a change of a warm Sandbox.

use crate::model::names::{domain_of, is_within};

/// A program that reads annotations of Pods.
struct Reader {
    /// The domain of its annotations.
    domain: &'static str,
    effect: Effect,
}

/// The annotations of a reader that change what a running Pod is or may do. Annotations that the program writes itself
/// must not be among them: network plugins and autoscalers annotate every pod.
enum Effect {
    /// None of them, as far as is known.
    None,
    /// Those with these prefixes.
    Of(&'static [&'static str]),
    /// All of them.
    Every,
}

const fn reader(domain: &'static str, effect: Effect) -> Reader {
    Reader { domain, effect }
}

static READERS: [Reader; 36] = [
    reader("agents.x-k8s.io", Effect::Every),
    reader("alibabacloud.com", Effect::None),
    reader("aliyun.com", Effect::None),
    reader("amazonaws.com", Effect::None),
    reader("antrea.io", Effect::None),
    reader("azure.com", Effect::None),
    reader("azure.workload.identity", Effect::None),
    reader("cilium.io", Effect::None),
    // Multus: docs/how-to-use.md. Its status annotation is `k8s.v1.cni.cncf.io/network-status`.
    reader("cncf.io", Effect::Of(&["k8s.v1.cni.cncf.io/networks"])),
    reader("containerd.io", Effect::None),
    // Profiles for the containers of a Pod: `seccomp-profile.kubernetes.cri-o.io/CONTAINER`.
    reader("cri-o.io", Effect::Every),
    reader("crio.io", Effect::None),
    reader("dapr.io", Effect::None),
    reader("gke.io", Effect::None),
    reader("google.com", Effect::None),
    reader("gvisor.dev", Effect::None),
    reader("hashicorp.com", Effect::None),
    reader("istio.io", Effect::None),
    // Devices of the Container Device Interface.
    reader("k8s.io", Effect::Of(&["cdi.k8s.io/"])),
    reader("katacontainers.io", Effect::None),
    reader(
        "kubernetes.io",
        Effect::Of(&[
            // The kubelet: profiles of AppArmor and seccomp, before they were fields.
            "container.apparmor.security.beta.kubernetes.io/",
            "container.seccomp.security.alpha.kubernetes.io/",
            "seccomp.security.alpha.kubernetes.io/",
            // The bandwidth plugin of CNI.
            "kubernetes.io/ingress-bandwidth",
            "kubernetes.io/egress-bandwidth",
        ]),
    ),
    reader("kubevirt.io", Effect::None),
    reader("kuma.io", Effect::None),
    reader("linkerd.io", Effect::None),
    reader("multus-cni.io", Effect::Of(&["v1.multus-cni.io/default-network"])),
    // Plugins of NRI read annotations of these two domains, such as `devices.nri.io/container.NAME`.
    reader("noderesource.dev", Effect::Every),
    reader("nri.io", Effect::Every),
    reader("nvidia.com", Effect::None),
    reader("openshift.io", Effect::None),
    reader("ovn.org", Effect::None),
    reader("paddock.dev", Effect::Every),
    // Calico: "Pod annotations". It writes `podIP`, `podIPs` and `containerID` in the same domain.
    reader("projectcalico.org", Effect::Of(&["cni.projectcalico.org/ip", "cni.projectcalico.org/floatingIPs"])),
    // Spiderpool: "Annotation". It writes none of these.
    reader("spidernet.io", Effect::Of(&["ipam.spidernet.io/"])),
    reader("spiffe.io", Effect::None),
    // TKE reads `tke.cloud.tencent.com/networks`, and writes `networks-status` to every pod.
    reader("tencent.com", Effect::None),
    reader("weave.works", Effect::None),
];

/// The prefixes of annotations without a domain that change what a running Pod is or may do.
static NAMES: [&str; 15] = [
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
];

/// Whether anybody reads an annotation of a Pod, as far as is known.
pub(crate) fn is_read(key: &str) -> bool {
    let within = |domain: &str| READERS.iter().any(|reader| is_within(domain, reader.domain));
    domain_of(key).is_some_and(|domain| within(&domain)) || has_effect(key)
}

/// Whether an annotation changes what a running Pod is or may do when somebody adds it.
pub(crate) fn has_effect(key: &str) -> bool {
    let domain = domain_of(key);
    let acts = |reader: &Reader| match reader.effect {
        Effect::None => false,
        Effect::Of(prefixes) => prefixes.iter().any(|prefix| key.starts_with(prefix)),
        Effect::Every => domain.as_deref().is_some_and(|domain| is_within(domain, reader.domain)),
    };
    NAMES.iter().any(|prefix| key.starts_with(prefix)) || READERS.iter().any(acts)
}

/// An annotation for each entry of the table, and for each subdomain and prefix that has an effect.
#[cfg(test)]
pub(crate) fn examples() -> impl Iterator<Item = (String, bool)> {
    let of_readers = READERS.iter().flat_map(|reader| {
        let domain = reader.domain;
        let (prefixes, every): (&[&str], bool) = match reader.effect {
            Effect::None => (&[], false),
            Effect::Of(prefixes) => (prefixes, false),
            Effect::Every => (&[], true),
        };
        let of_domain = [format!("{domain}/example"), format!("sub.{domain}/example")].map(|key| (key, every));
        prefixes.iter().map(|prefix| (format!("{prefix}x"), true)).chain(of_domain)
    });
    of_readers.chain(NAMES.iter().map(|prefix| (format!("{prefix}x"), true)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_read_and_every_prefix_is_of_its_reader() {
        for (key, acts) in examples() {
            assert!(is_read(&key), "{key}");
            assert_eq!(has_effect(&key), acts, "{key}");
        }
        let written =
            ["cni.projectcalico.org/podIP", "k8s.ovn.org/pod-networks", "tke.cloud.tencent.com/networks-status"];
        for key in written.into_iter().chain(["note", "example.com/seen", "notnri.io/x"]) {
            assert!(!has_effect(key), "{key}");
        }
        for reader in &READERS {
            let Effect::Of(prefixes) = reader.effect else { continue };
            for prefix in prefixes {
                assert!(domain_of(prefix).is_some_and(|domain| is_within(&domain, reader.domain)), "{prefix}");
            }
        }
    }
}
