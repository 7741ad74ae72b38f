//! The ValidatingAdmissionPolicies that keep generated code isolated while no replica of the webhook answers.
//!
//! Each policy applies the rules of `paddock_core` that need no look at another object: the marker, which objects keep it,
//! the names of RuntimeClasses, and the fields that give access to the host. A pod is judged when it is created. An update
//! is judged if it can bring other code, or changes the pod template or the marker: an object that is older than the
//! policies can still be labelled, scaled and deleted.
//!
//! An expression cannot read a RuntimeClass, so the policies contain the names of those that isolate. The last policy
//! admits no RuntimeClass of such a name with another handler. Another name counts as one that does not isolate.

use paddock_api::kind::Kind;
use paddock_api::names::{group, label, object};
use paddock_core::admission::ENDS_OR_MOVES;
use paddock_core::isolation::{HostAccess, HostAccessSet, POD_KINDS, cel};
use paddock_core::marker::MARKER_PLACES;
use paddock_core::model::is_dns_subdomain;
use paddock_kube::user::service_account_user;
use serde_json::{Value, json};

use super::admission_policies::{bound, is_user, rule};
use crate::webhook::changes_more_than_the_status;

/// The begin of the names of the policies and of their bindings.
const NAME: &str = "paddock-isolation";

/// The values that the policies depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsolationPolicies {
    /// The operator's namespace, which never requires isolation.
    pub namespace: String,
    /// The names of the RuntimeClasses that isolate.
    pub runtime_classes: Vec<String>,
    /// The handlers that isolate, as in the settings of the core.
    pub isolated_handlers: Vec<String>,
    /// The access to the host that generated code may have.
    pub allowed: HostAccessSet,
}

/// The RuntimeClasses of the documentation of gVisor and of Kata Containers.
pub const RUNTIME_CLASSES: [&str; 2] = ["gvisor", "kata"];

impl Default for IsolationPolicies {
    fn default() -> Self {
        let settings = paddock_core::settings::Settings::default();
        Self {
            namespace: object::OPERATOR_NAMESPACE.to_owned(),
            runtime_classes: RUNTIME_CLASSES.map(str::to_owned).to_vec(),
            isolated_handlers: settings.isolated_handlers,
            allowed: settings.isolation_allow,
        }
    }
}

/// The policies, each followed by its binding.
#[must_use]
pub fn isolation_policies(settings: &IsolationPolicies) -> Vec<Value> {
    isolation_guards(settings, "").into_iter().flatten().collect()
}

/// Each policy with its binding, and with this expression in the place of the names of the RuntimeClasses. If it is empty,
/// the names of the settings stay.
pub(crate) fn isolation_guards(settings: &IsolationPolicies, classes: &str) -> Vec<[Value; 2]> {
    let mut guards = vec![
        pods(settings),
        workloads(settings, "workloads", "spec.template"),
        workloads(settings, "cronjobs", "spec.jobTemplate.spec.template"),
        sandboxes(settings),
        runtime_classes(settings),
    ];
    for [policy, _] in guards.iter_mut().filter(|_| !classes.is_empty()) {
        policy["spec"]["variables"][0]["expression"] = classes.into();
    }
    guards
}

/// The expression with the names of the RuntimeClasses in the spec of a stored policy. `None` if it is no list of such
/// names: another expression could contain every name, or the empty one of a Pod without a RuntimeClass.
pub(crate) fn chosen_classes(spec: &Value) -> Option<String> {
    let variable = &spec["variables"][0];
    let expression = variable["expression"].as_str().filter(|_| variable["name"] == ISOLATING)?;
    let names: Vec<String> = serde_json::from_str(expression).ok()?;
    names.iter().all(|name| is_dns_subdomain(name)).then(|| expression.to_owned())
}

