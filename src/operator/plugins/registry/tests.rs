//! Images that appear, move, break and come back, in registries that the tests make up. Time is virtual.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt as _};
use paddock_api::SandboxPlugin;
use paddock_registry::{Artifact, Credentials, Digest, Error, Reference, Signature, SigningKey, sign};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::remote::Remote;
use super::*;
use crate::plugins::objects::{Fault, FaultReason};

const POLL: Duration = Duration::from_secs(60);
const IMAGE: &str = "h.example/p:1";

/// The registries.
#[derive(Default)]
struct Fake {
    /// The component that each tag names, by the reference without a digest.
    tags: BTreeMap<String, &'static [u8]>,
    /// The keys that have signed each component.
    signed: BTreeMap<&'static [u8], Vec<Arc<SigningKey>>>,
    /// The error of every request, and that of every pull.
    error: Option<Error>,
    pull_error: Option<Error>,
    /// The hosts that never answer.
    silent: BTreeSet<String>,
    /// The requests so far.
    resolves: usize,
    pulls: usize,
}

/// A manifest has the digest of its component here.
fn digest(component: &[u8]) -> Digest {
    Digest::of(component)
}

#[derive(Clone, Default)]
struct World(Arc<Mutex<Fake>>);

impl World {
    async fn answer(&self, image: &Reference) -> Result<(), Error> {
        if self.0.lock().silent.contains(image.host()) {
            std::future::pending::<()>().await;
        }
        self.0.lock().error.clone().map_or(Ok(()), Err)
    }

    fn tag(&self, image: &str, component: &'static [u8]) {
        self.0.lock().tags.insert(format!("oci://{image}"), component);
    }

    fn counts(&self) -> (usize, usize) {
        let fake = self.0.lock();
        (fake.resolves, fake.pulls)
    }
}

impl Remote for World {
    fn resolve<'a>(&'a self, image: &'a Reference, _: &'a Credentials) -> BoxFuture<'a, Result<Digest, Error>> {
        async move {
            self.0.lock().resolves += 1;
            self.answer(image).await?;
            let fake = self.0.lock();
            let component = fake.tags.get(&image.to_string()).ok_or_else(|| Error::NotFound(image.to_string()))?;
            Ok(digest(component))
        }
        .boxed()
    }

    fn signatures<'a>(
        &'a self,
        image: &'a Reference,
        _: &'a Credentials,
        of: &'a Digest,
    ) -> BoxFuture<'a, Result<Vec<Signature>, Error>> {
        async move {
            self.answer(image).await?;
            let fake = self.0.lock();
            let signed = fake.signed.iter().find(|(component, _)| digest(component) == *of);
            let keys = signed.map(|(_, keys)| keys.clone()).unwrap_or_default();
            Ok(keys.iter().map(|key| sign(of, image, key).unwrap()).collect())
        }
        .boxed()
    }

    fn pull<'a>(&'a self, image: &'a Reference, _: &'a Credentials) -> BoxFuture<'a, Result<Artifact, Error>> {
        async move {
            self.0.lock().pulls += 1;
            self.answer(image).await?;
            let fake = self.0.lock();
            fake.pull_error.clone().map_or(Ok(()), Err)?;
            let wanted = image.digest().expect("a component is pulled by its digest");
            let component = fake.tags.values().find(|component| digest(component) == *wanted);
            let component = *component.ok_or_else(|| Error::NotFound(image.to_string()))?;
            Ok(Artifact {
                manifest_digest: wanted.clone(),
                component: component.into(),
                component_digest: digest(component),
            })
        }
        .boxed()
    }
}

/// The images of SandboxPlugins in these registries.
struct Scene {
    world: World,
    pulls: Pulls,
    updates: BoxStream<'static, PullUpdate>,
    /// The attempts that were counted, as `PLUGIN OUTCOME`.
    counted: Arc<Mutex<Vec<String>>>,
    wanted: BTreeMap<String, Wanted>,
}

impl Scene {
    fn new() -> Self {
        Self::with(RegistryConfig::default())
    }

