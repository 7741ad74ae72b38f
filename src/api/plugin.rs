//! SandboxPlugin: a WebAssembly component that answers for hooks. `sandboxplugins.policy.paddock.dev`, v1alpha1,
//! cluster-scoped.
//!
//! A SandboxPlugin alone decides nothing. A [`SandboxPolicy`](crate::SandboxPolicy) binds it to a hook and to objects.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{Hook, NameRef};

/// The component of a plugin, and the limits of its calls.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "policy.paddock.dev",
    version = "v1alpha1",
    kind = "SandboxPlugin",
    plural = "sandboxplugins",
    status = "SandboxPluginStatus",
    schema = "disabled",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct SandboxPluginSpec {
    /// The place that the component comes from.
    pub source: ComponentSource,
    /// The digest of the component: `sha256:` and 64 hex digits. A component with another digest is refused. One that is in
    /// use decides for a minute at most, and then its policies fail. If absent, every component of the source is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub digest: Option<String>,
    /// The limits of one call. If absent, the defaults of the operator apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<PluginLimits>,
}

/// The place that a component comes from.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.configMap), has(self.builtIn), has(self.oci)].filter(given, given).size() == 1")
    .message("exactly one of configMap, builtIn and oci must be given"))]
pub struct ComponentSource {
    /// A ConfigMap in the namespace of the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapKey>,
    /// A plugin that is part of the operator, so that a policy can bind it with settings of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built_in: Option<BuiltInPlugin>,
    /// An image in an OCI registry, as `paddock plugin push`, wkg or ORAS push a component.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oci: Option<OciImage>,
}

/// A component in an OCI registry, and the signatures that it needs.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OciImage {
    /// The image, as REGISTRY/REPOSITORY:TAG or REGISTRY/REPOSITORY@sha256:DIGEST, such as
    /// `registry.example.com/team/pool:1.2`. The operator asks for the digest of a tag again and again, and follows it. It
    /// pulls a digest once.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new(concat!(
        "self.matches('^([A-Za-z0-9-]+([.][A-Za-z0-9-]+)+(:[0-9]{1,5})?|[A-Za-z0-9-]+:[0-9]{1,5}|localhost)",
        "(/[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*)+",
        "(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?$')",
        " && self.matches('/.*[:@]')",
    )).message(concat!(
        "must be REGISTRY/REPOSITORY:TAG or REGISTRY/REPOSITORY@sha256:DIGEST without a scheme, such as ",
        "registry.example.com/team/pool:1.2",
    )))]
    pub image: String,
    /// A Secret of the type kubernetes.io/dockerconfigjson in the namespace of the operator, with the credentials for the
    /// registry. The operator needs a Role for it. If absent, the operator pulls without credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_secret: Option<NameRef>,
    /// Whether one of the keys must have signed the image. Required refuses an image without such a signature. Warn uses
    /// it, and says so in the status. Disabled does not look for signatures. The default is Required if there are keys, and
    /// Disabled otherwise. With --require-plugin-signatures, the keys of the operator are required whatever this field says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<SignatureVerification>,
    /// The public keys in PEM format, one of which must have signed the image. If absent, the keys of the operator's flag
    /// --plugin-signature-key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        inner(length(min = 1, max = 2048)),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    #[x_kube(validation = Rule::new("self.all(key, key.startsWith('-----BEGIN PUBLIC KEY-----'))")
        .message("each key must be in PEM format and begin with -----BEGIN PUBLIC KEY-----"))]
    pub public_keys: Vec<String>,
}

/// The consequence if no given key has signed the image of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SignatureVerification {
    /// The component is refused.
    Required,
    /// The component is used, and the status says so.
    Warn,
    /// Nobody looks for signatures. The word is not Off, which is a boolean in the YAML of kubectl.
    Disabled,
}

/// A component in a ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigMapKey {
    /// The name of the ConfigMap. It must be in the namespace of the operator.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in `binaryData` of the ConfigMap, such as `my-plugin.wasm`.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// A plugin that is part of the operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BuiltInPlugin {
    /// The name of the built-in plugin, such as `idle-timeout`.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
}

/// The limits of one call of a plugin.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginLimits {
    /// The memory of one call, as a quantity from 64Ki to 256Mi. The default is 64Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(concat!(
        "isQuantity(self) && quantity(self).compareTo(quantity('64Ki')) >= 0",
        " && quantity(self).compareTo(quantity('256Mi')) <= 0",
    )).message("must be a quantity from 64Ki to 256Mi"))]
    pub memory: Option<String>,
    /// The units of fuel of one call. One unit is about one instruction. The default is 200 million.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 5_000_000_000_i64))]
    pub fuel: Option<i64>,
    /// The wall-clock time of one call, as a Go duration from 5ms to 2s. The default is 500ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(concat!(
        r"self.matches('^([0-9]{1,9}([.][0-9]{1,9})?(ns|us|ms|s)){1,4}$')",
        " && duration(self) >= duration('5ms') && duration(self) <= duration('2s')",
    )).message("must be a Go duration from 5ms to 2s, such as 500ms"))]
    pub deadline: Option<String>,
}

/// The observed state of a SandboxPlugin.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxPluginStatus {
    /// The generation of the spec that the conditions describe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The digest of the component that all Ready replicas use: `sha256:` and 64 hex digits. Absent if they differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The digest of the image's manifest that the component of all Ready replicas is from: `sha256:` and 64 hex digits.
    /// Absent if they differ, or if the component is from no registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
    /// The hooks that this component exports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub hooks: Vec<Hook>,
    /// Conditions of the plugin. Ready is True if every Ready replica of the operator uses the component of the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The state of the plugin on each replica of the operator. Each replica writes its own entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub replicas: Vec<PluginReplica>,
}

/// The state of a plugin on one replica of the operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginReplica {
    /// The name of the replica: `NAMESPACE/POD`, or the identity of a process outside of a cluster.
    pub name: String,
    /// The generation of the spec that the replica has tried last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The digest of the component that the replica uses. Absent if it uses none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The digest of the image's manifest that this component is from. Absent if it is from no registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
    /// The hooks that the component exports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub hooks: Vec<Hook>,
    /// The version of the WIT package `paddock:policy` that the component implements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wit_version: Option<String>,
    /// The reason why the replica refuses the component of the spec. If there is a digest, an older version is in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// The same reason in one word, such as DigestMismatch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// A fact about the component in use that is no fault, such as a signature that is missing although verification is
    /// Warn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// The number of calls since the start of the replica. It is written at most once a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<i64>,
    /// The number of these calls that gave no valid answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<i64>,
    /// The number of these calls in which the component trapped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traps: Option<i64>,
    /// The time at which the replica wrote the entry last. It renews the entry every five minutes. An entry that is older
    /// than fifteen minutes does not count, and is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_time: Option<Time>,
}
