//! Keeps upstream's metrics up to date from watched objects, one change at a time.
//!
//! Objects of a list are counted but not timed, because their changes happened before this process watched them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use paddock_api::kind::{Class, Key, Kind, OwnKind};
use paddock_api::names::{annotation, condition, label, reason};
use paddock_core::conditions::is_true;
use paddock_core::model::names::is_dns_subdomain;
use paddock_core::object::{Object, Owner, TextMap};
use paddock_core::plan::{ClaimStart, StartKind};

use super::families::Families;
use super::label_names::{LabelNames, OTHER};

/// Upstream's label value in the metrics of claims if a Sandbox names no template.
const NO_TEMPLATE_OF_CLAIM: &str = "__unknown__";
/// Upstream's label value in `agent_sandboxes` if a Sandbox names no template.
const NO_TEMPLATE: &str = "unknown";
/// The values of `created-by` that upstream's clients write. Other values become `unknown`, so that the label stays
/// bounded.
const CREATORS: [&str; 4] = ["go-client", "python-client", "controller", "typescript-client"];

/// Upstream's label value if a claim names no pool.
const NO_POOL: &str = "none";
/// The label value for the launch type of a claim whose Sandbox is not known.
const UNKNOWN_LAUNCH: &str = "unknown";

/// The number of templates with their own series. Users can write any template name on a Sandbox, so it is limited.
const TEMPLATES: usize = 500;
/// The number of pools with their own series.
const POOLS: usize = 1000;

pub(super) struct Tally {
    families: Families,
    /// Whether this replica leads. Only the leader times and counts changes, so that replicas do not count them twice.
    pub(super) leading: bool,
    sandboxes: HashMap<Key, Counted>,
    /// The label values of `agent_sandboxes`, which all Sandboxes with the same values share.
    series: HashSet<Arc<Series>>,
    claims: HashMap<Key, CountedClaim>,
    /// The pools that have gauges of their own.
    pools: HashSet<Key>,
    /// The Sandboxes of each namespace whose pod is not isolated although it should be.
    not_isolated: HashMap<Arc<str>, HashSet<Key>>,
    /// The templates that have series of their own.
    templates: LabelNames,
    /// The pools that have series of their own.
    pool_names: LabelNames,
    /// The series that counted something in a namespace. They are removed with the namespace.
    creation: HashMap<Arc<str>, HashSet<[String; 2]>>,
    claim_creations: HashMap<Arc<str>, HashSet<[String; 5]>>,
}

/// The label values of a Sandbox in `agent_sandboxes`.
type Series = [Box<str>; 8];

/// Kept of every Sandbox, so it is small.
struct Counted {
    labels: Arc<Series>,
    ready: bool,
    /// Whether the Sandbox has been Ready. Only the first time counts as a start.
    started: bool,
    template: Option<Arc<str>>,
    warm: bool,
    controller: Option<Controller>,
}

/// The controller of a Sandbox.
enum Controller {
    Claim(Key),
    /// The name of another controller, usually of a pool.
    Other(Arc<str>),
}

impl Controller {
    fn of(sandbox: &Object) -> Option<Self> {
        let owner = sandbox.meta.controller.as_ref()?;
        let claim = owner.key(&sandbox.key).filter(|key| matches!(key.kind.own(), Some(OwnKind::Claim(_))));
        Some(claim.map_or_else(|| Controller::Other(owner.name.clone()), Controller::Claim))
    }

    fn claim(&self) -> Option<&Key> {
        match self {
            Controller::Claim(key) => Some(key),
            Controller::Other(_) => None,
        }
    }
}

struct CountedClaim {
    started: bool,
    created_by: &'static str,
    source_pool: Option<String>,
}

impl Tally {
    pub(super) fn new(families: Families) -> Self {
        Self {
            families,
            leading: false,
            sandboxes: HashMap::new(),
            series: HashSet::new(),
            claims: HashMap::new(),
            pools: HashSet::new(),
            not_isolated: HashMap::new(),
            templates: LabelNames::new(TEMPLATES),
            pool_names: LabelNames::new(POOLS),
            creation: HashMap::new(),
            claim_creations: HashMap::new(),
        }
    }

    pub(super) fn applied(&mut self, object: &Object, now: Timestamp) {
        self.count(object, self.leading.then_some(now));
    }

