//! The ValidatingAdmissionPolicies of the operator and of the gateway: those that are not in force are reported.

use std::collections::BTreeSet;

use paddock_cluster::{Options, eventually, eventually_some, grant};

use super::gateway::Gateway;
use super::namespace::TestNamespace;
use super::operator::{self, Operator, Plan};
use super::setup::control_plane;
use super::{http, programs};
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        a_policy_that_is_not_in_force_is_reported_until_it_is_restored,
        a_gateway_whose_policy_is_not_in_force_reports_it_and_serves,
    ]
}

/// The policies that a replica reports, and those of them that are not in force.
async fn reported(operator: &Operator) -> (usize, BTreeSet<String>) {
    series(&operator.metrics().await, "paddock_guard_absent")
}

/// The policies that a metric is about, and those of them for which it is 1.
fn series(metrics: &str, family: &str) -> (usize, BTreeSet<String>) {
    let begin = format!("{family}{{policy=\"");
    let series: Vec<&str> = metrics.lines().filter_map(|l| l.strip_prefix(&begin)).collect();
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

/// A policy that is deleted, a binding that only warns, and a policy that names another user. A namespace has one policy, so
/// each is that of another gateway: one for all namespaces, and two for single namespaces. A fourth one has no policy,
/// because its user is no ServiceAccount.
async fn a_gateway_whose_policy_is_not_in_force_reports_it_and_serves() {
    const ACCOUNT: &str = "sandbox-router";
    const POLICY: &str = "sandbox-router-sandboxes";
    let (cluster, _) = control_plane(Options { nodes: 1, ..Options::default() }).await;
    let kubectl = cluster.kubectl();
    let run = async |args: &[&str]| kubectl.run(args, None).await.expect("kubectl succeeds");
    let install = async || {
        operator::rights(&cluster).await;
        for team in ["warns", "moved"] {
            let [own, served] = ["--namespace", "--served-namespace"].map(|flag| format!("{flag}={team}"));
            let flags = ["--webhook=off", &own, &served];
            grant(&kubectl, &programs::paddock().await, &flags).await.expect("the manifests are applied");
        }
    };
    install().await;
    let start = async |name: &str, namespace: &str, flags: &[&str]| {
        let account = cluster.kubeconfig_for_service_account(namespace, ACCOUNT).await.expect("a token");
        Gateway::start_on(&cluster, name, &account, flags).await
    };
    let admin = Gateway::start_on(&cluster, "gateway-of-an-administrator", &cluster.kubeconfig(), &[]).await;
    let user = "[-]admission policies: they apply to the ServiceAccount of the gateway, and this gateway is the user ";
    let all = [
        (POLICY.to_owned(), start("gateway", operator::NAMESPACE, &[]).await, "does not exist"),
        (
            format!("{POLICY}.warns"),
            start("gateway-warns", "warns", &["--namespace=warns"]).await,
            "has a binding that differs from this version's in validationActions",
        ),
        (
            format!("{POLICY}.moved"),
            start("gateway-moved", "moved", &["--namespace=moved"]).await,
            "does not name the gateway's user system:serviceaccount:moved:sandbox-router",
        ),
    ];
    let absent = async |gateway: &Gateway| series(&gateway.metrics().await, "paddock_gateway_guard_absent");
    let are = async |what: &str, in_force: bool| {
        for (policy, gateway, fault) in &all {
            let faults: BTreeSet<String> = (!in_force).then(|| policy.clone()).into_iter().collect();
            let page = if in_force {
                "ok\n".to_owned()
            } else {
                format!("[-]ValidatingAdmissionPolicy {policy} {fault}\nok\n")
            };
            eventually_some(what, async || match (absent(gateway).await, gateway.verbose().await) {
                (counted, shown) if counted == (1, faults.clone()) && shown == (200, page.clone()) => Ok(()),
                other => Err(format!("{policy}: {other:?}\n{}", gateway.log())),
            })
            .await;
        }
    };
    are("the policies are in force", true).await;

    let (warns, moved) = (all[1].0.as_str(), all[2].0.as_str());
    let actions = |action: &str| format!(r#"{{"spec":{{"validationActions":["{action}"]}}}}"#);
    let of_user = |namespace: &str| {
        let user = format!("request.userInfo.username == \"system:serviceaccount:{namespace}:{ACCOUNT}\"");
        serde_json::json!({ "spec": { "matchConditions": [{ "name": "the-gateway", "expression": user }] } })
            .to_string()
    };
    let patch =
        async |kind: &str, name: &str, patch: &str| run(&["patch", kind, name, "--type=merge", "-p", patch]).await;
    run(&["delete", "validatingadmissionpolicy", POLICY]).await;
    patch("validatingadmissionpolicybinding", warns, &actions("Warn")).await;
    patch("validatingadmissionpolicy", moved, &of_user("elsewhere")).await;
    are("the policies are reported", false).await;
    let ns = TestNamespace::existing(&cluster, "warns");
    for (policy, gateway, _) in &all {
        let (head, body) = gateway.get(&ns, "box", 8888, "").await;
        assert!(
            head.starts_with("http/1.1 401"),
            "{policy}: a client without a credential is answered: {head}\n{body}"
        );
        assert!(gateway.log().contains("apply the admission policies of this version"), "{policy}: {}", gateway.log());
    }
    assert_eq!(absent(&admin).await, (1, BTreeSet::from([POLICY.to_owned()])), "no policy limits it");
    let (status, shown) = admin.verbose().await;
    assert!(status == 200 && shown.starts_with(user) && shown.lines().count() == 2, "{shown}");
    let log = admin.log();
    assert_eq!(log.matches("the gateway does not run as a ServiceAccount").count(), 1, "{log}");

    patch("validatingadmissionpolicybinding", warns, &actions("Deny")).await;
    patch("validatingadmissionpolicy", moved, &of_user("moved")).await;
    install().await;
    are("the policies are in force again", true).await;
}
