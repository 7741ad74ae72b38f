//! Turns: the fair order of everything that waits for a shared resource.
//!
//! Two levels take turns: first the groups (the namespaces of a cluster, or the addresses of peers), then the families
//! of a group. A group therefore gets the same share however many families or entries it creates.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// The number of places that a group may hold for each place that is free. One group alone gets eight ninths of all
/// places, two get eight seventeenths each, and a part always stays free for a group that comes later. If there are at
/// most eight places, one group may hold all of them.
const HELD_PER_FREE: usize = 8;

/// Whether a group that holds `held` places may take one more, if `free` places are free.
#[must_use]
pub fn may_take(held: usize, free: usize) -> bool {
    held < free.saturating_mul(HELD_PER_FREE)
}

/// The number of places that a group which holds `held` places may still take, if `free` places are free and no other
/// group takes one. A group divides them among its own parts.
#[must_use]
pub fn left(held: usize, free: usize) -> usize {
    free.saturating_mul(HELD_PER_FREE).saturating_sub(held).div_ceil(HELD_PER_FREE.saturating_add(1))
}

/// The number of places that each group holds. A group without a place is not kept.
#[derive(Debug)]
pub struct Held<G>(HashMap<G, usize>);

impl<G> Default for Held<G> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<G: Eq + Hash> Held<G> {
    /// The number of places of a group.
    #[must_use]
    pub fn of(&self, group: &G) -> usize {
        self.0.get(group).copied().unwrap_or(0)
    }

    /// Whether a group may take one more place, if `free` places are free.
    #[must_use]
    pub fn may_take(&self, group: &G, free: usize) -> bool {
        may_take(self.of(group), free)
    }

    /// Records that a group took a place.
    pub fn take(&mut self, group: G) {
        *self.0.entry(group).or_default() += 1;
    }

    /// Records that a group returned a place.
    pub fn give_back(&mut self, group: &G) {
        if let Some(held) = self.0.get_mut(group) {
            *held -= 1;
            if *held == 0 {
                self.0.remove(group);
            }
        }
    }
}

/// The number of times that a lower rank is passed over before it has a turn.
const PASSED_OVER_MAX: u32 = 8;

/// Ranks, of which the first one that has an entry is served first. A lower rank is served after it has been passed
/// over eight times, so a steady stream of a higher rank slows it down and never stops it.
#[derive(Clone, Copy, Debug)]
pub struct Ranks<const N: usize> {
    passed_over: [u32; N],
}

impl<const N: usize> Default for Ranks<N> {
    fn default() -> Self {
        Self { passed_over: [0; N] }
    }
}

impl<const N: usize> Ranks<N> {
    /// The rank that is served next. `ready` says which ranks have an entry that can be served.
    #[must_use]
    pub fn next(&self, ready: [bool; N]) -> Option<usize> {
        let due = (0..N).find(|&rank| ready[rank] && self.passed_over[rank] >= PASSED_OVER_MAX);
        due.or_else(|| ready.iter().position(|ready| *ready))
    }

    /// Records that an entry of this rank was served while these ranks were ready.
    pub fn served(&mut self, rank: usize, ready: [bool; N]) {
        for (lower, passed_over) in self.passed_over.iter_mut().enumerate().skip(rank + 1) {
            *passed_over += u32::from(ready[lower]);
        }
        if let Some(passed_over) = self.passed_over.get_mut(rank) {
            *passed_over = 0;
        }
    }
}

/// Entries that wait, by group and by family within the group.
#[derive(Debug)]
pub struct Turns<G, F, T> {
    ring: VecDeque<G>,
    groups: HashMap<G, Ring<F, T>>,
    len: usize,
}

/// The waiting entries of one group.
#[derive(Debug)]
struct Ring<F, T> {
    ring: VecDeque<F>,
    families: HashMap<F, VecDeque<T>>,
    len: usize,
}

impl<F, T> Default for Ring<F, T> {
    fn default() -> Self {
        Self { ring: VecDeque::new(), families: HashMap::new(), len: 0 }
    }
}

impl<G, F, T> Default for Turns<G, F, T> {
    fn default() -> Self {
        Self { ring: VecDeque::new(), groups: HashMap::new(), len: 0 }
    }
}

