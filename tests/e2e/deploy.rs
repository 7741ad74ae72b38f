//! The manifests in `deploy/` on a cluster of their own: they are applied as documented, the certificate rotates, and
//! everything is deleted again.

use std::path::Path;
use std::time::Instant;

use paddock_cluster::{Cluster, Options, PATIENCE, Signal, eventually};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::json::{text, uid};
use super::kinds::{POD, SANDBOX, SECRET};
use super::manifests::{claim, object, pod, pool, sandbox, template};
use super::namespace::TestNamespace;
use super::operator::{self, NAMESPACE, Operator, Plan};
use super::pool::filled;
use super::{programs, setup};
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        every_overlay_is_what_the_command_prints,
        patch_of_upstreams_manual_keeps_our_settings,
        a_chosen_class_brings_its_overhead_and_its_nodes,
        a_certificate_rotates_under_load_without_a_failed_call,
        every_claim_is_validated_whatever_its_annotations_say,
        generated_code_is_denied_and_other_pods_admitted_without_an_answer,
        deleting_the_deployment_deletes_the_webhook,
    ]
}

const CONFIGURATIONS: [&str; 2] = ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"];

async fn every_overlay_is_what_the_command_prints() {
    let setup = setup::setup().await;
    let paddock = programs::paddock().await;
    for (folder, flag) in [
        (root!("deploy"), "--surface=both"),
        (root!("deploy/overlays/seed"), "--surface=seed"),
        (root!("deploy/overlays/upstream"), "--surface=upstream"),
        (root!("deploy/overlays/claim-data"), "--claim-data"),
        (root!("deploy/overlays/throttle"), "--throttle"),
        (root!("deploy/overlays/plugin-registry"), "--plugin-pull-secret=plugin-registry"),
    ] {
        let rendered = setup.cluster.kubectl().run(&["kustomize", folder], None).await.expect("kustomize");
        let printed =
            std::process::Command::new(&paddock).args(["manifests", flag]).output().expect("paddock manifests");
        assert!(printed.status.success());
        let (rendered, printed) = (documents(&rendered), documents(&String::from_utf8_lossy(&printed.stdout)));
        for (one, other, what) in [(&rendered, &printed, "the command"), (&printed, &rendered, "deploy/")] {
            for document in one {
                assert!(other.contains(document), "{flag}: not from {what}: {document:#}");
            }
        }
    }
}

/// The patch of upstream's docs/configuration.md: it names the container, and replaces its arguments.
async fn patch_of_upstreams_manual_keeps_our_settings() {
    let setup = setup::setup().await;
    let folder = tempfile::tempdir().expect("a folder");
    // The paths of a kustomization are relative.
    let up = "../".repeat(folder.path().components().count() - 1);
    let overlay = Path::new(root!("deploy/overlays/upstream")).canonicalize().expect("a folder");
    let overlay = format!("{up}{}", overlay.display().to_string().trim_start_matches('/'));
    let args = json!(["--leader-elect=true", "--extensions", "--sandbox-concurrent-workers=200"]);
    let container = json!({ "name": "agent-sandbox-controller", "args": args });
    let patch = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "agent-sandbox-controller", "namespace": "agent-sandbox-system" },
        "spec": { "template": { "spec": { "containers": [container] } } },
    });
    let kustomization = json!({ "resources": [overlay], "patches": [{ "patch": patch.to_string() }] });
    std::fs::write(folder.path().join("kustomization.yaml"), kustomization.to_string()).expect("a file");
    let path = folder.path().display().to_string();
    let rendered = setup.cluster.kubectl().run(&["kustomize", &path], None).await.expect("kustomize");
    let rendered = documents(&rendered);
    let is_operator = |d: &&Value| d["kind"] == "Deployment" && d["metadata"]["name"] == "agent-sandbox-controller";
    let operator = rendered.iter().find(is_operator).expect("the Deployment of the operator");
    let containers = operator["spec"]["template"]["spec"]["containers"].as_array().expect("containers");
    assert_eq!(containers.len(), 1, "the patch names the container");
    assert_eq!((&containers[0]["args"], &containers[0]["command"]), (&args, &json!(["/paddock", "operator"])));
    let surface = json!({ "name": "PADDOCK_SURFACE", "value": "upstream" });
    assert!(containers[0]["env"].as_array().expect("variables").contains(&surface), "{:#}", containers[0]);
}

pub(super) fn documents(yaml: &str) -> Vec<Value> {
    use serde::Deserialize as _;
    let documents = serde_yaml_ng::Deserializer::from_str(yaml).map(|d| Value::deserialize(d).expect("YAML"));
    documents.filter(|d| !d.is_null()).map(with_plain_numbers).collect()
}

