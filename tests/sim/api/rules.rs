//! The rules of the CRDs and of built-in kinds: the defaults that are filled in, and the writes that are refused.
//!
//! The model does not implement every rule of the CRDs. It accepts a Sandbox with an invalid `idleTimeout`, because
//! such an object may have been stored before the rule existed.

use serde_json::{Value, json};

use super::{Refused, Resource};

/// The defaults: if the parent exists and does not set the field, the field gets this value.
const DEFAULTS: [(&[Resource], &str, &str, &str); 6] = [
    (&[Resource::SANDBOX], "/spec", "shutdownPolicy", "Retain"),
    (&[Resource::CLAIM, Resource::SEED_CLAIM], "/spec/lifecycle", "shutdownPolicy", "Retain"),
    (&[Resource::TEMPLATE, Resource::SEED_TEMPLATE], "/spec", "envVarsInjectionPolicy", "Disallowed"),
    (&[Resource::TEMPLATE, Resource::SEED_TEMPLATE], "/spec", "volumeClaimTemplatesPolicy", "Disallowed"),
    (&[Resource::TEMPLATE, Resource::SEED_TEMPLATE], "/spec", "networkPolicyManagement", "Managed"),
    (&[Resource::POOL, Resource::SEED_POOL], "/spec/updateStrategy", "type", "OnReplenish"),
];

pub(super) fn fill_in(resource: Resource, document: &mut Value) {
    for (resources, parent, field, value) in DEFAULTS {
        if resources.contains(&resource)
            && let Some(parent) = document.pointer_mut(parent).and_then(Value::as_object_mut)
        {
            parent.entry(field).or_insert_with(|| value.into());
        }
    }
    if resource == Resource::POOL
        && let Some(spec) = document["spec"].as_object_mut()
    {
        spec.entry("replicas").or_insert_with(|| 1.into());
    }
}

pub(super) fn check(resource: Resource, old: Option<&Value>, new: &Value) -> Result<(), Refused> {
    let owners = new["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    if owners.filter(|o| o["controller"] == true).count() > 1 {
        return invalid("metadata.ownerReferences: only one can be the controller");
    }
    if let Some(old) = old {
        check_change(resource, old, new)?;
    }
    // An update may keep an existing error.
    if old.is_some_and(|old| old["spec"] == new["spec"]) {
        return Ok(());
    }
    let spec = &new["spec"];
    let both_or_none = |a: &str, b: &str| spec[a].is_null() == spec[b].is_null();
    if resource == Resource::SANDBOX && both_or_none("podTemplate", "template") {
        return invalid("spec: exactly one of podTemplate and template");
    }
    if resource == Resource::CLAIM && both_or_none("warmPoolRef", "sandboxTemplateRef") {
        return invalid("spec: exactly one of warmPoolRef and sandboxTemplateRef");
    }
    if resource == Resource::SEED_CLAIM && both_or_none("warmPoolRef", "templateRef") {
        return invalid("spec: exactly one of warmPoolRef and templateRef");
    }
    if let (Some(min), Some(max)) = (spec["minReady"].as_u64(), spec["maxReady"].as_u64())
        && [Resource::POOL, Resource::SEED_POOL].contains(&resource)
        && min > max
    {
        return invalid("spec.minReady: more than maxReady");
    }
    Ok(())
}

fn check_change(resource: Resource, old: &Value, new: &Value) -> Result<(), Refused> {
    if old["metadata"]["deletionTimestamp"].is_string() {
        let had: Vec<&str> = super::finalizers(old).collect();
        if super::finalizers(new).any(|f| !had.contains(&f)) {
            return invalid("metadata.finalizers: none can be added to what is being deleted");
        }
    }
    if resource == Resource::POD && without_images(&new["spec"]) != without_images(&old["spec"]) {
        return invalid("spec: of a pod only images may change");
    }
    if resource == Resource::SANDBOX {
        let on_demand = |sandbox: &Value| sandbox["spec"]["resumePolicy"] == "OnDemand";
        if new.pointer("/spec/volumeClaimTemplates") != old.pointer("/spec/volumeClaimTemplates") {
            return invalid("spec.volumeClaimTemplates: is immutable");
        }
        if on_demand(new) != on_demand(old) {
            return invalid("spec.resumePolicy: is immutable");
        }
    }
    Ok(())
}

fn without_images(spec: &Value) -> Value {
    let mut spec = spec.clone();
    for container in spec["containers"].as_array_mut().into_iter().flatten() {
        container["image"] = json!(null);
    }
    spec
}

fn invalid(message: &str) -> Result<(), Refused> {
    Err(Refused::Invalid(message.to_owned()))
}
