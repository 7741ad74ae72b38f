//! SandboxPolicy: binds a hook of a [`SandboxPlugin`](crate::SandboxPlugin) to objects, or has rules about isolation.
//! `sandboxpolicies.policy.paddock.dev`, v1alpha1, cluster-scoped.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::common::Hook;
use crate::host_access::HostAccess;

/// A hook of a plugin with the objects that it decides about and its settings, or rules about isolation.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "policy.paddock.dev",
    version = "v1alpha1",
    kind = "SandboxPolicy",
    plural = "sandboxpolicies",
    status = "SandboxPolicyStatus",
    schema = "disabled",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.plugin) != has(self.isolation)")
        .message("exactly one of plugin and isolation must be given"),
    validation = Rule::new("has(self.plugin) == has(self.hook)")
        .message("must be given with plugin, and left out without it")
        .field_path(".hook"),
    validation = Rule::new(concat!(
        "!has(self.isolation) || ![has(self.mode), has(self.order), has(self.objectSelector), has(self.kinds),",
        " has(self.settings), has(self.failurePolicy)].exists(given, given)",
    )).message("only namespaceSelector may be given with isolation, because the other fields are about plugins")
        .field_path(".isolation"),
    validation = Rule::new("!has(self.kinds) || !has(self.hook) || self.hook == 'admission'")
        .message("kinds must be left out, because only the hook admission is about several kinds")
        .field_path(".kinds"),
    validation = Rule::new(concat!(
        "!has(self.mode) || !has(self.hook) || self.hook == 'admission'",
        " || !(self.mode in ['Warn', 'Audit'])",
    )).message("must be Enforce or Shadow, because Warn and Audit are for the hook admission alone")
        .field_path(".mode")
)]
pub struct SandboxPolicySpec {
    /// The name of the SandboxPlugin that decides. Exactly one of plugin and isolation must be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub plugin: Option<String>,
    /// The hook for which the plugin decides. The plugin must export it. Must be given with plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<Hook>,
    /// The rules about the isolation of generated code in the selected namespaces. They are in force without a plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<IsolationRules>,
    /// The effect of the decisions. Enforce (the default) acts on them. Warn turns a denial into a warning for the user.
    /// Audit writes it to the log, and to the audit log of the API server. Shadow only counts the decisions. Warn and
    /// Audit are for the hook admission alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<PolicyMode>,
    /// The position among the policies of the hook. Lower numbers are asked first, and the names decide between equal
    /// numbers. The default is 0. For the hook admission, all policies are asked. For another hook, the first policy that
    /// selects the object decides, and the policies after it are asked if its plugin fails and its failurePolicy is
    /// Ignore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -2_147_483_648_i64, max = 2_147_483_646))]
    pub order: Option<i32>,
    /// The label selector for namespaces. If absent or empty, all namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "label_selector")]
    pub namespace_selector: Option<LabelSelector>,
    /// The label selector for the Sandbox, pool, Pod or pod template. If absent or empty, all objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "label_selector")]
    pub object_selector: Option<LabelSelector>,
    /// The kinds about whose admission the plugin decides. If absent, every kind that is reviewed. Only for the hook
    /// admission.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 5), extend("x-kubernetes-list-type" = "set"))]
    pub kinds: Option<Vec<ReviewedKind>>,
    /// The settings for the plugin, which checks them itself. If absent, `{}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub settings: Option<serde_json::Map<String, serde_json::Value>>,
    /// The consequence if the plugin fails, or if it is missing: Fail, Ignore or Fallback. The default is Fail for the
    /// hooks admission and runtime-class, and Fallback for the hooks idle and pool-size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_policy: Option<PluginFailurePolicy>,
}

/// The isolation of generated code in some namespaces.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.allow) || has(self.runtimeClasses)")
    .message("allow or runtimeClasses must be given"))]
pub struct IsolationRules {
    /// The fields whose access to the host is allowed to generated code, in addition to those that the operator's flag
    /// --isolation-allow and other policies allow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 15), extend("x-kubernetes-list-type" = "set"))]
    pub allow: Vec<HostAccess>,
    /// The names of the RuntimeClasses that generated code may have. If several policies select a namespace and give names,
    /// a RuntimeClass must be named by each of them. If absent, the policy limits no RuntimeClass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 64),
        inner(length(min = 1, max = 253)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub runtime_classes: Option<Vec<String>>,
}

/// The effect of the decisions of a policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum PolicyMode {
    /// The decisions take effect.
    #[default]
    Enforce,
    /// A denial becomes a warning for the user.
    Warn,
    /// A denial is logged, and is in the audit log of the API server.
    Audit,
    /// The decisions are counted.
    Shadow,
}

