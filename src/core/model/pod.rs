//! Checks of a pod and its volume claims that the API server would make when the pod is created.
//!
//! The early checks report an error to the author of a Sandbox or template, and not only in the operator's log. A
//! problem is an error here only if no default, mutation or version of the API server can repair it. The API server
//! checks everything else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource;
use paddock_api::{PodMetadata, VolumeClaimTemplate};

use super::error::Errors;
use super::names;
use super::quantity::Quantity;
use super::stored::StoredSpec;
use super::types::{Pod, VolumeClaim};
use crate::object::JsonText;

/// Parses the metadata and the spec of a pod template. `path` is the field that contains the template.
pub(super) fn parse_pod(metadata: PodMetadata, spec: &PodSpec, path: &str, errors: &mut Errors) -> Pod {
    check_labels(&metadata.labels, &format!("{path}.metadata.labels"), errors);
    check_annotations(&metadata.annotations, &format!("{path}.metadata.annotations"), errors);
    check_spec(spec, &format!("{path}.spec"), errors);
    Pod {
        labels: metadata.labels.into(),
        annotations: metadata.annotations.into(),
        spec: Arc::new(StoredSpec::of(spec)),
    }
}

/// Parses volume claim templates. `path` is the list that contains them.
pub(super) fn parse_volume_claims(
    templates: &[VolumeClaimTemplate],
    path: &str,
    errors: &mut Errors,
) -> Vec<VolumeClaim> {
    let mut seen = BTreeSet::new();
    let mut claims = Vec::with_capacity(templates.len());
    for (i, template) in templates.iter().enumerate() {
        let path = format!("{path}[{i}]");
        let metadata = template.metadata.clone().unwrap_or_default();
        let name = template.metadata.as_ref().and_then(|m| m.name.as_deref()).unwrap_or_default();
        check_name(name, &mut seen, &format!("{path}.metadata.name"), errors);
        check_labels(&metadata.labels, &format!("{path}.metadata.labels"), errors);
        check_annotations(&metadata.annotations, &format!("{path}.metadata.annotations"), errors);
        check_storage(template, &format!("{path}.spec.resources"), errors);
        claims.push(VolumeClaim {
            name: name.to_owned(),
            labels: metadata.labels.into(),
            annotations: metadata.annotations.into(),
            spec: JsonText::of(&template.spec),
        });
    }
    claims
}

/// Checks that volume claim templates say what the API server requires. A webhook may add that to the volume claims, so this
/// is an error only where clients expect a reason at once.
pub(super) fn check_complete(templates: &[VolumeClaimTemplate], path: &str, errors: &mut Errors) {
    for (i, VolumeClaimTemplate { spec, .. }) in templates.iter().enumerate() {
        if spec.access_modes.as_ref().is_none_or(Vec::is_empty) {
            errors.add(format!("{path}[{i}].spec.accessModes"), "at least one is required, such as ReadWriteOnce");
        }
        let requests = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        if !requests.is_some_and(|requests| requests.contains_key("storage")) {
            let at = format!("{path}[{i}].spec.resources.requests.storage");
            errors.add(at, "is required: how much to store, such as 1Gi");
        }
    }
}

/// Parses the RuntimeClass, which a user can name beside the pod or in its spec.
pub(super) fn parse_runtime_class(
    beside: Option<&String>,
    spec: &PodSpec,
    path: &str,
    errors: &mut Errors,
) -> Option<String> {
    let beside = beside.filter(|name| !name.is_empty());
    let inside = spec.runtime_class_name.as_ref().filter(|name| !name.is_empty());
    let (Some(a), Some(b)) = (beside, inside) else {
        let name = beside.or(inside);
        if let Some(problem) = name.and_then(|n| names::dns_subdomain(n)) {
            let at =
                if beside.is_some() { "spec.runtimeClassName".to_owned() } else { format!("{path}.runtimeClassName") };
            errors.add(at, problem);
        }
        return name.cloned();
    };
    if a != b {
        errors.add(
            "spec.runtimeClassName",
            format!("`{a}` and {path}.runtimeClassName `{b}` must agree; name the class in one of the two"),
        );
    }
    Some(a.clone())
}

fn check_spec(spec: &PodSpec, path: &str, errors: &mut Errors) {
    if spec.containers.is_empty() {
        errors.add(format!("{path}.containers"), "at least one container is required");
    }
    let mut names = BTreeSet::new();
    check_volumes(spec, path, errors);
    let init =
        spec.init_containers.iter().flatten().enumerate().map(|(i, c)| (format!("{path}.initContainers[{i}]"), c));
    let main = spec.containers.iter().enumerate().map(|(i, c)| (format!("{path}.containers[{i}]"), c));
    for (path, container) in init.chain(main) {
        check_name(&container.name, &mut names, &format!("{path}.name"), errors);
        check_mounts(container, &path, errors);
        if let Some(resources) = &container.resources {
            check_resources(resources, &format!("{path}.resources"), errors);
        }
    }
    if let Some(resources) = &spec.resources {
        check_resources(resources, &format!("{path}.resources"), errors);
    }
    if spec.ephemeral_containers.as_ref().is_some_and(|list| !list.is_empty()) {
        errors.add(
            format!("{path}.ephemeralContainers"),
            "must be absent: they are added to a running pod, with `kubectl debug`",
        );
    }
    if let Some(policy) = spec.restart_policy.as_deref()
        && !["Always", "OnFailure", "Never"].contains(&policy)
    {
        errors.add(format!("{path}.restartPolicy"), format!("`{policy}` must be Always, OnFailure or Never"));
    }
}

