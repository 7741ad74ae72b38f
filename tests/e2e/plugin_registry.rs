//! Components from an OCI registry: a real registry with TLS and a user, tags that move, signatures, and a registry that is
//! away. The tests push with the client of `paddock plugin push`.

use std::path::{Path, PathBuf};

use paddock_cluster::{Cluster, Options, Registry, RegistryAccess, Signal, eventually_some};
use paddock_registry::{Client, Credentials, Digest, Reference, SigningKey, Upload, sign};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::json::{message, ready, reason, text};
use super::namespace::TestNamespace;
use super::operator::{NAMESPACE, Operator, Plan};
use super::setup;
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        signed_image_is_followed_and_rolled_back_and_an_unsigned_one_is_refused,
        pinned_component_replaces_the_former_one_without_a_gap_and_an_absent_one_stops_it,
        credentials_are_a_secret_that_a_role_names,
        operator_that_requires_signatures_keeps_the_last_good_image_while_the_registry_is_away,
        wrong_images_are_refused_by_the_schema,
    ]
}

/// A cluster with registries of its own, and an operator that knows them.
pub(super) struct Scene {
    pub(super) cluster: Cluster,
    system: TestNamespace,
    account: PathBuf,
    operator: Operator,
    pub(super) registry: Registry,
    /// A registry that one test stops.
    unsteady: Registry,
    plain: Registry,
}

pub(super) async fn scene() -> &'static Scene {
    static SCENE: OnceCell<Scene> = OnceCell::const_new();
    SCENE.get_or_init(Scene::start).await
}

impl Scene {
    async fn start() -> Self {
        let start = async |access| Registry::start(access).await.expect("a registry");
        let registry = start(RegistryAccess::Protected).await;
        let (unsteady, plain) = (start(RegistryAccess::Protected).await, start(RegistryAccess::Plain).await);
        let flags = ["--webhook=off", "--plugin-pull-secret=registry-credentials,wrong-credentials,plugin-registry"];
        let (cluster, account) =
            setup::control_plane_with(Options { nodes: 1, ..Options::default().with_isolation() }, &flags).await;
        for (name, registry) in [("steady", &registry), ("unsteady", &unsteady)] {
            std::fs::write(authority(&cluster, name), registry.authority()).expect("a file");
        }
        let flags = flags_for(&cluster, &plain, Vec::new());
        let operator = Operator::start(&cluster, Plan { name: "operator", kubeconfig: &account, flags }).await;
        let system = TestNamespace::existing(&cluster, NAMESPACE);
        let scene = Self { cluster, system, account, operator, registry, unsteady, plain };
        let good = [&scene.registry, &scene.unsteady].map(|registry| (registry.host(), Registry::PASSWORD));
        scene.secret("registry-credentials", &good).await;
        scene
    }

    /// A Secret with a password for each registry.
    async fn secret(&self, name: &str, passwords: &[(&str, &str)]) {
        let entry = |(host, password): &(&str, &str)| {
            ((*host).to_owned(), json!({ "username": Registry::USER, "password": password }))
        };
        let auths: serde_json::Map<String, Value> = passwords.iter().map(entry).collect();
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "type": "kubernetes.io/dockerconfigjson",
            "stringData": { ".dockerconfigjson": json!({ "auths": auths }).to_string() },
        });
        self.system.kubectl(&["apply", "-f", "-"], Some(&secret.to_string())).await.expect("a Secret");
    }

    /// Applies a SandboxPlugin with an image.
    async fn plugin(&self, name: &str, oci: Value) {
        let object = plugin(name, oci).to_string();
        let shown = self.system.kubectl(&["apply", "-f", "-"], Some(&object)).await;
        shown.expect("the SandboxPlugin is applied");
    }

    async fn until(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let path = format!("/apis/policy.paddock.dev/v1alpha1/sandboxplugins/{name}");
        eventually_some(what, async || match self.system.read(&path).await {
            Ok(object) if wanted(&object) => Ok(object),
            Ok(object) => Err(format!("{}\n{}", object["status"], self.operator.log_tail())),
            Err(error) => Err(error.to_string()),
        })
        .await
    }

    /// Waits until every replica uses this image.
    async fn until_used(&self, name: &str, image: &Digest) -> Value {
        let used = |p: &Value| ready(p) && text(p, "/status/imageDigest") == image.as_str();
        self.until(name, "the image is used", used).await
    }

    async fn until_reason(&self, name: &str, wanted: &str) -> Value {
        self.until(name, wanted, |p| reason(p, "Ready") == wanted).await
    }
}