    pub(super) fn deleted(&mut self, key: &Key) {
        if let Some(counted) = self.sandboxes.remove(key) {
            self.uncount(&counted.labels);
        }
        self.note_isolation(key, true);
        self.claims.remove(key);
        if key.kind == Kind::Namespace {
            for [launch, template] in self.creation.remove(&key.name).into_iter().flatten() {
                let _ = self.families.creation.remove_label_values(&[&*key.name, &launch, &template]);
            }
            for [a, b, c, d, e] in self.claim_creations.remove(&key.name).into_iter().flatten() {
                let _ = self.families.claim_creations.remove_label_values(&[&*key.name, &a, &b, &c, &d, &e]);
            }
            self.pool_names.forget(&key.name);
            for template in self.templates.forget(&key.name) {
                self.remove_template(&template);
            }
        }
        if self.pools.remove(key) {
            let of_pool = [&*key.namespace, &*key.name];
            let _ = self.families.pool_arrivals.remove_label_values(&of_pool);
            for start in StartKind::ALL {
                let _ = self.families.pool_claims.remove_label_values(&[of_pool[0], of_pool[1], start.as_str()]);
            }
            for state in ["desired", "total", "ready"] {
                // The gauges are absent if the pool never had a status.
                let _ = self.families.pool_sandboxes.remove_label_values(&[of_pool[0], of_pool[1], state]);
            }
        }
    }

    /// Applies a complete list. Objects that are not in it do not exist any more.
    pub(super) fn listed(&mut self, kind: Kind, objects: &[Object]) {
        let there: HashSet<&Key> = objects.iter().map(|object| &object.key).collect();
        let gone: Vec<Key> = self
            .sandboxes
            .keys()
            .chain(self.claims.keys())
            .chain(&self.pools)
            .filter(|key| key.kind == kind && !there.contains(key))
            .cloned()
            .collect();
        for key in gone {
            self.deleted(&key);
        }
        for object in objects {
            self.count(object, None);
        }
    }

    /// Counts an object. Transitions are timed only if `now` is given.
    fn count(&mut self, object: &Object, now: Option<Timestamp>) {
        match object.key.kind.class() {
            Class::Own(OwnKind::Sandbox) => self.sandbox(object, now),
            Class::Own(OwnKind::Claim(_)) => self.claim(object, now),
            Class::Own(OwnKind::Pool(_)) => self.pool(object),
            Class::Own(OwnKind::Template(_)) | Class::Child(_) | Class::Cluster(_) => {}
        }
    }

    fn sandbox(&mut self, object: &Object, happened: Option<Timestamp>) {
        let Some(body) = object.sandbox() else { return };
        let conditions = &body.status.conditions;
        let ready = is_true(conditions, condition::READY);
        let template = object
            .meta
            .annotations
            .get(annotation::TEMPLATE_REF)
            .map(|name| self.templates.label(&object.key.namespace, name));
        let warm = object.meta.labels.get(label::LAUNCH_TYPE).is_some_and(|v| v == label::LAUNCH_WARM);
        let before = self.sandboxes.remove(&object.key);
        let counted = Counted {
            labels: self.series([
                &object.key.namespace,
                truth(ready),
                truth(expired(conditions)),
                launch_type(warm),
                template.as_deref().unwrap_or(NO_TEMPLATE),
                owned_by(object.meta.controller.as_deref()),
                created_by(&object.meta.labels, if object.meta.in_pool() { "controller" } else { "unknown" }),
                if object.runs() { "Running" } else { "Suspended" },
            ]),
            ready,
            started: ready || before.as_ref().is_some_and(|b| b.started),
            template,
            warm,
            controller: Controller::of(object),
        };
        if before.as_ref().is_none_or(|before| before.labels != counted.labels) {
            self.families.sandboxes.with_label_values(&values(&counted.labels)).inc();
            if let Some(before) = &before {
                self.uncount(&before.labels);
            }
        }
        if let Some(now) = happened {
            if counted.started && !before.as_ref().is_some_and(|b| b.started) {
                let template = counted.template.as_deref().unwrap_or(NO_TEMPLATE_OF_CLAIM);
                let labels = [launch_type(warm), template];
                self.families
                    .creation
                    .with_label_values(&[&*object.key.namespace, labels[0], labels[1]])
                    .observe(millis(object.meta.created, now));
                let there = self.creation.entry(object.key.namespace.clone()).or_default();
                there.insert(labels.map(str::to_owned));
            }
            self.count_for_claim(&object.key, &counted, before.as_ref());
        }
        self.sandboxes.insert(object.key.clone(), counted);
        let isolated = body.status.isolation.as_ref().is_none_or(|isolation| isolation.problem.is_none());
        self.note_isolation(&object.key, isolated);
    }

