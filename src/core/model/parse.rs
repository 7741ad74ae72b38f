//! Parses Sandboxes and templates.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use paddock_api::activity::IDLE_TIMEOUT_MAX;
use paddock_api::duration::parse_go_duration;
use paddock_api::kind::ApiShape;
use paddock_api::names::annotation;
use paddock_api::{
    DrainPolicy, NetworkPolicyManagement, NetworkPolicyRules, OperatingMode, ResumePolicy, SandboxSpec,
    SandboxTemplateSpec,
};

use super::claim_data::parse_claim_data_rules;
use super::error::{Errors, FieldErrors};
use super::names;
use super::pod::{parse_pod, parse_runtime_class, parse_volume_claims};
use super::schedule::{Wake, parse_schedule};
use super::types::{NetworkPolicy, Sandbox, ServiceIntent, Shutdown, Template, WarmRecord};

/// Parses a Sandbox of either shape.
///
/// # Errors
/// All invalid fields. A `wakeSchedule` that is not valid is no error if it is the only such field: the Sandbox keeps its
/// [`schedule_errors`](Sandbox::schedule_errors), and everything else is in force.
pub fn parse_sandbox(meta: &ObjectMeta, spec: &SandboxSpec) -> Result<Sandbox, FieldErrors> {
    let mut errors = Errors::default();
    let resume = spec.resume_policy.unwrap_or_default();
    let volume_claims = parse_volume_claims(&spec.volume_claim_templates, "spec.volumeClaimTemplates", &mut errors);
    let described = match (&spec.pod_template, &spec.template) {
        (Some(template), None) => Some((ApiShape::Upstream, template, "spec.podTemplate")),
        (None, Some(template)) => Some((ApiShape::Seed, template, "spec.template")),
        (Some(_), Some(_)) => {
            errors.add(
                "spec.template",
                "must be absent where spec.podTemplate is given: describe the pod in one of the two",
            );
            None
        }
        (None, None) => {
            errors.add("spec.podTemplate", "is required, unless spec.template describes the pod");
            None
        }
    };
    if let Some((shape, ..)) = described {
        check_name(meta, parse_service(shape, spec.service, resume), &mut errors);
    }
    let shutdown = Shutdown {
        at: parse_time(spec.shutdown_time.as_deref(), "spec.shutdownTime", &mut errors),
        policy: spec.shutdown_policy.unwrap_or_default(),
    };
    let replicas = match spec.replicas {
        None => None,
        Some(0) => Some(OperatingMode::Suspended),
        Some(1) => Some(OperatingMode::Running),
        Some(n) => {
            errors.add("spec.replicas", format!("`{n}` must be 0 (suspended) or 1 (running)"));
            None
        }
    };
    let idle_timeout = parse_idle_timeout(spec.idle_timeout.as_deref(), &mut errors);
    let drain = parse_drain(spec.drain_policy, resume, &mut errors);
    let wake = Wake::parse(spec.wake_schedule.as_ref());
    let model = described.map(|(shape, template, path)| {
        let mut metadata = template.metadata.clone().unwrap_or_default();
        let digest = metadata.annotations.remove(annotation::AS_MADE);
        let warm = WarmRecord {
            digest: digest.map(|hex| u128::from_str_radix(&hex, 16).unwrap_or_default()),
            touched: metadata.annotations.remove(annotation::TOUCHED).map(String::into_boxed_str),
        };
        Sandbox {
            shape,
            pod: parse_pod(metadata, &template.spec, path, &mut errors),
            warm,
            runtime_class: parse_runtime_class(
                spec.runtime_class_name.as_ref(),
                &template.spec,
                &format!("{path}.spec"),
                &mut errors,
            ),
            volume_claims,
            service: parse_service(shape, spec.service, resume),
            shutdown,
            operating_mode: spec.operating_mode,
            replicas,
            idle_timeout,
            resume,
            drain,
            wake: wake.clone(),
        }
    });
    errors.into_result(model).map_err(|errors| match wake.as_deref() {
        Some(Wake::Invalid { errors: of_schedule, .. }) => errors.and(of_schedule),
        Some(Wake::Times(_)) | None => errors,
    })
}

/// Parses the spec of a SandboxTemplate of one shape.
///
/// # Errors
/// All invalid fields.
pub fn parse_template(shape: ApiShape, spec: &SandboxTemplateSpec) -> Result<Template, FieldErrors> {
    let (pod, field, runtime_class, service) = match shape {
        ApiShape::Upstream => (&spec.pod_template, "podTemplate", None, spec.service),
        ApiShape::Seed => (&spec.template, "template", spec.runtime_class_name.as_ref(), None),
    };
    let pod = pod.as_ref().ok_or_else(|| missing(field))?;
    let path = format!("spec.{field}");
    let mut errors = Errors::default();
    let claims = &spec.volume_claim_templates;
    let resume = spec.resume_policy.unwrap_or_default();
    let model = Template {
        shape,
        volume_claims: parse_volume_claims(claims, "spec.volumeClaimTemplates", &mut errors),
        pod: parse_pod(pod.metadata.clone().unwrap_or_default(), &pod.spec, &path, &mut errors),
        runtime_class: parse_runtime_class(runtime_class, &pod.spec, &format!("{path}.spec"), &mut errors),
        service: parse_service(shape, service, resume),
        claim_data: parse_claim_data_rules(
            spec.claim_data.as_ref(),
            &pod.spec,
            &format!("{path}.spec"),
            claims,
            &mut errors,
        ),
        network: parse_network(spec.network_policy_management, spec.network_policy.as_ref()),
        env_policy: spec.env_vars_injection_policy.unwrap_or_default(),
        volume_claims_policy: spec.volume_claim_templates_policy.unwrap_or_default(),
        idle_timeout: parse_idle_timeout(spec.idle_timeout.as_deref(), &mut errors),
        resume,
        drain: parse_drain(spec.drain_policy, resume, &mut errors),
        wake: parse_schedule(spec.wake_schedule.as_ref(), &mut errors).map(Arc::new),
    };
    errors.into_result(Some(model))
}