/// The file with the certificate of a registry.
pub(super) fn authority(cluster: &Cluster, name: &str) -> PathBuf {
    cluster.dir().join(format!("{name}.crt"))
}

fn flags_for(cluster: &Cluster, plain: &Registry, more: Vec<String>) -> Vec<String> {
    let ca = ["steady", "unsteady"].map(|name| authority(cluster, name).display().to_string());
    let mut flags = vec![
        "--webhook-bind-address=0".to_owned(),
        "--plugin-registry-poll-interval=1s".to_owned(),
        format!("--plugin-registry-ca-file={}", ca.join(",")),
        format!("--plugin-registry-plain-http={}", plain.host()),
    ];
    flags.extend(more);
    flags
}

fn plugin(name: &str, oci: Value) -> Value {
    json!({
        "apiVersion": "policy.paddock.dev/v1alpha1", "kind": "SandboxPlugin", "metadata": { "name": name },
        "spec": { "source": { "oci": oci } },
    })
}

/// A repository, and the client that pushes to it.
struct Repository<'a> {
    registry: &'a Registry,
    client: Client,
    as_user: Credentials,
    name: &'a str,
}

impl<'a> Repository<'a> {
    fn new(registry: &'a Registry, access: RegistryAccess, name: &'a str) -> Self {
        let is_plain = access == RegistryAccess::Plain;
        let extra_ca = vec![registry.authority().as_bytes().to_vec()];
        let options =
            paddock_registry::Options { extra_ca, plain_http: is_plain, ..paddock_registry::Options::new(64 << 20) };
        let as_user = if is_plain {
            Credentials::Anonymous
        } else {
            Credentials::Basic { username: Registry::USER.to_owned(), password: Registry::PASSWORD.to_owned() }
        };
        Self { registry, client: Client::new(options).expect("a client"), as_user, name }
    }

    /// The image as a SandboxPlugin names it.
    fn image(&self, version: &str) -> String {
        format!("{}/{}{version}", self.registry.host(), self.name)
    }

    fn reference(&self, version: &str) -> Reference {
        format!("oci://{}", self.image(version)).parse().expect("a reference")
    }

    /// Pushes a component. Returns the digest of its manifest.
    async fn push(&self, tag: &str, component: &'static [u8]) -> Digest {
        let upload = Upload {
            file_name: "plugin.wasm".to_owned(),
            component: component.into(),
            imports: Vec::new(),
            exports: Vec::new(),
        };
        let pushed = self.client.push(&self.reference(tag), &self.as_user, &upload).await;
        pushed.expect("the component is pushed").manifest_digest
    }

    async fn sign(&self, digest: &Digest, key: &SigningKey) {
        let reference = self.reference(&format!("@{digest}"));
        let signature = sign(digest, &reference, key).expect("a signature");
        let pushed = self.client.push_signature(&reference, &self.as_user, digest, &signature).await;
        pushed.expect("the signature is pushed");
    }
}

fn key() -> SigningKey {
    SigningKey::generate().expect("a key").0
}

