//! The limits of the operator's credential: the requests that its ServiceAccount must not make are refused, and those
//! that it needs are not.
//!
//! The table tests both directions with the credential alone, on a cluster of its own. The other tests show that the
//! limits never refuse honest work: every operator runs under them, and `operator_was_never_denied_a_request` reads the
//! audit log.

use http::Method;
use paddock_cluster::{Cluster, Options, Signal, eventually};
use serde_json::{Value, json};

use super::json::{ready, text, uid};
use super::kinds::{CLAIM, ENDPOINT_SLICE, Kind, NETWORK_POLICY, POD, POOL, SANDBOX, SECRET, SERVICE, VOLUME_CLAIM};
use super::manifests::{claim, disk, merge, object, pod, pool, sandbox, template};
use super::namespace::TestNamespace;
use super::operator::{self, ACCOUNT, NAMESPACE, Operator, Plan};
use super::{programs, setup};
use crate::framework::Test;

mod resizes;

pub(super) fn tests() -> Vec<Test> {
    named![credential_of_the_operator_writes_its_own_objects_alone, each_mode_works_with_its_own_rights]
}

const LEASE: Kind = Kind("coordination.k8s.io/v1", "Lease", "leases");
const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";

/// A part of the message with which a request is refused. `None` if it is admitted.
type Refusal = Option<&'static str>;

/// One request, and its refusal.
struct Row {
    what: &'static str,
    method: Method,
    path: String,
    body: Value,
    refused: Refusal,
}

/// The rows of a table.
#[derive(Default)]
pub(super) struct Table(Vec<Row>);

impl Table {
    fn row(&mut self, what: &'static str, method: Method, path: String, body: Value, refused: Refusal) {
        self.0.push(Row { what, method, path, body, refused });
    }

    pub(super) fn create(&mut self, what: &'static str, namespace: &str, of: (Kind, Value), refused: Refusal) {
        self.row(what, Method::POST, of.0.path(namespace), of.1, refused);
    }

    pub(super) fn patch(&mut self, what: &'static str, ns: &TestNamespace, of: (Kind, &str, Value), refused: Refusal) {
        let path = format!("{}/{}", of.0.path(&ns.namespace), of.1);
        self.row(what, Method::PATCH, path, of.2, refused);
    }

    fn delete(&mut self, what: &'static str, ns: &TestNamespace, of: (Kind, &str), refused: Refusal) {
        let path = format!("{}/{}", of.0.path(&ns.namespace), of.1);
        self.row(what, Method::DELETE, path, json!({}), refused);
    }