/// kustomize writes `0.0` as `0`.
fn with_plain_numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(values) => values.into_iter().map(with_plain_numbers).collect(),
        Value::Object(fields) => Value::Object(fields.into_iter().map(|(k, v)| (k, with_plain_numbers(v))).collect()),
        other @ (Value::Null | Value::Bool(_) | Value::String(_)) => other,
    }
}

/// A cluster of its own, with an operator whose certificate has such a short lifetime that it rotates all the time.
struct Hasty {
    cluster: Cluster,
    operator: Operator,
}

async fn hasty() -> &'static Hasty {
    static HASTY: OnceCell<Hasty> = OnceCell::const_new();
    HASTY.get_or_init(Hasty::start).await
}

impl Hasty {
    async fn start() -> Self {
        let options = Options { nodes: 1, ..Options::default().with_isolation() };
        let cluster = Cluster::start(options).await.expect("a cluster");
        setup::install(&cluster).await;
        // This happens before any other request. The API server refuses a Pod whose class changes between the two times
        // at which it reads the class.
        let costs = json!({ "overhead": { "podFixed": { "memory": "20Mi" } }, "scheduling": { "tolerations": [toleration()] } });
        let kubectl = cluster.kubectl();
        kubectl.run(&["patch", "runtimeclass", "gvisor", "-p", &costs.to_string()], None).await.expect("changed");
        let account = operator::rights(&cluster).await;
        let webhook = cluster.port().expect("a free port");
        let flags = [
            format!("--webhook-bind-address=127.0.0.1:{webhook}"),
            format!("--webhook-url=https://127.0.0.1:{webhook}"),
            "--webhook-cert-lifetime=120s".to_owned(),
            "--webhook-cert-renew-before=115s".to_owned(),
            // API servers must receive a new CA within the overlap, even on a busy machine.
            "--webhook-cert-overlap=8s".to_owned(),
        ];
        let plan = Plan { name: "operator", kubeconfig: &account, flags: flags.to_vec() };
        let operator = Operator::start(&cluster, plan).await;
        Self { cluster, operator }
    }

    /// A namespace in which the webhook is already called for Pods of generated code.
    async fn namespace(&self, name: &str) -> TestNamespace {
        let ns = TestNamespace::new(&self.cluster, name).await;
        eventually("the webhook is registered", async || {
            ns.dry_run(&marked()).await.is_ok_and(|p| p["spec"]["runtimeClassName"] == "gvisor")
        })
        .await;
        ns
    }
}

fn marked() -> Value {
    let mut marked = object(POD, "a", pod()["spec"].clone());
    marked["metadata"]["labels"] = json!({ "policy.paddock.dev/generated-code": "true" });
    marked
}

