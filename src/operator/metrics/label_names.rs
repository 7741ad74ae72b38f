//! The names that users chose and that are label values, such as those of templates. Namespaces share the places.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use paddock_core::model::names::is_dns_subdomain;
use paddock_kube::turns::may_take;

/// The label value for all names without a place, and for texts that are no names.
pub(super) const OTHER: &str = "__other__";

/// The names with a label value of their own. A name takes a place for each namespace that uses it, until the namespace
/// is deleted.
pub(super) struct LabelNames {
    places: usize,
    used: usize,
    namespaces: HashMap<Arc<str>, HashSet<Arc<str>>>,
}

impl LabelNames {
    /// So many places, of which one namespace gets eight ninths at most.
    pub(super) fn new(places: usize) -> Self {
        Self { places, used: 0, namespaces: HashMap::new() }
    }

    /// The label value for a name that a namespace uses: the name, or [`OTHER`]. All values of a name share its memory. A
    /// text that no object can have as its name may be as long as an annotation, so it gets no value of its own.
    pub(super) fn label(&mut self, namespace: &Arc<str>, name: &str) -> Arc<str> {
        if !is_dns_subdomain(name) {
            return OTHER.into();
        }
        let held = self.namespaces.get(namespace);
        if let Some(known) = held.and_then(|names| names.get(name)) {
            return known.clone();
        }
        if !may_take(held.map_or(0, HashSet::len), self.places - self.used) {
            return OTHER.into();
        }
        self.used += 1;
        let name: Arc<str> = name.into();
        self.namespaces.entry(namespace.clone()).or_default().insert(name.clone());
        name
    }

    /// Frees the places of a namespace. Returns the names that no other namespace uses.
    pub(super) fn forget(&mut self, namespace: &str) -> Vec<Arc<str>> {
        let names = self.namespaces.remove(namespace).unwrap_or_default();
        self.used -= names.len();
        names.into_iter().filter(|name| !self.namespaces.values().any(|others| others.contains(name))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &mut LabelNames, namespace: &str, count: usize) -> usize {
        (0..count).filter(|n| &*names.label(&namespace.into(), &format!("{namespace}-{n}")) != OTHER).count()
    }

    #[test]
    fn a_namespace_with_many_names_leaves_places_for_others() {
        let mut names = LabelNames::new(500);
        assert_eq!(named(&mut names, "hostile", 10_000), 445);
        assert_eq!(named(&mut names, "good", 20), 20);
        assert_eq!(named(&mut names, "hostile", 10_000), 445, "a name keeps its place");
    }

    #[test]
    fn text_that_is_no_name_of_an_object_takes_no_place() {
        let mut names = LabelNames::new(500);
        let longest = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "a".repeat(61));
        let too_long = format!("{longest}a");
        for text in ["a.b", longest.as_str()] {
            assert_eq!(&*names.label(&"ns".into(), text), text);
        }
        for text in [too_long.as_str(), "a b", "", &"x".repeat(256 * 1024)] {
            assert_eq!(&*names.label(&"ns".into(), text), OTHER);
        }
        assert_eq!(names.used, 2);
    }

    #[test]
    fn a_deleted_namespace_frees_its_places_and_the_names_that_nobody_else_uses() {
        let mut names = LabelNames::new(500);
        named(&mut names, "gone", 10_000);
        assert_eq!(&*names.label(&"stays".into(), "gone-7"), "gone-7");
        let freed = names.forget("gone");
        assert_eq!((freed.len(), freed.contains(&"gone-7".into())), (444, false));
        assert_eq!(names.used, 1);
        assert!(names.forget("never").is_empty());
        assert_eq!(named(&mut names, "next", 300), 300);
    }
}
