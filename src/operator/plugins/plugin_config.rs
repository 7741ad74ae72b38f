//! `NAME.yaml` beside `NAME.wasm`: the bindings, the settings and the limits of a plugin.
//!
//! ```yaml
//! hooks: [pool-size]             # a part of the exported hooks; all of them if absent
//! namespaceSelector:             # label selectors as in a webhook configuration; empty matches everything
//!   matchLabels: {team: research}
//! objectSelector:
//!   matchExpressions: [{key: tier, operator: In, values: [gold]}]
//! kinds: [Pod, SandboxClaim]     # the kinds for the admission hook; every kind if absent
//! settings: {desired: 9}         # passed to the plugin, which checks it before it is used
//! failurePolicy: Fail            # Fail, Ignore or Fallback; the default depends on the hook
//! order: 0                       # plugins with a lower number are asked first; built-ins come last
//! limits: {memory: 64Mi, fuel: 200000000, deadline: 500ms}   # of one call
//! ```
//!
//! Unknown fields are errors, and every error names its field.

use std::fmt::Display;
use std::time::Duration;

use paddock_api::kind::Kind;
use paddock_core::binding::{Binding, FailurePolicy, Operator, Requirement, Selector};
use paddock_core::model::{Quantity, parse_go_duration};
use paddock_core::question::Hook;
use paddock_plugin_host::Limits;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_yaml_ng::{Mapping, Value};

/// The smallest memory limit, in bytes: one page of WebAssembly.
const LEAST_MEMORY: usize = 64 << 10;
/// The shortest deadline: one tick of the host's clock.
const SHORTEST_DEADLINE: Duration = Duration::from_millis(5);

/// A parsed and checked configuration file.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginConfig {
    /// The hooks to bind. `None` means all hooks that the component exports.
    pub hooks: Option<Vec<Hook>>,
    /// The label selector for namespaces.
    pub namespaces: Selector,
    /// The label selector for objects.
    pub objects: Selector,
    /// The kinds about whose admission the plugin is asked. Empty for all.
    pub kinds: Vec<String>,
    /// The settings: the text of a JSON object.
    pub settings: String,
    /// The consequence of a failure of the plugin. `None` means the default of each hook.
    pub failure_policy: Option<FailurePolicy>,
    /// The position of the plugin among the bindings of a hook. Lower numbers are asked first.
    pub order: i32,
    /// The limits of one call.
    pub limits: Limits,
}