/// The API server's own admission adds the overhead and the tolerations of a class, and it has already run when the
/// webhook chooses the class. It has to run again after the choice, or the Pod is refused.
async fn a_chosen_class_brings_its_overhead_and_its_nodes() {
    let ns = hasty().await.namespace("overhead").await;
    let would_be = ns.dry_run(&marked()).await.expect("the Pod is taken");
    assert_eq!(would_be["spec"]["overhead"]["memory"], "20Mi");
    let tolerations = would_be["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
    assert!(tolerations.contains(&toleration()), "{tolerations:?}");
}

fn toleration() -> Value {
    json!({ "key": "sandboxes", "operator": "Exists" })
}

/// Creates Pods continuously. They are denied whenever the webhook cannot be called.
async fn a_certificate_rotates_under_load_without_a_failed_call() {
    let hasty = hasty().await;
    let ns = hasty.namespace("rotation").await;
    let own = TestNamespace::existing(&hasty.cluster, NAMESPACE);
    let marked = marked();
    let mut certificates = vec![certificate(&own).await];
    let (began, mut calls) = (Instant::now(), 0);
    // The first certificate is the current one. After two more, complete rotations have happened. A slow machine needs
    // more time for the same number of calls.
    while certificates.len() < 3 || calls <= 100 {
        let would_be = ns.dry_run(&marked).await;
        let would_be = would_be.unwrap_or_else(|e| panic!("call {calls} failed: {e}\n{}", hasty.operator.log_tail()));
        assert_eq!(would_be["spec"]["runtimeClassName"], "gvisor");
        calls += 1;
        // The certificate is read less often than the webhook is called, because reading is not under test.
        if calls % 20 == 0 {
            let now = certificate(&own).await;
            if !certificates.contains(&now) {
                certificates.push(now);
            }
        }
        assert!(began.elapsed() < PATIENCE, "only {} certificates after {calls} calls", certificates.len());
    }
}

/// Both webhooks are called once for each claim. An annotation that a user writes saves no call. No other test creates
/// objects of the project's kinds on this cluster.
async fn every_claim_is_validated_whatever_its_annotations_say() {
    let hasty = hasty().await;
    let ns = hasty.namespace("reservation").await;
    ns.create(template("t", json!({}))).await;
    let made = ns.create(pool("p", "t", json!({ "replicas": 2 }))).await;
    filled(&ns, &made, 2).await;
    let hinted = |mut claim: Value| {
        claim["metadata"]["annotations"] = json!({ "agents.x-k8s.io/sandbox-name": "p-a" });
        claim
    };
    let labels = json!({ "additionalPodMetadata": { "labels": { "kubernetes.io/os": "none" } } });
    let unready = json!({ "env": [{ "name": "A", "value": "b" }] });
    for (of, claim) in [
        ("a warm pool", claim("a", "p", json!({}))),
        ("a warm pool, with a name of the user's own choice", hinted(claim("b", "p", json!({})))),
        ("a warm pool, with labels it may not have", hinted(claim("c", "p", labels))),
        ("a warm pool, none of which will do", hinted(claim("d", "p", unready))),
        ("no pool at all", hinted(claim("e", "not-there", json!({})))),
    ] {
        filled(&ns, &made, 2).await;
        let before = (reviews(hasty, "mutate").await, reviews(hasty, "validate").await);
        ns.create(claim).await;
        let after = (reviews(hasty, "mutate").await, reviews(hasty, "validate").await);
        assert_eq!((after.0 - before.0, after.1 - before.1), (1.0, 1.0), "a claim of {of}");
    }
}

/// The number of webhook calls about the project's kinds.
async fn reviews(hasty: &Hasty, phase: &str) -> f64 {
    let line = format!("paddock_webhook_review_seconds_count{{entry=\"sandboxes\",phase=\"{phase}\"}} ");
    let metrics = hasty.operator.metrics().await;
    metrics.lines().find_map(|l| l.strip_prefix(&line)?.parse().ok()).unwrap_or_default()
}

async fn certificate(own: &TestNamespace) -> String {
    text(&own.get(SECRET, "paddock-webhook-tls").await, "/data/tls.crt").to_owned()
}

/// The manifests in `deploy/` on a cluster on which the webhook's Service has no real endpoint, because its pods are
/// simulated.
async fn generated_code_is_denied_and_other_pods_admitted_without_an_answer() {
    let cluster = Cluster::start(Options { nodes: 1, ..Options::default().with_isolation() }).await.expect("a cluster");
    cluster.kubectl().run(&["apply", "--server-side", "-k", root!("deploy")], None).await.expect("deploy/ is accepted");
    let ns = TestNamespace::new(&cluster, "unanswered").await;
    let isolated =
        TestNamespace::labelled(&cluster, "isolated", json!({ "policy.paddock.dev/isolation": "required" })).await;
    let unmarked = object(POD, "unmarked", pod()["spec"].clone());
    // API servers receive a new webhook configuration through a watch of their own.
    eventually("Pods of generated code are denied", async || ns.dry_run(&marked()).await.is_err()).await;
    for (ns, pod, entry) in [(&ns, &marked(), "generated-code"), (&isolated, &unmarked, "isolated-namespaces")] {
        let denied = ns.dry_run(pod).await.expect_err("nobody answers").to_string();
        assert!(denied.contains("failed calling webhook") && denied.contains(entry), "{denied}");
    }
    // Creating or updating a forged member is denied, because it would not be visible later who put it into the pool.
    ns.create(template("t", json!({}))).await;
    let pool = ns.create(pool("p", "t", json!({ "replicas": 1 }))).await;
    let owner = json!([{
        "apiVersion": pool["apiVersion"], "kind": pool["kind"], "name": "p", "uid": uid(&pool), "controller": true,
    }]);
    let mut forged = sandbox("forged", json!({}));
    forged["metadata"]["ownerReferences"] = owner;
    let mut made = ns.create(sandbox("a", json!({}))).await;
    made["metadata"]["ownerReferences"] = forged["metadata"]["ownerReferences"].clone();
    for denied in [ns.try_create(&forged).await, ns.replace(&made).await] {
        let denied = denied.expect_err("nobody answers").to_string();
        assert!(denied.contains("failed calling webhook") && denied.contains("owned-sandboxes"), "{denied}");
    }
    ns.merge(SANDBOX, "a", json!({ "metadata": { "labels": { "example.com/a": "b" } } })).await;
    ns.create(unmarked).await;
    ns.create(claim("a", "p", json!({}))).await;
    let system = TestNamespace::existing(&cluster, "kube-system");
    system.dry_run(&marked()).await.expect("kube-system is left alone");
    // Users can still exec into running Pods: the connection is admitted, and fails only because there is no kubelet.
    ns.until(POD, "unmarked", "runs", |p| text(p, "/status/phase") == "Running").await;
    let output = ns.kubectl_output(&["exec", "unmarked", "--request-timeout=10s", "--", "true"], None).await;
    assert!(!output.contains("webhook"), "{output}");
}

/// The deployment's pods run on simulated nodes. The operator runs as a process beside them, with the rights and the
/// webhook configurations of `deploy/`.
async fn deleting_the_deployment_deletes_the_webhook() {
    let cluster = Cluster::start(Options { nodes: 2, ..Options::default().with_isolation() }).await.expect("a cluster");
    let own = TestNamespace::existing(&cluster, NAMESPACE);
    let deploy = root!("deploy");
    assert!(Path::new(deploy).join("kustomization.yaml").exists());
    let apply = async || {
        let kubectl = cluster.kubectl();
        kubectl.run(&["apply", "--server-side", "-k", deploy], None).await.expect("deploy/ is accepted");
        let timeout = format!("--timeout={}s", PATIENCE.as_secs());
        let rollout = ["-n", NAMESPACE, "rollout", "status", "deployment/agent-sandbox-controller", &timeout];
        kubectl.run(&rollout, None).await.expect("its pods run");
    };
    // The operators run one after the other, so they share their ports.
    let (webhook, ports) = (cluster.port().expect("a free port"), operator::ports(&cluster));
    let start = async |name: &'static str| {
        let account = cluster.kubeconfig_for_service_account(NAMESPACE, operator::ACCOUNT).await.expect("a token");
        let flags = vec![
            format!("--webhook-bind-address=127.0.0.1:{webhook}"),
            format!("--webhook-service-namespace={NAMESPACE}"),
            "--webhook-registration=injected".to_owned(),
            "--deployment-name=agent-sandbox-controller".to_owned(),
        ];
        let operator = Operator::spawn_at(&cluster, Plan { name, kubeconfig: &account, flags }, ports).await;
        operator.ready().await;
        operator
    };
    apply().await;
    let operator = start("first").await;
    let injected = async || {
        for resource in CONFIGURATIONS {
            let Some(found) = configuration(&own, resource).await else { return false };
            let webhooks = found["webhooks"].as_array().cloned().unwrap_or_default();
            let owner = text(&found, "/metadata/ownerReferences/0/kind").to_owned();
            if owner != "Namespace" || !webhooks.iter().all(|w| w["clientConfig"]["caBundle"].is_string()) {
                return false;
            }
        }
        true
    };
    eventually("the bundle is in every configuration", injected).await;
    // Applying the manifests again does not remove the CA bundle that the operator added.
    apply().await;
    assert!(injected().await, "the bundle survives another apply");

    // The operator stops while its Deployment exists, as in a rollout. The configurations stay.
    operator.process.signal(Signal::Terminate).await.expect("a signal");
    eventually("the operator ends", async || !operator.process.running()).await;
    assert!(injected().await, "a restart takes nothing away");

    // The Deployment is deleted and made again while the operator runs, so the configurations have a new user.
    let operator = start("replaced").await;
    let kubectl = cluster.kubectl();
    kubectl.run(&["-n", NAMESPACE, "delete", "deployment", operator::ACCOUNT], None).await.expect("deleted");
    apply().await;
    operator.process.signal(Signal::Terminate).await.expect("a signal");
    eventually("the operator ends", async || !operator.process.running()).await;
    assert!(injected().await, "the new Deployment keeps them");

    // Only the Deployment is deleted.
    let operator = start("second").await;
    let kubectl = cluster.kubectl();
    let delete = ["-n", NAMESPACE, "delete", "deployment", operator::ACCOUNT];
    kubectl.run(&delete, None).await.expect("deleted");
    operator.process.signal(Signal::Terminate).await.expect("a signal");
    eventually("the configurations are gone with the deployment", async || gone(&own).await).await;

    // The whole namespace is deleted, and no process is left to clean up.
    apply().await;
    let operator = start("third").await;
    eventually("the bundle is in every configuration", injected).await;
    operator.process.kill().await.expect("a signal");
    kubectl.run(&["delete", "namespace", NAMESPACE, "--wait=false"], None).await.expect("deleted");
    eventually("the configurations are gone with the namespace", async || gone(&own).await).await;
}

async fn gone(ns: &TestNamespace) -> bool {
    for resource in CONFIGURATIONS {
        if configuration(ns, resource).await.is_some() {
            return false;
        }
    }
    true
}

async fn configuration(ns: &TestNamespace, resource: &str) -> Option<Value> {
    match ns.read(&format!("/apis/admissionregistration.k8s.io/v1/{resource}/paddock-webhook")).await {
        Ok(found) => Some(found),
        Err(kube::Error::Api(status)) if status.code == 404 => None,
        Err(error) => panic!("reading {resource}: {error}"),
    }
}
