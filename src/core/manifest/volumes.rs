//! The volume claims that a Sandbox's pod mounts: those of its templates, and those that take the place of its
//! `emptyDir` volumes on disk.

use k8s_openapi::api::core::v1::{
    Container, PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec, SecurityContext, Volume,
};
use paddock_api::kind::Kind;
use paddock_api::names::{label, name_hash, object as names};
use serde_json::{Value, json};

use super::owned;
use crate::model::{self, DiskDir};
use crate::object::Object;
use crate::settings::Settings;

/// The group of the volumes of a pod whose containers do not run as root, if the template names neither a user nor a
/// group. Every container gets it as a supplementary group, so any number above zero works.
const DEFAULT_FS_GROUP: i64 = 1000;

/// The names of all volume claims that a Sandbox's pod may mount.
#[must_use]
pub fn volume_claim_names(sandbox: &Object) -> Vec<String> {
    let Some(Ok(model)) = sandbox.sandbox().map(|s| &s.spec) else { return vec![] };
    let templates = model.volume_claims.iter().map(|c| c.name.as_str());
    templates.chain(disk_dirs(model).map(|dir| &*dir.name)).map(|n| names::volume_claim(n, &sandbox.key.name)).collect()
}

/// Returns the volume claims of a Sandbox, as names and complete objects: those of its templates, and those of the
/// `emptyDir` volumes in `kept_dirs`.
#[must_use]
pub fn volume_claims(
    sandbox: &Object,
    model: &model::Sandbox,
    kept_dirs: &[String],
    settings: &Settings,
) -> Vec<(String, Value)> {
    let claim = |volume: &str, labels: Value, annotations: Value, spec: Value| {
        let name = names::volume_claim(volume, &sandbox.key.name);
        let metadata = json!({ "labels": labels, "annotations": annotations });
        let mut body = owned(sandbox, Kind::VolumeClaim, &name, metadata);
        body["spec"] = spec;
        (name, body)
    };
    let hash = name_hash(&sandbox.key.name);
    let mut claims: Vec<_> = model
        .volume_claims
        .iter()
        .map(|c| {
            let mut labels = c.labels.to_map();
            labels.insert(label::SANDBOX_NAME_HASH.to_owned(), hash.clone());
            claim(&c.name, json!(labels), json!(c.annotations), c.spec.parse())
        })
        .collect();
    for dir in disk_dirs(model).filter(|dir| kept_dirs.iter().any(|kept| **kept == *dir.name)) {
        let size = dir.size_limit.as_deref().unwrap_or(&settings.workspace_size);
        claims.push(claim(
            &dir.name,
            json!({ label::SANDBOX_NAME_HASH: hash }),
            json!({}),
            json!({
                "accessModes": ["ReadWriteOnce"],
                "resources": { "requests": { "storage": size } },
            }),
        ));
    }
    claims
}

/// The `emptyDir` volumes of a Sandbox that are on the disk of the node. A volume claim template of the same name replaces
/// an `emptyDir`.
pub(crate) fn disk_dirs(model: &model::Sandbox) -> impl Iterator<Item = &DiskDir> {
    let replaced = |dir: &DiskDir| model.volume_claims.iter().any(|claim| *claim.name == *dir.name);
    model.pod.spec.disk_dirs().iter().filter(move |dir| !replaced(dir))
}

/// Mounts the volume claim of a volume in its place.
pub(super) fn mount_claim(spec: &mut PodSpec, volume: &str, sandbox: &str) {
    let source = PersistentVolumeClaimVolumeSource {
        claim_name: names::volume_claim(volume, sandbox),
        ..PersistentVolumeClaimVolumeSource::default()
    };
    let mounted = Volume { name: volume.to_owned(), persistent_volume_claim: Some(source), ..Volume::default() };
    let volumes = spec.volumes.get_or_insert_with(Vec::new);
    match volumes.iter_mut().find(|v| v.name == volume) {
        Some(existing) => *existing = mounted,
        None => volumes.push(mounted),
    }
}

