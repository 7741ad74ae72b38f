//! A write on its way, and what can become of it.

use std::collections::BTreeMap;
use std::rc::Rc;

use paddock_core::kind::{Key, Kind};
use paddock_core::names::FIELD_MANAGER;
use paddock_core::object::Object;
use paddock_core::plan::{Action, Op, Outcome, Reason};
use serde_json::{Value, json};

use super::resource;
use crate::sim::api::{Api, Deletion, Done, Id, Part, Refused, Resource};

/// How much of each resource's log an operator had seen.
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
    /// The reconcile that it belongs to.
    pub(crate) task: Key,
    /// What was seen when it was planned.
    pub(crate) view: Rc<View>,
    /// Version of the object that it was planned on.
    pub(crate) version: Option<u64>,
    /// What the operator will hear; `None` while the API server has not answered.
    pub(crate) reply: Option<Outcome>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Done and answered.
    Served,
    /// Done, and the answer is lost.
    ReplyLost,
    /// Lost before it arrived.
    RequestLost,
    /// Not answered in time; done later, or never.
    Late,
    /// Refused for now.
    Busy,
    /// Refused for good.
    Forbidden,
}

impl Flight {
    /// The same request, of which nobody waits for the reply.
    pub(crate) fn adrift(&self) -> Self {
        let Self { op, task, view, version, .. } = self;
        Self { op: op.clone(), task: task.clone(), view: view.clone(), version: *version, reply: None }
    }

    /// Whether its Sandbox is taken or deleted by it.
    pub(crate) fn ends_promise(&self) -> bool {
        let Op { key, reason, action } = &self.op;
        key.kind == Kind::Sandbox && (*reason == Reason::Claimed || matches!(action, Action::Delete { .. }))
    }

    pub(super) fn sent(op: Op, task: Key, view: Rc<View>, version: Option<u64>) -> Self {
        Self { op, task, view, version, reply: None }
    }
}

/// Does what an operation asks for, as the API server would, and answers as the shell would read the reply.
pub(crate) fn carry_out(api: &mut Api, op: &Op) -> Outcome {
    let id = Id::new(resource(op.key.kind), &op.key.namespace, &op.key.name);
    match &op.action {
        Action::Create { body } => match api.create(recorded(body)) {
            Ok(stored) => self::stored(op, &stored),
            Err(Refused::Exists) => Outcome::Exists,
            Err(Refused::Conflict) => Outcome::Conflict,
            Err(Refused::NotFound) => Outcome::Rejected { status: 404, message: "not found".to_owned() },
            Err(Refused::Invalid(message)) => Outcome::Rejected { status: 422, message },
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
                Err(Refused::Invalid(message)) => Outcome::Rejected { status: 422, message },
            }
        }
        Action::Delete { uid, resource_version, foreground } => {
            let options =
                Deletion { uid: Some(uid), resource_version: resource_version.as_deref(), foreground: *foreground };
            match api.delete(&id, options) {
                Ok(Done::Stored(object)) => self::stored(op, &object),
                Ok(Done::Removed) | Err(Refused::NotFound) => Outcome::Gone,
                Err(Refused::Conflict | Refused::Exists) if resource_version.is_some() => Outcome::Conflict,
                Err(Refused::Conflict | Refused::Exists) => Outcome::Gone,
                Err(Refused::Invalid(message)) => Outcome::Rejected { status: 422, message },
            }
        }
    }
}

/// As it is stored: with a record of who wrote it.
fn recorded(body: &Value) -> Value {
    let mut body = body.clone();
    body["metadata"]["managedFields"] = json!([{ "manager": FIELD_MANAGER, "operation": "Update" }]);
    body
}

fn stored(op: &Op, document: &Value) -> Outcome {
    Object::from_json(op.key.kind, document.clone())
        .map_or(Outcome::Unknown, |object| Outcome::Stored(Box::new(object)))
}
