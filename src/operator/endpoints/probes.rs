//! What the probes and a scrape of the operator report.

use axum::Router;
use paddock_kube::clock::Clock;
use paddock_kube::endpoints;
use paddock_kube::guard::Guards;
use paddock_kube::leader::Obstacle;
use tokio::sync::watch;

use crate::limiter::WriteLimiter;
use crate::metrics::Metrics;
use crate::plugins::objects::feed::Outages;
use crate::plugins::{PluginState, PluginStatus};
use crate::queue::Queue;
use crate::sync::{UnknownKinds, UnsyncedKinds};
use crate::webhook::RegisteredEntry;

/// The facts that readiness depends on.
#[derive(Clone)]
pub struct Readiness {
    /// The kinds that are not listed yet.
    pub unsynced: watch::Receiver<UnsyncedKinds>,
    /// The kinds whose watch has failed for a while, for `/readyz?verbose`. The webhook goes on without them.
    pub unknown: watch::Receiver<UnknownKinds>,
    /// Whether the webhook answers. True from the start if there is no webhook.
    pub webhook: watch::Receiver<bool>,
    /// The names of the plugins that readiness waits for after the start.
    pub plugins_awaited: watch::Receiver<Vec<String>>,
    /// The state of every plugin, for `/readyz?verbose`.
    pub plugins: watch::Receiver<Vec<PluginStatus>>,
    /// The obstacle that keeps this replica from leading, for `/readyz?verbose`.
    pub obstacle: watch::Receiver<Option<Obstacle>>,
    /// The state of each webhook entry, for `/readyz?verbose`.
    pub registered: watch::Receiver<Vec<RegisteredEntry>>,
    /// The admission policies of the operator, for `/readyz?verbose`.
    pub guards: watch::Receiver<Guards>,
    /// The policies that judge Pods in the place of the webhook, for `/readyz?verbose`. Not read without
    /// `--isolation-policies`.
    pub isolation: watch::Receiver<Guards>,
    /// The reason why idle plugins get no CPU use, for `/readyz?verbose`.
    pub cpu_use: watch::Receiver<Option<String>>,
    /// The reason why idle plugins do not get the number of open connections, for `/readyz?verbose`.
    pub connections: watch::Receiver<Option<String>>,
    /// What the CustomResourceDefinitions lack, for `/readyz?verbose`.
    pub definitions: watch::Receiver<Option<String>>,
    /// The kinds of plugins and policies whose watch has failed for a while, for `/readyz?verbose`. The replica uses the
    /// objects that it knows.
    pub outages: watch::Receiver<Outages>,
    /// The clock, whose correction `/readyz?verbose` shows.
    pub clock: Clock,
}

impl Readiness {
    /// The reasons why the operator is not ready. Empty if it is ready.
    #[must_use]
    pub fn waiting_for(&self) -> Vec<String> {
        let mut waiting: Vec<String> =
            self.unsynced.borrow().iter().map(|kind| format!("list of {}", kind.resource())).collect();
        if !*self.webhook.borrow() {
            waiting.push("webhook".to_owned());
        }
        waiting.extend(self.plugins_awaited.borrow().iter().map(|name| format!("plugin {name}")));
        waiting
    }

    /// The faults that do not hold readiness back, for people.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let plugins = self.plugins.borrow();
        let fault = |plugin: &PluginStatus| {
            let state = match plugin.state {
                PluginState::Loaded | PluginState::Ignored => return None,
                PluginState::FormerVersion => "its last good version is in use",
                PluginState::NotLoaded => "it is not loaded, and fails by its failurePolicy",
            };
            Some(format!("plugin {}: {state}: {}", plugin.name, plugin.error.as_deref().unwrap_or_default()))
        };
        let failing = self.unknown.borrow().clone().into_iter().map(|kind| {
            format!("watch of {}: it has failed for a minute, so this replica makes no decisions", kind.resource())
        });
        let outages = self.outages.borrow().clone();
        let outdated = outages.into_iter().map(|(kind, error)| {
            format!(
                "watch of {kind}: it has failed for a minute, so this replica uses the objects that it knows: {error}"
            )
        });
        let obstacle = self.obstacle.borrow().as_ref().map(|obstacle| format!("leadership: {obstacle}"));
        let registered = self.registered.borrow();
        let entries = registered.iter().filter_map(RegisteredEntry::fault);
        let without_effect = |fault| format!("{fault}, so --isolation-policies has no effect");
        let isolation = self.isolation.borrow().faults().into_iter().map(without_effect);
        let guards = self.guards.borrow().faults().into_iter().chain(isolation);
        let faults = obstacle.into_iter().chain(self.clock.fault()).chain(failing).chain(outdated);
        let faults = faults.chain(entries).chain(guards).chain(self.definitions.borrow().clone());
        let faults = faults.chain(self.cpu_use.borrow().clone()).chain(self.connections.borrow().clone());
        faults.chain(plugins.iter().filter_map(fault)).collect()
    }
}

