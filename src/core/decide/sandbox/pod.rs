//! Decides whether the pod of a Sandbox may be created: reviews the Sandbox, chooses a RuntimeClass, and then reviews
//! the complete pod like an admission request.
//!
//! The webhook does not review the Sandboxes that the operator makes for pools and claims, and may have been unavailable
//! when another one was written. The operator therefore creates no pod that the webhook would deny.

use std::collections::BTreeMap;

use paddock_api::DecidingPlugin;
use paddock_api::kind::Kind;
use paddock_api::names::{annotation, label};
use serde_json::Value;

use super::volumes::{Directories, directories};
use crate::admission::{Chain, PluginFailure, accept_class, first_answer};
use crate::as_made;
use crate::binding::Binding;
use crate::decide::adopt::{Adoption, PREPARED, adoptable, adoption, left_behind};
use crate::decide::review::{self, ReconcileReview, Reviewed};
use crate::deciding;
use crate::manifest::{self, PodPlan};
use crate::marker::Marker;
use crate::model;
use crate::object::Object;
use crate::plan::{Op, Reason};
use crate::question::{
    Answer, ClassChoice, Hook, PluginReply, PluginRequest, Question, RuntimeClassAnswer, RuntimeClassQuestion,
};
use crate::snapshot::SandboxSnapshot;

/// The decision about a pod that is missing.
pub(super) enum PodVerdict {
    /// The operations that create the pod, and before it the volume claims that it needs.
    Create(Vec<Op>),
    /// No pod is created until another object changes, with the reason and a description of that object.
    Wait(Reason, String),
    /// No pod is created for now, with the reason and a message.
    Refuse(Reason, String),
}

/// What happened on the way to a decision about a pod.
#[derive(Default)]
struct Consulted {
    decided_by: Vec<DecidingPlugin>,
    failures: Vec<PluginFailure>,
}

/// The RuntimeClass that was chosen, the plugin that chose it, and the reason.
#[derive(Clone, Debug, Default)]
struct Choice {
    class: Option<String>,
    reason: String,
    plugin: Option<String>,
}

enum Chosen {
    Request(Box<PluginRequest>),
    Class(Choice),
    Refused(Reason, String),
}

/// The decision about a missing pod, the plugins that made it, and the plugin failures on the way to it.
pub(super) struct PodDecision {
    pub(super) verdict: PodVerdict,
    pub(super) decided_by: Vec<DecidingPlugin>,
    pub(super) plugin_failures: Vec<PluginFailure>,
}

pub(super) fn questions(
    snapshot: &SandboxSnapshot,
    model: &model::Sandbox,
    replies: &[PluginReply],
) -> Vec<PluginRequest> {
    let Directories::Kept(kept_dirs) = directories(snapshot, model) else { return vec![] };
    let of_sandbox = sandbox_review(snapshot, model);
    let requests = review::questions(&of_sandbox, replies);
    if !requests.is_empty() || review::outcome(&of_sandbox, replies).denial.is_some() {
        return requests;
    }
    match choose_class(snapshot, model, replies).0 {
        Chosen::Request(request) => vec![*request],
        Chosen::Refused(..) => vec![],
        Chosen::Class(choice) => {
            pod_review(snapshot, planned_pod(snapshot, model, &choice, &kept_dirs)).questions(replies)
        }
    }
}

/// The questions before a Sandbox adopts a pod that its user prepared. The pod itself was reviewed when it was made.
pub(super) fn adoption_questions(
    snapshot: &SandboxSnapshot,
    model: &model::Sandbox,
    replies: &[PluginReply],
) -> Vec<PluginRequest> {
    review::questions(&sandbox_review(snapshot, model), replies)
}

pub(super) fn review_adoption(snapshot: &SandboxSnapshot, model: &model::Sandbox, replies: &[PluginReply]) -> Reviewed {
    review::outcome(&sandbox_review(snapshot, model), replies)
}

pub(super) fn verdict(snapshot: &SandboxSnapshot, model: &model::Sandbox, replies: &[PluginReply]) -> PodDecision {
    let reviewed = review::outcome(&sandbox_review(snapshot, model), replies);
    let mut consulted = Consulted { decided_by: reviewed.decided_by, failures: reviewed.plugin_failures };
    let verdict = match reviewed.denial {
        Some((reason, problem)) => PodVerdict::Refuse(reason, problem),
        None => {
            let (chosen, of_class) = choose_class(snapshot, model, replies);
            deciding::add(&mut consulted.decided_by, of_class.decided_by);
            consulted.failures.extend(of_class.failures);
            pod_verdict(snapshot, model, replies, chosen, &mut consulted)
        }
    };
    let Consulted { decided_by, failures: mut plugin_failures } = consulted;
    if let PodVerdict::Refuse(Reason::PluginFailed, _) = &verdict {
        // The verdict itself reports the failure.
        plugin_failures.clear();
    }
    // A plugin may fail in the same way about the Sandbox and about its pod.
    plugin_failures.sort_by(|a, b| a.binding.cmp(&b.binding));
    plugin_failures.dedup();
    PodDecision { verdict, decided_by, plugin_failures }
}