impl<F: Clone + Eq + Hash, T> Ring<F, T> {
    fn push(&mut self, family: F, entry: T) {
        let waiting = self.families.entry(family.clone()).or_default();
        if waiting.is_empty() {
            self.ring.push_back(family);
        }
        waiting.push_back(entry);
        self.len += 1;
    }

    fn pop(&mut self) -> Option<T> {
        let family = self.ring.pop_front()?;
        let waiting = self.families.get_mut(&family)?;
        let entry = waiting.pop_front();
        if waiting.is_empty() {
            self.families.remove(&family);
        } else {
            self.ring.push_back(family);
        }
        self.len -= usize::from(entry.is_some());
        entry
    }

    fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.families.retain(|_, waiting| {
            waiting.retain(&mut keep);
            !waiting.is_empty()
        });
        self.ring.retain(|family| self.families.contains_key(family));
        self.len = self.families.values().map(VecDeque::len).sum();
    }
}

impl<G: Clone + Eq + Hash, F: Clone + Eq + Hash, T> Turns<G, F, T> {
    /// The number of waiting entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an entry at the end of its family.
    pub fn push(&mut self, group: G, family: F, entry: T) {
        let waiting = self.groups.entry(group.clone()).or_default();
        if waiting.len == 0 {
            self.ring.push_back(group);
        }
        waiting.push(family, entry);
        self.len += 1;
    }

    /// The waiting entries of one family, the next one first.
    pub fn of_family(&mut self, group: &G, family: &F) -> impl Iterator<Item = &mut T> {
        self.groups.get_mut(group).and_then(|waiting| waiting.families.get_mut(family)).into_iter().flatten()
    }

    /// Removes the next entry. The groups take turns, and so do the families of each group.
    pub fn pop(&mut self) -> Option<T> {
        self.pop_of(|_| true)
    }

    /// Removes the next entry of a group for which `may` returns true. The other groups keep their turns.
    pub fn pop_of(&mut self, may: impl Fn(&G) -> bool) -> Option<T> {
        let at = self.ring.iter().position(may)?;
        let group = self.ring.remove(at)?;
        let waiting = self.groups.get_mut(&group)?;
        let entry = waiting.pop();
        if waiting.len == 0 {
            self.groups.remove(&group);
        } else {
            self.ring.push_back(group);
        }
        self.len -= usize::from(entry.is_some());
        entry
    }

    /// Whether an entry waits in a group for which `may` returns true.
    #[must_use]
    pub fn any_of(&self, may: impl Fn(&G) -> bool) -> bool {
        self.ring.iter().any(may)
    }

    /// The group with the most waiting entries, and their number.
    #[must_use]
    pub fn longest(&self) -> Option<(&G, usize)> {
        self.groups.iter().map(|(group, waiting)| (group, waiting.len)).max_by_key(|(_, len)| *len)
    }

    /// Removes the next entry of this group, out of turn: the group keeps its place in the order.
    pub fn drop_of(&mut self, group: &G) -> Option<T> {
        let entry = self.groups.get_mut(group)?.pop();
        self.len -= usize::from(entry.is_some());
        self.forget_if_empty(group);
        entry
    }

    /// Keeps only the entries of a group for which `keep` returns true.
    pub fn retain_of(&mut self, group: &G, keep: impl FnMut(&T) -> bool) {
        let Some(waiting) = self.groups.get_mut(group) else { return };
        let before = waiting.len;
        waiting.retain(keep);
        self.len -= before - waiting.len;
        self.forget_if_empty(group);
    }

