//! The namespace of one test, and waits for events in it.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Config};
use paddock_cluster::{Cluster, Kubectl, PATIENCE, eventually_some};
use serde_json::{Value, json};

use super::json::{name, text};
use super::kinds::{Kind, POD, SANDBOX, SERVICE_ACCOUNT};

/// The objects of one kind, by name.
pub(crate) type Objects = BTreeMap<String, Value>;

/// A namespace, and a client with every right.
#[derive(Clone)]
pub(crate) struct TestNamespace {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    kubectl: Kubectl,
}

impl TestNamespace {
    /// Creates a namespace. It is never deleted, because the cluster ends soon and the deletion takes seconds.
    pub(crate) async fn new(cluster: &Cluster, name: &str) -> Self {
        Self::labelled(cluster, name, json!({})).await
    }

    /// Creates a namespace with labels.
    pub(crate) async fn labelled(cluster: &Cluster, name: &str, labels: Value) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self::named(cluster, &format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed)), labels).await
    }

    /// Creates a namespace of exactly this name. Only one test of a cluster can do that.
    pub(crate) async fn named(cluster: &Cluster, name: &str, labels: Value) -> Self {
        let ns = Self::existing(cluster, name);
        let namespace = json!({ "metadata": { "name": name, "labels": labels } });
        ns.post("/api/v1/namespaces", &namespace).await.expect("a namespace");
        // Pods are refused until their default ServiceAccount exists.
        ns.until(SERVICE_ACCOUNT, "default", "there", |_| true).await;
        ns
    }

    /// A namespace that already exists.
    pub(crate) fn existing(cluster: &Cluster, namespace: &str) -> Self {
        Self { client: cluster.client(), namespace: namespace.to_owned(), kubectl: cluster.kubectl() }
    }

    /// The same namespace with the rights of a kubeconfig. kubectl keeps every right.
    pub(crate) async fn seen_by(&self, kubeconfig: &Path) -> Self {
        let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let client = Client::try_from(config.expect("a configuration")).expect("a client");
        Self { client, ..self.clone() }
    }

    /// The same namespace with the rights of a new user, who may do everything with these resources of the core group and
    /// of Paddock's groups, and nothing else. They have to contain `sandboxes`.
    pub(crate) async fn seen_by_new_user(&self, cluster: &Cluster, resources: &[&str]) -> Self {
        const USER: &str = "user";
        let namespace = &self.namespace;
        let rbac = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}");
        let groups = ["", "agents.x-k8s.io", "extensions.agents.x-k8s.io"];
        let rules = json!([{ "apiGroups": groups, "resources": resources, "verbs": ["*"] }]);
        let binding = json!({
            "metadata": { "name": USER },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": USER },
            "subjects": [{ "kind": "ServiceAccount", "name": USER, "namespace": namespace }],
        });
        for (path, object) in [
            (SERVICE_ACCOUNT.path(namespace), json!({ "metadata": { "name": USER } })),
            (format!("{rbac}/roles"), json!({ "metadata": { "name": USER }, "rules": rules })),
            (format!("{rbac}/rolebindings"), binding),
        ] {
            self.post(&path, &object).await.unwrap_or_else(|e| panic!("creating {object:#}: {e}"));
        }
        let kubeconfig = cluster.kubeconfig_for_service_account(namespace, USER).await.expect("a token");
        let user = self.seen_by(&kubeconfig).await;
        // The API server's authorizer receives roles through a watch.
        let path = SANDBOX.path(namespace);
        eventually_some("the role of the user has an effect", async || user.read(&path).await).await;
        user
    }

    pub(crate) fn api(&self, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &kind.resource())
    }

    /// Creates an object of the kind that it names. A busy API server may give up on a request that it stores all the
    /// same. The client repeats the request, and then finds the object of its first attempt.
    pub(crate) async fn create(&self, object: Value) -> Value {
        let began = Timestamp::now().as_second();
        match self.try_create(&object).await {
            Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => {
                let there = self.get(Kind::of(&object), name(&object)).await;
                let made = text(&there, "/metadata/creationTimestamp").parse::<Timestamp>().expect("a time");
                assert!(made.as_second() >= began, "{} existed before", name(&object));
                there
            }
            made => made.unwrap_or_else(|e| panic!("creating {object:#}: {e}")),
        }
    }

    /// Tries to create an object.
    pub(crate) async fn try_create(&self, object: &Value) -> kube::Result<Value> {
        self.post(&Kind::of(object).path(&self.namespace), object).await
    }

    /// Tries a creation as a dry run.
    pub(crate) async fn dry_run(&self, object: &Value) -> kube::Result<Value> {
        self.post(&format!("{}?dryRun=All", Kind::of(object).path(&self.namespace)), object).await
    }

    /// Sends JSON with POST.
    pub(crate) async fn post(&self, path: &str, object: &Value) -> kube::Result<Value> {
        let request = http::Request::post(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(serde_json::to_vec(object).expect("JSON"))
            .expect("a request");
        self.client.request(request).await
    }

    /// Reads JSON.
    pub(crate) async fn read(&self, path: &str) -> kube::Result<Value> {
        self.client.request(http::Request::get(path).body(Vec::new()).expect("a request")).await
    }

    /// Reads an object that must exist.
    pub(crate) async fn get(&self, kind: Kind, name: &str) -> Value {
        self.find(kind, name).await.unwrap_or_else(|| panic!("there is no {} {name}", kind.1))
    }

    /// Reads an object, if it exists.
    pub(crate) async fn find(&self, kind: Kind, name: &str) -> Option<Value> {
        self.api(kind).get_opt(name).await.expect("an answer").map(|object| value(&object))
    }

    /// Lists all objects of a kind.
    pub(crate) async fn list(&self, kind: Kind) -> Objects {
        let list = self.api(kind).list(&ListParams::default()).await.expect("a list");
        list.items.iter().map(value).map(|object| (name(&object).to_owned(), object)).collect()
    }

    /// Merges a change into an object.
    pub(crate) async fn merge(&self, kind: Kind, name: &str, change: Value) -> Value {
        let patch = Patch::Merge(&change);
        let done = self.api(kind).patch(name, &PatchParams::default(), &patch).await;
        value(&done.unwrap_or_else(|e| panic!("changing {} {name} by {change}: {e}", kind.1)))
    }

    /// Merges a change into an object's status, as its node would.
    pub(crate) async fn merge_status(&self, kind: Kind, name: &str, change: Value) -> Value {
        let patch = Patch::Merge(&change);
        let done = self.api(kind).patch_status(name, &PatchParams::default(), &patch).await;
        value(&done.unwrap_or_else(|e| panic!("changing the status of {} {name} by {change}: {e}", kind.1)))
    }

    /// Reports the resources in the spec of a Pod as those that its containers have, as a node does after a resize. The
    /// API server takes a node whose status has no resources for one that cannot resize.
    pub(crate) async fn report_resources(&self, pod: &Value) {
        let statuses = |field: &str| -> Vec<Value> {
            let containers = pod["spec"][field].as_array().into_iter().flatten();
            let status = |container: &Value| {
                json!({
                    "name": container["name"], "resources": container["resources"], "image": container["image"],
                    "imageID": "", "ready": true, "restartCount": 0,
                })
            };
            containers.map(status).collect()
        };
        let status = json!({
            "containerStatuses": statuses("containers"), "initContainerStatuses": statuses("initContainers"),
        });
        self.merge_status(POD, name(pod), json!({ "status": status })).await;
    }

    /// Applies an object server-side as a field manager.
    pub(crate) async fn apply(&self, manager: &str, object: &Value) -> kube::Result<Value> {
        let params = PatchParams::apply(manager);
        self.api(Kind::of(object)).patch(name(object), &params, &Patch::Apply(object)).await.map(|o| value(&o))
    }

    /// Replaces a whole object, as an update does.
    pub(crate) async fn replace(&self, object: &Value) -> kube::Result<Value> {
        let typed: DynamicObject = serde_json::from_value(object.clone()).expect("an object");
        self.api(Kind::of(object)).replace(name(object), &PostParams::default(), &typed).await.map(|o| value(&o))
    }

    pub(crate) async fn delete(&self, kind: Kind, name: &str) {
        self.api(kind).delete(name, &DeleteParams::default()).await.expect("the deletion is accepted");
    }

    /// Runs kubectl in this namespace.
    pub(crate) async fn kubectl(&self, args: &[&str], input: Option<&str>) -> paddock_cluster::Result<String> {
        let args: Vec<&str> = ["-n", &self.namespace].into_iter().chain(args.iter().copied()).collect();
        self.kubectl.run(&args, input).await
    }

    /// The whole output of kubectl with its warnings, whether it succeeds or fails.
    pub(crate) async fn kubectl_output(&self, args: &[&str], input: Option<&str>) -> String {
        let args: Vec<&str> = ["-n", &self.namespace].into_iter().chain(args.iter().copied()).collect();
        let output = self.kubectl.output(&args, input).await.expect("kubectl starts");
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat()
    }

    /// Waits until one object fulfils the predicate, and returns it.
    pub(crate) async fn until(&self, kind: Kind, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let what = format!("{} {name}: {what}", kind.1);
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut there = self.wait(kind, config, &what, |there| there.get(name).is_some_and(&wanted)).await;
        there.remove(name).expect("it was just looked at")
    }

    /// Waits until an object does not exist.
    pub(crate) async fn until_gone(&self, kind: Kind, name: &str) {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        self.wait(kind, config, &format!("{} {name} is gone", kind.1), |there| there.is_empty()).await;
    }

    /// Waits until the objects of a kind fulfil the predicate, and returns them.
    pub(crate) async fn until_all(&self, kind: Kind, what: &str, wanted: impl Fn(&Objects) -> bool) -> Objects {
        self.wait(kind, watcher::Config::default(), &format!("{}: {what}", kind.2), wanted).await
    }

    async fn wait(
        &self,
        kind: Kind,
        config: watcher::Config,
        what: &str,
        wanted: impl Fn(&Objects) -> bool,
    ) -> Objects {
        let mut there = Objects::new();
        let mut listed = false;
        let mut events = pin!(watcher(self.api(kind), config));
        let watching = async {
            while let Some(event) = events.next().await {
                match event {
                    // The watcher retries by itself. The API server closes watches that are too slow.
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                    Ok(Event::Init) => there.clear(),
                    Ok(Event::InitDone) => listed = true,
                    Ok(Event::InitApply(object) | Event::Apply(object)) => {
                        let object = value(&object);
                        there.insert(name(&object).to_owned(), object);
                    }
                    Ok(Event::Delete(object)) => {
                        there.remove(name(&value(&object)));
                    }
                }
                if listed && wanted(&there) {
                    return true;
                }
            }
            false
        };
        let done = tokio::time::timeout(PATIENCE, watching).await.unwrap_or(false);
        assert!(done, "not within {PATIENCE:?}, in namespace {}: {what}; last seen: {}", self.namespace, shown(&there));
        there
    }
}

fn value(object: &DynamicObject) -> Value {
    serde_json::to_value(object).expect("JSON")
}

/// The objects in the message of a failure, without their managed fields.
fn shown(there: &Objects) -> String {
    let mut shown = there.clone();
    for object in shown.values_mut() {
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
    }
    serde_json::to_string_pretty(&shown).unwrap_or_default().chars().take(6000).collect()
}
