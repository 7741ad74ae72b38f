//! Every name that Paddock uses on the wire: groups, labels, annotations, conditions, reasons and the messages that
//! clients compare. Each name is defined here and nowhere else.

/// The field manager of the reconciles' writes.
pub const FIELD_MANAGER: &str = "paddock";
/// The finalizer of foreground deletion. The garbage collector removes it when the dependents of the object are
/// deleted.
pub const FOREGROUND: &str = "foregroundDeletion";

/// API groups and versions.
pub mod group {
    /// The group of Sandbox. In the seed shape it is the group of all four kinds.
    pub const AGENTS: &str = "agents.x-k8s.io";
    /// The group of template, pool and claim in the upstream shape.
    pub const EXTENSIONS: &str = "extensions.agents.x-k8s.io";
    /// The group of Paddock's own labels and annotations.
    pub const POLICY: &str = "policy.paddock.dev";
    /// The older version in the upstream shape, and the only version of template, pool and claim in the seed shape.
    pub const V1ALPHA1: &str = "v1alpha1";
    /// The storage version of Sandbox and of the kinds in the upstream shape.
    pub const V1BETA1: &str = "v1beta1";
}

/// Labels, and their values.
pub mod label {
    /// On a namespace: its name. The API server sets it, and nobody can change it.
    pub const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
    /// On an EndpointSlice: the name of its Service.
    pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
    /// On a Pod and a Service: the FNV-1a hash of the Sandbox's name. Clients compute it. It may collide, so a selector
    /// must not use it alone.
    pub const SANDBOX_NAME_HASH: &str = "agents.x-k8s.io/sandbox-name-hash";
    /// On the Sandboxes of a pool and their Pods: the hash of the pool's name.
    pub const WARM_POOL_SANDBOX: &str = "agents.x-k8s.io/warm-pool-sandbox";
    /// On Sandboxes and Pods from a template: the hash of the template's name.
    pub const TEMPLATE_REF_HASH: &str = "agents.x-k8s.io/sandbox-template-ref-hash";
    /// On Pods from a template: the first 128 bits of the SHA-256 of the template's name. The NetworkPolicy of the template
    /// selects by it beside [`TEMPLATE_REF_HASH`], because two names may have the same 32-bit hash.
    pub const TEMPLATE_DIGEST: &str = "policy.paddock.dev/template-digest";
    /// On a Sandbox: the hash of the template's content. A Sandbox is stale if it differs from the template's hash.
    pub const TEMPLATE_HASH: &str = "agents.x-k8s.io/sandbox-template-hash";
    /// On a Sandbox: the UID of the claim that owns it.
    pub const CLAIM_UID: &str = "agents.x-k8s.io/claim-uid";
    /// On a Sandbox: [`LAUNCH_COLD`] or [`LAUNCH_WARM`].
    pub const LAUNCH_TYPE: &str = "agents.x-k8s.io/launch-type";
    /// The Sandbox was created for a claim that found no warm Sandbox.
    pub const LAUNCH_COLD: &str = "cold";
    /// The Sandbox was created by a pool before there was a claim.
    pub const LAUNCH_WARM: &str = "warm";
    /// The creator of the object. Clients set it, and dashboards read it.
    pub const CREATED_BY: &str = "agents.x-k8s.io/created-by";
    /// `"true"` allows a Sandbox to adopt this object if it has the right name and no owner.
    pub const ADOPTABLE: &str = "agents.x-k8s.io/adoptable";
    /// On a Pod and in the selector of a Service: the UID of the Sandbox. Unlike the hash, it never collides.
    pub const SANDBOX_UID: &str = "policy.paddock.dev/sandbox-uid";
    /// On a Pod, a pod template, a Sandbox, a claim, a pool or a template: `"true"` means that it runs generated code,
    /// or that the pods made from it do.
    pub const GENERATED_CODE: &str = "policy.paddock.dev/generated-code";
    /// On a namespace: `required` demands an isolating runtime for every pod in it. Every other value except
    /// [`ISOLATION_NONE`] demands it too, because a typing error must not remove the protection.
    pub const ISOLATION: &str = "policy.paddock.dev/isolation";
    /// The only value of [`ISOLATION`] that demands nothing.
    pub const ISOLATION_NONE: &str = "none";
    /// On a Secret: `"true"` means that the operator created it with the data of a claim.
    pub const CLAIM_DATA: &str = "policy.paddock.dev/claim-data";
    /// The value of a label that is used as a flag.
    pub const TRUE: &str = "true";
}

