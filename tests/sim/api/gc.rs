//! The garbage collector: it deletes objects whose owners no longer exist, and it completes a foreground deletion when
//! the blocking dependents are removed.
//!
//! It works like the real collector, because its steps decide the outcome for ownership cycles and for owners that
//! never existed. Events build a graph. They may arrive late, but the events of one kind stay in order. An event adds
//! the objects that it touches to a queue, and the collector decides about a queued object from the stored objects. The
//! caller chooses only the order of the steps. The model does not retry endlessly, as the real collector does for
//! references that cannot be resolved.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Api, Change, Deletion, FOREGROUND, Id, Part, Resource, finalizers};

/// The collector's knowledge and its remaining work.
#[derive(Clone, Debug, Default)]
pub(super) struct Collector {
    /// Objects by UID.
    graph: BTreeMap<Arc<str>, Node>,
    /// The number of events that were read from each resource's log.
    read: BTreeMap<Resource, usize>,
    /// Owners that the collector requested and did not find.
    missing: VecDeque<(Arc<str>, Name)>,
    /// Objects to process.
    queue: BTreeSet<Arc<str>>,
}

/// The identity of an object, from the object itself or from a reference to it. An unknown kind has no `id`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    id: Option<Id>,
    unknown: String,
}

#[derive(Clone, Debug)]
struct Node {
    name: Name,
    owners: Vec<Owner>,
    dependents: BTreeSet<Arc<str>>,
    /// The object is known only from references.
    is_virtual: bool,
    terminating: bool,
    /// The object waits for its dependents. The collector assumes that this never ends.
    waits: bool,
    /// The resource version at which the waiting began.
    waits_since: u64,
    /// The names under which the object was not found.
    not_found: BTreeSet<Name>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Owner {
    uid: Arc<str>,
    name: Name,
    blocks: bool,
}

/// The number of events that are read at once. The graph changes faster than the collector acts on it.
const READ_AT_ONCE: usize = 16;

impl Api {
    /// Whether the collector has work to do.
    pub(crate) fn gc_pending(&self) -> bool {
        let gc = &self.collector;
        !gc.queue.is_empty() || !gc.missing.is_empty() || !self.unguarded.is_empty() || self.unread().next().is_some()
    }

    fn unread(&self) -> impl Iterator<Item = Resource> {
        let read = |resource| self.collector.read.get(&resource).copied().unwrap_or_default();
        self.logs().filter(move |(resource, length)| read(*resource) < *length).map(|(resource, _)| resource)
    }

    /// Performs one step. `pick` chooses it by its position among the possible steps.
    pub(crate) fn gc_step(&mut self, pick: impl FnOnce(usize) -> usize) {
        let unread: Vec<Resource> = self.unread().collect();
        let missing = usize::from(!self.collector.missing.is_empty());
        let (queued, unguarded) = (self.collector.queue.len(), self.unguarded.len());
        let count = unread.len() + missing + queued + unguarded;
        if count == 0 {
            return;
        }
        let mut at = pick(count) % count;
        if let Some(resource) = unread.get(at) {
            return self.read(*resource);
        }
        at -= unread.len();
        if at < missing {
            if let Some((uid, name)) = self.collector.missing.pop_front() {
                self.collector.not_there(&uid, name);
            }
            return;
        }
        at -= missing;
        if at < queued {
            if let Some(uid) = self.collector.queue.iter().nth(at).cloned() {
                self.collector.queue.remove(&uid);
                self.look(&uid);
            }
            return;
        }
        if let Some(id) = self.unguarded.iter().nth(at - queued).cloned() {
            self.unguarded.remove(&id);
            self.guard(&id);
        }
    }

    fn read(&mut self, resource: Resource) {
        let read = self.collector.read.entry(resource).or_default();
        let from = *read;
        let all = self.log.get(&resource).map(Vec::as_slice).unwrap_or_default();
        let some = &all[from..all.len().min(from + READ_AT_ONCE)];
        *read += some.len();
        for change in some {
            self.collector.take_in(change);
        }
    }

