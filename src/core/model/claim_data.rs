//! What a claim brings to its sandbox, and what its template lets it bring.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use paddock_api::claim_data::{
    BYTES_MAX, CONTENT_BYTES_MAX, DELIVERY, EVERYTHING, FILES_MAX, INIT, INIT_PATH, JSON_BYTES_MAX, MOUNT_PATH,
    RESERVED_PREFIX, SECRET, SECRETS_MAX, VARIABLE_BYTES_MAX, VOLUME,
};
use paddock_api::{
    ClaimDataSpec, ClaimDataStart, ClaimEnvVar, ClaimFile, SandboxClaimSpec, SecretKeyRef, VolumeClaimTemplate,
};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::error::{Errors, FieldErrors};
use super::names;
use super::types::{BroughtFile, Claim, ClaimData, ClaimDataRules, Template};
use crate::object::budget;
use crate::object::json::to_value;

/// Parses `spec.claimData` of a template. `pod` is the pod of the template, and `path` is the field that contains it.
pub(super) fn parse_claim_data_rules(
    spec: Option<&ClaimDataSpec>,
    pod: &PodSpec,
    path: &str,
    volume_claims: &[VolumeClaimTemplate],
    errors: &mut Errors,
) -> Option<ClaimDataRules> {
    let spec = spec?;
    let mount_path = spec.mount_path.clone().unwrap_or_else(|| MOUNT_PATH.to_owned());
    let at = "spec.claimData.mountPath";
    let relative = mount_path.split('/').any(|part| part == "..");
    if !mount_path.starts_with('/') || parts(&mount_path).is_empty() || mount_path.contains(':') || relative {
        errors.add(at, format!("`{mount_path}` must be an absolute path without ':' and '..', such as {MOUNT_PATH}"));
    }
    let start = spec.start.unwrap_or_default();
    let (containers, secrets) = (spec.containers.clone(), spec.secrets.clone());
    let rules = ClaimDataRules { mount_path, containers, start, secrets };
    for (i, name) in spec.containers.iter().enumerate() {
        if !pod.containers.iter().any(|container| container.name == *name) {
            let at = format!("spec.claimData.containers[{i}]");
            errors.add(at, format!("`{name}` must be the name of one of {path}.containers"));
        }
    }
    for (i, container) in pod.containers.iter().enumerate().filter(|(_, c)| rules.reaches(&c.name)) {
        let taken = |mount: &str| parts(mount) == parts(&rules.mount_path);
        if container.volume_mounts.iter().flatten().any(|mount| taken(&mount.mount_path)) {
            let mounts = format!("{path}.containers[{i}].volumeMounts");
            errors.add(at, format!("`{}` must differ from the paths in {mounts}", rules.mount_path));
        }
    }
    let of_claims = volume_claims.iter().filter_map(|claim| claim.metadata.as_ref()?.name.as_deref());
    let volumes: BTreeSet<&str> = pod.volumes.iter().flatten().map(|v| v.name.as_str()).chain(of_claims).collect();
    for name in rules.volumes().iter().filter(|name| volumes.contains(*name)) {
        errors.add("spec.claimData", format!("the name {name} must be left to its volume: rename the other volume"));
    }
    match start {
        ClaimDataStart::Immediate => {}
        ClaimDataStart::AfterDelivery => check_held(&rules, pod, path, errors),
    }
    if spec.secrets.len() > SECRETS_MAX {
        errors.add("spec.claimData.secrets", format!("must have at most {SECRETS_MAX} names"));
    }
    for (i, name) in spec.secrets.iter().enumerate() {
        let at = format!("spec.claimData.secrets[{i}]");
        if let Some(problem) = names::dns_subdomain(name) {
            errors.add(at, problem);
        } else if is_delivered_secret(name) {
            errors
                .add(at, format!("`{name}` must not begin with {SECRET}-, as the Secrets that the operator makes do"));
        }
    }
    Some(rules)
}

impl ClaimDataRules {
    /// The names of the volumes that the operator adds to the pod.
    fn volumes(&self) -> &'static [&'static str] {
        match self.start {
            ClaimDataStart::Immediate => &[VOLUME],
            ClaimDataStart::AfterDelivery => &[VOLUME, INIT],
        }
    }
}

/// The names on an absolute path, as a runtime resolves it. Two paths of the same directory have the same names.
fn parts(path: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts
}

