//! The table of `docs/plugins.md` that says which objects an admission plugin is asked about. Each row is carried out.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use paddock_api::kind::{Key, Kind};
use paddock_core::admission::{self, Context, Entry, Phase, Review, Verb};
use paddock_core::binding::{Binding, Bindings};
use paddock_core::decide::{decide, questions};
use paddock_core::object::Object;
use paddock_core::plan::{Action, Plan};
use paddock_core::question::{
    AdmissionAnswer, AdmissionQuestion, Answer, Hook, PluginReply, PluginRequest, Question, Verdict,
};
use paddock_core::settings::Settings;
use paddock_core::world::{Observed, World};
use serde_json::{Value, json};

use crate::framework::{Outcome, Test, test};
use crate::sim::answers::plugin;

const PAGE: &str = include_str!("../docs/plugins.md");
const HEADING: &str = "## Which objects an admission plugin is asked about";
const USER: &str = "ada";
const OPERATOR: &str = "system:serviceaccount:agent-sandbox-system:agent-sandbox-controller";
const MARKER: &str = "policy.paddock.dev/generated-code";
const NOW: &str = "2030-01-01T12:00:00Z";

pub(crate) fn tests() -> Vec<Test> {
    vec![test("asked::every_row_of_the_documented_table_holds", every_row)]
}

/// What the cells of a row say beside the moment: the kinds, the user name, the calls, and the use of a patch.
type Cells = [String; 4];

/// A moment, and the function that carries it out.
type Moment = (&'static str, fn() -> Cells);

/// The moments, each with a function that carries it out and describes what happened.
const MOMENTS: [Moment; 11] = [
    ("somebody creates or changes a Sandbox, SandboxTemplate, SandboxWarmPool or SandboxClaim", users_write),
    (
        "somebody creates or changes a Pod that is marked as generated code, or that is in a namespace that requires isolation",
        users_write_pods,
    ),
    ("somebody adds an ephemeral container to such a Pod, or resizes it", users_change_running_pods),
    (
        "the pod of a Sandbox is about to be made, for the first time or again, no matter who made the Sandbox",
        pod_is_made,
    ),
    ("a claim is about to get a new Sandbox", claim_starts_cold),
    ("a claim is about to take a warm Sandbox", claim_takes),
    ("changed labels or annotations of a bound claim are about to reach its Sandbox", claim_changes_its_sandbox),
    (
        "changed labels or annotations of the pod template of a Sandbox are about to reach its running pod",
        sandbox_changes_its_pod,
    ),
    ("the operator writes an object for another reason", operator_writes),
    ("a deletion, a change of a status, an exec, an object in kube-system", others),
    ("any other Pod", other_pods),
];

fn every_row() -> Outcome {
    let section = PAGE.split_once(HEADING).ok_or("the section is gone")?.1;
    let rows: Vec<Vec<&str>> = section
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let documented: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(documented, MOMENTS.map(|(moment, _)| moment), "a row without a check, or a check without a row");
    for (row, (moment, carry_out)) in rows.iter().zip(MOMENTS) {
        assert_eq!(row[1..], carry_out(), "{moment}");
    }
    Ok(())
}

/// A plugin that is asked about everything, allows it, and adds a label.
fn bindings() -> Bindings {
    Bindings::new(vec![Binding::new(plugin("mine"), Hook::Admission)])
}

fn answer(request: PluginRequest) -> PluginReply {
    let patch = json!([{ "op": "add", "path": "/metadata/labels/seen", "value": "yes" }]).to_string();
    let answer = AdmissionAnswer { verdict: Verdict::Allow, warnings: vec![], patch: Some(patch) };
    PluginReply { request, result: Ok(Answer::Admission(answer)) }
}

/// Answers questions until there is none left.
fn answered(questions: impl Fn(&[PluginReply]) -> Vec<PluginRequest>) -> Vec<PluginReply> {
    let mut replies = Vec::new();
    loop {
        let requests = questions(&replies);
        if requests.is_empty() {
            return replies;
        }
        replies.extend(requests.into_iter().map(answer));
    }
}

fn asked(replies: &[PluginReply]) -> Vec<AdmissionQuestion> {
    let question = |reply: &PluginReply| match &reply.request.question {
        Question::Admission(question) => Some(AdmissionQuestion::clone(question)),
        Question::RuntimeClass(_) | Question::Idle(_) | Question::PoolSize(_) => None,
    };
    replies.iter().filter_map(question).collect()
}

fn none() -> Cells {
    ["none", "", "", ""].map(str::to_owned)
}

/// A review by the webhook: the questions, and whether the verdict changes the object.
fn webhook(review: &Review) -> (Vec<AdmissionQuestion>, bool) {
    let context = Context {
        bindings: Arc::new(bindings()),
        operator_user: Some(OPERATOR.into()),
        classes: Arc::new(vec![paddock_core::question::RuntimeClassFact {
            name: "gvisor".to_owned(),
            handler: "runsc".to_owned(),
            isolated: true,
            nodes: 1,
        }]),
        ..Context::default()
    };
    let replies = answered(|replies| admission::questions(review, &context, replies));
    let verdict = admission::verdict(review, &context, &replies);
    assert!(verdict.allowed(), "{review:?}: {:?}", verdict.denial);
    (asked(&replies), json!(verdict.patch).to_string().contains("seen"))
}

fn review(kind: Kind, phase: Phase, operation: Verb, object: Value) -> Review {
    Review {
        phase,
        entry: if kind == Kind::Pod { Entry::MarkedPods } else { Entry::OwnKinds },
        operation,
        group: kind.group().to_owned(),
        version: kind.version().to_owned(),
        kind: kind.name().to_owned(),
        resource: kind.plural().to_owned(),
        subresource: None,
        namespace: "agents".to_owned(),
        name: "a".to_owned(),
        old_object: if operation == Verb::Update { object.clone() } else { Value::Null },
        object,
        write: admission::Write::default(),
        dry_run: false,
        username: USER.to_owned(),
        groups: vec![],
        now: now(),
    }
}

fn now() -> Timestamp {
    NOW.parse().expect("a time")
}

fn own_kinds() -> Vec<(Kind, Value)> {
    let pod = json!({ "spec": { "containers": [{ "name": "agent", "image": "agent:1" }] } });
    vec![
        (Kind::Sandbox, json!({ "podTemplate": pod })),
        (Kind::Template, json!({ "podTemplate": pod, "networkPolicyManagement": "Unmanaged" })),
        (Kind::SeedTemplate, json!({ "template": pod })),
        (Kind::Pool, json!({ "sandboxTemplateRef": { "name": "t" }, "replicas": 1 })),
        (Kind::SeedPool, json!({ "templateRef": { "name": "t" }, "minReady": 1 })),
        (Kind::Claim, json!({ "warmPoolRef": { "name": "p" } })),
        (Kind::SeedClaim, json!({ "templateRef": { "name": "t" } })),
    ]
}

fn document(kind: Kind, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": kind.api_version(), "kind": kind.name(),
        "metadata": { "name": name, "namespace": "agents", "labels": {}, "annotations": {} }, "spec": spec,
    })
}