    /// Processes one object, using the stored state of the object and of its owners.
    fn look(&mut self, uid: &Arc<str>) {
        let Some(node) = self.collector.graph.get(uid).cloned() else { return };
        if node.terminating && !node.waits {
            return;
        }
        let Some(id) = node.name.id.clone() else { return };
        let Some(object) = self.get(&id).filter(|o| o["metadata"]["uid"] == **uid).cloned() else {
            self.collector.missing.push_back((uid.clone(), node.name));
            return;
        };
        if node.waits {
            return self.continue_waiting(uid, &id, &object);
        }
        let owners = owners(&object, &id.namespace);
        let mut states = Vec::new();
        for owner in &owners {
            // If one owner cannot be looked up, nothing is decided.
            let Some(state) = self.state(owner) else { return };
            states.push(state);
        }
        if owners.is_empty() {
            return;
        }
        let waited_for = states.contains(&State::Waits) && !node.dependents.is_empty();
        if states.contains(&State::Solid) {
            let lost: Vec<&str> =
                owners.iter().zip(&states).filter(|(_, s)| **s != State::Solid).map(|(o, _)| &*o.uid).collect();
            self.rewrite_owners(&id, &object, |owner| {
                (!lost.iter().any(|uid| owner["uid"] == **uid)).then(|| owner.clone())
            });
        } else if waited_for {
            let circle = node.dependents.iter().any(|d| self.collector.graph.get(d).is_some_and(|d| d.waits));
            if circle && owners.iter().any(|o| o.blocks) {
                // Its owner must not wait for it. This patch outdates the version for the deletion, so the object is
                // processed again.
                self.rewrite_owners(&id, &object, |owner| {
                    let mut owner = owner.clone();
                    owner["blockOwnerDeletion"] = false.into();
                    Some(owner)
                });
                self.collector.queue.insert(uid.clone());
                return;
            }
            self.delete_collected(&id, &object, true);
        } else {
            self.delete_collected(&id, &object, finalizers(&object).any(|f| f == FOREGROUND));
        }
    }

    fn delete_collected(&mut self, id: &Id, object: &Value, foreground: bool) {
        let metadata = &object["metadata"];
        let resource_version = metadata["resourceVersion"].as_str();
        let _ = self.delete(id, Deletion { uid: metadata["uid"].as_str(), resource_version, foreground });
    }

    fn rewrite_owners(&mut self, id: &Id, object: &Value, to: impl Fn(&Value) -> Option<Value>) {
        let owners = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
        let owners: Vec<Value> = owners.filter_map(to).collect();
        let _ = self.patch(id, Part::Whole, &json!({ "metadata": { "ownerReferences": owners } }));
    }

    /// Processes an object that waits for its dependents.
    fn continue_waiting(&mut self, uid: &Arc<str>, id: &Id, object: &Value) {
        let graph = &self.collector.graph;
        let dependents = graph.get(uid).into_iter().flat_map(|node| &node.dependents);
        let blocks = |node: &Node| node.owners.iter().any(|o| o.uid == *uid && o.blocks);
        let blocking: Vec<&Arc<str>> = dependents.filter(|d| graph.get(*d).is_some_and(blocks)).collect();
        if blocking.is_empty() {
            return self.release(id, object, FOREGROUND);
        }
        let asked: Vec<Arc<str>> =
            blocking.into_iter().filter(|d| graph.get(*d).is_some_and(|d| !d.waits)).cloned().collect();
        self.collector.queue.extend(asked);
    }

    pub(super) fn release(&mut self, id: &Id, object: &Value, finalizer: &str) {
        if !finalizers(object).any(|f| f == finalizer) {
            return;
        }
        let rest: Vec<&str> = finalizers(object).filter(|f| *f != finalizer).collect();
        let rest = if rest.is_empty() { Value::Null } else { json!(rest) };
        let _ = self.patch(id, Part::Whole, &json!({ "metadata": { "finalizers": rest } }));
    }

