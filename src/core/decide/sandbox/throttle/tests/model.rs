//! A Sandbox with its pod, an API server and a node, as far as the throttle depends on them.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use paddock_api::kind::{Key, Kind};
use serde_json::{Value, json};

use crate::binding::{Binding, Bindings};
use crate::decide::{decide, questions};
use crate::object::Object;
use crate::plan::{Action, Op, Outcome, Plan};
use crate::question::{Answer, Hook, IdleAnswer, IdleTier, PluginRef, PluginReply, Question};
use crate::settings::Settings;
use crate::world::{Observed, World};

const CONTAINERS: [&str; 2] = ["agent", "helper"];
pub(super) const FORMER: [(&str, &str); 2] = [("500m", "1500m"), ("20m", "100m")];
pub(super) const LOW: (&str, &str) = ("5m", "10m");

/// The resizes that the API server refuses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Refuses {
    Nothing,
    /// Those that raise a request: a quota of requests.
    Requests,
    /// Those that raise a limit: a quota of limits.
    Limits,
    /// Those with a limit of more than sixty times the request: a LimitRange.
    Ratios,
    /// Every one: a missing right.
    Everything,
}

/// A Sandbox with its pod, the API server and the node.
pub(super) struct Model {
    pub(super) world: World,
    pub(super) sandbox: Value,
    pub(super) pod: Value,
    /// The Service of the Sandbox, and its endpoints.
    others: BTreeMap<Key, Value>,
    pub(super) now: Timestamp,
    version: u64,
    /// What the idle plugin answers. It asks for a throttle even if that is not possible.
    pub(super) answer: Option<IdleTier>,
    /// The CPU that the node can give to requests of the pod, in thousandths of a core.
    pub(super) room: u32,
    /// The resizes that the API server refuses.
    pub(super) refuses: Refuses,
    /// The CPU limit of throttled containers, in thousandths of a core.
    pub(super) flag: Option<u32>,
    /// Whether the reply to the next resize is lost, and the request reaches the API server later.
    pub(super) delays: bool,
    /// A resize that is under way, with the version of the pod that it is for, and the time of its request.
    late: Option<(String, Value, Timestamp)>,
    /// Whether the API server drops the record, because its definition of Sandboxes is an older one.
    pub(super) prunes: bool,
    /// The CPU that the pod has when nobody throttles it.
    pub(super) wanted: [(String, String); 2],
}

pub(super) fn binding() -> Binding {
    let plugin = PluginRef { name: "test".to_owned(), digest: "sha256:0".to_owned() };
    Binding { order: Binding::BUILT_IN_ORDER, built_in: true, ..Binding::new(plugin, Hook::Idle) }
}

pub(super) fn pair(cpu: (&str, &str)) -> (String, String) {
    (cpu.0.to_owned(), cpu.1.to_owned())
}

fn millicores(quantity: &Value) -> u32 {
    quantity.as_str().and_then(|text| text.strip_suffix('m')?.parse().ok()).expect("thousandths of a core")
}

