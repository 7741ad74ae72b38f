//! The webhook while watches of its replica deliver nothing.

use paddock_cluster::eventually_some;
use serde_json::json;

use super::{alone_with, faults};
use crate::e2e::kinds::POD;
use crate::e2e::manifests::{object, pod, sandbox};
use crate::e2e::namespace::TestNamespace;
use crate::e2e::proxy::{Fate, Proxy};
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![reviews_without_their_facts_are_refused_until_the_watch_delivers]
}

/// The watch is not interrupted, so nothing but the missing object shows that it is late.
async fn reviews_without_their_facts_are_refused_until_the_watch_delivers() {
    let (faults, _alone) = faults().await;
    let ns = TestNamespace::new(&faults.cluster, "unseen").await;
    let proxy = Proxy::start(&faults.cluster, &faults.account, &ns.namespace, Box::new(|_, _, _| Fate::Pass)).await;
    let plugins = faults.cluster.dir().join("plugins-of-unseen");
    std::fs::create_dir(&plugins).expect("a directory");
    let bound = json!({
        "namespaceSelector": { "matchLabels": { "images": "restricted" } },
        "hooks": ["admission"], "kinds": ["Sandbox"], "settings": { "registries": ["ghcr.io"] },
    });
    std::fs::write(plugins.join("guard.yaml"), bound.to_string()).expect("a file");
    std::fs::write(plugins.join("guard.wasm"), paddock_guests::ALLOWED_IMAGES).expect("a file");
    let flags = vec![format!("--plugin-dir={}", plugins.display())];
    let operator = alone_with(faults, &ns, &proxy.kubeconfig, flags).await;

    // A pod that this replica has not seen may be a warm one, and the connection would not be recorded.
    let exec = async || ns.kubectl_output(&["exec", "new", "--request-timeout=60s", "--", "true"], None).await;
    let unseen = "has not seen pods new yet";
    proxy.hold_watches(Some("pods"));
    ns.create(object(POD, "new", pod()["spec"].clone())).await;
    let output = eventually_some("the webhook is asked", async || {
        let output = exec().await;
        if output.contains("denied the request") { Ok(output) } else { Err(output) }
    })
    .await;
    assert!(output.contains(unseen) && output.contains("try again"), "{output}");
    proxy.hold_watches(None);
    eventually_some("the connection is admitted", async || {
        let output = exec().await;
        if output.contains(unseen) { Err(output) } else { Ok(()) }
    })
    .await;

    // Nobody knows yet whether the policy selects the new namespace.
    proxy.hold_watches(Some("namespaces"));
    let labels = json!({ "images": "restricted" });
    let guarded = TestNamespace::labelled(&faults.cluster, "unseen-guarded", labels).await;
    // kubectl does not repeat a request that is refused with 503.
    let foreign = sandbox("a", json!({})).to_string();
    let create = async || guarded.kubectl_output(&["create", "-f", "-"], Some(&foreign)).await;
    let output = create().await;
    assert!(output.contains("has not seen the namespace") && output.contains("try again"), "{output}");
    proxy.hold_watches(None);
    eventually_some("the plugin is asked", async || {
        let output = create().await;
        if output.contains("plugin guard") { Ok(()) } else { Err(output) }
    })
    .await;
    operator.process.kill().await.expect("it ends");
}
