//! The configuration by which warm Sandboxes are compared, and the domains that are the operator's own.

use paddock_api::names::group;

use crate::model::names::{domain_of, is_within};
use crate::settings::Settings;

/// The configuration by which Sandboxes are compared.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// The settings of the operator.
    pub settings: &'a Settings,
    /// Whether an admission plugin may have changed a Pod before it was created. Otherwise nobody reads the annotations
    /// that list such changes, because a user could write them.
    pub plugins: bool,
}

/// Whether a label or annotation is in a domain of the API or of Paddock.
pub(super) fn is_ours(key: &str) -> bool {
    domain_of(key).is_some_and(|domain| [group::AGENTS, group::POLICY].iter().any(|ours| is_within(&domain, ours)))
}
