//! Chooses among the RuntimeClasses that isolate. Plugins share it, so that they choose alike.

use serde::Deserialize;

use crate::RuntimeClassFact;

/// The order of preference among isolating classes, which settings write as `{"prefer": [...]}`.
///
/// An entry stands for the class of that name, and for those that begin with it and a dash. Classes that are in no entry
/// follow in the order of their names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Preference {
    /// Names of classes, in the order of preference.
    pub prefer: Vec<String>,
}

impl Default for Preference {
    /// gVisor before Kata: gVisor starts faster than a virtual machine and needs less memory.
    fn default() -> Self {
        Self { prefer: vec!["gvisor".into(), "kata".into()] }
    }
}

impl Preference {
    /// Checks settings that were parsed.
    ///
    /// # Errors
    /// A message for the user.
    pub fn check(&self) -> Result<(), String> {
        match self.prefer.iter().position(String::is_empty) {
            Some(index) => Err(format!("prefer[{index}]: must be the name of a RuntimeClass")),
            None => Ok(()),
        }
    }

    /// The isolating classes that a node can run, in the order of preference.
    pub fn ranked<'a>(&self, classes: &'a [RuntimeClassFact]) -> impl Iterator<Item = &'a RuntimeClassFact> {
        let mut usable: Vec<_> = classes.iter().filter(|class| class.isolated && class.nodes > 0).collect();
        usable.sort_by_key(|class| (self.rank(&class.name), class.name.as_str()));
        usable.into_iter()
    }

    /// The first of [`ranked`](Self::ranked).
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

/// The class with this name, if the cluster has one.
#[must_use]
pub fn known<'a>(classes: &'a [RuntimeClassFact], name: &str) -> Option<&'a RuntimeClassFact> {
    classes.iter().find(|class| class.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{isolating_class, shared_kernel_class};

    fn ranked(prefer: &[&str], classes: &[RuntimeClassFact]) -> Vec<String> {
        let preference = Preference { prefer: prefer.iter().map(ToString::to_string).collect() };
        preference.ranked(classes).map(|class| class.name.clone()).collect()
    }

    #[test]
    fn preferred_classes_precede_the_others_in_the_order_of_names() {
        let classes = ["zz", "kata-qemu", "kata-clh", "gvisor", "aa", "gvisory"].map(|name| isolating_class(name, 1));
        assert_eq!(ranked(&["gvisor", "kata"], &classes), ["gvisor", "kata-clh", "kata-qemu", "aa", "gvisory", "zz"]);
        assert_eq!(ranked(&["kata-qemu", "zz"], &classes), ["kata-qemu", "zz", "aa", "gvisor", "gvisory", "kata-clh"]);
    }

    #[test]
    fn class_without_isolation_or_without_nodes_is_not_chosen() {
        let classes = [shared_kernel_class("runc", 5), isolating_class("gvisor", 0), isolating_class("kata", 1)];
        assert_eq!(ranked(&["gvisor", "kata"], &classes), ["kata"]);
    }

    #[test]
    fn empty_entry_is_refused() {
        let preference = Preference { prefer: vec!["gvisor".into(), String::new()] };
        assert_eq!(preference.check(), Err("prefer[1]: must be the name of a RuntimeClass".into()));
    }
}
