//! The watch of one kind: it lists, and then delivers event by event in the order of the store, with any delay.

use std::sync::Arc;

use paddock_api::kind::Kind;
use paddock_core::object::Object;
use paddock_core::world::Observed;
use serde_json::Value;

use crate::sim::api::{Api, Resource};

/// The progress of a watch.
#[derive(Default)]
pub(super) struct Watch {
    state: State,
    listed: bool,
    /// The number of changes in the resource's log that were delivered.
    position: usize,
}

#[derive(Default)]
enum State {
    /// The kind has to be listed.
    #[default]
    Cut,
    /// A list was requested, and the API server has not answered yet.
    Asked,
    /// The API server has answered the list, and the answer has not been delivered yet.
    Answered(Vec<Arc<Value>>, usize),
    /// Events are delivered one by one.
    Following,
}

impl Watch {
    pub(super) fn listed_once(&self) -> bool {
        self.listed
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    pub(super) fn cut(&mut self) {
        self.state = State::Cut;
    }

    /// If `unverified` is true, the kind has to be listed again unless an event arrives.
    pub(super) fn pending(&self, api: &Api, resource: Resource, unverified: bool) -> bool {
        match self.state {
            State::Cut | State::Asked | State::Answered(..) => true,
            State::Following => unverified || self.position < api.changes(resource).len(),
        }
    }

    pub(super) fn step(&mut self, api: &Api, kind: Kind, resource: Resource) -> Option<Observed> {
        match std::mem::replace(&mut self.state, State::Following) {
            State::Cut => {
                self.state = State::Asked;
                Some(Observed::Listing(kind))
            }
            State::Asked => {
                let objects = api.list(resource).map(|(_, o)| o.clone()).collect();
                self.state = State::Answered(objects, api.changes(resource).len());
                None
            }
            State::Answered(objects, position) => {
                self.listed = true;
                self.position = position;
                Some(Observed::Listed(kind, objects.iter().filter_map(|o| read(kind, o)).collect()))
            }
            State::Following => {
                let Some(change) = api.changes(resource).get(self.position) else {
                    self.cut();
                    return None;
                };
                self.position += 1;
                match (&change.before, &change.after) {
                    (_, Some(after)) => read(kind, after).map(Observed::Applied),
                    (Some(before), None) => read(kind, before).map(Observed::Deleted),
                    (None, None) => None,
                }
            }
        }
    }
}

fn read(kind: Kind, document: &Arc<Value>) -> Option<Object> {
    Object::from_json(kind, Value::clone(document))
}
