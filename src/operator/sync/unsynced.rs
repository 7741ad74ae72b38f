//! The kinds that are not listed yet.

use std::collections::BTreeSet;

use paddock_core::kind::Kind;

/// Kinds that are not listed yet. Readiness is its emptiness.
pub type UnsyncedKinds = BTreeSet<Kind>;
