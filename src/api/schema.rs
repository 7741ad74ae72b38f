//! Converts Rust types to the structural schemas that CustomResourceDefinitions require.
//!
//! schemars generates the schemas of our types and of k8s-openapi's types. They need three changes. References have to
//! be inlined. `Option` must not be `nullable`, because the API server would store a null that a client writes.
//! k8s-openapi's types lack the list types and keys, without which two field managers replace each other's lists, and
//! they mark optional fields as required. The file `list-types.json` has these facts. [`list_types`] extracts them from
//! the OpenAPI documents of an API server. The CEL rules are in the file of each kind.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::kind::ApiShape;

/// The merge rules of the API server: by definition, and then by property. The property "" is the definition itself.
pub type ListTypes = BTreeMap<String, BTreeMap<String, Merge>>;

/// The rules by which the API server merges the values of two writers of a field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merge {
    /// The value of `x-kubernetes-list-type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<String>,
    /// The value of `x-kubernetes-list-map-keys`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// The value of `x-kubernetes-map-type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<String>,
    /// The required properties of a definition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required: Vec<String>,
    /// The default of an optional property that is a key of a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
}

/// The definitions of Kubernetes that our kinds embed.
pub const EMBEDDED: [&str; 5] = [
    "io.k8s.api.core.v1.PodSpec",
    "io.k8s.api.core.v1.PersistentVolumeClaimSpec",
    "io.k8s.api.networking.v1.NetworkPolicyIngressRule",
    "io.k8s.api.networking.v1.NetworkPolicyEgressRule",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Condition",
];

/// The largest number of objects in one list of a spec. A pod of 200 containers has fewer volumes, variables of one
/// container and tolerations. Without a limit, 1.4 MB of JSON could be 44,000 volumes, which take a hundred times as much
/// memory in every program that reads them.
pub const LIST_ITEMS_MAX: usize = 1000;

/// The largest number of entries in one map of a spec, such as labels, annotations or a node selector. Kubernetes limits
/// the annotations of an object to 256 KiB in sum and its labels not at all. No manifest has a thousand of either, and
/// 1.4 MB of JSON could be 116,000.
pub const MAP_ENTRIES_MAX: usize = 1000;

/// The merge rules that the generated schemas use.
#[must_use]
pub fn builtin_list_types() -> ListTypes {
    // The file is compiled in, and a test parses it, so parsing cannot fail.
    serde_json::from_str(include_str!("list-types.json")).unwrap_or_default()
}

/// Extracts the merge rules of all definitions that [`EMBEDDED`] refers to, at any depth. `documents` are OpenAPI v3
/// documents of an API server (`/openapi/v3/api/v1` and `/openapi/v3/apis/networking.k8s.io/v1`).
#[must_use]
pub fn list_types(documents: &[Value]) -> ListTypes {
    let find = |name: &str| documents.iter().find_map(|d| d.pointer("/components/schemas")?.get(name));
    let mut found = ListTypes::new();
    let mut waiting: Vec<String> = EMBEDDED.iter().map(|name| (*name).to_owned()).collect();
    let mut seen = std::collections::BTreeSet::new();
    while let Some(name) = waiting.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let Some(definition) = find(&name) else { continue };
        let mut merges = BTreeMap::new();
        let required = texts(definition, "required");
        let own = Merge { required, ..merge_of(definition) };
        if own != Merge::default() {
            merges.insert(String::new(), own);
        }
        for (property, schema) in definition.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let merge = merge_of(schema);
            for key in &merge.keys {
                let item = schema.get("items").map(references).unwrap_or_default();
                for item in item {
                    if let Some(default) = optional_default(find(&item), key) {
                        let of_item = found.entry(item).or_default().entry(key.clone()).or_default();
                        of_item.default = Some(default);
                    }
                }
            }
            if merge != Merge::default() {
                merges.insert(property.clone(), merge);
            }
            waiting.extend(references(schema));
        }
        for (property, merge) in merges {
            let entry = found.entry(name.clone()).or_default().entry(property).or_default();
            *entry = Merge { default: entry.default.take(), ..merge };
        }
    }
    found
}

fn merge_of(schema: &Value) -> Merge {
    let text = |key: &str| schema.get(key).and_then(Value::as_str).map(str::to_owned);
    Merge {
        list: text("x-kubernetes-list-type"),
        keys: texts(schema, "x-kubernetes-list-map-keys"),
        map: text("x-kubernetes-map-type"),
        ..Merge::default()
    }
}

