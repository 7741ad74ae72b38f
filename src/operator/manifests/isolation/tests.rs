//! The policies have a rule for each access to the host and each kind, and `deploy/components` contains them.

use std::path::Path;

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};

use super::super::tests::{text_of, typed};
use super::*;

fn pairs(settings: &IsolationPolicies) -> Vec<[Value; 2]> {
    isolation_policies(settings).as_chunks().0.to_vec()
}

fn expressions(policy: &Value) -> Vec<&str> {
    let validations = policy["spec"]["validations"].as_array().expect("validations");
    validations.iter().map(|validation| validation["expression"].as_str().expect("an expression")).collect()
}

#[test]
fn component_in_deploy_is_that_of_the_code() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/components/admission-policies");
    let path = folder.join("policies.yaml");
    let wanted = text_of("paddock generate vap", &isolation_policies(&IsolationPolicies::default()));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &wanted).expect("written");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == wanted, "{} is not up to date: UPDATE=1 writes it", path.display());
}

#[test]
fn every_kind_that_runs_pods_is_judged() {
    let all = pairs(&IsolationPolicies::default());
    let rules = all.iter().flat_map(|[policy, _]| policy["spec"]["matchConstraints"]["resourceRules"].as_array());
    let matched: Vec<(Value, Value)> = rules
        .flatten()
        .flat_map(|rule| {
            let groups = rule["apiGroups"].as_array().cloned().unwrap_or_default();
            let resources = rule["resources"].as_array().cloned().unwrap_or_default();
            groups.into_iter().flat_map(move |group| resources.clone().into_iter().map(move |of| (group.clone(), of)))
        })
        .collect();
    let builtin = POD_KINDS.iter().map(|kind| (kind.group, kind.plural));
    let own = Kind::OWN.into_iter().map(|kind| (kind.group(), kind.plural()));
    for (group, plural) in builtin.chain(own) {
        assert!(matched.contains(&(json!(group), json!(plural))), "{plural}.{group}");
    }
}

/// A rule is in all policies about pods, and the flag takes away exactly its own.
#[test]
fn every_access_to_the_host_has_a_rule_unless_it_is_allowed() {
    for allowed in HostAccess::ALL.iter().copied() {
        let all = pairs(&IsolationPolicies::default());
        let less = pairs(&IsolationPolicies { allowed: [allowed].into_iter().collect(), ..Default::default() });
        let named = format!("!variables.judged || ({})", cel::rule(allowed).expression);
        for ([with, _], [without, _]) in all.iter().zip(&less) {
            let mut expected = expressions(with);
            let about_pods = with["metadata"]["name"] != "paddock-isolation-runtimeclasses";
            assert_eq!(expected.iter().filter(|expression| **expression == named).count(), usize::from(about_pods));
            expected.retain(|expression| *expression != named);
            assert_eq!(expressions(without), expected, "{allowed:?}");
        }
    }
}

#[test]
fn policies_fail_closed_and_have_the_types_of_their_kinds() {
    for [policy, binding] in pairs(&IsolationPolicies::default()) {
        assert_eq!(policy["spec"]["failurePolicy"], "Fail");
        assert_eq!(binding["spec"], json!({ "policyName": policy["metadata"]["name"], "validationActions": ["Deny"] }));
        assert_eq!(policy["spec"]["variables"][0]["name"], "isolating", "a patch of kustomize replaces this one");
        assert_eq!(typed::<ValidatingAdmissionPolicy>(&policy), policy);
        assert_eq!(typed::<ValidatingAdmissionPolicyBinding>(&binding), binding);
    }
}

#[test]
fn only_pods_and_sandboxes_keep_their_marker() {
    let kept = pairs(&IsolationPolicies::default()).into_iter().filter(|[policy, _]| {
        expressions(policy).iter().any(|expression| expression.starts_with("variables.marked ||"))
    });
    let names: Vec<Value> = kept.map(|[policy, _]| policy["metadata"]["name"].clone()).collect();
    assert_eq!(names, ["paddock-isolation-pods", "paddock-isolation-sandboxes"]);
}
