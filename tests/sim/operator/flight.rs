//! A request in flight, and its possible fates.

use std::collections::BTreeMap;
use std::rc::Rc;

use paddock_api::kind::{Key, Kind};
use paddock_api::names::FIELD_MANAGER;
use paddock_core::object::Object;
use paddock_core::plan::{Action, Op, Outcome, Reason};
use serde_json::{Value, json};

use super::resource;
use crate::sim::api::{Api, Deletion, Done, Id, Part, Refused, Resource};

/// The number of changes in each resource's log that an operator had received.
#[derive(Debug, Default)]
pub(crate) struct View(pub(super) BTreeMap<Resource, usize>);

impl View {
    pub(crate) fn position(&self, resource: Resource) -> usize {
        self.0.get(&resource).copied().unwrap_or_default()
    }
}

/// One request.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) op: Op,
    /// The key of the reconcile that sent it.
    pub(crate) task: Key,
    /// The positions of the watches when it was planned.
    pub(crate) view: Rc<View>,
    /// The version of the object that the plan was made for.
    pub(crate) version: Option<u64>,
    /// The outcome that the operator will receive, or `None` while the API server has not answered.
    pub(crate) reply: Option<Outcome>,
}

/// The fate of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The request is carried out and answered.
    Served,
    /// The request is carried out, and the reply is lost.
    ReplyLost,
    /// The request is lost before it arrives.
    RequestLost,
    /// The request is not answered in time. It is carried out later or never.
    Late,
    /// The request is refused temporarily.
    Busy,
    /// The request is refused permanently.
    Forbidden,
}

impl Flight {
    /// The same request after its operator has stopped waiting for the reply.
    pub(crate) fn adrift(&self) -> Self {
        let Self { op, task, view, version, .. } = self;
        Self { op: op.clone(), task: task.clone(), view: view.clone(), version: *version, reply: None }
    }

    /// Whether the request takes or deletes a Sandbox, which ends its reservation.
    pub(crate) fn ends_reservation(&self) -> bool {
        let Op { key, reason, action } = &self.op;
        key.kind == Kind::Sandbox && (*reason == Reason::Claimed || matches!(action, Action::Delete { .. }))
    }

    pub(super) fn sent(op: Op, task: Key, view: Rc<View>, version: Option<u64>) -> Self {
        Self { op, task, view, version, reply: None }
    }
}

/// Carries out an operation like the API server, and returns the outcome that the real operator would read from the
/// reply.
pub(crate) fn carry_out(api: &mut Api, op: &Op) -> Outcome {
    let id = Id::new(resource(op.key.kind), &op.key.namespace, &op.key.name);
    match &op.action {
        Action::Create { body } => match api.create(recorded(body)) {
            Ok(stored) => self::stored(op, &stored),
            Err(Refused::Exists) => Outcome::Exists,
            Err(Refused::Conflict) => Outcome::Conflict,
            Err(Refused::NotFound) => {
                Outcome::Rejected { status: 404, message: "not found".to_owned(), by_policy: false }
            }
            Err(Refused::Invalid(message)) => Outcome::Rejected { status: 422, message, by_policy: false },
        },
        Action::Patch { uid, resource_version, status, body } => {
            let mut patch = body.clone();
            if !patch["metadata"].is_object() {
                patch["metadata"] = json!({});
            }
            patch["metadata"]["uid"] = uid.as_str().into();
            if let Some(version) = resource_version {
                patch["metadata"]["resourceVersion"] = version.as_str().into();
            }
            let part = if *status { Part::Status } else { Part::Main };
            match api.patch(&id, part, &patch) {
                Ok(stored) => self::stored(op, &stored),
                Err(Refused::NotFound) => Outcome::Gone,
                Err(Refused::Conflict | Refused::Exists) => Outcome::Conflict,
                Err(Refused::Invalid(message)) => Outcome::Rejected { status: 422, message, by_policy: false },
            }
        }
        Action::Resize { uid, resource_version, body } => {
            let version = Some(resource_version.clone());
            let body = api.get(&id).map_or_else(|| json!({}), |pod| resized(pod, body));
            let action = Action::Patch { uid: uid.clone(), resource_version: version, status: false, body };
            carry_out(api, &Op { key: op.key.clone(), reason: op.reason, action })
        }
        Action::Adopt { uid, resource_version, owner, owner_uid, body } => {
            let owner = api.get(&Id::new(resource(owner.kind), &owner.namespace, &owner.name));
            let live = owner.is_some_and(|owner| {
                owner["metadata"]["uid"] == **owner_uid && owner["metadata"]["deletionTimestamp"].is_null()
            });
            if !live {
                return Outcome::Conflict;
            }
            let (uid, version) = (uid.clone(), Some(resource_version.clone()));
            let action = Action::Patch { uid, resource_version: version, status: false, body: body.clone() };
            carry_out(api, &Op { key: op.key.clone(), reason: op.reason, action })
        }
        // The model has no Secrets, so a delivery is the patch of the pod that announces it.
        Action::Deliver { uid, data: _, body } => {
            let (uid, body) = (uid.clone(), body.clone());
            let action = Action::Patch { uid, resource_version: None, status: false, body };
            carry_out(api, &Op { key: op.key.clone(), reason: op.reason, action })
        }
        Action::Delete { uid, resource_version, foreground } => {
            let options =
                Deletion { uid: Some(uid), resource_version: resource_version.as_deref(), foreground: *foreground };
            match api.delete(&id, options) {
                Ok(Done::Stored(object)) => self::stored(op, &object),
                Ok(Done::Removed) | Err(Refused::NotFound) => Outcome::Gone,
                Err(Refused::Conflict | Refused::Exists) if resource_version.is_some() => Outcome::Conflict,
                Err(Refused::Conflict | Refused::Exists) => Outcome::Gone,
                Err(Refused::Invalid(message)) => Outcome::Rejected { status: 422, message, by_policy: false },
            }
        }
    }
}

/// The merge patch with the same effect as a strategic one, which finds containers by their names.
fn resized(pod: &Value, patch: &Value) -> Value {
    let mut spec = json!({});
    for list in ["containers", "initContainers"] {
        let Some(changes) = patch["spec"][list].as_array() else { continue };
        let mut containers = pod["spec"][list].clone();
        for container in containers.as_array_mut().into_iter().flatten() {
            if let Some(change) = changes.iter().find(|change| change["name"] == container["name"]) {
                json_patch::merge(container, change);
            }
        }
        spec[list] = containers;
    }
    json!({ "spec": spec })
}

/// The body as it is stored, with a record of the writer in `managedFields`.
fn recorded(body: &Value) -> Value {
    let mut body = body.clone();
    body["metadata"]["managedFields"] = json!([{ "manager": FIELD_MANAGER, "operation": "Update" }]);
    body
}

fn stored(op: &Op, document: &Value) -> Outcome {
    Object::from_json(op.key.kind, document.clone())
        .map_or(Outcome::Unknown, |object| Outcome::Stored(Box::new(object)))
}