fn texts(schema: &Value, key: &str) -> Vec<String> {
    let list = schema.get(key).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The default of a list key that is optional. A list key must be required or have a default.
fn optional_default(item: Option<&Value>, key: &str) -> Option<Value> {
    let item = item?;
    if texts(item, "required").iter().any(|required| required == key) {
        return None;
    }
    item.pointer(&format!("/properties/{key}/default")).cloned()
}

/// The names of the definitions that a schema refers to, at any depth.
fn references(schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    match schema {
        Value::Object(map) => {
            if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
                found.extend(reference.rsplit('/').next().map(str::to_owned));
            }
            found.extend(map.values().flat_map(references));
        }
        Value::Array(items) => found.extend(items.iter().flat_map(references)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    found
}

/// The structural schema of a type.
#[must_use]
pub fn structural<T: JsonSchema>(list_types: &ListTypes) -> Value {
    let root = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>();
    let root = root.as_value();
    let definitions = root.get("$defs").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut structural = Inliner { definitions: &definitions, list_types }.inline(root, Origin::Ours);
    if let Some(map) = structural.as_object_mut() {
        map.remove("title");
    }
    structural
}

/// Limits every list of objects in a schema to [`LIST_ITEMS_MAX`], and every map to [`MAP_ENTRIES_MAX`]. Lists of texts and
/// numbers cost little more memory than their JSON.
pub(crate) fn limit_sizes(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else { return };
    if map.get("items").is_some_and(|items| items["type"] == "object") {
        map.entry("maxItems").or_insert_with(|| LIST_ITEMS_MAX.into());
    }
    if map.get("additionalProperties").is_some_and(Value::is_object) {
        map.entry("maxProperties").or_insert_with(|| MAP_ENTRIES_MAX.into());
    }
    for key in ["items", "additionalProperties"] {
        map.get_mut(key).into_iter().for_each(limit_sizes);
    }
    let properties = map.get_mut("properties").and_then(Value::as_object_mut);
    properties.into_iter().flatten().for_each(|(_, property)| limit_sizes(property));
}

/// Returns the schema of one shape. These keywords mark the differences of the shapes in the Rust types:
///
/// - `x-seed-only` or `x-upstream-only`: only this shape has the property, which is `"required"` or `"optional"`.
/// - `x-seed-KEYWORD` or `x-upstream-KEYWORD`: the value of KEYWORD in this shape.
///
/// A CEL rule is left out if it reads a property of the other shape.
#[must_use]
pub fn for_shape(mut schema: Value, shape: ApiShape) -> Value {
    let (ours, others) = match shape {
        ApiShape::Upstream => ("x-upstream-", "x-seed-"),
        ApiShape::Seed => ("x-seed-", "x-upstream-"),
    };
    let (mut required, mut foreign) = (texts(&schema, "required"), Vec::new());
    select(&mut schema, ours, others);
    let Some(map) = schema.as_object_mut() else { return schema };
    if let Some(properties) = map.get_mut("properties").and_then(Value::as_object_mut) {
        properties.retain(|name, property| {
            if property.get(format!("{others}only")).is_some() {
                foreign.push(name.clone());
                return false;
            }
            select(property, ours, others);
            if property.as_object_mut().and_then(|map| map.remove("only")).is_some_and(|only| only == "required") {
                required.push(name.clone());
            }
            true
        });
    }
    if let Some(Value::Array(mut rules)) = map.remove(RULES) {
        rules.retain(|rule| !reads(rule["rule"].as_str().unwrap_or_default()).any(|f| foreign.iter().any(|g| g == f)));
        map.extend((!rules.is_empty()).then(|| (RULES.to_owned(), rules.into())));
    }
    map.extend((!required.is_empty()).then(|| ("required".to_owned(), json!(required))));
    schema
}

const RULES: &str = "x-kubernetes-validations";

/// The names of the fields that a CEL rule reads.
fn reads(rule: &str) -> impl Iterator<Item = &str> {
    rule.split("self.").skip(1).filter_map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric()).next())
}

/// Applies the keywords of one shape, and removes those of the other.
fn select(schema: &mut Value, ours: &str, others: &str) {
    let Some(map) = schema.as_object_mut() else { return };
    for (key, value) in std::mem::take(map) {
        match key.strip_prefix(ours) {
            Some(keyword) => drop(map.insert(keyword.to_owned(), value)),
            None if key.starts_with(others) => {}
            None => drop(map.insert(key, value)),
        }
    }
}

/// The origin of a schema, which decides whether its descriptions are kept. Our descriptions are for `kubectl explain`.
/// With the descriptions of Kubernetes, the CRD would exceed the annotation of a client-side apply (262,144 bytes).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Ours,
    Kubernetes,
}

struct Inliner<'a> {
    definitions: &'a Map<String, Value>,
    list_types: &'a ListTypes,
}

