//! Users who may write Pods and volume claims, and the policy that lets only an operator give them to a Sandbox.

use paddock_cluster::{Cluster, Options, eventually, eventually_some};
use serde_json::{Value, json};

use super::json::uid;
use super::kinds::{Kind, POD, VOLUME_CLAIM};
use super::manifests::{disk, object, pod, sandbox};
use super::namespace::TestNamespace;
use super::operator::{self, ACCOUNT, NAMESPACE};
use super::programs;
use super::rights::Table;
use super::setup;
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![only_an_operator_makes_a_sandbox_the_controller_of_a_pod_or_a_volume_claim]
}

const REFUSED: Option<&str> = Some("only an operator of Sandboxes may make a Sandbox the controller");
const KEPT: Option<&str> = Some("only an operator of Sandboxes may take a Pod or a PersistentVolumeClaim away");
const BOUND: Option<&str> = Some("only an operator of Sandboxes may add an owner to a Pod or a PersistentVolumeClaim");

fn reference(api_version: &str, kind: &str, name: &str, uid: &str, controller: bool) -> Value {
    json!({ "apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": controller })
}

/// An object of a kind and a spec with these owners.
fn owned((kind, spec): &(Kind, Value), name: &str, owners: Value) -> Value {
    let mut object = object(*kind, name, spec.clone());
    object["metadata"]["ownerReferences"] = owners;
    object
}

async fn only_an_operator_makes_a_sandbox_the_controller_of_a_pod_or_a_volume_claim() {
    programs::paddock().await;
    let cluster = Cluster::start(Options { nodes: 1, ..Options::default() }).await.expect("a control plane");
    setup::install(&cluster).await;
    for file in ["namespace", "rbac", "owners"] {
        let file = format!("{}/base/{file}.yaml", root!("deploy"));
        cluster.kubectl().run(&["apply", "--server-side", "-f", &file], None).await.expect("the manifest is applied");
    }
    let ns = TestNamespace::new(&cluster, "owners").await;
    let account = cluster.kubeconfig_for_service_account(NAMESPACE, ACCOUNT).await.expect("a token");
    let operator = operator::granted(&ns, &account).await;
    // `kubectl delete sandbox --cascade=orphan` works.
    let account = eventually_some("the garbage collector has its account", async || {
        cluster.kubeconfig_for_service_account("kube-system", "generic-garbage-collector").await
    })
    .await;
    let garbage_collector = ns.seen_by(&account).await;
    let user = ns.seen_by_new_user(&cluster, &["sandboxes", "pods", "persistentvolumeclaims"]).await;

    let made = ns.create(sandbox("s", json!({}))).await;
    let sandbox = |controller: bool| reference("agents.x-k8s.io/v1beta1", "Sandbox", "s", uid(&made), controller);
    let (controlling, plain) = (sandbox(true), sandbox(false));
    let older = reference("agents.x-k8s.io/v1alpha1", "Sandbox", "s", uid(&made), true);
    let unknown = reference("agents.x-k8s.io/v9", "Sandbox", "s", uid(&made), true);
    let another = reference("agents.x-k8s.io/v1beta1", "Sandbox", "t", "another", true);
    let other_kind = reference("apps/v1", "ReplicaSet", "r", "r-1", true);
    let keeper = reference("v1", "ConfigMap", "keeper", "k-1", false);
    let children = [(POD, pod()["spec"].clone()), (VOLUME_CLAIM, disk("d", "1Gi")["spec"].clone())];
    let (mut users, mut operators, mut collector) = (Table::default(), Table::default(), Table::default());
    let here = ns.namespace.as_str();
    for child in &children {
        let kind = child.0;
        ns.create(owned(child, "free", json!([]))).await;
        ns.create(owned(child, "taken", json!([controlling]))).await;
        ns.create(owned(child, "kept", json!([controlling, keeper]))).await;
        for (what, owners, refused) in [
            ("without an owner", json!([]), None),
            ("with another controller", json!([other_kind]), None),
            ("owned and not controlled", json!([plain]), None),
            ("controlled by a Sandbox", json!([controlling]), REFUSED),
            ("controlled by the older version of a Sandbox", json!([older]), REFUSED),
            ("controlled beside another owner", json!([plain, another]), REFUSED),
        ] {
            users.create(what, here, (kind, owned(child, "x", owners)), refused);
        }
        let owners = |owners: Value| json!({ "metadata": { "ownerReferences": owners } });
        for (what, name, change, refused) in [
            ("given to a Sandbox", "free", owners(json!([controlling])), REFUSED),
            ("given an owner that does not control it", "free", owners(json!([plain])), None),
            ("a label", "taken", json!({ "metadata": { "labels": { "a": "b" } } }), None),
            ("taken away", "taken", owners(Value::Null), KEPT),
            ("owned and not controlled any more", "taken", owners(json!([plain])), KEPT),
            // The garbage collector keeps the object while the other owner exists.
            ("another owner beside the Sandbox", "taken", owners(json!([controlling, keeper])), BOUND),
            // The garbage collector does not find the owner of a version that is not served, and tries for ever.
            ("an unknown version of the owner", "taken", owners(json!([unknown])), BOUND),
            ("the older version of the owner", "taken", owners(json!([older])), BOUND),
            ("the other owner taken away", "kept", owners(json!([{ "$patch": "delete", "uid": "k-1" }])), None),
            ("another owner of a free object", "free", owners(json!([keeper])), None),
        ] {
            users.patch(what, &ns, (kind, name, change), refused);
        }
        operators.create("controlled by a Sandbox", here, (kind, owned(child, "x", json!([controlling]))), None);
        operators.patch("another owner", &ns, (kind, "taken", owners(json!([controlling, keeper]))), None);
        collector.patch("orphaned", &ns, (kind, "taken", owners(Value::Null)), None);
    }
    // API servers receive the policies through a watch of their own.
    let given = owned(&children[0], "x", json!([controlling]));
    eventually("the policy is in force", async || user.dry_run(&given).await.is_err()).await;
    users.check(&user).await;
    operators.check(&operator).await;
    collector.check(&garbage_collector).await;
}