fn check_volumes(spec: &PodSpec, path: &str, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, volume) in spec.volumes.iter().flatten().enumerate() {
        let path = format!("{path}.volumes[{i}]");
        check_name(&volume.name, &mut seen, &format!("{path}.name"), errors);
        if let Some(limit) = volume.empty_dir.as_ref().and_then(|dir| dir.size_limit.as_ref()) {
            check_quantity(limit, &format!("{path}.emptyDir.sizeLimit"), errors);
        }
    }
}

fn check_mounts(container: &Container, path: &str, errors: &mut Errors) {
    let mut paths = BTreeSet::new();
    for (i, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let path = format!("{path}.volumeMounts[{i}]");
        if mount.mount_path.is_empty() {
            errors.add(format!("{path}.mountPath"), "must be a path, such as /workspace");
        } else if !paths.insert(mount.mount_path.as_str()) {
            errors.add(format!("{path}.mountPath"), format!("`{}` must be used once in a container", mount.mount_path));
        }
    }
}

fn check_resources(resources: &ResourceRequirements, path: &str, errors: &mut Errors) {
    let limits = quantities(resources.limits.as_ref(), &format!("{path}.limits"), errors);
    let requests = quantities(resources.requests.as_ref(), &format!("{path}.requests"), errors);
    for (name, (request, text)) in &requests {
        if let Some((limit, limit_text)) = limits.get(name)
            && request > limit
        {
            errors.add(
                format!("{path}.requests.{name}"),
                format!("`{text}` must be at most the limit, which is `{limit_text}`"),
            );
        }
    }
}

fn check_storage(template: &VolumeClaimTemplate, path: &str, errors: &mut Errors) {
    let resources = template.spec.resources.clone().unwrap_or_default();
    let limits = quantities(resources.limits.as_ref(), &format!("{path}.limits"), errors);
    let requests = quantities(resources.requests.as_ref(), &format!("{path}.requests"), errors);
    let at = format!("{path}.requests.storage");
    match (requests.get("storage"), limits.get("storage")) {
        // There is no value, or it is not a quantity and that error has been added already.
        (None, _) => {}
        (Some((quantity, text)), _) if *quantity <= Quantity::ZERO => {
            errors.add(at, format!("`{text}` must be above zero"))
        }
        (Some((request, text)), Some((limit, limit_text))) if request > limit => {
            errors.add(at, format!("`{text}` must be at most the limit, which is `{limit_text}`"));
        }
        (Some(_), _) => {}
    }
}

/// The quantities of a resource list. An entry that is not a quantity is an error.
fn quantities<'a>(
    list: Option<&'a BTreeMap<String, resource::Quantity>>,
    path: &str,
    errors: &mut Errors,
) -> BTreeMap<&'a str, (Quantity, &'a str)> {
    let mut found = BTreeMap::new();
    for (name, wire) in list.into_iter().flatten() {
        if let Some(quantity) = check_quantity(wire, &format!("{path}.{name}"), errors) {
            found.insert(name.as_str(), (quantity, wire.0.as_str()));
        }
    }
    found
}

fn check_quantity(wire: &resource::Quantity, path: &str, errors: &mut Errors) -> Option<Quantity> {
    let quantity = Quantity::parse(&wire.0);
    match quantity {
        None => errors.add(path, format!("`{}` must be a quantity, such as 500m, 2 or 1Gi", wire.0)),
        Some(quantity) if quantity < Quantity::ZERO => errors.add(path, format!("`{}` must not be negative", wire.0)),
        Some(_) => {}
    }
    quantity
}

fn check_name<'a>(name: &'a str, seen: &mut BTreeSet<&'a str>, path: &str, errors: &mut Errors) {
    if name.is_empty() {
        errors.add(path, "is required: a DNS label");
    } else if let Some(problem) = names::dns_label(name) {
        errors.add(path, problem);
    } else if !seen.insert(name) {
        errors.add(path, format!("`{name}` must be used once"));
    }
}

fn check_labels(labels: &BTreeMap<String, String>, path: &str, errors: &mut Errors) {
    for (key, value) in labels {
        if let Some(problem) = names::qualified_name(key) {
            errors.add(path, problem);
        }
        if let Some(problem) = names::label_value(value) {
            errors.add(format!("{path}[{key}]"), problem);
        }
    }
}

fn check_annotations(annotations: &BTreeMap<String, String>, path: &str, errors: &mut Errors) {
    for key in annotations.keys() {
        // The domain of an annotation key may have capital letters. That of a label key may not.
        if let Some(problem) = names::qualified_name(&key.to_ascii_lowercase()) {
            errors.add(path, problem);
        }
    }
}
