//! The state of policies over tables of stored objects, and against an API server in memory.

use std::collections::BTreeSet;
use std::convert::Infallible;

use axum::body::Body;
use http::{Request, Response};

use super::*;
use crate::config::WebhookSetup;
use crate::manifests::tests::modes;

const USER: &str = "system:serviceaccount:agent-sandbox-system:agent-sandbox-controller";

/// A policy or a binding as an API server stores it: with its defaults, its status, and empty selectors.
fn stored(spec: &Value) -> Value {
    let mut spec = spec.clone();
    if spec["matchConstraints"].is_object() {
        spec = with_defaults(&spec);
        spec["matchConstraints"]["namespaceSelector"] = json!({});
        spec["matchConstraints"]["objectSelector"] = json!({});
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

fn desired(settings: Settings) -> Vec<Desired> {
    Mode { settings }.guards(USER)
}

#[test]
fn policy_is_in_force_only_if_it_is_as_this_version_generates_it() {
    let mut seen = BTreeSet::new();
    for settings in modes() {
        for guard in desired(settings) {
            // Most policies are the same in several modes.
            if !seen.insert(guard.policy.to_string()) {
                continue;
            }
            let (policy, binding) = (stored(&guard.policy), stored(&guard.binding));
            let state = |policy: &Value, binding: &Value| guard.state(Some(policy), Some(binding), USER);
            assert_eq!(state(&policy, &binding), GuardState::InForce, "{}", guard.name);
            assert_eq!(guard.state(None, Some(&binding), USER), GuardState::NoPolicy);
            assert_eq!(guard.state(None, None, USER), GuardState::NoPolicy);
            assert_eq!(guard.state(Some(&policy), None, USER), GuardState::NoBinding);
            // Any value of the policy or of the binding that is changed or removed.
            for path in paths(&guard.policy) {
                for value in [json!("changed"), Value::Null] {
                    let mut changed = policy.clone();
                    *changed["spec"].pointer_mut(&path).unwrap() = value;
                    let state = state(&changed, &binding);
                    let is_seen = matches!(state, GuardState::PolicyDiffers(_) | GuardState::OtherUser(_));
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
}

/// What somebody adds to a policy or a binding, and the field that is named. `None` if it weakens nothing.
#[test]
fn additions_that_weaken_a_policy_are_seen_and_named() {
    let selector = json!({ "matchLabels": { "guarded": "yes" } });
    let policies = [
        ("/failurePolicy", json!("Ignore"), Some("failurePolicy")),
        ("/paramKind", json!({ "apiVersion": "v1", "kind": "ConfigMap" }), Some("paramKind")),
        ("/matchConstraints/namespaceSelector", selector.clone(), Some("matchConstraints")),
        ("/matchConstraints/objectSelector", selector.clone(), Some("matchConstraints")),
        ("/matchConstraints/matchPolicy", json!("Exact"), Some("matchConstraints")),
        (
            "/matchConstraints/excludeResourceRules",
            json!([{ "apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*"] }]),
            Some("matchConstraints"),
        ),
        ("/matchConstraints/resourceRules/0/scope", json!("Cluster"), Some("matchConstraints")),
        ("/matchConstraints/resourceRules/0/resourceNames", json!(["a"]), Some("matchConstraints")),
        ("/matchConditions/9", json!({ "name": "never", "expression": "false" }), Some("matchConditions")),
        ("/fieldOfTheFuture", json!(true), Some("fieldOfTheFuture")),
        ("/auditAnnotations", json!([{ "key": "k", "valueExpression": "'v'" }]), None),
    ];
    let bindings = [
        ("/validationActions", json!(["Warn"]), Some("validationActions")),
        ("/validationActions", json!(["Audit", "Warn"]), Some("validationActions")),
        ("/validationActions", json!([]), Some("validationActions")),
        ("/validationActions", json!(["Deny", "Audit"]), None),
        ("/paramRef", json!({ "name": "p", "parameterNotFoundAction": "Allow" }), Some("paramRef")),
        ("/matchResources", json!({ "namespaceSelector": selector }), Some("matchResources")),
        ("/matchResources", json!({ "resourceRules": [{ "resourceNames": ["a"] }] }), Some("matchResources")),
        ("/policyName", json!("another"), Some("policyName")),
        ("/fieldOfTheFuture", json!(true), Some("fieldOfTheFuture")),
    ];
    let with = |document: &Value, path: &str, value: &Value| {
        let mut changed = document.clone();
        let (parent, key) = path.rsplit_once('/').unwrap();
        let parent = changed["spec"].pointer_mut(parent).unwrap();
        if let Some(items) = parent.as_array_mut() {
            items.push(value.clone());
        } else {
            parent[key] = value.clone();
        }
        changed
    };
    let state_of = |differ: fn(Vec<String>) -> GuardState, field: Option<&str>| {
        field.map_or(GuardState::InForce, |field| differ(vec![field.to_owned()]))
    };
    for guard in desired(Settings::default()) {
        let (policy, binding) = (stored(&guard.policy), stored(&guard.binding));
        for (path, value, field) in &policies {
            let state = guard.state(Some(&with(&policy, path, value)), Some(&binding), USER);
            assert_eq!(state, state_of(GuardState::PolicyDiffers, *field), "{}{path}", guard.name);
        }
        for (path, value, field) in &bindings {
            let state = guard.state(Some(&policy), Some(&with(&binding, path, value)), USER);
            assert_eq!(state, state_of(GuardState::BindingDiffers, *field), "{}{path}", guard.name);
        }
    }
}

/// A tool that moves the deployment to another namespace replaces the ServiceAccount, and no text in an expression.
#[test]
fn policies_for_another_user_are_not_in_force() {
    let moved = "system:serviceaccount:moved:agent-sandbox-controller";
    for settings in modes() {
        let before = desired(settings.clone());
        let after = Mode { settings }.guards(moved);
        assert_eq!(before.len(), after.len());
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(before.name, after.name);
            let state = after.state(Some(&stored(&before.policy)), Some(&stored(&before.binding)), moved);
            assert_eq!(state, GuardState::OtherUser(moved.to_owned()), "{}", after.name);
            let state = after.state(Some(&stored(&after.policy)), Some(&stored(&after.binding)), moved);
            assert_eq!(state, GuardState::InForce, "{}", after.name);
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
            let settings = Mode::of(&config).settings;
            let mode = (settings.webhook, settings.served_namespace, settings.extensions);
            assert_eq!(mode, (expected.clone(), served, false));
        }
    }
}

/// The replies of an API server: the user, and what a request for a policy or a binding gets.
fn server(user: &'static str, reply: fn(&Desired, bool) -> Option<(u16, Value)>) -> Client {
    let respond =
        |code: u16, body: &Value| Response::builder().status(code).body(Body::from(body.to_string())).unwrap();
    let service = tower::service_fn(move |request: Request<kube::client::Body>| async move {
        let path = request.uri().path();
        if path.ends_with("/selfsubjectreviews") {
            let status = json!({ "userInfo": { "username": user } });
            return Ok::<_, Infallible>(respond(201, &json!({ "metadata": {}, "status": status })));
        }
        let (resource, name) =
            path.strip_prefix("/apis/admissionregistration.k8s.io/v1/").unwrap().split_once('/').unwrap();
        let guards = desired(Settings::default());
        let guard = guards.iter().find(|guard| guard.name == name).unwrap();
        let is_binding = match resource {
            "validatingadmissionpolicies" => false,
            "validatingadmissionpolicybindings" => true,
            other => panic!("{other}"),
        };
        let Some((code, mut body)) = reply(guard, is_binding) else { return std::future::pending().await };
        if code == 200 {
            body["metadata"] = json!({ "name": name });
        } else {
            body = json!({ "kind": "Status", "status": "Failure", "code": code, "reason": "", "message": "refused" });
        }
        Ok(respond(code, &body))
    });
    Client::new(service, "ns")
}

#[tokio::test(start_paused = true)]
async fn policy_that_cannot_be_read_is_never_reported_as_in_force() {
    type Reply = fn(&Desired, bool) -> Option<(u16, Value)>;
    let right: Reply = |guard, is_binding| Some((200, stored(if is_binding { &guard.binding } else { &guard.policy })));
    let cases: [(&str, &'static str, Reply, Option<&str>); 8] = [
        ("all is well", USER, right, None),
        ("no such kind", USER, |_, _| Some((404, Value::Null)), Some("does not exist")),
        ("no right", USER, |_, _| Some((403, Value::Null)), Some("could not be read: refused")),
        ("an outage", USER, |_, _| Some((500, Value::Null)), Some("could not be read: refused")),
        ("no answer", USER, |_, _| None, Some("could not be read: the API server did not reply in time")),
        (
            "no right on the binding",
            USER,
            |guard, is_binding| Some(if is_binding { (403, Value::Null) } else { (200, stored(&guard.policy)) }),
            Some("could not be read: refused"),
        ),
        (
            "another user",
            "system:serviceaccount:moved:agent-sandbox-controller",
            right,
            Some("does not name the operator's user system:serviceaccount:moved:agent-sandbox-controller"),
        ),
        ("an administrator", "kubernetes-admin", right, Some("this operator is the user \"kubernetes-admin\"")),
    ];
    for (case, user, reply, problem) in cases {
        let metrics = Metrics::new().unwrap();
        let state = watch::Sender::new(Guards::default());
        let (mut guards, client) = (state.subscribe(), server(user, reply));
        let mode = Mode { settings: Settings::default() };
        let follow = tokio::spawn(follow_guards(client, mode, state, metrics.clone()));
        let now = guards.wait_for(|guards| *guards != Guards::Unread).await.unwrap().clone();
        let faults = now.faults();
        let names: Vec<String> = desired(Settings::default()).into_iter().map(|guard| guard.name).collect();
        // One line is enough for an operator that no policy is about.
        let expected = match (&now, problem) {
            (_, None) => 0,
            (Guards::NotLimited(_), Some(_)) => 1,
            (Guards::Unread | Guards::Checked(_), Some(_)) => names.len(),
        };
        assert_eq!(faults.len(), expected, "{case}: {faults:?}");
        assert!(
            faults.iter().all(|fault| problem.is_some_and(|problem| fault.ends_with(problem))),
            "{case}: {faults:?}"
        );
        let text = String::from_utf8(metrics.text().unwrap()).unwrap();
        for name in names {
            let line = format!("paddock_guard_absent{{policy=\"{name}\"}} {}", u8::from(problem.is_some()));
            assert!(text.lines().any(|l| l == line), "{case}: {line} is not in:\n{text}");
        }
        follow.abort();
    }
}
