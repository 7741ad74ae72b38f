//! Reads SandboxPlugins, SandboxPolicies and ConfigMaps into the parts that decide what is loaded and bound.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::ByteString;
use kube::ResourceExt as _;
use paddock_api::document::Document;
use paddock_api::{ConfigMapKey, Hook, SandboxPlugin, SandboxPolicy, SandboxPolicySpec};
use paddock_core::isolation::IsolationRule;
use paddock_plugin_host::BUILT_INS;
use paddock_registry::Digest;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Component, Fault, FaultReason, IsolationObject, ObjectContent, PluginObject, PolicyObject};
use crate::plugins::registry::Pulled;
use crate::plugins::source::Content;

/// The values of `binaryData` of a ConfigMap, by key.
pub(super) type Components = Arc<BTreeMap<String, Content>>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigMapData {
    #[serde(default)]
    binary_data: Option<BTreeMap<String, ByteString>>,
}

/// The components in a ConfigMap. A ConfigMap that cannot be read has none.
pub(super) fn components(object: &Document) -> Components {
    let data: Option<ConfigMapData> = serde_json::from_str(object.text.get()).ok();
    let values = data.and_then(|data| data.binary_data).unwrap_or_default();
    Arc::new(values.into_iter().map(|(key, value)| (key, Content::of(value.0))).collect())
}

/// An object of a kind, or the reason why it cannot be read.
pub(super) fn typed<T: for<'de> Deserialize<'de>>(object: &Document) -> Result<Arc<T>, String> {
    serde_json::from_str(object.text.get()).map(Arc::new).map_err(|error| error.to_string())
}

/// The ConfigMaps of the operator's namespace, or the reason why they cannot be read.
pub(super) type ConfigMaps<'a> = Result<&'a BTreeMap<String, Components>, &'a str>;

/// What is known of the sources.
pub(super) struct Known<'a> {
    /// The namespace of the operator.
    pub(super) namespace: Option<&'a str>,
    /// The ConfigMaps of that namespace.
    pub(super) maps: ConfigMaps<'a>,
    /// The image of the SandboxPlugin, if it names one.
    pub(super) pulled: Option<&'a Pulled>,
}

/// The parts of a SandboxPlugin.
pub(super) fn plugin(object: &SandboxPlugin, known: &Known<'_>) -> PluginObject {
    let spec = &object.spec;
    let mut trust = None;
    let mut source_fault = None;
    let of_source = |content: Result<Content, String>| {
        content.map(Component::from).map_err(|error| Fault::new(FaultReason::SourceNotFound, error))
    };
    let (location, component) = match (&spec.source.config_map, &spec.source.built_in, &spec.source.oci) {
        (Some(of), None, None) => (
            format!("ConfigMap {}/{}, key {}", known.namespace.unwrap_or_default(), of.name, of.key),
            of_source(of_config_map(of, known.namespace, known.maps)),
        ),
        (None, Some(of), None) => (format!("built-in plugin {}", of.name), of_source(of_built_in(&of.name))),
        (None, None, Some(of)) => {
            let Pulled { component, fault, trust: keys } = known.pulled.cloned().unwrap_or_default();
            trust = keys;
            let pulling =
                || Fault::new(FaultReason::Pulling, format!("spec.source.oci.image: {} is being pulled", of.image));
            let component = match component {
                Some(component) => {
                    source_fault = fault;
                    Ok(component)
                }
                None => Err(fault.unwrap_or_else(pulling)),
            };
            (format!("image {}", of.image), component)
        }
        (Some(_), Some(_), _) | (Some(_), _, Some(_)) | (_, Some(_), Some(_)) | (None, None, None) => {
            let error = "spec.source: exactly one of configMap, builtIn and oci must be given".to_owned();
            ("spec.source".to_owned(), of_source(Err(error)))
        }
    };
    let limits = spec.limits.as_ref().map_or_else(|| json!({}), |limits| json!({ "limits": limits }));
    PluginObject {
        uid: object.uid().unwrap_or_default(),
        generation: object.metadata.generation.unwrap_or_default(),
        location,
        component,
        source_fault,
        trust,
        digest: spec.digest.clone(),
        limits: limits.to_string(),
    }
}

