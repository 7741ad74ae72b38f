//! Generates the CustomResourceDefinitions of both API shapes from the wire types.
//!
//! All served versions of a kind have the same schema, which includes the fields of every version. No conversion is
//! needed, so clients can read and write objects while the operator is not running. The CEL rules are beside the fields that they
//! check, in the file of each kind.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceConversion, CustomResourceDefinition, CustomResourceDefinitionNames,
    CustomResourceDefinitionSpec, CustomResourceDefinitionVersion, CustomResourceSubresourceScale,
    CustomResourceSubresourceStatus, CustomResourceSubresources, CustomResourceValidation,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde_json::json;

use crate::claim::{SandboxClaimSpec, SandboxClaimStatus};
use crate::kind::{ApiShape, ApiShapes, Kind, OwnKind};
use crate::names::group;
use crate::pool::{SandboxWarmPoolSpec, SandboxWarmPoolStatus};
use crate::sandbox::{SandboxSpec, SandboxStatus};
use crate::schema::{ListTypes, builtin_list_types, for_shape, limit_sizes, structural};
use crate::template::{SandboxTemplateSpec, SandboxTemplateStatus};

/// All definitions, of both API shapes.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    selected(ApiShapes::Both)
}

/// The definitions of some API shapes. The definition of Sandbox comes first.
#[must_use]
pub fn selected(shapes: ApiShapes) -> Vec<CustomResourceDefinition> {
    let list_types = builtin_list_types();
    let mut kinds = Kind::OWN.to_vec();
    kinds.sort_unstable();
    let served = kinds.into_iter().filter(|kind| kind.is_served(shapes));
    served.filter_map(|kind| Some(of_kind(kind, kind.own()?, &list_types))).collect()
}

/// The definition of one kind. `None` if the API of Paddock does not define the kind.
#[must_use]
pub fn of(kind: Kind) -> Option<CustomResourceDefinition> {
    Some(of_kind(kind, kind.own()?, &builtin_list_types()))
}

/// The name of a definition's file under `crds/`.
#[must_use]
pub fn file_name(definition: &CustomResourceDefinition) -> String {
    format!("{}_{}.yaml", definition.spec.group, definition.spec.names.plural)
}

fn of_kind(kind: Kind, own: OwnKind, list_types: &ListTypes) -> CustomResourceDefinition {
    let ready = || column("Ready", "string", r#".status.conditions[?(@.type=="Ready")].status"#, ALWAYS);
    let reason = || column("Reason", "string", r#".status.conditions[?(@.type=="Ready")].reason"#, ALWAYS);
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
            definition::<SandboxSpec, SandboxStatus>(kind, list_types, ("sandbox", text), columns)
        }
        OwnKind::Template(_) => {
            let text = "The pod and the settings that sandboxes are created from.";
            let names = ("sandboxtemplate", text);
            definition::<SandboxTemplateSpec, SandboxTemplateStatus>(kind, list_types, names, Vec::new())
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
            definition::<SandboxWarmPoolSpec, SandboxWarmPoolStatus>(kind, list_types, ("swp", text), columns)
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
            definition::<SandboxClaimSpec, SandboxClaimStatus>(kind, list_types, ("sandboxclaim", text), columns)
        }
    }
}

fn definition<S: JsonSchema, T: JsonSchema>(
    own: Kind,
    list_types: &ListTypes,
    (short_name, description): (&str, &str),
    mut columns: Vec<CustomResourceColumnDefinition>,
) -> CustomResourceDefinition {
    let spec = structural::<S>(list_types);
    let mut spec = match own.shape() {
        Some(shape) => for_shape(spec, shape),
        None => spec,
    };
    limit_sizes(&mut spec);
    let (group, kind, plural) = (own.group(), own.name(), own.plural());
    // The first version is the storage version.
    let versions: &[&str] = match own.shape() {
        Some(ApiShape::Seed) => &[group::V1ALPHA1],
        Some(ApiShape::Upstream) | None => &[group::V1BETA1, group::V1ALPHA1],
    };
    let schema = json!({
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
            scale: own.scales().then(|| CustomResourceSubresourceScale {
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
            scope: "Namespaced".to_owned(),
            ..CustomResourceDefinitionSpec::default()
        },
        status: None,
    }
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