impl Model {
    pub(super) fn new() -> Self {
        let now: Timestamp = "2030-01-01T12:00:00Z".parse().unwrap();
        let container = |(name, (request, limit)): (&str, (&str, &str))| {
            let resources = json!({
                "requests": { "cpu": request, "memory": "64Mi" }, "limits": { "cpu": limit, "memory": "64Mi" },
            });
            json!({ "name": name, "image": "i", "resources": resources })
        };
        let containers: Vec<Value> = CONTAINERS.into_iter().zip(FORMER).map(container).collect();
        let owner = json!({
            "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "name": "a", "uid": "u", "controller": true,
        });
        let ready = json!({ "type": "Ready", "status": "True", "lastTransitionTime": "2030-01-01T11:00:00Z" });
        let mut model = Self {
            world: World::new(Settings::default()),
            sandbox: json!({
                "metadata": { "namespace": "ns", "name": "a", "uid": "u", "generation": 1, "creationTimestamp": "2030-01-01T11:00:00Z" },
                "spec": {
                    "operatingMode": "Running", "replicas": 1, "idleTimeout": "10m", "shutdownPolicy": "Retain",
                    "podTemplate": { "spec": { "containers": [{ "name": "agent", "image": "i" }] } },
                },
                "status": { "mode": "Running" },
            }),
            pod: json!({
                "metadata": {
                    "namespace": "ns", "name": "a", "uid": "pod", "generation": 1,
                    "creationTimestamp": "2030-01-01T11:00:00Z", "ownerReferences": [owner],
                },
                "spec": { "nodeName": "n", "containers": containers },
                "status": { "phase": "Running", "qosClass": "Burstable", "podIPs": [{ "ip": "10.0.0.1" }], "conditions": [ready] },
            }),
            others: BTreeMap::new(),
            now,
            version: 1,
            answer: None,
            room: 10_000,
            refuses: Refuses::Nothing,
            flag: Some(10),
            delays: false,
            late: None,
            prunes: false,
            wanted: FORMER.map(pair),
        };
        model.restart();
        model.node();
        model.settle();
        model
    }

    /// A new operator process.
    pub(super) fn restart(&mut self) {
        let settings = Settings { throttle_cpu: self.flag, ..Settings::default() };
        self.world = World::new(settings);
        let _ = self.world.set_bindings(Bindings::new(vec![binding()]));
        let namespace = json!({ "metadata": { "name": "ns", "uid": "n", "resourceVersion": "1" } });
        self.observe(Kind::Namespace, namespace);
        self.delivered();
    }

    pub(super) fn observe(&mut self, kind: Kind, object: Value) {
        let object = Object::from_json(kind, object).expect("an object");
        let _ = self.world.observe(Observed::Applied(object), self.now);
    }

    /// The watch delivers both objects.
    fn delivered(&mut self) {
        let (sandbox, pod) = (self.sandbox.clone(), self.pod.clone());
        self.observe(Kind::Sandbox, sandbox);
        self.observe(Kind::Pod, pod);
        for (key, object) in self.others.clone() {
            self.observe(key.kind, object);
        }
    }

    /// The pod was deleted.
    pub(super) fn pod_is_gone(&mut self) {
        let pod = Object::from_json(Kind::Pod, self.pod.clone()).expect("an object");
        let _ = self.world.observe(Observed::Deleted(pod), self.now);
    }

    /// Stores both objects under new versions, and lets the watch deliver them.
    pub(super) fn watched(&mut self) {
        for object in [&mut self.sandbox, &mut self.pod] {
            self.version += 1;
            object["metadata"]["resourceVersion"] = self.version.to_string().into();
        }
        self.delivered();
    }

    pub(super) fn plan(&self) -> Plan {
        let snapshot = self.world.snapshot(&Key::new(Kind::Sandbox, "ns", "a"), self.now);
        let asked = questions(&snapshot, &[]);
        let replies: Vec<PluginReply> = asked
            .into_iter()
            .map(|request| {
                let Question::Idle(question) = &request.question else { panic!("no other hook is bound") };
                let action = self.answer.filter(|tier| *tier == IdleTier::Throttle || question.tiers.contains(tier));
                let answer =
                    IdleAnswer { action, next_check: None, reason: "as the test says".to_owned(), state: None };
                PluginReply { request, result: Ok(Answer::Idle(answer)) }
            })
            .collect();
        decide(&snapshot, &replies)
    }

    /// Reconciles, and crashes after so many writes.
    pub(super) fn reconcile(&mut self, most: usize) -> Plan {
        let plan = self.plan();
        let mut left = most;
        for step in &plan.steps {
            let Ok(step) = self.world.begin(step) else { return plan };
            for op in &step {
                if left == 0 {
                    self.restart();
                    return plan;
                }
                left -= 1;
                if !self.send(op) {
                    return plan;
                }
            }
        }
        self.check_record();
        plan
    }

