//! The state of a review: the object with the changes so far, the warnings and the plugin failures.

use std::collections::BTreeMap;

use paddock_api::DecidingPlugin;
use serde_json::Value;

use super::chain::{self, Chain, PluginFailure};
use super::class::accept_class;
use super::outcome::{Cause, Denial, ReviewVerdict, Why};
use super::patch;
use super::review::{Context, Entry, Phase, Review, Verb};
use crate::binding::{Binding, FailurePolicy, Mode};
use crate::deciding;
use crate::marker::{Marker, namespace_isolates};
use crate::model::FieldError;
use crate::object::json::string_map;
use crate::question::limits::{MAX_MESSAGE_CHARS, MAX_REASON_CHARS, MAX_WARNING_CHARS, MAX_WARNINGS};
use crate::question::{
    AdmissionQuestion, Answer, ClassChoice, Failure, FailureKind, Hook, Operation, PluginReply, PluginRequest,
    Question, RuntimeClassAnswer, RuntimeClassQuestion, Verdict,
};
use crate::text::truncate;
use crate::world::reserved_sandbox;

/// The reason why the checks of a review end early.
pub(super) enum Halt {
    /// A plugin has to answer this request first.
    Request(Box<PluginRequest>),
    /// The object is denied.
    Deny(Box<Denial>),
}

/// The state of a review.
pub(super) struct ReviewState<'a> {
    pub(super) review: &'a Review,
    pub(super) context: &'a Context,
    replies: &'a [PluginReply],
    /// The object with the changes so far.
    pub(super) object: Value,
    warnings: Vec<String>,
    audit: BTreeMap<String, String>,
    decided_by: Vec<DecidingPlugin>,
    plugin_failures: Vec<PluginFailure>,
    /// The next request for a binding that does not act. It waits until nothing is left to decide.
    later: Option<Box<PluginRequest>>,
}

impl<'a> ReviewState<'a> {
    pub(super) fn new(review: &'a Review, context: &'a Context, replies: &'a [PluginReply]) -> Self {
        Self {
            review,
            context,
            replies,
            object: review.object.clone(),
            warnings: Vec::new(),
            audit: BTreeMap::new(),
            decided_by: Vec::new(),
            plugin_failures: Vec::new(),
            later: None,
        }
    }

    /// The next request for a binding that does not act.
    pub(super) fn into_later(self) -> Option<Box<PluginRequest>> {
        self.later
    }

    /// Asks a binding that does not act after the decision. Those whose answers are in the reply to the API server come
    /// first.
    fn ask_later(&mut self, binding: &Binding, question: impl FnOnce(&Self) -> Question) {
        if self.later.as_ref().is_none_or(|first| binding.mode.notes() && !first.mode.notes()) {
            self.later = Some(Box::new(binding.request(question(self))));
        }
    }

    pub(super) fn into_verdict(self, denial: Option<Denial>) -> ReviewVerdict {
        let changed = denial.is_none() && self.review.phase == Phase::Mutate;
        let patch =
            if changed { json_patch::diff(&self.review.object, &self.object) } else { json_patch::Patch(Vec::new()) };
        let given = self.context.reserved_sandbox.as_deref();
        let reservation_kept = changed && given.is_some() && reserved_sandbox(&self.object) == given;
        ReviewVerdict {
            denial,
            warnings: self.warnings,
            patch,
            reservation_kept,
            audit: self.audit,
            decided_by: self.decided_by,
            plugin_failures: self.plugin_failures,
        }
    }

    /// Records that the plugin of a binding decided. Only a reconcile writes the record into a status.
    fn record_decision(&mut self, binding: &Binding) {
        if self.context.in_reconcile {
            deciding::add(&mut self.decided_by, [deciding::decided_by(binding)]);
        }
    }

