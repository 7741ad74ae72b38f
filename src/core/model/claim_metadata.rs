//! Checks the labels and annotations that a claim adds to the pod of its template.

use paddock_api::names::annotation;

use super::error::{Errors, FieldErrors};
use super::names;
use super::types::{Claim, Pod};
use crate::annotation_readers;
use crate::object::{TextMap, side_by_side};
use crate::settings::{ANY_DOMAIN, Settings};

/// Checks the labels and annotations that a claim adds to the pod of its template:
///
/// - The domain of a label must be an allowed domain or a subdomain of one, because policies and Services select by
///   labels.
/// - The domain of an annotation must be an allowed domain too, because runtimes, network plugins and cloud identities
///   read annotations. See `annotation_is_allowed`.
/// - Neither may contradict the template.
///
/// # Errors
/// All labels and annotations that may not be added, with the allowed ones.
pub fn check_claim_metadata(claim: &Claim, template: &Pod, settings: &Settings) -> Result<(), FieldErrors> {
    const PATH: &str = "spec.additionalPodMetadata";

    let Settings { label_domains, annotation_domains, .. } = settings;
    let mut errors = Errors::default();
    for (key, value, theirs) in with_template(&claim.labels, &template.labels) {
        let path = format!("{PATH}.labels[{key}]");
        let domain = names::domain_of(key);
        if let Some(problem) = names::qualified_name(key).or_else(|| names::label_value(value)) {
            errors.add(path, problem);
        } else if !domain.is_some_and(|d| label_domains.iter().any(|allowed| names::is_within(&d, allowed))) {
            errors.add(path, format!("must be of an allowed domain: {}", label_domains.join(", ")));
        } else if let Some(theirs) = theirs.filter(|theirs| *theirs != value) {
            errors.add(path, format!("must be absent or `{theirs}`, as the template says"));
        }
    }
    for (key, value, theirs) in with_template(&claim.annotations, &template.annotations) {
        let path = format!("{PATH}.annotations[{key}]");
        if let Some(problem) = names::qualified_name(&key.to_ascii_lowercase()) {
            errors.add(path, problem);
        } else if !annotation_is_allowed(key, annotation_domains) {
            errors.add(path, unallowed_annotation(annotation_domains));
        } else if let Some(theirs) = theirs.filter(|theirs| *theirs != value) {
            errors.add(path, format!("must be absent or `{theirs}`, as the template says"));
        }
    }
    errors.into_result(Some(()))
}

/// The entries of a claim, with the value of each in the template.
fn with_template<'a>(
    claim: &'a TextMap,
    template: &'a TextMap,
) -> impl Iterator<Item = (&'a str, &'a str, Option<&'a str>)> {
    side_by_side(claim, template).filter_map(|(key, claims, templates)| Some((key, claims?, templates)))
}

/// Whether a claim may add an annotation with this key. The domain must be an allowed domain or a subdomain of one.
/// [`ANY_DOMAIN`] allows all annotations except those that others [read](annotation_readers::is_read).
///
/// A key without a domain is the user's own, unless its name contains a dot: runtimes read names such as
/// `io.katacontainers.config.hypervisor.kernel_params` and `dev.gvisor.spec.mount`.
pub(super) fn annotation_is_allowed(key: &str, domains: &[String]) -> bool {
    let Some(domain) = names::domain_of(key) else { return !key.contains('.') };
    let allowed = |of: &String| match of.as_str() {
        ANY_DOMAIN => !annotation_readers::is_read(key),
        of => names::is_within(&domain, of),
    };
    key == annotation::SAFE_TO_EVICT || domains.iter().any(allowed)
}

pub(super) fn unallowed_annotation(domains: &[String]) -> String {
    let (any, named): (Vec<_>, Vec<_>) = domains.iter().map(String::as_str).partition(|domain| *domain == ANY_DOMAIN);
    if any.is_empty() {
        format!(
            "must be of an allowed domain, or a name without a domain and without dots; allowed: {}",
            named.join(", ")
        )
    } else {
        format!(
            "must not be read by Kubernetes, an operator, a runtime, a network or a cloud; of their domains, allowed: {}",
            named.join(", ")
        )
    }
}