    /// Carries out one write. Returns whether it was stored.
    pub(super) fn send(&mut self, op: &Op) -> bool {
        let outcome = match &op.action {
            Action::Patch { body, .. } if op.key.kind == Kind::Sandbox => {
                json_patch::merge(&mut self.sandbox, body);
                if let (true, Some(status)) = (self.prunes, self.sandbox["status"].as_object_mut()) {
                    status.remove("throttle");
                }
                Ok(Kind::Sandbox)
            }
            Action::Patch { body, .. } if op.key.kind == Kind::Pod => {
                json_patch::merge(&mut self.pod, body);
                Ok(Kind::Pod)
            }
            Action::Resize { body, resource_version, .. } if self.delays => {
                self.delays = false;
                self.late = Some((resource_version.clone(), body.clone(), self.now));
                let _ = self.world.finish(op, &Outcome::Unknown, self.now);
                return false;
            }
            Action::Resize { body, .. } => self.resize(body).map(|()| Kind::Pod),
            Action::Create { body } => {
                let mut body = body.clone();
                body["metadata"]["uid"] = op.key.name.to_string().into();
                self.others.insert(op.key.clone(), body);
                Ok(op.key.kind)
            }
            Action::Patch { body, .. } | Action::Adopt { body, .. } => {
                json_patch::merge(self.others.get_mut(&op.key).expect("an object"), body);
                Ok(op.key.kind)
            }
            // The deletion of the pod is not part of the model.
            Action::Deliver { .. } | Action::Delete { .. } => return true,
        };
        let (outcome, stored) = match outcome {
            Ok(kind) => {
                self.version += 1;
                let other = self.others.get_mut(&op.key);
                let own = if kind == Kind::Pod { &mut self.pod } else { &mut self.sandbox };
                let object = other.unwrap_or(own);
                object["metadata"]["resourceVersion"] = self.version.to_string().into();
                let object = Object::from_json(kind, object.clone()).expect("an object");
                (Outcome::Stored(Box::new(object)), true)
            }
            Err(message) => (Outcome::Rejected { status: 403, message, by_policy: false }, false),
        };
        let _ = self.world.finish(op, &outcome, self.now);
        stored
    }

    fn resize(&mut self, body: &Value) -> Result<(), String> {
        let before = self.pod.clone();
        let changes = body["spec"]["containers"].as_array().expect("containers");
        let containers = self.pod["spec"]["containers"].as_array_mut().expect("containers");
        for change in changes {
            let container =
                containers.iter_mut().find(|c| c["name"] == change["name"]).expect("a container of the pod");
            let request = |c: &Value| millicores(&c["resources"]["requests"]["cpu"]);
            let limit = |c: &Value| millicores(&c["resources"]["limits"]["cpu"]);
            let raised = (request(change) > request(container), limit(change) > limit(container));
            json_patch::merge(container, change);
            assert_ne!(container["resources"]["requests"], container["resources"]["limits"], "the QoS class changes");
            assert!(request(container) <= limit(container), "an invalid container: {container}");
            let refused = match self.refuses {
                Refuses::Nothing => false,
                Refuses::Requests => raised.0,
                Refuses::Limits => raised.1,
                Refuses::Ratios => limit(container) > 60 * request(container),
                Refuses::Everything => true,
            };
            if refused {
                self.pod = before;
                return Err("exceeded quota".to_owned());
            }
        }
        self.spec_changed();
        Ok(())
    }

    fn spec_changed(&mut self) {
        let generation = self.pod["metadata"]["generation"].as_i64().expect("a generation");
        self.pod["metadata"]["generation"] = (generation + 1).into();
    }

    /// A resize whose reply was lost reaches the API server, which ends a request after 34 s.
    pub(super) fn late_arrives(&mut self) {
        let Some((version, body, sent)) = self.late.take() else { return };
        let is_current = self.pod["metadata"]["resourceVersion"] == version.as_str();
        if is_current && self.now.duration_since(sent) <= SignedDuration::from_secs(34) && self.resize(&body).is_ok() {
            self.version += 1;
            self.pod["metadata"]["resourceVersion"] = self.version.to_string().into();
            self.delivered();
        }
    }

