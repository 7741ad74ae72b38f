//! `paddock audit`: its exit codes, and a cluster with Pods that are older than the webhook.

use std::path::Path;
use std::process::Output;

use paddock_cluster::Options;
use serde_json::{Value, json};
use tokio::process::Command;

use super::json::text;
use super::kinds::POD;
use super::manifests::{merge, object, pod, sandbox};
use super::namespace::TestNamespace;
use super::operator::{self, Operator, Plan};
use super::programs::{paddock, run_with_input, shown};
use super::setup::control_plane;
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![exit_code_says_whether_there_are_findings, pod_from_before_the_webhook_is_found,]
}

const MARKER: &str = "policy.paddock.dev/generated-code";

/// Runs the audit. The variable KUBECONFIG names no file.
pub(super) async fn audit(args: &[&str], input: &str) -> Output {
    let mut command = Command::new(paddock().await);
    command.arg("audit").args(args).env("KUBECONFIG", "/nowhere/config");
    run_with_input(&mut command, input).await
}

async fn exit_code_says_whether_there_are_findings() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("a file");
        path.display().to_string()
    };
    let class = "---\napiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: gvisor}\nhandler: runsc\n";
    let pod = |fields: &str| {
        format!(
            "{class}---\n# A comment.\napiVersion: v1\nkind: Pod\nmetadata:\n  name: worker\n  labels: {{{MARKER}: \"true\"}}\n\
             spec: {{runtimeClassName: gvisor, containers: [{{name: main, image: busybox}}], {fields}}}\n"
        )
    };
    let quiet = "automountServiceAccountToken: false";
    let clean = file("clean.yaml", &pod(quiet));
    let warning = file("warning.yaml", &pod("automountServiceAccountToken: true"));
    let error = file("error.yaml", &pod(&format!("{quiet}, hostPID: true")));
    let wrong = file("wrong.yaml", &format!("{class}---\na: [\n"));
    let missing = folder.path().join("missing.yaml").display().to_string();
    let paths = [clean.as_str(), warning.as_str(), error.as_str(), wrong.as_str(), missing.as_str()];
    let [clean, warning, error, wrong, missing] = paths;
    for (args, code, part) in [
        (&[clean][..], 0, "1 workload, 0 errors, 0 warnings"),
        (&[clean, "--fail-on=warning"], 0, "0 errors"),
        (&[warning], 0, "1 warning"),
        (&[warning, "--fail-on=warning"], 1, "service-account-token"),
        (&[error], 1, "error.yaml:8)"),
        (&[error, "--fail-on=never"], 0, "spec.hostPID: must be false or absent"),
        (&[error, "--isolation-allow=hostPID"], 0, "0 errors"),
        (&[clean, "--isolated-handler=kata"], 1, "runtime-class"),
        (&[clean, "--isolation-allow=everything"], 2, "must be one of hostPath"),
        (&[error, "--namespace=other", "-o", "json"], 1, "\"namespace\": \"other\""),
        (&[wrong], 2, "wrong.yaml: document 2, line "),
        (&[missing], 2, "missing.yaml"),
        (&[clean, missing], 2, "missing.yaml"),
        (&[], 2, "--kubeconfig"),
        (&["--kubeconfig", missing], 2, "missing.yaml"),
        (&["--kubeconfig", missing, clean], 2, "cannot be used with"),
        (&["--context=staging", clean], 2, "--context <NAME>"),
    ] {
        let output = audit(args, "").await;
        let shown = shown(&output);
        assert!(output.status.code() == Some(code) && shown.contains(part), "{args:?}: {}\n{shown}", output.status);
    }
    let output = audit(&["-", "-o", "sarif"], &pod("hostNetwork: true")).await;
    let log: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let results = log["runs"][0]["results"].as_array().expect("results");
    let host = results.iter().find(|result| result["ruleId"] == "host-access").expect("a result");
    assert_eq!(host["locations"][0]["physicalLocation"]["region"]["startLine"], 8, "{host}");
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
}

/// The findings in a cluster, or in one of its namespaces: the object, the rule and the field.
async fn findings(kubeconfig: &Path, namespace: Option<&str>) -> Vec<(String, String, String)> {
    let kubeconfig = kubeconfig.display().to_string();
    let mut args = vec!["--kubeconfig", &kubeconfig, "--fail-on=never", "-o", "json"];
    args.extend(namespace.iter().flat_map(|namespace| ["--namespace", namespace]));
    let output = audit(&args, "").await;
    assert!(output.status.success(), "{}", shown(&output));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let all = report["findings"].as_array().expect("findings").iter();
    let field = |finding: &Value, at: &str| text(finding, at).to_owned();
    let object = |f: &Value| format!("{} {}/{}", text(f, "/kind"), text(f, "/namespace"), text(f, "/name"));
    all.map(|finding| (object(finding), field(finding, "/rule"), field(finding, "/field"))).collect()
}

async fn pod_from_before_the_webhook_is_found() {
    let (cluster, account) = control_plane(Options { nodes: 1, ..Options::default() }.with_isolation()).await;
    let ns = TestNamespace::new(&cluster, "audited").await;
    let bare = |name: &str, fields: Value| {
        let mut spec = pod()["spec"].clone();
        merge(&mut spec, &json!({ "automountServiceAccountToken": false }));
        merge(&mut spec, &fields);
        let mut made = object(POD, name, spec);
        made["metadata"]["labels"] = json!({ MARKER: "true" });
        made
    };
    ns.create(bare("early", json!({ "hostPID": true }))).await;
    ns.create(bare("isolated", json!({ "runtimeClassName": "gvisor" }))).await;
    let plan = Plan { name: "operator", kubeconfig: &account, flags: operator::admitting(&cluster) };
    let _operator = Operator::start(&cluster, plan).await;
    ns.create(sandbox("later", json!({}))).await;
    ns.until_all(POD, "a pod of the Sandbox", |pods| pods.contains_key("later")).await;
    let early = format!("Pod {}/early", ns.namespace);
    let broken = [("runtime-class", "spec.runtimeClassName"), ("host-access", "spec.hostPID")];
    let broken = broken.map(|(rule, field)| (early.clone(), rule.to_owned(), field.to_owned()));
    assert_eq!(findings(&cluster.kubeconfig(), Some(&ns.namespace)).await, broken);
    let found = findings(&cluster.kubeconfig(), None).await;
    assert!(broken.iter().all(|finding| found.contains(finding)), "{found:?}");
    let required = "policy.paddock.dev/isolation=required";
    ns.kubectl(&["label", "namespace", &ns.namespace, required], None).await.expect("it is labelled");
    let later = (format!("Pod {}/later", ns.namespace), "runtime-class".to_owned(), "spec.runtimeClassName".to_owned());
    let found = findings(&cluster.kubeconfig(), Some(&ns.namespace)).await;
    assert!(found.contains(&later), "the label makes generated code of everything in the namespace: {found:?}");
}
