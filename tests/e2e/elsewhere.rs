//! Leases of the operator's names in other namespaces: a leader does not act while somebody holds one.

use std::path::Path;

use kube::api::{Patch, PatchParams};
use paddock_cluster::{Options, Signal, eventually};
use serde_json::{Value, json};

use super::faults::short_lease;
use super::json::ready;
use super::kinds::{Kind, SANDBOX};
use super::manifests::sandbox;
use super::namespace::TestNamespace;
use super::operator::{NAMESPACE, Operator, Plan};
use super::setup::{self, control_plane};
use super::{http, programs};
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        a_foreign_lease_in_another_namespace_stops_the_leader_until_it_expires,
        outside_a_pod_the_namespace_of_the_leases_is_required,
        only_who_may_run_an_operator_may_hold_its_lease,
    ]
}

const LEASE: Kind = Kind("coordination.k8s.io/v1", "Lease", "leases");
const UPSTREAM: &str = "a3317529.agent-sandbox.x-k8s.io";

fn lease(name: &str, holder: &str, seconds: u32) -> Value {
    json!({
        "apiVersion": LEASE.0, "kind": LEASE.1, "metadata": { "name": name },
        // The clock of the holder is years behind.
        "spec": { "holderIdentity": holder, "leaseDurationSeconds": seconds, "renewTime": "2001-01-01T00:00:00.000000Z" },
    })
}

async fn has(operator: &Operator, line: &str) -> bool {
    operator.metrics().await.lines().any(|l| l == line)
}

async fn leads(operator: &Operator) -> bool {
    has(operator, "paddock_leader 1").await
}

async fn blocked(operator: &Operator) -> bool {
    has(operator, r#"paddock_leadership_blocked{cause="held-elsewhere"} 1"#).await && !leads(operator).await
}

async fn verbose(operator: &Operator) -> String {
    http::get(operator.health, "/readyz?verbose").await.expect("an answer").1
}

async fn a_foreign_lease_in_another_namespace_stops_the_leader_until_it_expires() {
    let (cluster, account) = control_plane(Options { nodes: 1, ..Options::default() }).await;
    let start = async |name: &'static str, kubeconfig: &Path, more: &[String]| {
        let flags =
            short_lease().into_iter().chain(["--webhook-bind-address=0".to_owned()]).chain(more.to_vec()).collect();
        Operator::start(&cluster, Plan { name, kubeconfig, flags }).await
    };
    let first = start("first", account.as_path(), &[]).await;
    eventually("it leads", async || leads(&first).await).await;
    let ns = TestNamespace::new(&cluster, "agents").await;
    let other = TestNamespace::new(&cluster, "other").await;
    let own = TestNamespace::existing(&cluster, NAMESPACE);
    ns.create(sandbox("before", json!({}))).await;
    ns.until(SANDBOX, "before", "Ready", ready).await;

    // Each of the names stops it. It releases its own Leases, says why, and acts again once the Lease has expired.
    for name in [UPSTREAM, "paddock-operator"] {
        other.post(&LEASE.path(&other.namespace), &lease(name, "stranger_1", 300)).await.expect("a lease");
        eventually("it stops leading", async || blocked(&first).await).await;
        let told = verbose(&first).await;
        let wanted = format!("[-]leadership: \"stranger_1\" holds Lease {name} in namespace {};", other.namespace);
        assert!(told.contains(&wanted) && told.ends_with("ok\n"), "{told}");
        ns.create(sandbox(&format!("waits-{}", name.len()), json!({}))).await;
        assert!(!leads(&first).await, "it acts before the Lease has expired");
        // The Lease is long, so that it cannot expire during these checks.
        other.merge(LEASE, name, json!({ "spec": { "leaseDurationSeconds": 1 } })).await;
        eventually("it leads again", async || leads(&first).await).await;
        ns.until(SANDBOX, &format!("waits-{}", name.len()), "Ready", ready).await;
        assert!(!verbose(&first).await.contains("leadership"));
        other.delete(LEASE, name).await;
    }

    // An operator of a user, with the user's rights and Leases of another namespace, waits for the first one.
    let elsewhere = [format!("--leader-election-namespace={}", other.namespace)];
    let users = cluster.kubeconfig();
    let laptop = start("laptop", users.as_path(), &elsewhere).await;
    eventually("it sees who leads", async || blocked(&laptop).await).await;
    assert!(leads(&first).await, "an operator that starts later does not disturb the leader");
    assert!(other.find(LEASE, "paddock-operator").await.is_none_or(|l| l["spec"]["holderIdentity"] == ""));
    first.process.signal(Signal::Terminate).await.expect("it was alive");
    eventually("the other one leads", async || leads(&laptop).await).await;
    // The deployed operator comes back and waits in turn.
    let second = start("second", account.as_path(), &[]).await;
    eventually("it sees who leads", async || blocked(&second).await).await;
    assert!(leads(&laptop).await);
    // An operator without an election takes no Lease, and waits for whoever has one.
    let alone = start("alone", account.as_path(), &["--leader-elect=false".to_owned()]).await;
    eventually("it sees who leads", async || blocked(&alone).await).await;
    assert!(leads(&laptop).await);
    laptop.process.kill().await.expect("it was alive");
    second.process.kill().await.expect("it was alive");
    eventually("it acts after the Lease has expired", async || leads(&alone).await).await;
    ns.create(sandbox("alone", json!({}))).await;
    ns.until(SANDBOX, "alone", "Ready", ready).await;
    assert_eq!(own.get(LEASE, "paddock-operator").await["spec"]["holderIdentity"], "");
}

