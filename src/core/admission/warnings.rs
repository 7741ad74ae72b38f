//! Warnings about objects that are valid but may surprise their user. They never deny an object.

use std::collections::{BTreeMap, BTreeSet};

use paddock_api::kind::{Kind, OwnKind};
use paddock_api::names::annotation;
use serde_json::Value;

use super::review::Verb;
use super::state::ReviewState;
use crate::model;
use crate::object::VolumeLoss;
use crate::object::json::string_map;

/// The fields of a spec that contain the pod, one for each API shape.
const PODS: [&str; 2] = ["podTemplate", "template"];

/// Adds all warnings about an object.
pub(super) fn add(state: &mut ReviewState<'_>, kind: Kind) {
    let sandbox = kind == Kind::Sandbox;
    if sandbox {
        wish_without_policy(state);
    }
    name_that_no_request_carries(state, kind);
    // The annotations of a template are not copied to its Sandboxes, so they allow no loss of files.
    let annotations = if sandbox { string_map(&state.object, "/metadata/annotations") } else { BTreeMap::new() };
    let template = matches!(kind.own(), Some(OwnKind::Template(_)));
    if sandbox || template {
        never_suspended(state, &annotations);
        never_drained(state, &annotations);
        another_hostname(state, sandbox);
        missing_image(state);
        unknown_volume(state);
        incomplete_volume_claim(state);
    }
    if template {
        bypasses_network_policy(state);
        lacks_image(state);
    }
    if sandbox {
        token_not_asked_for(state);
        needs_new_pod(state, &annotations);
        only_a_new_pod(state);
    }
}

/// Warns about a name that is legal, and by which the gateway does not find the sandbox: upstream's header carries DNS
/// labels.
fn name_that_no_request_carries(state: &mut ReviewState<'_>, kind: Kind) {
    let name = state.object["metadata"]["name"].as_str().filter(|_| state.review.operation == Verb::Create);
    let problem = match (kind.own(), name) {
        (Some(OwnKind::Sandbox), Some(name)) => model::names::dns_label(name),
        (Some(OwnKind::Pool(_)), Some(name)) => model::generated_name(&format!("{name}-")),
        (Some(OwnKind::Sandbox | OwnKind::Pool(_) | OwnKind::Template(_) | OwnKind::Claim(_)) | None, _) => None,
    };
    if let Some(problem) = problem {
        state.warn(&format!("metadata.name: no request through the gateway reaches such a sandbox: {problem}"));
    }
}

/// Adds the warning about fields that the defaults are about to change.
///
/// The two mode fields of a new Sandbox can contradict each other. In an update they usually do, because `kubectl scale`
/// changes one of them, and the one that changed is meant.
pub(super) fn before_defaults(state: &mut ReviewState<'_>, kind: Kind) {
    if kind != Kind::Sandbox || state.review.operation != Verb::Create {
        return;
    }
    let spec = &state.object["spec"];
    let overruled = match (spec["operatingMode"].as_str(), spec["replicas"].as_i64()) {
        (Some("Suspended"), Some(1)) => "spec.replicas: 1 has no effect beside spec.operatingMode: Suspended",
        (Some("Running"), Some(0)) => "spec.operatingMode: Running has no effect beside spec.replicas: 0",
        _ => return,
    };
    state.warn(&format!("{overruled}: the Sandbox is created suspended"));
}

/// Warns that the NetworkPolicy of a template does not apply to its sandboxes.
fn bypasses_network_policy(state: &mut ReviewState<'_>) {
    let managed = state.object["spec"]["networkPolicyManagement"] != "Unmanaged";
    let on_host = |pod: &&str| state.object["spec"][pod]["spec"]["hostNetwork"] == true;
    if let Some(pod) = PODS.into_iter().find(|pod| managed && on_host(pod)) {
        state.warn(&format!(
            "spec.{pod}.spec.hostNetwork: the NetworkPolicy of the template does not apply to pods on the network of \
             their node; networkPolicyManagement: Unmanaged says that none is wanted"
        ));
    }
}

