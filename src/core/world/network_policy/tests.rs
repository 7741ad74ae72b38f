//! The labels by which policies of earlier versions select pods, the specs that are kept, and the end of a policy's owner.

use serde_json::json;

use super::*;
use crate::as_made::UNFENCED;
use crate::binding::Bindings;
use crate::decide::decide;
use crate::manifest::PodPlan;
use crate::network_policy::selection_labels;
use crate::plan::{Action, Op};
use crate::settings::Settings;
use crate::snapshot::PolicyUsers;
use crate::world::Observed;

/// A World, and the version of its last object.
struct Cluster {
    world: World,
    version: u64,
}

impl Cluster {
    fn new() -> Self {
        Self { world: World::new(Settings::default()), version: 0 }
    }

    /// Puts an object of the namespace `ns`. Returns the keys to reconcile.
    fn put(&mut self, kind: Kind, name: &str, mut document: Value) -> Vec<Key> {
        self.version += 1;
        let metadata = &mut document["metadata"];
        metadata["name"] = name.into();
        metadata["namespace"] = "ns".into();
        metadata["uid"] = uid(kind, name).into();
        metadata["resourceVersion"] = self.version.to_string().into();
        metadata["creationTimestamp"] = "2030-01-01T00:00:00Z".into();
        metadata["generation"] = 1.into();
        let object = Object::from_json(kind, document).unwrap();
        self.world.observe(Observed::Applied(object), Timestamp::UNIX_EPOCH)
    }

    fn delete(&mut self, kind: Kind, name: &str) -> Vec<Key> {
        let object = Object::clone(self.world.get(&Key::new(kind, "ns", name)).unwrap());
        self.world.observe(Observed::Deleted(object), Timestamp::UNIX_EPOCH)
    }

    /// The state of the policy of the template `t`.
    fn state(&self, kind: Kind) -> NetworkPolicyState {
        self.world.policy_of(&template(kind), None, Timestamp::UNIX_EPOCH)
    }

    fn selector(&self) -> Selector {
        self.world.selector(&template(Kind::Template))
    }

    /// The operation that a reconcile of the template `t` plans for the policy: the port of the egress rule that it writes,
    /// or null if it leaves the egress rules alone.
    fn planned(&self) -> Option<Value> {
        let plan = decide(&self.world.snapshot(&template(Kind::Template), Timestamp::UNIX_EPOCH), &[]);
        let of_policy = |op: &&Op| op.key.kind == Kind::NetworkPolicy;
        let op = plan.steps.iter().flatten().find(of_policy)?;
        match &op.action {
            Action::Create { body } | Action::Patch { body, .. } => Some(port(&body["spec"])),
            Action::Resize { .. } | Action::Adopt { .. } | Action::Deliver { .. } | Action::Delete { .. } => None,
        }
    }
}

fn uid(kind: Kind, name: &str) -> String {
    format!("{kind:?}-{name}")
}

/// The key of the template `t` of either API group.
fn template(kind: Kind) -> Key {
    Key::new(kind, "ns", "t")
}

fn rules(port: u64) -> Value {
    json!({ "policyTypes": ["Ingress", "Egress"], "egress": [{ "ports": [{ "port": port, "protocol": "TCP" }] }] })
}

/// The port in the egress rules of a spec.
fn port(spec: &Value) -> Value {
    spec["egress"][0]["ports"][0]["port"].clone()
}

/// A template of the upstream shape that admits connections to a port.
fn admitting(port: u64) -> Value {
    let pod = json!({ "spec": { "containers": [{ "name": "c", "image": "i" }] } });
    json!({ "spec": { "podTemplate": pod, "networkPolicy": { "egress": rules(port)["egress"] } } })
}

/// The policy of a template `t` as the operator writes it.
fn policy_of(kind: Kind, selector: Selector, port: u64) -> Value {
    let spec = selector.applied("t", rules(port));
    json!({ "metadata": { "annotations": manifest::network_policy_annotations(&template(kind), &spec) }, "spec": spec })
}