/// Checks the containers that are held until the data is there. A probe of a held container would fail, so the sandbox
/// would not become Ready, or its container would be restarted. The kubelet also waits for the hook `postStart`, which runs
/// before the command.
fn check_held(rules: &ClaimDataRules, pod: &PodSpec, path: &str, errors: &mut Errors) {
    const WHY: &str = "because spec.claimData.start is AfterDelivery";
    let (init, data) = (parts(INIT_PATH), parts(&rules.mount_path));
    // No runtime makes the inner directory in the outer one, because both are read-only.
    if data.starts_with(&init) || init.starts_with(&data) {
        let problem = format!("`{}` must not be {INIT_PATH}, or inside or around it, {WHY}", rules.mount_path);
        errors.add("spec.claimData.mountPath", problem);
    }
    for (i, container) in pod.containers.iter().enumerate().filter(|(_, c)| rules.reaches(&c.name)) {
        let path = format!("{path}.containers[{i}]");
        if container.command.as_ref().is_none_or(Vec::is_empty) {
            errors.add(
                format!("{path}.command"),
                format!("is required, {WHY}, and the entrypoint of the image is not known here: state it"),
            );
        }
        let Container { readiness_probe, liveness_probe, startup_probe, .. } = container;
        let probes =
            [("readinessProbe", readiness_probe), ("livenessProbe", liveness_probe), ("startupProbe", startup_probe)];
        for (probe, _) in probes.into_iter().filter(|(_, probe)| probe.is_some()) {
            errors.add(format!("{path}.{probe}"), format!("must be absent, {WHY}, and it would fail until then"));
        }
        if container.lifecycle.as_ref().is_some_and(|lifecycle| lifecycle.post_start.is_some()) {
            let problem = format!("must be absent, {WHY}, and the hook would run before the command and the data");
            errors.add(format!("{path}.lifecycle.postStart"), problem);
        }
        if container.volume_mounts.iter().flatten().any(|mount| parts(&mount.mount_path).starts_with(&init)) {
            errors.add(format!("{path}.volumeMounts"), format!("must not contain {INIT_PATH}, {WHY}"));
        }
    }
    if pod.init_containers.iter().flatten().chain(&pod.containers).any(|container| container.name == INIT) {
        errors.add(path, format!("the name {INIT} must be left to the init container that Paddock adds, {WHY}"));
    }
}

/// Whether a name is one of those that the operator gives to the Secrets with the data of claims.
fn is_delivered_secret(name: &str) -> bool {
    name.strip_prefix(SECRET).is_some_and(|rest| rest.starts_with('-'))
}

/// Parses the files of a claim. Returns `None` if the claim brings neither files nor variables.
pub(super) fn parse_claim_data(spec: &SandboxClaimSpec, errors: &mut Errors) -> Option<ClaimData> {
    if spec.files.is_empty() && spec.env.is_empty() {
        return None;
    }
    if spec.files.len() > FILES_MAX {
        errors.add("spec.files", format!("must have at most {FILES_MAX} files"));
    }
    let (mut seen, mut files) = (BTreeSet::new(), Vec::new());
    for (i, file) in spec.files.iter().enumerate() {
        let path = format!("spec.files[{i}]");
        check_name(&file.name, &path, errors);
        if !seen.insert(file.name.as_str()) {
            errors.add(format!("{path}.name"), format!("`{}` must be used once", file.name));
        }
        check_source(file, &path, errors);
        files.push(BroughtFile { name: file.name.clone(), secret: file.secret_key_ref.clone() });
    }
    let json_bytes = json_bytes(spec);
    let too_large = too_large(brought_bytes(spec, |_| None), json_bytes);
    // Variables alone may be larger, because a template without claimData takes them as upstream does.
    if let Some(problem) = too_large.as_ref().filter(|_| !spec.files.is_empty()) {
        errors.add("spec.files", problem.clone());
    }
    Some(ClaimData { digest: digest(spec), files, json_bytes, too_large })
}

impl ClaimData {
    /// Whether the Secret with the data is a large object. It may be if the claim refers to other Secrets, because nobody
    /// knows their length before they are read.
    pub(crate) fn makes_large_secret(&self) -> bool {
        // Everything is in it twice, and base64 needs four bytes for three.
        self.json_bytes * 2 * 4 / 3 > budget::LARGE_BYTES || self.files.iter().any(|file| file.secret.is_some())
    }
}

/// The number of bytes of all contents and variables. `of_secret` returns the length of the key of a Secret, if it is known.
pub(crate) fn brought_bytes(spec: &SandboxClaimSpec, of_secret: impl Fn(&SecretKeyRef) -> Option<usize>) -> usize {
    let of_files = spec.files.iter().map(|file| {
        let of_secret = file.secret_key_ref.as_ref().and_then(&of_secret);
        of_secret.or_else(|| file.content.as_ref().map(String::len)).unwrap_or_default()
    });
    let of_env = spec.env.iter().map(|var| var.name.len() + var.value.len());
    of_files.chain(of_env).sum()
}

/// Why so many bytes, and so many as JSON, are too many.
pub(crate) fn too_large(bytes: usize, json_bytes: usize) -> Option<String> {
    let (most, most_json) = (BYTES_MAX / 1024, JSON_BYTES_MAX / 1024);
    if bytes > BYTES_MAX {
        Some(format!("all contents and variables together must have at most {most} KiB, and they have {bytes} bytes"))
    } else if json_bytes > JSON_BYTES_MAX {
        Some(format!(
            "all contents and variables together must have at most {most_json} KiB as JSON, which needs six bytes for a \
             control character, and they have {json_bytes} bytes"
        ))
    } else {
        None
    }
}