    /// Sends every request as a dry run.
    pub(super) async fn check(&self, operator: &TestNamespace) {
        let mut wrong = Vec::new();
        for row in &self.0 {
            match (send(operator, row).await, row.refused) {
                (Ok(_), None) => {}
                (Err(kube::Error::Api(status)), Some(part))
                    if status.code == 403
                        && status.message.contains(part)
                        && status.message.contains("ValidatingAdmissionPolicy") => {}
                (result, _) => wrong.push(format!("{}: {:?}", row.what, result.map(|_| "admitted"))),
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        println!("{} requests of the credential", self.0.len());
    }
}

async fn send(operator: &TestNamespace, row: &Row) -> kube::Result<Value> {
    let content = match (&row.method, row.body["apiVersion"].is_string()) {
        (&Method::PATCH, true) => "application/apply-patch+yaml",
        (&Method::PATCH, false) if row.path.starts_with("/api/v1/") => "application/strategic-merge-patch+json",
        (&Method::PATCH, false) => "application/merge-patch+json",
        _ => "application/json",
    };
    let manager = if content.contains("apply") { "&fieldManager=paddock-webhook&force=true" } else { "" };
    let body = match row.method {
        Method::DELETE => Vec::new(),
        _ => serde_json::to_vec(&row.body).expect("JSON"),
    };
    let request = http::Request::builder()
        .method(row.method.clone())
        .uri(format!("{}?dryRun=All{manager}", row.path))
        .header(http::header::CONTENT_TYPE, content)
        .body(body);
    operator.client.request(request.expect("a request")).await
}

fn owned_by(owner: &Value, object: Value) -> Value {
    let mut object = object;
    merge(&mut object, &json!({ "metadata": { "ownerReferences": [reference(owner)] } }));
    object
}

fn reference(owner: &Value) -> Value {
    json!({
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
        "uid": uid(owner), "controller": true,
    })
}

fn with(object: Value, change: Value) -> Value {
    let mut object = object;
    merge(&mut object, &change);
    object
}

fn plain_pod(name: &str) -> Value {
    object(POD, name, pod()["spec"].clone())
}

fn service(name: &str, spec: Value) -> Value {
    with(object(SERVICE, name, json!({ "ports": [{ "port": 80 }] })), json!({ "spec": spec }))
}

fn slice(name: &str, service: &str) -> Value {
    json!({
        "apiVersion": ENDPOINT_SLICE.0, "kind": ENDPOINT_SLICE.1,
        "metadata": { "name": name, "labels": { "kubernetes.io/service-name": service } },
        "addressType": "IPv4", "endpoints": [{ "addresses": ["192.0.2.1"] }], "ports": [],
    })
}

fn network_policy(name: &str, annotations: Value, selector: Value) -> Value {
    let spec = json!({ "podSelector": selector, "policyTypes": ["Ingress"] });
    with(object(NETWORK_POLICY, name, spec), json!({ "metadata": { "annotations": annotations } }))
}

async fn credential_of_the_operator_writes_its_own_objects_alone() {
    programs::paddock().await;
    let cluster = Cluster::start(Options { nodes: 1, ..Options::default() }).await.expect("a control plane");
    setup::install(&cluster).await;
    let kubectl = cluster.kubectl();
    let apply = async |file: &str| {
        let file = format!("{}/{file}.yaml", root!("deploy"));
        kubectl.run(&["apply", "--server-side", "-f", &file], None).await.expect("the manifest is applied");
    };
    let overlays = ["overlays/claim-data/rbac", "overlays/throttle/rbac"];
    for file in ["base/namespace", "base/rbac", "base/admissionpolicies"].into_iter().chain(overlays) {
        apply(file).await;
    }
    let account = cluster.kubeconfig_for_service_account(NAMESPACE, ACCOUNT).await.expect("a token");
    let ns = TestNamespace::new(&cluster, "limited").await;
    let operator = ns.seen_by(&account).await;

    // The objects of users, and those that the operator would have made.
    let owner = ns.create(sandbox("s", json!({}))).await;
    ns.create(template("t", json!({}))).await;
    let made = ns.create(pool("p", "t", json!({ "replicas": 0 }))).await;
    let taken = ns.create(claim("c", "p", json!({}))).await;
    let offered = json!({ "metadata": { "labels": { "agents.x-k8s.io/adoptable": "true" } } });
    let template_hash = json!({ "matchLabels": { "agents.x-k8s.io/sandbox-template-ref-hash": "1" } });
    let of_template = json!({ "policy.paddock.dev/template": "sandboxtemplates.extensions.agents.x-k8s.io/t" });
    for there in [
        plain_pod("foreign"),
        owned_by(&made, plain_pod("of-another-controller")),
        owned_by(&owner, plain_pod("s")),
        with(plain_pod("offered"), offered.clone()),
        service("foreign", json!({})),
        owned_by(&owner, service("s", json!({}))),
        slice("foreign", "foreign"),
        owned_by(&owner, slice("s", "s")),
        object(VOLUME_CLAIM, "foreign", disk("d", "1Gi")["spec"].clone()),
        network_policy("foreign", json!({}), json!({})),
        network_policy("t-network-policy", of_template.clone(), template_hash.clone()),
    ] {
        ns.create(there).await;
    }
    let system = TestNamespace::existing(&cluster, "kube-system");
    system.create(plain_pod("important")).await;

    let mut table = Table::default();
    let label = json!({ "metadata": { "labels": { "example.com/a": "b" } } });
    let take_over = json!({ "metadata": { "ownerReferences": [reference(&owner)] } });
    let here = ns.namespace.as_str();

    table.create("a Pod of nobody", here, (POD, plain_pod("x")), Some("a Sandbox is its controller"));
    let other = owned_by(&made, plain_pod("x"));
    table.create("a Pod of another controller", here, (POD, other), Some("a Sandbox is its controller"));
    let other = with(owner.clone(), json!({ "apiVersion": "example.com/v1" }));
    let other = owned_by(&other, plain_pod("x"));
    table.create("a Pod of another group's Sandbox", here, (POD, other), Some("a Sandbox is its controller"));
    let owned = owned_by(&owner, plain_pod("x"));
    table.create("a Pod of a Sandbox", here, (POD, owned.clone()), None);
    table.create("a Pod in kube-system", "kube-system", (POD, owned), Some("in kube-system"));
    let owned = owned_by(&owner, service("x", json!({})));
    table.create("a Service in its own namespace", NAMESPACE, (SERVICE, owned), Some("in kube-system"));
    table.patch("a foreign Pod's label", &ns, (POD, "foreign", label.clone()), Some("controller"));
    table.patch("a foreign Pod", &ns, (POD, "foreign", take_over.clone()), Some("take over"));
    let name = "of-another-controller";
    let replaced = json!({ "metadata": { "ownerReferences": [{ "$patch": "replace" }, reference(&owner)] } });
    table.patch("a Pod of a controller", &ns, (POD, name, replaced), Some("take over"));
    table.patch("a Pod of kube-system", &system, (POD, "important", take_over.clone()), Some("in kube-system"));
    table.patch("an offered Pod", &ns, (POD, "offered", take_over.clone()), None);
    table.patch("the label of a sandbox's Pod", &ns, (POD, "s", label.clone()), None);
    let image = json!({ "spec": { "containers": [{ "name": "agent", "image": "evil:1" }] } });
    table.patch("the image of a sandbox's Pod", &ns, (POD, "s", image), Some("only the metadata of a Pod"));
    resizes::rows(&mut table, &ns, &owner).await;
    table.delete("a foreign Pod", &ns, (POD, "foreign"), Some("controller"));
    table.delete("a Pod of kube-system", &system, (POD, "important"), Some("controller"));
    table.delete("a sandbox's Pod", &ns, (POD, "s"), None);

    table.create("a Service of nobody", here, (SERVICE, service("x", json!({}))), Some("controller"));
    let of = |spec: Value| (SERVICE, owned_by(&owner, service("x", spec)));
    table.create("a Service of a Sandbox", here, of(json!({})), None);
    table.create("a load balancer", here, of(json!({ "type": "LoadBalancer" })), Some("no other type than ClusterIP"));
    let external = json!({ "externalIPs": ["192.0.2.7"] });
    table.create("an external address", here, of(external.clone()), Some("no external address"));
    table.patch("an external address", &ns, (SERVICE, "s", json!({ "spec": external })), Some("no external address"));
    let selector = json!({ "spec": { "selector": { "app": "evil" } } });
    table.patch("a foreign selector", &ns, (SERVICE, "foreign", selector.clone()), Some("controller"));
    table.patch("the selector of a sandbox's Service", &ns, (SERVICE, "s", selector), None);
    table.delete("a foreign Service", &ns, (SERVICE, "foreign"), Some("controller"));

    let of = |service: &str| (ENDPOINT_SLICE, owned_by(&owner, slice("x", service)));
    table.create("the addresses of another Service", here, of("foreign"), Some("the Service of its Sandbox"));
    table.create("the addresses of a sandbox", here, of("s"), None);
    let named = |name: &str| with(owner.clone(), json!({ "metadata": { "name": name } }));
    let of = |service: &str| (ENDPOINT_SLICE, owned_by(&named(service), slice("x", service)));
    table.create("the API server's addresses", "default", of("kubernetes"), Some("the Service of the API server"));
    table.create("a Sandbox's addresses in default", "default", of("s"), None);
    table.create("a Sandbox named as the API server's Service", here, of("kubernetes"), None);
    let addresses = json!({ "endpoints": [{ "addresses": ["192.0.2.9"] }] });
    table.patch("foreign addresses", &ns, (ENDPOINT_SLICE, "foreign", addresses.clone()), Some("controller"));
    table.patch("the address of a sandbox", &ns, (ENDPOINT_SLICE, "s", addresses), None);

    let volume = object(VOLUME_CLAIM, "x", disk("d", "1Gi")["spec"].clone());
    table.create("a volume of nobody", here, (VOLUME_CLAIM, volume.clone()), Some("controller"));
    table.create("a volume of a Sandbox", here, (VOLUME_CLAIM, owned_by(&owner, volume)), None);
    table.patch("a foreign volume", &ns, (VOLUME_CLAIM, "foreign", take_over.clone()), Some("take over"));

    let policy = |annotations: &Value, selector: Value| {
        (NETWORK_POLICY, network_policy("x-network-policy", annotations.clone(), selector))
    };
    table.create("an open policy", here, policy(&of_template, json!({})), Some("selects its pods"));
    table.create("a policy of nobody", here, policy(&json!({}), template_hash.clone()), Some("names its template"));
    table.create("the policy of a template", here, policy(&of_template, template_hash.clone()), None);
    let takes = json!({ "metadata": { "annotations": of_template }, "spec": { "podSelector": template_hash } });
    table.patch(
        "a foreign policy",
        &ns,
        (NETWORK_POLICY, "foreign", takes.clone()),
        Some("NetworkPolicy of a template"),
    );
    table.patch("the policy of a template", &ns, (NETWORK_POLICY, "t-network-policy", takes), None);
    let foreign = (NETWORK_POLICY, "foreign");
    table.delete("a foreign policy", &ns, foreign, Some("NetworkPolicy of a template"));
    table.delete("the policy of a template", &ns, (NETWORK_POLICY, "t-network-policy"), None);

    table.create("a Sandbox of nobody", here, (SANDBOX, sandbox("x", json!({}))), Some("for a pool or a claim"));
    let of = |owner: &Value| (SANDBOX, owned_by(owner, sandbox("x", json!({}))));
    table.create("a Sandbox of a pool", here, of(&made), None);
    table.create("a Sandbox of a claim", here, of(&taken), None);
    table.create("a Sandbox in kube-system", "kube-system", of(&taken), Some("in kube-system"));
    let image =
        json!({ "spec": { "podTemplate": { "spec": { "containers": [{ "name": "a", "image": "evil:1" }] } } } });
    table.patch("the image of a Sandbox", &ns, (SANDBOX, "s", image), Some("what a Sandbox runs"));
    let class = json!({ "spec": { "runtimeClassName": "runc" } });
    table.patch("the class of a Sandbox", &ns, (SANDBOX, "s", class), Some("what a Sandbox runs"));
    let mode = json!({ "spec": { "operatingMode": "Suspended", "replicas": 0 } });
    table.patch("the mode of a Sandbox", &ns, (SANDBOX, "s", mode), None);
    let metadata = json!({ "spec": { "podTemplate": { "metadata": { "labels": { "a": "b" } } } } });
    table.patch("the metadata of a Sandbox's pod", &ns, (SANDBOX, "s", metadata), None);
    let spec = json!({ "spec": { "warmPoolRef": { "name": "q" } } });
    table.patch("the pool of a claim", &ns, (CLAIM, "c", spec), Some("labels and annotations of a SandboxClaim"));
    let hint = json!({ "metadata": { "annotations": { "agents.x-k8s.io/sandbox-name": "a" } } });
    table.patch("the hint of a claim", &ns, (CLAIM, "c", hint), None);

    let secret = |name: &str, kind: &str| {
        let annotations = json!({ "kubernetes.io/service-account.name": ACCOUNT });
        let metadata = json!({ "name": name, "annotations": annotations });
        let data = json!({ "tls.crt": "", "tls.key": "" });
        (SECRET, json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind, "data": data }))
    };
    let token = "kubernetes.io/service-account-token";
    table.create("another Secret", NAMESPACE, secret("other", "Opaque"), Some("only the Secret"));
    table.create("a token", NAMESPACE, secret("paddock-webhook-tls", token), Some("only the Secret"));
    table.create("its certificate", NAMESPACE, secret("paddock-webhook-tls", "kubernetes.io/tls"), None);
    // The role for the data of claims is for all namespaces.
    for elsewhere in [here, "kube-system"] {
        let certificate = secret("paddock-webhook-tls", "kubernetes.io/tls");
        table.create("its certificate elsewhere", elsewhere, certificate, Some("only the Secret"));
    }
    claim_secrets(&mut table, &ns).await;
    let lease = |name: &str| (LEASE, object(LEASE, name, json!({})));
    table.create("another Lease", NAMESPACE, lease("other"), Some("only the Leases"));
    table.create("its Lease", NAMESPACE, lease("paddock-operator"), None);

