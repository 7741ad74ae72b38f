//! The debug pages under `/debug/`: the snapshot, the last decision and the explanation of an object, the last decisions
//! of plugins, the bindings, and the state of each plugin.
//!
//! The pages show objects with all their content. They therefore have their own listener, which is on loopback by
//! default. `kubectl port-forward` reaches it, and the pod network does not.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use paddock_api::Hook;
use paddock_core::binding::{Binding, Bindings};
use paddock_core::question::Caller;
use paddock_plugin_host::PluginReport;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::explain::explanation;
use super::find::find;
use crate::plugins::{PluginStatus, Reports};
use crate::reconcile::Traces;
use crate::record::Recorder;
use crate::world::SharedWorld;

/// The sources of the debug pages.
#[derive(Clone)]
pub struct Debug {
    /// The source of snapshots and of the bindings in force.
    pub world: SharedWorld,
    /// The source of the last decisions.
    pub traces: Traces,
    /// The source of the last decisions of plugins.
    pub decisions: Recorder,
    /// The source of the state of each plugin.
    pub plugins: watch::Receiver<Vec<PluginStatus>>,
    /// The source of the quarantines.
    pub reports: Reports,
}

/// The text of the page `/debug/`.
const INDEX: &str = "\
/debug/seen/KIND/NAMESPACE/NAME     the snapshot and the last reconcile of an object, such as /debug/seen/sandboxes/default/NAME
/debug/seen/KIND/NAME               the same for an object without a namespace, such as /debug/seen/nodes/NAME
/debug/explain/KIND/NAMESPACE/NAME  the same as sentences, for `paddock explain`
/debug/decisions                    the last decisions of plugins; ?hook=, plugin=, kind=, namespace= and name= choose some
/debug/bindings                     the bindings of plugins, in the order in which they are asked
/debug/isolation                    the rules of SandboxPolicies about isolation
/debug/plugins                      the state of each plugin
";

/// The routes of all debug pages, and the list of them at `/debug/`.
pub fn debug(debug: Debug) -> Router {
    Router::new()
        .route("/debug", get(async || INDEX))
        .route("/debug/", get(async || INDEX))
        .route("/debug/seen/{kind}/{namespace}/{name}", get(snapshot))
        .route(
            "/debug/seen/{kind}/{name}",
            get(|state: State<Debug>, Path((kind, name)): Path<(String, String)>| {
                snapshot(state, Path((kind, String::new(), name)))
            }),
        )
        .route("/debug/explain/{kind}/{namespace}/{name}", get(explain))
        .route("/debug/decisions", get(decisions))
        .route(
            "/debug/plugins",
            get(|State(debug): State<Debug>| async move { pretty(&json!(*debug.plugins.borrow())) }),
        )
        .route(
            "/debug/bindings",
            get(|State(debug): State<Debug>| async move {
                let bindings = debug.world.read(|world| world.bindings().clone());
                pretty(&render_bindings(&bindings, &(debug.reports)(debug.world.now())))
            }),
        )
        .route(
            "/debug/isolation",
            get(|State(debug): State<Debug>| async move {
                pretty(&json!(debug.world.read(|world| world.bindings().clone()).isolation()))
            }),
        )
        .with_state(debug)
}

fn pretty(document: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], format!("{document:#}\n")).into_response()
}

async fn snapshot(
    State(debug): State<Debug>,
    Path((word, namespace, name)): Path<(String, String, String)>,
) -> Response {
    let key = match find(&debug.world, &word, &namespace, &name) {
        Ok(key) => key,
        Err(message) => return (StatusCode::NOT_FOUND, message).into_response(),
    };
    let snapshot = debug.world.snapshot(&key, debug.world.now());
    let pending = debug.world.read(|world| world.pending(&key));
    let document = json!({
        "key": key.to_string(),
        "seen": snapshot,
        "pending": pending,
        "last": debug.traces.last(&key).map(|trace| trace.json()),
    });
    pretty(&document)
}

