//! The ValidatingAdmissionPolicies that this operator compares with those of its version: those that limit its credential,
//! the one that protects its Leases, and those that judge Pods in the place of its webhook.

use paddock_api::names::object::OPERATOR_NAMESPACE;
use paddock_kube::guard::Policies;
use paddock_kube::user::service_account_namespace;

use crate::config::Config;
use crate::manifests::{IsolationPolicies, Settings, Webhook, chosen_classes, guards, isolation_guards};
use crate::webhook::{Certificate, ClientConfig, Registration};

/// The policies of an operator with this configuration.
pub(crate) fn policies(config: &Config) -> Policies {
    of(settings(config))
}

/// The policies about isolation, as `paddock generate vap` prints them with the flags of this operator. Administrators
/// choose the names of the RuntimeClasses.
pub(crate) fn isolation(config: &Config) -> Policies {
    let settings = IsolationPolicies {
        namespace: settings(config).namespace,
        isolated_handlers: config.settings.isolated_handlers.clone(),
        allowed: config.settings.isolation_allow,
        ..IsolationPolicies::default()
    };
    Policies::with_choice(("operator", "paddock generate vap"), chosen_classes, move |classes| {
        isolation_guards(&settings, classes)
    })
}

/// The policies of an operator with the settings of these manifests. The namespace is that of a user without one.
fn of(settings: Settings) -> Policies {
    Policies::new("operator", move |user| {
        let namespace = service_account_namespace(user).unwrap_or(&settings.namespace).to_owned();
        guards(&Settings { namespace, ..settings.clone() }, user)
    })
}

/// The settings of the manifests with which an operator of this configuration is deployed, as far as the policies depend
/// on them.
fn settings(config: &Config) -> Settings {
    let webhook = match &config.webhook {
        None => Webhook::Off,
        Some(setup) => match &setup.certificate {
            Certificate::Mounted(_) | Certificate::SelfIssued { registration: Registration::External, .. } => {
                Webhook::Mounted
            }
            Certificate::SelfIssued { registration: Registration::Injected, .. } => Webhook::Injected,
            Certificate::SelfIssued { registration: Registration::Owned, .. } => {
                let host = match &setup.client_config {
                    Some(url @ ClientConfig::Url(_)) => url.hosts().into_iter().next(),
                    Some(ClientConfig::Service { .. }) | None => None,
                };
                Webhook::Owned { host }
            }
        },
    };
    let namespace = config.settings.own_namespace.clone().unwrap_or_else(|| OPERATOR_NAMESPACE.to_owned());
    let (served_namespace, extensions, shapes) = (config.namespace.clone(), config.extensions, config.shapes);
    Settings { namespace, served_namespace, extensions, webhook, shapes, ..Settings::default() }
}

#[cfg(test)]
mod tests;