    /// Counts a Sandbox whose pod is not isolated although it should be. A namespace without one has no series.
    fn note_isolation(&mut self, key: &Key, isolated: bool) {
        if isolated {
            let Some(there) = self.not_isolated.get_mut(&key.namespace) else { return };
            there.remove(key);
        } else {
            self.not_isolated.entry(key.namespace.clone()).or_default().insert(key.clone());
        }
        let count = self.not_isolated.get(&key.namespace).map_or(0, HashSet::len);
        if count == 0 {
            self.not_isolated.remove(&key.namespace);
            let _ = self.families.not_isolated.remove_label_values(&[&*key.namespace]);
        } else {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.families.not_isolated.with_label_values(&[&*key.namespace]).set(count);
        }
    }

    /// Counts a Sandbox that has just got a claim as its controller.
    fn count_for_claim(&mut self, key: &Key, counted: &Counted, before: Option<&Counted>) {
        let Some(claim) = counted.controller.as_ref().and_then(Controller::claim) else { return };
        let claim = self.claims.get(claim);
        let pool = match before.and_then(|before| before.controller.as_ref()) {
            Some(Controller::Claim(_)) => return,
            Some(Controller::Other(pool)) => pool,
            None => claim.and_then(|claim| claim.source_pool.as_deref()).unwrap_or(NO_POOL),
        };
        let pool = if pool == NO_POOL { pool.into() } else { self.pool_names.label(&key.namespace, pool) };
        let ready = counted.ready || before.is_some_and(|before| before.ready);
        let labels = [
            counted.template.as_deref().unwrap_or(NO_TEMPLATE_OF_CLAIM),
            launch_type(before.is_some() && counted.warm),
            &*pool,
            if ready { "ready" } else { "not_ready" },
            claim.map_or("unknown", |claim| claim.created_by),
        ];
        let [a, b, c, d, e] = labels;
        self.families.claim_creations.with_label_values(&[&*key.namespace, a, b, c, d, e]).inc();
        self.claim_creations.entry(key.namespace.clone()).or_default().insert(labels.map(str::to_owned));
    }

    fn claim(&mut self, object: &Object, happened: Option<Timestamp>) {
        let Some(body) = object.claim() else { return };
        let ready = is_true(&body.status.conditions, condition::READY);
        let started = self.claims.get(&object.key).is_some_and(|claim| claim.started);
        let source_pool = body.spec.as_ref().ok().and_then(|claim| claim.source.named_pool());
        // An API server accepts any text as the name of the pool.
        let source_pool = source_pool.map(|name| if is_dns_subdomain(name) { name } else { OTHER }.to_owned());
        let created_by = created_by(&object.meta.labels, "unknown");
        let counted = CountedClaim { started: started || ready, created_by, source_pool };
        self.claims.insert(object.key.clone(), counted);
        let Some(now) = happened.filter(|_| ready && !started) else { return };
        let name = body.status.sandbox.as_ref().and_then(|sandbox| sandbox.name.as_deref()).unwrap_or_default();
        let sandbox = self.sandboxes.get(&object.key.sibling(Kind::Sandbox, name));
        let labels = [
            sandbox.map_or(UNKNOWN_LAUNCH, |s| launch_type(s.warm)),
            sandbox.and_then(|s| s.template.as_deref()).unwrap_or(NO_TEMPLATE_OF_CLAIM),
        ];
        let stamp = |name| object.meta.annotations.get(name).and_then(|at| at.parse::<Timestamp>().ok());
        let observed = stamp(annotation::FIRST_OBSERVED_AT);
        // `creationTimestamp` has whole seconds. An annotation from the same second is more precise. A later annotation
        // comes from a slow controller, and that delay is part of the claim's wait.
        let created = object.meta.created;
        let begun = observed.filter(|at| at.as_second() == created.as_second()).unwrap_or(created);
        let families = &self.families;
        families.claim_startup.with_label_values(&labels).observe(millis(begun, now));
        if let Some(at) = observed {
            families.claim_controller_startup.with_label_values(&labels).observe(millis(at, now));
        }
        if let Some(at) = stamp(annotation::FIRST_REQUESTED_AT) {
            families.claim_client_startup.with_label_values(&labels).observe(millis(at, now));
        }
    }