fn pod_verdict(
    snapshot: &SandboxSnapshot,
    model: &model::Sandbox,
    replies: &[PluginReply],
    chosen: Chosen,
    consulted: &mut Consulted,
) -> PodVerdict {
    let sandbox = &snapshot.sandbox;
    if model.pod.spec.held() && snapshot.common.settings.init_image.is_none() {
        let problem = "the containers of this Sandbox wait for the data of a claim, and the operator has no image for that: \
                       it needs the flag --init-image";
        return PodVerdict::Refuse(Reason::PodMissing, problem.to_owned());
    }
    let kept_dirs = match directories(snapshot, model) {
        Directories::Kept(names) => names,
        Directories::Wait(why) => return PodVerdict::Wait(Reason::VolumeClaimMissing, why),
    };
    let choice = match chosen {
        Chosen::Class(choice) => choice,
        Chosen::Refused(reason, problem) => return PodVerdict::Refuse(reason, problem),
        Chosen::Request(request) => {
            return PodVerdict::Refuse(Reason::PluginFailed, format!("plugin {} was not asked", request.plugin.name));
        }
    };
    let of_pod = pod_review(snapshot, planned_pod(snapshot, model, &choice, &kept_dirs));
    let verdict = of_pod.verdict(replies);
    deciding::add(&mut consulted.decided_by, verdict.decided_by);
    consulted.failures.extend(verdict.plugin_failures);
    if let Some(denial) = verdict.denial {
        return PodVerdict::Refuse(review::reason_of(denial.why), denial.message);
    }
    let mut body = of_pod.review.object.clone();
    if json_patch::patch(&mut body, &verdict.patch).is_err() {
        return PodVerdict::Refuse(Reason::PluginFailed, "the patch of an admission plugin does not apply".to_owned());
    }
    if sandbox.meta.in_pool() {
        as_made::list_plugin_changes(&of_pod.review.object, &mut body);
    }
    deciding::annotate(&mut body, annotation::PLUGINS, &consulted.decided_by);
    let mut ops = Vec::new();
    for (name, claim) in manifest::volume_claims(sandbox, model, &kept_dirs, &snapshot.common.settings) {
        match snapshot.volume_claims.get(&name) {
            None => {
                ops.push(Op::create(
                    sandbox.key.sibling(Kind::VolumeClaim, name.as_str()),
                    Reason::VolumeClaimMissing,
                    claim,
                ));
            }
            Some(there) if there.meta.deletion_timestamp.is_some() => {
                let why = format!("PersistentVolumeClaim {name} is terminating, and a new one follows");
                return PodVerdict::Wait(Reason::VolumeClaimMissing, why);
            }
            Some(there) if there.is_child_of(sandbox) => {}
            Some(there) => {
                let mut foreign = format!("PersistentVolumeClaim {name} exists and does not belong to this Sandbox");
                if let Some(other) = there.owner_key().filter(|other| other.kind == Kind::Sandbox) {
                    // The names of a volume and of a Sandbox are joined by a hyphen, which both may contain.
                    foreign =
                        format!("{foreign} but to Sandbox {}: give the volume or the Sandbox another name", other.name);
                }
                let problem = match adoption(sandbox, there, &claim) {
                    // The volume claims are adopted in the same step.
                    Adoption::Yes => continue,
                    Adoption::No => foreign,
                    Adoption::Prepared => format!("{foreign}, and {PREPARED}"),
                    Adoption::Differs(path) => format!("{foreign}, which would make it with another {path}"),
                };
                return PodVerdict::Refuse(Reason::VolumeClaimMissing, problem);
            }
        }
    }
    let key = sandbox.key.sibling(Kind::Pod, manifest::pod_name(sandbox));
    ops.push(Op::create(key, Reason::PodMissing, body));
    PodVerdict::Create(ops)
}

/// Whether a Sandbox may adopt a pod of its name. The pod keeps its RuntimeClass, which [`not_isolated`] judges.
pub(super) fn pod_adoption(snapshot: &SandboxSnapshot, model: &model::Sandbox, pod: &Object) -> Adoption {
    adoption(&snapshot.sandbox, pod, &planned_as(snapshot, model, pod))
}