    /// The labels of the object with the changes so far.
    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        string_map(&self.object, "/metadata/labels")
    }

    /// Whether every plugin that was asked gave a valid answer.
    pub(super) fn all_plugins_answered(&self) -> bool {
        self.plugin_failures.is_empty()
    }

    /// Whether a plugin other than the built-ins decides about the admission of this object.
    pub(super) fn has_custom_plugins(&self, subject: &Subject) -> bool {
        self.admission_bindings(subject).iter().any(|binding| !binding.built_in)
    }

    /// The bindings that apply to the admission of this object, in the order in which they are asked.
    fn admission_bindings<'b>(&self, subject: &'b Subject) -> Vec<&'b Binding>
    where
        'a: 'b,
    {
        let (context, kind) = (self.context, self.review.kind.as_str());
        let bindings = context.bindings.applying(Hook::Admission, &context.namespace_labels, &subject.labels);
        bindings.filter(|binding| binding.reviews_kind(kind)).collect()
    }

    /// Whether the namespace requires isolation, according to the World or to the selector that the API server matched.
    pub(super) fn namespace_isolates(&self) -> bool {
        let context = self.context;
        self.review.entry == Entry::IsolatedNamespaces
            || namespace_isolates(&context.settings, &self.review.namespace, &context.namespace_labels)
    }

    /// Adds a warning, truncated to the limit. A warning does not deny the request.
    pub(super) fn warn(&mut self, message: &str) {
        self.warnings.push(truncate(message, MAX_WARNING_CHARS));
    }

    /// Asks the admission plugins in order. Each gets the object with the changes of the ones before. The failure of one
    /// plugin decides about that plugin alone: the others are asked as ever, and the built-in is the last of them.
    ///
    /// A binding that does not act gets the object of its place in the order, and is asked after the decision. Until then,
    /// the review continues as if it had answered.
    pub(super) fn ask_admission(&mut self, subject: &Subject) -> Result<(), Halt> {
        let bindings = self.admission_bindings(subject);
        for binding in bindings {
            let question = |state: &Self| Question::Admission(Box::new(state.admission_question(subject)));
            let result = match (chain::reply(binding, Some(&self.review.kind), self.replies), binding.mode.acts()) {
                (Some(result), true) => result,
                (Some(result), false) => {
                    self.note(binding, result);
                    continue;
                }
                (None, true) => return Err(Halt::Request(Box::new(binding.request(question(self))))),
                (None, false) => {
                    self.ask_later(binding, question);
                    continue;
                }
            };
            let failure = match result {
                Ok(Answer::Admission(answer)) => match (&answer.verdict, self.patched(answer.patch.as_deref())) {
                    (Verdict::Deny(message), _) => {
                        self.record_decision(binding);
                        return Err(deny(Why::DeniedByPlugin, format!("plugin {}: {message}", binding.plugin.name)));
                    }
                    (Verdict::Allow, Ok(object)) => {
                        for warning in answer.warnings.iter().take(MAX_WARNINGS) {
                            self.warn(warning);
                        }
                        self.object = object;
                        self.record_decision(binding);
                        continue;
                    }
                    (Verdict::Allow, Err(message)) => Failure { kind: FailureKind::Invalid, message },
                },
                Ok(Answer::RuntimeClass(_) | Answer::Idle(_) | Answer::PoolSize(_)) => {
                    Failure { kind: FailureKind::Invalid, message: chain::wrong_hook(Hook::Admission) }
                }
                Err(failure) => failure,
            };
            self.plugin_failures.push(PluginFailure::new(binding, failure.clone()));
            let plugin = &binding.plugin.name;
            match binding.failure_policy {
                FailurePolicy::Fail => {
                    self.record_decision(binding);
                    let message = format!("plugin {plugin} did not answer, and must be asked: {failure}");
                    return Err(deny(Why::PluginFailed, message));
                }
                FailurePolicy::Ignore | FailurePolicy::Fallback => {
                    let policy = binding.failure_policy.as_str();
                    self.warn(&format!("plugin {plugin} did not answer (failurePolicy {policy}): {failure}"));
                }
            }
        }
        Ok(())
    }

    /// Notes the answer of a binding that does not act: as warnings, or in the audit log of the API server.
    fn note(&mut self, binding: &Binding, result: Result<&Answer, Failure>) {
        let (policy, plugin) = (&binding.name, &binding.plugin.name);
        let fault = match &result {
            Ok(Answer::Admission(answer)) => match &answer.verdict {
                Verdict::Deny(message) => format!("{policy} would deny this: plugin {plugin}: {message}"),
                Verdict::Allow => {
                    for warning in answer.warnings.iter().take(MAX_WARNINGS).filter(|_| binding.mode == Mode::Warn) {
                        self.warn(warning);
                    }
                    return;
                }
            },
            Ok(Answer::RuntimeClass(_) | Answer::Idle(_) | Answer::PoolSize(_)) => {
                format!("{policy}: plugin {plugin}: {}", chain::wrong_hook(Hook::Admission))
            }
            Err(failure) => format!("{policy}: plugin {plugin} did not answer: {failure}"),
        };
        match binding.mode {
            Mode::Warn => self.warn(&fault),
            Mode::Audit => {
                // The key is a part of a qualified name, which has no slash and at most 63 characters.
                let key = Binding::policy_of_name(policy).unwrap_or(policy).replace('/', ".");
                self.audit.insert(key, truncate(&fault, MAX_MESSAGE_CHARS));
            }
            Mode::Enforce | Mode::Shadow => {}
        }
    }

    /// Returns the object with a plugin's patch. In the validating call a patch is checked, but it changes nothing.
    fn patched(&self, text: Option<&str>) -> Result<Value, String> {
        let Some(text) = text else { return Ok(self.object.clone()) };
        let patched = patch::apply(&self.object, text)?;
        Ok(match self.review.phase {
            Phase::Mutate => patched,
            Phase::Validate => self.object.clone(),
        })
    }

    fn admission_question(&self, subject: &Subject) -> AdmissionQuestion {
        let review = self.review;
        AdmissionQuestion {
            operation: match review.operation {
                Verb::Update => Operation::Update,
                Verb::Create | Verb::Delete | Verb::Connect => Operation::Create,
            },
            group: review.group.clone(),
            version: review.version.clone(),
            kind: review.kind.clone(),
            namespace: review.namespace.clone(),
            name: review.name.clone(),
            object: without_managed_fields(&self.object),
            old_object: review.old_object.is_object().then(|| without_managed_fields(&review.old_object)),
            namespace_labels: self.context.namespace_labels.clone(),
            username: review.username.clone(),
            groups: review.groups.clone(),
            generated_code: subject.generated_code,
            classes: if subject.generated_code {
                self.context.isolation().offered()
            } else {
                self.context.classes.to_vec()
            },
            dry_run: review.dry_run,
            now: review.now,
        }
    }

    /// Asks the runtime-class plugins for a class for a pod that must be isolated and names none.
    pub(super) fn choose_isolating_class(&mut self) -> Result<String, Halt> {
        let context = self.context;
        let labels = self.labels();
        let classes = context.isolation().offered();
        let bindings = context.bindings.applying(Hook::RuntimeClass, &context.namespace_labels, &labels);
        let question = |state: &Self| Question::RuntimeClass(Box::new(state.class_question()));
        let (chain, plugin_failures, others) = chain::acting_answer(
            bindings,
            self.replies,
            |_| question(self),
            |answer| accept_class(answer, &classes, true),
        );
        self.plugin_failures.extend(plugin_failures);
        others.into_iter().for_each(|binding| self.ask_later(binding, question));
        if let Some(binding) = chain.last_binding() {
            self.record_decision(binding);
        }
        match chain {
            Chain::Request(request) => Err(Halt::Request(request)),
            Chain::Reply(binding, RuntimeClassAnswer { choice: ClassChoice::Class(class), reason }) => {
                let reason = truncate(&reason, MAX_REASON_CHARS);
                self.audit.insert("runtime-class".to_owned(), format!("{class} by {}: {reason}", binding.plugin.name));
                Ok(class)
            }
            Chain::Reply(
                binding,
                RuntimeClassAnswer { choice: ClassChoice::Refuse | ClassChoice::Default, reason },
            ) => Err(not_isolated(format!(
                "plugin {} gives no RuntimeClass to this pod: {reason}; {}",
                binding.plugin.name,
                self.what_to_set()
            ))),
            Chain::Failed(binding, failure) => Err(deny(
                Why::PluginFailed,
                format!(
                    "plugin {} did not choose a RuntimeClass: {failure}; {}",
                    binding.plugin.name,
                    self.what_to_set()
                ),
            )),
            Chain::NoBinding => {
                Err(not_isolated(format!("no plugin could choose a RuntimeClass for this pod; {}", self.what_to_set())))
            }
        }
    }

    fn class_question(&self) -> RuntimeClassQuestion {
        let images = ["/spec/initContainers", "/spec/containers"]
            .into_iter()
            .filter_map(|list| self.object.pointer(list)?.as_array())
            .flatten()
            .filter_map(|container| container["image"].as_str().map(str::to_owned))
            .collect();
        RuntimeClassQuestion {
            namespace: self.review.namespace.clone(),
            name: self.review.name.clone(),
            labels: self.labels(),
            images,
            requested: None,
            generated_code: true,
            namespace_labels: self.context.namespace_labels.clone(),
            classes: self.context.isolation().offered(),
            now: self.review.now,
        }
    }

    /// The remedy for the user, with the isolating classes of the cluster.
    pub(super) fn what_to_set(&self) -> String {
        self.context.isolation().what_to_set()
    }
}