impl Inliner<'_> {
    fn inline(&self, schema: &Value, origin: Origin) -> Value {
        let Some(map) = schema.as_object() else { return schema.clone() };
        let mut map = map.clone();
        map.remove("$schema");
        map.remove("$defs");
        if origin == Origin::Kubernetes {
            map.remove("description");
        }
        if let Some(Value::String(reference)) = map.remove("$ref") {
            return beside(self.definition(&reference), map);
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(Value::Array(choices)) = map.get(key).cloned() {
                map.remove(key);
                return beside(self.choice(&choices, origin), map);
            }
        }
        if let Some(Value::Array(types)) = map.get("type") {
            let named = types.iter().find(|t| t.as_str() != Some("null")).cloned();
            map.insert("type".to_owned(), named.unwrap_or_default());
        }
        if map.get("default").is_some_and(says_nothing) {
            map.remove("default");
        }
        for key in ["items", "additionalProperties"] {
            if let Some(inner) = map.get(key).filter(|v| v.is_object()).map(|v| self.inline(v, origin)) {
                map.insert(key.to_owned(), inner);
            }
        }
        if let Some(Value::Object(properties)) = map.get("properties") {
            let properties: Map<String, Value> =
                properties.iter().map(|(name, schema)| (name.clone(), self.inline(schema, origin))).collect();
            map.insert("properties".to_owned(), Value::Object(properties));
        }
        Value::Object(map)
    }

    fn definition(&self, reference: &str) -> Value {
        let name = reference.rsplit('/').next().unwrap_or_default();
        match name {
            // Only the labels and the annotations of embedded metadata are copied to the created object.
            "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta" => {
                let texts = json!({ "type": "object", "additionalProperties": { "type": "string" } });
                return json!({ "type": "object", "properties": { "labels": texts, "annotations": texts } });
            }
            // Kubernetes' own rule for quantities. Otherwise the API server would reject the pod later.
            "io.k8s.apimachinery.pkg.api.resource.Quantity" => {
                return json!({ "x-kubernetes-int-or-string": true, "pattern": QUANTITY });
            }
            _ => {}
        }
        let origin = if name.starts_with("io.k8s.") { Origin::Kubernetes } else { Origin::Ours };
        let mut schema = self.definitions.get(name).map_or(Value::Null, |d| self.inline(d, origin));
        if let (Origin::Kubernetes, Some(map)) = (origin, schema.as_object_mut()) {
            map.remove("required");
        }
        for (property, merge) in self.list_types.get(name).into_iter().flatten() {
            let target = match property.as_str() {
                "" => Some(&mut schema),
                property => schema.get_mut("properties").and_then(|p| p.get_mut(property)),
            };
            if let Some(Value::Object(target)) = target {
                apply(merge, target);
            }
        }
        if name == EMBEDDED[0]
            && let Some(ephemeral) = schema.pointer_mut("/properties/ephemeralContainers")
        {
            *ephemeral = no_ephemeral_containers();
        }
        schema
    }

    /// The schema of a choice. `Option<T>` is a choice between T and null and becomes T. An enum with descriptions is a
    /// choice between constants and becomes a list of them.
    fn choice(&self, choices: &[Value], origin: Origin) -> Value {
        let constants: Vec<Value> = choices.iter().filter_map(|c| c.get("const").cloned()).collect();
        if constants.len() == choices.len() {
            return json!({ "type": "string", "enum": constants });
        }
        let named: Vec<&Value> = choices.iter().filter(|c| c.get("type").is_none_or(|t| t != "null")).collect();
        match named.as_slice() {
            [one] => self.inline(one, origin),
            several => Value::Array(several.iter().map(|c| self.inline(c, origin)).collect()),
        }
    }
}

/// The pattern of a quantity in `k8s.io/apimachinery`: a signed number and a suffix.
const QUANTITY: &str = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$";

/// A schema that allows no ephemeral containers, because a pod cannot be created with them. A user gets the error at
/// once, and the CRD is smaller by a quarter.
fn no_ephemeral_containers() -> Value {
    json!({
        "description": "Must be empty. Ephemeral containers are added to a running pod with `kubectl debug`.",
        "type": "array",
        "maxItems": 0,
        "items": { "type": "object" },
    })
}

fn apply(merge: &Merge, schema: &mut Map<String, Value>) {
    let Merge { list, keys, map, required, default } = merge;
    // A list without a type is atomic. The CRD of Sandboxes has hundreds of such lists, and has to fit an annotation.
    if let Some(list) = list.as_ref().filter(|list| *list != "atomic") {
        schema.insert("x-kubernetes-list-type".to_owned(), json!(list));
    }
    if !keys.is_empty() {
        schema.insert("x-kubernetes-list-map-keys".to_owned(), json!(keys));
    }
    if let Some(map) = map {
        schema.insert("x-kubernetes-map-type".to_owned(), json!(map));
    }
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    if let Some(default) = default {
        schema.insert("default".to_owned(), default.clone());
    }
}

/// Adds the siblings of a reference to the schema that it refers to. The siblings describe this use of the schema, so
/// they replace its keywords.
fn beside(mut schema: Value, siblings: Map<String, Value>) -> Value {
    if let Some(map) = schema.as_object_mut() {
        for (key, value) in siblings {
            if !(key == "default" && says_nothing(&value)) {
                map.insert(key, value);
            }
        }
    }
    schema
}

/// Whether a default has no information. schemars records serde's default of an absent field, and the API server must
/// not write it.
fn says_nothing(default: &Value) -> bool {
    match default {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0),
        Value::Bool(_) | Value::String(_) => false,
    }
}