/// Warns that this operator makes no sandboxes of a template, because it has no image for containers that wait.
fn lacks_image(state: &mut ReviewState<'_>) {
    let held = state.object["spec"]["claimData"]["start"] == "AfterDelivery";
    if held && let Some(why) = state.context.settings.lacks_for_held() {
        state.warn(&format!("no sandboxes of this template are made: {why}"));
    }
}

/// Warns that a hostname in a pod template has no effect: the hostname of a pod is the name of its Sandbox.
fn another_hostname(state: &mut ReviewState<'_>, sandbox: bool) {
    let name = if sandbox { state.object["metadata"]["name"].as_str().unwrap_or_default() } else { "" };
    let fields = PODS.into_iter().flat_map(|pod| ["hostname", "hostnameOverride"].map(|field| (pod, field)));
    let other = fields.filter(|(pod, field)| {
        let hostname = state.object["spec"][pod]["spec"][field].as_str().unwrap_or_default();
        !hostname.is_empty() && hostname != name
    });
    for (pod, field) in other.collect::<Vec<_>>() {
        state.warn(&format!(
            "spec.{pod}.spec.{field} has no effect: the hostname of the pod is the name of its Sandbox"
        ));
    }
}

/// Warns about containers without an image. The schema allows them, as that of a Deployment does, because a webhook may
/// add the image to the pod.
fn missing_image(state: &mut ReviewState<'_>) {
    for (pod, list) in PODS.into_iter().flat_map(|pod| ["initContainers", "containers"].map(|list| (pod, list))) {
        let containers = state.object["spec"][pod]["spec"][list].as_array().into_iter().flatten();
        let without = |(_, container): &(usize, &Value)| container["image"].as_str().is_none_or(str::is_empty);
        if let Some((index, _)) = containers.enumerate().find(without) {
            state.warn(&format!(
                "spec.{pod}.spec.{list}[{index}].image is missing: the API server refuses a pod without it, unless a webhook adds an image"
            ));
        }
    }
}

/// Warns that a ServiceAccount that a Sandbox names does not bring its token. Pods that nothing restricts mount it.
fn token_not_asked_for(state: &mut ReviewState<'_>) {
    let named = PODS.into_iter().find(|pod| {
        let spec = &state.object["spec"][pod]["spec"];
        spec["serviceAccountName"].as_str().is_some_and(|name| !name.is_empty())
            && spec["automountServiceAccountToken"].is_null()
    });
    if let Some(pod) = named {
        state.warn(&format!(
            "spec.{pod}.spec.serviceAccountName: the pod gets no token of the ServiceAccount unless \
             automountServiceAccountToken is true"
        ));
    }
}

/// Warns about a mount of a volume that neither the pod nor the volume claims have. A webhook may add it to the pod, and a
/// claim to its Sandbox if the template allows that.
fn unknown_volume(state: &mut ReviewState<'_>) {
    let spec = &state.object["spec"];
    if spec["volumeClaimTemplatesPolicy"].as_str().is_some_and(|policy| policy != "Disallowed") {
        return;
    }
    let claims = spec["volumeClaimTemplates"].as_array().into_iter().flatten();
    let claims = claims.filter_map(|claim| claim["metadata"]["name"].as_str());
    let known: BTreeSet<&str> =
        volumes(state).filter_map(|(_, volume)| volume["name"].as_str()).chain(claims).collect();
    let places = PODS.into_iter().flat_map(|pod| ["initContainers", "containers"].map(|list| (pod, list)));
    let unknown = places.filter_map(|(pod, list)| {
        let containers = spec[pod]["spec"][list].as_array().into_iter().flatten().enumerate();
        let mut mounts = containers.flat_map(|(i, container)| {
            let lists =
                ["volumeMounts", "volumeDevices"].into_iter().filter_map(move |field| container[field].as_array());
            lists.flatten().map(move |mount| (i, mount["name"].as_str().unwrap_or_default()))
        });
        let (i, name) = mounts.find(|(_, name)| !known.contains(name))?;
        Some(format!("spec.{pod}.spec.{list}[{i}] mounts `{name}`"))
    });
    let unknown: Vec<String> = unknown.collect();
    for mount in unknown {
        state.warn(&format!("{mount}, which is no volume: the API server refuses the pod, unless a webhook adds it"));
    }
}