/// Annotations.
pub mod annotation {
    /// On a Sandbox: the name of its Pod. It is set before an adopted Sandbox becomes Ready.
    pub const POD_NAME: &str = "agents.x-k8s.io/pod-name";
    /// On a claim: the name of the Sandbox that it took. It is set when a claim with a warm Sandbox becomes Ready. It
    /// is a hint, and the status decides.
    pub const SANDBOX_NAME: &str = "agents.x-k8s.io/sandbox-name";
    /// On a claim: the time at which a controller first observed it, in RFC 3339 format with fractions of a second.
    pub const FIRST_OBSERVED_AT: &str = "agents.x-k8s.io/controller-first-observed-at";
    /// On a claim: the time at which a client first requested it.
    pub const FIRST_REQUESTED_AT: &str = "agents.x-k8s.io/client-first-requested-at";
    /// On a Sandbox: the name of its template.
    pub const TEMPLATE_REF: &str = "agents.x-k8s.io/sandbox-template-ref";
    /// On a Pod: the labels that came from the Sandbox's pod template.
    pub const PROPAGATED_LABELS: &str = "agents.x-k8s.io/propagated-labels";
    /// On a Pod: the annotations that came from the Sandbox's pod template.
    pub const PROPAGATED_ANNOTATIONS: &str = "agents.x-k8s.io/propagated-annotations";
    /// A W3C trace context carrier, as JSON.
    pub const TRACE_CONTEXT: &str = "opentelemetry.io/trace-context";
    /// On a warm Pod: `"true"`. It is removed when a claim takes the Sandbox.
    pub const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
    /// On a Sandbox: the time of its last use, in RFC 3339 format. The webhook, a gateway and the SDKs write it.
    pub const LAST_ACTIVITY: &str = "policy.paddock.dev/last-activity";
    /// On a Sandbox: the time until which an exec, attach, port-forward or proxied request keeps it from being idle, in
    /// RFC 3339 format. The webhook writes it.
    pub const HELD_UNTIL: &str = "policy.paddock.dev/held-until";
    /// On a Sandbox: the time until which the idle policy does nothing to it, in RFC 3339 format. A user or the sandbox
    /// itself sets it.
    pub const KEEP_AWAKE_UNTIL: &str = "policy.paddock.dev/keep-awake-until";
    /// On a Sandbox: the time since which it may be suspended, in RFC 3339 format. It makes the Sandbox idle at once,
    /// unless there is later activity. A user or the sandbox itself sets it, and the write that suspends the Sandbox
    /// removes it.
    pub const IDLE_SINCE: &str = "policy.paddock.dev/idle-since";
    /// On a suspended Sandbox: `Idle` or `Drain`, if the operator suspended it for that reason. It is written in the
    /// same patch as the mode, and removed when the mode changes again. Without it, a user suspended the Sandbox.
    pub const SUSPENDED_BY: &str = "policy.paddock.dev/suspended-by";
    /// On a Sandbox with a `wakeSchedule`: the time at which the operator suspended it last, in RFC 3339 format. It is
    /// written in the same patch as [`SUSPENDED_BY`], and counts only beside it. Later times of the schedule resume the
    /// Sandbox.
    pub const SUSPENDED_AT: &str = "policy.paddock.dev/suspended-at";
    /// On a Sandbox: the UID of the pod with which a drain of the node suspended it last, and the time. A Sandbox that is
    /// resumed before its pod is deleted is not suspended again by the same drain.
    pub const DRAINED_POD: &str = "policy.paddock.dev/drained-pod";
    /// On a Sandbox: the name of the pool that it came from, or of the pool that had no warm Sandbox for its claim. It
    /// is kept when a claim takes the Sandbox.
    pub const WARM_POOL: &str = "policy.paddock.dev/warm-pool";
    /// On a Pod: the reason for its RuntimeClass.
    pub const CLASS_REASON: &str = "policy.paddock.dev/runtime-class-reason";
    /// On a Pod: the plugin that chose its RuntimeClass.
    pub const CLASS_PLUGIN: &str = "policy.paddock.dev/runtime-class-plugin";
    /// On a Pod: the plugins that decided about it, as JSON.
    pub const PLUGINS: &str = "policy.paddock.dev/plugins";
    /// On a Sandbox of a claim: the plugins that decided about the claim, as JSON.
    pub const CLAIM_PLUGINS: &str = "policy.paddock.dev/claim-plugins";
    /// On a Pod: hashes of the parts of the Sandbox's spec that only a new pod can take, as JSON.
    pub const POD_REVISION: &str = "policy.paddock.dev/pod-revision";
    /// On a Sandbox of a claim: the digest of the files and variables that the claim brought when it got the Sandbox.
    pub const CLAIM_DATA_DIGEST: &str = "policy.paddock.dev/claim-data-digest";
    /// On a Pod whose containers can get the data of a claim: `data` and the UID of the claim when the Secret with the
    /// data exists, and `none` for a claim that brings nothing. Containers read the value as a file.
    pub const CLAIM_DATA: &str = "policy.paddock.dev/claim-data";
    /// On a Pod: the time of the write of [`CLAIM_DATA`], in RFC 3339 format. It is removed soon after, and the write
    /// that removes it makes the kubelet look at the Secret once more.
    pub const CLAIM_DATA_SENT: &str = "policy.paddock.dev/claim-data-sent";
    /// On a Sandbox: the keys of the labels and annotations that its claim added to its pod template, as JSON.
    pub const CLAIM_METADATA: &str = "policy.paddock.dev/claim-metadata";
    /// On the pod template of a warm Sandbox: a hash of the labels and annotations that the pool gave the Sandbox at its
    /// creation. Another hash means that somebody changed them. The Pod does not get this annotation.
    pub const AS_MADE: &str = "policy.paddock.dev/as-made";
    /// On the pod template of a warm Sandbox: what somebody did to the Sandbox or its Pod, such as an exec. Its pool
    /// replaces it. The Pod does not get this annotation.
    pub const TOUCHED: &str = "policy.paddock.dev/touched";
    /// On a Pod: the labels that admission plugins added when the operator created the Pod.
    pub const PLUGIN_LABELS: &str = "policy.paddock.dev/plugin-labels";
    /// On a Pod: the annotations that admission plugins added when the operator created the Pod.
    pub const PLUGIN_ANNOTATIONS: &str = "policy.paddock.dev/plugin-annotations";
    /// On an EndpointSlice: the time since which it does not have the pod, in RFC 3339 format.
    pub const DRAINED_AT: &str = "policy.paddock.dev/drained-at";
    /// On a NetworkPolicy: the template that it belongs to, as `RESOURCE.GROUP/NAME`.
    pub const POLICY_TEMPLATE: &str = "policy.paddock.dev/template";
    /// On a NetworkPolicy: the spec that the operator wrote last, as JSON. After the template is deleted, the operator
    /// restores the NetworkPolicy from it.
    pub const POLICY_SPEC: &str = "policy.paddock.dev/network-policy-spec";
    /// On a Sandbox: the volumes whose files an idle suspend may lose, either `"true"` for all of them, or their names,
    /// separated by commas. Such an `emptyDir` does not become a volume claim.
    pub const EPHEMERAL_VOLUMES: &str = "policy.paddock.dev/ephemeral-volumes";
}