/// A template of the other shape that admits connections to a port.
fn admitting_of_seed(port: u64) -> Value {
    let mut template = admitting(port);
    template["spec"]["template"] = template["spec"]["podTemplate"].take();
    template["spec"].as_object_mut().unwrap().remove("podTemplate");
    template
}

/// A Sandbox that was made from the template `t` of the upstream shape.
fn sandbox() -> Value {
    sandbox_of_template(Kind::Template)
}

/// A Sandbox that was made from the template `t` of either API group.
fn sandbox_of_template(kind: Kind) -> Value {
    let origin = json!({ "group": kind.group(), "name": "t", "networkPolicyManagement": "Managed" });
    let pod = json!({ "spec": { "containers": [{ "name": "c", "image": "i" }] } });
    json!({ "spec": { "podTemplate": pod }, "status": { "template": origin } })
}

/// The pod of a Sandbox, with the first `labels` of the labels by which the policy of `t` selects pods.
fn pod(sandbox: &str, labels: usize) -> Value {
    let selection = selection_labels("t").into_iter().take(labels);
    let labels: serde_json::Map<String, Value> = selection.map(|(key, value)| (key.to_owned(), value.into())).collect();
    let owner = json!({
        "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "name": sandbox,
        "uid": uid(Kind::Sandbox, sandbox), "controller": true,
    });
    json!({ "metadata": { "labels": labels, "ownerReferences": [owner] }, "spec": { "containers": [] } })
}

const POLICY: &str = "t-network-policy";

#[test]
fn policy_of_an_earlier_version_selects_by_the_hash_until_each_pod_has_the_digest() {
    let key = template(Kind::Template);
    let mut cluster = Cluster::new();
    cluster.put(Kind::Template, "t", admitting(443));
    for name in ["a", "b"] {
        cluster.put(Kind::Sandbox, name, sandbox());
        cluster.put(Kind::Pod, name, pod(name, 1));
    }
    cluster.put(Kind::NetworkPolicy, POLICY, policy_of(Kind::Template, Selector::HashAlone, 443));
    assert_eq!((cluster.selector(), cluster.state(Kind::Template)), (Selector::HashAlone, NetworkPolicyState::InPlace));
    assert_eq!(cluster.planned(), None, "the other selector would leave both pods open");
    assert!(!cluster.put(Kind::Pod, "a", pod("a", 2)).contains(&key));
    assert_eq!(cluster.selector(), Selector::HashAlone, "one pod is left");
    assert!(cluster.put(Kind::Pod, "b", pod("b", 2)).contains(&key), "the template is reconciled");
    assert_eq!(cluster.selector(), Selector::Digest);
    assert_eq!(cluster.state(Kind::Template), NetworkPolicyState::InPlace, "both selectors select each pod");
    assert!(cluster.planned().is_some(), "the selector is changed");
    cluster.put(Kind::NetworkPolicy, POLICY, policy_of(Kind::Template, Selector::Digest, 443));
    assert_eq!(cluster.state(Kind::Template), NetworkPolicyState::InPlace);
    cluster.put(Kind::Pod, "b", pod("b", 1));
    assert_eq!(cluster.selector(), Selector::Digest, "a user cannot bring the earlier selector back");
}

/// The API server adds 17 bytes to each port.
#[test]
fn policy_of_an_earlier_version_with_many_ports_stays_in_place() {
    let egress = |port: Value| json!(vec![json!({ "ports": vec![port; 900] }); 6]);
    let mut cluster = Cluster::new();
    let mut of_template = admitting(443);
    of_template["spec"]["networkPolicy"]["egress"] = egress(json!({ "port": 443 }));
    cluster.put(Kind::Template, "t", of_template);
    cluster.put(Kind::Sandbox, "a", sandbox());
    cluster.put(Kind::Pod, "a", pod("a", 1));
    let mut spec = Selector::HashAlone.applied("t", rules(443));
    spec["egress"] = egress(json!({ "port": 443 }));
    let annotations = manifest::network_policy_annotations(&template(Kind::Template), &spec);
    spec["egress"] = egress(json!({ "port": 443, "protocol": "TCP" }));
    let policy = json!({ "metadata": { "annotations": annotations }, "spec": spec });
    cluster.put(Kind::NetworkPolicy, POLICY, policy);
    assert_eq!((cluster.selector(), cluster.state(Kind::Template)), (Selector::HashAlone, NetworkPolicyState::InPlace));
    assert_eq!(cluster.planned(), None);
    cluster.delete(Kind::Template, "t");
    assert_eq!((cluster.planned(), cluster.state(Kind::Template)), (None, NetworkPolicyState::InPlace));
}