fn marked_pod() -> Value {
    let mut pod = document(Kind::Pod, "a", &json!({ "runtimeClassName": "gvisor", "containers": [] }));
    pod["metadata"]["labels"] = json!({ MARKER: "true" });
    pod
}

/// Creates and changes an object, and describes the questions of both calls.
fn written(kind: Kind, object: &Value) -> (String, Cells) {
    let cells = [Verb::Create, Verb::Update].map(|operation| {
        let calls =
            [Phase::Mutate, Phase::Validate].map(|phase| webhook(&review(kind, phase, operation, object.clone())));
        let kinds: Vec<&str> = calls.iter().flat_map(|(asked, _)| asked).map(|q| q.kind.as_str()).collect();
        let users = calls.iter().flat_map(|(asked, _)| asked).all(|q| q.username == USER);
        let name = kind.name();
        let calls_made = if kinds == [name, name] { "two" } else { "other" };
        let patch = if calls.map(|(_, patched)| patched) == [true, false] { "in the first call" } else { "otherwise" };
        let user = if users { "the user's" } else { "another's" };
        [format!("`{name}`"), user.to_owned(), calls_made.to_owned(), patch.to_owned()]
    });
    let [created, updated] = cells;
    assert_eq!(created, updated, "{kind:?}");
    (created[0].clone(), created)
}

