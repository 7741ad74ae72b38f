//! Users who may write Pods and volume claims, and the policy that lets only an operator give them to a Sandbox.

use paddock_cluster::{Cluster, Options, eventually, eventually_some};
use serde_json::{Value, json};

use super::json::uid;
use super::kinds::{POD, SANDBOX, VOLUME_CLAIM};
use super::manifests::{disk, object, pod, sandbox};
use super::namespace::TestNamespace;
use super::operator::{ACCOUNT, NAMESPACE};
use super::programs;
use super::rights::Table;
use super::setup;
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![only_an_operator_makes_a_sandbox_the_controller_of_a_pod_or_a_volume_claim]
}

const REFUSED: Option<&str> = Some("only an operator of Sandboxes may make a Sandbox the controller");

fn reference(api_version: &str, kind: &str, name: &str, uid: &str, controller: bool) -> Value {
    json!({ "apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": controller })
}

fn owners(references: &[&Value]) -> Value {
    json!({ "metadata": { "ownerReferences": references } })
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
    let operator =
        ns.seen_by(&cluster.kubeconfig_for_service_account(NAMESPACE, ACCOUNT).await.expect("a token")).await;
    let user = user(&cluster, &ns).await;

    let made = ns.create(sandbox("s", json!({}))).await;
    let sandbox = |controller: bool| reference("agents.x-k8s.io/v1beta1", "Sandbox", "s", uid(&made), controller);
    let (owned, plain) = (sandbox(true), sandbox(false));
    let older = reference("agents.x-k8s.io/v1alpha1", "Sandbox", "s", uid(&made), true);
    let another = reference("agents.x-k8s.io/v1beta1", "Sandbox", "t", "another", true);
    let other_kind = reference("apps/v1", "ReplicaSet", "r", "r-1", true);
    let specs = [(POD, pod()["spec"].clone()), (VOLUME_CLAIM, disk("d", "1Gi")["spec"].clone())];
    let (mut users, mut operators) = (Table::default(), Table::default());
    for (kind, spec) in &specs {
        let named = |name: &str, references: &[&Value]| {
            let mut object = object(*kind, name, spec.clone());
            object["metadata"]["ownerReferences"] = json!(references);
            object
        };
        ns.create(named("free", &[])).await;
        ns.create(named("taken", &[&owned])).await;
        let here = ns.namespace.as_str();
        users.create("without an owner", here, (*kind, named("x", &[])), None);
        users.create("with another controller", here, (*kind, named("x", &[&other_kind])), None);
        users.create("owned and not controlled", here, (*kind, named("x", &[&plain])), None);
        users.create("controlled by a Sandbox", here, (*kind, named("x", &[&owned])), REFUSED);
        users.create("by its older version", here, (*kind, named("x", &[&older])), REFUSED);
        users.create("beside another owner", here, (*kind, named("x", &[&plain, &another])), REFUSED);
        users.patch("given to a Sandbox", &ns, (*kind, "free", owners(&[&owned])), REFUSED);
        users.patch("owned and not controlled", &ns, (*kind, "free", owners(&[&plain])), None);
        users.patch("a label", &ns, (*kind, "taken", json!({ "metadata": { "labels": { "a": "b" } } })), None);
        users.patch("taken away", &ns, (*kind, "taken", json!({ "metadata": { "ownerReferences": null } })), None);
        users.patch("the older version of the owner", &ns, (*kind, "taken", owners(&[&older])), None);
        operators.create("controlled by a Sandbox", here, (*kind, named("x", &[&owned])), None);
    }
    // API servers receive the policies through a watch of their own.
    let mut given = object(POD, "x", pod()["spec"].clone());
    given["metadata"]["ownerReferences"] = json!([owned]);
    eventually("the policy is in force", async || user.dry_run(&given).await.is_err()).await;
    users.check(&user).await;
    operators.check(&operator).await;
}

/// The namespace with the rights of a user who may edit it.
async fn user(cluster: &Cluster, ns: &TestNamespace) -> TestNamespace {
    let namespace = &ns.namespace;
    let rbac = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}");
    let resources = ["sandboxes", "pods", "persistentvolumeclaims"];
    let rules = json!([{ "apiGroups": ["", "agents.x-k8s.io"], "resources": resources, "verbs": ["*"] }]);
    let binding = json!({
        "metadata": { "name": "user" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "user" },
        "subjects": [{ "kind": "ServiceAccount", "name": "user", "namespace": namespace }],
    });
    for (path, object) in [
        (format!("/api/v1/namespaces/{namespace}/serviceaccounts"), json!({ "metadata": { "name": "user" } })),
        (format!("{rbac}/roles"), json!({ "metadata": { "name": "user" }, "rules": rules })),
        (format!("{rbac}/rolebindings"), binding),
    ] {
        ns.post(&path, &object).await.unwrap_or_else(|e| panic!("creating {object:#}: {e}"));
    }
    let user = ns.seen_by(&cluster.kubeconfig_for_service_account(namespace, "user").await.expect("a token")).await;
    // The API server's authorizer receives roles, and the policies, through a watch.
    let path = SANDBOX.path(namespace);
    eventually_some("the role of the user has an effect", async || user.read(&path).await).await;
    user
}