#[test]
fn only_pods_that_the_policy_would_leave_open_keep_the_earlier_selector() {
    let mut cluster = Cluster::new();
    cluster.put(Kind::Template, "t", admitting(443));
    cluster.put(Kind::NetworkPolicy, POLICY, policy_of(Kind::Template, Selector::HashAlone, 443));
    assert_eq!(cluster.selector(), Selector::Digest, "there is no pod");
    let mut alone = sandbox();
    alone["status"] = json!({});
    cluster.put(Kind::Sandbox, "alone", alone);
    cluster.put(Kind::Pod, "alone", pod("alone", 1));
    assert_eq!(cluster.selector(), Selector::Digest, "a user labelled the pod, and nobody adds the digest");
    cluster.put(Kind::Sandbox, "a", sandbox());
    cluster.put(Kind::Pod, "a", pod("a", 1));
    cluster.delete(Kind::Sandbox, "a");
    assert_eq!(cluster.selector(), Selector::HashAlone, "the pod of a deleted Sandbox runs");
    assert!(cluster.delete(Kind::Pod, "a").contains(&template(Kind::Template)));
    assert_eq!(cluster.selector(), Selector::Digest);
    assert!(cluster.world.policies.without_digest.values().all(|pods| pods.len() == 1), "only the pod of `alone`");
}

#[test]
fn a_warm_pod_that_loses_its_digest_is_touched() {
    let mut cluster = Cluster::new();
    let owner = json!({
        "apiVersion": "extensions.agents.x-k8s.io/v1beta1", "kind": "SandboxWarmPool", "name": "p", "uid": "p",
        "controller": true,
    });
    let mut warm = sandbox();
    warm["metadata"]["ownerReferences"] = json!([owner]);
    let key = Key::new(Kind::Sandbox, "ns", "a");
    cluster.put(Kind::Sandbox, "a", warm);
    let made = cluster.world.get(&key).unwrap().clone();
    let plan = PodPlan {
        name: "a",
        runtime_class: None,
        class_reason: None,
        class_plugin: None,
        kept_dirs: &[],
        now: Timestamp::UNIX_EPOCH,
        init_image: None,
        isolate: false,
    };
    let pod = manifest::pod(&made, made.sandbox().unwrap().spec.as_ref().unwrap(), &plan);
    let mut unlabelled = pod.clone();
    unlabelled["metadata"]["labels"].as_object_mut().unwrap().remove(paddock_api::names::label::TEMPLATE_DIGEST);
    cluster.put(Kind::Pod, "a", unlabelled.clone());
    assert_eq!(cluster.world.touched.get(&key), None, "a pod of an earlier version");
    cluster.put(Kind::Pod, "a", pod.clone());
    assert_eq!(cluster.world.touched.get(&key), None, "the operator added the digest");
    cluster.put(Kind::Pod, "a", unlabelled);
    cluster.put(Kind::Pod, "a", pod);
    assert_eq!(cluster.world.touched.get(&key).map(|touch| &*touch.what), Some(UNFENCED), "removed and restored");
    cluster.world.set_bindings(Bindings::default());
    assert_eq!(cluster.world.touched.get(&key).map(|touch| &*touch.what), Some(UNFENCED), "no comparison shows it");
}