/// The pod that the operator would make of the Sandbox, with the RuntimeClass of an existing pod.
pub(super) fn planned_as(snapshot: &SandboxSnapshot, model: &model::Sandbox, pod: &Object) -> Value {
    let kept_dirs = match directories(snapshot, model) {
        Directories::Kept(names) => names,
        Directories::Wait(_) => vec![],
    };
    let class = pod.pod().and_then(|p| p.runtime_class.as_deref().map(str::to_owned));
    planned_pod(snapshot, model, &Choice { class, ..Choice::default() }, &kept_dirs)
}

fn planned_pod(snapshot: &SandboxSnapshot, model: &model::Sandbox, choice: &Choice, kept_dirs: &[String]) -> Value {
    let plan = PodPlan {
        name: manifest::pod_name(&snapshot.sandbox),
        runtime_class: choice.class.as_deref(),
        class_reason: Some(choice.reason.as_str()).filter(|r| !r.is_empty()),
        class_plugin: choice.plugin.as_deref(),
        kept_dirs,
        now: snapshot.common.now,
        init_image: snapshot.common.settings.init_image.as_deref(),
        isolate: isolation_demanded(snapshot, model),
    };
    manifest::pod(&snapshot.sandbox, model, &plan)
}

/// Whether a new pod of the Sandbox has to be isolated: because of its own marker, of the marker of its claim, pool or
/// template, or of its namespace.
fn isolation_demanded(snapshot: &SandboxSnapshot, model: &model::Sandbox) -> bool {
    demanded(snapshot, manifest::sandbox_marker(&snapshot.sandbox, Some(model)))
}

fn demanded(snapshot: &SandboxSnapshot, own: Marker) -> bool {
    snapshot.common.namespace_isolates || Marker::strongest([own, snapshot.inherited_marker]).is_generated_code()
}

/// The problem of the first pod of the Sandbox that runs and is not isolated, although it should be. Each pod that names
/// the Sandbox as its owner counts, in every state of the Sandbox, until it has ended. So does the pod of its name that
/// lost its owner.
pub(super) fn exposed(snapshot: &SandboxSnapshot, model: Option<&model::Sandbox>) -> Option<String> {
    let detached = snapshot.other_pod.iter().filter(|pod| left_behind(&snapshot.sandbox, pod));
    let pods = snapshot.pods.iter().chain(detached);
    let live = pods.filter(|object| object.pod().is_some_and(|pod| !pod.ended()));
    live.map(|pod| exposure(snapshot, model, pod)).find_map(|exposure| match exposure {
        Exposure::Isolated => None,
        Exposure::Denied(problem) | Exposure::Reported(problem) => Some(problem),
    })
}

/// The reason why a Sandbox that must be isolated does not adopt an existing pod, if there is one.
pub(super) fn not_isolated(snapshot: &SandboxSnapshot, model: &model::Sandbox, pod: &Object) -> Option<String> {
    let offered = adoptable(pod) || left_behind(&snapshot.sandbox, pod);
    if !offered || !isolation_demanded(snapshot, model) {
        return None;
    }
    broken_by(snapshot, pod)
        .map(|part| format!("Pod {} exists with {part}: this Sandbox does not take it over", pod.key.name))
}

/// The labels that a running pod of the Sandbox should have. If the pod has to be isolated, it gets the marker, unless it is
/// not isolated: the webhook would deny the marker, and the status reports such a pod.
pub(super) fn running_labels(
    snapshot: &SandboxSnapshot,
    model: &model::Sandbox,
    pod: &Object,
) -> BTreeMap<String, String> {
    let mut labels = manifest::pod_labels(&snapshot.sandbox, model);
    if isolation_demanded(snapshot, model) {
        if broken_by(snapshot, pod).is_some() {
            labels.remove(label::GENERATED_CODE);
        } else if !Marker::of(&labels).is_generated_code() {
            labels.insert(label::GENERATED_CODE.to_owned(), label::TRUE.to_owned());
        }
    }
    labels
}

/// The isolation of a running pod.
pub(super) enum Exposure {
    /// The pod is isolated, or it does not have to be.
    Isolated,
    /// The Sandbox or the pod has the label of generated code, and the pod is not isolated. The Sandbox is not Ready, and
    /// the pod does not get the marker, until a user suspends and resumes the Sandbox.
    Denied(String),
    /// The pod is older than the demand of the namespace, the claim, the pool or the template, which the status of the
    /// Sandbox may record. The pod continues to run, and the status reports it.
    Reported(String),
}