/// Condition types. A Sandbox has the first four and no others.
pub mod condition {
    /// The object can be used.
    pub const READY: &str = "Ready";
    /// The Sandbox is suspended. Every Sandbox has this condition.
    pub const SUSPENDED: &str = "Suspended";
    /// The condition of the same name from the Sandbox's Pod. Absent if the Sandbox owns no Pod.
    pub const POD_SCHEDULED: &str = "PodScheduled";
    /// The Pod of the Sandbox has terminated by itself.
    pub const FINISHED: &str = "Finished";
    /// On a pool: the pool's size was decided.
    pub const SIZED: &str = "Sized";
}

/// Reasons of conditions.
pub mod reason {
    /// `Ready` of a Sandbox: all objects that it needs are ready.
    pub const DEPENDENCIES_READY: &str = "DependenciesReady";
    /// `Ready` of a Sandbox: an object that it needs is missing or not ready.
    pub const DEPENDENCIES_NOT_READY: &str = "DependenciesNotReady";
    /// `Ready` of a Sandbox: the Sandbox is suspended.
    pub const SANDBOX_SUSPENDED: &str = "SandboxSuspended";
    /// `Ready` of a Sandbox: the Sandbox owns more than one Pod, and the operator changes none of them.
    pub const MULTIPLE_PODS: &str = "MultiplePods";
    /// `Ready` of a Sandbox or a claim: the Sandbox has expired.
    pub const SANDBOX_EXPIRED: &str = "SandboxExpired";
    /// `Ready` and `Finished`: all containers of the Pod succeeded.
    pub const POD_SUCCEEDED: &str = "PodSucceeded";
    /// `Ready` and `Finished`: a container of the Pod failed.
    pub const POD_FAILED: &str = "PodFailed";
    /// `Ready` of a Sandbox, which its claim repeats: a policy refuses its pod. A later change of the Sandbox, of the
    /// cluster or of the policy can end the refusal.
    pub const POLICY_DENIED: &str = "PolicyDenied";
    /// `Ready` of a Sandbox or a claim: a name that is derived from its name is too long. Clients do not wait any longer.
    pub const INVALID_CONFIGURATION: &str = "InvalidConfiguration";
    /// `Ready`: the operator cannot reconcile the object.
    pub const RECONCILER_ERROR: &str = "ReconcilerError";
    /// `Ready`: the NetworkPolicy of the template is not in place, so no pod is created and no claim takes the Sandbox.
    /// Clients wait.
    pub const NETWORK_POLICY_NOT_READY: &str = "NetworkPolicyNotReady";

