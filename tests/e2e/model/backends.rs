//! Carries out one operation on the model and on the real API server.

use kube::client::Body;
use serde_json::{Value, json};

use super::operation::{Operation, Target};
use super::placeholders::Placeholders;
use crate::e2e::kinds::{Kind, POD};
use crate::e2e::namespace::TestNamespace;
use crate::sim::api::{Api, Deletion, Id, Part, Refused, Resource};

/// The answer to an operation and the object afterwards, which is null if it does not exist.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) code: u16,
    pub(super) reason: String,
    pub(super) message: String,
    /// The object in the answer to a creation or a patch.
    pub(super) answered: Value,
    pub(super) stored: Value,
}

const NODE: &str = "somewhere";

pub(super) fn id(target: &Target, namespace: &str) -> Id {
    Id::new(resource(target.0), namespace, &target.1)
}

pub(super) fn resource(kind: Kind) -> Resource {
    Resource::named(kind.0, kind.1).expect("the model knows it")
}

/// Carries out an operation on the model.
pub(super) fn on_model(api: &mut Api, namespace: &str, placeholders: &Placeholders, operation: &Operation) -> Reply {
    let target = operation.target();
    let id = id(&target, namespace);
    let done: Result<Value, Refused> = match operation {
        Operation::Create(document) => {
            let mut document = placeholders.translate(document);
            document["metadata"]["namespace"] = namespace.into();
            api.create(document).map(|o| Value::clone(&o))
        }
        Operation::Patch { status, patch, .. } => {
            let part = if *status { Part::Status } else { Part::Main };
            api.patch(&id, part, &placeholders.translate(patch)).map(|o| Value::clone(&o))
        }
        Operation::Delete { preconditions, foreground, .. } => {
            let preconditions = placeholders.translate(preconditions);
            let options = Deletion {
                uid: preconditions["uid"].as_str(),
                resource_version: preconditions["resourceVersion"].as_str(),
                foreground: *foreground,
            };
            api.delete(&id, options).map(|_| Value::Null)
        }
        Operation::Bind(_) => bind(api, &id),
        Operation::Finish(_) => {
            let there = api.get(&id).is_some();
            api.finish_deletion(&id);
            if there { Ok(Value::Null) } else { Err(Refused::NotFound) }
        }
    };
    let created = matches!(operation, Operation::Create(_) | Operation::Bind(_));
    let message = done.as_ref().err().map(ToString::to_string).unwrap_or_default();
    let (code, reason, answered) = match done {
        Ok(answered) => (if created { 201 } else { 200 }, "", answered),
        Err(Refused::NotFound) => (404, "NotFound", Value::Null),
        Err(Refused::Exists) => (409, "AlreadyExists", Value::Null),
        Err(Refused::Conflict) => (409, "Conflict", Value::Null),
        Err(Refused::Invalid(_)) => (422, "Invalid", Value::Null),
    };
    let stored = api.get(&id).map(|o| Value::clone(o)).unwrap_or_default();
    Reply { code, reason: reason.to_owned(), message, answered, stored }
}

/// Binds a pod that is not terminating and has no node, as the model's own scheduler does.
fn bind(api: &mut Api, id: &Id) -> Result<Value, Refused> {
    let pod = api.get(id).cloned().ok_or(Refused::NotFound)?;
    if pod["spec"]["nodeName"].is_string() || pod["metadata"]["deletionTimestamp"].is_string() {
        return Err(Refused::Conflict);
    }
    api.patch(id, Part::Whole, &json!({ "spec": { "nodeName": NODE } })).map(|_| Value::Null)
}

/// Carries out an operation on the real API server.
pub(super) async fn on_real(ns: &TestNamespace, placeholders: &Placeholders, operation: &Operation) -> Reply {
    let (kind, name) = operation.target();
    let collection = kind.path(&ns.namespace);
    let path = format!("{collection}/{name}");
    let merge = "application/merge-patch+json";
    let json = "application/json";
    let (method, uri, content, body) = match operation {
        Operation::Create(document) => (http::Method::POST, collection.clone(), json, placeholders.translate(document)),
        Operation::Patch { status, patch, .. } => {
            let uri = if *status { format!("{path}/status") } else { path.clone() };
            (http::Method::PATCH, uri, merge, placeholders.translate(patch))
        }
        Operation::Delete { preconditions, foreground, .. } => {
            let options = json!({
                "apiVersion": "v1", "kind": "DeleteOptions",
                "preconditions": placeholders.translate(preconditions),
                "propagationPolicy": if *foreground { "Foreground" } else { "Background" },
            });
            (http::Method::DELETE, path.clone(), json, options)
        }
        Operation::Bind(_) => {
            let binding = json!({
                "apiVersion": "v1", "kind": "Binding", "metadata": { "name": name },
                "target": { "apiVersion": "v1", "kind": "Node", "name": NODE },
            });
            (http::Method::POST, format!("{path}/binding"), json, binding)
        }
        Operation::Finish(_) => {
            let options = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0 });
            (http::Method::DELETE, path.clone(), json, options)
        }
    };
    debug_assert!(kind == POD || !matches!(operation, Operation::Bind(_) | Operation::Finish(_)));
    let request = http::Request::builder().method(method).uri(uri).header(http::header::CONTENT_TYPE, content);
    let request = request.body(Body::from(body.to_string().into_bytes())).expect("a request");
    let (code, body_of_reply) = exchange(ns, request).await;
    let reason = body_of_reply["reason"].as_str().filter(|_| code >= 400).unwrap_or_default().to_owned();
    let message = body_of_reply["message"].as_str().unwrap_or_default().to_owned();
    let answers = matches!(operation, Operation::Create(_) | Operation::Patch { .. }) && code < 400;
    let answered = if answers { body_of_reply } else { Value::Null };
    let look = http::Request::get(path).body(Body::empty()).expect("a request");
    let stored = match exchange(ns, look).await {
        (200, stored) => stored,
        (404, _) => Value::Null,
        (code, body_of_reply) => panic!("reading answered {code}: {body_of_reply}"),
    };
    Reply { code, reason, message, answered, stored }
}

async fn exchange(ns: &TestNamespace, request: http::Request<Body>) -> (u16, Value) {
    let reply = ns.client.send(request).await.expect("an answer");
    let (parts, body) = reply.into_parts();
    let body = body.collect_bytes().await.expect("a whole answer");
    (parts.status.as_u16(), serde_json::from_slice(&body).expect("JSON"))
}
