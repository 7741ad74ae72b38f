//! The kinds that are not listed yet.

use std::collections::BTreeSet;

use paddock_api::kind::Kind;

/// The kinds that are not listed yet. The operator is ready when the set is empty.
pub type UnsyncedKinds = BTreeSet<Kind>;
