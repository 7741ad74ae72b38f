//! Generates the CustomResourceDefinitions of both API shapes from the wire types.
//!
//! All served versions of a kind have the same schema, which includes the fields of every version. No conversion is
//! needed, so clients can read and write objects while the operator is not running. The CEL rules are beside the fields
//! that they check, in the file of each kind. The kinds of the group `policy.paddock.dev` have one version, and belong to
//! no API shape.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceConversion, CustomResourceDefinition, CustomResourceDefinitionNames,
    CustomResourceDefinitionSpec, CustomResourceDefinitionVersion, CustomResourceSubresourceScale,
    CustomResourceSubresourceStatus, CustomResourceSubresources, CustomResourceValidation,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde_json::{Value, json};

use crate::claim::{SandboxClaimSpec, SandboxClaimStatus};
use crate::kind::{ApiShape, ApiShapes, Kind, OwnKind};
use crate::names::group;
use crate::plugin::{SandboxPluginSpec, SandboxPluginStatus};
use crate::policy::{SandboxPolicySpec, SandboxPolicyStatus};
use crate::pool::{SandboxWarmPoolSpec, SandboxWarmPoolStatus};
use crate::sandbox::{SandboxSpec, SandboxStatus};
use crate::schema::{ListTypes, builtin_list_types, for_shape, limit_sizes, structural};
use crate::template::{SandboxTemplateSpec, SandboxTemplateStatus};

/// All definitions, of both API shapes.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    selected(ApiShapes::Both)
}

/// The definitions of some API shapes. The definition of Sandbox comes first. The definitions of plugins and policies
/// come last. They are the same for both shapes.
#[must_use]
pub fn selected(shapes: ApiShapes) -> Vec<CustomResourceDefinition> {
    let list_types = builtin_list_types();
    let mut kinds = Kind::OWN.to_vec();
    kinds.sort_unstable();
    let served = kinds.into_iter().filter(|kind| kind.is_served(shapes));
    let of_shapes = served.filter_map(|kind| Some(of_kind(kind, kind.own()?, &list_types)));
    of_shapes.chain([plugins(&list_types), policies(&list_types)]).collect()
}

/// The definition of one kind. `None` if the API of Paddock does not define the kind.
#[must_use]
pub fn of(kind: Kind) -> Option<CustomResourceDefinition> {
    Some(of_kind(kind, kind.own()?, &builtin_list_types()))
}

/// The schema of the status of a kind in its definition.
#[derive(Clone, Debug)]
pub struct StatusSchema {
    /// The group of the kind.
    pub group: &'static str,
    /// The version that the operator writes.
    pub version: &'static str,
    /// The name of the kind.
    pub kind: &'static str,
    /// The structural schema.
    pub schema: Value,
}

/// The schemas of the statuses of some API shapes, and of plugins and policies.
#[must_use]
pub fn statuses(shapes: ApiShapes) -> Vec<StatusSchema> {
    let list_types = builtin_list_types();
    let of_shapes = Kind::OWN.into_iter().filter(|kind| kind.is_served(shapes)).filter_map(|kind| {
        let schema = match kind.own()? {
            OwnKind::Sandbox => structural::<SandboxStatus>(&list_types),
            OwnKind::Template(_) => structural::<SandboxTemplateStatus>(&list_types),
            OwnKind::Pool(_) => structural::<SandboxWarmPoolStatus>(&list_types),
            OwnKind::Claim(_) => structural::<SandboxClaimStatus>(&list_types),
        };
        Some(StatusSchema { group: kind.group(), version: kind.version(), kind: kind.name(), schema })
    });
    let of_policies = [
        ("SandboxPlugin", structural::<SandboxPluginStatus>(&list_types)),
        ("SandboxPolicy", structural::<SandboxPolicyStatus>(&list_types)),
    ];
    let of_policies = of_policies.map(|(kind, schema)| {
        let (group, version) = (group::POLICY, group::V1ALPHA1);
        StatusSchema { group, version, kind, schema }
    });
    of_shapes.chain(of_policies).collect()
}

/// The name of a definition's file under `crds/`.
#[must_use]
pub fn file_name(definition: &CustomResourceDefinition) -> String {
    format!("{}_{}.yaml", definition.spec.group, definition.spec.names.plural)
}