/// Warns about a volume claim template without what the API server requires. A webhook may add it to the volume claims.
fn incomplete_volume_claim(state: &mut ReviewState<'_>) {
    let mut claims = state.object["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten().enumerate();
    let missing = claims.find_map(|(i, claim)| {
        let spec = &claim["spec"];
        let field = if spec["accessModes"].as_array().is_none_or(Vec::is_empty) {
            "accessModes"
        } else if spec["resources"]["requests"]["storage"].is_null() {
            "resources.requests.storage"
        } else {
            return None;
        };
        Some(format!("spec.volumeClaimTemplates[{i}].spec.{field} is missing"))
    });
    if let Some(missing) = missing {
        state.warn(&format!("{missing}: the API server refuses the volume claim, unless a webhook adds it"));
    }
}

/// Warns about a wish to be kept running or to be suspended that has no effect, because the Sandbox is never idle.
fn wish_without_policy(state: &mut ReviewState<'_>) {
    if !state.object["spec"]["idleTimeout"].is_null() {
        return;
    }
    let at = "/metadata/annotations";
    let (new, old) = (string_map(&state.object, at), string_map(&state.review.old_object, at));
    for name in [annotation::KEEP_AWAKE_UNTIL, annotation::IDLE_SINCE] {
        if new.contains_key(name) && new.get(name) != old.get(name) {
            state.warn(&format!(
                "metadata.annotations[{name}] has no effect: the Sandbox is never idle without spec.idleTimeout"
            ));
        }
    }
}

/// Warns that a Sandbox with a volume that belongs to the pod is never suspended when idle, because the suspend would
/// lose its files.
fn never_suspended(state: &mut ReviewState<'_>, annotations: &BTreeMap<String, String>) {
    if state.object.pointer("/spec/idleTimeout").is_none_or(Value::is_null) {
        return;
    }
    let lost = VolumeLoss::of(annotations);
    let kept = |(_, volume): &(String, &Value)| ends_with_pod(volume) && !may_be_lost(&lost, volume);
    let found: Vec<String> = volumes(state).filter(kept).map(|(path, _)| path).collect();
    for path in found {
        state.warn(&format!(
            "{path} is deleted with the pod, and so are its files: idleTimeout does not suspend the Sandbox unless the annotation {} lists the volume",
            annotation::EPHEMERAL_VOLUMES
        ));
    }
}

/// Warns that a drain does not suspend a Sandbox with a volume that belongs to the pod. Without an `idleTimeout`, an
/// `emptyDir` does not become a volume claim.
fn never_drained(state: &mut ReviewState<'_>, annotations: &BTreeMap<String, String>) {
    let spec = &state.object["spec"];
    if spec["drainPolicy"] != "Suspend" || !spec["idleTimeout"].is_null() {
        return;
    }
    let lost = VolumeLoss::of(annotations);
    let kept =
        |(_, volume): &(String, &Value)| (ends_with_pod(volume) || on_disk(volume)) && !may_be_lost(&lost, volume);
    let found: Vec<String> = volumes(state).filter(kept).map(|(path, _)| path).collect();
    for path in found {
        state.warn(&format!(
            "{path}: its files are deleted with the pod, so drainPolicy does not suspend the Sandbox; set an idleTimeout, which makes an emptyDir a volume claim, or list the volume in the annotation {}",
            annotation::EPHEMERAL_VOLUMES
        ));
    }
}

/// Whether a Sandbox has a running pod, by its status.
pub(super) fn runs(sandbox: &Value) -> bool {
    sandbox["status"]["replicas"].as_i64().is_some_and(|n| n > 0)
}

/// Warns that a new `idleTimeout` has no effect on the running pod. An `emptyDir` on disk becomes a volume claim only
/// when a pod is created.
fn needs_new_pod(state: &mut ReviewState<'_>, annotations: &BTreeMap<String, String>) {
    let old = &state.review.old_object;
    let runs = runs(old);
    let new = old["spec"]["idleTimeout"].is_null() && state.object["spec"]["idleTimeout"].is_string();
    let lost = VolumeLoss::of(annotations);
    let becomes_a_volume_claim = |volume: &Value| on_disk(volume) && !may_be_lost(&lost, volume);
    if runs && new && volumes(state).any(|(_, volume)| becomes_a_volume_claim(volume)) {
        state.warn(
            "spec.idleTimeout: the pod was created without it and has an emptyDir, so the Sandbox is not suspended when idle; suspend and resume the Sandbox once",
        );
    }
}

/// Warns about changed fields that only a new pod can take, while the pod runs.
fn only_a_new_pod(state: &mut ReviewState<'_>) {
    let (old, new) = (&state.review.old_object, &state.object);
    let runs = runs(old);
    let suspends = new["spec"]["operatingMode"] == "Suspended" || new["spec"]["replicas"] == 0;
    if !runs || suspends {
        return;
    }
    let mut fields = Vec::new();
    for pod in PODS {
        let at = format!("/spec/{pod}/spec");
        let of = |object: &Value| object.pointer(&at).cloned().unwrap_or_default();
        changed_fields(&format!("spec.{pod}.spec"), &of(old), &of(new), &mut fields);
    }
    changed_fields(
        "spec.runtimeClassName",
        &old["spec"]["runtimeClassName"],
        &new["spec"]["runtimeClassName"],
        &mut fields,
    );
    let Some(first) = fields.first() else { return };
    let more = match fields.len() {
        1 => String::new(),
        n => format!(" and {} more", n - 1),
    };
    state.warn(&format!(
        "{first}{more}: only a new pod can take the change, and the running pod stays as it is; suspend and resume the Sandbox"
    ));
}

/// Adds the paths of the fields that differ. An item of a list is known by its name.
fn changed_fields(path: &str, old: &Value, new: &Value, fields: &mut Vec<String>) {
    match (old, new) {
        _ if old == new => {}
        (Value::Object(old), Value::Object(new)) => {
            for field in old.keys().chain(new.keys().filter(|field| !old.contains_key(*field))) {
                let of = |object: &serde_json::Map<String, Value>| object.get(field).cloned().unwrap_or_default();
                changed_fields(&format!("{path}.{field}"), &of(old), &of(new), fields);
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (i, (old, new)) in old.iter().zip(new).enumerate() {
                changed_fields(&format!("{path}[{i}]"), old, new, fields);
            }
        }
        _ => fields.push(path.to_owned()),
    }
}

/// Whether a volume belongs to the pod, with files of its own, and never becomes a volume claim.
fn ends_with_pod(volume: &Value) -> bool {
    volume["ephemeral"].is_object() || volume["csi"].is_object() && volume["csi"]["readOnly"] != true
}

/// Whether a volume is an `emptyDir` on disk, and neither in memory nor in huge pages.
fn on_disk(volume: &Value) -> bool {
    volume["emptyDir"].is_object() && volume["emptyDir"]["medium"].as_str().unwrap_or_default().is_empty()
}

fn may_be_lost(lost: &VolumeLoss<'_>, volume: &Value) -> bool {
    lost.allows(volume["name"].as_str().unwrap_or_default())
}

/// The volumes of the pod, with their paths.
fn volumes<'a>(state: &'a ReviewState<'_>) -> impl Iterator<Item = (String, &'a Value)> {
    PODS.into_iter().flat_map(move |pod| {
        let volumes = state.object.pointer(&format!("/spec/{pod}/spec/volumes")).and_then(Value::as_array);
        let path = move |i: usize| format!("spec.{pod}.spec.volumes[{i}]");
        volumes.into_iter().flatten().enumerate().map(move |(i, volume)| (path(i), volume))
    })
}
