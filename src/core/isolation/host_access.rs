//! Sets of the fields that give a pod access to its host.

use std::fmt;

use paddock_api::HostAccess;
use serde::{Serialize, Serializer};

/// A set of [`HostAccess`]. It has two bytes, because every observed Pod has one.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct HostAccessSet(u16);

impl HostAccessSet {
    fn bit(access: HostAccess) -> u16 {
        1 << (access as u16)
    }

    /// Adds a way to the set.
    pub(super) fn insert(&mut self, access: HostAccess) {
        self.0 |= Self::bit(access);
    }

    /// Whether the set contains a way.
    #[must_use]
    pub fn contains(self, access: HostAccess) -> bool {
        self.0 & Self::bit(access) != 0
    }

    /// The ways that are in one of the sets.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The ways that are in this set and not in the other.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The ways in the set, in the order of [`HostAccess::ALL`].
    pub fn iter(self) -> impl Iterator<Item = HostAccess> {
        HostAccess::ALL.iter().copied().filter(move |access| self.contains(*access))
    }
}

impl FromIterator<HostAccess> for HostAccessSet {
    fn from_iter<I: IntoIterator<Item = HostAccess>>(all: I) -> Self {
        Self(all.into_iter().fold(0, |bits, access| bits | Self::bit(access)))
    }
}

/// The names of the set, in `/debug/seen` and in `Debug`.
impl fmt::Debug for HostAccessSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(HostAccess::as_str).collect();
        write!(f, "{{{}}}", names.join(", "))
    }
}

impl Serialize for HostAccessSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(HostAccess::as_str))
    }
}