fn of_config_map(
    ConfigMapKey { name, key }: &ConfigMapKey,
    namespace: Option<&str>,
    maps: ConfigMaps<'_>,
) -> Result<Content, String> {
    let namespace = namespace.ok_or(
        "spec.source.configMap: this operator runs in no namespace, so it reads no ConfigMap; start it with \
         --leader-election-namespace",
    )?;
    let maps = maps.map_err(|fault| format!("spec.source.configMap: {fault}"))?;
    let map = maps.get(name).ok_or_else(|| {
        format!("spec.source.configMap.name: the namespace {namespace} of the operator has no ConfigMap {name}")
    })?;
    map.get(key).cloned().ok_or_else(|| {
        format!(
            "spec.source.configMap.key: binaryData of the ConfigMap {namespace}/{name} has no key {key}; `kubectl create \
             configmap {name} --from-file={key}` makes one"
        )
    })
}

fn of_built_in(name: &str) -> Result<Content, String> {
    let found = BUILT_INS.iter().find(|built_in| built_in.name == name).ok_or_else(|| {
        let names: Vec<&str> = BUILT_INS.iter().map(|built_in| built_in.name).collect();
        format!("spec.source.builtIn.name: must be one of {}", names.join(", "))
    })?;
    Ok(Content::of(found.component))
}

/// Adds the parts of a SandboxPolicy of this name. A policy that neither binds a plugin nor has rules, which the schema
/// refuses, counts as unreadable.
pub(super) fn add_policy(content: &mut ObjectContent, name: &str, object: &SandboxPolicy) {
    let spec = &object.spec;
    let (uid, generation) = (object.uid().unwrap_or_default(), object.metadata.generation.unwrap_or_default());
    let error = match (IsolationRule::of(name, spec), &spec.plugin, spec.hook) {
        (Ok(None), Some(plugin), Some(hook)) => {
            let (plugin, mode, config) = (plugin.clone(), spec.mode.unwrap_or_default(), config(spec, hook));
            content.policies.insert(name.to_owned(), PolicyObject { uid, generation, plugin, hook, mode, config });
            return;
        }
        (Ok(Some(rule)), None, None) => {
            let digest = Digest::of(json!(rule).to_string().as_bytes()).to_string();
            content.isolation.insert(name.to_owned(), IsolationObject { uid, generation, rule, digest });
            return;
        }
        (Ok(Some(_)), Some(_), _) | (Ok(Some(_)), None, Some(_)) | (Ok(None), None, _) | (Ok(None), Some(_), None) => {
            "spec: exactly one of plugin, with its hook, and isolation must be given".to_owned()
        }
        (Err(error), _, _) => error,
    };
    content.unreadable.insert(name.to_owned(), error);
}

/// The spec of a policy of this hook as a configuration file of the plugin directory. Fields that are absent are left out.
pub(super) fn config(spec: &SandboxPolicySpec, hook: Hook) -> String {
    let SandboxPolicySpec {
        plugin: _,
        hook: _,
        isolation: _,
        mode: _,
        order,
        namespace_selector,
        object_selector,
        kinds,
        settings,
        failure_policy,
    } = spec;
    let fields = [
        ("hooks", json!([hook])),
        ("order", json!(order)),
        ("namespaceSelector", json!(namespace_selector)),
        ("objectSelector", json!(object_selector)),
        ("kinds", json!(kinds)),
        ("settings", json!(settings)),
        ("failurePolicy", json!(failure_policy)),
    ];
    let given = fields.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(given.map(|(field, value)| (field.to_owned(), value)).collect::<Map<_, _>>()).to_string()
}
