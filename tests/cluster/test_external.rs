//! The user's cluster: the clusters that are refused, and the objects that are left there. One of our own clusters acts
//! as the user's.

use kube::api::DynamicObject;
use paddock_cluster::{AnyCluster, Cluster, Error, Options, Target, eventually};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn clean_up_of_an_external_cluster_removes_only_created_objects() {
    let theirs = Cluster::start(Options { nodes: 1, ..Options::default() }).await.unwrap();
    theirs.kubectl().run(&["create", "configmap", "precious"], None).await.unwrap();
    let target = Target { kubeconfig: Some(theirs.kubeconfig()), context: Some("paddock".to_owned()), yes: true };
    let mut cluster = target.open(Options::default()).await.unwrap();
    assert!(matches!(cluster, AnyCluster::External(..)));
    assert_eq!(cluster.server_url().trim_end_matches('/'), theirs.server_url());

    cluster.create(&map("ours")).await.unwrap();
    cluster.create(&map("replaced")).await.unwrap();
    cluster.create(&object(sandbox_crd())).await.unwrap();
    assert!(cluster.create(&map("precious")).await.is_err(), "what exists is not ours to make");
    for verb in ["delete", "create"] {
        cluster.kubectl().run(&[verb, "configmap", "replaced"], None).await.unwrap();
    }

    // With the CRD on the cluster, the next user of it is refused.
    let Err(Error::Refused(why)) = target.open(Options::default()).await else { panic!("was let in") };
    assert!(why.contains("sandboxes.agents.x-k8s.io"), "{why}");

    let failed = cluster.clean_up().await;
    assert!(failed.is_empty(), "{failed:?}");
    let names = async || theirs.kubectl().run(&["get", "configmap,crd", "-o", "name"], None).await.unwrap();
    eventually("the CRD is gone", async || !names().await.contains("sandboxes")).await;
    let left = names().await;
    assert!(left.contains("precious") && left.contains("replaced") && !left.contains("ours"), "{left}");
}

#[tokio::test]
async fn missing_context_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config");
    std::fs::write(&file, "apiVersion: v1\nkind: Config\n").unwrap();
    let target = Target { kubeconfig: Some(file), context: Some("prod".to_owned()), yes: true };
    let Err(error) = target.open(Options::default()).await else { panic!("there is no such context") };
    assert!(matches!(error, Error::UnknownContext { .. }), "{error}");
    assert!(std::error::Error::source(&error).is_none(), "its cause is in its text: {error}");
}

fn object(value: Value) -> DynamicObject {
    serde_json::from_value(value).unwrap()
}

fn map(name: &str) -> DynamicObject {
    object(json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name } }))
}

fn sandbox_crd() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "sandboxes.agents.x-k8s.io",
            // The API server refuses groups under k8s.io without an approval.
            "annotations": { "api-approved.kubernetes.io": "unapproved, a test" } },
        "spec": {
            "group": "agents.x-k8s.io", "scope": "Namespaced",
            "names": { "kind": "Sandbox", "plural": "sandboxes" },
            "versions": [{ "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object" } } }],
        },
    })
}