#[test]
fn spec_that_was_in_place_is_wanted_after_the_deletion_of_its_template() {
    let mut cluster = Cluster::new();
    cluster.put(Kind::Template, "t", admitting(443));
    cluster.put(Kind::Sandbox, "a", sandbox());
    cluster.put(Kind::NetworkPolicy, POLICY, policy_of(Kind::Template, Selector::Digest, 443));
    cluster.delete(Kind::Template, "t");
    assert_eq!((cluster.state(Kind::Template), cluster.planned()), (NetworkPolicyState::InPlace, None));
    // A user writes other rules into the spec and into the annotation.
    cluster.put(Kind::NetworkPolicy, POLICY, policy_of(Kind::Template, Selector::Digest, 22));
    assert!(matches!(cluster.state(Kind::Template), NetworkPolicyState::Pending(_)));
    assert_eq!(cluster.planned(), Some(json!(443)));
    cluster.delete(Kind::NetworkPolicy, POLICY);
    assert_eq!(cluster.planned(), Some(json!(443)), "the policy is made again");
}

#[test]
fn template_without_usable_rules_keeps_its_last_policy() {
    let ports: Vec<Value> = (1..900).map(|n| json!({ "port": n, "endPort": n })).collect();
    let large = vec![json!({ "ports": ports }); 6];
    let large = json!({ "networkPolicy": { "egress": large } });
    for (what, change) in [("not valid", json!({ "idleTimeout": "-1m" })), ("too large", large)] {
        let mut cluster = Cluster::new();
        cluster.put(Kind::Template, "t", admitting(443));
        cluster.put(Kind::Sandbox, "a", sandbox());
        cluster.put(Kind::NetworkPolicy, POLICY, policy_of(Kind::Template, Selector::Digest, 443));
        let mut broken = admitting(443);
        json_patch::merge(&mut broken["spec"], &change);
        cluster.put(Kind::Template, "t", broken);
        assert_eq!(cluster.planned(), None, "{what}");
        cluster.put(Kind::NetworkPolicy, POLICY, policy_of(Kind::Template, Selector::Digest, 22));
        assert_eq!(cluster.planned(), Some(json!(443)), "{what}: somebody changed the policy");
        let plan = decide(&cluster.world.snapshot(&template(Kind::Template), Timestamp::UNIX_EPOCH), &[]);
        let reports = plan.steps.iter().flatten().any(|op| op.key.kind == Kind::Template);
        assert!(reports, "{what}: the status of the template says so");
        cluster.delete(Kind::NetworkPolicy, POLICY);
        assert_eq!(cluster.planned(), Some(json!(443)), "{what}: somebody deleted the policy");
        if what == "too large" {
            let state = cluster.state(Kind::Template);
            assert!(state.blocked().is_some_and(|why| why.contains("spec.networkPolicy")), "{state:?}");
        }
    }
}

#[test]
fn specs_of_policies_are_kept_for_their_users_alone() {
    let mut cluster = Cluster::new();
    cluster.put(Kind::NetworkPolicy, POLICY, policy_of(Kind::Template, Selector::Digest, 443));
    cluster.delete(Kind::NetworkPolicy, POLICY);
    assert!(cluster.world.policies.made.is_empty(), "nobody needs the policy");
    cluster.put(Kind::Sandbox, "a", sandbox());
    cluster.put(Kind::NetworkPolicy, POLICY, policy_of(Kind::Template, Selector::Digest, 443));
    cluster.delete(Kind::NetworkPolicy, POLICY);
    assert_eq!(cluster.world.policies.made.len(), 1);
    cluster.world.forget_old(Timestamp::UNIX_EPOCH);
    assert_eq!(cluster.world.policies.made.len(), 1, "the Sandbox exists");
    cluster.delete(Kind::Sandbox, "a");
    assert!(cluster.world.policies.made.is_empty());
    cluster.put(Kind::Pod, "b", pod("b", 2));
    cluster.put(Kind::NetworkPolicy, POLICY, policy_of(Kind::Template, Selector::Digest, 443));
    cluster.delete(Kind::Pod, "b");
    cluster.world.forget_old(Timestamp::UNIX_EPOCH);
    assert!(cluster.world.policies.made.is_empty(), "the last pod was deleted");
}