fn of_kind(kind: Kind, own: OwnKind, list_types: &ListTypes) -> CustomResourceDefinition {
    match own {
        OwnKind::Sandbox => {
            let text = "A pod with a stable name and address, which can be suspended and resumed.";
            let columns = vec![
                ready(),
                reason(),
                column("Mode", "string", ".status.mode", WIDE),
                column("Runtime", "string", ".status.runtimeClass.name", WIDE),
                column("Owner", "string", ".metadata.ownerReferences[?(@.controller==true)].name", WIDE),
                column("Node", "string", ".status.nodeName", WIDE),
                column("Idle", "string", ".status.idle.tier", WIDE),
                column("Idle-Plugin", "string", r#".status.plugins[?(@.hook=="idle")].name"#, WIDE),
                column("Pending", "string", ".status.pending[0]", WIDE),
            ];
            definition::<SandboxSpec, SandboxStatus>(Names::of(kind, "sandbox", text), list_types, columns)
        }
        OwnKind::Template(_) => {
            let text = "The pod and the settings that sandboxes are created from.";
            let names = Names::of(kind, "sandboxtemplate", text);
            definition::<SandboxTemplateSpec, SandboxTemplateStatus>(names, list_types, Vec::new())
        }
        OwnKind::Pool(shape) => {
            let text = "Sandboxes of a template that are created in advance, so that a claim becomes Ready at once.";
            let columns = vec![
                column("Ready", "integer", ".status.readyReplicas", ALWAYS),
                column("Desired", "integer", ".status.desiredReplicas", ALWAYS),
                column("Min", "integer", ".spec.minReady", WIDE),
                column("Max", "integer", ".spec.maxReady", WIDE),
                column("Template", "string", template_of(shape), WIDE),
                column("Reason", "string", r#".status.conditions[?(@.type=="Ready")].reason"#, WIDE),
            ];
            definition::<SandboxWarmPoolSpec, SandboxWarmPoolStatus>(Names::of(kind, "swp", text), list_types, columns)
        }
        OwnKind::Claim(shape) => {
            let text = "A request for one sandbox from a pool or a template.";
            let columns = vec![
                ready(),
                column("Sandbox", "string", ".status.sandbox.name", ALWAYS),
                reason(),
                column("Pool", "string", ".spec.warmPoolRef.name", WIDE),
                column("Template", "string", template_of(shape), WIDE),
                column("Runtime-Plugin", "string", r#".status.plugins[?(@.hook=="runtime-class")].name"#, WIDE),
            ];
            let names = Names::of(kind, "sandboxclaim", text);
            definition::<SandboxClaimSpec, SandboxClaimStatus>(names, list_types, columns)
        }
    }
}

/// The definition of SandboxPlugin.
fn plugins(list_types: &ListTypes) -> CustomResourceDefinition {
    let names = Names::of_policies(
        ("SandboxPlugin", "sandboxplugins", "splugin"),
        "A WebAssembly component that answers for hooks. A SandboxPolicy binds it to objects.",
    );
    let columns = vec![
        ready(),
        reason(),
        column("Digest", "string", ".status.digest", WIDE),
        column("Hooks", "string", ".status.hooks", WIDE),
        column("ConfigMap", "string", ".spec.source.configMap.name", WIDE),
        column("Image", "string", ".spec.source.oci.image", WIDE),
    ];
    definition::<SandboxPluginSpec, SandboxPluginStatus>(names, list_types, columns)
}

/// The definition of SandboxPolicy.
fn policies(list_types: &ListTypes) -> CustomResourceDefinition {
    let names = Names::of_policies(
        ("SandboxPolicy", "sandboxpolicies", "spolicy"),
        "The rule that a hook of a SandboxPlugin decides about the selected objects, or rules about isolation.",
    );
    let columns = vec![
        column("Plugin", "string", ".spec.plugin", ALWAYS),
        column("Hook", "string", ".spec.hook", ALWAYS),
        column("Order", "integer", ".spec.order", ALWAYS),
        ready(),
        reason(),
        column("Mode", "string", ".spec.mode", WIDE),
        column("Failure-Policy", "string", ".spec.failurePolicy", WIDE),
        column("Digest", "string", ".status.digest", WIDE),
    ];
    definition::<SandboxPolicySpec, SandboxPolicyStatus>(names, list_types, columns)
}

/// The names of a kind, and the other parts of its definition that do not follow from its types.
struct Names {
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    short_name: &'static str,
    /// The first version is the storage version.
    versions: &'static [&'static str],
    scope: &'static str,
    shape: Option<ApiShape>,
    scales: bool,
    description: &'static str,
    /// CEL rules of the whole object.
    rules: Value,
}

impl Names {
    fn of(kind: Kind, short_name: &'static str, description: &'static str) -> Self {
        Self {
            group: kind.group(),
            kind: kind.name(),
            plural: kind.plural(),
            short_name,
            versions: match kind.shape() {
                Some(ApiShape::Seed) => &[group::V1ALPHA1],
                Some(ApiShape::Upstream) | None => &[group::V1BETA1, group::V1ALPHA1],
            },
            scope: "Namespaced",
            shape: kind.shape(),
            scales: kind.scales(),
            description,
            rules: Value::Null,
        }
    }

    /// The names of a kind of the group `policy.paddock.dev`. The names of its objects are in metrics, Events and the
    /// status of Sandboxes, so they must be DNS labels.
    fn of_policies(
        (kind, plural, short_name): (&'static str, &'static str, &'static str),
        description: &'static str,
    ) -> Self {
        let rules = json!([{
            "rule": "self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
            "message": "metadata.name must consist of 1 to 63 lower-case letters, digits and dashes",
        }]);
        Self {
            group: group::POLICY,
            kind,
            plural,
            short_name,
            versions: &[group::V1ALPHA1],
            scope: "Cluster",
            shape: None,
            scales: false,
            description,
            rules,
        }
    }
}

fn definition<S: JsonSchema, T: JsonSchema>(
    names: Names,
    list_types: &ListTypes,
    mut columns: Vec<CustomResourceColumnDefinition>,
) -> CustomResourceDefinition {
    let spec = structural::<S>(list_types);
    let Names { group, kind, plural, short_name, versions, scope, shape, scales, description, rules } = names;
    let mut spec = match shape {
        Some(shape) => for_shape(spec, shape),
        None => spec,
    };
    limit_sizes(&mut spec);
    let mut schema = json!({
        "description": description,
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": { "type": "string" },
            "kind": { "type": "string" },
            "metadata": { "type": "object" },
            "spec": spec,
            "status": structural::<T>(list_types),
        },
    });
    if !rules.is_null() {
        schema["x-kubernetes-validations"] = rules;
    }
    columns.insert(
        columns.iter().position(|c| c.priority.is_some()).unwrap_or(columns.len()),
        column("Age", "date", ".metadata.creationTimestamp", ALWAYS),
    );
    let version = |(i, name): (usize, &&str)| CustomResourceDefinitionVersion {
        name: (*name).to_owned(),
        served: true,
        storage: i == 0,
        schema: Some(CustomResourceValidation { open_api_v3_schema: serde_json::from_value(schema.clone()).ok() }),
        additional_printer_columns: Some(columns.clone()),
        subresources: Some(CustomResourceSubresources {
            status: Some(CustomResourceSubresourceStatus(json!({}))),
            scale: scales.then(|| CustomResourceSubresourceScale {
                spec_replicas_path: ".spec.replicas".to_owned(),
                status_replicas_path: ".status.replicas".to_owned(),
                label_selector_path: Some(".status.selector".to_owned()),
            }),
        }),
        ..CustomResourceDefinitionVersion::default()
    };
    CustomResourceDefinition {
        metadata: ObjectMeta { name: Some(format!("{plural}.{group}")), ..ObjectMeta::default() },
        spec: CustomResourceDefinitionSpec {
            versions: versions.iter().enumerate().map(version).collect(),
            conversion: Some(CustomResourceConversion { strategy: "None".to_owned(), webhook: None }),
            group: group.to_owned(),
            names: CustomResourceDefinitionNames {
                kind: kind.to_owned(),
                list_kind: Some(format!("{kind}List")),
                plural: plural.to_owned(),
                singular: Some(kind.to_lowercase()),
                short_names: Some(vec![short_name.to_owned()]),
                categories: Some(vec!["paddock".to_owned()]),
            },
            scope: scope.to_owned(),
            ..CustomResourceDefinitionSpec::default()
        },
        status: None,
    }
}

fn ready() -> CustomResourceColumnDefinition {
    column("Ready", "string", r#".status.conditions[?(@.type=="Ready")].status"#, ALWAYS)
}

fn reason() -> CustomResourceColumnDefinition {
    column("Reason", "string", r#".status.conditions[?(@.type=="Ready")].reason"#, ALWAYS)
}

/// The path of the template's name in a pool or claim.
fn template_of(shape: ApiShape) -> &'static str {
    match shape {
        ApiShape::Upstream => ".spec.sandboxTemplateRef.name",
        ApiShape::Seed => ".spec.templateRef.name",
    }
}

/// The priority of a column that `kubectl get` shows only with `-o wide`.
const WIDE: Option<i32> = Some(1);
const ALWAYS: Option<i32> = None;

fn column(name: &str, kind: &str, path: &str, priority: Option<i32>) -> CustomResourceColumnDefinition {
    CustomResourceColumnDefinition {
        name: name.to_owned(),
        type_: kind.to_owned(),
        json_path: path.to_owned(),
        priority,
        ..CustomResourceColumnDefinition::default()
    }
}
