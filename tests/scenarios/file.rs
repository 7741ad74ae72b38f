//! A scenario's file: a head with the key and the time of the reconcile, and then the existing objects.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use paddock_api::kind::{Key, Kind};
use paddock_api::{PortRange, SandboxPolicySpec};
use paddock_core::binding::{Binding, FailurePolicy, Selector};
use paddock_core::cpu_use::PodCpuUse;
use paddock_core::isolation::IsolationRule;
use paddock_core::manifest;
use paddock_core::network_policy::is_template;
use paddock_core::object::Object;
use paddock_core::question::{Answer, Failure, FailureKind, Hook};
use paddock_core::settings::{ManagedFieldsAtClaim, Settings, TcpWakeSettings};
use paddock_core::world::{Observed, World};
use serde::Deserialize;
use serde_json::{Value, json};

use super::preset::expand;
use crate::sim::answers::{PluginClient, plugin};

/// One scenario.
pub(super) struct Scenario {
    pub(super) title: String,
    pub(super) now: Timestamp,
    pub(super) key: Key,
    pub(super) settings: Settings,
    pub(super) before: Vec<Before>,
    pub(super) shows_questions: bool,
    pub(super) settles: bool,
    pub(super) objects: Vec<(Kind, Value)>,
    /// The samples of CPU use, if a list of them has ended.
    cpu: Option<Vec<PodCpuUse>>,
    answers: Vec<(String, Result<Answer, Failure>)>,
    plugins: Vec<Binding>,
    rules: Vec<IsolationRule>,
}

/// An earlier reconcile.
pub(super) struct Before {
    pub(super) key: Key,
    pub(super) at: Timestamp,
    pub(super) outcome: Happened,
    pub(super) steps: Option<usize>,
}