    // API servers receive the policies through a watch of their own.
    eventually("the policies are in force", async || {
        send(&operator, &table.0[0]).await.is_err() && send(&operator, &table.0[table.0.len() - 2]).await.is_err()
    })
    .await;
    table.check(&operator).await;
    no_type_errors(&ns).await;

    apply("base/webhook").await;
    let kubeconfig: Value = serde_yaml_ng::from_str(&std::fs::read_to_string(&account).unwrap()).expect("YAML");
    injected(&operator, &kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"]).await;
    let delete = ["delete", "mutatingwebhookconfiguration,validatingwebhookconfiguration", "paddock-webhook"];
    kubectl.run(&delete, None).await.expect("deleted");
    operator::rights(&cluster).await;
    made_by_the_operator(&operator).await;
    no_type_errors(&ns).await;
    assert_eq!(ns.list(POOL).await.len(), 1, "the requests were dry runs");
}

/// The Secrets with the data of claims: those of a Pod, with the operator's label and form of name, and no others.
async fn claim_secrets(table: &mut Table, ns: &TestNamespace) {
    let here = ns.namespace.as_str();
    let pod = ns.get(POD, "s").await;
    let secret = |change: Value| {
        let labels = json!({ "policy.paddock.dev/claim-data": "true" });
        let made = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": { "name": "paddock-claim-s-0011223344556677", "labels": labels },
        });
        with(owned_by(&pod, made), change)
    };
    let named = |name: &str| json!({ "metadata": { "name": name } });
    for there in [
        secret(named("paddock-claim-s-8899aabbccddeeff")),
        secret(json!({ "metadata": { "name": "users", "labels": null } })),
    ] {
        ns.post(&SECRET.path(here), &there).await.expect("a Secret");
    }
    let refused = Some("Secrets with the data of a claim");
    let labels = |labels: Value| json!({ "metadata": { "labels": labels } });
    let owners = |owners: Value| json!({ "metadata": { "ownerReferences": owners } });
    let account = json!({ "metadata": { "annotations": { "kubernetes.io/service-account.name": "default" } } });
    for (what, change) in [
        ("a Secret without the label", labels(Value::Null)),
        ("a Secret with another label", labels(json!({ "policy.paddock.dev/claim-data": "x" }))),
        ("a Secret of nobody", owners(Value::Null)),
        ("a Secret of a Sandbox", owners(json!([reference(&ns.get(SANDBOX, "s").await)]))),
        ("a Secret of another Pod", named("paddock-claim-other-0011223344556677")),
        ("a Secret of a Pod with a longer name", named("paddock-claim-s-a-0011223344556677")),
        ("a Secret without digits", named("paddock-claim-s-of-somebody-else")),
        ("a Secret of another form", named("api-key")),
        ("a token of an account", with(account, json!({ "type": "kubernetes.io/service-account-token" }))),
    ] {
        table.create(what, here, (SECRET, secret(change)), refused);
    }
    table.create("the Secret of a Pod", here, (SECRET, secret(json!({}))), None);
    table.create("its Secret in kube-system", "kube-system", (SECRET, secret(json!({}))), Some("in kube-system"));
    table.create("its Secret in its own namespace", NAMESPACE, (SECRET, secret(json!({}))), Some("in kube-system"));
    table.delete("the Secret of a user", ns, (SECRET, "users"), refused);
    table.delete("the Secret of a Pod", ns, (SECRET, "paddock-claim-s-8899aabbccddeeff"), None);
}

