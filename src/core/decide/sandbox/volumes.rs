//! The volume claims of a Sandbox: decides which `emptyDir` volumes of a new pod are volume claims, so that a suspend
//! loses no files. Adopts the claims that the Sandbox may have, and keeps their labels and annotations.

use paddock_api::names::object as names;
use serde_json::{Map, json};

use crate::decide::adopt::{Adoption, adopt, adoption};
use crate::manifest::{self, disk_dirs};
use crate::model;
use crate::object::VolumeLoss;
use crate::object::json::missing_entries;
use crate::plan::{Op, Reason};
use crate::snapshot::{SandboxSnapshot, StorageClasses};

/// The decision about the `emptyDir` volumes on disk.
pub(super) enum Directories {
    /// The volumes of these names are volume claims, and the others stay.
    Kept(Vec<String>),
    /// The pod waits, with the reason.
    Wait(String),
}

/// Decides about each `emptyDir` on disk:
///
/// - A volume that is a volume claim of the Sandbox already stays it, whatever became of the idle policy and of the
///   StorageClasses. It may contain files.
/// - With an idle policy, a volume whose files must not be lost becomes a volume claim. If there are StorageClasses and
///   none is the default, the pod waits. If there are none at all, no volume claim would ever be provisioned, and the
///   volume stays an `emptyDir`.
pub(super) fn directories(snapshot: &SandboxSnapshot, model: &model::Sandbox) -> Directories {
    let sandbox = &snapshot.sandbox;
    let mut kept = Vec::new();
    let lost = VolumeLoss::of(&sandbox.meta.annotations);
    for volume in disk_dirs(model).map(|dir| &*dir.name) {
        let existing = snapshot.volume_claims.get(&names::volume_claim(volume, &sandbox.key.name));
        if existing.is_some_and(|claim| claim.is_child_of(sandbox)) {
            kept.push(volume.to_owned());
            continue;
        }
        if model.idle_timeout.is_none() || lost.allows(volume) {
            continue;
        }
        match (snapshot.storage_classes, existing) {
            (StorageClasses::WithDefault, _) | (StorageClasses::WithoutDefault, Some(_)) => {
                kept.push(volume.to_owned())
            }
            (StorageClasses::None, _) => {}
            (StorageClasses::WithoutDefault, None) => {
                return Directories::Wait(format!(
                    "the volume claim for volume {volume} needs a default StorageClass: annotate a StorageClass with \
                     storageclass.kubernetes.io/is-default-class: \"true\""
                ));
            }
        }
    }
    Directories::Kept(kept)
}

/// Adopts volume claims, and restores their labels and annotations. The API server lets nobody change the spec, except to
/// expand a claim.
pub(super) fn restored(snapshot: &SandboxSnapshot, model: &model::Sandbox) -> Vec<Op> {
    let sandbox = &snapshot.sandbox;
    let kept_dirs = match directories(snapshot, model) {
        Directories::Kept(names) => names,
        Directories::Wait(_) => vec![],
    };
    let wanted = manifest::volume_claims(sandbox, model, &kept_dirs, &snapshot.common.settings);
    let changed = wanted.into_iter().filter_map(|(name, body)| {
        let there = snapshot.volume_claims.get(&name)?;
        if there.meta.deletion_timestamp.is_some() {
            return None;
        }
        if !there.is_child_of(sandbox) {
            return match adoption(sandbox, there, &body) {
                Adoption::Yes => Some(adopt(sandbox, there, json!({}))),
                Adoption::No | Adoption::Prepared | Adoption::Differs(_) => None,
            };
        }
        let mut metadata = Map::new();
        for (field, has) in [("labels", &there.meta.labels), ("annotations", &there.meta.annotations)] {
            let missing = missing_entries(has, &body["metadata"][field]);
            if !missing.is_empty() {
                metadata.insert(field.to_owned(), missing.into());
            }
        }
        (!metadata.is_empty()).then(|| Op::patch(there, Reason::VolumeClaimChanged, json!({ "metadata": metadata })))
    });
    changed.collect()
}
