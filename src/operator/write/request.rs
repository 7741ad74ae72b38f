//! Turns an operation into an HTTP request: path, verb, preconditions.

use http::{Method, Request};
use kube::client::Body;
use paddock_api::kind::{Key, Kind};
use paddock_api::names::FIELD_MANAGER;
use paddock_core::plan::{Action, Op};
use serde_json::{Value, json};

/// The path of a kind's collection, in one namespace or in all.
#[must_use]
pub(super) fn collection(kind: Kind, namespace: Option<&str>) -> String {
    let root = match kind.group() {
        "" => format!("/api/{}", kind.version()),
        group => format!("/apis/{group}/{}", kind.version()),
    };
    match namespace {
        Some(namespace) if kind.namespaced() => format!("{root}/namespaces/{namespace}/{}", kind.plural()),
        Some(_) | None => format!("{root}/{}", kind.plural()),
    }
}

/// The path of one object.
#[must_use]
pub(super) fn path(key: &Key) -> String {
    format!("{}/{}", collection(key.kind, Some(&key.namespace)), key.name)
}

/// The request that executes an operation.
///
/// # Errors
/// If the names of the key do not fit into a URL. The API server's rules for names exclude that.
pub(super) fn request(op: &Op) -> Result<Request<Body>, http::Error> {
    let (method, uri, content_type, body) = match &op.action {
        Action::Create { body } => (
            Method::POST,
            format!("{}?fieldManager={FIELD_MANAGER}", collection(op.key.kind, Some(&op.key.namespace))),
            "application/json",
            body.clone(),
        ),
        Action::Patch { uid, resource_version, status, body } => (
            Method::PATCH,
            format!("{}{}?fieldManager={FIELD_MANAGER}", path(&op.key), if *status { "/status" } else { "" }),
            "application/merge-patch+json",
            with_preconditions(body.clone(), uid, resource_version.as_deref()),
        ),
        Action::Delete { uid, resource_version, foreground } => (
            Method::DELETE,
            path(&op.key),
            "application/json",
            delete_options(uid, resource_version.as_deref(), *foreground),
        ),
    };
    Request::builder()
        .method(method)
        .uri(uri)
        .header(http::header::CONTENT_TYPE, content_type)
        .header(http::header::ACCEPT, "application/json")
        .body(Body::from(body.to_string().into_bytes()))
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

fn delete_options(uid: &str, resource_version: Option<&str>, foreground: bool) -> Value {
    let mut preconditions = json!({ "uid": uid });
    if let Some(version) = resource_version {
        preconditions["resourceVersion"] = version.into();
    }
    json!({
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "preconditions": preconditions,
        "propagationPolicy": if foreground { "Foreground" } else { "Background" },
    })
}

#[cfg(test)]
mod tests {
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
        assert_eq!(request.uri(), "/apis/agents.x-k8s.io/v1beta1/namespaces/ns/sandboxes/s?fieldManager=paddock");
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
            "/apis/agents.x-k8s.io/v1alpha1/namespaces/ns/sandboxclaims/c/status?fieldManager=paddock"
        );
        let body: Value = serde_json::from_slice(&request.into_body().collect_bytes().await.unwrap()).unwrap();
        assert_eq!(body, json!({ "status": {}, "metadata": { "uid": "u1" } }));
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
