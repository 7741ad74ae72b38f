//! The configuration by which warm Sandboxes are compared, and the domains that are the operator's own.

use crate::settings::Settings;

/// The configuration by which Sandboxes are compared.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// The settings of the operator.
    pub settings: &'a Settings,
    /// Whether an admission plugin may have changed a Pod before it was created. Otherwise nobody reads the annotations
    /// that list such changes, because a user could write them.
    pub plugins_may_change_pods: bool,
}
