//! The policies that this version generates, for the operator and for the gateway: every change of one is seen.

use std::collections::BTreeSet;

use axum::body::Body;
use http::{Request, Response};
use kube::Client;
use paddock_core::isolation::HostAccess;
use paddock_kube::guard::{Desired, GuardState, Guards, follow};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::*;
use crate::config::WebhookSetup;
use crate::manifests::gateway_guards;
use crate::manifests::tests::modes;

const USER: &str = "system:serviceaccount:agent-sandbox-system:agent-sandbox-controller";

/// A policy or a binding as an API server stores it: with its defaults, its status, and empty selectors.
fn stored(spec: &Value) -> Value {
    let mut spec = spec.clone();
    if let Some(constraints) = spec["matchConstraints"].as_object_mut() {
        for (field, value) in
            [("matchPolicy", json!("Equivalent")), ("namespaceSelector", json!({})), ("objectSelector", json!({}))]
        {
            constraints.entry(field).or_insert(value);
        }
        for rule in constraints["resourceRules"].as_array_mut().into_iter().flatten() {
            rule["scope"] = "*".into();
        }
    }
    json!({ "spec": spec, "status": { "observedGeneration": 1, "typeChecking": {} } })
}

/// The paths of all values in a document.
fn paths(document: &Value) -> Vec<String> {
    let children: Vec<(String, &Value)> = match document {
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(n, item)| (n.to_string(), item)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    let below = |(key, value): (String, &Value)| {
        let deeper = paths(value).into_iter().map(|path| format!("/{key}{path}")).collect::<Vec<_>>();
        [vec![format!("/{key}")], deeper].concat()
    };
    children.into_iter().flat_map(below).collect()
}

/// The policies of both processes in each mode.
fn all() -> Vec<Policies> {
    let of_the_gateway = [None, Some("team".to_owned())];
    let of_the_gateway =
        of_the_gateway.map(|served| Policies::new("gateway", move |user| gateway_guards(served.as_deref(), user)));
    modes().into_iter().map(of).chain(of_the_gateway).collect()
}

#[test]
fn policy_is_in_force_only_if_it_is_as_this_version_generates_it() {
    let mut seen = BTreeSet::new();
    let isolation = isolation(&Config::local("t")).of(r#"["gvisor"]"#);
    for guard in all().iter().flat_map(|policies| policies.of(USER)).chain(isolation) {
        // Most policies are the same in several modes.
        if !seen.insert(guard.policy.to_string()) {
            continue;
        }
        let (policy, binding) = (stored(&guard.policy), stored(&guard.binding));
        let state = |policy: &Value, binding: &Value| guard.state(Some(policy), Some(binding));
        assert_eq!(state(&policy, &binding), GuardState::InForce, "{}", guard.name);
        // Any value of the policy or of the binding that is changed or removed.
        for path in paths(&guard.policy) {
            for value in [json!("changed"), Value::Null] {
                let mut changed = policy.clone();
                *changed["spec"].pointer_mut(&path).unwrap() = value;
                let state = state(&changed, &binding);
                let is_seen = matches!(state, GuardState::PolicyDiffers(_) | GuardState::OtherUser { .. });
                assert!(is_seen, "{}{path}: {state:?}", guard.name);
            }
        }
        for path in paths(&guard.binding) {
            for value in [json!("changed"), Value::Null] {
                let mut changed = binding.clone();
                *changed["spec"].pointer_mut(&path).unwrap() = value;
                let state = state(&policy, &changed);
                assert!(matches!(state, GuardState::BindingDiffers(_)), "{}{path}: {state:?}", guard.name);
            }
        }
    }
}

/// A tool that moves the deployment to another namespace replaces the ServiceAccount, and no text in an expression.
#[test]
fn policies_for_another_user_are_not_in_force() {
    let moved = "system:serviceaccount:moved:agent-sandbox-controller";
    for policies in all() {
        let (before, after) = (policies.of(USER), policies.of(moved));
        assert!(!before.is_empty() && before.len() == after.len());
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(before.name, after.name);
            let stored_as = |of: &Desired| after.state(Some(&stored(&of.policy)), Some(&stored(&of.binding)));
            let other = matches!(stored_as(before), GuardState::OtherUser { user, .. } if user == moved);
            assert!(other, "{}: {:?}", after.name, stored_as(before));
            assert_eq!(stored_as(after), GuardState::InForce, "{}", after.name);
        }
    }
}

#[test]
fn mode_is_that_of_the_manifests_with_which_the_operator_is_deployed() {
    let setup = |client_config, registration| {
        let mut setup = WebhookSetup::local("ns");
        setup.client_config = client_config;
        if let Certificate::SelfIssued { registration: of, .. } = &mut setup.certificate {
            *of = registration;
        }
        Some(setup)
    };
    let service = || Some(ClientConfig::Service { namespace: "ns".to_owned(), name: "w".to_owned(), port: 443 });
    let url = || Some(ClientConfig::Url("https://192.0.2.7:9443".to_owned()));
    let mut mounted = WebhookSetup::local("ns");
    mounted.certificate = Certificate::Mounted(paddock_kube::tls::Mounted { dir: "/certs".into() });
    for (webhook, expected) in [
        (None, Webhook::Off),
        (Some(mounted), Webhook::Mounted),
        (setup(service(), Registration::Injected), Webhook::Injected),
        (setup(service(), Registration::Owned), Webhook::Owned { host: None }),
        (setup(url(), Registration::Owned), Webhook::Owned { host: Some("192.0.2.7".to_owned()) }),
    ] {
        for served in [None, Some("team".to_owned())] {
            let config =
                Config { webhook: webhook.clone(), namespace: served.clone(), extensions: false, ..Config::local("t") };
            let settings = settings(&config);
            let mode = (settings.webhook, settings.served_namespace, settings.extensions);
            assert_eq!(mode, (expected.clone(), served, false));
        }
    }
}

/// The state of the policies about isolation if the API server stores these.
async fn isolation_with(guards: Vec<[Value; 2]>) -> Vec<GuardState> {
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let (kind, name) = request.uri().path().rsplit_once('/').unwrap();
        let of_name = guards.iter().find(|[policy, _]| policy["metadata"]["name"] == name);
        let found = of_name.map(|[policy, binding]| if kind.ends_with("bindings") { binding } else { policy });
        let (code, body) = match found {
            Some(found) => {
                let mut body = stored(&found["spec"]);
                body["metadata"] = found["metadata"].clone();
                (200, body)
            }
            None => (404, json!({ "kind": "Status", "status": "Failure", "code": 404, "reason": "", "message": "" })),
        };
        let response = Response::builder().status(code).body(Body::from(body.to_string().into_bytes()));
        std::future::ready(Ok::<_, std::io::Error>(response.unwrap()))
    });
    let state = watch::Sender::new(Guards::default());
    let (mut seen, client) = (state.subscribe(), Client::new(service, "ns"));
    let follow = tokio::spawn(follow(client, isolation(&Config::local("t")), state, |_, _| ()));
    let seen = seen.wait_for(|guards| *guards != Guards::Unread).await.unwrap().clone();
    follow.abort();
    let Guards::Checked(guards) = seen else { panic!("{seen:?}") };
    guards.into_iter().map(|guard| guard.state).collect()
}

