//! The oracle: the invariants of every change of the stored objects, checked from raw JSON alone.
//!
//! It shares no code with the core. Each rule is an invariant of the design. An operator is not to blame for ignoring a
//! change that it had not received, so a write is checked against the events that its operator's watches had delivered
//! when the write was planned.

mod rest;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value;

use super::api::{Api, Change, Id, Resource};
use super::operator::View;

pub(crate) use rest::at_rest;

/// The author of a change.
#[derive(Clone, Debug)]
pub(crate) enum Actor {
    /// An operator, with the reason of the write and the positions of its watches.
    Operator { reason: &'static str, view: Rc<View> },
    /// A user, the control plane or a node.
    Other,
}

/// The state that the oracle keeps between changes.
#[derive(Default)]
pub(crate) struct Oracle {
    /// Live pods by the UID of the Sandbox that controls them.
    pods: BTreeMap<String, BTreeSet<Id>>,
    /// Live Sandboxes by the UID of the pool that controls them.
    members: BTreeMap<String, BTreeSet<Id>>,
    /// Live Sandboxes by the UID of the claim that controls them.
    owned: BTreeMap<String, BTreeSet<Id>>,
    /// The claim that took a Sandbox, by UIDs.
    taken_by: BTreeMap<String, String>,
    /// The UIDs of claims, with the names of all Sandboxes that they ever had.
    had: BTreeSet<(String, String)>,
    /// The first Sandbox in a claim's status, by the claim's UID.
    committed: BTreeMap<String, String>,
    /// The view of the operator at a claim's first try of a Sandbox, if the reply was lost. A second try repeats the
    /// same choice.
    tried: BTreeMap<(Id, String), Rc<View>>,
    /// No operator and no reply was lost. In such a run, no claim ever has two Sandboxes.
    faultless: bool,
    /// A new leader did not know all writes of the previous one, so a pool may exceed its maximum for a while.
    pub(crate) handed_over: bool,
    /// The number of adoptions. A run without any proves nothing.
    pub(crate) adoptions: u64,
}

impl Oracle {
    pub(crate) fn new(faultless: bool) -> Self {
        Self { faultless, ..Self::default() }
    }

    /// Checks one change.
    pub(crate) fn check(&mut self, change: &Change, actor: &Actor, api: &Api) -> Result<(), String> {
        let resource = change.id.resource;
        self.may_be_written(change, actor)?;
        if resource == Resource::POD {
            self.one_live_pod(change, actor)?;
            isolated(change, actor)?;
            Self::behind_its_policy(change, actor, api)?;
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

    /// Records that the request of a claim that takes a Sandbox was lost.
    pub(crate) fn take_is_lost(&mut self, sandbox: Id, body: &Value, view: &Rc<View>) {
        if let Some((_, _, claim)) = controller(body) {
            self.tried.entry((sandbox, claim.to_owned())).or_insert_with(|| view.clone());
        }
    }

    /// The cluster came to rest, so earlier changes of the leader excuse nothing any more.
    pub(crate) fn rested(&mut self) {
        self.handed_over = false;
    }
}

/// The kind, the name and the UID of an object's controller.
pub(crate) fn controller(document: &Value) -> Option<(&str, &str, &str)> {
    let owners = document["metadata"]["ownerReferences"].as_array()?;
    let owner = owners.iter().find(|o| o["controller"] == true)?;
    Some((owner["kind"].as_str()?, owner["name"].as_str()?, owner["uid"].as_str()?))
}

pub(crate) fn uid(document: &Value) -> &str {
    document["metadata"]["uid"].as_str().unwrap_or_default()
}

pub(crate) fn is_terminating(document: &Value) -> bool {
    document["metadata"]["deletionTimestamp"].is_string()
}

/// The last state of an object that an operator's watch had delivered.
fn last_seen(api: &Api, id: &Id, view: &View) -> Option<Arc<Value>> {
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
