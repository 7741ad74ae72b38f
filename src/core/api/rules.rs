//! The rules that the API server itself enforces, in CEL. `model` checks the same and more; these hold without a webhook.

use serde_json::{Value, json};

/// Whether a RuntimeClass named beside a pod is the one named in it.
macro_rules! agrees {
    ($pod:literal) => {
        concat!(
            "(!has(self.",
            $pod,
            ") || !has(self.",
            $pod,
            ".spec.runtimeClassName) || self.",
            $pod,
            ".spec.runtimeClassName == self.runtimeClassName)"
        )
    };
}

/// Of a Sandbox's spec.
pub(super) fn sandbox() -> Value {
    json!([
        {
            "rule": "has(self.podTemplate) != has(self.template)",
            "message": "exactly one of podTemplate and template must be given: describe the pod in one of the two",
        },
        runtime_class(concat!("!has(self.runtimeClassName) || (", agrees!("podTemplate"), " && ", agrees!("template"), ")")),
        {
            // The absent list is the empty one. (`orValue` would say so too, but its cost is estimated without bound.)
            "rule": concat!(
                "(has(self.volumeClaimTemplates) && size(self.volumeClaimTemplates) > 0)",
                " == (has(oldSelf.volumeClaimTemplates) && size(oldSelf.volumeClaimTemplates) > 0)",
                " && (!has(self.volumeClaimTemplates) || !has(oldSelf.volumeClaimTemplates)",
                " || self.volumeClaimTemplates == oldSelf.volumeClaimTemplates)",
            ),
            "message": "volumeClaimTemplates is immutable",
        },
        {
            "rule": concat!(
                "(has(self.resumePolicy) && self.resumePolicy == 'OnDemand')",
                " == (has(oldSelf.resumePolicy) && oldSelf.resumePolicy == 'OnDemand')",
            ),
            "message": "resumePolicy is immutable: the Sandbox's address depends on it",
        },
    ])
}

/// Of a seed template's spec.
pub(super) fn seed_template() -> Value {
    json!([runtime_class(concat!("!has(self.runtimeClassName) || ", agrees!("template")))])
}

/// Of a pool's spec.
pub(super) fn pool() -> Value {
    json!([{
        "rule": "!has(self.minReady) || !has(self.maxReady) || self.minReady <= self.maxReady",
        "message": "minReady must be at most maxReady",
        "fieldPath": ".minReady",
    }])
}

/// Of an upstream claim's spec.
pub(super) fn claim() -> Value {
    json!([
        {
            "rule": "has(self.warmPoolRef) != has(self.sandboxTemplateRef)",
            "message": "exactly one of warmPoolRef and sandboxTemplateRef must be given: a claim names a pool or a template",
        },
        {
            "rule": "!has(self.warmpool) || self.warmpool == '' || !has(self.warmPoolRef)",
            "message": "warmpool must be absent where warmPoolRef names the pool",
            "fieldPath": ".warmpool",
        },
    ])
}

/// Of a seed claim's spec.
pub(super) fn seed_claim() -> Value {
    json!([{
        "rule": "has(self.templateRef) != has(self.warmPoolRef)",
        "message": "exactly one of templateRef and warmPoolRef must be given: a claim names a template or a pool",
    }])
}

/// Of an idle timeout: Go's grammar, since CEL's own error for another one would name no example. The first expression
/// lets through so many digits of each unit, and so many units, that no sum of them is more than the 292 years that CEL's
/// `duration` can hold: at most six times 31 years.
pub(super) fn idle_timeout() -> Value {
    json!([{
        "rule": concat!(
            r"self.matches('^[+]?(([0-9]{1,5}([.][0-9]*)?|[.][0-9]+)h|([0-9]{1,7}([.][0-9]*)?|[.][0-9]+)m",
            r"|([0-9]{1,9}([.][0-9]*)?|[.][0-9]+)s|([0-9]{1,12}([.][0-9]*)?|[.][0-9]+)ms",
            r"|([0-9]{1,15}([.][0-9]*)?|[.][0-9]+)(us|µs|μs)|([0-9]{1,18}([.][0-9]*)?|[.][0-9]+)ns){1,6}$')",
            " && duration(self) > duration('0s') && duration(self) <= duration('87600h')",
        ),
        "message": "must be a Go duration above zero and of at most 87600h (ten years), such as 30m, 90s or 1h30m",
    }])
}

fn runtime_class(rule: &str) -> Value {
    json!({
        "rule": rule,
        "message": "must be the class that the pod's spec names; name it in one of the two",
        "fieldPath": ".runtimeClassName",
    })
}
