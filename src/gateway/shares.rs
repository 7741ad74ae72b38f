//! Counts what each client or Sandbox uses, and refuses more than its share.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

/// The use of each key. Clones are handles on the same table.
#[derive(Debug)]
pub(crate) struct Shares<K> {
    used: Arc<Mutex<HashMap<K, usize>>>,
    limit: usize,
}

impl<K> Clone for Shares<K> {
    fn clone(&self) -> Self {
        Self { used: self.used.clone(), limit: self.limit }
    }
}

/// One use. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Share<K: Eq + Hash> {
    used: Arc<Mutex<HashMap<K, usize>>>,
    key: K,
}

impl<K: Eq + Hash + Clone> Shares<K> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { used: Arc::default(), limit }
    }

    /// Takes one use, unless the key has used its share.
    pub(crate) fn take(&self, key: &K) -> Option<Share<K>> {
        let mut used = self.used.lock();
        match used.get_mut(key) {
            Some(count) if *count >= self.limit => return None,
            Some(count) => *count += 1,
            None if self.limit == 0 => return None,
            None => {
                used.insert(key.clone(), 1);
            }
        }
        Some(Share { used: self.used.clone(), key: key.clone() })
    }
}

impl<K: Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        let mut used = self.used.lock();
        if let Some(count) = used.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                used.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_given_back() {
        let shares = Shares::new(2);
        let first = shares.take(&"a");
        let second = shares.take(&"a");
        assert!(first.is_some() && second.is_some() && shares.take(&"a").is_none());
        assert!(shares.take(&"b").is_some());
        drop(first);
        assert!(shares.take(&"a").is_some());
        drop(second);
        assert!(shares.used.lock().is_empty());
        assert!(Shares::new(0).take(&"a").is_none());
    }
}
