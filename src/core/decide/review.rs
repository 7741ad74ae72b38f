//! The reviews that a reconcile makes before it writes. They ask the admission plugins again, because the webhook may
//! not have asked them: the operator's own writes are exempt, the webhook may have been unavailable, and a policy may be
//! newer than the object.
//!
//! `docs/plugins.md` has the table of all moments at which a plugin is asked about an object.

use paddock_api::DecidingPlugin;
use paddock_api::kind::{Key, Kind};
use serde_json::Value;

use crate::admission::{self, Context, Entry, Phase, PluginFailure, Review, ReviewVerdict, Verb, Why, Write};
use crate::deciding;
use crate::manifest;
use crate::model;
use crate::object::Object;
use crate::plan::Reason;
use crate::question::{PluginReply, PluginRequest};
use crate::snapshot::{ClaimSnapshot, Common};

/// One review with the facts that it uses.
pub(super) struct ReconcileReview {
    pub(super) review: Review,
    context: Context,
}

impl ReconcileReview {
    /// The review of a pod that is about to be created. A plugin may change the pod.
    pub(super) fn of_pod(common: &Common, key: &Key, pod: Value) -> Self {
        Self::new(common, key, (Phase::Mutate, pod))
    }

    /// The review of a stored Sandbox whose pod is about to be created. `None` if no plugin of a user reviews Sandboxes.
    pub(super) fn of_sandbox(common: &Common, sandbox: &Object, model: &model::Sandbox) -> Option<Self> {
        let object = || manifest::stored_sandbox(sandbox, model);
        has_plugins(common, Kind::Sandbox).then(|| Self::new(common, &sandbox.key, (Phase::Validate, object())))
    }

    /// The review of a warm Sandbox, in the form that it has after a claim took it.
    pub(super) fn of_take(snapshot: &ClaimSnapshot, sandbox: &Object, by: &model::Claim) -> Option<Self> {
        let common = &snapshot.common;
        let model = sandbox.sandbox()?.spec.as_ref().ok().filter(|_| has_plugins(common, Kind::Sandbox))?;
        let mut taken = manifest::stored_sandbox(sandbox, model);
        let take = manifest::adopted_by_claim(&snapshot.claim, by, (sandbox, snapshot.marker), common);
        json_patch::merge(&mut taken, &take);
        Some(Self::new(common, &sandbox.key, (Phase::Validate, taken)))
    }

    /// The review of a running pod that is about to get other labels or annotations. A patch of a plugin is ignored, because
    /// the rest of the pod cannot change any more.
    pub(super) fn of_pod_change(common: &Common, key: &Key, change: (Value, Value)) -> Self {
        Self::update(common, key, change)
    }

    /// The review of a Sandbox in the form that it has after a merge patch of the operator. `None` if no plugin of a user
    /// reviews Sandboxes.
    pub(super) fn of_change(common: &Common, sandbox: &Object, patch: &Value) -> Option<Self> {
        let model = sandbox.sandbox()?.spec.as_ref().ok().filter(|_| has_plugins(common, Kind::Sandbox))?;
        let old = manifest::stored_sandbox(sandbox, model);
        let mut new = old.clone();
        json_patch::merge(&mut new, patch);
        Some(Self::update(common, &sandbox.key, (old, new)))
    }

    /// The review of a stored claim that is about to get a Sandbox. `None` if no plugin of a user reviews claims.
    pub(super) fn of_claim(common: &Common, claim: &Object, model: &model::Claim) -> Option<Self> {
        let object = || manifest::stored_claim(claim, model);
        has_plugins(common, claim.key.kind).then(|| Self::new(common, &claim.key, (Phase::Validate, object())))
    }

    fn update(common: &Common, key: &Key, (old, new): (Value, Value)) -> Self {
        let mut update = Self::new(common, key, (Phase::Validate, new));
        update.review.operation = Verb::Update;
        update.review.old_object = old;
        update
    }

    fn new(common: &Common, key: &Key, (phase, object): (Phase, Value)) -> Self {
        let review = Review {
            phase,
            entry: if key.kind == Kind::Pod { Entry::MarkedPods } else { Entry::OwnKinds },
            operation: Verb::Create,
            group: key.kind.group().to_owned(),
            version: key.kind.version().to_owned(),
            kind: key.kind.name().to_owned(),
            resource: key.kind.plural().to_owned(),
            subresource: None,
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
            object,
            old_object: Value::Null,
            write: Write::default(),
            dry_run: false,
            username: String::new(),
            groups: Vec::new(),
            now: common.now,
        };
        let context = Context {
            namespace_labels: common.namespace_labels.clone(),
            missing: None,
            classes: common.classes.clone(),
            bindings: common.bindings.clone(),
            settings: common.settings.clone(),
            operator_user: None,
            reserved_sandbox: None,
            claim_problems: Vec::new(),
            sandbox_of_claim: None,
            exposed_by: None,
            sandbox: None,
            in_reconcile: true,
        };
        Self { review, context }
    }

    pub(super) fn questions(&self, replies: &[PluginReply]) -> Vec<PluginRequest> {
        admission::questions(&self.review, &self.context, replies)
    }

    pub(super) fn verdict(&self, replies: &[PluginReply]) -> ReviewVerdict {
        admission::verdict(&self.review, &self.context, replies)
    }
}

/// Whether a plugin of a user may review objects of a kind. The reviews of other kinds are not made, because they cost
/// the text of an object.
pub(super) fn has_plugins(common: &Common, kind: Kind) -> bool {
    common.bindings.iter().any(|binding| binding.is_custom_admission() && binding.reviews_kind(kind.name()))
}

/// The result of several reviews: the first denial, the plugins that decided, and the failures of plugins.
#[derive(Default)]
pub(super) struct Reviewed {
    /// The reason and the message of the denial.
    pub(super) denial: Option<(Reason, String)>,
    pub(super) decided_by: Vec<DecidingPlugin>,
    pub(super) plugin_failures: Vec<PluginFailure>,
}

/// The next questions of reviews that are made one after the other. There are none after a denial.
pub(super) fn questions(reviews: &[ReconcileReview], replies: &[PluginReply]) -> Vec<PluginRequest> {
    for review in reviews {
        let requests = review.questions(replies);
        if !requests.is_empty() || !review.verdict(replies).allowed() {
            return requests;
        }
    }
    Vec::new()
}

/// The result of reviews that are made one after the other.
pub(super) fn outcome(reviews: &[ReconcileReview], replies: &[PluginReply]) -> Reviewed {
    let mut reviewed = Reviewed::default();
    for review in reviews {
        let verdict = review.verdict(replies);
        deciding::add(&mut reviewed.decided_by, verdict.decided_by);
        reviewed.plugin_failures.extend(verdict.plugin_failures);
        let Some(denial) = verdict.denial else { continue };
        reviewed.denial = Some((reason_of(denial.why), denial.message));
        break;
    }
    reviewed
}

/// The reason of a denial, for Events and requeues. A plugin that did not answer is asked again soon.
pub(super) fn reason_of(why: Why) -> Reason {
    match why {
        Why::PluginFailed | Why::NotSeen => Reason::PluginFailed,
        Why::Invalid | Why::Immutable | Why::NotIsolated | Why::Forged | Why::DeniedByPlugin | Why::NotRecorded => {
            Reason::AdmissionDenied
        }
    }
}