    /// `Suspended`: the Sandbox is running.
    pub const NOT_SUSPENDED: &str = "NotSuspended";
    /// `Suspended`: the Pod is terminating.
    pub const POD_TERMINATING: &str = "PodTerminating";
    /// `Suspended`: a Pod with the Sandbox's Pod name has another owner.
    pub const POD_NOT_OWNED: &str = "PodNotOwned";
    /// `Suspended`: the Pod does not exist any more.
    pub const POD_TERMINATED: &str = "PodTerminated";
    /// `Suspended`: the state of the Pod is not known.
    pub const POD_STATE_UNKNOWN: &str = "PodStateUnknown";

    /// `PodScheduled`: the Pod has a node and states no reason. The scheduler states none when it succeeds.
    pub const POD_SCHEDULED: &str = "PodScheduled";
    /// `PodScheduled`: the Pod has no such condition, or one without a reason.
    pub const POD_SCHEDULING_UNKNOWN: &str = "PodSchedulingUnknown";

    /// `Ready` of a pool: the decided number of Sandboxes is Ready.
    pub const POOL_READY: &str = "PoolReady";
    /// `Ready` of a pool: fewer Sandboxes than decided are Ready.
    pub const POOL_NOT_READY: &str = "PoolNotReady";
    /// `Sized` of a pool: the message names the plugin and its reason.
    pub const DECIDED: &str = "Decided";
    /// `Sized` of a pool: the plugin's size is outside the pool's bounds.
    pub const LIMITED: &str = "Limited";