    fn pool(&mut self, object: &Object) {
        let Some(body) = object.pool() else { return };
        // A gauge of several pools together would say nothing.
        if &*self.pool_names.label(&object.key.namespace, &object.key.name) == OTHER {
            return;
        }
        if self.pools.insert(object.key.clone()) {
            self.begin(&object.key);
        }
        let status = &body.status;
        let states = [
            ("desired", status.desired_replicas.unwrap_or(0)),
            ("total", status.replicas.unwrap_or_default()),
            ("ready", status.ready_replicas.unwrap_or_default()),
        ];
        for (state, count) in states {
            let labels = [&*object.key.namespace, &*object.key.name, state];
            self.families.pool_sandboxes.with_label_values(&labels).set(i64::from(count));
        }
    }

    /// Counts a claim that arrived. A pool without gauges has no counters either.
    pub(super) fn arrived(&self, pools: &[Key]) {
        for pool in pools.iter().filter(|pool| self.leading && self.pools.contains(*pool)) {
            self.families.pool_arrivals.with_label_values(&[&*pool.namespace, &*pool.name]).inc();
        }
    }

    /// Counts a claim that got its Sandbox, which the leader alone gives it.
    pub(super) fn started(&self, start: &ClaimStart) {
        for pool in start.pools.iter().filter(|pool| self.pools.contains(*pool)) {
            let labels = [&*pool.namespace, &*pool.name, start.kind.as_str()];
            self.families.pool_claims.with_label_values(&labels).inc();
        }
    }

    /// Creates the counters of a pool at 0, so that a rate shows the first count.
    fn begin(&self, pool: &Key) {
        let (namespace, pool) = (&*pool.namespace, &*pool.name);
        self.families.pool_arrivals.with_label_values(&[namespace, pool]);
        for start in StartKind::ALL {
            self.families.pool_claims.with_label_values(&[namespace, pool, start.as_str()]);
        }
    }

    /// Removes the series of a template that no namespace uses any more.
    fn remove_template(&self, template: &str) {
        let Families { claim_startup, claim_controller_startup, claim_client_startup, .. } = &self.families;
        for family in [claim_startup, claim_controller_startup, claim_client_startup] {
            for launch in [launch_type(true), launch_type(false), UNKNOWN_LAUNCH] {
                // The series is absent if no claim was timed.
                let _ = family.remove_label_values(&[launch, template]);
            }
        }
    }

    /// Removes one Sandbox from a series. An empty series is removed, because otherwise the series of deleted
    /// namespaces would accumulate.
    fn uncount(&mut self, labels: &Series) {
        let gauge = self.families.sandboxes.with_label_values(&values(labels));
        gauge.dec();
        if gauge.get() == 0 {
            let _ = self.families.sandboxes.remove_label_values(&values(labels));
            self.series.remove(labels);
        }
    }

    /// The label values of a Sandbox, in the memory that all Sandboxes with these values share.
    fn series(&mut self, labels: [&str; 8]) -> Arc<Series> {
        let labels: Series = labels.map(Into::into);
        if let Some(known) = self.series.get(&labels) {
            return known.clone();
        }
        let labels = Arc::new(labels);
        self.series.insert(labels.clone());
        labels
    }
}

fn expired(conditions: &[Condition]) -> bool {
    conditions.iter().any(|c| c.type_ == condition::READY && c.reason == reason::SANDBOX_EXPIRED)
}

fn launch_type(warm: bool) -> &'static str {
    if warm { label::LAUNCH_WARM } else { label::LAUNCH_COLD }
}

fn owned_by(owner: Option<&Owner>) -> &'static str {
    match owner.map(|owner| &*owner.kind) {
        Some("SandboxClaim") => "SandboxClaim",
        Some("SandboxWarmPool") => "SandboxWarmPool",
        Some(_) | None => "None",
    }
}

/// Who created an object, by its label. `otherwise` is for an object without the label, or with a value that upstream does
/// not know.
fn created_by(labels: &TextMap, otherwise: &'static str) -> &'static str {
    let value = labels.get(label::CREATED_BY);
    CREATORS.into_iter().find(|creator| Some(*creator) == value).unwrap_or(otherwise)
}

fn values(labels: &Series) -> [&str; 8] {
    labels.each_ref().map(|value| &**value)
}

fn truth(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

fn millis(from: Timestamp, to: Timestamp) -> f64 {
    (to.duration_since(from).as_secs_f64() * 1000.0).max(0.0)
}

#[cfg(test)]
mod tests;