    fn forget_if_empty(&mut self, group: &G) {
        if self.groups.get(group).is_some_and(|waiting| waiting.len == 0) {
            self.groups.remove(group);
            self.ring.retain(|of| of != group);
        }
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        self.ring.clear();
        self.groups.clear();
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_group_gains_nothing_by_more_families_or_entries() {
        let mut turns = Turns::default();
        for n in 0..10_000 {
            turns.push("hostile", n, "hostile");
        }
        for _ in 0..20 {
            turns.push("good", 0, "good");
        }
        let first: Vec<_> = std::iter::from_fn(|| turns.pop()).take(40).collect();
        assert_eq!(first.iter().filter(|of| **of == "good").count(), 20, "{first:?}");
        assert_eq!(turns.len(), 10_020 - 40);
    }

    #[test]
    fn families_of_a_group_take_turns() {
        let mut turns = Turns::default();
        for n in 0..6 {
            turns.push((), "a", n);
        }
        turns.push((), "b", 10);
        assert_eq!([turns.pop(), turns.pop(), turns.pop()], [Some(0), Some(10), Some(1)]);
    }

    #[test]
    fn a_group_that_is_passed_over_keeps_its_turn() {
        let mut turns = Turns::default();
        for (group, entry) in [("a", 1), ("b", 2), ("a", 3)] {
            turns.push(group, (), entry);
        }
        assert_eq!(turns.pop_of(|group| *group != "a"), Some(2));
        assert_eq!(turns.pop_of(|group| *group != "a"), None);
        assert_eq!((turns.pop(), turns.pop(), turns.pop()), (Some(1), Some(3), None));
        assert!(turns.is_empty());
    }

    #[test]
    fn a_group_that_makes_room_keeps_its_turn() {
        let mut turns = Turns::default();
        for (group, entry) in [("a", 1), ("a", 2), ("b", 3), ("c", 4)] {
            turns.push(group, (), entry);
        }
        assert_eq!((turns.drop_of(&"a"), turns.drop_of(&"c"), turns.drop_of(&"d")), (Some(1), Some(4), None));
        assert_eq!(turns.len(), 2);
        assert_eq!((turns.pop(), turns.pop(), turns.pop()), (Some(2), Some(3), None));
        assert!(turns.is_empty());
    }

    #[test]
    fn entries_are_removed_from_one_group_alone() {
        let mut turns = Turns::default();
        for (group, entry) in [("a", 1), ("a", 2), ("b", 1)] {
            turns.push(group, entry, entry);
        }
        assert_eq!(turns.longest(), Some((&"a", 2)));
        turns.retain_of(&"a", |entry| *entry != 1);
        assert_eq!(turns.len(), 2);
        turns.retain_of(&"a", |_| false);
        assert_eq!((turns.pop(), turns.pop()), (Some(1), None));
    }

    #[test]
    fn a_lower_rank_is_slowed_down_and_not_stopped() {
        let (mut ranks, mut served) = (Ranks::<3>::default(), [0; 3]);
        for _ in 0..90 {
            let rank = ranks.next([true; 3]).unwrap();
            ranks.served(rank, [true; 3]);
            served[rank] += 1;
        }
        assert_eq!(served.iter().sum::<i32>(), 90);
        assert!(served[0] >= 65 && served[1] >= 9 && served[2] >= 8, "{served:?}");
        assert_eq!(Ranks::<2>::default().next([false, true]), Some(1), "nothing is above it");
        assert_eq!(Ranks::<2>::default().next([false, false]), None);
    }

    #[test]
    fn groups_that_take_what_they_may_leave_a_place_for_the_next_one() {
        for (places, groups) in [(32, 1), (32, 2), (128, 1), (128, 2), (128, 8), (256, 16)] {
            let mut held: BTreeMap<usize, usize> = BTreeMap::new();
            for round in 0..places * groups {
                let free = places - held.values().sum::<usize>();
                let of = held.entry(round % groups).or_default();
                *of += usize::from(may_take(*of, free));
            }
            assert!(held.values().sum::<usize>() < places, "{places}: {held:?}");
            assert!(held.values().max().unwrap() - held.values().min().unwrap() <= 1, "{places}: {held:?}");
        }
        assert!((0..8).all(|held| may_take(held, 8 - held)), "one group alone may hold eight places");
        assert!(!may_take(0, 0), "no place is free");
    }

    #[test]
    fn group_takes_the_places_that_are_left_to_it_and_no_more() {
        for free in 0..100 {
            for held in 0..100 {
                let taken = (0..).take_while(|more| free > *more && may_take(held + more, free - more)).count();
                assert_eq!(left(held, free), taken, "{held} held, {free} free");
            }
        }
    }
}
