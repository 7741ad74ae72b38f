//! Every name that Paddock puts on the wire: groups, labels, annotations, conditions, reasons and the
//! messages that clients compare. A name is written here once and nowhere else.

/// The name under which the API server records the reconciles' writes.
pub const FIELD_MANAGER: &str = "paddock";
/// The finalizer of what is deleted in the foreground: the garbage collector takes it away when what it owns has gone.
pub const FOREGROUND: &str = "foregroundDeletion";

/// API groups and versions.
pub mod group {
    /// The group of Sandbox, and of all four kinds in the seed shape.
    pub const AGENTS: &str = "agents.x-k8s.io";
    /// The group of template, pool and claim in the upstream shape.
    pub const EXTENSIONS: &str = "extensions.agents.x-k8s.io";
    /// The group of our own labels, annotations and policy kinds.
    pub const POLICY: &str = "policy.paddock.dev";
    /// The older version of both shapes; the only one of the seed's template, pool and claim.
    pub const V1ALPHA1: &str = "v1alpha1";
    /// The storage version of Sandbox and of the extension kinds.
    pub const V1BETA1: &str = "v1beta1";
    /// What an owner reference to a Sandbox, and every Sandbox we make, says.
    pub const SANDBOX_API_VERSION: &str = "agents.x-k8s.io/v1beta1";
}

/// Labels.
pub mod label {
    /// FNV-1a hash of a Sandbox's name, on its Pod and Service; clients compute it. Never select on it alone.
    pub const SANDBOX_NAME_HASH: &str = "agents.x-k8s.io/sandbox-name-hash";
    /// Hash of the pool's name, on the pool's Sandboxes and their Pods.
    pub const WARM_POOL_SANDBOX: &str = "agents.x-k8s.io/warm-pool-sandbox";
    /// Hash of the template's name, on Sandboxes and Pods made from it.
    pub const TEMPLATE_REF_HASH: &str = "agents.x-k8s.io/sandbox-template-ref-hash";
    /// Hash of the template's content, by which a stale Sandbox is known.
    pub const TEMPLATE_HASH: &str = "agents.x-k8s.io/sandbox-template-hash";
    /// UID of the claim that owns a Sandbox.
    pub const CLAIM_UID: &str = "agents.x-k8s.io/claim-uid";
    /// [`LAUNCH_COLD`] or [`LAUNCH_WARM`].
    pub const LAUNCH_TYPE: &str = "agents.x-k8s.io/launch-type";
    /// Made for a claim that found nothing warm.
    pub const LAUNCH_COLD: &str = "cold";
    /// Made ahead of time by a pool.
    pub const LAUNCH_WARM: &str = "warm";
    /// Who created the object; clients set it and dashboards read it.
    pub const CREATED_BY: &str = "agents.x-k8s.io/created-by";
    /// `"true"` lets a Sandbox take over an unowned object of the right name.
    pub const ADOPTABLE: &str = "agents.x-k8s.io/adoptable";
    /// UID of a Sandbox, on its Pod and in its Service's selector: unlike the hash, it never collides.
    pub const SANDBOX_UID: &str = "policy.paddock.dev/sandbox-uid";
    /// `"true"` marks a Pod, a pod template or a Sandbox as running generated code.
    pub const GENERATED_CODE: &str = "policy.paddock.dev/generated-code";
    /// On a namespace, `required`: demands an isolating runtime for every pod in it. So does any other value but
    /// [`ISOLATION_NONE`]: a slip of the pen must not open what was to be closed.
    pub const ISOLATION: &str = "policy.paddock.dev/isolation";
    /// The one value of [`ISOLATION`] that demands nothing.
    pub const ISOLATION_NONE: &str = "none";
    /// The value of a label that is a flag and is set.
    pub const TRUE: &str = "true";
}

