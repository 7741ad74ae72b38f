//! The kinds that are not known: those that are not listed yet, and those whose watch fails.

use std::collections::BTreeSet;

use paddock_api::kind::Kind;

/// The kinds that are not listed yet. The operator is ready when the set is empty.
pub type UnsyncedKinds = BTreeSet<Kind>;

/// The kinds whose watch has failed for a while. The operator makes no decisions while the set is not empty.
pub type UnknownKinds = BTreeSet<Kind>;