/// A user who may edit a namespace could otherwise stop the operator for the whole cluster.
async fn only_who_may_run_an_operator_may_hold_its_lease() {
    let (cluster, account) = control_plane(Options { nodes: 1, ..Options::default() }).await;
    let ns = TestNamespace::new(&cluster, "tenant").await;
    let edit = ["-n", &ns.namespace, "create", "rolebinding", "edit", "--clusterrole=edit", "--user=tenant"];
    cluster.kubectl().run(&edit, None).await.expect("a user with the role edit");
    let tenant = ns.seen_by(&cluster.kubeconfig_for_user("tenant", &[]).expect("a kubeconfig")).await;
    // API servers learn a policy through a watch.
    for name in [UPSTREAM, "paddock-operator"] {
        eventually("a tenant may not create it", async || {
            match tenant.post(&LEASE.path(&ns.namespace), &lease(name, "stranger", 10)).await {
                Ok(_) => {
                    ns.delete(LEASE, name).await;
                    false
                }
                Err(error) => {
                    let told = error.to_string();
                    assert!(told.contains("only an operator of Sandboxes may hold this Lease"), "{told}");
                    true
                }
            }
        })
        .await;
        // Nor take one that an operator left behind.
        ns.post(&LEASE.path(&ns.namespace), &lease(name, "", 1)).await.expect("an administrator may");
        let taken = Patch::Merge(json!({ "spec": { "holderIdentity": "stranger" } }));
        let taken = tenant.api(LEASE).patch(name, &PatchParams::default(), &taken).await;
        taken.expect_err("a tenant may not take it");
        ns.delete(LEASE, name).await;
    }
    tenant.post(&LEASE.path(&ns.namespace), &lease("some-controller", "c", 10)).await.expect("other Leases are theirs");
    let flags = vec!["--webhook-bind-address=0".to_owned()];
    let operator = Operator::start(&cluster, Plan { name: "operator", kubeconfig: &account, flags }).await;
    eventually("the operator takes its own", async || leads(&operator).await).await;
}

/// The process ends at once, and says which flag is missing and what to name.
async fn outside_a_pod_the_namespace_of_the_leases_is_required() {
    let paddock = programs::paddock().await;
    let kubeconfig = setup::setup().await.cluster.kubeconfig();
    let output = std::process::Command::new(paddock)
        .args(["operator", "--kubeconfig"])
        .arg(kubeconfig)
        .args(["--metrics-bind-address=0", "--health-probe-bind-address=0", "--debug-bind-address=0"])
        .output()
        .expect("paddock");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    for part in [
        "--leader-election-namespace is required",
        "agent-sandbox-system",
        "only in a cluster without another operator",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}
