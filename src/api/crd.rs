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
use kube::Resource;
use schemars::JsonSchema;
use serde_json::{Value, json};

use crate::claim::{SandboxClaim, SandboxClaimSpec, SandboxClaimStatus, SeedSandboxClaim, SeedSandboxClaimSpec};
use crate::kind::{ApiShape, ApiShapes, Kind};
use crate::names::group;
use crate::pool::{
    SandboxWarmPool, SandboxWarmPoolSpec, SandboxWarmPoolStatus, SeedSandboxWarmPool, SeedSandboxWarmPoolSpec,
};
use crate::sandbox::{Sandbox, SandboxSpec, SandboxStatus};
use crate::schema::{ListTypes, builtin_list_types, structural};
use crate::template::{
    SandboxTemplate, SandboxTemplateSpec, SandboxTemplateStatus, SeedSandboxTemplate, SeedSandboxTemplateSpec,
};

/// All definitions, of both API shapes.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    selected(ApiShapes::Both)
}

/// The definitions of some API shapes. The definition of Sandbox comes first.
#[must_use]
pub fn selected(shapes: ApiShapes) -> Vec<CustomResourceDefinition> {
    let list_types = builtin_list_types();
    let mut definitions = vec![sandbox(&list_types)];
    if shapes.contains(ApiShape::Upstream) {
        definitions.extend(of_upstream(&list_types));
    }
    if shapes.contains(ApiShape::Seed) {
        definitions.extend(of_seed(&list_types));
    }
    definitions
}

/// The name of a definition's file under `crds/`.
#[must_use]
pub fn file_name(definition: &CustomResourceDefinition) -> String {
    format!("{}_{}.yaml", definition.spec.group, definition.spec.names.plural)
}

const BOTH_VERSIONS: &[&str] = &[group::V1BETA1, group::V1ALPHA1];
const SEED_VERSIONS: &[&str] = &[group::V1ALPHA1];

fn sandbox(list_types: &ListTypes) -> CustomResourceDefinition {
    let mut columns = condition_columns();
    columns.extend([
        column("Mode", "string", ".status.mode").wide(),
        column("Runtime", "string", ".status.runtimeClass.name").wide(),
        column("Node", "string", ".status.nodeName").wide(),
    ]);
    definition::<Sandbox>(Parts {
        description: "A pod with a stable name and address, which can be suspended and resumed.",
        versions: BOTH_VERSIONS,
        short_name: "sandbox",
        spec: structural::<SandboxSpec>(list_types),
        status: structural::<SandboxStatus>(list_types),
        columns,
    })
}

fn of_upstream(list_types: &ListTypes) -> [CustomResourceDefinition; 3] {
    [
        template::<SandboxTemplate, SandboxTemplateSpec>(BOTH_VERSIONS, list_types),
        pool::<SandboxWarmPool, SandboxWarmPoolSpec>(BOTH_VERSIONS, list_types),
        claim::<SandboxClaim, SandboxClaimSpec>(BOTH_VERSIONS, list_types),
    ]
}

fn of_seed(list_types: &ListTypes) -> [CustomResourceDefinition; 3] {
    [
        template::<SeedSandboxTemplate, SeedSandboxTemplateSpec>(SEED_VERSIONS, list_types),
        pool::<SeedSandboxWarmPool, SeedSandboxWarmPoolSpec>(SEED_VERSIONS, list_types),
        claim::<SeedSandboxClaim, SeedSandboxClaimSpec>(SEED_VERSIONS, list_types),
    ]
}

fn template<K: Resource<DynamicType = ()>, S: JsonSchema>(
    versions: &'static [&'static str],
    list_types: &ListTypes,
) -> CustomResourceDefinition {
    definition::<K>(Parts {
        description: "The pod and the settings that sandboxes are created from.",
        versions,
        short_name: "sandboxtemplate",
        spec: structural::<S>(list_types),
        status: structural::<SandboxTemplateStatus>(list_types),
        columns: Vec::new(),
    })
}