/// A policy about objects that describe pods.
struct Policy<'a> {
    settings: &'a IsolationPolicies,
    /// The end of its name.
    name: &'static str,
    rules: Vec<Value>,
    conditions: Vec<(&'static str, String)>,
    /// The paths of the labels that can carry the marker.
    markers: Vec<String>,
    /// The paths of the PodSpecs.
    specs: Vec<String>,
    /// The paths of the pods' annotations.
    annotations: Vec<String>,
    /// Whether an update changes what is judged, as an expression.
    changed: String,
    /// Whether an update marks the object, as an expression.
    newly_marked: &'static str,
    /// Whether the RuntimeClass of a PodSpec `s` is accepted, as an expression.
    class: String,
    /// The requests that may not take the marker away, as an expression. `None` if all of them may.
    keeps_marker: Option<(&'static str, String)>,
}

/// Pods, and the subresources that change them.
fn pods(settings: &IsolationPolicies) -> [Value; 2] {
    let operator = is_user(&service_account_user(&settings.namespace, object::OPERATOR_DEPLOYMENT));
    let (new, old) = ("variables.subject.spec", "variables.former.spec");
    Policy {
        settings,
        name: "pods",
        rules: vec![
            rule(&[""], &[Kind::Pod.plural()], &["CREATE", "UPDATE"]),
            rule(&[""], &["pods/ephemeralcontainers", "pods/resize", "pods/status"], &["UPDATE"]),
        ],
        conditions: vec![
            // No write of a kubelet is judged.
            ("not-the-status-alone", changes_more_than_the_status()),
            // The operator restores the CPU of a throttled pod, which may not be isolated. Another policy lets it change
            // nothing else.
            ("not-a-resize-of-the-operator", format!("request.?subResource.orValue('') != 'resize' || !({operator})")),
        ],
        markers: vec!["metadata.labels".to_owned()],
        specs: vec!["spec".to_owned()],
        annotations: vec!["metadata.annotations".to_owned()],
        changed: format!(
            "{new}.exists(k, !(k in {ENDS_OR_MOVES:?}) && {new}[?k] != {old}[?k]) || \
             {old}.exists(k, !(k in {ENDS_OR_MOVES:?}) && !(k in {new}))"
        ),
        // A Pod whose marker was not clear is judged when it becomes clear.
        newly_marked: "(variables.markers[0] == \"true\" && variables.formerMarkers[0] != \"true\")",
        class: format!("{} in variables.isolating", class_of("s")),
        keeps_marker: Some(("Pod", "true".to_owned())),
    }
    .documents()
}

/// The built-in kinds with a pod template at this path. A pod of theirs may get its RuntimeClass from the webhook.
fn workloads(settings: &IsolationPolicies, name: &'static str, template: &str) -> [Value; 2] {
    let kinds = POD_KINDS.iter().filter(|kind| kind.template == template);
    Policy {
        settings,
        name,
        rules: kinds.map(|kind| rule(&[kind.group], &[kind.plural], &["CREATE", "UPDATE"])).collect(),
        conditions: vec![],
        markers: vec!["metadata.labels".to_owned(), format!("{template}.metadata.labels")],
        specs: vec![format!("{template}.spec")],
        annotations: vec![format!("{template}.metadata.annotations")],
        changed: differ(&[template]),
        newly_marked: NEWLY_MARKED,
        class: or_none(&class_of("s")),
        keeps_marker: None,
    }
    .documents()
}

/// The kinds that Paddock serves, in both API shapes. The operator's own requests are left out, as they are by the webhook:
/// it makes the pod of a Sandbox only if that is isolated.
fn sandboxes(settings: &IsolationPolicies) -> [Value; 2] {
    const TEMPLATES: [&str; 2] = ["spec.podTemplate", "spec.template"];
    let operator = is_user(&service_account_user(&settings.namespace, object::OPERATOR_DEPLOYMENT));
    let mut plurals: Vec<&str> = Kind::OWN.into_iter().map(Kind::plural).collect();
    plurals.sort_unstable();
    plurals.dedup();
    let beside = format!("{}.orValue(\"\")", optional("variables.subject", "spec.runtimeClassName"));
    Policy {
        settings,
        name: "sandboxes",
        rules: vec![rule(&[group::AGENTS, group::EXTENSIONS], &plurals, &["CREATE", "UPDATE"])],
        conditions: vec![("not-the-operator", format!("!({operator})"))],
        markers: MARKER_PLACES.map(|place| place.trim_start_matches('/').replace('/', ".")).to_vec(),
        specs: TEMPLATES.map(|template| format!("{template}.spec")).to_vec(),
        annotations: TEMPLATES.map(|template| format!("{template}.metadata.annotations")).to_vec(),
        changed: differ(&[TEMPLATES[0], TEMPLATES[1], "spec.runtimeClassName"]),
        newly_marked: NEWLY_MARKED,
        class: or_none(&format!("({beside} != \"\" ? {beside} : {})", class_of("s"))),
        keeps_marker: Some(("Sandbox", format!("request.resource.resource == {:?}", Kind::Sandbox.plural()))),
    }
    .documents()
}

/// The RuntimeClasses. Their handler cannot change later.
fn runtime_classes(settings: &IsolationPolicies) -> [Value; 2] {
    let IsolationPolicies { isolated_handlers, .. } = settings;
    let isolates = format!(
        "!(object.metadata.name in variables.isolating) || \
         {isolated_handlers:?}.exists(h, object.handler == h || object.handler.startsWith(h + \"-\"))"
    );
    let message = format!(
        "the policies {NAME}-* take a RuntimeClass of this name for one that isolates, so its handler must be one of {}, or \
         a variant such as {}-NAME; choose another name",
        isolated_handlers.join(", "),
        isolated_handlers.last().map_or("kata", String::as_str),
    );
    let rule = rule(&["node.k8s.io"], &[Kind::RuntimeClass.plural()], &["CREATE"]);
    bound(&format!("{NAME}-runtimeclasses"), &[rule], vec![], vec![isolating(settings)], vec![(isolates, message)])
}

impl Policy<'_> {
    fn documents(&self) -> [Value; 2] {
        let name = format!("{NAME}-{}", self.name);
        let wanted_class = format!("{REASON}: runtimeClassName must be one that isolates: ");
        let class = (
            format!("!variables.judged || variables.specs.all(s, {})", self.class),
            format!("{wanted_class}see the variable isolating of this policy"),
        );
        let ways = HostAccess::ALL.iter().filter(|access| !self.settings.allowed.contains(**access));
        let accesses = ways.map(|access| {
            let cel::Rule { expression, message } = cel::rule(*access);
            (format!("!variables.judged || ({expression})"), format!("{REASON}: {message}"))
        });
        let validations = [class].into_iter().chain(self.marker_validations()).chain(accesses).collect();
        let mut documents = bound(&name, &self.rules, self.conditions.clone(), self.variables(), validations);
        let spec = &mut documents[0]["spec"];
        spec["matchConstraints"]["namespaceSelector"] = json!({
            "matchExpressions": [{ "key": label::NAMESPACE_NAME, "operator": "NotIn", "values": ["kube-system"] }],
        });
        // A patch may have changed the names of the RuntimeClasses, so the API server puts them into the message.
        spec["validations"][0]["messageExpression"] =
            format!("{wanted_class:?} + variables.isolating.join(\", \")").into();
        documents
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        let Self { settings, markers, specs, annotations, changed, newly_marked, .. } = self;
        // A type of a schema would make the API server warn about fields that some of the kinds do not have.
        let marker = |of: &str| {
            let values = markers.iter().map(|labels| {
                format!("{}.orValue({{}})[?{:?}].orValue(\"false\")", optional(of, labels), label::GENERATED_CODE)
            });
            format!("dyn([{}])", values.collect::<Vec<_>>().join(", "))
        };
        let listed = |paths: &[String]| {
            let values = paths.iter().map(|path| format!("?{}", optional("variables.subject", path)));
            format!("[{}]", values.collect::<Vec<_>>().join(", "))
        };
        let unmarked = vec!["false"; markers.len()];
        let mut variables = vec![
            isolating(settings),
            ("subject", "dyn(object)".to_owned()),
            ("former", "dyn(oldObject)".to_owned()),
            ("markers", marker("variables.subject")),
            ("formerMarkers", format!("oldObject == null ? dyn({unmarked:?}) : {}", marker("variables.former"))),
            ("marked", "variables.markers.exists(m, m != \"false\")".to_owned()),
            ("formerlyMarked", "variables.formerMarkers.exists(m, m != \"false\")".to_owned()),
            ("isolatedNamespace", requires_isolation(&settings.namespace)),
            (
                "judged",
                format!(
                    "(variables.marked || variables.isolatedNamespace) && \
                     (oldObject == null || {newly_marked} || {changed})"
                ),
            ),
            ("specs", listed(specs)),
            ("annotations", listed(annotations)),
        ];
        variables.extend(cel::variables());
        variables
    }

    /// The rules about the marker itself.
    fn marker_validations(&self) -> Vec<(String, String)> {
        let clear = |list: &str, at: usize| format!("variables.{list}[{at}] in [\"true\", \"false\"]");
        let places = self.markers.iter().enumerate().map(|(at, labels)| {
            let kept = format!("(oldObject != null && !({}))", clear("formerMarkers", at));
            let message = format!("{labels}[{}]: must be \"true\" or \"false\"", label::GENERATED_CODE);
            (format!("{} || {kept}", clear("markers", at)), message)
        });
        let stays = self.keeps_marker.iter().map(|(kind, those)| {
            let message = format!(
                "the label {} must not be removed from a {kind}, because generated code may have run in it; delete the \
                 {kind} instead",
                label::GENERATED_CODE
            );
            (format!("variables.marked || !variables.formerlyMarked || !({those})"), message)
        });
        places.chain(stays).collect()
    }
}