fn users_write() -> Cells {
    let mut cells: Vec<Cells> = Vec::new();
    for (kind, spec) in own_kinds() {
        let (name, mut row) = written(kind, &document(kind, "a", &spec));
        assert_eq!(name, format!("`{}`", kind.name()));
        row[0] = "that kind".to_owned();
        cells.push(row);
    }
    cells.dedup();
    assert_eq!(cells.len(), 1, "{cells:?}");
    cells.remove(0)
}

fn users_write_pods() -> Cells {
    written(Kind::Pod, &marked_pod()).1
}

/// The webhook is registered for these subresources in the validating call alone.
fn users_change_running_pods() -> Cells {
    let asked = ["ephemeralcontainers", "resize"].map(|subresource| {
        let update = review(Kind::Pod, Phase::Validate, Verb::Update, marked_pod());
        let (asked, patched) = webhook(&Review { subresource: Some(subresource.to_owned()), ..update });
        assert!(!patched, "{subresource}");
        asked.into_iter().map(|question| (question.kind, question.username)).collect::<Vec<_>>()
    });
    assert_eq!(asked, [(); 2].map(|()| vec![("Pod".to_owned(), USER.to_owned())]));
    ["`Pod`", "the user's", "one", "no"].map(str::to_owned)
}

/// The World, filled by the plans of the operator itself.
struct Cluster {
    world: World,
    version: u64,
}

impl Cluster {
    fn new() -> Self {
        let mut world = World::new(Settings::default());
        let _ = world.set_bindings(bindings());
        let mut cluster = Self { world, version: 0 };
        cluster.store(Kind::Namespace, json!({ "metadata": { "name": "agents" } }));
        let node = json!({ "conditions": [{ "type": "Ready", "status": "True" }] });
        cluster.store(Kind::Node, json!({ "metadata": { "name": "n1" }, "status": node }));
        let spec = |kind: Kind| own_kinds().into_iter().find(|(k, _)| *k == kind).expect("a spec").1;
        cluster.store(Kind::Template, document(Kind::Template, "t", &spec(Kind::Template)));
        cluster.store(Kind::Pool, document(Kind::Pool, "p", &spec(Kind::Pool)));
        cluster.store(Kind::Claim, document(Kind::Claim, "c", &spec(Kind::Claim)));
        cluster.store(Kind::Sandbox, document(Kind::Sandbox, "by-hand", &spec(Kind::Sandbox)));
        cluster
    }

    fn store(&mut self, kind: Kind, mut object: Value) -> Key {
        self.version += 1;
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let metadata = object["metadata"].as_object_mut().expect("metadata");
        metadata.insert("uid".to_owned(), format!("uid-of-{name}").into());
        metadata.insert("resourceVersion".to_owned(), self.version.to_string().into());
        metadata.insert("generation".to_owned(), 1.into());
        metadata.insert("creationTimestamp".to_owned(), "2030-01-01T11:00:00Z".into());
        let object = Object::from_json(kind, object).expect("an object");
        let key = object.key.clone();
        let _ = self.world.observe(Observed::Applied(object), now());
        key
    }

    /// Reconciles an object: its questions, and its plan.
    fn reconcile(&self, key: &Key) -> (Vec<AdmissionQuestion>, Plan) {
        let snapshot = self.world.snapshot(key, now());
        let replies = answered(|replies| questions(&snapshot, replies));
        assert!(replies.len() <= snapshot.most_questions(), "{key}");
        (asked(&replies), decide(&snapshot, &replies))
    }

    /// Stores the first object of a kind that a plan creates.
    fn store_created(&mut self, plan: &Plan, kind: Kind, status: Value) -> Key {
        let mut body = created(plan, kind).unwrap_or_else(|| panic!("{plan:?} creates no {kind:?}"));
        body["status"] = status;
        self.store(kind, body)
    }

    /// Fills the pool with a Ready Sandbox and its pod.
    fn with_warm_sandbox(mut self) -> Self {
        let ready = json!([{
            "type": "Ready", "status": "True", "reason": "DependenciesReady", "message": "", "lastTransitionTime": NOW,
        }]);
        let (_, plan) = self.reconcile(&Key::new(Kind::Pool, "agents", "p"));
        let sandbox = self.store_created(&plan, Kind::Sandbox, json!({ "mode": "Running", "conditions": ready }));
        let (_, plan) = self.reconcile(&sandbox);
        let mut pod = created(&plan, Kind::Pod).expect("a pod");
        pod["spec"]["nodeName"] = "n1".into();
        pod["status"] = json!({ "phase": "Running", "conditions": ready, "podIPs": [{ "ip": "10.0.0.7" }] });
        self.store(Kind::Pod, pod);
        self
    }
}

