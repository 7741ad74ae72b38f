//! The ports of the gateway that stand for ports of Sandboxes, as the statuses of the Sandboxes record them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio::sync::Notify;

use super::observed::{Name, Sandbox, Stage};
use crate::target::Target;

/// The Sandbox, and the port of its pod, for which a port of the gateway stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Allotment {
    pub(crate) name: Name,
    pub(crate) uid: Arc<str>,
    pub(crate) port: u16,
}

impl Allotment {
    pub(crate) fn target(&self) -> Target {
        let Name { namespace, name } = self.name.clone();
        Target { namespace, name, port: self.port }
    }
}

/// The ports that the statuses record.
#[derive(Default)]
pub(super) struct Allotments {
    of: HashMap<u16, Vec<Allotment>>,
    changed: BTreeSet<u16>,
    /// Tells the listeners that there are changes, or that a list is complete.
    pub(super) news: Arc<Notify>,
}

impl Allotments {
    /// Takes in another version of a Sandbox, or its end.
    pub(super) fn changes(&mut self, name: &Name, before: Option<&Sandbox>, after: Option<&Sandbox>) {
        let (old, new) = (allotted(name, before), allotted(name, after));
        if old == new {
            return;
        }
        for (port, allotment) in &old {
            if let Some(others) = self.of.get_mut(port) {
                others.retain(|other| other != allotment);
                if others.is_empty() {
                    self.of.remove(port);
                }
            }
        }
        self.changed.extend(old.iter().chain(&new).map(|(port, _)| *port));
        for (port, allotment) in new {
            self.of.entry(port).or_default().push(allotment);
        }
        self.news.notify_one();
    }

    /// The owner of a port. A port that several Sandboxes record has none: the operator never gives away a port twice, so
    /// a user wrote one of the records, and connections might reach the wrong Sandbox.
    pub(super) fn of(&self, port: u16) -> Option<&Allotment> {
        match self.of.get(&port)?.as_slice() {
            [owner] => Some(owner),
            [] | [_, _, ..] => None,
        }
    }

    /// The ports whose owner may have changed since the last call.
    pub(super) fn take_changed(&mut self) -> BTreeSet<u16> {
        std::mem::take(&mut self.changed)
    }
}

/// The ports of a Sandbox that a client may use.
fn allotted(name: &Name, sandbox: Option<&Sandbox>) -> Vec<(u16, Allotment)> {
    let used = |sandbox: &&Sandbox| match sandbox.stage {
        // A connection to one of the last two is closed at once.
        Stage::InUse | Stage::Finished | Stage::Expired => true,
        Stage::Warm | Stage::Terminating => false,
    };
    let of = |sandbox: &Sandbox, port: u16| Allotment { name: name.clone(), uid: sandbox.uid.clone(), port };
    let sandbox = sandbox.filter(used);
    sandbox
        .into_iter()
        .flat_map(|sandbox| sandbox.tcp.iter().map(|tcp| (tcp.gateway_port, of(sandbox, tcp.port))))
        .collect()
}
