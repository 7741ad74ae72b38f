//! The stored objects, the ordered log of their changes, and the indexes for the controllers of the model.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::Resource;
use super::gc::Collector;

/// Identifies one object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id {
    pub(crate) resource: Resource,
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
}

/// One change of a stored object.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) id: Id,
    pub(crate) before: Option<Arc<Value>>,
    pub(crate) after: Option<Arc<Value>>,
}

/// The store. Watches deliver `log`, which has one sequence for each resource and is never reordered within it.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) now: Timestamp,
    objects: BTreeMap<Id, Arc<Value>>,
    version: u64,
    uids: u64,
    /// A kind whose creations are refused, with the message.
    pub(super) refusing: Option<(&'static str, String)>,
    pub(super) log: BTreeMap<Resource, Vec<Change>>,
    /// Changes that the oracle has not checked yet.
    pub(super) fresh: Vec<Change>,
    by_uid: BTreeMap<Arc<str>, Id>,
    /// Objects by the UIDs of their owners.
    dependents: BTreeMap<Arc<str>, BTreeSet<Id>>,
    pub(super) collector: Collector,
    /// Volume claims that their protection has to process.
    pub(super) unguarded: BTreeSet<Id>,
}

impl Id {
    pub(crate) fn new(resource: Resource, namespace: &str, name: &str) -> Self {
        let namespace = if resource.namespaced() { namespace } else { "" };
        Self { resource, namespace: namespace.into(), name: name.into() }
    }

    pub(crate) fn of(resource: Resource, document: &Value) -> Self {
        let text = |field: &str| document["metadata"][field].as_str().unwrap_or_default();
        Self::new(resource, text("namespace"), text("name"))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}/{}/{}", self.resource.kind(), self.resource.group(), self.namespace, self.name)
    }
}

impl Api {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            now,
            objects: BTreeMap::new(),
            version: 1,
            uids: 0,
            refusing: None,
            log: BTreeMap::new(),
            fresh: Vec::new(),
            by_uid: BTreeMap::new(),
            dependents: BTreeMap::new(),
            collector: Collector::default(),
            unguarded: BTreeSet::new(),
        }
    }

    pub(crate) fn get(&self, id: &Id) -> Option<&Arc<Value>> {
        self.objects.get(id)
    }

    /// All objects of a resource, ordered by name.
    pub(crate) fn list(&self, resource: Resource) -> impl Iterator<Item = (&Id, &Arc<Value>)> {
        let start = Id { resource, namespace: "".into(), name: "".into() };
        self.objects.range(start..).take_while(move |(id, _)| id.resource == resource)
    }

    /// The objects that name `uid` as an owner.
    pub(crate) fn dependents(&self, uid: &str) -> impl Iterator<Item = &Id> {
        self.dependents.get(uid).into_iter().flatten()
    }

    /// The object with a UID.
    pub(crate) fn by_uid(&self, uid: &str) -> Option<&Arc<Value>> {
        self.by_uid.get(uid).and_then(|id| self.objects.get(id))
    }

    /// All changes of a resource, in order.
    pub(crate) fn changes(&self, resource: Resource) -> &[Change] {
        self.log.get(&resource).map(Vec::as_slice).unwrap_or_default()
    }

    /// The length of each resource's log.
    pub(super) fn logs(&self) -> impl Iterator<Item = (Resource, usize)> {
        self.log.iter().map(|(resource, log)| (*resource, log.len()))
    }

    /// The changes since the last call.
    pub(crate) fn take_fresh(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.fresh)
    }

    /// Stores an object unchanged, with the UID that it contains. Tests use it for their setup.
    pub(crate) fn place(&mut self, document: Value) {
        let Some(resource) = Resource::of(&document) else { return };
        self.put(Id::of(resource, &document), document);
    }

    pub(super) fn put(&mut self, id: Id, mut document: Value) -> Arc<Value> {
        self.version += 1;
        document["metadata"]["resourceVersion"] = self.version.to_string().into();
        let document = Arc::new(document);
        let before = self.objects.get(&id).cloned();
        if let Some(before) = &before {
            self.unlink(&id, before);
        }
        self.objects.insert(id.clone(), document.clone());
        self.link(&id, &document);
        self.note(Change { id, before, after: Some(document.clone()) });
        document
    }

    pub(super) fn remove(&mut self, id: &Id) {
        let Some(before) = self.objects.remove(id) else { return };
        self.version += 1;
        self.unlink(id, &before);
        if let Some(uid) = before["metadata"]["uid"].as_str() {
            self.by_uid.remove(uid);
        }
        if id.resource == Resource::POD {
            let claims =
                super::guard::volume_claims(&before).map(|c| Id::new(Resource::VOLUME_CLAIM, &id.namespace, c));
            self.unguarded.extend(claims);
        }
        // The last event of a watch contains the version of the deletion.
        let mut last = Value::clone(&before);
        last["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.note(Change { id: id.clone(), before: Some(Arc::new(last)), after: None });
    }

    fn note(&mut self, change: Change) {
        self.fresh.push(change.clone());
        self.log.entry(change.id.resource).or_default().push(change);
    }

    fn link(&mut self, id: &Id, document: &Value) {
        if let Some(uid) = document["metadata"]["uid"].as_str() {
            self.by_uid.insert(uid.into(), id.clone());
        }
        for uid in owners(document) {
            self.dependents.entry(uid.into()).or_default().insert(id.clone());
        }
        if id.resource == Resource::VOLUME_CLAIM {
            self.unguarded.insert(id.clone());
        }
    }

    fn unlink(&mut self, id: &Id, document: &Value) {
        for uid in owners(document) {
            if let Some(set) = self.dependents.get_mut(uid) {
                set.remove(id);
            }
        }
    }

    pub(super) fn next_uid(&mut self) -> String {
        self.uids += 1;
        format!("00000000-0000-4000-8000-{:012}", self.uids)
    }

    pub(super) fn now_in_seconds(&self) -> String {
        self.seconds_from_now(0)
    }

    pub(crate) fn seconds_from_now(&self, seconds: i64) -> String {
        let at = self.now + SignedDuration::from_secs(seconds);
        Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
    }
}

/// The UIDs of the owners that an object names.
fn owners(document: &Value) -> impl Iterator<Item = &str> {
    document["metadata"]["ownerReferences"].as_array().into_iter().flatten().filter_map(|o| o["uid"].as_str())
}
