//! Maps of texts in one piece of memory: the labels and annotations of an object.
//!
//! The smallest node of a `BTreeMap<String, String>` has 544 bytes, and each key and value is a piece of memory of its
//! own. Every object has two such maps, with a few entries each. They are read often, and never changed.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// Labels or annotations, whichever type holds them.
pub trait Texts {
    /// The value of a key.
    fn text(&self, key: &str) -> Option<&str>;

    /// The entries, in the order of their keys.
    fn entries(&self) -> impl Iterator<Item = (&str, &str)>;
}

/// Goes once through two maps. Returns each key that one of them has, in order, with its value in both. Users fill these
/// maps, and a lookup of each key in the other map would take the product of their sizes.
pub fn side_by_side<'a>(
    left: &'a impl Texts,
    right: &'a impl Texts,
) -> impl Iterator<Item = (&'a str, Option<&'a str>, Option<&'a str>)> {
    let (mut left, mut right) = (left.entries().peekable(), right.entries().peekable());
    std::iter::from_fn(move || {
        let order = match (left.peek(), right.peek()) {
            (Some((l, _)), Some((r, _))) => l.cmp(r),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return None,
        };
        let of_left = if order.is_le() { left.next() } else { None };
        let of_right = if order.is_ge() { right.next() } else { None };
        let (key, _) = of_left.or(of_right)?;
        Some((key, of_left.map(|(_, value)| value), of_right.map(|(_, value)| value)))
    })
}

impl Texts for BTreeMap<String, String> {
    fn text(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }

    fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

impl Texts for BTreeMap<&str, &str> {
    fn text(&self, key: &str) -> Option<&str> {
        self.get(key).copied()
    }

    fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter().map(|(key, value)| (*key, *value))
    }
}

impl Texts for TextMap {
    fn text(&self, key: &str) -> Option<&str> {
        self.get(key)
    }

    fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter()
    }
}

/// A map of texts that never changes. Clones share its memory.
///
/// It is one text. Each entry has the lengths of its key and of its value in bytes, and then both: `3:5:appweb-1`. The
/// entries are in the order of their keys.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TextMap(Arc<str>);

impl TextMap {
    /// The value of a key. The time is linear in the size of the map: [`side_by_side`] and [`TextMap::index`] are for
    /// many keys.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(k, _)| *k == key).map(|(_, value)| value)
    }

    /// Whether the map has a key.
    #[must_use]
    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The entries, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let (key, text) = rest.split_once(':')?;
            let (value, text) = text.split_once(':')?;
            let (key, text) = text.split_at_checked(key.parse().ok()?)?;
            let (value, text) = text.split_at_checked(value.parse().ok()?)?;
            rest = text;
            Some((key, value))
        })
    }

    /// The keys in their order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(key, _)| key)
    }

    /// Whether the map has no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entries in a map in which many keys can be looked up.
    #[must_use]
    pub fn index(&self) -> BTreeMap<&str, &str> {
        self.iter().collect()
    }

    /// The bytes of the map: equal maps have equal bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The entries in a map that can be changed.
    #[must_use]
    pub fn to_map(&self) -> BTreeMap<String, String> {
        self.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// The memory of the map, so that equal maps can share it.
    pub(crate) fn memory(&mut self) -> &mut Arc<str> {
        &mut self.0
    }
}

impl From<BTreeMap<String, String>> for TextMap {
    fn from(map: BTreeMap<String, String>) -> Self {
        map.entries().collect()
    }
}

/// The entries must be in the order of their keys, each once.
impl<'a> FromIterator<(&'a str, &'a str)> for TextMap {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(entries: I) -> Self {
        let mut text = String::new();
        for (key, value) in entries {
            // Writing to a String never fails.
            let _ = write!(text, "{}:{}:{key}{value}", key.len(), value.len());
        }
        Self(text.into())
    }
}

impl fmt::Debug for TextMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.iter().collect::<BTreeMap<_, _>>(), f)
    }
}

impl Serialize for TextMap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Values of annotations may be any text, with colons, digits and zero bytes in it.
        #[test]
        fn a_map_has_the_entries_that_it_was_made_of(map in prop::collection::btree_map("[0-9:ä\\x00-z]{0,12}", "[0-9:ä\\x00-z]{0,40}", 0..8)) {
            let texts = TextMap::from(map.clone());
            prop_assert_eq!(texts.to_map(), map.clone());
            prop_assert_eq!(texts.is_empty(), map.is_empty());
            prop_assert_eq!(serde_json::to_value(&texts).unwrap(), serde_json::to_value(&map).unwrap());
            prop_assert_eq!(format!("{texts:?}"), format!("{map:?}"));
            for (key, value) in &map {
                prop_assert_eq!(texts.get(key), Some(value.as_str()));
            }
            prop_assert!(!texts.contains_key("no such key"));
            prop_assert_eq!(texts.index().len(), map.len());
        }

        /// Each key of either map comes once, with what both lookups say.
        #[test]
        fn two_maps_side_by_side_are_those_of_lookups(
            left in prop::collection::btree_map("[a-d]{0,2}", "[xy]", 0..12),
            right in prop::collection::btree_map("[a-d]{0,2}", "[xy]", 0..12),
        ) {
            let texts = TextMap::from(left.clone());
            let merged: Vec<_> = side_by_side(&texts, &right).collect();
            let keys: std::collections::BTreeSet<&String> = left.keys().chain(right.keys()).collect();
            let looked_up: Vec<_> =
                keys.into_iter().map(|key| (key.as_str(), left.text(key), right.text(key))).collect();
            prop_assert_eq!(merged, looked_up);
        }
    }
}