/// The fault of a file, in the form `<field>: <what would be right>`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PluginConfigError(String);

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Wire {
    hooks: Option<Vec<Hook>>,
    namespace_selector: Selector,
    object_selector: Selector,
    kinds: Option<Vec<String>>,
    settings: serde_json::Map<String, serde_json::Value>,
    failure_policy: Option<FailurePolicy>,
    order: i32,
    limits: WireLimits,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct WireLimits {
    memory: Option<String>,
    fuel: Option<u64>,
    deadline: Option<String>,
}

impl PluginConfig {
    /// The configuration of a plugin without a file. `limits` are the host's default limits.
    #[must_use]
    pub fn absent(limits: Limits) -> Self {
        Self {
            hooks: None,
            namespaces: Selector::default(),
            objects: Selector::default(),
            kinds: Vec::new(),
            settings: "{}".into(),
            failure_policy: None,
            order: 0,
            limits,
        }
    }

    /// Parses a file. `limits` apply where the file states none. An empty file has the same effect as no file.
    ///
    /// # Errors
    /// The field that is wrong, and what would be right.
    pub fn parse(text: &str, limits: Limits) -> Result<Self, PluginConfigError> {
        let wire: Option<Wire> = serde_yaml_ng::from_str(text).map_err(|error| PluginConfigError(error.to_string()))?;
        let Wire { hooks, namespace_selector, object_selector, kinds, settings, failure_policy, order, limits: given } =
            wire.unwrap_or_default();
        if let Some(hooks) = &hooks {
            check_hooks(hooks)?;
        }
        if let Some(kinds) = &kinds {
            check_kinds(kinds)?;
            if hooks.as_ref().is_some_and(|hooks| !hooks.contains(&Hook::Admission)) {
                return wrong("kinds", "must be left out, because hooks does not contain admission");
            }
        }
        check_selector("namespaceSelector", &namespace_selector)?;
        check_selector("objectSelector", &object_selector)?;
        if order == Binding::BUILT_IN_ORDER {
            return wrong("order", "must be lower, because the built-in plugins have this order");
        }
        Ok(Self {
            hooks,
            namespaces: namespace_selector,
            objects: object_selector,
            kinds: kinds.unwrap_or_default(),
            settings: serde_json::Value::Object(settings).to_string(),
            failure_policy,
            order,
            limits: check_limits(&given, limits)?,
        })
    }

    /// The configuration of a plugin whose file has an error. A field that can be read has its value, and any other
    /// field has the value that concerns the most objects: the plugin may be a guard, and its absence must not open what
    /// it guards.
    #[must_use]
    pub fn salvage(text: &str, limits: Limits) -> Self {
        let Ok(Value::Mapping(fields)) = serde_yaml_ng::from_str(text) else { return Self::absent(limits) };
        Self {
            hooks: readable(&fields, "hooks").filter(|hooks: &Vec<Hook>| check_hooks(hooks).is_ok()),
            namespaces: readable_selector(&fields, "namespaceSelector"),
            objects: readable_selector(&fields, "objectSelector"),
            kinds: readable(&fields, "kinds").filter(|k: &Vec<String>| check_kinds(k).is_ok()).unwrap_or_default(),
            failure_policy: readable(&fields, "failurePolicy"),
            order: readable(&fields, "order").filter(|order| *order != Binding::BUILT_IN_ORDER).unwrap_or_default(),
            ..Self::absent(limits)
        }
    }
}

fn readable<T: DeserializeOwned>(fields: &Mapping, field: &str) -> Option<T> {
    serde_yaml_ng::from_value(fields.get(field)?.clone()).ok()
}

fn readable_selector(fields: &Mapping, field: &str) -> Selector {
    readable(fields, field).filter(|selector| check_selector(field, selector).is_ok()).unwrap_or_default()
}

fn wrong<T>(field: impl Display, what: impl Display) -> Result<T, PluginConfigError> {
    Err(PluginConfigError(format!("{field}: {what}")))
}

fn check_hooks(hooks: &[Hook]) -> Result<(), PluginConfigError> {
    if hooks.is_empty() {
        return wrong(
            "hooks",
            "must contain at least one hook, or be left out for all hooks that the component exports",
        );
    }
    for (index, hook) in hooks.iter().enumerate() {
        if hooks.iter().take(index).any(|earlier| earlier == hook) {
            return wrong(format!("hooks[{index}]"), format!("must not repeat {}", hook.as_str()));
        }
    }
    Ok(())
}

/// Checks the kinds. Only the admission of Pods, and of our own kinds in both shapes, is reviewed.
fn check_kinds(kinds: &[String]) -> Result<(), PluginConfigError> {
    let mut known = vec![Kind::Pod.name()];
    known.extend(Kind::OWN.map(Kind::name));
    known.sort_unstable();
    known.dedup();
    if kinds.is_empty() {
        return wrong("kinds", "must contain at least one kind, or be left out for all kinds");
    }
    match kinds.iter().position(|kind| !known.contains(&kind.as_str())) {
        Some(index) => wrong(format!("kinds[{index}]"), format!("must be one of {}", known.join(", "))),
        None => Ok(()),
    }
}

fn check_selector(field: &str, selector: &Selector) -> Result<(), PluginConfigError> {
    let expressions = selector.match_expressions.iter().enumerate();
    for (index, Requirement { key, operator, values }) in expressions {
        let field = format!("{field}.matchExpressions[{index}]");
        if key.is_empty() {
            return wrong(format!("{field}.key"), "must be a label key");
        }
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                return wrong(format!("{field}.values"), format!("must not be empty with {operator:?}"));
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                return wrong(format!("{field}.values"), format!("must be left out with {operator:?}"));
            }
            Operator::In | Operator::NotIn | Operator::Exists | Operator::DoesNotExist => {}
        }
    }
    Ok(())
}