/// Makes the volumes in `kept_dirs` writable for containers that do not run as root. Everybody may write to an
/// `emptyDir`, but the root directory of a new volume belongs to root. The kubelet makes a volume writable for the
/// group `fsGroup`, which every container gets as a supplementary group.
pub(super) fn let_containers_write(spec: &mut PodSpec, kept_dirs: &[String]) {
    let pod = spec.security_context.clone().unwrap_or_default();
    // The API server refuses the field on a pod for Windows.
    if pod.fs_group.is_some() || spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        return;
    }
    let writes = |c: &&Container| c.volume_mounts.iter().flatten().any(|m| kept_dirs.contains(&m.name));
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let Some(group) = containers.filter(writes).find_map(|c| group_of_user(&pod, c.security_context.as_ref())) else {
        return;
    };
    let context = spec.security_context.get_or_insert_default();
    context.fs_group = Some(group);
    // A change of the owner of each file would make a resume slow.
    context.fs_group_change_policy.get_or_insert_with(|| "OnRootMismatch".to_owned());
}

/// The group that makes a volume writable for a container, or `None` if the container runs as root or the image names
/// its user.
fn group_of_user(pod: &PodSecurityContext, container: Option<&SecurityContext>) -> Option<i64> {
    let user = container.and_then(|c| c.run_as_user).or(pod.run_as_user);
    let not_root = container.and_then(|c| c.run_as_non_root).or(pod.run_as_non_root) == Some(true);
    let group = container.and_then(|c| c.run_as_group).or(pod.run_as_group);
    match user {
        Some(0) => None,
        None if !not_root => None,
        Some(_) | None => Some(group.filter(|g| *g > 0).or(user).unwrap_or(DEFAULT_FS_GROUP)),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodSpec;
    use serde_json::{Value, json};

    use super::let_containers_write;

    /// The `fsGroup` of a pod with these security contexts, whose container mounts the volume `work`.
    fn fs_group(pod: &Value, container: &Value) -> Option<i64> {
        let spec = json!({
            "securityContext": pod,
            "containers": [
                { "name": "other", "securityContext": { "runAsUser": 7 } },
                { "name": "c", "securityContext": container, "volumeMounts": [{ "name": "work", "mountPath": "/w" }] },
            ],
        });
        let mut spec: PodSpec = serde_json::from_value(spec).unwrap();
        let_containers_write(&mut spec, &["work".to_owned()]);
        spec.security_context.and_then(|c| c.fs_group)
    }

    #[test]
    fn volume_is_writable_for_every_user_that_is_not_root() {
        let (none, root) = (json!(null), json!({ "runAsUser": 0 }));
        for (what, pod, container, expected) in [
            ("the group of the pod", json!({ "runAsUser": 10, "runAsGroup": 20 }), none.clone(), Some(20)),
            ("the user, without a group", json!({ "runAsUser": 10 }), none.clone(), Some(10)),
            ("the user, with the group of root", json!({ "runAsUser": 10, "runAsGroup": 0 }), none.clone(), Some(10)),
            ("any group, for an unknown user", json!({ "runAsNonRoot": true }), none.clone(), Some(1000)),
            ("the group of the container", none.clone(), json!({ "runAsUser": 10, "runAsGroup": 30 }), Some(30)),
            ("the user of the container", root.clone(), json!({ "runAsUser": 40 }), Some(40)),
            ("none, for a container that runs as root", json!({ "runAsUser": 10 }), root, None),
            ("none, where the image names the user", none.clone(), none.clone(), None),
            ("that of the template", json!({ "runAsUser": 10, "fsGroup": 50 }), none, Some(50)),
        ] {
            assert_eq!(fs_group(&pod, &container), expected, "{what}");
        }
    }

    #[test]
    fn pod_for_windows_has_no_fs_group() {
        let spec = json!({
            "os": { "name": "windows" },
            "containers": [{
                "name": "c",
                "securityContext": { "runAsNonRoot": true },
                "volumeMounts": [{ "name": "work", "mountPath": "/w" }],
            }],
        });
        let mut spec: PodSpec = serde_json::from_value(spec).unwrap();
        let_containers_write(&mut spec, &["work".to_owned()]);
        assert_eq!(spec.security_context, None);
    }
}