/// Administrators choose the names of the RuntimeClasses, and nothing else.
#[tokio::test]
async fn policies_about_isolation_are_in_force_with_any_list_of_runtime_classes() {
    let with = |settings: IsolationPolicies, classes: &str| isolation_guards(&settings, classes);
    let default = IsolationPolicies::default;
    let differs = || GuardState::PolicyDiffers(vec!["variables".to_owned()]);
    let classes = || with(default(), r#"["gvisor","kata-qemu"]"#);
    let mut unlike = classes();
    unlike[1][0]["spec"]["variables"][0]["expression"] = r#"["gvisor", "host"]"#.into();
    let mut unbound = classes();
    unbound[0][1]["spec"]["validationActions"] = json!(["Audit"]);
    let mut renamed = classes();
    renamed[0][0]["spec"]["variables"][0]["name"] = "other".into();
    let allowed = [HostAccess::ALL[0]].into_iter().collect();
    for (what, stored, wrong) in [
        ("the default", with(default(), ""), vec![]),
        ("other names", classes(), vec![]),
        ("no name", with(default(), "[]"), vec![]),
        ("the name of a Pod without a class", with(default(), r#"["gvisor", ""]"#), vec![0, 1, 2, 3, 4]),
        ("an expression", with(default(), r#"[object.spec.runtimeClassName]"#), vec![0, 1, 2, 3, 4]),
        ("a list of its own in one policy", unlike, vec![1]),
        ("a binding that only audits", unbound, vec![0]),
        ("another variable", renamed, vec![0, 1, 2, 3, 4]),
        ("other flags", with(IsolationPolicies { allowed, ..default() }, ""), vec![0, 1, 2, 3]),
        (
            "another namespace",
            with(IsolationPolicies { namespace: "moved".to_owned(), ..default() }, ""),
            vec![0, 1, 2, 3],
        ),
        ("nothing", vec![], vec![0, 1, 2, 3, 4]),
    ] {
        let states = isolation_with(stored).await;
        assert_eq!(states.len(), 5, "{what}");
        let faulty = states.iter().enumerate().filter(|(_, state)| **state != GuardState::InForce);
        assert_eq!(faulty.map(|(at, _)| at).collect::<Vec<_>>(), wrong, "{what}: {states:?}");
        let is_as_expected = match what {
            "a list of its own in one policy" => states[1] == differs(),
            "nothing" => states.iter().all(|state| *state == GuardState::NoPolicy),
            _ => true,
        };
        assert!(is_as_expected, "{what}: {states:?}");
    }
}