fn created(plan: &Plan, kind: Kind) -> Option<Value> {
    plan.steps.iter().flatten().find_map(|op| match &op.action {
        Action::Create { body, .. } if op.key.kind == kind => Some(Value::clone(body)),
        Action::Create { .. }
        | Action::Patch { .. }
        | Action::Resize { .. }
        | Action::Adopt { .. }
        | Action::Deliver { .. }
        | Action::Delete { .. } => None,
    })
}

/// The cells of a reconcile, from its questions and the kinds to which the patch was applied.
fn cells(asked: &[AdmissionQuestion], patched: &[&str]) -> Cells {
    assert!(asked.iter().all(|q| q.operation == paddock_core::question::Operation::Create && q.old_object.is_none()));
    summary(asked, patched)
}

fn summary(asked: &[AdmissionQuestion], patched: &[&str]) -> Cells {
    let mut calls: BTreeMap<&str, usize> = BTreeMap::new();
    asked.iter().for_each(|question| *calls.entry(&question.kind).or_default() += 1);
    assert!(calls.values().all(|calls| *calls == 1), "{calls:?}");
    let kinds: Vec<String> = asked.iter().map(|question| format!("`{}`", question.kind)).collect();
    let user = if asked.iter().all(|question| question.username.is_empty()) { "empty" } else { "somebody's" };
    let calls = if kinds.len() == 1 { "one" } else { "one for each kind" };
    let patch = if patched.is_empty() { "no".to_owned() } else { format!("to the `{}`", patched.join("`, `")) };
    [kinds.join(", "), user.to_owned(), calls.to_owned(), patch]
}

fn pod_is_made() -> Cells {
    let mut rows = Vec::new();
    let mut cluster = Cluster::new();
    let by_hand = Key::new(Kind::Sandbox, "agents", "by-hand");
    let (_, plan) = cluster.reconcile(&Key::new(Kind::Pool, "agents", "p"));
    let of_pool = cluster.store_created(&plan, Kind::Sandbox, json!({}));
    let (_, plan) = cluster.reconcile(&Key::new(Kind::Claim, "agents", "c"));
    let of_claim = cluster.store_created(&plan, Kind::Sandbox, json!({}));
    // Running, but without a pod: the pod is made again.
    let mut again = created(&plan, Kind::Sandbox).expect("a Sandbox");
    again["metadata"]["name"] = "again".into();
    again["status"] = json!({ "mode": "Running", "replicas": 1 });
    let again = cluster.store(Kind::Sandbox, again);
    for key in [by_hand, of_pool, of_claim, again] {
        let (asked, plan) = cluster.reconcile(&key);
        let pod = created(&plan, Kind::Pod).unwrap_or_else(|| panic!("{key} gets no pod"));
        let patched: &[&str] = if pod["metadata"]["labels"]["seen"] == "yes" { &["Pod"] } else { &[] };
        rows.push(cells(&asked, patched));
    }
    rows.dedup();
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows.remove(0)
}

fn claim_starts_cold() -> Cells {
    let (asked, plan) = Cluster::new().reconcile(&Key::new(Kind::Claim, "agents", "c"));
    let sandbox = created(&plan, Kind::Sandbox).expect("a Sandbox");
    assert_eq!(sandbox["metadata"]["labels"]["seen"], Value::Null);
    cells(&asked, &[])
}

fn claim_takes() -> Cells {
    let (asked, plan) = Cluster::new().with_warm_sandbox().reconcile(&Key::new(Kind::Claim, "agents", "c"));
    assert_eq!(created(&plan, Kind::Sandbox), None, "it takes the warm one");
    let taken: Value = serde_json::from_str(&asked.last().expect("a question").object).expect("JSON");
    assert_eq!(taken["metadata"]["ownerReferences"][0]["kind"], "SandboxClaim", "as the claim takes it");
    assert!(!format!("{plan:?}").contains("seen"), "a patch has no effect");
    cells(&asked, &[])
}