/// The outcome of all writes of an earlier plan.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Happened {
    UnderWay,
    Lost,
    Conflict,
    Exists,
    Busy,
    Rejected(String),
    /// An admission policy refuses fields of the object.
    Denied(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Head {
    /// A sentence that describes the scenario.
    scenario: String,
    now: Timestamp,
    reconcile: String,
    #[serde(default)]
    settings: SettingsHead,
    #[serde(default)]
    before: Vec<BeforeHead>,
    /// The bindings of plugins beside the built-ins.
    #[serde(default)]
    plugins: Vec<PluginHead>,
    /// The SandboxPolicies with rules about isolation, by name.
    #[serde(default)]
    policies: BTreeMap<String, SandboxPolicySpec>,
    /// Answers by hook or by the name of a binding. The stand-ins of the built-ins give all other answers.
    #[serde(default)]
    answers: BTreeMap<String, Value>,
    /// Whether each template has its NetworkPolicy, unless the file lists one of that name. Scenarios of templates never
    /// have it.
    #[serde(default = "yes")]
    network_policies: bool,
    #[serde(default)]
    show_questions: bool,
    /// The CPU use of pods, in a list that ended just before.
    cpu: Option<Vec<CpuHead>>,
    /// Whether the plan is followed by an empty plan when it is carried out. It is false if the next step depends on
    /// someone else.
    #[serde(default = "yes")]
    settles: bool,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct SettingsHead {
    pool_batch: Option<usize>,
    max_pool_size: Option<u32>,
    drain_delay_seconds: Option<u64>,
    arrival_buckets: Option<usize>,
    label_domains: Option<Vec<String>>,
    managed_fields_at_claim: Option<ManagedFieldsAtClaim>,
    /// The ports of gateways, whose Service is `system/router`.
    tcp_wake_ports: Option<String>,
    init_image: Option<String>,
    /// The CPU limit of a throttled container, in thousandths of a core.
    throttle_cpu: Option<u32>,
    /// The bound of the annotation keep-awake-until, in minutes.
    keep_awake_minutes: Option<u64>,
    /// The interval of the lists of CPU use.
    cpu_metrics_seconds: Option<u64>,
}

/// A sample of CPU use.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct CpuHead {
    pod: String,
    millicores: u32,
    measured: Timestamp,
    window_seconds: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BeforeHead {
    reconcile: String,
    at: Timestamp,
    outcome: Happened,
    steps: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PluginHead {
    name: String,
    hook: Hook,
    failure_policy: Option<FailurePolicy>,
    #[serde(default)]
    objects: Selector,
    #[serde(default)]
    kinds: Vec<String>,
    #[serde(default)]
    order: i32,
    /// The settings of the plugin, as JSON text.
    settings: Option<String>,
    not_loaded: Option<String>,
}

fn yes() -> bool {
    true
}

impl Scenario {
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|e| e.to_string())?;
        let mut documents = serde_yaml_ng::Deserializer::from_str(&text);
        let head = documents.next().ok_or("an empty file")?;
        // Converted through JSON, so that enums are read in the same way as in manifests.
        let head = Value::deserialize(head).map_err(|e| e.to_string())?;
        let head: Head = serde_json::from_value(head).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut objects = Vec::new();
        for document in documents {
            let document = Value::deserialize(document).map_err(|e| e.to_string())?;
            for object in expand(document)? {
                objects.push(complete(object, objects.len())?);
            }
        }
        let key = super::key(&head.reconcile)?;
        if head.network_policies && !is_template(key.kind) {
            for policy in network_policies(&objects) {
                objects.push(complete(policy, objects.len())?);
            }
        }
        let before: Result<Vec<Before>, String> = head
            .before
            .into_iter()
            .map(|b| Ok(Before { key: super::key(&b.reconcile)?, at: b.at, outcome: b.outcome, steps: b.steps }))
            .collect();
        let answers: Result<Vec<_>, String> =
            head.answers.into_iter().map(|(n, a)| Ok((n.clone(), answer(&n, a)?))).collect();
        let rules = head.policies.iter().map(|(name, spec)| {
            IsolationRule::of(name, spec)?.ok_or_else(|| format!("the policy {name} has no rules about isolation"))
        });
        Ok(Self {
            title: head.scenario,
            now: head.now,
            key,
            settings: head.settings.settings(),
            before: before?,
            shows_questions: head.show_questions,
            settles: head.settles,
            objects,
            cpu: head.cpu.map(|all| all.into_iter().map(CpuHead::sample).collect()),
            answers: answers?,
            plugins: head.plugins.into_iter().map(PluginHead::binding).collect(),
            rules: rules.collect::<Result<_, _>>()?,
        })
    }

    /// Puts the samples of CPU use into the World, when it has the pods.
    pub(super) fn observe_cpu(&self, world: &mut World) {
        if let Some(uses) = &self.cpu {
            for observed in [Observed::CpuUse(uses.clone()), Observed::CpuUseListed] {
                let _ = world.observe(observed, self.now);
            }
        }
    }

    pub(super) fn plugins(&self) -> PluginClient {
        let mut plugins = PluginClient::default();
        for (name, result) in &self.answers {
            plugins.script(name, result.clone());
        }
        for binding in &self.plugins {
            plugins.bind(binding.clone());
        }
        plugins.isolate(self.rules.clone());
        plugins
    }
}

/// The NetworkPolicies that the operator makes for the templates among the objects.
fn network_policies(objects: &[(Kind, Value)]) -> Vec<Value> {
    let templates = objects.iter().filter(|(kind, _)| is_template(*kind));
    let policies = templates.filter_map(|(kind, document)| {
        let template = Object::from_json(*kind, document.clone())?;
        let model = template.template()?.spec.as_ref().ok()?;
        let spec = manifest::network_policy_spec(&template.key.name, &model.network, &Settings::default().network)?;
        Some(manifest::network_policy(&template.key, &spec))
    });
    let name = |object: &Value| object["metadata"]["name"].clone();
    let listed = |policy: &Value| objects.iter().any(|(k, o)| *k == Kind::NetworkPolicy && name(o) == name(policy));
    policies.filter(|policy| !listed(policy)).collect()
}

/// Fills in the fields that manifests leave to the API server.
fn complete(mut document: Value, at: usize) -> Result<(Kind, Value), String> {
    let text = |field: &str| document[field].as_str().unwrap_or_default().to_owned();
    let (api_version, name) = (text("apiVersion"), text("kind"));
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let kind = Kind::ALL
        .into_iter()
        .find(|k| k.group() == group && k.name() == name)
        .ok_or_else(|| format!("`{api_version} {name}` is no kind"))?;
    let uid = format!("uid-of-{}", document["metadata"]["name"].as_str().unwrap_or_default());
    let metadata = document["metadata"].as_object_mut().ok_or("an object has no metadata")?;
    let mut default = |field: &str, value: Value| {
        metadata.entry(field).or_insert(value);
    };
    default("uid", uid.into());
    default("resourceVersion", (at + 1).to_string().into());
    default("generation", 1.into());
    default("creationTimestamp", json!("2030-01-01T11:00:00Z"));
    if kind.namespaced() {
        default("namespace", json!("agents"));
    }
    Ok((kind, document))
}

impl SettingsHead {
    fn settings(self) -> Settings {
        let mut settings = Settings::default();
        if let Some(batch) = self.pool_batch {
            settings.pool_batch = batch;
        }
        if let Some(most) = self.max_pool_size {
            settings.max_pool_size = most;
        }
        if let Some(seconds) = self.drain_delay_seconds {
            settings.drain_delay = Duration::from_secs(seconds);
        }
        if let Some(buckets) = self.arrival_buckets {
            settings.arrival_buckets = buckets;
        }
        if let Some(domains) = self.label_domains {
            settings.label_domains = domains;
        }
        if let Some(choice) = self.managed_fields_at_claim {
            settings.managed_fields_at_claim = choice;
        }
        settings.init_image = self.init_image;
        settings.throttle_cpu = self.throttle_cpu;
        if let Some(minutes) = self.keep_awake_minutes {
            settings.keep_awake_at_most = Duration::from_secs(60 * minutes);
        }
        if let Some(seconds) = self.cpu_metrics_seconds {
            settings.cpu_metrics_interval = Duration::from_secs(seconds);
        }
        if let Some(ports) = self.tcp_wake_ports {
            settings.tcp_wake = Some(TcpWakeSettings {
                namespace: "system".to_owned(),
                service: "router".to_owned(),
                ports: PortRange::parse(&ports).expect("a range of ports"),
            });
        }
        settings
    }
}

impl CpuHead {
    fn sample(self) -> PodCpuUse {
        PodCpuUse {
            pod: Key::new(Kind::Pod, "agents", self.pod),
            millicores: self.millicores,
            measured: self.measured,
            window: Duration::from_secs(self.window_seconds),
        }
    }
}

impl PluginHead {
    fn binding(self) -> Binding {
        Binding {
            order: self.order,
            objects: self.objects,
            kinds: self.kinds,
            settings: self.settings.unwrap_or_else(|| "{}".to_owned()),
            failure_policy: self.failure_policy.unwrap_or(FailurePolicy::default_of(self.hook)),
            not_loaded: self.not_loaded,
            ..Binding::new(plugin(&self.name), self.hook)
        }
    }
}

/// An answer to the hook that ends the name, or `fails: trap`.
fn answer(name: &str, mut answer: Value) -> Result<Result<Answer, Failure>, String> {
    let fails = answer["fails"].take();
    if !fails.is_null() {
        let kind: FailureKind = serde_json::from_value(fails).map_err(|e| format!("{name}: {e}"))?;
        return Ok(Err(Failure { kind, message: "as the scenario says".to_owned() }));
    }
    let hook = name.rsplit('/').next().unwrap_or(name);
    if let Some(fields) = answer.as_object_mut() {
        fields.remove("fails");
        fields.insert("hook".to_owned(), hook.into());
    }
    serde_json::from_value(answer).map(Ok).map_err(|e| format!("{name}: {e}"))
}