impl PolicyMode {
    /// All modes.
    pub const ALL: [Self; 4] = [Self::Enforce, Self::Warn, Self::Audit, Self::Shadow];

    /// The word in objects, metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            PolicyMode::Enforce => "Enforce",
            PolicyMode::Warn => "Warn",
            PolicyMode::Audit => "Audit",
            PolicyMode::Shadow => "Shadow",
        }
    }

    /// Whether the decisions take effect. The operator counts the decisions of the other modes.
    #[must_use]
    pub fn acts(self) -> bool {
        match self {
            PolicyMode::Enforce => true,
            PolicyMode::Warn | PolicyMode::Audit | PolicyMode::Shadow => false,
        }
    }

    /// Whether the reply to the API server contains the decisions, without their effect: as warnings, or for the audit
    /// log.
    #[must_use]
    pub fn notes(self) -> bool {
        match self {
            PolicyMode::Warn | PolicyMode::Audit => true,
            PolicyMode::Enforce | PolicyMode::Shadow => false,
        }
    }
}

/// A kind about whose admission plugins are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReviewedKind {
    /// Pods of generated code, and the pods of Sandboxes.
    Pod,
    /// Sandboxes.
    Sandbox,
    /// Claims.
    SandboxClaim,
    /// Templates.
    SandboxTemplate,
    /// Pools.
    SandboxWarmPool,
}

/// The consequence of a failure of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PluginFailurePolicy {
    /// The hooks admission and runtime-class deny. The hooks idle and pool-size use the built-in plugin.
    Fail,
    /// The next policy is asked, as if this one did not exist.
    Ignore,
    /// The built-in plugin of the hook answers in the place of this one.
    Fallback,
}

/// The observed state of a SandboxPolicy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxPolicyStatus {
    /// The generation of the spec that the conditions describe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The digest of the component that decides for this policy on all replicas, or of the rules about isolation. Absent if
    /// none does, so that the failurePolicy applies, or if they differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Conditions of the policy. Ready is True if every Ready replica of the operator asks the plugin with the settings of
    /// the spec, or judges by its rules about isolation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The state of the policy on each replica of the operator. Each replica writes its own entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub replicas: Vec<PolicyReplica>,
}

/// The state of a policy on one replica of the operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyReplica {
    /// The name of the replica: `NAMESPACE/POD`, or the identity of a process outside of a cluster.
    pub name: String,
    /// The generation of the spec that the replica has tried last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The digest of the component that decides on this replica, or of the rules about isolation. Absent if none does, so
    /// that the failurePolicy applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The reason why the replica refuses the spec. If there is a digest, the last good version is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// The same reason in one word, such as InvalidSettings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The time at which the replica wrote the entry last. It renews the entry every five minutes. An entry that is older
    /// than fifteen minutes does not count, and is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_time: Option<Time>,
}

/// The schema of a label selector. The API server does not know that the field is one, so the schema refuses what it
/// refuses in its own kinds.
fn label_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "matchLabels": {
                "description": "Labels that the object must have with these values.",
                "type": "object",
                "additionalProperties": { "type": "string" },
            },
            "matchExpressions": {
                "description": "Further requirements. All of them must hold.",
                "type": "array",
                "x-kubernetes-list-type": "atomic",
                "maxItems": 64,
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": { "description": "The key of the label.", "type": "string" },
                        "operator": {
                            "description": "The comparison of the label with the values.",
                            "type": "string",
                            "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
                        },
                        "values": {
                            "description": "The values for In and NotIn. Must be left out for Exists and DoesNotExist.",
                            "type": "array",
                            "x-kubernetes-list-type": "atomic",
                            "maxItems": 1000,
                            "items": { "type": "string" },
                        },
                    },
                    "x-kubernetes-validations": [{
                        "rule": "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
                        "message": "must have a value with the operator In or NotIn, and none with Exists or DoesNotExist",
                        "fieldPath": ".values",
                    }],
                },
            },
        },
    })
}

/// The API server keeps every field of the settings, because only the plugin knows them.
fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}