    fn with(config: RegistryConfig) -> Self {
        let world = World::default();
        let counted: Arc<Mutex<Vec<String>>> = Arc::default();
        let count = {
            let counted = Arc::clone(&counted);
            move |count: PullCount<'_>| {
                counted.lock().push(match count {
                    PullCount::Tried { plugin, outcome, .. } => format!("{plugin} {outcome}"),
                    PullCount::Ended { plugin } => format!("{plugin} ended"),
                });
            }
        };
        let puller = Puller::with(Box::new(world.clone()), PullSecrets::none(), &config, Box::new(count));
        let (pulls, updates) = Pulls::new(Arc::new(puller));
        Self { world, pulls, updates: updates.boxed(), counted, wanted: BTreeMap::new() }
    }

    /// A SandboxPlugin with this image.
    fn plugin(&mut self, name: &str, oci: Value) {
        self.pinned(name, oci, None);
    }

    fn pinned(&mut self, name: &str, oci: Value, digest: Option<&Digest>) {
        let spec = json!({ "source": { "oci": oci }, "digest": digest.map(Digest::as_str) });
        let object = json!({ "metadata": { "name": name, "uid": name }, "spec": spec });
        let object: SandboxPlugin = serde_json::from_value(object).unwrap();
        self.wanted.insert(name.to_owned(), Wanted::of(&object).unwrap());
        self.pulls.want(self.wanted.clone());
    }

    /// Takes in everything that happens in a time.
    async fn pass(&mut self, time: Duration) {
        let end = sleep(time);
        tokio::pin!(end);
        loop {
            tokio::select! {
                biased;
                Some(update) = self.updates.next() => self.pulls.take_in(update),
                () = &mut end => return,
            }
        }
    }

    fn component(&self, plugin: &str) -> Option<Vec<u8>> {
        let component = self.pulls.pulled(plugin).unwrap().component.as_ref()?;
        Some(component.content.bytes.to_vec())
    }

    fn fault(&self, plugin: &str) -> Option<Fault> {
        self.pulls.pulled(plugin).unwrap().fault.clone()
    }

    fn reason(&self, plugin: &str) -> Option<FaultReason> {
        self.fault(plugin).map(|fault| fault.reason)
    }
}

fn a_moment() -> Duration {
    Duration::from_millis(10)
}

/// The tag was asked for before it moved. A pin to the new component must not compare it with that answer.
#[tokio::test(start_paused = true)]
async fn tag_is_asked_for_at_once_when_the_wanted_digest_changes() {
    let mut scene = Scene::new();
    scene.world.tag(IMAGE, b"one");
    scene.plugin("p", json!({ "image": IMAGE }));
    scene.pass(a_moment()).await;
    scene.world.tag(IMAGE, b"two");
    scene.pinned("p", json!({ "image": IMAGE }), Some(&digest(b"two")));
    assert_eq!(scene.component("p"), None);
    scene.pass(a_moment()).await;
    assert_eq!(scene.component("p").unwrap(), b"two");
    let content = scene.pulls.pulled("p").unwrap().component.clone().unwrap().content;
    assert_eq!(content.digest, digest(b"two"));
}

#[tokio::test(start_paused = true)]
async fn moved_tag_is_followed_within_the_interval() {
    let mut scene = Scene::new();
    scene.world.tag(IMAGE, b"one");
    scene.plugin("p", json!({ "image": IMAGE }));
    assert_eq!(scene.component("p"), None, "nothing waits for the registry");
    scene.pass(a_moment()).await;
    assert_eq!(scene.component("p").unwrap(), b"one");
    scene.pass(POLL * 5).await;
    assert_eq!(scene.world.counts().1, 1, "the same digest is pulled once");
    scene.world.tag(IMAGE, b"two");
    scene.pass(POLL + a_moment()).await;
    assert_eq!(scene.component("p").unwrap(), b"two");
    let image = scene.pulls.pulled("p").unwrap().component.clone().unwrap().image.unwrap();
    assert_eq!(image.digest, digest(b"two").as_str());
}

#[tokio::test(start_paused = true)]
async fn digest_is_pulled_once_and_an_old_one_rolls_back() {
    let mut scene = Scene::new();
    scene.world.tag("h.example/p:old", b"old");
    scene.world.tag(IMAGE, b"new");
    scene.plugin("p", json!({ "image": format!("h.example/p@{}", digest(b"new")) }));
    scene.pass(POLL * 10).await;
    assert_eq!((scene.component("p").unwrap(), scene.world.counts()), (b"new".to_vec(), (0, 1)));
    scene.plugin("p", json!({ "image": format!("h.example/p@{}", digest(b"old")) }));
    assert_eq!(scene.component("p"), None, "the other image is used only as the last good version");
    scene.pass(a_moment()).await;
    assert_eq!((scene.component("p").unwrap(), scene.world.counts()), (b"old".to_vec(), (0, 2)));
}