    /// `Ready` of a claim: the template does not exist.
    pub const TEMPLATE_NOT_FOUND: &str = "TemplateNotFound";
    /// `Ready` of a claim: the pool does not exist.
    pub const WARM_POOL_NOT_FOUND: &str = "WarmPoolNotFound";
    /// `Ready` of a claim: another claim took the Sandbox first.
    pub const ADOPTION_CONFLICT: &str = "AdoptionConflict";
    /// `Ready` of a claim: its Sandbox is being created.
    pub const SANDBOX_CREATE_PENDING: &str = "SandboxCreatePending";
    /// `Ready` of a claim: its additional labels or annotations are not allowed.
    pub const INVALID_METADATA: &str = "InvalidMetadata";
    /// `Ready` of a claim: the template does not allow its environment variables.
    pub const ENV_VARS_INJECTION_REJECTED: &str = "EnvVarsInjectionRejected";
    /// `Ready` of a claim: the template does not allow its volume claim templates.
    pub const VOLUME_CLAIM_TEMPLATES_ERROR: &str = "VolumeClaimTemplatesError";
    /// `Ready` of a claim: the claim has expired.
    pub const CLAIM_EXPIRED: &str = "ClaimExpired";
    /// `Ready` of a claim: its Sandbox does not exist any more.
    pub const SANDBOX_MISSING: &str = "SandboxMissing";
    /// `Ready` of a claim: the template does not admit the files that the claim brings.
    pub const CLAIM_DATA_REJECTED: &str = "ClaimDataRejected";
    /// `Ready` of a claim: the pod of its Sandbox has not got the data of the claim yet.
    pub const CLAIM_DATA_PENDING: &str = "ClaimDataPending";
    /// `Ready` of a claim: its Sandbox has no `Ready` condition yet.
    pub const SANDBOX_NOT_READY: &str = "SandboxNotReady";

    /// `Ready` of a SandboxPlugin: every Ready replica of the operator uses the component of the spec.
    pub const LOADED: &str = "Loaded";
    /// `Ready` of a SandboxPlugin: not every Ready replica uses the component yet.
    pub const WAITING_FOR_REPLICAS: &str = "WaitingForReplicas";
    /// `Ready` of a SandboxPlugin: there is no component at its source.
    pub const SOURCE_NOT_FOUND: &str = "SourceNotFound";
    /// `Ready` of a SandboxPlugin: the component has another digest than the spec or the manifest says.
    pub const DIGEST_MISMATCH: &str = "DigestMismatch";
    /// `Ready` of a SandboxPlugin: the component or its limits are refused.
    pub const LOAD_FAILED: &str = "LoadFailed";
    /// `Ready` of a SandboxPlugin: the image of the component is being pulled for the first time.
    pub const PULLING: &str = "Pulling";
    /// `Ready` of a SandboxPlugin: the registry refuses the credentials, or demands some.
    pub const UNAUTHORIZED: &str = "Unauthorized";
    /// `Ready` of a SandboxPlugin: the registry cannot be reached, or does not answer as a registry.
    pub const UNREACHABLE: &str = "Unreachable";
    /// `Ready` of a SandboxPlugin: the image has more bytes than a component may have.
    pub const TOO_LARGE: &str = "TooLarge";
    /// `Ready` of a SandboxPlugin: the image does not contain exactly one component.
    pub const NOT_A_COMPONENT: &str = "NotAComponent";
    /// `Ready` of a SandboxPlugin: none of the keys has signed the image.
    pub const SIGNATURE_INVALID: &str = "SignatureInvalid";
    /// `Ready` of a SandboxPlugin: the pull Secret does not exist, may not be read, or has no credentials.
    pub const PULL_SECRET_UNUSABLE: &str = "PullSecretUnusable";
    /// `Ready` of a SandboxPlugin: a built-in plugin or a plugin of the directory has the same name.
    pub const NAME_TAKEN: &str = "NameTaken";
    /// `Ready` of a SandboxPolicy: the plugin is asked with the settings of the spec.
    pub const BOUND: &str = "Bound";
    /// `Ready` of a SandboxPolicy: its SandboxPlugin does not exist.
    pub const PLUGIN_NOT_FOUND: &str = "PluginNotFound";
    /// `Ready` of a SandboxPolicy: no version of its SandboxPlugin can be used.
    pub const PLUGIN_NOT_LOADED: &str = "PluginNotLoaded";
    /// `Ready` of a SandboxPolicy: the plugin does not export the hook.
    pub const HOOK_NOT_EXPORTED: &str = "HookNotExported";
    /// `Ready` of a SandboxPolicy: the plugin refuses the settings.
    pub const INVALID_SETTINGS: &str = "InvalidSettings";
    /// `Ready` of a SandboxPolicy: a field of the spec has a fault.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// `Ready` of a SandboxPlugin or SandboxPolicy: a replica may not know the newest version, because its watch fails.
    pub const WATCH_FAILING: &str = "WatchFailing";
}

