//! The metadata of an object.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use crate::kind::{Key, Kind};
use crate::names::{FOREGROUND, annotation, group, label};

/// The metadata that decisions use.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Meta {
    /// UID.
    pub uid: Arc<str>,
    /// `resourceVersion` as the API server wrote it.
    pub resource_version: Arc<str>,
    /// The same as a number: comparable since Kubernetes 1.35 (KEP-5504).
    pub version: u64,
    /// Generation of the spec.
    pub generation: i64,
    /// When the object was created.
    pub created: Timestamp,
    /// Since when it is terminating.
    pub deletion_timestamp: Option<Timestamp>,
    /// Whether it goes only when what it owns has gone (foreground deletion).
    pub foreground: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// The owner that controls it.
    pub controller: Option<Owner>,
    /// Owners that do not.
    pub other_owners: Vec<Owner>,
    /// Whether the API server has recorded who wrote it, and every entry is an update by [`FIELD_MANAGER`](crate::names::FIELD_MANAGER).
    pub only_our_manager: bool,
}

/// An owner reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Owner {
    /// `group/version`.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: Arc<str>,
    /// UID.
    pub uid: Arc<str>,
}

impl Meta {
    pub(super) fn new(meta: ObjectMeta, only_our_manager: bool) -> Self {
        let resource_version = meta.resource_version.unwrap_or_default();
        let (mut controller, mut other_owners) = (None, Vec::new());
        for owner in meta.owner_references.unwrap_or_default() {
            let controls = owner.controller == Some(true);
            let owner = Owner {
                api_version: owner.api_version,
                kind: owner.kind,
                name: owner.name.into(),
                uid: owner.uid.into(),
            };
            if controls && controller.is_none() { controller = Some(owner) } else { other_owners.push(owner) }
        }
        Self {
            uid: meta.uid.unwrap_or_default().into(),
            version: resource_version.parse().unwrap_or_default(),
            resource_version: resource_version.into(),
            generation: meta.generation.unwrap_or_default(),
            created: meta.creation_timestamp.map(|t| t.0).unwrap_or_default(),
            deletion_timestamp: meta.deletion_timestamp.map(|t| t.0),
            foreground: meta.finalizers.iter().flatten().any(|finalizer| finalizer == FOREGROUND),
            labels: meta.labels.unwrap_or_default(),
            annotations: meta.annotations.unwrap_or_default(),
            controller,
            other_owners,
            only_our_manager,
        }
    }

    /// Whether somebody changed the spec since the object was made. The API server counts, so nobody can hide it.
    #[must_use]
    pub fn edited(&self) -> bool {
        self.generation > 1
    }

    /// Whether the controller is a pool: the Sandbox is nobody's yet.
    #[must_use]
    pub fn in_pool(&self) -> bool {
        // By the API group too: anybody may name an owner of a kind that is only called the same.
        self.controller.as_ref().is_some_and(|o| {
            let group = o.api_version.split('/').next().unwrap_or_default();
            o.kind == "SandboxWarmPool" && matches!(group, group::AGENTS | group::EXTENSIONS)
        })
    }
}

impl Owner {
    /// The key of the owner of an object with the key `owned`, if it is of a kind that the operator reconciles.
    #[must_use]
    pub fn key(&self, owned: &Key) -> Option<Key> {
        let kind = Kind::of_reference(&self.api_version, &self.kind)?;
        Some(owned.sibling(kind, self.name.clone()))
    }
}

/// Whether the user said that the files in the volumes of a Sandbox may be lost.
#[must_use]
pub fn allows_volume_loss(annotations: &BTreeMap<String, String>) -> bool {
    annotations.get(annotation::EPHEMERAL_VOLUMES).is_some_and(|v| v == label::TRUE)
}