fn pool<K: Resource<DynamicType = ()>, S: JsonSchema>(
    versions: &'static [&'static str],
    list_types: &ListTypes,
) -> CustomResourceDefinition {
    definition::<K>(Parts {
        description: "Sandboxes of a template that are created in advance, so that a claim becomes Ready at once.",
        versions,
        short_name: "swp",
        spec: structural::<S>(list_types),
        status: structural::<SandboxWarmPoolStatus>(list_types),
        columns: vec![
            column("Ready", "integer", ".status.readyReplicas"),
            column("Desired", "integer", ".status.desiredReplicas"),
            column("Min", "integer", ".spec.minReady").wide(),
            column("Max", "integer", ".spec.maxReady").wide(),
        ],
    })
}

fn claim<K: Resource<DynamicType = ()>, S: JsonSchema>(
    versions: &'static [&'static str],
    list_types: &ListTypes,
) -> CustomResourceDefinition {
    let mut columns = condition_columns();
    columns.insert(1, column("Sandbox", "string", ".status.sandbox.name"));
    definition::<K>(Parts {
        description: "A request for one sandbox from a pool or a template.",
        versions,
        short_name: "sandboxclaim",
        spec: structural::<S>(list_types),
        status: structural::<SandboxClaimStatus>(list_types),
        columns,
    })
}

/// The parts in which definitions differ. The names are not among them, because the types have them.
struct Parts {
    description: &'static str,
    /// The served versions. The first is the storage version.
    versions: &'static [&'static str],
    short_name: &'static str,
    spec: Value,
    status: Value,
    columns: Vec<Column>,
}

fn definition<K: Resource<DynamicType = ()>>(parts: Parts) -> CustomResourceDefinition {
    let (group, kind, plural) = (K::group(&()), K::kind(&()), K::plural(&()));
    let scales = Kind::of_resource(&group, &plural).is_some_and(Kind::scales);
    let schema = json!({
        "description": parts.description,
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": { "type": "string" },
            "kind": { "type": "string" },
            "metadata": { "type": "object" },
            "spec": parts.spec,
            "status": parts.status,
        },
    });
    let mut columns: Vec<CustomResourceColumnDefinition> = parts.columns.into_iter().map(|c| c.0).collect();
    columns.insert(
        columns.iter().position(|c| c.priority.is_some()).unwrap_or(columns.len()),
        column("Age", "date", ".metadata.creationTimestamp").0,
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
            versions: parts.versions.iter().enumerate().map(version).collect(),
            conversion: Some(CustomResourceConversion { strategy: "None".to_owned(), webhook: None }),
            group: group.into_owned(),
            names: CustomResourceDefinitionNames {
                kind: kind.to_string(),
                list_kind: Some(format!("{kind}List")),
                plural: plural.into_owned(),
                singular: Some(kind.to_lowercase()),
                short_names: Some(vec![parts.short_name.to_owned()]),
                categories: Some(vec!["paddock".to_owned()]),
            },
            scope: "Namespaced".to_owned(),
            ..CustomResourceDefinitionSpec::default()
        },
        status: None,
    }
}

struct Column(CustomResourceColumnDefinition);

impl Column {
    /// Shows the column only with `kubectl get -o wide`.
    fn wide(mut self) -> Self {
        self.0.priority = Some(1);
        self
    }
}

fn column(name: &str, kind: &str, path: &str) -> Column {
    Column(CustomResourceColumnDefinition {
        name: name.to_owned(),
        type_: kind.to_owned(),
        json_path: path.to_owned(),
        ..CustomResourceColumnDefinition::default()
    })
}

fn condition_columns() -> Vec<Column> {
    vec![
        column("Ready", "string", r#".status.conditions[?(@.type=="Ready")].status"#),
        column("Reason", "string", r#".status.conditions[?(@.type=="Ready")].reason"#),
    ]
}
