//! The kinds of Kubernetes that contain a pod or a pod template. Users may mark their pods as generated code.

/// A kind of Kubernetes that contains a pod or a pod template.
#[derive(Debug, PartialEq, Eq)]
pub struct PodKind {
    /// The API group. Empty for the core group.
    pub group: &'static str,
    /// The name of the kind.
    pub kind: &'static str,
    /// The name of the resource.
    pub plural: &'static str,
    /// The path of the pod template. Empty if the object is a Pod.
    pub template: &'static str,
}

/// The kinds of Kubernetes that run pods. All of them have the version `v1`.
pub const POD_KINDS: [PodKind; 8] = [
    PodKind { group: "", kind: "Pod", plural: "pods", template: "" },
    PodKind { group: "", kind: "ReplicationController", plural: "replicationcontrollers", template: "spec.template" },
    PodKind { group: "apps", kind: "Deployment", plural: "deployments", template: "spec.template" },
    PodKind { group: "apps", kind: "StatefulSet", plural: "statefulsets", template: "spec.template" },
    PodKind { group: "apps", kind: "DaemonSet", plural: "daemonsets", template: "spec.template" },
    PodKind { group: "apps", kind: "ReplicaSet", plural: "replicasets", template: "spec.template" },
    PodKind { group: "batch", kind: "Job", plural: "jobs", template: "spec.template" },
    PodKind { group: "batch", kind: "CronJob", plural: "cronjobs", template: "spec.jobTemplate.spec.template" },
];
