//! The volume claims that a claim adds to its template.

use paddock_api::InjectionPolicy;

use crate::model::{self, VolumeClaim};

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