/// Operators with the rights of other modes serve what the mode promises, and are never refused a request.
async fn each_mode_works_with_its_own_rights() {
    programs::paddock().await;
    let cluster = Cluster::start(Options { nodes: 1, ..Options::default() }).await.expect("a control plane");
    setup::install(&cluster).await;
    let served = TestNamespace::new(&cluster, "served").await;
    let beside = TestNamespace::new(&cluster, "beside").await;
    let only = format!("--namespace={}", served.namespace);
    let granted = format!("--served-namespace={}", served.namespace);
    let manual = std::fs::read_to_string(root!("docs/operations.md")).expect("the manual");
    let documented: Vec<Vec<&str>> = manual
        .lines()
        .filter(|line| line.starts_with("kubectl delete cluster") || line.starts_with("kubectl delete roles"))
        .map(|line| line.split_whitespace().skip(1).collect())
        .collect();
    assert_eq!(documented.len(), 4, "two for the operator, and two for the gateway: {documented:?}");
    let mut former: Option<TestNamespace> = None;
    for (name, rights, flags) in [
        ("one-namespace", vec!["--webhook=off", &granted], vec![only.clone()]),
        ("seed", vec!["--webhook=off", "--surface=seed", &granted], vec![only.clone(), "--surface=seed".to_owned()]),
        ("bare", vec!["--webhook=off", "--extensions=false"], vec!["--extensions=false".to_owned()]),
    ] {
        // Administrators follow the manual, so the test runs the commands of the manual.
        for old in &documented {
            cluster.kubectl().run(old, None).await.expect("the rights of the former mode are deleted");
        }
        if let Some(former) = former {
            operator::revoked(&former).await;
        }
        let account = operator::rights_with(&cluster, &rights).await;
        former = Some(operator::granted(&served, &account).await);
        let flags = flags.into_iter().chain(["--webhook-bind-address=0".to_owned()]).collect();
        let operator = Operator::start(&cluster, Plan { name, kubeconfig: &account, flags }).await;
        let own = format!("own-{name}");
        served.create(sandbox(&own, json!({ "volumeClaimTemplates": [disk("data", "1Gi")], "service": true }))).await;
        served.until(SANDBOX, &own, "Ready", ready).await;
        if name == "one-namespace" {
            beside.create(sandbox("other", json!({}))).await;
            served.create(template("t", json!({}))).await;
            served.create(pool("p", "t", json!({ "replicas": 1 }))).await;
            served.create(claim("c", "p", json!({}))).await;
            served.until(CLAIM, "c", "Ready", ready).await;
            served.find(NETWORK_POLICY, "t-network-policy").await.expect("the fence of the template");
            assert_eq!(beside.find(POD, "other").await, None, "it serves one namespace");
        }
        let metrics = operator.metrics().await;
        let refused = |line: &&str| {
            let broken = line.starts_with("paddock_watch_breaks_total{cause=\"forbidden\"");
            let rejected = line.starts_with("paddock_writes_total") && line.contains("outcome=\"rejected\"");
            (broken || rejected) && !line.ends_with(" 0")
        };
        let refused: Vec<&str> = metrics.lines().filter(refused).collect();
        assert!(refused.is_empty(), "{name}: {refused:#?}\n{}", operator.log_tail());
        operator.process.signal(Signal::Terminate).await.expect("a signal");
        eventually("the operator ends", async || !operator.process.running()).await;
    }
}