    /// The node applies the CPU of the spec if there is room, and says so otherwise.
    pub(super) fn node(&mut self) {
        let before = self.pod["status"].clone();
        let containers = self.pod["spec"]["containers"].as_array().expect("containers").clone();
        let requests: u32 = containers.iter().map(|c| millicores(&c["resources"]["requests"]["cpu"])).sum();
        let conditions = self.pod["status"]["conditions"].as_array_mut().expect("conditions");
        conditions.retain(|condition| condition["type"] != "PodResizePending");
        if requests > self.room {
            conditions.push(json!({
                "type": "PodResizePending", "status": "True", "reason": "Deferred", "message": "Node didn't have enough resource: cpu",
            }));
        } else {
            let applied = containers.iter().map(|c| json!({ "name": c["name"], "resources": c["resources"] }));
            self.pod["status"]["containerStatuses"] = applied.collect::<Vec<_>>().into();
        }
        if self.pod["status"] != before {
            self.version += 1;
            self.pod["metadata"]["resourceVersion"] = self.version.to_string().into();
        }
        self.delivered();
    }

    /// Reconciles until there is nothing to write, with a node that does its part.
    pub(super) fn settle(&mut self) {
        for _ in 0..20 {
            let plan = self.reconcile(usize::MAX);
            self.node();
            if plan.is_empty() && self.plan().is_empty() {
                return;
            }
        }
        panic!("it does not settle: {:#?}\n{:#}\n{:#}", self.plan(), self.sandbox["status"], self.pod);
    }

    pub(super) fn cpu(&self, container: usize) -> (String, String) {
        let resources = &self.pod["spec"]["containers"][container]["resources"];
        let text = |of: &str| resources[of]["cpu"].as_str().expect("a quantity").to_owned();
        (text("requests"), text("limits"))
    }

    /// Reconciles until nothing is left to do, also after a resize that has no reply counts as lost.
    pub(super) fn rest(&mut self) {
        self.settle();
        self.passes(41);
        self.settle();
    }

    pub(super) fn cpus(&self) -> [(String, String); 2] {
        [self.cpu(0), self.cpu(1)]
    }

    pub(super) fn applied(&self) -> Vec<&str> {
        let statuses = self.pod["status"]["containerStatuses"].as_array().expect("statuses");
        statuses.iter().filter_map(|status| status["resources"]["limits"]["cpu"].as_str()).collect()
    }

    pub(super) fn throttle(&self) -> &Value {
        &self.sandbox["status"]["throttle"]
    }

    /// A throttled pod has a record of the CPU that it had.
    pub(super) fn check_record(&self) {
        if self.cpus().iter().any(|(_, limit)| ["10m", "20m", "200m"].contains(&limit.as_str())) {
            assert_eq!(self.throttle()["podUID"], "pod", "{:#}", self.sandbox["status"]);
        }
    }

    pub(super) fn user_resizes(&mut self, container: usize, cpu: (String, String)) {
        let resources = &mut self.pod["spec"]["containers"][container]["resources"];
        resources["requests"]["cpu"] = cpu.0.as_str().into();
        resources["limits"]["cpu"] = cpu.1.as_str().into();
        self.wanted[container] = cpu;
        self.spec_changed();
        self.watched();
    }

    /// A user gives a container another limit alone.
    pub(super) fn user_limits(&mut self, container: usize, limit: &str) {
        let resources = &mut self.pod["spec"]["containers"][container]["resources"];
        resources["limits"]["cpu"] = limit.into();
        self.wanted[container].1 = limit.to_owned();
        self.spec_changed();
        self.watched();
    }

    pub(super) fn passes(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    pub(super) fn set_ready(&mut self, ready: bool) {
        self.pod["status"]["conditions"][0]["status"] = if ready { "True" } else { "False" }.into();
        self.watched();
    }
}