/// The sources of `/metrics`.
#[derive(Clone)]
pub struct Scrape {
    /// All metric families.
    pub metrics: Metrics,
    /// The queue. Each scrape reads its depth.
    pub queue: Queue,
    /// The write limiter. Each scrape reads its load.
    pub limiter: WriteLimiter,
    /// The clock. Each scrape reads its correction.
    pub clock: Clock,
}

impl Scrape {
    /// Copies the gauges of the queue and of the limiter into the metrics.
    fn sample(&self) {
        for (lane, ready, running) in self.queue.depth() {
            self.metrics.queue_depth(lane.as_str(), ready, running);
        }
        let (limit, used) = self.limiter.load();
        self.metrics.write_slots(limit, used);
        self.metrics.clock_skew(self.clock.skew());
    }
}

/// The routes `/healthz` and `/readyz`.
pub fn probes(readiness: Readiness) -> Router {
    let faults = readiness.clone();
    endpoints::probes(move || readiness.waiting_for(), move || faults.faults())
}

/// The route `/metrics`.
pub fn metrics(scrape: Scrape) -> Router {
    endpoints::metrics(move || {
        scrape.sample();
        scrape.metrics.text()
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::{Request, StatusCode};
    use paddock_api::kind::Kind;
    use paddock_core::admission::{Entry, Phase};
    use paddock_kube::guard::{Guard, GuardState};
    use tower::ServiceExt;

    use super::*;
    use crate::queue::Workers;
    use crate::webhook::EntryState;

    pub(crate) async fn get_text(router: Router, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_says_what_it_waits_for() {
        let unsynced = watch::Sender::new(UnsyncedKinds::from([Kind::Pod]));
        let unknown = watch::Sender::new(UnknownKinds::new());
        let webhook = watch::Sender::new(false);
        let plugins_awaited = watch::Sender::new(vec!["mine".to_owned()]);
        let plugin = PluginStatus {
            name: "mine".to_owned(),
            state: PluginState::NotLoaded,
            path: None,
            digest: None,
            wit_version: None,
            hooks: vec![],
            error: Some("mine.wasm: the file is not complete".to_owned()),
        };
        let plugins = watch::Sender::new(vec![plugin]);
        let (obstacle, registered) = (watch::Sender::new(None), watch::Sender::new(Vec::new()));
        let (guards, isolation) = (watch::Sender::new(Guards::default()), watch::Sender::new(Guards::default()));
        let (cpu_use, outages) = (watch::Sender::new(None), watch::Sender::new(Outages::new()));
        let (connections, definitions) = (watch::Sender::new(None), watch::Sender::new(None));
        let router = || {
            probes(Readiness {
                unsynced: unsynced.subscribe(),
                unknown: unknown.subscribe(),
                webhook: webhook.subscribe(),
                plugins_awaited: plugins_awaited.subscribe(),
                plugins: plugins.subscribe(),
                obstacle: obstacle.subscribe(),
                registered: registered.subscribe(),
                guards: guards.subscribe(),
                isolation: isolation.subscribe(),
                cpu_use: cpu_use.subscribe(),
                connections: connections.subscribe(),
                definitions: definitions.subscribe(),
                outages: outages.subscribe(),
                clock: Clock::default(),
            })
        };
        let (status, text) = get_text(router(), "/readyz").await;
        let waiting = "waiting for: list of pods, webhook, plugin mine\n";
        assert_eq!((status, text.as_str()), (StatusCode::SERVICE_UNAVAILABLE, waiting));
        plugins_awaited.send_replace(vec![]);
        assert_eq!(get_text(router(), "/healthz").await.0, StatusCode::OK);
        unsynced.send_replace(UnsyncedKinds::new());
        webhook.send_replace(true);
        assert_eq!(get_text(router(), "/readyz").await, (StatusCode::OK, "ok".to_owned()));
        let fault =
            "[-]plugin mine: it is not loaded, and fails by its failurePolicy: mine.wasm: the file is not complete";
        assert_eq!(get_text(router(), "/readyz?verbose").await, (StatusCode::OK, format!("{fault}\nok\n")));
        unknown.send_replace(UnknownKinds::from([Kind::Claim]));
        let text = get_text(router(), "/readyz?verbose").await.1;
        let failing =
            "[-]watch of sandboxclaims.extensions.agents.x-k8s.io: it has failed for a minute, so this replica";
        assert!(text.starts_with(failing) && text.ends_with("\nok\n"), "{text}");
        unknown.send_replace(UnknownKinds::new());
        obstacle.send_replace(Some(Obstacle::HeldElsewhere {
            namespace: "sandbox-old".to_owned(),
            lease: "paddock-operator".to_owned(),
            holder: "laptop\nok".to_owned(),
        }));
        let (status, text) = get_text(router(), "/readyz?verbose").await;
        let held = "[-]leadership: \"laptop\\nok\" holds Lease paddock-operator in namespace sandbox-old; ";
        assert!(status == StatusCode::OK && text.starts_with(held), "a replica that does not lead is ready: {text}");
        obstacle.send_replace(None);
        let entry = |entry, state| RegisteredEntry { entry, phase: Phase::Validate, state };
        registered.send_replace(vec![
            entry(Entry::MarkedPods, EntryState::Differs(vec!["failurePolicy".to_owned(), "rules".to_owned()])),
            entry(Entry::OwnKinds, EntryState::Registered),
        ]);
        let (status, text) = get_text(router(), "/readyz?verbose").await;
        let drifted = "[-]webhook entry generated-code.pods.paddock.dev of ValidatingWebhookConfiguration paddock-webhook \
                       differs from this version's in failurePolicy, rules\n";
        assert_eq!((status, text), (StatusCode::OK, format!("{drifted}{fault}\nok\n")));
        registered.send_replace(Vec::new());
        let guard = |policy: &str, state| Guard { policy: policy.to_owned(), state };
        guards.send_replace(Guards::Checked(vec![
            guard("in-force", GuardState::InForce),
            guard("paddock-leases", GuardState::NoBinding),
        ]));
        let (status, text) = get_text(router(), "/readyz?verbose").await;
        let absent =
            "[-]ValidatingAdmissionPolicy paddock-leases has no ValidatingAdmissionPolicyBinding of its name\n";
        assert_eq!((status, text), (StatusCode::OK, format!("{absent}{fault}\nok\n")));
        guards.send_replace(Guards::default());
        isolation.send_replace(Guards::Checked(vec![guard("paddock-isolation-pods", GuardState::NoPolicy)]));
        let (status, text) = get_text(router(), "/readyz?verbose").await;
        let absent = "[-]ValidatingAdmissionPolicy paddock-isolation-pods does not exist, so --isolation-policies has no \
                      effect\n";
        assert_eq!((status, text), (StatusCode::OK, format!("{absent}{fault}\nok\n")));
        isolation.send_replace(Guards::default());
        cpu_use.send_replace(Some("CPU use: idle plugins do not get it".to_owned()));
        let (status, text) = get_text(router(), "/readyz?verbose").await;
        let without = "[-]CPU use: idle plugins do not get it\n";
        assert_eq!((status, text), (StatusCode::OK, format!("{without}{fault}\nok\n")));
        cpu_use.send_replace(None);
        connections.send_replace(Some("open connections: idle plugins do not get their number".to_owned()));
        let (status, text) = get_text(router(), "/readyz?verbose").await;
        let without = "[-]open connections: idle plugins do not get their number\n";
        assert_eq!((status, text), (StatusCode::OK, format!("{without}{fault}\nok\n")));
        connections.send_replace(None);
        definitions.send_replace(Some("CustomResourceDefinitions: a field is missing".to_owned()));
        let (status, text) = get_text(router(), "/readyz?verbose").await;
        let lacking = "[-]CustomResourceDefinitions: a field is missing\n";
        assert_eq!((status, text), (StatusCode::OK, format!("{lacking}{fault}\nok\n")));
        definitions.send_replace(None);
        outages.send_replace(Outages::from([("SandboxPolicy", "sandboxpolicies cannot be watched: 500".to_owned())]));
        let (status, text) = get_text(router(), "/readyz?verbose").await;
        let outdated = "[-]watch of SandboxPolicy: it has failed for a minute, so this replica uses the objects that it knows: \
                        sandboxpolicies cannot be watched: 500\n";
        assert_eq!((status, text), (StatusCode::OK, format!("{outdated}{fault}\nok\n")));
    }

    #[tokio::test]
    async fn metrics_are_in_the_text_format() {
        let (metrics_, queue) = (Metrics::new().unwrap(), Queue::new(Workers::default(), 1));
        let router = metrics(Scrape {
            metrics: metrics_,
            queue,
            limiter: WriteLimiter::new(None, None),
            clock: Clock::default(),
        });
        let (status, text) = get_text(router, "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.contains("# TYPE paddock_write_slots gauge\n"), "{text}");
        let build = "agent_sandbox_build_info{build_date=\"unknown\",compiler=\"rustc\",git_commit=\"unknown\",\
                     git_version=\"v";
        assert!(
            text.contains(build) && text.contains(",go_version=\"\",implementation=\"paddock\",platform=\""),
            "{text}"
        );
    }
}