fn claim_changes_its_sandbox() -> Cells {
    let mut cluster = Cluster::new();
    let claim = Key::new(Kind::Claim, "agents", "c");
    let (_, plan) = cluster.reconcile(&claim);
    cluster.store_created(&plan, Kind::Sandbox, json!({ "mode": "Running", "replicas": 1 }));
    let mut changed = document(
        Kind::Claim,
        "c",
        &json!({
            "warmPoolRef": { "name": "p" }, "additionalPodMetadata": { "labels": { "sandbox.users.io/team": "a" } },
        }),
    );
    changed["status"] = json!({ "sandbox": { "name": "c" } });
    cluster.store(Kind::Claim, changed);
    let (asked, _) = cluster.reconcile(&claim);
    changes(&asked)
}

fn sandbox_changes_its_pod() -> Cells {
    let mut cluster = Cluster::new();
    let sandbox = Key::new(Kind::Sandbox, "agents", "by-hand");
    let (_, plan) = cluster.reconcile(&sandbox);
    let ready = json!([{ "type": "Ready", "status": "True", "lastTransitionTime": NOW }]);
    cluster.store_created(&plan, Kind::Pod, json!({ "phase": "Running", "conditions": ready }));
    let mut changed = document(Kind::Sandbox, "by-hand", &own_kinds().swap_remove(0).1);
    changed["spec"]["podTemplate"]["metadata"] = json!({ "labels": { "team": "a" } });
    cluster.store(Kind::Sandbox, changed);
    let (asked, _) = cluster.reconcile(&sandbox);
    changes(&asked)
}

/// The cells of a moment at which an object changes that exists. The plugin sees it last, with the former object.
fn changes(asked: &[AdmissionQuestion]) -> Cells {
    let last = asked.last().expect("a question");
    assert!(last.operation == paddock_core::question::Operation::Update && last.old_object.is_some(), "{asked:?}");
    summary(asked, &[])
}

fn operator_writes() -> Cells {
    let own = own_kinds().into_iter().map(|(kind, spec)| (kind, document(kind, "a", &spec)));
    for (kind, object) in own.chain([(Kind::Pod, marked_pod())]) {
        for phase in [Phase::Mutate, Phase::Validate] {
            let write = review(kind, phase, Verb::Create, object.clone());
            let (asked, _) = webhook(&Review { username: OPERATOR.to_owned(), ..write });
            assert!(asked.is_empty(), "{kind:?}");
        }
    }
    none()
}

fn others() -> Cells {
    let sandbox = document(Kind::Sandbox, "a", &own_kinds()[0].1);
    for (kind, object) in [(Kind::Sandbox, sandbox), (Kind::Pod, marked_pod())] {
        let write = |operation| review(kind, Phase::Validate, operation, object.clone());
        let silent = [
            write(Verb::Delete),
            Review { namespace: "kube-system".to_owned(), ..write(Verb::Create) },
            Review { subresource: Some("exec".to_owned()), ..write(Verb::Connect) },
        ];
        let status = Review {
            subresource: Some("status".to_owned()),
            ..review(Kind::Sandbox, Phase::Validate, Verb::Update, object.clone())
        };
        for review in silent.into_iter().chain((kind == Kind::Sandbox).then_some(status)) {
            assert!(webhook(&review).0.is_empty(), "{review:?}");
        }
    }
    none()
}

/// The webhook is not called for Pods without the marker in namespaces that do not require isolation.
fn other_pods() -> Cells {
    let manifests = include_str!("../deploy/base/webhook.yaml");
    let mut entries = 0;
    for document in serde_yaml_ng::Deserializer::from_str(manifests) {
        let document: Value = serde::Deserialize::deserialize(document).expect("YAML");
        for webhook in document["webhooks"].as_array().into_iter().flatten() {
            let rules = webhook["rules"].as_array().expect("rules");
            let of_pods = |rule: &&Value| rule["resources"].as_array().is_some_and(|r| r.contains(&json!("pods")));
            if !rules.iter().any(|rule| of_pods(&rule)) {
                continue;
            }
            entries += 1;
            let requires = |selector: &str, key: &str| {
                let expressions = webhook[selector]["matchExpressions"].as_array().into_iter().flatten();
                expressions.clone().any(|e| e["key"] == key && e["operator"] == "Exists")
            };
            let selected =
                requires("objectSelector", MARKER) || requires("namespaceSelector", "policy.paddock.dev/isolation");
            assert!(selected, "{webhook}");
        }
    }
    assert!(entries >= 4, "two entries in each of two configurations");
    none()
}
