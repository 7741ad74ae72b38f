//! Turns an operation into an HTTP request: path, verb, preconditions.

use kube::Resource;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::client::Body;
use kube::core::Request;
use kube::core::request::Error;
use paddock_api::kind::Key;
use paddock_api::names::FIELD_MANAGER;
use paddock_core::plan::{Action, Op};
use paddock_kube::watch::resource;
use serde_json::{Value, json};

/// The request that executes an operation.
///
/// # Errors
/// If the names of the key do not fit into a URL. The API server's rules for names exclude that.
pub(super) fn request(op: &Op) -> Result<http::Request<Body>, Error> {
    let (name, field_manager) = (&*op.key.name, Some(FIELD_MANAGER.to_owned()));
    let collection = collection(&op.key);
    let request = match &op.action {
        Action::Create { body } => {
            let params = PostParams { field_manager, ..PostParams::default() };
            collection.create(&params, body.to_string().into_bytes())
        }
        Action::Patch { uid, resource_version, status, body } => {
            let params = PatchParams { field_manager, ..PatchParams::default() };
            let patch = Patch::Merge(with_preconditions(body.clone(), uid, resource_version.as_deref()));
            if *status {
                collection.patch_subresource("status", name, &params, &patch)
            } else {
                collection.patch(name, &params, &patch)
            }
        }
        Action::Resize { uid, resource_version, body } => {
            let params = PatchParams { field_manager, ..PatchParams::default() };
            // A strategic merge patch finds each container by its name, and keeps the resources that it does not name.
            let patch = Patch::Strategic(with_preconditions(body.clone(), uid, Some(resource_version)));
            collection.patch_subresource("resize", name, &params, &patch)
        }
        Action::Adopt { uid, resource_version, body, .. } => {
            let params = PatchParams { field_manager, ..PatchParams::default() };
            let patch = with_preconditions(body.clone(), uid, Some(resource_version));
            collection.patch(name, &params, &Patch::Merge(patch))
        }
        Action::Deliver { uid, data: _, body } => {
            let params = PatchParams { field_manager, ..PatchParams::default() };
            collection.patch(name, &params, &Patch::Merge(with_preconditions(body.clone(), uid, None)))
        }
        Action::Delete { uid, resource_version, foreground } => {
            let policy = if *foreground { PropagationPolicy::Foreground } else { PropagationPolicy::Background };
            let preconditions = Preconditions { uid: Some(uid.clone()), resource_version: resource_version.clone() };
            let params = DeleteParams {
                propagation_policy: Some(policy),
                preconditions: Some(preconditions),
                ..DeleteParams::default()
            };
            collection.delete(name, &params)
        }
    };
    request.map(|request| request.map(Body::from))
}

/// Makes the requests for the collection that the object belongs to.
pub(super) fn collection(key: &Key) -> Request {
    let namespace = key.kind.namespaced().then_some(&*key.namespace);
    Request::new(DynamicObject::url_path(&resource(key.kind), namespace))
}

/// Adds the preconditions to a patch. The API server answers 409 if `metadata.uid` or `metadata.resourceVersion` in the
/// patch differ from the stored object. For the status of a custom resource, it checks only the version.
fn with_preconditions(mut patch: Value, uid: &str, resource_version: Option<&str>) -> Value {
    if !patch["metadata"].is_object() {
        patch["metadata"] = json!({});
    }
    patch["metadata"]["uid"] = uid.into();
    if let Some(version) = resource_version {
        patch["metadata"]["resourceVersion"] = version.into();
    }
    patch
}

#[cfg(test)]
mod tests {
    use http::Method;
    use paddock_api::kind::Kind;
    use paddock_core::plan::Reason;

    use super::*;

    fn op(kind: Kind, namespace: &str, name: &str, action: Action) -> Op {
        Op { key: Key::new(kind, namespace, name), reason: Reason::Claimed, action }
    }

    #[tokio::test]
    async fn a_patch_carries_its_preconditions_in_metadata() {
        let action = Action::Patch {
            uid: "u1".into(),
            resource_version: Some("7".into()),
            status: false,
            body: json!({ "metadata": { "labels": { "a": null } } }),
        };
        let request = request(&op(Kind::Sandbox, "ns", "s", action)).unwrap();
        assert_eq!(request.method(), Method::PATCH);
        assert_eq!(request.uri(), "/apis/agents.x-k8s.io/v1beta1/namespaces/ns/sandboxes/s?&fieldManager=paddock");
        let body: Value = serde_json::from_slice(&request.into_body().collect_bytes().await.unwrap()).unwrap();
        assert_eq!(body, json!({ "metadata": { "labels": { "a": null }, "uid": "u1", "resourceVersion": "7" } }));
    }

    #[tokio::test]
    async fn a_status_patch_goes_to_the_subresource_with_the_uid_alone() {
        let action =
            Action::Patch { uid: "u1".into(), resource_version: None, status: true, body: json!({ "status": {} }) };
        let request = request(&op(Kind::SeedClaim, "ns", "c", action)).unwrap();
        assert_eq!(
            request.uri(),
            "/apis/agents.x-k8s.io/v1alpha1/namespaces/ns/sandboxclaims/c/status?&fieldManager=paddock"
        );
        let body: Value = serde_json::from_slice(&request.into_body().collect_bytes().await.unwrap()).unwrap();
        assert_eq!(body, json!({ "status": {}, "metadata": { "uid": "u1" } }));
    }

    #[tokio::test]
    async fn a_resize_is_a_strategic_patch_of_the_subresource_with_its_preconditions() {
        let body = json!({ "spec": { "containers": [{ "name": "c", "resources": { "limits": { "cpu": "10m" } } }] } });
        let action = Action::Resize { uid: "u1".into(), resource_version: "7".into(), body: body.clone() };
        let request = request(&op(Kind::Pod, "ns", "p", action)).unwrap();
        assert_eq!(request.uri(), "/api/v1/namespaces/ns/pods/p/resize?&fieldManager=paddock");
        assert_eq!(request.headers()["content-type"], "application/strategic-merge-patch+json");
        let sent: Value = serde_json::from_slice(&request.into_body().collect_bytes().await.unwrap()).unwrap();
        assert_eq!(sent, json!({ "spec": body["spec"], "metadata": { "uid": "u1", "resourceVersion": "7" } }));
    }

    #[tokio::test]
    async fn a_delete_names_the_uid_and_the_version_where_it_matters() {
        for (resource_version, preconditions) in
            [(None, json!({ "uid": "u1" })), (Some("7"), json!({ "uid": "u1", "resourceVersion": "7" }))]
        {
            let resource_version = resource_version.map(str::to_owned);
            let action = Action::Delete { uid: "u1".into(), resource_version, foreground: false };
            let request = request(&op(Kind::Pod, "ns", "p", action)).unwrap();
            assert_eq!((request.method(), request.uri().path()), (&Method::DELETE, "/api/v1/namespaces/ns/pods/p"));
            let body: Value = serde_json::from_slice(&request.into_body().collect_bytes().await.unwrap()).unwrap();
            assert_eq!(body["preconditions"], preconditions);
        }
    }

    #[test]
    fn a_create_goes_to_the_collection() {
        let request = request(&op(Kind::Pod, "ns", "p", Action::Create { body: json!({}) })).unwrap();
        assert_eq!((request.method(), request.uri().path()), (&Method::POST, "/api/v1/namespaces/ns/pods"));
    }
}
