//! The environment variables that a claim adds to its template.

use k8s_openapi::api::core::v1::{Container, PodSpec};
use paddock_api::{ClaimDataStart, ClaimEnvVar, InjectionPolicy};

use super::error::Errors;
use super::types::{Claim, ClaimDataRules, Template};

/// Checks the names and values of the variables, which hold for every template. The API server demands the same of the
/// names when it creates a pod. The name is the one that templates are compared with, so nothing may be removed from it later.
pub(super) fn check_variables(env: &[ClaimEnvVar], errors: &mut Errors) {
    for (i, var) in env.iter().enumerate() {
        let at = |field: &str| format!("spec.env[{i}].{field}");
        if var.name.is_empty() || var.name.contains('=') {
            errors.add(at("name"), format!("`{}` must be a name without '='", var.name));
        } else if !var.name.chars().all(|c| matches!(c, ' '..='~')) {
            errors.add(at("name"), format!("{:?} must have printable ASCII characters alone", var.name));
        }
        if var.value.contains('\0') {
            errors.add(at("value"), "must not have a NUL character, because it would end there in a process");
        }
    }
}

/// Whether the template admits the environment variables of a claim.
pub(crate) fn check_env(claim: &Claim, template: &Template) -> Result<(), String> {
    if claim.env.is_empty() {
        return Ok(());
    }
    if let Some(errors) = &claim.env_errors {
        return Err(errors.to_string());
    }
    let spec = template.pod.spec.parse();
    let held = template.claim_data.as_ref().filter(|rules| rules.start == ClaimDataStart::AfterDelivery);
    let held = held.map(|rules| held_containers(&spec, rules));
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
            InjectionPolicy::Allowed if may_come_from_elsewhere(container, &var.name) => {
                return Err(format!(
                    "env {}: envFrom of container {} in the template may set it, and the template does not allow overrides \
                     (envVarsInjectionPolicy: Allowed)",
                    var.name, container.name
                ));
            }
            InjectionPolicy::Allowed | InjectionPolicy::Overrides => {}
        }
        if let Some(held) = held.as_ref().filter(|held| !held.contains(&container.name.as_str())) {
            return Err(format!(
                "env {}: container {} starts before the claim brings the variable; the containers that wait for it \
                 (spec.claimData.containers of the template) are: {}",
                var.name,
                container.name,
                held.join(", ")
            ));
        }
    }
    Ok(())
}

/// Whether a ConfigMap or a Secret in `envFrom` of a container may set a variable. Their keys are not known here.
fn may_come_from_elsewhere(container: &Container, variable: &str) -> bool {
    container.env_from.iter().flatten().any(|from| variable.starts_with(from.prefix.as_deref().unwrap_or_default()))
}

/// The containers whose commands start after the claim has brought its data.
fn held_containers<'a>(spec: &'a PodSpec, rules: &ClaimDataRules) -> Vec<&'a str> {
    spec.containers.iter().map(|container| container.name.as_str()).filter(|name| rules.reaches(name)).collect()
}

#[cfg(test)]
mod tests {
    use paddock_api::kind::ApiShape;
    use serde_json::{Value, json};

    use super::*;
    use crate::model::{parse_claim, parse_template};

    fn claim(shape: ApiShape, env: &Value) -> Claim {
        let source = match shape {
            ApiShape::Upstream => json!({ "warmPoolRef": { "name": "p" }, "env": [env] }),
            ApiShape::Seed => json!({ "templateRef": { "name": "t" }, "env": [env] }),
        };
        parse_claim(shape, &serde_json::from_value(source).unwrap()).unwrap()
    }

    /// A name that is checked in one form and used in another gets past the policy of its template.
    #[test]
    fn variable_has_the_characters_that_a_process_can_have() {
        let open = json!({
            "podTemplate": { "spec": { "containers": [{ "name": "agent", "image": "i" }] } },
            "envVarsInjectionPolicy": "Overrides",
        });
        let open = parse_template(ApiShape::Upstream, &serde_json::from_value(open).unwrap()).unwrap();
        for (name, value, expected) in [
            ("A", "", None),
            ("a-b.c d_1(~", "\u{1}\n\t ü\u{7f}=", None),
            ("", "x", Some("spec.env[0].name: `` must be a name without '='")),
            ("A=B", "x", Some("spec.env[0].name: `A=B` must be a name without '='")),
            ("HTTPS_PROXY\0", "x", Some("spec.env[0].name: \"HTTPS_PROXY\\0\" must have printable ASCII")),
            ("\0A", "x", Some("spec.env[0].name")),
            ("A\n", "x", Some("spec.env[0].name")),
            ("A\u{7f}", "x", Some("spec.env[0].name")),
            ("Ä", "x", Some("spec.env[0].name")),
            ("A\u{200b}", "x", Some("spec.env[0].name")),
            ("A", "x\0B=y", Some("spec.env[0].value: must not have a NUL")),
        ] {
            for shape in [ApiShape::Upstream, ApiShape::Seed] {
                let found = check_env(&claim(shape, &json!({ "name": name, "value": value })), &open);
                match (found, expected) {
                    (Ok(()), None) => {}
                    (Err(problem), Some(expected)) => {
                        assert!(problem.starts_with(expected) && !problem.contains("; "), "{name:?}: {problem}");
                    }
                    (found, expected) => panic!("{name:?} {value:?}: {found:?} instead of {expected:?}"),
                }
            }
        }
    }