fn check_limits(given: &WireLimits, default: Limits) -> Result<Limits, PluginConfigError> {
    let WireLimits { memory, fuel, deadline } = given;
    let field = |field: &str, what: String| PluginConfigError(format!("limits.{field}: {what}"));
    let memory = memory.as_deref().map(parse_memory).transpose().map_err(|what| field("memory", what))?;
    let fuel = fuel.map(check_fuel).transpose().map_err(|what| field("fuel", what))?;
    let deadline = deadline.as_deref().map(parse_deadline).transpose().map_err(|what| field("deadline", what))?;
    Ok(Limits {
        memory_bytes: memory.unwrap_or(default.memory_bytes),
        fuel: fuel.unwrap_or(default.fuel),
        deadline: deadline.unwrap_or(default.deadline),
    })
}

/// Parses a memory limit, such as `64Mi`.
///
/// # Errors
/// The values that are possible.
pub fn parse_memory(text: &str) -> Result<usize, String> {
    let bytes = Quantity::parse(text).map(Quantity::ceil).and_then(|bytes| usize::try_from(bytes).ok());
    let fits = |bytes: &usize| (LEAST_MEMORY..=Limits::MAX.memory_bytes).contains(bytes);
    let (least, most) = (LEAST_MEMORY >> 10, Limits::MAX.memory_bytes >> 20);
    bytes.filter(fits).ok_or_else(|| format!("{text:?} must be a quantity from {least}Ki to {most}Mi"))
}

/// Checks a limit in units of fuel.
///
/// # Errors
/// The values that are possible.
pub fn check_fuel(fuel: u64) -> Result<u64, String> {
    if (1..=Limits::MAX.fuel).contains(&fuel) {
        Ok(fuel)
    } else {
        Err(format!("must be from 1 to {}", Limits::MAX.fuel))
    }
}

