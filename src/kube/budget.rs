//! A budget of bytes, of which one group, such as a client or a namespace, never gets everything.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::turns::may_take;

/// The budget. Clones are handles on the same bytes.
#[derive(Debug)]
pub struct Budget<K>(Arc<Mutex<Table<K>>>);

#[derive(Debug)]
struct Table<K> {
    free: usize,
    groups: HashMap<K, usize>,
}

impl<K> Clone for Budget<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Some bytes of a budget. Dropping them gives them back.
#[derive(Debug)]
pub struct Bytes<K: Eq + Hash> {
    of: Budget<K>,
    group: K,
    count: usize,
}

impl<K: Eq + Hash + Clone> Budget<K> {
    /// A budget of this many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(Table { free: bytes, groups: HashMap::new() })))
    }

    /// Takes bytes for a group, unless the budget is used up, or the group has its share. One group alone gets eight
    /// ninths of all bytes.
    #[must_use]
    pub fn take(&self, group: &K, count: usize) -> Option<Bytes<K>> {
        let mut table = self.0.lock();
        let free = table.free.checked_sub(count)?;
        let held = table.groups.get(group).copied().unwrap_or(0);
        if !may_take(held.saturating_add(count), free.saturating_add(1)) {
            return None;
        }
        table.free = free;
        *table.groups.entry(group.clone()).or_default() += count;
        drop(table);
        Some(Bytes { of: self.clone(), group: group.clone(), count })
    }
}

impl<K: Eq + Hash> Drop for Bytes<K> {
    fn drop(&mut self) {
        let mut table = self.of.0.lock();
        table.free += self.count;
        if let Some(held) = table.groups.get_mut(&self.group) {
            *held -= self.count;
            if *held == 0 {
                table.groups.remove(&self.group);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_leaves_bytes_for_others_and_all_bytes_come_back() {
        let budget = Budget::new(9000);
        let all: Vec<_> = std::iter::from_fn(|| budget.take(&"busy", 100)).collect();
        assert_eq!(all.len(), 80, "eight ninths");
        let other: Vec<_> = std::iter::from_fn(|| budget.take(&"quiet", 100)).collect();
        assert!(other.len() >= 8, "{}", other.len());
        assert!(budget.take(&"large", 9000).is_none());
        drop((all, other));
        let table = budget.0.lock();
        assert_eq!((table.free, table.groups.len()), (9000, 0));
    }
}
