//! Every field of a Sandbox and of a claim, changed while the Sandbox has a running pod. A change is done, refused or
//! shown as pending: the webhook warns, `status.pending` lists the field, and the `observedGeneration` of Ready stays,
//! exactly if only a new pod can take the change. The schemas list the fields, so a new field needs a row.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use paddock_api::kind::{ApiShape, Key, Kind};
use paddock_core::admission::{self, Context, Entry, Phase, Review, ReviewVerdict, Verb, Write};
use paddock_core::decide::decide;
use paddock_core::object::Object;
use paddock_core::plan::{Action, Plan};
use paddock_core::settings::Settings;
use paddock_core::world::{Observed, World};
use serde_json::{Value, json};

use crate::framework::{Outcome, Test, test};

const NOW: &str = "2030-01-01T12:00:00Z";
const EARLIER: &str = "2030-01-01T11:00:00Z";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("changes::every_field_of_a_sandbox_is_done_or_pending", fields_of_a_sandbox),
        test("changes::every_field_of_a_pod_is_pending", fields_of_a_pod),
        test("changes::every_field_of_a_bound_claim_is_done_or_refused", fields_of_a_claim),
    ]
}

/// The properties of an object in a schema.
fn properties(schema: &Value) -> BTreeMap<String, Value> {
    schema["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(field, schema)| (field.clone(), schema.clone()))
        .collect()
}

/// The schema of a kind's spec.
fn spec_schema(kind: Kind) -> Value {
    let definitions = paddock_api::crd::all().into_iter().map(|crd| serde_json::to_value(crd).expect("JSON"));
    let definition = definitions
        .into_iter()
        .find(|crd| crd["spec"]["group"] == kind.group() && crd["spec"]["names"]["kind"] == kind.name())
        .expect("a definition");
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

/// A value that a schema admits.
fn sample(schema: &Value) -> Value {
    if let Some(first) = schema["enum"].as_array().and_then(|values| values.first()) {
        return first.clone();
    }
    match schema["type"].as_str() {
        Some("boolean") => true.into(),
        Some("integer" | "number") => 1.into(),
        Some("array") => json!([sample(&schema["items"])]),
        Some("object") if schema["additionalProperties"].is_object() => {
            json!({ "k": sample(&schema["additionalProperties"]) })
        }
        Some("object") => {
            let required = schema["required"].as_array().cloned().unwrap_or_default();
            let fields = properties(schema);
            let first = fields.keys().next().filter(|_| required.is_empty()).map(|field| field.as_str().into());
            let fields = required.into_iter().chain(first).filter_map(|field| {
                let field = field.as_str()?.to_owned();
                let value = sample(fields.get(&field)?);
                Some((field, value))
            });
            Value::Object(fields.collect())
        }
        Some("string") if schema["format"] == "date-time" => NOW.into(),
        // A field that is an integer or a string has no type.
        Some(_) | None => "1".into(),
    }
}

fn now() -> Timestamp {
    NOW.parse().expect("a time")
}

/// The pod of a Sandbox in a shape.
fn pod_field(shape: ApiShape) -> &'static str {
    match shape {
        ApiShape::Upstream => "podTemplate",
        ApiShape::Seed => "template",
    }
}

fn sandbox(shape: ApiShape) -> Value {
    json!({
        "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox",
        "metadata": {
            "name": "a", "namespace": "agents", "uid": "uid-of-a", "generation": 1, "creationTimestamp": EARLIER,
        },
        "spec": {
            "operatingMode": "Running",
            "replicas": 1,
            pod_field(shape): {
                "metadata": { "labels": { "l": "1" } },
                "spec": {
                    "containers": [{ "name": "agent", "image": "agent:1" }],
                    "volumes": [{ "name": "work", "emptyDir": {} }],
                },
            },
        },
    })
}

/// The World with a Sandbox whose pod is Ready.
struct Cluster {
    world: World,
    version: u64,
    /// The Sandbox with its status.
    sandbox: Value,
}

impl Cluster {
    fn with(shape: ApiShape) -> Self {
        let mut cluster = Self { world: World::new(Settings::default()), version: 0, sandbox: sandbox(shape) };
        cluster.store(Kind::Namespace, json!({ "metadata": { "name": "agents" } }));
        let sandbox = cluster.store(Kind::Sandbox, cluster.sandbox.clone());
        for _ in 0..3 {
            let plan = cluster.reconcile(&sandbox);
            for op in plan.steps.iter().flatten() {
                match &op.action {
                    Action::Create { body, .. } if op.key.kind == Kind::Pod => {
                        let mut pod = Value::clone(body);
                        let condition = |kind| json!({ "type": kind, "status": "True", "lastTransitionTime": EARLIER });
                        pod["metadata"]["uid"] = "uid-of-pod".into();
                        pod["spec"]["nodeName"] = "n1".into();
                        pod["status"] = json!({
                            "phase": "Running", "podIPs": [{ "ip": "10.0.0.7" }],
                            "conditions": [condition("Ready"), condition("PodScheduled")],
                        });
                        cluster.store(Kind::Pod, pod);
                    }
                    Action::Create { body, .. } => {
                        let mut made = Value::clone(body);
                        made["metadata"]["uid"] = format!("uid-of-{}", op.key).into();
                        cluster.store(op.key.kind, made);
                    }
                    Action::Patch { body, .. } if op.key == sandbox => {
                        json_patch::merge(&mut cluster.sandbox, body);
                        cluster.store(Kind::Sandbox, cluster.sandbox.clone());
                    }
                    Action::Patch { .. }
                    | Action::Resize { .. }
                    | Action::Adopt { .. }
                    | Action::Deliver { .. }
                    | Action::Delete { .. } => {}
                }
            }
        }
        assert_eq!(cluster.ready(), (Some("True"), Some(1)), "{:#}", cluster.sandbox["status"]);
        cluster
    }

    fn store(&mut self, kind: Kind, mut object: Value) -> Key {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let object = Object::from_json(kind, object).expect("an object");
        let key = object.key.clone();
        let _ = self.world.observe(Observed::Applied(object), now());
        key
    }

    fn reconcile(&self, key: &Key) -> Plan {
        decide(&self.world.snapshot(key, now()), &[])
    }

    /// The status of Ready, and its generation.
    fn ready(&self) -> (Option<&str>, Option<i64>) {
        let conditions = self.sandbox["status"]["conditions"].as_array();
        let ready = conditions.into_iter().flatten().find(|c| c["type"] == "Ready");
        (ready.and_then(|c| c["status"].as_str()), ready.and_then(|c| c["observedGeneration"].as_i64()))
    }

    /// Changes the spec, and reconciles. Returns the verdict of the webhook.
    fn change(&mut self, change: &Value) -> ReviewVerdict {
        let old = self.sandbox.clone();
        json_patch::merge(&mut self.sandbox, &json!({ "spec": change }));
        let verdict = update(Kind::Sandbox, &old, &self.sandbox);
        self.sandbox["metadata"]["generation"] = 2.into();
        let key = self.store(Kind::Sandbox, self.sandbox.clone());
        for op in self.reconcile(&key).steps.iter().flatten() {
            if let (true, Action::Patch { body, status: true, .. }) = (op.key == key, &op.action) {
                json_patch::merge(&mut self.sandbox, body);
            }
        }
        verdict
    }

    fn pending(&self) -> Vec<&str> {
        self.sandbox["status"]["pending"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }
}

/// The verdict of the webhook about an update.
fn update(kind: Kind, old: &Value, new: &Value) -> ReviewVerdict {
    let review = Review {
        phase: Phase::Validate,
        entry: Entry::OwnKinds,
        operation: Verb::Update,
        group: kind.group().to_owned(),
        version: kind.version().to_owned(),
        kind: kind.name().to_owned(),
        resource: kind.plural().to_owned(),
        subresource: None,
        namespace: "agents".to_owned(),
        name: "a".to_owned(),
        object: new.clone(),
        old_object: old.clone(),
        write: Write::default(),
        dry_run: false,
        username: "ada".to_owned(),
        groups: vec![],
        now: now(),
    };
    admission::verdict(&review, &Context::default(), &[])
}

/// Whether the webhook warns that a change needs a new pod.
fn warns(verdict: &ReviewVerdict) -> bool {
    verdict.warnings.iter().any(|warning| warning.contains("suspend and resume the Sandbox"))
}

/// Changes a Sandbox with a running pod, and checks that warning, status and generation agree. Returns whether the change
/// was refused, with a message that names the field.
fn check(shape: ApiShape, change: &Value, pending: &[String]) -> Result<bool, String> {
    let mut cluster = Cluster::with(shape);
    let verdict = cluster.change(change);
    if let Some(denial) = &verdict.denial {
        let named = pending.iter().any(|path| denial.message.contains(path.as_str()));
        return if named { Ok(true) } else { Err(format!("{change}: {}", denial.message)) };
    }
    let observed = cluster.ready().1;
    let expected = if pending.is_empty() { 2 } else { 1 };
    let right = cluster.pending() == *pending && warns(&verdict) != pending.is_empty() && observed == Some(expected);
    let found = || format!("{:?} of {observed:?}, warned of by {:?}", cluster.pending(), verdict.warnings);
    if right { Ok(false) } else { Err(format!("{change}: expected {pending:?}, and found {}", found())) }
}

/// What becomes of a change.
enum Change {
    /// It needs no new pod.
    Done(Value),
    /// It needs a new pod, and the status lists these paths.
    Pending(Value, &'static [&'static str]),
    /// The CRD says that the field is immutable.
    Immutable,
    /// Another table has its fields.
    Pod,
}

fn fields_of_a_sandbox() -> Outcome {
    use Change::{Done, Immutable, Pending, Pod};
    let rows = [
        // Suspend needs the resumePolicy OnDemand, which the Sandbox of this table does not have.
        ("drainPolicy", Done(json!("Evict"))),
        ("idleTimeout", Pending(json!("10m"), &["spec.idleTimeout"])),
        // A suspend deletes the pod, so it is not checked here: the status follows when the pod is deleted.
        ("operatingMode", Done(Value::Null)),
        ("podTemplate", Pod),
        ("replicas", Done(Value::Null)),
        ("resumePolicy", Immutable),
        ("runtimeClassName", Pending(json!("gvisor"), &["spec.runtimeClassName"])),
        ("service", Done(json!(true))),
        ("shutdownPolicy", Done(json!("Delete"))),
        ("shutdownTime", Done(json!("2040-01-01T00:00:00Z"))),
        ("template", Pod),
        ("volumeClaimTemplates", Immutable),
        ("wakeSchedule", Done(json!({ "cron": "0 9 * * 1-5" }))),
    ];
    let schema = spec_schema(Kind::Sandbox);
    let known: BTreeSet<&str> = rows.iter().map(|(field, _)| *field).collect();
    assert_eq!(
        properties(&schema).keys().map(String::as_str).collect::<BTreeSet<_>>(),
        known,
        "the fields of the schema"
    );
    let rules = schema["x-kubernetes-validations"].to_string();
    for (field, change) in rows {
        match change {
            Done(value) => assert!(!check(ApiShape::Upstream, &json!({ field: value }), &[])?, "{field}"),
            Pending(value, paths) => {
                let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
                assert!(!check(ApiShape::Upstream, &json!({ field: value }), &paths)?, "{field}");
            }
            Immutable => assert!(rules.contains(&format!("{field} is immutable")), "{field}: {rules}"),
            Pod => {}
        }
    }
    // The labels and annotations of the pod are changed in place.
    for field in ["labels", "annotations"] {
        for (shape, pod) in [ApiShape::Upstream, ApiShape::Seed].map(|shape| (shape, pod_field(shape))) {
            assert!(!check(shape, &json!({ pod: { "metadata": { field: { "new": "1" } } } }), &[])?, "{field}");
        }
    }
    Ok(())
}

fn fields_of_a_pod() -> Outcome {
    /// The fields that a pod template may not have.
    const REFUSED: [&str; 1] = ["ephemeralContainers"];

    let schema = spec_schema(Kind::Sandbox);
    for shape in [ApiShape::Upstream, ApiShape::Seed] {
        let pod = pod_field(shape);
        let at = format!("spec.{pod}.spec");
        let spec = &schema["properties"][pod]["properties"]["spec"];
        let (fields, mut results) = (properties(spec), Vec::new());
        assert!(fields.len() > 30, "{:?}", fields.keys());
        for (field, schema) in fields {
            let (value, path) = match field.as_str() {
                "containers" => (json!([{ "name": "other", "image": "agent:1" }]), None),
                "initContainers" => {
                    (json!([{ "name": "init", "image": "agent:1" }]), Some(format!("{at}.initContainers[init]")))
                }
                "volumes" => (
                    json!([{ "name": "work", "emptyDir": { "medium": "Memory" } }]),
                    Some(format!("{at}.volumes[work]")),
                ),
                "restartPolicy" => (json!("Never"), Some(format!("{at}.restartPolicy"))),
                "dnsPolicy" => (json!("Default"), Some(format!("{at}.dnsPolicy"))),
                _ => (sample(&schema), Some(format!("{at}.{field}"))),
            };
            let paths = match path {
                Some(path) => vec![path],
                None => ["agent", "other"].map(|name| format!("{at}.containers[{name}]")).to_vec(),
            };
            results.push((field.clone(), check(shape, &json!({ pod: { "spec": { field: value } } }), &paths)));
        }
        for (field, schema) in properties(&spec["properties"]["containers"]["items"]) {
            if field == "name" {
                continue;
            }
            let value = match field.as_str() {
                "image" => json!("agent:2"),
                "volumeMounts" => json!([{ "name": "work", "mountPath": "/work" }]),
                "volumeDevices" => json!([{ "name": "work", "devicePath": "/dev/work" }]),
                _ => sample(&schema),
            };
            let mut container = json!({ "name": "agent", "image": "agent:1" });
            container[&field] = value;
            let change = json!({ pod: { "spec": { "containers": [container] } } });
            let result = check(shape, &change, &[format!("{at}.containers[agent].{field}")]);
            results.push((field, result));
        }
        let wrong: Vec<_> = results.iter().filter_map(|(_, result)| result.as_ref().err()).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        let refused: Vec<&str> =
            results.iter().filter(|(_, result)| *result == Ok(true)).map(|(field, _)| field.as_str()).collect();
        assert_eq!(refused, REFUSED, "the fields that are refused");
    }
    Ok(())
}

fn fields_of_a_claim() -> Outcome {
    /// The fields that concern a Sandbox that exists. Scenarios show what becomes of them.
    const DONE: [&str; 2] = ["additionalPodMetadata", "lifecycle"];
    for (kind, source) in [
        (Kind::Claim, json!({ "warmPoolRef": { "name": "p" } })),
        (Kind::SeedClaim, json!({ "templateRef": { "name": "t" } })),
    ] {
        let bound = json!({
            "apiVersion": kind.api_version(), "kind": kind.name(),
            "metadata": { "name": "a", "namespace": "agents", "uid": "u", "generation": 1 },
            "spec": source,
            "status": { "sandbox": { "name": "s" } },
        });
        let fields = properties(&spec_schema(kind));
        assert!(fields.len() >= 5, "{:?}", fields.keys());
        for (field, schema) in fields {
            let value = match field.as_str() {
                "additionalPodMetadata" => json!({ "labels": { "sandbox.users.io/team": "red" } }),
                "lifecycle" => json!({ "shutdownTime": "2040-01-01T00:00:00Z" }),
                _ => sample(&schema),
            };
            let mut changed = bound.clone();
            changed["spec"][&field] = value;
            let verdict = update(kind, &bound, &changed);
            let refused =
                verdict.denial.as_ref().is_some_and(|denial| denial.message.contains(&format!("spec.{field}")));
            assert_eq!(refused, !DONE.contains(&field.as_str()), "{field} of {kind:?}: {:?}", verdict.denial);
            assert_eq!(verdict.allowed(), !refused, "{field}: {:?}", verdict.denial);
        }
    }
    Ok(())
}
