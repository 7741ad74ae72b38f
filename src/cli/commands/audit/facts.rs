//! The objects among the manifests, or in the cluster, on which the judgement of others depends.

use std::collections::{BTreeMap, BTreeSet};

use paddock_api::SandboxPolicySpec;
use paddock_api::names::{group, label};
use paddock_core::isolation::{Isolation, IsolationRule, NamespaceLabels};
use paddock_core::marker::namespace_isolates;
use paddock_core::question::RuntimeClassFact;
use paddock_core::settings::Settings;
use serde_json::Value;

use super::item::Item;

/// The origin of the objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Manifests. An object that is not among them may exist all the same.
    Manifests,
    /// A cluster. An object that was not read does not exist.
    Cluster,
}

/// A namespace and the name of an object in it.
pub(super) type Name = (String, String);

/// The facts about a cluster.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) source: Source,
    /// The namespace of objects that name none.
    pub(super) default_namespace: String,
    pub(super) classes: Vec<RuntimeClassFact>,
    /// The namespaces that require isolation.
    isolated_namespaces: BTreeSet<String>,
    /// The labels of the namespaces.
    labels: BTreeMap<String, BTreeMap<String, String>>,
    /// The rules of SandboxPolicies about isolation.
    rules: Vec<IsolationRule>,
    /// The ServiceAccounts whose token is not mounted, unless the pod says so.
    unmounted_accounts: BTreeSet<Name>,
    /// The volume claims that many nodes may write to.
    shared_claims: BTreeSet<Name>,
}

impl Facts {
    pub(super) fn of(items: &[Item], source: Source, default_namespace: &str, settings: &Settings) -> Self {
        let mut facts = Self {
            source,
            default_namespace: default_namespace.to_owned(),
            classes: Vec::new(),
            isolated_namespaces: BTreeSet::new(),
            labels: BTreeMap::new(),
            rules: Vec::new(),
            unmounted_accounts: BTreeSet::new(),
            shared_claims: BTreeSet::new(),
        };
        for item in items {
            facts.add(item, settings);
        }
        facts
    }

    fn add(&mut self, item: &Item, settings: &Settings) {
        let (object, name) = (&item.object, item.name());
        let key = || (item.namespace(&self.default_namespace).to_owned(), name.clone());
        match (item.group(), item.kind()) {
            ("node.k8s.io", "RuntimeClass") => {
                let handler = object["handler"].as_str().unwrap_or_default().to_owned();
                let isolated = settings.isolates(&handler);
                self.classes.push(RuntimeClassFact { name, handler, isolated, nodes: 0 });
            }
            ("", "Namespace") => {
                let labels = object.pointer("/metadata/labels").cloned().unwrap_or_default();
                let mut labels: BTreeMap<String, String> = serde_json::from_value(labels).unwrap_or_default();
                if namespace_isolates(settings, &name, &labels) {
                    self.isolated_namespaces.insert(name.clone());
                }
                // The API server gives each namespace this label.
                labels.insert(label::NAMESPACE_NAME.to_owned(), name.clone());
                self.labels.insert(name, labels);
            }
            (group::POLICY, "SandboxPolicy") => {
                // A policy that the schema refuses has no effect.
                let spec: Option<SandboxPolicySpec> = serde_json::from_value(object["spec"].clone()).ok();
                let rule = spec.and_then(|spec| IsolationRule::of(&name, &spec).ok().flatten());
                self.rules.extend(rule);
            }
            ("", "ServiceAccount") if object["automountServiceAccountToken"] == false => {
                self.unmounted_accounts.insert(key());
            }
            ("", "PersistentVolumeClaim") if writable_by_many(&object["spec"]) => {
                self.shared_claims.insert(key());
            }
            _ => {}
        }
    }

    pub(super) fn namespace_isolates(&self, namespace: &str) -> bool {
        self.isolated_namespaces.contains(namespace)
    }

    /// The rule for the isolation of the pods of a namespace. The labels of a namespace that is not among the manifests are
    /// not known, except for its name.
    pub(super) fn isolation(&self, namespace: &str, settings: &Settings) -> Isolation<'_> {
        let isolation = Isolation::new(&self.classes, settings);
        match self.labels.get(namespace) {
            Some(labels) => isolation.in_namespace(&self.rules, &NamespaceLabels::Known(labels)),
            None => {
                let name = BTreeMap::from([(label::NAMESPACE_NAME, namespace)]);
                isolation.in_namespace(&self.rules, &NamespaceLabels::Uncertain(&name))
            }
        }
    }

    pub(super) fn mounts_no_token(&self, namespace: &str, account: &str) -> bool {
        self.unmounted_accounts.contains(&(namespace.to_owned(), account.to_owned()))
    }

    pub(super) fn is_shared(&self, claim: &Name) -> bool {
        self.shared_claims.contains(claim)
    }
}

/// Whether the spec of a volume claim lets many nodes write to the volume.
pub(super) fn writable_by_many(spec: &Value) -> bool {
    spec["accessModes"].as_array().into_iter().flatten().any(|mode| mode == "ReadWriteMany")
}
