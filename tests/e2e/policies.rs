//! The ValidatingAdmissionPolicies of the operator: those that are not in force are reported.

use std::collections::BTreeSet;

use paddock_cluster::{Options, eventually};

use super::http;
use super::operator::{self, Operator, Plan};
use super::setup::control_plane;
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![a_policy_that_is_not_in_force_is_reported_until_it_is_restored]
}

/// The policies that a replica reports, and those of them that are not in force.
async fn reported(operator: &Operator) -> (usize, BTreeSet<String>) {
    let metrics = operator.metrics().await;
    let series: Vec<&str> = metrics.lines().filter_map(|l| l.strip_prefix("paddock_guard_absent{policy=\"")).collect();
    let absent = series.iter().filter_map(|l| l.strip_suffix("\"} 1"));
    (series.len(), absent.map(str::to_owned).collect())
}

/// A binding that is deleted, one that only warns, and a policy that ignores its failures. Health does not depend on them.
async fn a_policy_that_is_not_in_force_is_reported_until_it_is_restored() {
    let (cluster, account) = control_plane(Options { nodes: 1, ..Options::default() }).await;
    let flags = operator::admitting(&cluster);
    let operator = Operator::start(&cluster, Plan { name: "operator", kubeconfig: &account, flags }).await;
    let kubectl = cluster.kubectl();
    let run = async |args: &[&str]| kubectl.run(args, None).await.expect("kubectl succeeds");
    // The policy of the gateway limits another account.
    let of_the_operator = "--selector=app.kubernetes.io/name!=sandbox-router";
    let generated = run(&["get", "validatingadmissionpolicies", of_the_operator, "-o", "name"]).await.lines().count();
    eventually("all are in force", async || reported(&operator).await == (generated, BTreeSet::new())).await;
    let verbose = async || http::get(operator.health, "/readyz?verbose").await.expect("an answer");
    assert!(!verbose().await.1.contains("ValidatingAdmissionPolicy"), "{:?}", verbose().await);

    let (pods, services) = ("agent-sandbox-controller-pods", "agent-sandbox-controller-services");
    run(&["delete", "validatingadmissionpolicybinding", "paddock-leases"]).await;
    let warn = r#"{"spec":{"validationActions":["Warn"]}}"#;
    run(&["patch", "validatingadmissionpolicybinding", pods, "--type=merge", "-p", warn]).await;
    let ignore = r#"{"spec":{"failurePolicy":"Ignore"}}"#;
    run(&["patch", "validatingadmissionpolicy", services, "--type=merge", "-p", ignore]).await;
    let changed: BTreeSet<String> = [pods, services, "paddock-leases"].map(str::to_owned).into();
    eventually("these are reported", async || reported(&operator).await == (generated, changed.clone())).await;
    let (status, text) = verbose().await;
    assert!(status == 200 && text.ends_with("ok\n"), "{text}");
    for line in [
        "paddock-leases has no ValidatingAdmissionPolicyBinding of its name".to_owned(),
        format!("{pods} has a binding that differs from this version's in validationActions"),
        format!("{services} differs from this version's in failurePolicy"),
    ] {
        assert!(text.lines().any(|l| l == format!("[-]ValidatingAdmissionPolicy {line}")), "{line}: {text}");
    }

    let (deny, fail) = (warn.replace("Warn", "Deny"), ignore.replace("Ignore", "Fail"));
    run(&["patch", "validatingadmissionpolicybinding", pods, "--type=merge", "-p", &deny]).await;
    run(&["patch", "validatingadmissionpolicy", services, "--type=merge", "-p", &fail]).await;
    operator::rights(&cluster).await;
    eventually("all are in force again", async || reported(&operator).await == (generated, BTreeSet::new())).await;
    assert!(!verbose().await.1.contains("ValidatingAdmissionPolicy"));
}
