//! Copies of equal values that objects share: the members of a pool have the same model, labels and owner, and a pod has
//! the name of its Sandbox.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use paddock_api::DecidingPlugin;
use paddock_api::kind::{Key, Kind};

use crate::model::{Sandbox, StoredSpec};
use crate::object::hash::fnv64;
use crate::object::{Body, Object, Owner};

/// The values that objects of the World share.
#[derive(Debug, Default)]
pub(super) struct SharedValues {
    sandboxes: Shared<Sandbox>,
    specs: Shared<StoredSpec>,
    plugins: Shared<Vec<DecidingPlugin>>,
    owners: Shared<Owner>,
    /// Namespaces, nodes, the kinds of owners, and the labels and annotations of Sandboxes and pods.
    texts: Shared<str>,
}

impl SharedValues {
    /// Replaces the parts of a new object by equal ones that are known, so that they use the same memory.
    pub(super) fn share(&mut self, object: &mut Object, objects: &BTreeMap<Key, Arc<Object>>) {
        self.share_owner(object, objects);
        match objects.get(&object.key) {
            Some(before) => share_with(object, before),
            None => self.share_text(&mut object.key.namespace),
        }
        let kind = object.key.kind;
        // The labels of a pod have the UID of its Sandbox, so no two pods have the same.
        if kind == Kind::Sandbox {
            self.share_text(object.meta.labels.memory());
        }
        if matches!(kind, Kind::Sandbox | Kind::Pod) {
            self.share_text(object.meta.annotations.memory());
        }
        self.share_body(&mut object.body);
    }

    fn share_owner(&mut self, object: &mut Object, objects: &BTreeMap<Key, Arc<Object>>) {
        let owner = object.owner_key().and_then(|key| objects.get(&key));
        let Some(reference) = &mut object.meta.controller else { return };
        let Owner { api_version, kind, name, uid } = Arc::make_mut(reference);
        self.share_text(api_version);
        self.share_text(kind);
        if let Some(owner) = owner.filter(|owner| owner.meta.uid == *uid) {
            *uid = owner.meta.uid.clone();
            *name = owner.key.name.clone();
            object.key.namespace = owner.key.namespace.clone();
            if object.key.name == owner.key.name {
                object.key.name = owner.key.name.clone();
            }
        }
        if object.key.kind == Kind::Sandbox {
            self.owners.share(fnv64([reference.uid.as_bytes()]), reference);
        }
    }

    fn share_text(&mut self, text: &mut Arc<str>) {
        self.texts.share(fnv64([text.as_bytes()]), text);
    }

    fn share_body(&mut self, body: &mut Body) {
        match body {
            Body::Sandbox(parsed) => {
                self.share_plugins(&mut Arc::make_mut(&mut parsed.status).plugins);
                let Ok(model) = &mut parsed.spec else { return };
                let spec = hash_of(&model.pod.spec);
                let whole = fnv64([&spec.to_le_bytes(), model.pod.labels.as_bytes(), model.pod.annotations.as_bytes()]);
                // The spec comes first, because `make_mut` would move a model that is known already.
                self.specs.share(spec, &mut Arc::make_mut(model).pod.spec);
                self.sandboxes.share(whole, model);
            }
            Body::Template(template) => {
                let Ok(model) = &mut template.0.spec else { return };
                let spec = hash_of(&model.pod.spec);
                self.specs.share(spec, &mut Arc::make_mut(model).pod.spec);
            }
            Body::Claim(parsed) => {
                self.share_plugins(&mut Arc::make_mut(&mut parsed.status).plugins);
            }
            Body::Pod(Some(pod)) => {
                let pod = Arc::make_mut(pod);
                if let Some(node) = &mut pod.node {
                    self.share_text(node);
                }
                self.share_plugins(&mut pod.plugins);
            }
            Body::Pool(_)
            | Body::Pod(None)
            | Body::Service(_)
            | Body::VolumeClaim(_)
            | Body::NetworkPolicy(_)
            | Body::EndpointSlice(_)
            | Body::ServiceEndpoints(_)
            | Body::Namespace
            | Body::Node(_)
            | Body::RuntimeClass(_)
            | Body::StorageClass => {}
        }
    }

    fn share_plugins(&mut self, plugins: &mut Arc<Vec<DecidingPlugin>>) {
        let parts = plugins.iter().flat_map(|plugin| {
            let settings = plugin.settings.as_deref().unwrap_or_default();
            [&*plugin.name, &*plugin.digest, settings].map(str::as_bytes)
        });
        self.plugins.share(fnv64(parts), plugins);
    }
}

fn hash_of(spec: &StoredSpec) -> u64 {
    fnv64([spec.text().as_str().as_bytes()])
}

/// Replaces the identity and the labels of the next version of an object by those of the last version, if they are equal.
fn share_with(object: &mut Object, before: &Object) {
    object.key = before.key.clone();
    let (new, old) = (&mut object.meta, &before.meta);
    if new.uid == old.uid {
        new.uid = old.uid.clone();
    }
    if new.labels == old.labels {
        new.labels = old.labels.clone();
    }
    if new.controller == old.controller {
        new.controller.clone_from(&old.controller);
    }
}