/// The facts about an object that select its bindings and that plugins get in addition to the object.
pub(super) struct Subject {
    /// The labels with which object selectors are compared.
    pub(super) labels: BTreeMap<String, String>,
    /// Whether the object is marked as running generated code, or its namespace requires isolation.
    pub(super) generated_code: bool,
}

impl Subject {
    pub(super) fn new(labels: BTreeMap<String, String>, namespace_isolates: bool) -> Self {
        let generated_code = namespace_isolates || Marker::of(&labels) != Marker::Unmarked;
        Self { labels, generated_code }
    }
}

/// Returns a denial without a field.
pub(super) fn deny(why: Why, message: String) -> Halt {
    Halt::Deny(Box::new(Denial { why, message, causes: Vec::new() }))
}

/// Returns a denial of a pod that gets no RuntimeClass that isolates.
pub(super) fn not_isolated(message: String) -> Halt {
    let field = "spec.runtimeClassName".to_owned();
    let causes = vec![Cause { field, message: message.clone() }];
    Halt::Deny(Box::new(Denial { why: Why::NotIsolated, message, causes }))
}

/// Returns a denial that names fields.
pub(super) fn deny_fields(why: Why, errors: Vec<FieldError>) -> Halt {
    let message = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let causes = errors.into_iter().map(|e| Cause { field: e.path, message: e.message }).collect();
    Halt::Deny(Box::new(Denial { why, message, causes }))
}

fn without_managed_fields(object: &Value) -> String {
    let mut object = object.clone();
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.remove("managedFields");
    }
    object.to_string()
}
