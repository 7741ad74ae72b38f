//! Defects that were reported against the upstream operator, with one test for each.
//!
//! The numbers are those of upstream's issues. The most severe defects have a mutant in `tests/mutants`, which brings
//! the defect back and has to make the test fail.

mod claims;
mod safety;
mod sandboxes;

use crate::framework::{Outcome, Test, test};

pub(crate) fn tests() -> Vec<Test> {
    [claims::tests(), sandboxes::tests(), safety::tests()].into_iter().flatten().collect()
}

fn defect(name: &str, body: fn() -> Outcome) -> Test {
    test(format!("defect::{name}"), body)
}

fn expect(holds: bool, what: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(what().into()) }
}

/// A template and a pool of this size.
fn pool_of(replicas: usize) -> String {
    format!(
        "{{ apiVersion: extensions.agents.x-k8s.io/v1beta1, kind: SandboxTemplate, metadata: {{ name: t }}, spec: {{ podTemplate: {{ spec: {{ containers: [{{ name: agent, image: 'agent:1' }}] }} }} }} }}
---
{{ apiVersion: extensions.agents.x-k8s.io/v1beta1, kind: SandboxWarmPool, metadata: {{ name: p }}, spec: {{ sandboxTemplateRef: {{ name: t }}, replicas: {replicas} }} }}"
    )
}

/// A claim that names the pool.
fn claim(name: &str) -> String {
    format!(
        "{{ apiVersion: extensions.agents.x-k8s.io/v1beta1, kind: SandboxClaim, metadata: {{ name: {name} }}, spec: {{ warmPoolRef: {{ name: p }} }} }}"
    )
}

/// A Sandbox in the upstream shape.
fn sandbox(name: &str) -> String {
    format!(
        "{{ apiVersion: agents.x-k8s.io/v1beta1, kind: Sandbox, metadata: {{ name: {name} }}, spec: {{ operatingMode: Running, replicas: 1, podTemplate: {{ spec: {{ containers: [{{ name: agent, image: 'agent:1' }}] }} }} }} }}"
    )
}
