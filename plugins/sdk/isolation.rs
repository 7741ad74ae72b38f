//! Choosing among RuntimeClasses that isolate: shared by plugins, so that they choose alike.

use serde::Deserialize;

use crate::RuntimeClassFact;

/// Which isolating class comes first; `{"prefer": [...]}` as settings.
///
/// An entry stands for the class of that name, and for those that begin with it and a dash. Classes that
/// are in no entry follow in the order of their names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Preference {
    /// Names, most preferred first.
    pub prefer: Vec<String>,
}

impl Default for Preference {
    /// gVisor starts in less time and memory than a virtual machine.
    fn default() -> Self {
        Self { prefer: vec!["gvisor".into(), "kata".into()] }
    }
}

impl Preference {
    /// Says what is wrong with settings that parse.
    ///
    /// # Errors
    /// The text for people.
    pub fn check(&self) -> Result<(), String> {
        match self.prefer.iter().position(String::is_empty) {
            Some(index) => Err(format!("prefer[{index}]: must be the name of a RuntimeClass")),
            None => Ok(()),
        }
    }

    /// Isolating classes that a node can run, best first.
    pub fn ranked<'a>(&self, classes: &'a [RuntimeClassFact]) -> impl Iterator<Item = &'a RuntimeClassFact> {
        let mut usable: Vec<_> = classes.iter().filter(|class| class.isolated && class.nodes > 0).collect();
        usable.sort_by_key(|class| (self.rank(&class.name), class.name.as_str()));
        usable.into_iter()
    }

    /// The best of them.
    #[must_use]
    pub fn best<'a>(&self, classes: &'a [RuntimeClassFact]) -> Option<&'a RuntimeClassFact> {
        self.ranked(classes).next()
    }

    fn rank(&self, name: &str) -> usize {
        let stands_for = |entry: &String| {
            name.strip_prefix(entry.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        self.prefer.iter().position(stands_for).unwrap_or(self.prefer.len())
    }
}

/// The class of this name, if the cluster has it.
#[must_use]
pub fn known<'a>(classes: &'a [RuntimeClassFact], name: &str) -> Option<&'a RuntimeClassFact> {
    classes.iter().find(|class| class.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(name: &str, isolated: bool, nodes: u32) -> RuntimeClassFact {
        RuntimeClassFact { name: name.into(), handler: name.into(), isolated, nodes }
    }

    fn ranked(prefer: &[&str], classes: &[RuntimeClassFact]) -> Vec<String> {
        let preference = Preference { prefer: prefer.iter().map(ToString::to_string).collect() };
        preference.ranked(classes).map(|class| class.name.clone()).collect()
    }

    #[test]
    fn preferred_classes_come_first_then_the_order_of_names() {
        let classes = ["zz", "kata-qemu", "kata-clh", "gvisor", "aa", "gvisory"].map(|name| class(name, true, 1));
        assert_eq!(ranked(&["gvisor", "kata"], &classes), ["gvisor", "kata-clh", "kata-qemu", "aa", "gvisory", "zz"]);
        assert_eq!(ranked(&["kata-qemu", "zz"], &classes), ["kata-qemu", "zz", "aa", "gvisor", "gvisory", "kata-clh"]);
    }

    #[test]
    fn a_class_without_isolation_or_without_nodes_is_not_chosen() {
        let classes = [class("runc", false, 5), class("gvisor", true, 0), class("kata", true, 1)];
        assert_eq!(ranked(&["gvisor", "kata"], &classes), ["kata"]);
    }

    #[test]
    fn an_empty_entry_is_refused() {
        let preference = Preference { prefer: vec!["gvisor".into(), String::new()] };
        assert_eq!(preference.check(), Err("prefer[1]: must be the name of a RuntimeClass".into()));
    }
}
