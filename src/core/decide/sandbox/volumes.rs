//! Decides which `emptyDir` volumes of a new pod are volume claims, so that a suspend loses no files.

use paddock_api::names::object as names;

use crate::manifest::disk_dirs;
use crate::model;
use crate::object::allows_volume_loss;
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
    for (volume, _) in disk_dirs(model) {
        let existing = snapshot.volume_claims.get(&names::volume_claim(volume, &sandbox.key.name));
        if existing.is_some_and(|claim| claim.controlled_by(&sandbox.meta.uid)) {
            kept.push(volume.to_owned());
            continue;
        }
        if model.idle_timeout.is_none() || allows_volume_loss(&sandbox.meta.annotations, volume) {
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