/// The error for a field that the schema of the shape requires.
pub(super) fn missing(field: &str) -> FieldErrors {
    FieldErrors::one("spec", format!("missing field `{field}`"))
}

/// Parses a time in RFC 3339. The fields of Kubernetes itself accept no other format.
pub(super) fn parse_time(text: Option<&str>, path: &str, errors: &mut Errors) -> Option<Timestamp> {
    let text = text?;
    // jiff accepts more than RFC 3339: a space in place of the T, and the name of a time zone in brackets.
    let strict = text.as_bytes().get(10).is_some_and(|b| b.eq_ignore_ascii_case(&b'T')) && !text.contains('[');
    match text.parse::<Timestamp>() {
        Ok(time) if strict => Some(time),
        Ok(_) | Err(_) => {
            errors.add(path, format!("`{text}` must be a time as in RFC 3339, such as 2030-01-31T12:00:00Z"));
            None
        }
    }
}

/// Checks the name of a Sandbox, which is also that of its Service. If the API server has not generated the name yet, the
/// prefix is checked. Without a Service, the rule of the API server is enough.
fn check_name(meta: &ObjectMeta, service: ServiceIntent, errors: &mut Errors) {
    const WHY: &str = "it is the name of the Sandbox's Service";
    if !service.is_made() {
        return;
    }
    match (meta.name.as_deref(), meta.generate_name.as_deref()) {
        (Some(name), _) if !name.is_empty() => {
            if let Some(problem) = names::dns_label(name) {
                errors.add("metadata.name", format!("{problem}; {WHY}"));
            }
        }
        (_, prefix) => {
            if let Some(problem) = prefix.filter(|p| !p.is_empty()).and_then(generated_name) {
                errors.add("metadata.generateName", format!("{problem}; {WHY}"));
            }
        }
    }
}

/// Returns the error in the names that the API server generates from a prefix, if there is one. The API server
/// truncates the prefix to 58 characters and adds 5.
pub(crate) fn generated_name(prefix: &str) -> Option<String> {
    const KEPT: usize = 58;
    let kept: String = prefix.chars().take(KEPT).collect();
    names::dns_label(&format!("{kept}00000"))
        .map(|_| format!("`{prefix}` must begin a DNS label: of a-z, 0-9 and '-', with a letter or digit at its start"))
}

fn parse_idle_timeout(text: Option<&str>, errors: &mut Errors) -> Option<Duration> {
    let text = text?;
    let problem = match parse_go_duration(text) {
        Ok(nanos) => match u64::try_from(nanos).map(Duration::from_nanos) {
            Ok(timeout) if timeout > IDLE_TIMEOUT_MAX => "is too long".to_owned(),
            Ok(timeout) if !timeout.is_zero() => return Some(timeout),
            Ok(_) | Err(_) => "is not above zero".to_owned(),
        },
        Err(error) => error.to_string(),
    };
    let wanted = "a Go duration above zero and of at most 87600h (ten years), such as 30m, 90s or 1h30m";
    errors.add("spec.idleTimeout", format!("`{text}` {problem}; it must be {wanted}"));
    None
}

/// Nothing but a user would resume a Sandbox without [`ResumePolicy::OnDemand`] after a drain.
fn parse_drain(drain: Option<DrainPolicy>, resume: ResumePolicy, errors: &mut Errors) -> DrainPolicy {
    match (drain.unwrap_or_default(), resume) {
        (drain @ DrainPolicy::Suspend, ResumePolicy::Manual) => {
            errors.add(
                "spec.drainPolicy",
                "`Suspend` must be `Evict`, or resumePolicy must be OnDemand: no request would resume the Sandbox after the drain",
            );
            drain
        }
        (drain @ (DrainPolicy::Evict | DrainPolicy::Suspend), ResumePolicy::Manual | ResumePolicy::OnDemand) => drain,
    }
}

fn parse_service(shape: ApiShape, service: Option<bool>, resume: ResumePolicy) -> ServiceIntent {
    match (resume, shape, service) {
        (ResumePolicy::OnDemand, ApiShape::Seed | ApiShape::Upstream, _) => ServiceIntent::Stable,
        (ResumePolicy::Manual, ApiShape::Seed, _) | (ResumePolicy::Manual, ApiShape::Upstream, Some(true)) => {
            ServiceIntent::Headless
        }
        (ResumePolicy::Manual, ApiShape::Upstream, Some(false)) => ServiceIntent::Absent,
        (ResumePolicy::Manual, ApiShape::Upstream, None) => ServiceIntent::Keep,
    }
}

fn parse_network(management: Option<NetworkPolicyManagement>, rules: Option<&NetworkPolicyRules>) -> NetworkPolicy {
    match (management.unwrap_or_default(), rules) {
        (NetworkPolicyManagement::Unmanaged, _) => NetworkPolicy::Unmanaged,
        (NetworkPolicyManagement::Managed, None) => NetworkPolicy::SecureDefault,
        (NetworkPolicyManagement::Managed, Some(rules)) => NetworkPolicy::Rules(Arc::new(rules.clone())),
    }
}