/// The number of bytes of all names, contents and variables as JSON.
fn json_bytes(spec: &SandboxClaimSpec) -> usize {
    const BETWEEN: usize = 2;
    let of_files = spec.files.iter().map(|file| json!([file.name, file.content]).to_string().len() + BETWEEN);
    let of_env = spec.env.iter().map(|var| to_value(var).to_string().len() + BETWEEN);
    of_files.chain(of_env).sum()
}

fn check_name(name: &str, path: &str, errors: &mut Errors) {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let reserved = name == EVERYTHING || name == DELIVERY || name.starts_with(RESERVED_PREFIX);
    if name.is_empty() || name.len() > 253 || !name.chars().all(legal) || name == "." || name.starts_with("..") {
        let allowed = "at most 253 of letters, digits, '-', '_' and '.', and must not begin with '..'";
        errors.add(format!("{path}.name"), format!("`{name}` must be a file name of {allowed}"));
    } else if reserved {
        let others = format!("{EVERYTHING}, {DELIVERY} and names that begin with {RESERVED_PREFIX} are reserved");
        errors.add(format!("{path}.name"), format!("`{name}` must be another name: {others}"));
    }
}

fn check_source(file: &ClaimFile, path: &str, errors: &mut Errors) {
    match (&file.content, &file.secret_key_ref) {
        (Some(content), None) => {
            if content.len() > CONTENT_BYTES_MAX {
                let most = CONTENT_BYTES_MAX / 1024;
                errors.add(format!("{path}.content"), format!("must have at most {most} KiB"));
            }
        }
        (None, Some(reference)) => {
            if let Some(problem) = names::dns_subdomain(&reference.name) {
                errors.add(format!("{path}.secretKeyRef.name"), problem);
            }
            if reference.key.is_empty() {
                errors.add(format!("{path}.secretKeyRef.key"), "is required: the key in the Secret");
            }
        }
        (Some(_), Some(_)) | (None, None) => {
            errors.add(path, "exactly one of content and secretKeyRef must be given");
        }
    }
}

/// The digest of what a claim brings. It changes with every name, content and reference, and not with the content of a
/// Secret. It says nothing about a content that nobody can guess.
#[must_use]
pub fn digest(spec: &SandboxClaimSpec) -> String {
    let files = spec.files.iter().map(|file| {
        let secret = file.secret_key_ref.as_ref().map(|secret| [&secret.name, &secret.key]);
        json!([file.name, file.content, secret])
    });
    let env = spec.env.iter().map(|var| json!([var.name, var.value, var.container_name]));
    let parts = json!([files.collect::<Vec<_>>(), env.collect::<Vec<_>>()]);
    let hash = Sha256::digest(parts.to_string().as_bytes());
    hash.iter().take(16).fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Checks what a claim brings against its template.
///
/// # Errors
/// All fields of the claim that the template does not admit.
pub fn check_claim_data(claim: &Claim, template: &Template, name: &str) -> Result<(), FieldErrors> {
    let mut errors = Errors::default();
    let files = claim.data.iter().flat_map(|data| &data.files);
    let Some(rules) = &template.claim_data else {
        if files.count() > 0 {
            errors.add(
                "spec.files",
                format!(
                    "must be absent, because SandboxTemplate {name} has no spec.claimData: add it to the template, \
                     or remove the files"
                ),
            );
        }
        return errors.into_result(Some(()));
    };
    for (i, file) in files.enumerate() {
        let Some(secret) = file.secret.as_ref().filter(|secret| !rules.secrets.contains(&secret.name)) else {
            continue;
        };
        let listed = match rules.secrets.as_slice() {
            [] => "which lists none".to_owned(),
            listed => format!("which lists {}", listed.join(", ")),
        };
        errors.add(
            format!("spec.files[{i}].secretKeyRef.name"),
            format!("`{}` must be in spec.claimData.secrets of SandboxTemplate {name}, {listed}", secret.name),
        );
    }
    // If the claim has files, it was refused before.
    if let Some(problem) = claim.data.as_ref().and_then(|data| data.too_large.clone()) {
        errors.add("spec.env", problem);
    }
    let process = rules.start == ClaimDataStart::AfterDelivery;
    // With the `=`, and the NUL at the end.
    let bytes = |var: &ClaimEnvVar| var.name.len() + var.value.len() + 2;
    for (i, var) in claim.env.iter().enumerate().filter(|(_, var)| process && bytes(var) > VARIABLE_BYTES_MAX) {
        let most = VARIABLE_BYTES_MAX.saturating_sub(var.name.len() + 2);
        let problem = format!("must have at most {most} bytes, because no process can start with a larger variable");
        errors.add(format!("spec.env[{i}].value"), problem);
    }
    let ours = |name: &str| rules.volumes().contains(&name);
    for (i, volume) in claim.volume_claims.iter().enumerate().filter(|(_, volume)| ours(&volume.name)) {
        let at = format!("spec.volumeClaimTemplates[{i}].metadata.name");
        let problem = format!("must be left to the volume of spec.claimData of SandboxTemplate {name}");
        errors.add(at, format!("`{}` {problem}", volume.name));
    }
    errors.into_result(Some(()))
}

#[cfg(test)]
mod tests;
