//! The state of policies over tables of stored objects, and against an API server in memory.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Mutex;

use axum::body::Body;
use http::{Request, Response};

use super::*;

const USER: &str = "system:serviceaccount:ours:process";

/// A policy that limits a user, and one that protects an object from others.
fn policies() -> Policies {
    Policies::new("process", |user| {
        let documents = |name: &str, spec: Value| {
            let binding = json!({ "policyName": name, "validationActions": ["Deny"] });
            [spec, binding].map(|spec| json!({ "metadata": { "name": name }, "spec": spec }))
        };
        let rule = |resource: &str| {
            let rule = json!({ "apiGroups": [""], "apiVersions": ["*"], "operations": ["*"], "resources": [resource] });
            json!({ "resourceRules": [rule] })
        };
        let is_user = format!("request.userInfo.username == {user:?}");
        vec![
            documents(
                "limits",
                json!({
                    "failurePolicy": "Fail",
                    "matchConstraints": rule("pods"),
                    "matchConditions": [{ "name": "the-user", "expression": is_user }],
                    "variables": [{ "name": "labels", "expression": "object.metadata.?labels.orValue({})" }],
                    "validations": [
                        { "expression": "\"a\" in variables.labels", "message": "a", "reason": "Forbidden" },
                    ],
                }),
            ),
            documents(
                "protects",
                json!({
                    "failurePolicy": "Fail",
                    "matchConstraints": rule("leases"),
                    "matchConditions": [{ "name": "the-lease", "expression": "object.metadata.name == \"a\"" }],
                    "validations": [{ "expression": is_user, "message": "b", "reason": "Forbidden" }],
                }),
            ),
        ]
    })
}

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

#[test]
fn policy_needs_its_binding_and_names_its_user() {
    let moved = "system:serviceaccount:moved:process";
    for (guard, of_another) in policies().of(USER).iter().zip(policies().of(moved)) {
        let (policy, binding) = (stored(&guard.policy), stored(&guard.binding));
        assert_eq!(guard.state(Some(&policy), Some(&binding)), GuardState::InForce, "{}", guard.name);
        assert_eq!(guard.state(None, Some(&binding)), GuardState::NoPolicy);
        assert_eq!(guard.state(None, None), GuardState::NoPolicy);
        assert_eq!(guard.state(Some(&policy), None), GuardState::NoBinding);
        let other = GuardState::OtherUser { process: "process", user: moved.to_owned() };
        assert_eq!(of_another.state(Some(&policy), Some(&binding)), other, "{}", guard.name);
    }
}

/// What somebody adds to a policy or a binding, and the field that is named. `None` if it weakens nothing.
#[test]
fn additions_that_weaken_a_policy_are_seen_and_named() {
    let selector = json!({ "matchLabels": { "guarded": "yes" } });
    let additions = [
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
    for guard in policies().of(USER) {
        let (policy, binding) = (stored(&guard.policy), stored(&guard.binding));
        for (path, value, field) in &additions {
            let state = guard.state(Some(&with(&policy, path, value)), Some(&binding));
            assert_eq!(state, state_of(GuardState::PolicyDiffers, *field), "{}{path}", guard.name);
        }
        for (path, value, field) in &bindings {
            let state = guard.state(Some(&policy), Some(&with(&binding, path, value)));
            assert_eq!(state, state_of(GuardState::BindingDiffers, *field), "{}{path}", guard.name);
        }
    }
}

/// The replies of an API server: the user, and what a request for a policy or a binding gets.
fn server(user: &'static str, reply: Reply) -> Client {
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
        let guards = policies().of(USER);
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

/// The status and the body for a policy, or for its binding. `None` if there is no reply.
type Reply = fn(&Desired, bool) -> Option<(u16, Value)>;

#[tokio::test(start_paused = true)]
async fn policy_that_cannot_be_read_is_never_reported_as_in_force() {
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
            "system:serviceaccount:moved:process",
            right,
            Some("does not name the process's user system:serviceaccount:moved:process"),
        ),
        ("an administrator", "kubernetes-admin", right, Some("this process is the user \"kubernetes-admin\"")),
    ];
    for (case, user, reply, problem) in cases {
        let counted = Arc::new(Mutex::new(BTreeMap::new()));
        let count = {
            let counted = counted.clone();
            move |policy: &str, in_force| {
                counted.lock().unwrap().insert(policy.to_owned(), in_force);
            }
        };
        let state = watch::Sender::new(Guards::default());
        let (mut guards, client) = (state.subscribe(), server(user, reply));
        let follow = tokio::spawn(follow(client, policies(), state, count));
        let now = guards.wait_for(|guards| *guards != Guards::Unread).await.unwrap().clone();
        let faults = now.faults();
        let names: Vec<String> = policies().of(USER).into_iter().map(|guard| guard.name).collect();
        // One line is enough for a process that no policy is about.
        let expected = match (&now, problem) {
            (_, None) => 0,
            (Guards::NotLimited { .. }, Some(_)) => 1,
            (Guards::Unread | Guards::Checked(_), Some(_)) => names.len(),
        };
        assert_eq!(faults.len(), expected, "{case}: {faults:?}");
        assert!(
            faults.iter().all(|fault| problem.is_some_and(|problem| fault.ends_with(problem))),
            "{case}: {faults:?}"
        );
        let wanted: BTreeMap<String, bool> = names.into_iter().map(|name| (name, problem.is_none())).collect();
        assert_eq!(*counted.lock().unwrap(), wanted, "{case}");
        follow.abort();
    }
}
