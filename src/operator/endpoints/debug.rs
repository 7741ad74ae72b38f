//! The debug pages under `/debug/`: the snapshot and the last decision of an object, the bindings, and the state of
//! each plugin.
//!
//! The pages show objects with all their content. They therefore have their own listener, which is on loopback by
//! default. `kubectl port-forward` reaches it, and the pod network does not.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use paddock_api::kind::{Key, Kind};
use paddock_core::binding::{Binding, Bindings};
use paddock_plugin_host::PluginReport;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::plugins::{PluginStatus, Reports};
use crate::reconcile::Traces;
use crate::world::SharedWorld;

/// The sources of the debug pages.
#[derive(Clone)]
pub struct Debug {
    /// The source of snapshots and of the bindings in force.
    pub world: SharedWorld,
    /// The source of the last decisions.
    pub traces: Traces,
    /// The source of the state of each plugin.
    pub plugins: watch::Receiver<Vec<PluginStatus>>,
    /// The source of the quarantines.
    pub reports: Reports,
}

/// The text of the page `/debug/`.
const INDEX: &str = "\
/debug/seen/KIND/NAMESPACE/NAME  the snapshot and the last reconcile of an object, such as /debug/seen/sandboxes/default/NAME
/debug/seen/KIND/NAME            the same for an object without a namespace, such as /debug/seen/nodes/NAME
/debug/bindings                  the bindings of plugins, in the order in which they are asked
/debug/plugins                   the state of each plugin
";

/// The routes `/debug/seen/KIND/NAMESPACE/NAME`, `/debug/seen/KIND/NAME`, `/debug/plugins` and `/debug/bindings`, and
/// the list of them at `/debug/`.
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
        .with_state(debug)
}

fn pretty(document: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], format!("{document:#}\n")).into_response()
}

async fn snapshot(
    State(debug): State<Debug>,
    Path((word, namespace, name)): Path<(String, String, String)>,
) -> Response {
    let key = |kind: Kind| Key::new(kind, if kind.namespaced() { namespace.as_str() } else { "" }, name.as_str());
    let keys: Vec<Key> = expected_kinds(&word).into_iter().map(key).collect();
    let there = |key: &&Key| debug.world.read(|world| world.get(key).is_some());
    let Some(key) = keys.iter().find(there).or(keys.first()) else {
        let kinds: Vec<String> = Kind::ALL.into_iter().map(Kind::resource).collect();
        let text = format!("{word:?} is not a kind; the kind must be one of {}\n", kinds.join(", "));
        return (StatusCode::NOT_FOUND, text).into_response();
    };
    if key.kind.namespaced() && namespace.is_empty() {
        let text = format!("{word} are in namespaces: the path is /debug/seen/{word}/NAMESPACE/{name}\n");
        return (StatusCode::NOT_FOUND, text).into_response();
    }
    let snapshot = debug.world.snapshot(key, debug.world.now());
    let pending = debug.world.read(|world| world.pending(key));
    let document = json!({
        "key": key.to_string(),
        "seen": snapshot,
        "pending": pending,
        "last": debug.traces.last(key).map(|trace| trace.json()),
    });
    pretty(&document)
}

/// The bindings in the order in which plugins are asked, with the field names of the plugins' configuration files.
fn render_bindings(bindings: &Bindings, reports: &[PluginReport]) -> Value {
    let report = |binding: &Binding| reports.iter().find(|report| report.plugin.plugin == binding.plugin);
    let quarantined = |binding: &Binding| {
        let quarantines = report(binding).into_iter().flat_map(|report| &report.quarantined);
        let of_hook = quarantines.filter(|quarantine| quarantine.hook == binding.hook);
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
            "builtIn": binding.built_in,
            "notLoaded": binding.not_loaded,
            "quarantinedUntil": quarantined(binding),
        })
    };
    bindings.iter().map(render).collect()
}

