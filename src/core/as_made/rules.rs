//! The configuration by which warm Sandboxes are compared, and the domains that are the operator's own.

use k8s_openapi::api::core::v1::Toleration;

use crate::settings::Settings;

/// The configuration by which Sandboxes are compared.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// The settings of the operator.
    pub settings: &'a Settings,
    /// Whether an admission plugin may have changed a Pod before it was created. Otherwise nobody reads the annotations
    /// that list such changes, because a user could write them.
    pub plugins_may_change_pods: bool,
    /// Whether the namespace, the pool or the template demands that the Pod is isolated. The operator then gives the marker
    /// to a Pod that runs.
    pub isolate: bool,
    /// The tolerations that the API server gives the Pod when it is created, because its RuntimeClass has them.
    pub class_tolerations: &'a [Toleration],
}
