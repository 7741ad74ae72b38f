//! Every replica of the operator dies, and the policies alone judge what is created then.

use paddock_cluster::{Options, eventually, eventually_some};
use serde_json::{Value, json};

use super::cells::{MARKER, PLACES, pod};
use super::{ISOLATION, enforce, generated};
use crate::e2e::http;
use crate::e2e::json::{ready, text};
use crate::e2e::kinds::{EVENT, POD, SANDBOX};
use crate::e2e::manifests::{marked, sandbox};
use crate::e2e::namespace::TestNamespace;
use crate::e2e::operator::{self, Operator, Plan};
use crate::e2e::setup::control_plane;
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![isolation_holds_and_isolated_pods_start_while_every_replica_is_down]
}

async fn isolation_holds_and_isolated_pods_start_while_every_replica_is_down() {
    let (cluster, account) = control_plane(Options { nodes: 2, ..Options::default().with_isolation() }).await;
    let ns = TestNamespace::new(&cluster, "outage").await;
    let walled = TestNamespace::labelled(&cluster, "walled", json!({ ISOLATION: "required" })).await;
    let start = async |name: &'static str, mut flags: Vec<String>| {
        flags.push("--isolation-policies".to_owned());
        Operator::start(&cluster, Plan { name, kubeconfig: &account, flags }).await
    };
    let policies = generated(&[]).await;
    let apply = ["apply", "--server-side", "-f", "-"];
    cluster.kubectl().run(&apply, Some(&policies)).await.expect("the policies are accepted");
    let replicas = [
        start("first", operator::admitting(&cluster)).await,
        start("second", vec!["--webhook-bind-address=0".to_owned()]).await,
    ];
    let with = |labels: Value, spec: Value| pod(&json!({ "metadata": { "labels": labels }, "spec": spec }));
    let generated_code = json!({ MARKER: "true" });
    let bare = |name: &str, pod: &Value| PLACES[0].object(name, pod);
    let unclassed = with(generated_code.clone(), json!({ "runtimeClassName": null }));
    eventually("the webhook chooses a RuntimeClass", async || {
        let made = ns.dry_run(&bare("asked", &unclassed)).await;
        made.is_ok_and(|made| text(&made, "/spec/runtimeClassName") == "gvisor")
    })
    .await;
    until_registered(&ns, "Ignore").await;
    // The webhook answers, and the policies accept what it chose. Of the kinds below, it reviews none.
    enforce(&cluster.kubectl(), &ns, &PLACES[1..8]).await;
    ns.create(bare("chosen", &unclassed)).await;
    ns.until(POD, "chosen", "runs", |p| text(p, "/status/phase") == "Running").await;
    for replica in &replicas {
        replica.process.kill().await.expect("it was alive");
    }
    enforce(&cluster.kubectl(), &ns, &PLACES).await;

    let isolated = with(generated_code.clone(), json!({}));
    let host = with(generated_code.clone(), json!({ "hostPID": true }));
    let unmarked = with(json!({}), json!({ "runtimeClassName": null, "hostPID": true }));
    for (ns, name, pod, refused) in [
        (&ns, "isolated", &isolated, None),
        (&ns, "unmarked", &unmarked, None),
        (&walled, "isolated", &with(json!({}), json!({})), None),
        (&ns, "exposed", &host, Some("hostPID")),
        (&ns, "unclassed", &unclassed, Some("runtimeClassName must be one that isolates: gvisor, kata")),
        (&walled, "unmarked", &unmarked, Some("runtimeClassName must be one that isolates: gvisor, kata")),
    ] {
        match (ns.try_create(&bare(name, pod)).await, refused) {
            (Ok(_), None) => {
                ns.until(POD, name, "runs", |p| text(p, "/status/phase") == "Running").await;
            }
            (Err(kube::Error::Api(status)), Some(part)) => {
                assert!(status.code == 403 && status.message.contains(part), "{name}: {status:?}");
            }
            (other, refused) => panic!("{name}, {refused:?}: {other:?}"),
        }
    }
    // Sandboxes are admitted without an answer, and the policies refuse those that are not isolated.
    let exposed = marked(sandbox("exposed", json!({ "podTemplate": { "spec": { "hostPID": true } } })));
    let refusal = ns.try_create(&exposed).await.expect_err("refused").to_string();
    assert!(refusal.contains("'paddock-isolation-sandboxes'") && refusal.contains("hostPID"), "{refusal}");
    ns.create(marked(sandbox("waits", json!({})))).await;
    // Nodes report as ever, and nobody takes the marker away.
    for name in ["chosen", "isolated", "unmarked"] {
        ns.merge_status(POD, name, json!({ "status": { "message": "written by its node" } })).await;
    }
    let remove = json!({ "metadata": { "labels": { MARKER: null } } }).to_string();
    for subresource in ["", "--subresource=status"] {
        let mut args = vec!["patch", "pod", "chosen", "-p", &remove];
        args.extend((!subresource.is_empty()).then_some(subresource));
        let output = ns.kubectl_output(&args, None).await;
        assert!(output.contains("must not be removed from a Pod"), "{output}");
    }

    // Without the policies, nobody refuses the Pod: it was the policies that did.
    cluster.kubectl().run(&["delete", "-f", "-"], Some(&policies)).await.expect("deleted");
    eventually("the Pod is admitted", async || ns.dry_run(&bare("exposed", &host)).await.is_ok()).await;
    // An operator that finds no policies does as if it did not have the flag, and says so.
    replicas[0].process.restart().await.expect("it starts again");
    until_registered(&ns, "Fail").await;
    let (_, shown) = http::get(replicas[0].health, "/readyz?verbose").await.expect("an answer");
    let absent = "paddock-isolation-pods does not exist, so --isolation-policies has no effect";
    assert!(shown.contains(absent), "{shown}");
    let default = TestNamespace::existing(&cluster, "default");
    let reported = |e: &Value| text(e, "/reason") == "IsolationPoliciesNotInForce";
    default.until_all(EVENT, "an Event reports it", |all| all.values().any(reported)).await;
    ns.until(SANDBOX, "waits", "Ready", ready).await;
}

/// Waits until the entries for Pods have this failure policy.
async fn until_registered(ns: &TestNamespace, failure_policy: &str) {
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/paddock-webhook";
    eventually_some("the entries for Pods have the failure policy", async || {
        let stored = ns.read(path).await.map_err(|error| error.to_string())?;
        let entries = stored["webhooks"].as_array().into_iter().flatten();
        let of_pods = ["generated-code.pods.paddock.dev", "isolated-namespaces.pods.paddock.dev"];
        let found: Vec<&Value> =
            entries.filter(|e| of_pods.contains(&text(e, "/name"))).map(|e| &e["failurePolicy"]).collect();
        if found == [failure_policy, failure_policy] { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}