/// Parses a deadline, such as `500ms`.
///
/// # Errors
/// The values that are possible.
pub fn parse_deadline(text: &str) -> Result<Duration, String> {
    let time = parse_go_duration(text).ok().and_then(|nanos| u64::try_from(nanos).ok()).map(Duration::from_nanos);
    let fits = |time: &Duration| (SHORTEST_DEADLINE..=Limits::MAX.deadline).contains(time);
    let most = Limits::MAX.deadline;
    time.filter(fits).ok_or_else(|| format!("{text:?} must be a duration from {SHORTEST_DEADLINE:?} to {most:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { memory_bytes: 1 << 20, fuel: 1000, deadline: Duration::from_millis(100) };

    fn error(text: &str) -> String {
        PluginConfig::parse(text, LIMITS).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_file_is_as_good_as_none() {
        for text in ["", "{}", "# nothing\n"] {
            assert_eq!(PluginConfig::parse(text, LIMITS), Ok(PluginConfig::absent(LIMITS)), "{text:?}");
        }
    }

    #[test]
    fn every_field_is_read() {
        let text = "
            hooks: [admission, idle]
            namespaceSelector:
              matchLabels: {team: research}
            objectSelector:
              matchExpressions: [{key: tier, operator: In, values: [gold]}]
            kinds: [Pod, SandboxClaim]
            settings: {desired: 9, nested: {on: true}}
            failurePolicy: Ignore
            order: -5
            limits: {memory: 2Mi, fuel: 77, deadline: 1.5s}
        ";
        let config = PluginConfig::parse(text, LIMITS).unwrap();
        assert_eq!(config.hooks, Some(vec![Hook::Admission, Hook::Idle]));
        assert_eq!(config.namespaces.match_labels["team"], "research");
        assert_eq!(config.objects.match_expressions[0].operator, Operator::In);
        assert_eq!(config.kinds, ["Pod", "SandboxClaim"]);
        assert_eq!(config.settings, r#"{"desired":9,"nested":{"on":true}}"#);
        assert_eq!((config.failure_policy, config.order), (Some(FailurePolicy::Ignore), -5));
        let limits = Limits { memory_bytes: 2 << 20, fuel: 77, deadline: Duration::from_millis(1500) };
        assert_eq!(config.limits, limits);
    }

    #[test]
    fn limits_that_are_not_given_are_the_hosts() {
        let config = PluginConfig::parse("limits: {fuel: 5}", LIMITS).unwrap();
        assert_eq!(config.limits, Limits { fuel: 5, ..LIMITS });
    }

    #[test]
    fn what_can_be_read_of_a_faulty_file_is_kept_and_the_rest_is_broad() {
        let guard = "{hooks: [admission], failurePolicy: Fail, kinds: [Sandbox], order: 3,
            namespaceSelector: {matchLabels: {team: research}}";
        for (rest, expected) in [
            (", colour: red}", (Some(vec![Hook::Admission]), 1, 1)),
            (", settings: 7}", (Some(vec![Hook::Admission]), 1, 1)),
            (", limits: {memory: lots}}", (Some(vec![Hook::Admission]), 1, 1)),
        ] {
            let config = PluginConfig::salvage(&format!("{guard}{rest}"), LIMITS);
            assert_eq!((config.hooks, config.kinds.len(), config.namespaces.match_labels.len()), expected, "{rest}");
            assert_eq!((config.failure_policy, config.order), (Some(FailurePolicy::Fail), 3), "{rest}");
        }
        for faulty in [
            "hooks: [sleep]",
            "kinds: [pods]",
            "failurePolicy: Retry",
            "order: first",
            "namespaceSelector: {labels: {}}",
            "objectSelector: {matchExpressions: [{key: a, operator: In}]}",
            "[]",
            "a: [",
            "namspaceSelector: {matchLabels: {team: research}}",
        ] {
            assert_eq!(PluginConfig::salvage(faulty, LIMITS), PluginConfig::absent(LIMITS), "{faulty}");
        }
    }

    #[test]
    fn every_error_names_its_field() {
        for (text, field) in [
            ("hook: [idle]", "unknown field `hook`"),
            ("hooks: []", "hooks: must contain at least one hook"),
            ("hooks: [sleep]", "hooks[0]: unknown variant `sleep`"),
            ("hooks: [idle, idle]", "hooks[1]: must not repeat idle"),
            ("{hooks: [idle], kinds: [Pod]}", "kinds: must be left out, because hooks does not contain admission"),
            ("kinds: []", "kinds: must contain at least one kind"),
            (
                "kinds: [Pod, pods]",
                "kinds[1]: must be one of Pod, Sandbox, SandboxClaim, SandboxTemplate, SandboxWarmPool",
            ),
            ("settings: 7", "settings: invalid type"),
            ("settings: [a]", "settings: invalid type"),
            ("failurePolicy: Retry", "failurePolicy: unknown variant `Retry`"),
            ("order: first", "order: invalid type"),
            ("order: 2147483647", "order: must be lower"),
            ("namespaceSelector: {labels: {}}", "namespaceSelector: unknown field `labels`"),
            (
                "objectSelector: {matchExpressions: [{key: a, operator: Is}]}",
                "objectSelector.matchExpressions[0].operator: unknown variant `Is`",
            ),
            (
                "objectSelector: {matchExpressions: [{key: a, operator: In}]}",
                "objectSelector.matchExpressions[0].values: must not be empty with In",
            ),
            (
                "objectSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}",
                "objectSelector.matchExpressions[0].values: must be left out with Exists",
            ),
            (
                "objectSelector: {matchExpressions: [{key: '', operator: Exists}]}",
                "objectSelector.matchExpressions[0].key: must be a label key",
            ),
            ("limits: {memory: lots}", "limits.memory: \"lots\" must be a quantity"),
            ("limits: {memory: 1Gi}", "limits.memory: \"1Gi\" must be a quantity from 64Ki to 256Mi"),
            ("limits: {memory: -1Mi}", "limits.memory: "),
            ("limits: {fuel: 0}", "limits.fuel: must be from 1"),
            ("limits: {fuel: 5000000001}", "limits.fuel: must be from 1 to 5000000000"),
            ("limits: {fuel: -1}", "limits.fuel: invalid type"),
            ("limits: {deadline: 1d}", "limits.deadline: \"1d\" must be a duration"),
            ("limits: {deadline: 2001ms}", "limits.deadline: \"2001ms\" must be a duration from 5ms to 2s"),
            ("limits: {deadline: 1m}", "limits.deadline: \"1m\" must be a duration from 5ms to 2s"),
            ("limits: {cpu: 1}", "limits: unknown field `cpu`"),
            ("[]", "invalid type"),
            ("a: [", ""),
        ] {
            assert!(error(text).contains(field), "{text}: {}", error(text));
        }
    }
}