/// Whether an update marks an object that had no marker in any place.
const NEWLY_MARKED: &str = "(variables.marked && !variables.formerlyMarked)";

/// Why an object is judged.
const REASON: &str =
    "this object is marked as generated code, or its namespace requires isolation, and its pod is not isolated";

/// The variable with the names of the RuntimeClasses.
const ISOLATING: &str = "isolating";

/// The first variable of every policy, so that one patch of kustomize can replace it in all of them.
fn isolating(settings: &IsolationPolicies) -> (&'static str, String) {
    (ISOLATING, format!("{:?}", settings.runtime_classes))
}

/// Whether the namespace of the request requires isolation.
fn requires_isolation(own_namespace: &str) -> String {
    let none = label::ISOLATION_NONE;
    format!(
        "request.namespace != {own_namespace:?} && \
         namespaceObject.metadata.?labels.orValue({{}})[?{:?}].orValue({none:?}) != {none:?}",
        label::ISOLATION
    )
}

/// A path in an object, as an optional value.
fn optional(of: &str, path: &str) -> String {
    format!("{of}.?{}", path.replace('.', ".?"))
}

/// Whether an update changes a field.
fn differ(paths: &[&str]) -> String {
    let differ = paths
        .iter()
        .map(|path| format!("{} != {}", optional("variables.subject", path), optional("variables.former", path)));
    differ.collect::<Vec<_>>().join(" || ")
}

fn class_of(spec: &str) -> String {
    format!("{spec}.?runtimeClassName.orValue(\"\")")
}

/// Whether a RuntimeClass isolates, or there is none: the webhook or a plugin chooses it when the pod is made, and the pod
/// is judged then.
fn or_none(class: &str) -> String {
    format!("{class} in [\"\"] + variables.isolating")
}

#[cfg(test)]
mod tests;