#[tokio::test(start_paused = true)]
async fn every_error_has_its_reason_keeps_the_component_and_ends() {
    let h = || "h.example".to_owned();
    let reason = || "down".to_owned();
    let what = || "oci://h.example/p".to_owned();
    let mismatch = Error::DigestMismatch { what: what(), expected: digest(b"a"), got: digest(b"b") };
    for (error, expected, part) in [
        (Error::NotFound(what()), FaultReason::SourceNotFound, "spec.source.oci.image: "),
        (
            Error::Unauthorized { host: h(), reason: reason() },
            FaultReason::Unauthorized,
            "spec.source.oci.pullSecret: ",
        ),
        (Error::Unreachable { host: h(), reason: reason() }, FaultReason::Unreachable, "spec.source.oci.image: "),
        (Error::Tls { host: h(), reason: reason() }, FaultReason::Unreachable, "--plugin-registry-ca-file"),
        (Error::TooLarge { what: what(), limit: 1 }, FaultReason::TooLarge, "more than 1 bytes"),
        (Error::Truncated { what: what(), expected: 2, got: 1 }, FaultReason::Unreachable, "spec.source.oci.image: "),
        (mismatch, FaultReason::DigestMismatch, "spec.source.oci.image: "),
        (Error::NotAComponent { what: what(), reason: reason() }, FaultReason::NotAComponent, "is not a component"),
    ] {
        let mut scene = Scene::new();
        scene.world.tag(IMAGE, b"one");
        scene.world.0.lock().pull_error = Some(error.clone());
        scene.plugin("p", json!({ "image": IMAGE }));
        scene.pass(a_moment()).await;
        assert_eq!((scene.component("p"), scene.reason("p")), (None, Some(expected)));
        let message = scene.fault("p").unwrap().message;
        assert!(message.contains(part), "{message}");
        assert_eq!(scene.counted.lock().as_slice(), [format!("p {}", expected.as_str())]);
        scene.world.0.lock().pull_error = None;
        scene.pass(limits::PLUGIN_PULL_RETRY).await;
        assert_eq!(
            (scene.component("p").unwrap(), scene.fault("p")),
            (b"one".to_vec(), None),
            "the first retry is soon"
        );
        // A fault beside a good component changes nothing but the status.
        scene.world.0.lock().error = Some(error);
        scene.pass(POLL).await;
        assert_eq!((scene.component("p").unwrap(), scene.reason("p")), (b"one".to_vec(), Some(expected)));
        scene.world.0.lock().error = None;
        scene.pass(POLL).await;
        assert_eq!(scene.fault("p"), None);
    }
}

#[tokio::test(start_paused = true)]
async fn failing_registry_is_asked_less_and_less() {
    let mut scene = Scene::new();
    scene.world.0.lock().error = Some(Error::Unreachable { host: "h.example".to_owned(), reason: "down".to_owned() });
    scene.plugin("p", json!({ "image": IMAGE }));
    scene.pass(POLL * 10).await;
    let resolves = scene.world.counts().0;
    // 2, 4, 8, 16, 32 and then 60 seconds, each shortened by at most a half.
    assert!((12..=28).contains(&resolves), "{resolves}");
}

#[tokio::test(start_paused = true)]
async fn unsigned_image_never_replaces_a_signed_one() {
    let (key, _) = SigningKey::generate().unwrap();
    let mut scene = Scene::new();
    scene.world.tag(IMAGE, b"one");
    scene.world.0.lock().signed.insert(b"one", vec![Arc::new(key)]);
    let key = scene.world.0.lock().signed[b"one".as_slice()][0].public().to_pem();
    scene.plugin("p", json!({ "image": IMAGE, "publicKeys": [key] }));
    scene.pass(a_moment()).await;
    assert_eq!((scene.component("p").unwrap(), scene.fault("p")), (b"one".to_vec(), None));
    scene.world.tag(IMAGE, b"two");
    scene.pass(POLL * 3).await;
    assert_eq!(
        (scene.component("p").unwrap(), scene.reason("p")),
        (b"one".to_vec(), Some(FaultReason::SignatureInvalid))
    );
    assert_eq!(scene.world.counts().1, 1, "a component without a signature is not even pulled");
    let (other, _) = SigningKey::generate().unwrap();
    scene.world.0.lock().signed.insert(b"two", vec![Arc::new(other)]);
    scene.pass(POLL * 3).await;
    let message = scene.fault("p").unwrap().message;
    assert!(message.starts_with("spec.source.oci.publicKeys: ") && message.contains("another key"), "{message}");
    let mine = scene.world.0.lock().signed[b"one".as_slice()].clone();
    scene.world.0.lock().signed.insert(b"two", mine);
    scene.pass(POLL).await;
    assert_eq!((scene.component("p").unwrap(), scene.fault("p")), (b"two".to_vec(), None), "the signature came later");
}