/// Messages of conditions that clients compare.
pub mod message {
    /// `Ready` of a Sandbox with a Service.
    pub const POD_READY_SERVICE_EXISTS: &str = "Pod is Ready; Service Exists";
    /// `Ready` of a Sandbox without a Service.
    pub const POD_READY: &str = "Pod is Ready";
    /// `Ready` of a suspended Sandbox.
    pub const SUSPENDED: &str = "Sandbox is suspended";
    /// `Ready` of a Sandbox that is being suspended.
    pub const SUSPENDING: &str = "Sandbox is suspending";
    /// `Ready` of an expired Sandbox.
    pub const EXPIRED: &str = "Sandbox has expired";
    /// `Ready` of a Sandbox whose Pod is running but not ready.
    pub const POD_NOT_READY: &str = "Pod is Running but not Ready";
    /// `Ready` of a Sandbox whose Pod is ready and has no address yet.
    pub const POD_WITHOUT_IPS: &str = "Pod is Ready but has no podIPs yet";
    /// `Ready` and `Finished` of a Sandbox whose Pod succeeded.
    pub const POD_SUCCEEDED: &str = "Pod completed successfully";
    /// `Ready` and `Finished` of a Sandbox whose Pod failed. An Event gives the details.
    pub const POD_FAILED: &str = "Pod failed";
    /// `Ready` of a Sandbox without a Pod.
    pub const POD_MISSING: &str = "Pod does not exist";
    /// The end of the message if the Service of the Sandbox is missing.
    pub const SERVICE_MISSING_SUFFIX: &str = "; Service does not exist";
    /// `Suspended` of a running Sandbox.
    pub const NOT_SUSPENDED: &str = "Sandbox is not suspended";
    /// `Suspended` while the Pod is terminating.
    pub const POD_TERMINATING: &str = "Pod is terminating. Sandbox is suspending";
    /// `Suspended` when the Pod does not exist any more.
    pub const POD_TERMINATED: &str = "Pod has been terminated. Sandbox is suspended";
    /// `Suspended` when a Pod with the Sandbox's Pod name has another owner.
    pub const POD_NOT_OWNED: &str = "Refused to delete pod because it is not owned by this sandbox";
    /// `PodScheduled` of a Sandbox whose Pod has no such condition.
    pub const POD_NOT_SCHEDULED_YET: &str = "Pod has not reported a PodScheduled condition yet";
    /// `Ready` of a claim that has ended.
    pub const CLAIM_EXPIRED: &str = "Claim expired. Sandbox cleanup initiated.";
    /// `Ready` of a claim whose Sandbox has expired, and the claim has not.
    pub const SANDBOX_OF_CLAIM_EXPIRED: &str = "Underlying Sandbox resource has expired independently of the Claim.";
    /// `Ready` of a claim whose Sandbox was deleted.
    pub const SANDBOX_MISSING: &str = "Sandbox does not exist";
    /// `Ready` of a claim whose Sandbox has no condition `Ready` yet.
    pub const SANDBOX_NOT_READY: &str = "Sandbox is not ready";
    /// `PodScheduled` of a Sandbox whose Pod is not certain.
    pub const POD_STATE_UNKNOWN: &str = "Pod state is unknown. Pod scheduling cannot be determined";
    /// `Suspended` of a Sandbox that is to be suspended and whose Pod is not certain.
    pub const SUSPEND_UNKNOWN: &str = "Pod state is unknown. Sandbox suspension cannot be confirmed";
    /// `Ready` of a Sandbox whose Pod is in another phase than Running.
    #[must_use]
    pub fn pod_phase(phase: &str) -> String {
        format!("Pod exists with phase: {phase}")
    }
}

