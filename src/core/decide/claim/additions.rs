//! The environment variables and volume claims that a claim adds to its template.

use paddock_api::InjectionPolicy;

use crate::model::{self, VolumeClaim};

/// Whether the template admits the environment variables of a claim.
pub(super) fn check_env(claim: &model::Claim, template: &model::Template) -> Result<(), String> {
    if claim.env.is_empty() {
        return Ok(());
    }
    let spec = template.pod.spec.parse();
    for var in &claim.env {
        let mut containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let container = match &var.container_name {
            None => spec.containers.first(),
            Some(name) => containers.find(|c| c.name == *name),
        };
        let Some(container) = container else {
            let name = var.container_name.as_deref().unwrap_or_default();
            return Err(format!("env {}: the template has no container {name}", var.name));
        };
        let in_template = container.env.iter().flatten().any(|e| e.name == var.name);
        match template.env_policy {
            InjectionPolicy::Disallowed => {
                return Err(
                    "the template does not allow a claim to set env (envVarsInjectionPolicy: Disallowed)".to_owned()
                );
            }
            InjectionPolicy::Allowed if in_template => {
                return Err(format!(
                    "env {} is set by the template, which does not allow overrides (envVarsInjectionPolicy: Allowed)",
                    var.name
                ));
            }
            InjectionPolicy::Allowed | InjectionPolicy::Overrides => {}
        }
    }
    Ok(())
}

/// The volume claims of the template, with those that the claim adds.
pub(super) fn merged_volume_claims(
    claim: &model::Claim,
    template: &model::Template,
) -> Result<Vec<VolumeClaim>, String> {
    let mut merged = template.volume_claims.clone();
    for added in &claim.volume_claims {
        let existing = merged.iter_mut().find(|c| c.name == added.name);
        match (template.volume_claims_policy, existing) {
            (InjectionPolicy::Disallowed, _) => {
                return Err(
                    "the template does not allow a claim to bring volumeClaimTemplates (volumeClaimTemplatesPolicy: Disallowed)"
                        .to_owned(),
                );
            }
            (InjectionPolicy::Allowed, Some(_)) => {
                return Err(format!(
                    "volumeClaimTemplate {} is the template's, which does not allow overrides (volumeClaimTemplatesPolicy: Allowed)",
                    added.name
                ));
            }
            (InjectionPolicy::Overrides, Some(existing)) => *existing = added.clone(),
            (InjectionPolicy::Allowed | InjectionPolicy::Overrides, None) => merged.push(added.clone()),
        }
    }
    Ok(merged)
}