/// The known values of one type, by their hash. A value is dropped with the last object that has it, and its place soon
/// after. The memory of a text is freed only with its place.
#[derive(Debug)]
struct Shared<T: ?Sized> {
    known: BTreeMap<u64, Weak<T>>,
    /// The number of values at which those that were dropped are removed.
    prune_at: usize,
    /// The bytes of the known values, without what they point to.
    bytes: usize,
    /// The number of these bytes at which values that were dropped are removed.
    prune_at_bytes: usize,
}

/// The bytes of values that were dropped may be as many, or a quarter of the bytes of the other values.
const DROPPED_BYTES: usize = 1024 * 1024;

impl<T: ?Sized> Default for Shared<T> {
    fn default() -> Self {
        Self { known: BTreeMap::new(), prune_at: 64, bytes: 0, prune_at_bytes: DROPPED_BYTES }
    }
}

impl<T: PartialEq + ?Sized> Shared<T> {
    /// Replaces a value by the known one of the same hash, if they are equal, or else makes it the known one.
    fn share(&mut self, hash: u64, value: &mut Arc<T>) {
        match self.known.get(&hash).and_then(Weak::upgrade) {
            Some(known) if known == *value => *value = known,
            Some(_) => {}
            None => {
                self.known.insert(hash, Arc::downgrade(value));
                self.bytes += size_of_val(&**value);
                if self.known.len() >= self.prune_at || self.bytes >= self.prune_at_bytes {
                    self.prune();
                }
            }
        }
    }