    /// Returns `None` for an unknown kind.
    fn state(&self, owner: &Owner) -> Option<State> {
        let found = self.get(owner.name.id.as_ref()?).filter(|o| o["metadata"]["uid"] == *owner.uid);
        let Some(object) = found else { return Some(State::Dangling) };
        let waits = is_terminating(object) && finalizers(object).any(|f| f == FOREGROUND);
        Some(if waits { State::Waits } else { State::Solid })
    }
}

impl Collector {
    fn take_in(&mut self, change: &Change) {
        let Some(object) = change.after.as_ref().or(change.before.as_ref()) else { return };
        let Some(uid) = object["metadata"]["uid"].as_str().map(Arc::<str>::from) else { return };
        let name = Name::of(&change.id);
        if change.after.is_none() {
            self.remove(&uid);
            return;
        }
        if let Some(node) = self.graph.get_mut(&uid).filter(|node| node.is_virtual) {
            node.is_virtual = false;
            if node.name != name {
                node.name = name.clone();
                let dependents = node.dependents.clone();
                // The dependents that reference this object under another name.
                let (_, others) = self.partition(&uid, &dependents, &name);
                self.queue.extend(others);
            }
        }
        let new = owners(object, &change.id.namespace);
        let terminating = is_terminating(object);
        if let Some(node) = self.graph.get_mut(&uid) {
            node.terminating |= terminating;
            let old = std::mem::replace(&mut node.owners, new.clone());
            let was = |owner: &Owner| old.iter().find(|o| o.uid == owner.uid);
            let is = |owner: &Owner| new.iter().find(|o| o.uid == owner.uid);
            let unblocked = old.iter().filter(|o| o.blocks && is(o).is_none_or(|now| !now.blocks));
            let unblocked: Vec<Arc<str>> = unblocked.map(|o| o.uid.clone()).collect();
            self.queue.extend(unblocked.into_iter().filter(|o| self.graph.contains_key(o)));
            let added: Vec<Owner> = new.iter().filter(|o| was(o).is_none()).cloned().collect();
            self.join(&uid, &change.id, &added);
            for removed in old.iter().filter(|o| is(o).is_none()) {
                if let Some(owner) = self.graph.get_mut(&removed.uid) {
                    owner.dependents.remove(&uid);
                }
            }
        } else {
            let node = Node { owners: new.clone(), is_virtual: false, terminating, ..Node::virtual_one(name) };
            self.graph.insert(uid.clone(), node);
            self.join(&uid, &change.id, &new);
            // The object existed before its owner began to wait, and its event is read only now. The real collector
            // would leave the object and its owner forever, but its events of different kinds never arrive so far
            // apart.
            let overlooked = new.iter().filter_map(|o| self.graph.get(&o.uid)).any(|o| o.waits_since > version(object));
            if overlooked {
                self.queue.insert(uid.clone());
            }
        }
        let waits = |object: &Value| is_terminating(object) && finalizers(object).any(|f| f == FOREGROUND);
        if waits(object)
            && !change.before.as_ref().is_some_and(|before| waits(before))
            && let Some(node) = self.graph.get_mut(&uid)
        {
            node.waits = true;
            node.waits_since = version(object);
            let dependents = node.dependents.clone();
            self.queue.extend(dependents);
            self.queue.insert(uid);
        }
    }

    /// Adds a dependent to its owners. An unknown owner is looked up. If an owner is known under another name, the
    /// dependent is processed again.
    fn join(&mut self, dependent: &Arc<str>, id: &Id, owners: &[Owner]) {
        for owner in owners {
            if let Some(node) = self.graph.get_mut(&owner.uid) {
                node.dependents.insert(dependent.clone());
                let elsewhere =
                    node.name.id.as_ref().is_some_and(|o| o.resource.namespaced() && o.namespace != id.namespace);
                if elsewhere || node.name != owner.name {
                    self.queue.insert(dependent.clone());
                }
            } else {
                let mut node = Node::virtual_one(owner.name.clone());
                node.dependents.insert(dependent.clone());
                self.graph.insert(owner.uid.clone(), node);
                self.queue.insert(owner.uid.clone());
            }
        }
    }