async fn signed_image_is_followed_and_rolled_back_and_an_unsigned_one_is_refused() {
    let scene = scene().await;
    let repository = Repository::new(&scene.registry, RegistryAccess::Protected, "team/signed");
    let (trusted, other) = (key(), key());
    let first = repository.push(":1.0", paddock_guests::POOL_FIXED).await;
    repository.sign(&first, &trusted).await;
    let oci = |version: &str| {
        json!({
            "image": repository.image(version), "pullSecret": { "name": "registry-credentials" },
            "publicKeys": [trusted.public().to_pem()],
        })
    };
    scene.plugin("signed", oci(":1.0")).await;
    let plugin = scene.until_used("signed", &first).await;
    let digest = text(&plugin, "/status/digest").to_owned();
    assert_eq!(digest, paddock_plugin_host::digest(paddock_guests::POOL_FIXED));
    let entry = &plugin["status"]["replicas"][0];
    assert_eq!((text(entry, "/digest"), text(entry, "/imageDigest")), (digest.as_str(), first.as_str()), "{plugin}");

    // The tag moves to an image that nobody has signed, and then somebody else signs it.
    let second = repository.push(":1.0", paddock_guests::ALLOWED_IMAGES).await;
    let refused = scene.until_reason("signed", "SignatureInvalid").await;
    assert!(message(&refused, "Ready").contains("has no signature"), "{refused}");
    repository.sign(&second, &other).await;
    let refused = scene.until("signed", "the other key is seen", |p| message(p, "Ready").contains("another key")).await;
    assert_eq!(text(&refused, "/status/imageDigest"), first.as_str(), "the last good version stays: {refused}");
    assert_eq!(text(&refused, "/status/digest"), digest);

    // With the signature, the tag is followed. Naming the old digest rolls back.
    repository.sign(&second, &trusted).await;
    let plugin = scene.until_used("signed", &second).await;
    assert_eq!(text(&plugin, "/status/digest"), paddock_plugin_host::digest(paddock_guests::ALLOWED_IMAGES));
    scene.plugin("signed", oci(&format!("@{first}"))).await;
    let plugin = scene.until_used("signed", &first).await;
    assert_eq!(text(&plugin, "/status/digest"), digest);

    let metrics = scene.operator.metrics().await;
    for line in [
        "paddock_plugin_pulls_total{outcome=\"Pulled\"} ",
        "paddock_plugin_pulls_total{outcome=\"SignatureInvalid\"} ",
        "paddock_plugin_last_pull_timestamp_seconds{plugin=\"signed\"} ",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    let removed = scene.system.kubectl(&["delete", "sandboxplugin", "signed"], None).await;
    removed.expect("it is deleted");
}

/// The digest of the component is in the spec, beside a tag that is followed.
async fn pinned_component_replaces_the_former_one_without_a_gap_and_an_absent_one_stops_it() {
    const GAP: &str = "spec.digest excludes the version in use; its policies fail";
    let scene = scene().await;
    let repository = Repository::new(&scene.registry, RegistryAccess::Protected, "team/pinned");
    let oci = json!({ "image": repository.image(":1"), "pullSecret": { "name": "registry-credentials" } });
    let pin = async |digest: &str| {
        let mut object = plugin("pinned", oci.clone());
        object["spec"]["digest"] = digest.into();
        let applied = scene.system.kubectl(&["apply", "-f", "-"], Some(&object.to_string())).await;
        applied.expect("the SandboxPlugin is applied");
    };
    let components = [paddock_guests::POOL_FIXED, paddock_guests::ALLOWED_IMAGES];
    for component in [0, 1, 0, 1].map(|which| components[which]) {
        let image = repository.push(":1", component).await;
        let digest = paddock_plugin_host::digest(component);
        pin(&digest).await;
        let used = scene.until_used("pinned", &image).await;
        assert_eq!(text(&used, "/status/digest"), digest);
    }
    let log = || std::fs::read_to_string(scene.operator.process.log()).expect("a log");
    assert!(!log().contains(GAP), "{}", scene.operator.log_tail());
    pin(&format!("sha256:{}", "0".repeat(64))).await;
    let stopped = |p: &Value| reason(p, "Ready") == "DigestMismatch" && p["status"]["digest"].is_null();
    scene.until("pinned", "the component in use stops", stopped).await;
    assert!(log().contains(GAP), "{}", scene.operator.log_tail());
    let removed = scene.system.kubectl(&["delete", "sandboxplugin", "pinned"], None).await;
    removed.expect("it is deleted");
}

async fn credentials_are_a_secret_that_a_role_names() {
    let scene = scene().await;
    let repository = Repository::new(&scene.registry, RegistryAccess::Protected, "team/private");
    let image = repository.push(":1", paddock_guests::POOL_FIXED).await;
    let oci = |secret: &str| json!({ "image": repository.image(":1"), "pullSecret": { "name": secret } });
    scene.plugin("private", json!({ "image": repository.image(":1") })).await;
    let refused = scene.until_reason("private", "Unauthorized").await;
    assert!(message(&refused, "Ready").contains("spec.source.oci.pullSecret: "), "{refused}");
    scene.plugin("private", oci("wrong-credentials")).await;
    let refused = scene.until_reason("private", "PullSecretUnusable").await;
    assert!(message(&refused, "Ready").contains("create secret docker-registry wrong-credentials"), "{refused}");
    scene.secret("wrong-credentials", &[(scene.registry.host(), "wrong")]).await;
    scene.until_reason("private", "Unauthorized").await;
    // The right password in the same Secret counts without a change of the SandboxPlugin.
    scene.secret("wrong-credentials", &[(scene.registry.host(), Registry::PASSWORD)]).await;
    scene.until_used("private", &image).await;
    // No Role names this Secret. The component in use stays.
    scene.secret("unnamed", &[(scene.registry.host(), Registry::PASSWORD)]).await;
    scene.plugin("private", oci("unnamed")).await;
    let refused = scene.until_reason("private", "PullSecretUnusable").await;
    assert!(message(&refused, "Ready").contains("--plugin-pull-secret=unnamed"), "{refused}");
    assert_eq!(text(&refused, "/status/imageDigest"), image.as_str());

    // A registry without TLS needs no Secret, and its image no signature. Warn says so.
    let plain = Repository::new(&scene.plain, RegistryAccess::Plain, "plain");
    let image = plain.push(":1", paddock_guests::POOL_FIXED).await;
    let keys = [key().public().to_pem()];
    scene.plugin("plain", json!({ "image": plain.image(":1"), "verification": "Warn", "publicKeys": keys })).await;
    let warned = scene.until_used("plain", &image).await;
    assert!(message(&warned, "Ready").contains("Warning: spec.source.oci.publicKeys: "), "{warned}");
    scene.plugin("absent", json!({ "image": plain.image(":2") })).await;
    let absent = scene.until_reason("absent", "SourceNotFound").await;
    assert!(message(&absent, "Ready").contains("spec.source.oci.image: "), "{absent}");
    let removed = ["delete", "sandboxplugin", "private", "plain", "absent"];
    scene.system.kubectl(&removed, None).await.expect("they are deleted");
}

/// A second operator, which requires signatures of a key of its own, whatever the SandboxPlugin says.
async fn strict(scene: &Scene, name: &str, key: &Path, cache: &Path) -> Operator {
    let more = vec![
        "--require-plugin-signatures".to_owned(),
        format!("--plugin-signature-key={}", key.display()),
        format!("--plugin-cache-dir={}", cache.display()),
    ];
    let flags = flags_for(&scene.cluster, &scene.plain, more);
    Operator::start(&scene.cluster, Plan { name, kubeconfig: &scene.account, flags }).await
}

async fn operator_that_requires_signatures_keeps_the_last_good_image_while_the_registry_is_away() {
    let scene = scene().await;
    let repository = Repository::new(&scene.unsteady, RegistryAccess::Protected, "platform");
    let platform = key();
    let (file, cache) = (scene.cluster.dir().join("platform.pub"), scene.cluster.dir().join("strict-cache"));
    std::fs::write(&file, platform.public().to_pem()).expect("a file");
    std::fs::create_dir(&cache).expect("a directory");
    let first = repository.push(":1", paddock_guests::POOL_FIXED).await;
    repository.sign(&first, &platform).await;
    let oci = json!({
        "image": repository.image(":1"), "pullSecret": { "name": "registry-credentials" }, "verification": "Disabled",
    });
    scene.plugin("platform", oci).await;
    let lenient = text(&scene.until_used("platform", &first).await, "/status/replicas/0/name").to_owned();
    let operator = strict(scene, "strict", &file, &cache).await;
    let entry = |p: &Value| -> Option<Value> {
        p["status"]["replicas"].as_array()?.iter().find(|entry| text(entry, "/name") != lenient).cloned()
    };
    let has = |p: &Value, image: &Digest, reason: &str| {
        entry(p).is_some_and(|e| text(&e, "/imageDigest") == image.as_str() && text(&e, "/reason") == reason)
    };
    scene.until("platform", "both operators use it", |p| ready(p) && has(p, &first, "")).await;

    // Only the operator that requires signatures stays with the signed image.
    let second = repository.push(":1", paddock_guests::ALLOWED_IMAGES).await;
    let followed = |p: &Value| {
        let entries = p["status"]["replicas"].as_array().into_iter().flatten();
        entries.into_iter().any(|e| text(e, "/name") == lenient && text(e, "/imageDigest") == second.as_str())
    };
    let strictly = |p: &Value| followed(p) && has(p, &first, "SignatureInvalid");
    let refused = scene.until("platform", "the unsigned image is refused", strictly).await;
    assert!(
        text(&entry(&refused).expect("it is there"), "/lastError").contains("--plugin-signature-key: "),
        "{refused}"
    );
    repository.sign(&second, &platform).await;
    scene.until_used("platform", &second).await;

    // The registry ends. Both keep the image, also after a restart.
    scene.unsteady.process().kill().await.expect("it was alive");
    let away = |p: &Value| followed(p) && has(p, &second, "Unreachable") && reason(p, "Ready") == "Unreachable";
    scene.until("platform", "the registry is away", away).await;
    operator.process.signal(Signal::Terminate).await.expect("a signal");
    operator.process.wait().await.expect("it ends");
    let operator = strict(scene, "strict-again", &file, &cache).await;
    scene.until("platform", "the cached image is used", away).await;
    scene.unsteady.process().restart().await.expect("it starts");
    scene.until("platform", "the registry is back", |p| ready(p) && has(p, &second, "")).await;
    operator.process.signal(Signal::Terminate).await.expect("a signal");
    let removed = scene.system.kubectl(&["delete", "sandboxplugin", "platform"], None).await;
    removed.expect("it is deleted");
}

async fn wrong_images_are_refused_by_the_schema() {
    let system = TestNamespace::existing(&setup::setup().await.cluster, NAMESPACE);
    let shown = async |oci: Value| {
        let object = plugin("wrong", oci).to_string();
        system.kubectl_output(&["apply", "--dry-run=server", "-f", "-"], Some(&object)).await
    };
    let digest = "a".repeat(64);
    let good = "registry.example.com/team/pool:1.2";
    for image in [
        "oci://registry.example.com/team/pool:1.2".to_owned(),
        "https://registry.example.com/team/pool:1.2".to_owned(),
        "registry.example.com/team/pool".to_owned(),
        "registry.example.com:5000/pool".to_owned(),
        "team/pool:1.2".to_owned(),
        "registry.example.com/Team/pool:1.2".to_owned(),
        "registry.example.com/team/pool:-1".to_owned(),
        "registry.example.com/team/pool@sha256:12".to_owned(),
        format!("registry.example.com/team/pool@sha256:{}", "A".repeat(64)),
        "registry.example.com/team/pool:1.2 ".to_owned(),
    ] {
        let refused = shown(json!({ "image": image })).await;
        let parts = ["spec.source.oci.image", "REGISTRY/REPOSITORY:TAG", "registry.example.com/team/pool:1.2"];
        assert!(parts.iter().all(|part| refused.contains(part)), "{image}: {refused}");
    }
    for (oci, part) in [
        (json!({ "image": good, "verification": "Maybe" }), "spec.source.oci.verification"),
        (json!({ "image": good, "publicKeys": ["key"] }), "must be in PEM format"),
        (json!({ "image": good, "pullSecret": {} }), "spec.source.oci.pullSecret.name"),
        (json!({}), "spec.source.oci.image"),
    ] {
        let refused = shown(oci.clone()).await;
        assert!(refused.contains(part) && !refused.contains("(server dry run)"), "{oci}: {refused}");
    }
    for image in [
        good.to_owned(),
        "localhost/pool:1".to_owned(),
        "127.0.0.1:5000/a/b-c/d__e:v1".to_owned(),
        "registry:5000/pool:1_a.B-2".to_owned(),
        format!("ghcr.io/o/pool@sha256:{digest}"),
        format!("ghcr.io/o/pool:1@sha256:{digest}"),
    ] {
        let admitted = shown(json!({ "image": image })).await;
        assert!(admitted.contains("created (server dry run)"), "{image}: {admitted}");
    }
    let mut both = plugin("wrong", json!({ "image": good }));
    both["spec"]["source"]["builtIn"] = json!({ "name": "idle-timeout" });
    let refused = system.kubectl_output(&["apply", "--dry-run=server", "-f", "-"], Some(&both.to_string())).await;
    assert!(refused.contains("exactly one of configMap, builtIn and oci"), "{refused}");
}