async fn explain(
    State(debug): State<Debug>,
    Path((word, namespace, name)): Path<(String, String, String)>,
) -> Response {
    match find(&debug.world, &word, &namespace, &name) {
        Ok(key) => blocking(move || json!(explanation(&debug.world, &debug.traces, &debug.decisions, &key))).await,
        Err(message) => (StatusCode::NOT_FOUND, message).into_response(),
    }
}

/// The decisions that a request asks for. Each field that is given must be equal.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    hook: Option<Hook>,
    plugin: Option<String>,
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
}

async fn decisions(State(debug): State<Debug>, Query(wanted): Query<Wanted>) -> Response {
    let is = |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|wanted| wanted == value);
    blocking(move || {
        let records = debug.decisions.recent(|decision| {
            let object = &decision.subject.object;
            wanted.hook.is_none_or(|hook| hook == decision.request.question.hook())
                && is(&wanted.plugin, &decision.request.plugin.name)
                && is(&wanted.kind, &object.kind)
                && is(&wanted.namespace, &object.namespace)
                && is(&wanted.name, &object.name)
        });
        json!(records.collect::<Vec<_>>())
    })
    .await
}

/// The removal of secrets parses objects, so it does not run on a thread that serves connections.
async fn blocking(page: impl FnOnce() -> Value + Send + 'static) -> Response {
    match tokio::task::spawn_blocking(page).await {
        Ok(document) => pretty(&document),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// The bindings in the order in which plugins are asked, with the field names of the plugins' configuration files.
fn render_bindings(bindings: &Bindings, reports: &[PluginReport]) -> Value {
    let report = |binding: &Binding| reports.iter().find(|report| report.plugin.plugin == binding.plugin);
    let quarantined = |binding: &Binding, caller: Caller| {
        let quarantines = report(binding).into_iter().flat_map(|report| &report.quarantined);
        let of_hook = quarantines.filter(|q| (q.hook, q.mode, q.caller) == (binding.hook, binding.mode, caller));
        of_hook.map(|q| (q.namespace.clone(), q.until)).collect::<BTreeMap<_, _>>()
    };
    let limits = |binding: &Binding| {
        let limits = report(binding)?.plugin.limits;
        let deadline = format!("{}ms", limits.deadline.as_millis());
        Some(json!({ "memory": limits.memory_bytes, "fuel": limits.fuel, "deadline": deadline }))
    };
    let render = |binding: &Binding| {
        // Settings are JSON. If they are not, the page shows their text.
        let settings: Value =
            serde_json::from_str(&binding.settings).unwrap_or_else(|_| Value::String(binding.settings.clone()));
        json!({
            "hook": binding.hook,
            "plugin": binding.plugin.name,
            "digest": binding.plugin.digest,
            "order": binding.order,
            "namespaceSelector": binding.namespaces,
            "objectSelector": binding.objects,
            "kinds": binding.kinds,
            "settings": settings,
            "limits": limits(binding),
            "failurePolicy": binding.failure_policy,
            "mode": binding.mode,
            "builtIn": binding.built_in,
            "notLoaded": binding.not_loaded,
            "quarantinedUntil": quarantined(binding, Caller::Verified),
            "quarantinedForUnverifiedUntil": quarantined(binding, Caller::Unverified),
        })
    };
    bindings.iter().map(render).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use paddock_api::kind::{Key, Kind};
    use paddock_core::binding::{Mode, Selector};
    use paddock_core::explanation::Explanation;
    use paddock_core::isolation::{HostAccess, IsolationRule};
    use paddock_core::object::Object;
    use paddock_core::plan::{Action, Op, Reason};
    use paddock_core::question::{PluginRef, PluginRequest, form};
    use paddock_core::record::{Asker, ObjectName, Subject};
    use paddock_core::settings::Settings;
    use paddock_core::world::{Observed, World};
    use paddock_plugin_host::{HostConfig, Plugin, QuarantineReport, Usage};

    use super::*;
    use crate::endpoints::probes::tests::get_text;
    use crate::metrics::Metrics;
    use crate::record::RecordConfig;

    fn recorder() -> Recorder {
        Recorder::start(&RecordConfig::default(), 0, &Metrics::new().unwrap()).unwrap()
    }

    fn serving(world: &SharedWorld, reports: Vec<PluginReport>) -> Router {
        serving_with(world, reports, recorder())
    }

    fn serving_with(world: &SharedWorld, reports: Vec<PluginReport>, recorder: Recorder) -> Router {
        let plugins = watch::Sender::new(Vec::new()).subscribe();
        let reports: Reports = Arc::new(move |_| reports.clone());
        debug(Debug { world: world.clone(), traces: Traces::default(), decisions: recorder, plugins, reports })
    }

    fn observe(world: &SharedWorld, kind: Kind, name: &str, spec: Value) -> Key {
        let meta = json!({ "name": name, "namespace": "ns", "uid": name, "resourceVersion": "5" });
        let object = Object::from_json(kind, json!({ "metadata": meta, "spec": spec })).unwrap();
        let key = object.key.clone();
        let _ = world.observe(Observed::Applied(object), Timestamp::now());
        key
    }

    #[tokio::test]
    async fn what_is_seen_and_what_is_pending_is_shown() {
        let world = SharedWorld::new(World::new(Settings::default()));
        let spec = json!({ "podTemplate": { "spec": { "containers": [{ "name": "c", "image": "i" }] } } });
        let key = observe(&world, Kind::Sandbox, "s", spec);
        let action = Action::Delete { uid: "s".into(), resource_version: None, foreground: false };
        world.begin(&[Op { key, reason: Reason::Expired, action }]).unwrap();
        let router = serving(&world, Vec::new());

        let (status, text) = get_text(router.clone(), "/debug/seen/sandbox/ns/s").await;
        let shown: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(status, StatusCode::OK);
        assert_eq!(shown["seen"]["Sandbox"]["sandbox"]["meta"]["uid"], "s");
        assert_eq!(shown["pending"], json!(["Delete under way"]));
        assert_eq!(shown["last"], Value::Null);
        let (status, text) = get_text(router, "/debug/seen/nothing/ns/s").await;
        assert!(status == StatusCode::NOT_FOUND && text.contains("sandboxclaims.agents.x-k8s.io"), "{text}");
    }

    #[tokio::test]
    async fn a_kind_of_two_groups_is_that_of_the_object_that_is_there() {
        let world = SharedWorld::new(World::new(Settings::default()));
        observe(&world, Kind::SeedPool, "seed", json!({ "templateRef": { "name": "t" } }));
        observe(&world, Kind::Pool, "upstream", json!({ "sandboxTemplateRef": { "name": "t" } }));
        for (path, key) in [
            ("SandboxWarmPool/ns/seed", "SeedPool/ns/seed"),
            ("sandboxwarmpools/ns/upstream", "Pool/ns/upstream"),
            ("sandboxwarmpools/ns/neither", "Pool/ns/neither"),
            ("sandboxwarmpools.agents.x-k8s.io/ns/upstream", "SeedPool/ns/upstream"),
        ] {
            let (status, text) = get_text(serving(&world, Vec::new()), &format!("/debug/seen/{path}")).await;
            let shown: Value = serde_json::from_str(&text).unwrap();
            assert_eq!((status, shown["key"].as_str()), (StatusCode::OK, Some(key)), "{path}");
        }
    }

    #[tokio::test]
    async fn object_of_any_kind_that_exists_is_shown() {
        let world = SharedWorld::new(World::new(Settings::default()));
        for kind in Kind::ALL {
            observe(&world, kind, "there", json!({}));
            let places = if kind.namespaced() { vec!["ns/"] } else { vec!["", "ns/"] };
            for place in places {
                for (name, exists) in [("there", true), ("gone", false)] {
                    let path = format!("/debug/seen/{}/{place}{name}", kind.resource());
                    let (status, text) = get_text(serving(&world, Vec::new()), &path).await;
                    let shown: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path}: {text}"));
                    assert_eq!(status, StatusCode::OK, "{path}");
                    assert_eq!(shown["seen"].get("Absent").is_none(), exists, "{path}: {text}");
                    assert_eq!(text.contains("\"uid\": \"there\""), exists, "{path}: {text}");
                }
            }
        }
        let (status, text) = get_text(serving(&world, Vec::new()), "/debug/seen/pods/there").await;
        assert!(status == StatusCode::NOT_FOUND && text.contains("/debug/seen/pods/NAMESPACE/there"), "{text}");
        for path in ["/debug", "/debug/"] {
            let (status, text) = get_text(serving(&world, Vec::new()), path).await;
            assert!(status == StatusCode::OK && text.contains("/debug/bindings"), "{text}");
        }
    }

    #[tokio::test]
    async fn rules_about_isolation_are_shown() {
        let rule = IsolationRule {
            policy: "open".to_owned(),
            namespaces: Selector {
                match_labels: [("team".to_owned(), "red".to_owned())].into(),
                ..Selector::default()
            },
            allow: [HostAccess::HostPath].into_iter().collect(),
            runtime_classes: Some(vec!["gvisor".to_owned()]),
        };
        let world = SharedWorld::new(World::new(Settings::default()));
        let _ = world.set_bindings(Bindings::new(Vec::new()).with_isolation(vec![rule]));
        let (status, text) = get_text(serving(&world, Vec::new()), "/debug/isolation").await;
        let shown: Value = serde_json::from_str(&text).unwrap();
        let selector = json!({ "matchLabels": { "team": "red" } });
        let expected = json!([
            { "policy": "open", "namespaceSelector": selector, "allow": ["hostPath"], "runtimeClasses": ["gvisor"] },
        ]);
        assert_eq!((status, shown), (StatusCode::OK, expected));
    }

    /// The webhook asked about two Pods. The answer repeats a value that is a secret.
    #[tokio::test]
    async fn decisions_and_explanations_are_shown_without_secrets() {
        let recorder = recorder();
        for name in ["one", "two"] {
            let object = json!({"spec": {"containers": [{"env": [{"name": "T", "value": "hunter2-secret"}]}]}});
            let question = json!({
                "operation": "create", "group": "", "version": "v1", "kind": "Sandbox", "namespace": "ns", "name": name,
                "object": object, "namespace-labels": {}, "username": "alice", "groups": [], "generated-code": false,
                "classes": [], "dry-run": false, "now": 0,
            });
            let answer = json!({"verdict": {"deny": "T is hunter2-secret"}, "warnings": []});
            let request = PluginRequest {
                binding: "mine/admission".into(),
                plugin: PluginRef { name: "mine".into(), digest: "sha256:0".into() },
                mode: Mode::Enforce,
                settings: "{}".into(),
                question: form::question(Hook::Admission, question).unwrap(),
            };
            let object = ObjectName {
                group: "agents.x-k8s.io".into(),
                kind: "Sandbox".into(),
                namespace: "ns".into(),
                name: name.into(),
                uid: None,
            };
            let subject = Arc::new(Subject { asker: Asker::Webhook, caller: Caller::Verified, object });
            let result = Ok(form::answer(Hook::Admission, answer).unwrap());
            let took = std::time::Duration::ZERO;
            recorder.decided((Timestamp::UNIX_EPOCH, &subject), &request, &result, (Usage::default(), took));
        }
        let world = SharedWorld::new(World::new(Settings::default()));
        let spec = json!({ "podTemplate": { "spec": { "containers": [{ "name": "c", "image": "i" }] } } });
        observe(&world, Kind::Sandbox, "one", spec);
        let router = serving_with(&world, Vec::new(), recorder);
        for (query, names) in [
            ("", vec!["two", "one"]),
            ("?name=one", vec!["one"]),
            ("?namespace=ns&kind=Sandbox&plugin=mine&hook=admission", vec!["two", "one"]),
            ("?hook=idle", vec![]),
            ("?plugin=other", vec![]),
        ] {
            let (status, text) = get_text(router.clone(), &format!("/debug/decisions{query}")).await;
            let shown: Vec<Value> = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{query}: {text}"));
            let found: Vec<&str> = shown.iter().filter_map(|record| record["object"]["name"].as_str()).collect();
            assert_eq!((status, found), (StatusCode::OK, names), "{query}");
            assert!(!text.contains("hunter2"), "{text}");
        }
        for (query, part) in [("?hook=supper", "admission"), ("?size=1", "expected one of")] {
            let (status, text) = get_text(router.clone(), &format!("/debug/decisions{query}")).await;
            assert!(status == StatusCode::BAD_REQUEST && text.contains(part), "{query}: {text}");
        }
        let (status, text) = get_text(router.clone(), "/debug/explain/sandbox/ns/one").await;
        let explanation: Explanation = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (status, explanation.object.as_str(), explanation.uid.as_deref()),
            (StatusCode::OK, "Sandbox ns/one", Some("one"))
        );
        for part in ["It has no pod.", "Only the leader decides", "May alice create", "It denied: T is [redacted-1]"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("hunter2"), "{text}");
        let (status, text) = get_text(router, "/debug/explain/nothing/ns/one").await;
        assert!(status == StatusCode::NOT_FOUND && text.contains("is not a kind"), "{text}");
    }

    #[tokio::test]
    async fn bindings_are_shown_in_their_order_with_their_quarantine() {
        let binding = |plugin: &str, order: i32| {
            let plugin = PluginRef { name: plugin.to_owned(), digest: format!("sha256:{plugin}") };
            Binding {
                order,
                namespaces: Selector {
                    match_labels: [("team".to_owned(), "research".to_owned())].into(),
                    ..Selector::default()
                },
                settings: r#"{"desired":9}"#.to_owned(),
                built_in: order == Binding::BUILT_IN_ORDER,
                ..Binding::new(plugin, Hook::PoolSize)
            }
        };
        let bindings =
            [binding("by-demand", Binding::BUILT_IN_ORDER), binding("b", 0), binding("a", 0), binding("z", -1)];
        let world = SharedWorld::new(World::new(Settings::default()));
        let _ = world.set_bindings(Bindings::new(bindings.to_vec()));
        let plugin = Plugin {
            plugin: bindings[1].plugin.clone(),
            hooks: vec![Hook::Idle, Hook::PoolSize],
            wit_version: "0.1.0".to_owned(),
            limits: HostConfig::default().limits,
        };
        let until = |second| Timestamp::from_second(second).unwrap();
        let quarantine = |hook, mode, until| {
            let (caller, namespace) = (Caller::Verified, "agents".to_owned());
            QuarantineReport { hook, mode, caller, namespace, until }
        };
        let unverified = quarantine(Hook::PoolSize, Mode::Enforce, until(40));
        let quarantined = vec![
            quarantine(Hook::Idle, Mode::Enforce, until(10)),
            quarantine(Hook::PoolSize, Mode::Enforce, until(20)),
            quarantine(Hook::PoolSize, Mode::Shadow, until(30)),
            QuarantineReport { caller: Caller::Unverified, ..unverified },
        ];
        let router = serving(&world, vec![PluginReport { plugin, quarantined }]);

        let (status, text) = get_text(router, "/debug/bindings").await;
        let shown: Vec<Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(status, StatusCode::OK);
        let plugins: Vec<&str> = shown.iter().filter_map(|b| b["plugin"].as_str()).collect();
        assert_eq!(plugins, ["z", "a", "b", "by-demand"], "by order, then name");
        let expected = json!({
            "hook": "pool-size", "plugin": "b", "digest": "sha256:b", "order": 0,
            "namespaceSelector": { "matchLabels": { "team": "research" } }, "objectSelector": {},
            "kinds": [], "settings": { "desired": 9 },
            "limits": { "memory": 64 << 20, "fuel": 200_000_000, "deadline": "500ms" },
            "failurePolicy": "Fallback", "mode": "Enforce", "builtIn": false, "notLoaded": null,
            "quarantinedUntil": { "agents": "1970-01-01T00:00:20Z" },
            "quarantinedForUnverifiedUntil": { "agents": "1970-01-01T00:00:40Z" },
        });
        assert_eq!(shown[2], expected);
        assert_eq!((&shown[1]["quarantinedUntil"], &shown[3]["builtIn"]), (&json!({}), &json!(true)));
    }
}