    /// Removes a node. Its dependents are processed next, and so are the owners that waited for it.
    fn remove(&mut self, uid: &Arc<str>) {
        let Some(node) = self.graph.remove(uid) else { return };
        self.queue.extend(node.dependents);
        for owner in &node.owners {
            if let Some(owned_by) = self.graph.get_mut(&owner.uid) {
                owned_by.dependents.remove(uid);
                if owned_by.waits {
                    self.queue.insert(owner.uid.clone());
                }
            }
        }
    }

    /// The object was looked up under a name and does not exist.
    fn not_there(&mut self, uid: &Arc<str>, name: Name) {
        let Some(node) = self.graph.get(uid) else { return };
        let (agree, differ) = self.partition(uid, &node.dependents, &name);
        if !node.is_virtual {
            if node.name == name {
                self.remove(uid);
            } else {
                self.queue.extend(agree);
            }
            return;
        }
        if differ.is_empty() {
            self.remove(uid);
            return;
        }
        // Some dependents reference it under another name, so it may exist under that name.
        let mut not_found = node.not_found.clone();
        not_found.insert(name);
        let called = |d: &Arc<str>| self.graph.get(d).map(|d| d.owners.clone()).unwrap_or_default();
        let names = differ.iter().flat_map(called).filter(|o| o.uid == *uid).map(|o| o.name);
        let other = names.filter(|name| !not_found.contains(name)).min();
        self.queue.extend(agree);
        match other {
            None => self.remove(uid),
            Some(other) => {
                if let Some(node) = self.graph.get_mut(uid) {
                    (node.name, node.not_found) = (other, not_found);
                }
                self.queue.insert(uid.clone());
            }
        }
    }

    /// The dependents that reference the owner by this name, and the other dependents.
    fn partition(&self, uid: &str, dependents: &BTreeSet<Arc<str>>, name: &Name) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
        let agrees = |dependent: &&Arc<str>| {
            let node = self.graph.get(*dependent);
            node.is_some_and(|d| d.owners.iter().any(|o| *o.uid == *uid && o.name == *name))
        };
        let (agree, differ): (Vec<&Arc<str>>, Vec<&Arc<str>>) = dependents.iter().partition(agrees);
        (agree.into_iter().cloned().collect(), differ.into_iter().cloned().collect())
    }
}

impl Name {
    fn of(id: &Id) -> Self {
        Self { id: Some(id.clone()), unknown: String::new() }
    }

    /// The identity that a reference in an object of this namespace states.
    fn of_reference(reference: &Value, namespace: &str) -> Self {
        let text = |field: &str| reference[field].as_str().unwrap_or_default();
        match Resource::named(text("apiVersion"), text("kind")) {
            Some(resource) => Self::of(&Id::new(resource, namespace, text("name"))),
            None => Self { id: None, unknown: format!("{} {} {}", text("apiVersion"), text("kind"), text("name")) },
        }
    }
}

impl Node {
    fn virtual_one(name: Name) -> Self {
        Self {
            name,
            owners: Vec::new(),
            dependents: BTreeSet::new(),
            is_virtual: true,
            terminating: false,
            waits: false,
            waits_since: 0,
            not_found: BTreeSet::new(),
        }
    }
}

fn owners(object: &Value, namespace: &str) -> Vec<Owner> {
    let references = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    let owner = |reference: &Value| Owner {
        uid: reference["uid"].as_str().unwrap_or_default().into(),
        name: Name::of_reference(reference, namespace),
        blocks: reference["blockOwnerDeletion"] == true,
    };
    references.map(owner).collect()
}

fn is_terminating(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse().ok()).unwrap_or_default()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Dangling,
    Solid,
    /// The object is terminating, and waits for its dependents.
    Waits,
}
