//! The judge: what must hold of every change of the stored objects, told from raw JSON alone.
//!
//! It shares no code with the core. Each rule is an invariant of the design; what an operator could not yet have seen is
//! no reproach, so a write is judged by what its operator's watches had delivered when it was planned.

mod rest;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value;

use super::api::{Api, Change, Id, Resource};
use super::operator::View;

pub(crate) use rest::at_rest;

/// Who made a change.
#[derive(Clone, Debug)]
pub(crate) enum Actor {
    /// An operator, for this reason, having seen so much.
    Operator { reason: &'static str, view: Rc<View> },
    /// Users, the control plane, nodes.
    Other,
}

/// What is remembered from change to change.
#[derive(Default)]
pub(crate) struct Oracle {
    /// Live pods by the UID of the Sandbox that controls them.
    pods: BTreeMap<String, BTreeSet<Id>>,
    /// Live Sandboxes by the UID of the pool that controls them.
    members: BTreeMap<String, BTreeSet<Id>>,
    /// Live Sandboxes by the UID of the claim that controls them.
    owned: BTreeMap<String, BTreeSet<Id>>,
    /// The claim that a Sandbox went to, by UIDs.
    taken_by: BTreeMap<String, String>,
    /// Claims, by their UIDs, and the names of Sandboxes that they had at any time.
    had: BTreeSet<(String, String)>,
    /// The Sandbox that a claim's status named first, by the claim's UID.
    committed: BTreeMap<String, String>,
    /// What was seen when a claim tried a Sandbox first, where that got no reply: tried again, it is the same choice.
    tried: BTreeMap<(Id, String), Rc<View>>,
    /// No operator was lost and no reply: then no claim ever has two Sandboxes.
    faultless: bool,
    /// An operator took over that did not know all that the last one had written: a pool may be beyond its maximum for a while.
    pub(crate) handed_over: bool,
    /// Adoptions seen: a run in which nothing happens proves nothing.
    pub(crate) adoptions: u64,
}

impl Oracle {
    pub(crate) fn new(faultless: bool) -> Self {
        Self { faultless, ..Self::default() }
    }

    /// Judges one change.
    pub(crate) fn judge(&mut self, change: &Change, actor: &Actor, api: &Api) -> Result<(), String> {
        let resource = change.id.resource;
        self.may_be_written(change, actor)?;
        if resource == Resource::POD {
            self.one_live_pod(change, actor)?;
            isolated(change, actor)?;
        }
        if resource == Resource::SANDBOX {
            self.hands(change, actor, api)?;
            self.deletion(change, actor, api)?;
            self.members(change, actor, api)?;
        }
        if resource.is_claim() {
            self.final_choice(change)?;
        }
        Ok(())
    }

    /// The request of a claim that takes a Sandbox was lost.
    pub(crate) fn take_is_lost(&mut self, sandbox: Id, body: &Value, view: &Rc<View>) {
        if let Some((_, _, claim)) = controller(body) {
            self.tried.entry((sandbox, claim.to_owned())).or_insert_with(|| view.clone());
        }
    }

    /// Nothing of the past is held against the future: the cluster came to rest.
    pub(crate) fn rested(&mut self) {
        self.handed_over = false;
    }
}

/// The controller of an object: kind, name, UID.
pub(crate) fn controller(document: &Value) -> Option<(&str, &str, &str)> {
    let owners = document["metadata"]["ownerReferences"].as_array()?;
    let owner = owners.iter().find(|o| o["controller"] == true)?;
    Some((owner["kind"].as_str()?, owner["name"].as_str()?, owner["uid"].as_str()?))
}

pub(crate) fn uid(document: &Value) -> &str {
    document["metadata"]["uid"].as_str().unwrap_or_default()
}

pub(crate) fn is_going(document: &Value) -> bool {
    document["metadata"]["deletionTimestamp"].is_string()
}

/// The last state of an object that an operator's watch had delivered.
fn seen(api: &Api, id: &Id, view: &View) -> Option<Arc<Value>> {
    let until = view.position(id.resource);
    let log = &api.changes(id.resource);
    log[..until.min(log.len())].iter().rev().find(|c| c.id == *id).and_then(|c| c.after.clone())
}

fn isolated(change: &Change, actor: &Actor) -> Result<(), String> {
    let (Actor::Operator { .. }, Some(pod)) = (actor, &change.after) else { return Ok(()) };
    let marked = pod["metadata"]["labels"]["policy.paddock.dev/generated-code"] == "true";
    if marked && pod["spec"]["runtimeClassName"] != "gvisor" {
        return Err(format!("{:?} runs generated code on the host's kernel", change.id));
    }
    Ok(())
}