    fn prune(&mut self) {
        let mut bytes = 0;
        self.known.retain(|_, known| {
            let kept = known.upgrade();
            bytes += kept.as_deref().map_or(0, size_of_val);
            kept.is_some()
        });
        self.bytes = bytes;
        self.prune_at = (self.known.len() / 4 * 5).max(64);
        self.prune_at_bytes = (bytes / 4 * 5).max(bytes + DROPPED_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use paddock_api::kind::{Key, Kind};
    use serde_json::{Value, json};

    use super::*;
    use crate::settings::Settings;
    use crate::world::{Observed, World};

    fn sandbox(name: &str, version: u32, image: &str, labels: &Value) -> Object {
        let document = json!({
            "metadata": { "name": name, "namespace": "n", "uid": name, "resourceVersion": version.to_string() },
            "spec": { "podTemplate": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{ "name": "c", "image": image }] },
            } },
        });
        Object::from_json(Kind::Sandbox, document).unwrap()
    }

    fn model(world: &World, name: &str) -> Arc<Sandbox> {
        world.get(&Key::new(Kind::Sandbox, "n", name)).unwrap().sandbox().unwrap().spec.clone().unwrap()
    }

    #[test]
    fn sandboxes_with_equal_models_share_one_and_others_share_the_spec() {
        let mut world = World::new(Settings::default());
        let observe = |object: Object, world: &mut World| {
            // A reply is put into the World as a copy.
            let _ = world.observe(Observed::Applied(object.clone()), Timestamp::UNIX_EPOCH);
            drop(object);
        };
        observe(sandbox("a", 1, "i", &json!({})), &mut world);
        observe(sandbox("b", 2, "i", &json!({})), &mut world);
        observe(sandbox("c", 3, "i", &json!({ "team": "x" })), &mut world);
        observe(sandbox("d", 4, "j", &json!({})), &mut world);
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| model(&world, name));
        assert!(Arc::ptr_eq(&a, &b), "equal models");
        assert!(!Arc::ptr_eq(&a, &c) && Arc::ptr_eq(&a.pod.spec, &c.pod.spec), "equal specs with other labels");
        assert!(!Arc::ptr_eq(&a.pod.spec, &d.pod.spec), "other specs");
        assert_eq!(
            (c.pod.labels.get("team").unwrap(), d.pod.spec.parse().containers[0].image.as_deref()),
            ("x", Some("j"))
        );
        observe(sandbox("b", 5, "j", &json!({})), &mut world);
        assert!(Arc::ptr_eq(&model(&world, "b"), &d), "after a change");
    }

    /// The pieces of memory of an object's metadata, by name.
    fn pieces(object: &Object) -> Vec<(&'static str, Arc<str>)> {
        let mut meta = object.meta.clone();
        let owner = meta.controller.as_deref().expect("an owner");
        vec![
            ("namespace", object.key.namespace.clone()),
            ("name", object.key.name.clone()),
            ("uid", meta.uid.clone()),
            ("kind of the owner", owner.kind.clone()),
            ("API version of the owner", owner.api_version.clone()),
            ("name of the owner", owner.name.clone()),
            ("UID of the owner", owner.uid.clone()),
            ("labels", meta.labels.memory().clone()),
            ("annotations", meta.annotations.memory().clone()),
        ]
    }

    fn owned(kind: Kind, name: &str, version: u32, owner: (&str, &str, &str)) -> Object {
        let (group, of, uid) = owner;
        let document = json!({
            "metadata": {
                "name": name, "namespace": "n", "uid": format!("{kind:?}-{name}"), "resourceVersion": version.to_string(),
                "labels": { "a": "b" }, "annotations": { "c": "d" },
                "ownerReferences": [{
                    "apiVersion": format!("{group}/v1beta1"), "kind": of, "name": uid.rsplit('-').next(), "uid": uid, "controller": true,
                }],
            },
            "spec": { "nodeName": "node-1", "podTemplate": { "spec": { "containers": [] } } },
        });
        Object::from_json(kind, document).unwrap()
    }

    /// Whether two objects share each piece of memory, by name.
    fn shared(a: &Object, b: &Object) -> Vec<&'static str> {
        let both = pieces(a).into_iter().zip(pieces(b));
        both.filter(|((_, a), (_, b))| Arc::ptr_eq(a, b)).map(|((name, _), _)| name).collect()
    }

    #[test]
    fn an_object_shares_what_it_has_in_common_with_its_owner_its_siblings_and_its_last_version() {
        const POOL: (&str, &str, &str) = ("extensions.agents.x-k8s.io", "SandboxWarmPool", "Pool-p");
        const SANDBOX: (&str, &str, &str) = ("agents.x-k8s.io", "Sandbox", "Sandbox-a");
        let mut world = World::new(Settings::default());
        let mut observe = |object: Object| {
            let key = object.key.clone();
            let _ = world.observe(Observed::Applied(object), Timestamp::UNIX_EPOCH);
            world.get(&key).unwrap().clone()
        };
        let a = observe(owned(Kind::Sandbox, "a", 1, POOL));
        let b = observe(owned(Kind::Sandbox, "b", 2, POOL));
        let of_pool = ["namespace", "kind of the owner", "API version of the owner", "name of the owner"];
        let of_pool = [&of_pool[..], &["UID of the owner", "labels", "annotations"]].concat();
        assert_eq!(shared(&a, &b), of_pool, "siblings");
        assert!(Arc::ptr_eq(a.meta.controller.as_ref().unwrap(), b.meta.controller.as_ref().unwrap()));
        let pod = observe(owned(Kind::Pod, "a", 3, SANDBOX));
        assert_eq!(pieces(&pod)[1].1.as_ptr(), pieces(&a)[1].1.as_ptr(), "the name of its Sandbox");
        assert_eq!(pieces(&pod)[6].1.as_ptr(), a.meta.uid.as_ptr(), "the UID of its Sandbox");
        let next = observe(owned(Kind::Pod, "a", 4, SANDBOX));
        assert_eq!(shared(&pod, &next).len(), pieces(&pod).len(), "the next version");
        let other = observe(owned(Kind::Pod, "b", 5, ("agents.x-k8s.io", "Sandbox", "Sandbox-b")));
        let node = |pod: &Object| pod.pod().unwrap().node.clone().unwrap();
        assert!(Arc::ptr_eq(&node(&next), &node(&other)), "the node");
    }

    /// An object of every pod of the cluster is kept. The sizes are those of a 64-bit machine.
    #[test]
    fn objects_are_small() {
        assert!(size_of::<Object>() <= 232, "{}", size_of::<Object>());
        assert!(size_of::<crate::object::Pod>() <= 168, "{}", size_of::<crate::object::Pod>());
    }

    #[test]
    fn values_that_no_object_has_are_forgotten() {
        let mut world = World::new(Settings::default());
        for n in 0..1000_u32 {
            let changed = sandbox("a", n + 1, &format!("i{n}"), &json!({}));
            let _ = world.observe(Observed::Applied(changed), Timestamp::UNIX_EPOCH);
        }
        let SharedValues { sandboxes, specs, plugins: _, owners, texts } = &world.shared;
        let known = [sandboxes.known.len(), specs.known.len(), owners.known.len(), texts.known.len()];
        assert!(known.iter().all(|known| *known <= 80), "{known:?}");
    }

    /// One Sandbox gets other annotations again and again. A dropped text of the table would keep its memory.
    #[test]
    fn large_texts_that_no_object_has_are_forgotten_soon() {
        const LARGE: usize = 128 * 1024;
        let mut world = World::new(Settings::default());
        for version in 1..60_u32 {
            let mut changed = sandbox("a", version, "i", &json!({}));
            let text = char::from_digit(version % 36, 36).unwrap().to_string().repeat(LARGE);
            changed.meta.annotations = BTreeMap::from([("a".to_owned(), text)]).into();
            let _ = world.observe(Observed::Applied(changed), Timestamp::UNIX_EPOCH);
            let texts = &world.shared.texts;
            let dropped = texts.known.values().filter(|known| known.strong_count() == 0).count();
            assert!(dropped * LARGE <= DROPPED_BYTES + LARGE, "{dropped} large texts after {version} versions");
            assert!(texts.bytes < DROPPED_BYTES + 3 * LARGE, "{} bytes", texts.bytes);
        }
    }
}