/// Annotations.
pub mod annotation {
    /// On a Sandbox: its Pod's name. There before an adopted Sandbox is Ready.
    pub const POD_NAME: &str = "agents.x-k8s.io/pod-name";
    /// On a claim: the Sandbox it took. There when a warm claim is first seen Ready; a hint, never a commitment.
    pub const SANDBOX_NAME: &str = "agents.x-k8s.io/sandbox-name";
    /// On a claim: when a controller first saw it, RFC 3339 with sub-seconds.
    pub const FIRST_OBSERVED_AT: &str = "agents.x-k8s.io/controller-first-observed-at";
    /// On a claim: when a client first asked for it.
    pub const FIRST_REQUESTED_AT: &str = "agents.x-k8s.io/client-first-requested-at";
    /// On a Sandbox: the name of its template.
    pub const TEMPLATE_REF: &str = "agents.x-k8s.io/sandbox-template-ref";
    /// On a Pod: which labels came from the Sandbox's pod template.
    pub const PROPAGATED_LABELS: &str = "agents.x-k8s.io/propagated-labels";
    /// On a Pod: which annotations came from the Sandbox's pod template.
    pub const PROPAGATED_ANNOTATIONS: &str = "agents.x-k8s.io/propagated-annotations";
    /// A W3C trace context carrier, as JSON.
    pub const TRACE_CONTEXT: &str = "opentelemetry.io/trace-context";
    /// `"true"` on warm pods, removed at adoption.
    pub const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
    /// On a Sandbox: when it was last used, RFC 3339. Webhook, gateway and SDK write it.
    pub const LAST_ACTIVITY: &str = "policy.paddock.dev/last-activity";
    /// On a Sandbox: until when an exec, attach or port-forward holds it awake, RFC 3339. The webhook writes it.
    pub const HELD_UNTIL: &str = "policy.paddock.dev/held-until";
    /// On a Sandbox: name of the pool that it came from, or that had none for it. Stays when it is claimed.
    pub const WARM_POOL: &str = "policy.paddock.dev/warm-pool";
    /// On a Pod: why it has its RuntimeClass.
    pub const CLASS_REASON: &str = "policy.paddock.dev/runtime-class-reason";
    /// On a Pod: the plugin that chose its RuntimeClass.
    pub const CLASS_PLUGIN: &str = "policy.paddock.dev/runtime-class-plugin";
    /// On an EndpointSlice: since when it leads nowhere, RFC 3339.
    pub const DRAINED_AT: &str = "policy.paddock.dev/drained-at";
    /// On a Sandbox: `"true"` keeps its `emptyDir`s as they are, so that an idle suspend may lose them.
    pub const EPHEMERAL_VOLUMES: &str = "policy.paddock.dev/ephemeral-volumes";
}

/// Condition types. A Sandbox carries the first four and no others.
pub mod condition {
    /// The object can be used.
    pub const READY: &str = "Ready";
    /// The Sandbox is suspended; always present on a Sandbox.
    pub const SUSPENDED: &str = "Suspended";
    /// The Pod's own condition of that name; absent without an owned Pod.
    pub const POD_SCHEDULED: &str = "PodScheduled";
    /// The Pod ended by itself.
    pub const FINISHED: &str = "Finished";
    /// Of a pool: its size was decided.
    pub const SIZED: &str = "Sized";
}

/// Reasons of conditions.
pub mod reason {
    /// `Ready` of a Sandbox: everything it needs is there.
    pub const DEPENDENCIES_READY: &str = "DependenciesReady";
    /// `Ready` of a Sandbox: something it needs is not there yet.
    pub const DEPENDENCIES_NOT_READY: &str = "DependenciesNotReady";
    /// `Ready` of a Sandbox: it is suspended.
    pub const SANDBOX_SUSPENDED: &str = "SandboxSuspended";
    /// `Ready` of a Sandbox: it owns more than one Pod, and nothing is touched.
    pub const MULTIPLE_PODS: &str = "MultiplePods";
    /// `Ready` of a Sandbox or claim: the Sandbox's time is up.
    pub const SANDBOX_EXPIRED: &str = "SandboxExpired";
    /// `Ready` and `Finished`: the Pod ended well.
    pub const POD_SUCCEEDED: &str = "PodSucceeded";
    /// `Ready` and `Finished`: the Pod ended badly.
    pub const POD_FAILED: &str = "PodFailed";
    /// `Ready`: the operator could not do its work.
    pub const RECONCILER_ERROR: &str = "ReconcilerError";

    /// `Suspended`: it runs.
    pub const NOT_SUSPENDED: &str = "NotSuspended";
    /// `Suspended`: the Pod is on its way out.
    pub const POD_TERMINATING: &str = "PodTerminating";
    /// `Suspended`: a Pod of that name belongs to somebody else.
    pub const POD_NOT_OWNED: &str = "PodNotOwned";
    /// `Suspended`: the Pod is gone.
    pub const POD_TERMINATED: &str = "PodTerminated";
    /// `Suspended`: what became of the Pod is not known.
    pub const POD_STATE_UNKNOWN: &str = "PodStateUnknown";

    /// `PodScheduled` of a Sandbox whose Pod says nothing of its own.
    pub const SCHEDULED: &str = "Scheduled";

    /// `Ready` of a pool: as many as were decided are Ready.
    pub const POOL_READY: &str = "PoolReady";
    /// `Ready` of a pool: fewer than were decided are Ready.
    pub const POOL_NOT_READY: &str = "PoolNotReady";
    /// `Sized` of a pool: the message says by whom and why.
    pub const DECIDED: &str = "Decided";
    /// `Sized` of a pool: the policy wants a size out of the pool's bounds.
    pub const LIMITED: &str = "Limited";