/// Names of objects.
pub mod object {
    /// The Lease of the upstream operator. Paddock holds it too, so that both operators never reconcile at the same
    /// time.
    pub const UPSTREAM_LEASE: &str = "a3317529.agent-sandbox.x-k8s.io";
    /// The namespace of the operator's Deployment.
    pub const OPERATOR_NAMESPACE: &str = "agent-sandbox-system";
    /// The name of the operator's Deployment and ServiceAccount.
    pub const OPERATOR_DEPLOYMENT: &str = "agent-sandbox-controller";
    /// The field manager of the conditions of plugins and policies.
    pub const POLICY_STATUS_MANAGER: &str = "paddock-plugins";
    /// The name of the gateway's Deployment and ServiceAccount, which is that of upstream's router.
    pub const GATEWAY_DEPLOYMENT: &str = "sandbox-router";
    /// The name of the gateway's Service, for which upstream's clients look.
    pub const GATEWAY_SERVICE: &str = "sandbox-router-svc";
    /// The name of the Service of the gateway's metrics, by which the operator finds every gateway.
    pub const GATEWAY_METRICS_SERVICE: &str = "sandbox-router-metrics";
    /// The ServiceAccount whose tokens `paddock token` requests, unless a flag names another one.
    pub const CLIENT_ACCOUNT: &str = "sandbox-client";
    /// The ClusterRole with the right to use Sandboxes through the gateway, and nothing else.
    pub const USER_ROLE: &str = "paddock-sandbox-user";
    /// The value of the label `app` on the router's pods, as in upstream's manifests.
    pub const ROUTER_APP: &str = "sandbox-router";
    /// The domain of the labels that a claim may set, unless other domains are configured.
    pub const CLAIM_LABEL_DOMAIN: &str = "sandbox.users.io";
    /// The domains of the annotations that a claim may set, unless more are configured: its own, and that of upstream's
    /// SDKs, which name the snapshot of a pod.
    pub const CLAIM_ANNOTATION_DOMAINS: [&str; 2] = [CLAIM_LABEL_DOMAIN, "podsnapshot.gke.io"];
    /// The domains of the labels that anybody may add to a warm Sandbox or its Pod, whether more are configured or not: the
    /// API server adds the topology of the node, and Kueue adds labels to the Pods that it queues.
    pub const POOL_IGNORED_LABEL_DOMAINS: [&str; 2] = ["topology.kubernetes.io", "kueue.x-k8s.io"];
    /// The port of a Sandbox that declares no port: the port of the usual runtime.
    pub const DEFAULT_PORT: u16 = 8888;

    /// The suffix of the name of a template's NetworkPolicy.
    pub const NETWORK_POLICY_SUFFIX: &str = "-network-policy";

    /// The name of a template's NetworkPolicy.
    #[must_use]
    pub fn network_policy(template: &str) -> String {
        format!("{template}{NETWORK_POLICY_SUFFIX}")
    }

    /// The name of the PersistentVolumeClaim for one volume of a Sandbox.
    #[must_use]
    pub fn volume_claim(volume: &str, sandbox: &str) -> String {
        format!("{volume}-{sandbox}")
    }
}

/// Rights of users that Paddock asks the API server about.
pub mod right {
    /// The verb of the right to use a Sandbox through the gateway. It is the verb of `pods/exec`, because a request can run
    /// code in the Sandbox. A role that may read every resource does not have it.
    pub const USE_VERB: &str = "create";
    /// The resource of that right.
    pub const USE_RESOURCE: &str = "sandboxes";
    /// The subresource of that right.
    pub const USE_SUBRESOURCE: &str = "proxy";
}

/// The value of a `*-hash` label: the 32-bit FNV-1a hash of the name, as eight lower-case hexadecimal digits.
#[must_use]
pub fn name_hash(name: &str) -> String {
    // The offset basis and the prime of 32-bit FNV, from the definition of the algorithm.
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
