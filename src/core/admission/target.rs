//! The kind of object that a review is about, and the requests that are exempt.

use paddock_api::kind::Kind;
use serde_json::Value;

use super::review::{Context, Phase, Review, Verb};

/// The kind of object that a review is about.
pub(super) enum Target {
    /// A request that is admitted without checks.
    Exempt,
    /// A kind that Paddock serves.
    Own(Kind),
    /// A Pod.
    Pod,
    /// The namespace in which the operator runs.
    OwnNamespace,
}

/// The kind of object that a review is about.
pub(super) fn target(review: &Review, context: &Context) -> Target {
    // Pods of kube-system must start even if this webhook fails. The webhook configuration excludes the namespace too.
    let system = review.namespace == "kube-system" && !context.in_reconcile;
    match review.operation {
        _ if system => return Target::Exempt,
        Verb::Delete | Verb::Connect => return Target::Exempt,
        Verb::Update if changes_only_finalizers(review) => return Target::Exempt,
        Verb::Create | Verb::Update => {}
    }
    let target = match (review.group.as_str(), review.resource.as_str(), review.subresource.as_deref()) {
        ("", "pods", None) => Target::Pod,
        // Ephemeral containers, a resize and the metadata in a status change a running pod.
        ("", "pods", Some(_)) if review.operation == Verb::Update => Target::Pod,
        ("", "namespaces", None) if context.settings.own_namespace.as_deref() == Some(&review.name) => {
            Target::OwnNamespace
        }
        (group, resource, None) => Kind::of_resource(group, resource).map_or(Target::Exempt, Target::Own),
        (_, _, Some(_)) => Target::Exempt,
    };
    match target {
        // The validation of a Pod is the only check after all other webhooks, so it includes the operator's own Pods.
        Target::Pod if review.phase == Phase::Validate => target,
        Target::Exempt | Target::Own(_) | Target::Pod | Target::OwnNamespace if context.is_operator(review) => {
            Target::Exempt
        }
        Target::Exempt | Target::Own(_) | Target::Pod | Target::OwnNamespace => target,
    }
}

/// The fields of the metadata that may differ in an update which removes finalizers. The API server changes the other
/// three with every write.
pub const FINALIZER_UPDATE_FIELDS: [&str; 4] = ["finalizers", "managedFields", "resourceVersion", "generation"];

/// Whether an update changes nothing but the finalizers of a terminating object. Clients must be able to remove them,
/// even from an object that is not valid. The stored object decides whether it is terminating: a client can send any
/// `deletionTimestamp` with a server-side apply.
fn changes_only_finalizers(review: &Review) -> bool {
    if !review.old_object.pointer("/metadata/deletionTimestamp").is_some_and(Value::is_string) {
        return false;
    }
    let rest = |object: &Value| {
        let mut object = object.clone();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            for field in FINALIZER_UPDATE_FIELDS {
                metadata.remove(field);
            }
        }
        object
    };
    rest(&review.object) == rest(&review.old_object)
}