fn patch_of_configuration(what: &'static str, webhooks: Value, refused: Refusal) -> Row {
    let body = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": { "name": "paddock-webhook" }, "webhooks": webhooks,
    });
    let path = format!("{CONFIGURATIONS}/paddock-webhook");
    Row { what, method: Method::PATCH, path, body, refused }
}

/// Manifests make the configurations. The operator adds the CA bundle.
async fn injected(operator: &TestNamespace, bundle: &Value) {
    const ONLY: Refusal = Some("only the CA bundle");
    let entry = |with: Value| {
        let mut entry = json!({ "name": "sandboxes.paddock.dev" });
        merge(&mut entry, &with);
        json!([entry])
    };
    let evil = json!({ "namespace": "evil", "name": "evil" });
    let rows = [
        patch_of_configuration("a Service", entry(json!({ "clientConfig": { "service": evil } })), ONLY),
        patch_of_configuration("a policy", entry(json!({ "failurePolicy": "Fail" })), ONLY),
        patch_of_configuration("a selector", entry(json!({ "namespaceSelector": {} })), ONLY),
        patch_of_configuration("the CA bundle", entry(json!({ "clientConfig": { "caBundle": bundle } })), None),
    ];
    Table(rows.into_iter().collect()).check(operator).await;
}

/// The operator makes the configurations itself.
async fn made_by_the_operator(operator: &TestNamespace) {
    let entry = |url: &str, resource: &str| {
        json!([{
            "name": "a.paddock.dev", "clientConfig": { "url": url }, "admissionReviewVersions": ["v1"],
            "sideEffects": "None", "failurePolicy": "Ignore",
            "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": [resource] }],
        }])
    };
    let ours = "https://127.0.0.1:9443/mutate";
    let mut table = Table(vec![
        patch_of_configuration(
            "another host",
            entry("https://evil.example.com", "pods"),
            Some("lead only to the operator"),
        ),
        patch_of_configuration("Secrets", entry(ours, "secrets"), Some("the kinds that the operator reviews")),
        patch_of_configuration("Pods", entry(ours, "pods"), None),
    ]);
    let named = |name: &str| {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": { "name": name }, "webhooks": entry(ours, "pods"),
        })
    };
    let other = Some("only the webhook configurations");
    table.row("another configuration", Method::POST, CONFIGURATIONS.to_owned(), named("other"), other);
    eventually("the policies of this mode are in force", async || send(operator, &table.0[2]).await.is_ok()).await;
    table.check(operator).await;
}

/// The API server checks the types of every expression, and reports an error in the status of the policy.
async fn no_type_errors(ns: &TestNamespace) {
    let path = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
    let list = async || {
        let list = ns.read(path).await.expect("the policies");
        let ours = |p: &&Value| text(p, "/metadata/name").starts_with(ACCOUNT);
        list["items"].as_array().expect("a list").iter().filter(ours).cloned().collect::<Vec<_>>()
    };
    eventually("the policies are checked", async || {
        let checked = |p: &Value| p["status"]["observedGeneration"] == p["metadata"]["generation"];
        list().await.iter().all(checked)
    })
    .await;
    let policies = list().await;
    assert!(policies.len() > 8, "{} policies", policies.len());
    for policy in policies {
        assert_eq!(policy["status"]["typeChecking"]["expressionWarnings"], json!(null), "{policy:#}");
    }
}