/// The kinds that a user's word may name, the most likely first. `plural.group` and our own names (`SeedPool`) name one
/// kind. A kind's name or plural may name one kind in each group. Case is ignored.
fn expected_kinds(word: &str) -> Vec<Kind> {
    let is = |name: &str| name.eq_ignore_ascii_case(word);
    if let Some(kind) = Kind::ALL.into_iter().find(|kind| is(&kind.resource()) || is(&format!("{kind:?}"))) {
        return vec![kind];
    }
    Kind::ALL.into_iter().filter(|kind| is(kind.name()) || is(kind.plural())).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use paddock_core::binding::{FailurePolicy, Selector};
    use paddock_core::object::Object;
    use paddock_core::plan::{Action, Op, Reason};
    use paddock_core::question::{Hook, PluginRef};
    use paddock_core::settings::Settings;
    use paddock_core::world::{Observed, World};
    use paddock_plugin_host::{HostConfig, Plugin, QuarantineReport};

    use super::*;
    use crate::endpoints::probes::tests::get_text;

    fn serving(world: &SharedWorld, reports: Vec<PluginReport>) -> Router {
        let plugins = watch::Sender::new(Vec::new()).subscribe();
        let reports: Reports = Arc::new(move |_| reports.clone());
        debug(Debug { world: world.clone(), traces: Traces::default(), plugins, reports })
    }

    fn observe(world: &SharedWorld, kind: Kind, name: &str, spec: Value) -> Key {
        let meta = json!({ "name": name, "namespace": "ns", "uid": name, "resourceVersion": "5" });
        let object = Object::from_json(kind, json!({ "metadata": meta, "spec": spec })).unwrap();
        let key = object.key.clone();
        let _ = world.observe(Observed::Applied(object), Timestamp::now());
        key
    }

    #[test]
    fn a_kind_is_known_by_whatever_a_user_would_type() {
        for (word, kinds) in [
            ("SandboxWarmPool", vec![Kind::Pool, Kind::SeedPool]),
            ("sandboxwarmpools", vec![Kind::Pool, Kind::SeedPool]),
            ("sandboxclaim", vec![Kind::Claim, Kind::SeedClaim]),
            ("sandboxwarmpools.agents.x-k8s.io", vec![Kind::SeedPool]),
            ("sandboxwarmpools.extensions.agents.x-k8s.io", vec![Kind::Pool]),
            ("Sandboxes.agents.x-k8s.io", vec![Kind::Sandbox]),
            ("sandbox", vec![Kind::Sandbox]),
            ("seedpool", vec![Kind::SeedPool]),
            ("Pool", vec![Kind::Pool]),
            ("pods", vec![Kind::Pod]),
            ("PersistentVolumeClaim", vec![Kind::VolumeClaim]),
            ("sandboxes.extensions.agents.x-k8s.io", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(expected_kinds(word), kinds, "{word}");
        }
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
    async fn bindings_are_shown_in_their_order_with_their_quarantine() {
        let binding = |plugin: &str, order: i32| Binding {
            name: format!("{plugin}/pool-size"),
            hook: Hook::PoolSize,
            plugin: PluginRef { name: plugin.to_owned(), digest: format!("sha256:{plugin}") },
            order,
            namespaces: Selector {
                match_labels: [("team".to_owned(), "research".to_owned())].into(),
                ..Selector::default()
            },
            objects: Selector::default(),
            kinds: vec![],
            settings: r#"{"desired":9}"#.to_owned(),
            failure_policy: FailurePolicy::Fallback,
            built_in: order == Binding::BUILT_IN_ORDER,
            not_loaded: None,
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
        let quarantine = |hook, until| QuarantineReport { hook, namespace: "agents".to_owned(), until };
        let quarantined = vec![quarantine(Hook::Idle, until(10)), quarantine(Hook::PoolSize, until(20))];
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
            "failurePolicy": "Fallback", "builtIn": false, "notLoaded": null,
            "quarantinedUntil": { "agents": "1970-01-01T00:00:20Z" },
        });
        assert_eq!(shown[2], expected);
        assert_eq!((&shown[1]["quarantinedUntil"], &shown[3]["builtIn"]), (&json!({}), &json!(true)));
    }
}