    /// `Ready` of a claim: there is no such template.
    pub const TEMPLATE_NOT_FOUND: &str = "TemplateNotFound";
    /// `Ready` of a claim: there is no such pool.
    pub const WARM_POOL_NOT_FOUND: &str = "WarmPoolNotFound";
    /// `Ready` of a claim: another claim was faster.
    pub const ADOPTION_CONFLICT: &str = "AdoptionConflict";
    /// `Ready` of a claim: its Sandbox is being made.
    pub const SANDBOX_CREATE_PENDING: &str = "SandboxCreatePending";
    /// `Ready` of a claim: its additional labels or annotations are not allowed.
    pub const INVALID_METADATA: &str = "InvalidMetadata";
    /// `Ready` of a claim: the template does not let it set environment variables.
    pub const ENV_VARS_INJECTION_REJECTED: &str = "EnvVarsInjectionRejected";
    /// `Ready` of a claim: the template does not let it bring volume claim templates.
    pub const VOLUME_CLAIM_TEMPLATES_ERROR: &str = "VolumeClaimTemplatesError";
    /// `Ready` of a claim: its time is up.
    pub const CLAIM_EXPIRED: &str = "ClaimExpired";
    /// `Ready` of a claim: the Sandbox it had is gone.
    pub const SANDBOX_MISSING: &str = "SandboxMissing";
    /// `Ready` of a claim: its Sandbox has no `Ready` condition yet.
    pub const SANDBOX_NOT_READY: &str = "SandboxNotReady";
}

/// Messages of conditions that clients compare.
pub mod message {
    /// `Ready`, with a Service.
    pub const POD_READY_SERVICE_EXISTS: &str = "Pod is Ready; Service Exists";
    /// `Ready`, without a Service.
    pub const POD_READY: &str = "Pod is Ready";
    /// `Ready` of a suspended Sandbox.
    pub const SUSPENDED: &str = "Sandbox is suspended";
    /// `Ready` of a Sandbox that is being suspended.
    pub const SUSPENDING: &str = "Sandbox is suspending";
    /// `Ready` of an expired Sandbox.
    pub const EXPIRED: &str = "Sandbox has expired";
    /// `Ready` of a Sandbox whose Pod runs without being ready.
    pub const POD_NOT_READY: &str = "Pod is Running but not Ready";
    /// `Ready` of a Sandbox without a Pod.
    pub const POD_MISSING: &str = "Pod does not exist";
    /// Appended when a Service is wanted and missing.
    pub const SERVICE_MISSING_SUFFIX: &str = "; Service does not exist";
    /// `Suspended` of a running Sandbox.
    pub const NOT_SUSPENDED: &str = "Sandbox is not suspended";
    /// `Suspended` while the Pod terminates.
    pub const POD_TERMINATING: &str = "Pod is terminating. Sandbox is suspending";
    /// `Suspended` once the Pod is gone.
    pub const POD_TERMINATED: &str = "Pod has been terminated. Sandbox is suspended";
    /// `Ready` of a Sandbox whose Pod is in another phase than Running.
    #[must_use]
    pub fn pod_phase(phase: &str) -> String {
        format!("Pod exists with phase: {phase}")
    }
}

/// Names of objects.
pub mod object {
    /// The Lease that the upstream operator holds; ours holds it too, so that two never act.
    pub const UPSTREAM_LEASE: &str = "a3317529.agent-sandbox.x-k8s.io";
    /// The namespace of the operator's deployment.
    pub const OPERATOR_NAMESPACE: &str = "agent-sandbox-system";
    /// The operator's deployment and ServiceAccount.
    pub const OPERATOR_DEPLOYMENT: &str = "agent-sandbox-controller";
    /// What the label `app` of the router's pods says, by upstream's manifests.
    pub const ROUTER_APP: &str = "sandbox-router";
    /// The domain whose labels a claim may set, unless the operator is told others.
    pub const CLAIM_LABEL_DOMAIN: &str = "sandbox.users.io";
    /// The port of a Sandbox that declares none: the usual runtime's.
    pub const DEFAULT_PORT: u16 = 8888;

    /// What the name of a template's NetworkPolicy ends with.
    pub const NETWORK_POLICY_SUFFIX: &str = "-network-policy";

    /// The NetworkPolicy of a template.
    #[must_use]
    pub fn network_policy(template: &str) -> String {
        format!("{template}{NETWORK_POLICY_SUFFIX}")
    }

    /// The PersistentVolumeClaim of one volume of a Sandbox.
    #[must_use]
    pub fn volume_claim(volume: &str, sandbox: &str) -> String {
        format!("{volume}-{sandbox}")
    }
}

/// The value of a `*-hash` label: 32-bit FNV-1a of the name, eight lower-case hex digits.
#[must_use]
pub fn name_hash(name: &str) -> String {
    // Offset basis and prime of 32-bit FNV, from the algorithm's definition.
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{hash:08x}")
}

#[cfg(test)]
mod tests {
    use super::name_hash;

    #[test]
    fn name_hash_is_fnv_1a_of_32_bits_as_published() {
        for (name, hash) in [("", "811c9dc5"), ("a", "e40c292c"), ("foobar", "bf9cf968"), ("b", "e70c2de5")] {
            assert_eq!(name_hash(name), hash, "{name:?}");
        }
    }
}