/// Determines whether a running pod is isolated, if it should be.
pub(super) fn exposure(snapshot: &SandboxSnapshot, model: Option<&model::Sandbox>, pod: &Object) -> Exposure {
    let of_sandbox = manifest::labelled_marker(&snapshot.sandbox, model);
    let labelled = Marker::strongest([of_sandbox, Marker::of(&pod.meta.labels)]);
    if !demanded(snapshot, Marker::strongest([labelled, manifest::recorded_marker(&snapshot.sandbox)])) {
        return Exposure::Isolated;
    }
    let Some(part) = broken_by(snapshot, pod) else { return Exposure::Isolated };
    let marked = labelled.is_generated_code();
    let why = if marked {
        "the Sandbox is marked as running generated code"
    } else if snapshot.common.namespace_isolates {
        "its namespace requires isolation"
    } else if snapshot.inherited_marker.is_generated_code() {
        "its claim, pool or template is marked as running generated code"
    } else {
        "the Sandbox was marked as running generated code"
    };
    let problem =
        format!("Pod {} runs with {part}, and {why}: suspend and resume it for a pod that is isolated", pod.key.name);
    if marked { Exposure::Denied(problem) } else { Exposure::Reported(problem) }
}

/// The parts of a pod that break its isolation, or `None` if the pod is isolated.
fn broken_by(snapshot: &SandboxSnapshot, pod: &Object) -> Option<String> {
    pod.pod().and_then(|pod| snapshot.common.isolation().broken_by(pod))
}

fn choose_class(snapshot: &SandboxSnapshot, model: &model::Sandbox, replies: &[PluginReply]) -> (Chosen, Consulted) {
    let labels = manifest::pod_labels(&snapshot.sandbox, model);
    let generated_code = isolation_demanded(snapshot, model);
    let common = &snapshot.common;
    let isolation = common.isolation();
    let requested = model.runtime_class.as_deref().filter(|_| generated_code);
    if let Some(problem) = requested.and_then(|class| isolation.forbidden(class)) {
        let problem = format!("{problem}; {}", isolation.what_to_set());
        return (Chosen::Refused(Reason::AdmissionDenied, problem), Consulted::default());
    }
    let classes = if generated_code { isolation.offered() } else { common.classes.to_vec() };
    let question = |_: &Binding| {
        let mut spec = model.pod.spec.parse();
        if let Some(image) = &common.settings.init_image {
            manifest::set_init_image(&mut spec, image);
        }
        let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
        Question::RuntimeClass(Box::new(RuntimeClassQuestion {
            namespace: snapshot.sandbox.key.namespace.to_string(),
            name: snapshot.sandbox.key.name.to_string(),
            labels: labels.clone(),
            images: containers.filter_map(|c| c.image.clone()).collect(),
            requested: model.runtime_class.clone(),
            generated_code,
            namespace_labels: common.namespace_labels.clone(),
            classes: classes.clone(),
            now: common.now,
        }))
    };
    let accept = |answer: &Answer| accept_class(answer, &classes, generated_code);
    let applying = common.bindings.applying(Hook::RuntimeClass, &common.namespace_labels, &labels);
    let (chain, failures) = first_answer(applying, replies, question, accept);
    let decided_by = chain.last_binding().into_iter().map(deciding::decided_by).collect();
    let consulted = Consulted { decided_by, failures };
    let chosen = match chain {
        Chain::Request(request) => Chosen::Request(request),
        Chain::Reply(binding, RuntimeClassAnswer { choice, reason }) => {
            let plugin = &binding.plugin.name;
            let class = match choice {
                ClassChoice::Class(name) => Some(name),
                ClassChoice::Default => None,
                ClassChoice::Refuse => {
                    let problem = format!("plugin {plugin} gives no RuntimeClass to the pod: {reason}");
                    return (Chosen::Refused(Reason::RuntimeClassRefused, problem), consulted);
                }
            };
            Chosen::Class(Choice { class, reason, plugin: Some(plugin.clone()) })
        }
        Chain::Failed(binding, failure) => Chosen::Refused(
            Reason::PluginFailed,
            format!("plugin {} did not choose a RuntimeClass: {failure}", binding.plugin.name),
        ),
        // Without a plugin, the user's class is used. The review that follows denies it if isolation is required.
        Chain::NoBinding => Chosen::Class(Choice {
            class: model.runtime_class.clone(),
            reason: "no runtime-class plugin answered: as the Sandbox says".to_owned(),
            plugin: None,
        }),
    };
    (chosen, consulted)
}

/// The review of the Sandbox itself, which may have been made by the operator for a pool or a claim.
pub(super) fn sandbox_review(snapshot: &SandboxSnapshot, model: &model::Sandbox) -> Vec<ReconcileReview> {
    ReconcileReview::of_sandbox(&snapshot.common, &snapshot.sandbox, model).into_iter().collect()
}

/// The review that the webhook would make of the pod.
fn pod_review(snapshot: &SandboxSnapshot, pod: Value) -> ReconcileReview {
    let key = snapshot.sandbox.key.sibling(Kind::Pod, manifest::pod_name(&snapshot.sandbox));
    ReconcileReview::of_pod(&snapshot.common, &key, pod)
}