#[test]
fn policy_passes_to_the_template_of_the_other_group_after_the_last_sandbox_and_pod() {
    type End = fn(&mut Cluster) -> Vec<Key>;
    let ends: [(&str, End); 2] = [
        ("deleted", |cluster| cluster.delete(Kind::Pod, "a")),
        ("without the labels", |cluster| cluster.put(Kind::Pod, "a", pod("a", 0))),
    ];
    let other = template(Kind::SeedTemplate);
    for (what, end) in ends {
        let mut cluster = Cluster::new();
        cluster.put(Kind::Template, "t", admitting(443));
        cluster.put(Kind::SeedTemplate, "t", admitting_of_seed(22));
        // The pods of the other template run all the time.
        cluster.put(Kind::Sandbox, "b", sandbox_of_template(Kind::SeedTemplate));
        cluster.put(Kind::Pod, "b", pod("b", 2));
        cluster.put(Kind::Sandbox, "a", sandbox());
        cluster.put(Kind::Pod, "a", pod("a", 2));
        cluster.put(Kind::NetworkPolicy, POLICY, policy_of(Kind::Template, Selector::Digest, 443));
        cluster.delete(Kind::Template, "t");
        let blocked = |cluster: &Cluster| cluster.state(Kind::SeedTemplate).blocked().map(str::to_owned);
        let why = blocked(&cluster).unwrap();
        assert!(why.contains("whose Sandboxes or Pods still exist"), "{what}: {why}");
        assert!(cluster.delete(Kind::Sandbox, "a").contains(&other), "{what}");
        assert!(blocked(&cluster).is_some(), "{what}: the pod still runs");
        assert!(!cluster.put(Kind::Pod, "a", pod("a", 2)).contains(&other), "{what}: the pod only changes");
        assert!(end(&mut cluster).contains(&other), "{what}");
        assert_eq!(blocked(&cluster), None, "{what}");
        cluster.put(Kind::NetworkPolicy, POLICY, policy_of(Kind::SeedTemplate, Selector::Digest, 22));
        assert!(cluster.world.policies.heirs.is_empty(), "{what}");
    }
}

#[test]
fn only_pods_that_a_policy_selects_are_its_users() {
    let users = |cluster: &Cluster| cluster.world.users_of_policy(&template(Kind::Template));
    let mut cluster = Cluster::new();
    // A template whose name has the same hash, and a pod that a user labels.
    let mut of_other = pod("x", 1);
    let [_, (digest, of_name)] = selection_labels("xlgqwaaol");
    of_other["metadata"]["labels"][digest] = of_name.into();
    cluster.put(Kind::Pod, "x", of_other);
    cluster.put(Kind::Pod, "y", pod("y", 1));
    cluster.put(Kind::NetworkPolicy, POLICY, policy_of(Kind::Template, Selector::HashAlone, 443));
    assert_eq!(users(&cluster), PolicyUsers::Others, "the policy selects the pod without a digest");
    cluster.put(Kind::NetworkPolicy, POLICY, policy_of(Kind::Template, Selector::Digest, 443));
    assert_eq!(users(&cluster), PolicyUsers::None);
    cluster.put(Kind::SeedTemplate, "t", admitting_of_seed(22));
    assert_eq!(cluster.state(Kind::SeedTemplate).blocked(), None);
    cluster.put(Kind::Pod, "z", pod("z", 2));
    assert_eq!(users(&cluster), PolicyUsers::Others);
    assert!(cluster.state(Kind::SeedTemplate).blocked().is_some());
    assert!(cluster.delete(Kind::Pod, "z").contains(&template(Kind::SeedTemplate)));
    assert_eq!((users(&cluster), cluster.state(Kind::SeedTemplate).blocked()), (PolicyUsers::None, None));
}
