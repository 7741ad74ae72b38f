//! Parses pools and claims.

use std::time::Duration;

use paddock_api::kind::ApiShape;
use paddock_api::{ClaimLifecycle, NameRef, SandboxClaimSpec, SandboxWarmPoolSpec};

use super::claim_data::parse_claim_data;
use super::claim_env::check_variables;
use super::error::{Errors, FieldErrors};
use super::names;
use super::parse::{missing, parse_time};
use super::pod::{check_complete, parse_volume_claims};
use super::types::{Claim, ClaimEnd, ClaimSource, Pool, PoolChoice, PoolSize};

/// Parses the spec of a SandboxWarmPool of one shape.
///
/// # Errors
/// All invalid fields.
pub fn parse_pool(shape: ApiShape, spec: &SandboxWarmPoolSpec) -> Result<Pool, FieldErrors> {
    let (template, field) = match shape {
        ApiShape::Upstream => (&spec.sandbox_template_ref, "sandboxTemplateRef"),
        ApiShape::Seed => (&spec.template_ref, "templateRef"),
    };
    let template = template.as_ref().ok_or_else(|| missing(field))?;
    let mut errors = Errors::default();
    let model = Pool {
        size: parse_size(spec, &mut errors),
        template: parse_ref(template, &format!("spec.{field}"), &mut errors),
        update: spec.update_strategy.as_ref().and_then(|strategy| strategy.kind).unwrap_or_default(),
        readiness_grace: parse_readiness_grace(spec.readiness_grace_period_seconds, &mut errors),
    };
    errors.into_result(Some(model))
}

/// Parses the spec of a SandboxClaim of one shape.
///
/// # Errors
/// All invalid fields. Those of the variables and of the volume claims are no errors: the claim keeps its
/// [`env_errors`](Claim::env_errors) and [`volume_errors`](Claim::volume_errors), which have reasons of their own in its
/// status.
pub fn parse_claim(shape: ApiShape, spec: &SandboxClaimSpec) -> Result<Claim, FieldErrors> {
    let mut errors = Errors::default();
    let source = parse_source(shape, spec, &mut errors);
    let Some(source) = source else { return errors.into_result(None) };
    let (mut of_env, mut of_volumes) = (Errors::default(), Errors::default());
    check_variables(&spec.env, &mut of_env);
    let (volumes, at) = (&spec.volume_claim_templates, "spec.volumeClaimTemplates");
    let volume_claims = parse_volume_claims(volumes, at, &mut of_volumes);
    check_complete(volumes, at, &mut of_volumes);
    let metadata = spec.additional_pod_metadata.clone().unwrap_or_default();
    let model = Claim {
        source,
        end: spec.lifecycle.as_ref().map_or_else(ClaimEnd::default, |lifecycle| parse_end(lifecycle, &mut errors)),
        labels: metadata.labels.into(),
        annotations: metadata.annotations.into(),
        env: spec.env.clone(),
        env_errors: of_env.into_kept(),
        data: parse_claim_data(spec, &mut errors),
        volume_claims,
        volume_errors: of_volumes.into_kept(),
    };
    errors.into_result(Some(model))
}

fn parse_end(lifecycle: &ClaimLifecycle, errors: &mut Errors) -> ClaimEnd {
    let after_finished = lifecycle.ttl_seconds_after_finished.and_then(|seconds| {
        let parsed = u64::try_from(seconds).ok().map(Duration::from_secs);
        if parsed.is_none() {
            errors.add("spec.lifecycle.ttlSecondsAfterFinished", format!("`{seconds}` must not be negative"));
        }
        parsed
    });
    ClaimEnd {
        at: parse_time(lifecycle.shutdown_time.as_deref(), "spec.lifecycle.shutdownTime", errors),
        after_finished,
        policy: lifecycle.shutdown_policy.unwrap_or_default(),
    }
}

fn parse_source(shape: ApiShape, spec: &SandboxClaimSpec, errors: &mut Errors) -> Option<ClaimSource> {
    let (template, path, warmpool) = match shape {
        ApiShape::Upstream => (&spec.sandbox_template_ref, "spec.sandboxTemplateRef", spec.warmpool.as_deref()),
        ApiShape::Seed => (&spec.template_ref, "spec.templateRef", None),
    };
    if warmpool.is_some_and(|w| !w.is_empty()) && spec.warm_pool_ref.is_some() && template.is_none() {
        errors.add("spec.warmpool", "must be absent where spec.warmPoolRef names the pool");
    }
    match (&spec.warm_pool_ref, template) {
        (Some(pool), None) => Some(ClaimSource::Pool(parse_ref(pool, "spec.warmPoolRef", errors))),
        (None, Some(template)) => {
            let pools = pool_choice(warmpool);
            Some(ClaimSource::Template { name: parse_ref(template, path, errors), pools })
        }
        (Some(_), Some(_)) => {
            let problem =
                "must be absent where spec.warmPoolRef is given: a claim names a pool or a template, not both";
            errors.add(path, problem);
            None
        }
        (None, None) => {
            errors.add("spec.warmPoolRef", format!("is required, unless {path} names a template"));
            None
        }
    }
}

fn pool_choice(warmpool: Option<&str>) -> PoolChoice {
    match warmpool {
        None | Some("" | "default") => PoolChoice::Any,
        Some("none") => PoolChoice::NoPool,
        Some(name) => PoolChoice::Named(name.to_owned()),
    }
}

fn parse_ref(reference: &NameRef, path: &str, errors: &mut Errors) -> String {
    if let Some(problem) = names::dns_subdomain(&reference.name) {
        errors.add(format!("{path}.name"), problem);
    }
    reference.name.clone()
}

/// Parses the readiness grace period of a pool. The schema has the same minimum, which is upstream's.
fn parse_readiness_grace(seconds: Option<i32>, errors: &mut Errors) -> Option<Duration> {
    const AT_LEAST: u64 = 30;
    let seconds = seconds?;
    let parsed = u64::try_from(seconds).ok().filter(|seconds| *seconds >= AT_LEAST);
    if parsed.is_none() {
        errors.add("spec.readinessGracePeriodSeconds", format!("`{seconds}` must be at least {AT_LEAST}"));
    }
    parsed.map(Duration::from_secs)
}

/// Parses the size of a pool. `minReady` and `maxReady` override `replicas`. The default of `minReady` is 0. The
/// default of `maxReady` is `minReady`, so that a pool never exceeds a number that a user wrote.
fn parse_size(spec: &SandboxWarmPoolSpec, errors: &mut Errors) -> PoolSize {
    let mut count = |value: Option<i32>, field: &str| {
        value.map(|n| {
            u32::try_from(n).unwrap_or_else(|_| {
                errors.add(format!("spec.{field}"), format!("`{n}` must not be negative"));
                0
            })
        })
    };
    let replicas = count(spec.replicas, "replicas");
    let (min, max) = match (count(spec.min_ready, "minReady"), count(spec.max_ready, "maxReady")) {
        (None, None) => return PoolSize::Fixed(replicas.unwrap_or(1)),
        (Some(min), None) => (min, min),
        (None, Some(max)) => (0, max),
        (Some(min), Some(max)) => (min, max),
    };
    if min > max {
        errors.add("spec.minReady", format!("`{min}` must be at most maxReady, which is `{max}`"));
    }
    PoolSize::Between { min, max }
}