#[tokio::test(start_paused = true)]
async fn warning_about_a_missing_signature_ends_with_the_signature() {
    let key = Arc::new(SigningKey::generate().unwrap().0);
    let config = RegistryConfig { keys: vec![key.public()], ..RegistryConfig::default() };
    let mut scene = Scene::with(config);
    scene.world.tag(IMAGE, b"one");
    let image = format!("h.example/p@{}", digest(b"one"));
    scene.plugin("p", json!({ "image": image, "verification": "Warn" }));
    scene.pass(POLL * 3).await;
    let warning = |scene: &Scene| scene.pulls.pulled("p").unwrap().component.clone().unwrap().image.unwrap().warning;
    assert!(warning(&scene).unwrap().starts_with("--plugin-signature-key: "), "{:?}", warning(&scene));
    assert_eq!(scene.counted.lock()[..2], ["p Pulled", "p Unchanged"]);
    scene.world.0.lock().signed.insert(b"one", vec![key]);
    scene.pass(POLL).await;
    assert_eq!((warning(&scene), scene.world.counts().1), (None, 1));
}

#[tokio::test(start_paused = true)]
async fn operator_that_requires_signatures_overrules_the_plugin() {
    let key = Arc::new(SigningKey::generate().unwrap().0);
    let config = RegistryConfig { keys: vec![key.public()], require_signatures: true, ..RegistryConfig::default() };
    let mut scene = Scene::with(config);
    scene.world.tag(IMAGE, b"one");
    scene.plugin("p", json!({ "image": IMAGE, "verification": "Disabled" }));
    assert!(scene.pulls.pulled("p").unwrap().trust.is_some());
    scene.pass(POLL).await;
    assert_eq!((scene.component("p"), scene.reason("p")), (None, Some(FaultReason::SignatureInvalid)));
    scene.world.0.lock().signed.insert(b"one", vec![key]);
    scene.pass(POLL).await;
    assert_eq!(scene.component("p").unwrap(), b"one");
}

#[tokio::test(start_paused = true)]
async fn silent_registry_delays_no_other_and_is_reported() {
    let mut scene = Scene::new();
    scene.world.0.lock().silent.insert("silent.example".to_owned());
    let pinned = digest(b"x");
    for n in 0..10 {
        // A tag, whose digest never arrives, and a digest, whose component never arrives.
        scene.plugin(&format!("tag-{n}"), json!({ "image": format!("silent.example/p:{n}") }));
        scene.plugin(&format!("pinned-{n}"), json!({ "image": format!("silent.example/p-{n}@{pinned}") }));
    }
    scene.pass(a_moment()).await;
    scene.world.tag(IMAGE, b"one");
    scene.plugin("good", json!({ "image": IMAGE }));
    scene.pass(a_moment()).await;
    assert_eq!(scene.component("good").unwrap(), b"one");
    assert_eq!(scene.world.counts().1, 2, "one pull from each registry");
    scene.pass(limits::PLUGIN_REGISTRY_TIMEOUT).await;
    let fault = scene.fault("tag-0").unwrap();
    assert_eq!(fault.reason, FaultReason::Unreachable);
    assert!(fault.message.contains("silent.example did not answer within 30s"), "{fault:?}");
}

#[tokio::test(start_paused = true)]
async fn image_that_is_not_wanted_any_more_is_not_asked_for() {
    let mut scene = Scene::new();
    scene.world.tag(IMAGE, b"one");
    scene.plugin("p", json!({ "image": IMAGE }));
    // The former object of the same name is still being pulled.
    scene.world.tag("h.example/p:2", b"two");
    scene.plugin("p", json!({ "image": "h.example/p:2" }));
    scene.pass(a_moment()).await;
    assert_eq!(scene.component("p").unwrap(), b"two");
    scene.wanted.clear();
    scene.pulls.want(BTreeMap::new());
    assert!(scene.pulls.pulled("p").is_none());
    assert_eq!(scene.counted.lock().last().unwrap(), "p ended");
    let before = scene.world.counts();
    assert!(timeout(POLL * 3, scene.updates.next()).await.is_err());
    assert_eq!(scene.world.counts(), before);
    assert!(scene.updates.next().now_or_never().is_none());
}