    #[test]
    fn variable_that_env_from_may_set_needs_overrides() {
        let template = |policy: &str| {
            let from = |prefix: &str| json!([{ "prefix": prefix, "configMapRef": { "name": "proxy" } }]);
            let container = |name: &str, from: Value| json!({ "name": name, "image": "i", "envFrom": from });
            let any = json!([{ "secretRef": { "name": "s" } }]);
            let spec = json!({
                "podTemplate": { "spec": {
                    "containers": [container("agent", from("APP_")), container("any", any), container("none", json!([]))],
                    "initContainers": [container("fetch", from(""))],
                } },
                "envVarsInjectionPolicy": policy,
            });
            parse_template(ApiShape::Upstream, &serde_json::from_value(spec).unwrap()).unwrap()
        };
        for (container, name, refused) in [
            (None, "MODE", false),
            (None, "APP_MODE", true),
            (None, "APP_", true),
            (None, "APP", false),
            (Some("any"), "HTTPS_PROXY", true),
            (Some("fetch"), "HTTPS_PROXY", true),
            (Some("none"), "HTTPS_PROXY", false),
        ] {
            let variable = json!({ "name": name, "value": "x", "containerName": container });
            let claim = claim(ApiShape::Upstream, &variable);
            let found = check_env(&claim, &template("Allowed"));
            assert_eq!(found.is_err(), refused, "{container:?} {name}: {found:?}");
            assert!(found.err().is_none_or(|problem| problem.contains("envFrom of container")));
            assert_eq!(check_env(&claim, &template("Overrides")), Ok(()), "{container:?} {name}");
        }
    }

    #[test]
    fn variable_reaches_a_container_that_waits_for_it_or_is_refused() {
        let template = |claim_data: &Value, policy: &str| {
            let container = |name: &str| json!({ "name": name, "image": "i", "command": ["run"] });
            let spec = json!({
                "podTemplate": { "spec": {
                    "containers": [container("agent"), container("side")], "initContainers": [container("fetch")],
                } },
                "claimData": claim_data, "envVarsInjectionPolicy": policy,
            });
            parse_template(ApiShape::Upstream, &serde_json::from_value(spec).unwrap()).unwrap()
        };
        let held = |containers: &[&str]| json!({ "start": "AfterDelivery", "containers": containers });
        let before = Some("starts before the claim brings the variable");
        for (claim_data, container, expected) in [
            (held(&[]), None, None),
            (held(&[]), Some("agent"), None),
            (held(&[]), Some("side"), None),
            (held(&[]), Some("fetch"), before),
            (held(&["agent"]), None, None),
            (held(&["agent"]), Some("side"), before),
            (held(&["side"]), None, before),
            (held(&["side"]), Some("agent"), before),
            (held(&["side"]), Some("side"), None),
            (held(&["side"]), Some("other"), Some("the template has no container other")),
            (held(&["side"]), Some(""), Some("the template has no container")),
            // The processes look for the variables in the file, in which everything is.
            (json!({ "containers": ["side"] }), Some("agent"), None),
            (Value::Null, Some("fetch"), None),
        ] {
            let variable = json!({ "name": "MODE", "value": "fast", "containerName": container });
            let claim = claim(ApiShape::Upstream, &variable);
            let found = check_env(&claim, &template(&claim_data, "Allowed"));
            match (&found, expected) {
                (Ok(()), None) => {}
                (Err(problem), Some(expected)) => assert!(problem.contains(expected), "{claim_data} {problem}"),
                (Ok(()), Some(_)) | (Err(_), None) => panic!("{claim_data} {container:?}: {found:?}"),
            }
            let disallowed = check_env(&claim, &template(&claim_data, "Disallowed"));
            assert!(disallowed.is_err(), "{claim_data} {container:?}");
        }
    }
}
