//! Defects that would let one user reach the objects of another user.

use paddock_api::kind::Kind;
use paddock_core::admission::{Context, Entry, Phase, Review, ReviewVerdict, Verb, Why, Write, verdict};
use paddock_core::plan::Action;
use serde_json::{Value, json};

use super::{claim, defect, expect, pool_of, sandbox};
use crate::framework::{Outcome, Test};
use crate::sim::scripted::ScriptedCluster;

pub(super) fn tests() -> Vec<Test> {
    vec![
        defect("pod_hijack_784", pod_hijack),
        defect("volume_claim_hijack_784", volume_claim_hijack),
        defect("service_hijack_784", service_hijack),
        defect("pool_poisoning_875", pool_poisoning),
        defect("label_override_894", label_override),
        defect("generated_code_on_the_hosts_kernel", generated_code),
        defect("files_lost_by_an_idle_suspend", idle_loses_nothing),
    ]
}

fn pod_hijack() -> Outcome {
    nobodys_pod_is_in_the_way()?;
    a_pod_that_names_its_uid_is_in_the_way()?;
    a_pod_of_another_name_is_not_its_own()
}

fn nobodys_pod_is_in_the_way() -> Outcome {
    let mut cluster = ScriptedCluster::new("");
    cluster.apply("{ apiVersion: v1, kind: Pod, metadata: { name: x }, spec: { containers: [{ name: other, image: 'other:1' }] } }");
    cluster.apply(&sandbox("x"));
    cluster.settle();
    cluster.pass(5);
    let pod = cluster.get(Kind::Pod, "x");
    expect(pod["metadata"]["ownerReferences"].is_null(), || format!("it was taken over: {pod}"))?;
    recovers_without(&mut cluster, "x")
}

/// Before the Sandbox has a pod, another user's pod names the Sandbox's real UID, which is public, under another API
/// group.
fn a_pod_that_names_its_uid_is_in_the_way() -> Outcome {
    let mut cluster = ScriptedCluster::new("");
    cluster.apply(&sandbox("x"));
    strangers_pod(&mut cluster, "x", "example.com/v1");
    let forged = cluster.get(Kind::Pod, "x");
    cluster.settle();
    cluster.pass(5);
    let pod = cluster.get(Kind::Pod, "x");
    expect(pod["metadata"]["ownerReferences"] == forged["metadata"]["ownerReferences"], || {
        format!("it was taken over: {pod}")
    })?;
    expect(pod["metadata"]["labels"].is_null(), || format!("it was labelled as the Sandbox's: {pod}"))?;
    recovers_without(&mut cluster, "x")
}

/// A pod under another name has the complete owner reference, and the Sandbox has a pod of its own.
fn a_pod_of_another_name_is_not_its_own() -> Outcome {
    let mut cluster = ScriptedCluster::new(&sandbox("x"));
    strangers_pod(&mut cluster, "a-stranger", "agents.x-k8s.io/v1beta1");
    cluster.settle();
    cluster.pass(5);
    expect(cluster.names(Kind::Pod) == ["a-stranger", "x"], || "one of the two pods was touched".to_owned())?;
    let ready = cluster.condition(Kind::Sandbox, "x", "Ready");
    expect(ready == ("False".to_owned(), "MultiplePods".to_owned()), || format!("its condition is {ready:?}"))?;
    let ips = cluster.get(Kind::Sandbox, "x")["status"]["podIPs"].to_string();
    expect(!ips.contains(STRANGERS_IP), || format!("it leads to the stranger: {ips}"))?;
    // Without its own pod, the Sandbox does not use the stranger's pod either.
    cluster.delete(Kind::Pod, "x");
    cluster.settle();
    cluster.pass(60);
    let ready = cluster.condition(Kind::Sandbox, "x", "Ready");
    expect(ready.0 == "False", || format!("with the stranger alone its condition is {ready:?}"))?;
    cluster.delete(Kind::Pod, "a-stranger");
    cluster.settle();
    cluster.pass(60);
    expect(cluster.condition(Kind::Sandbox, "x", "Ready").0 == "True", || {
        "the stranger is gone, and it waits".to_owned()
    })
}

const STRANGERS_IP: &str = "10.0.0.66";

/// A Ready pod of another user, which names Sandbox x and its real UID as its controller.
fn strangers_pod(cluster: &mut ScriptedCluster, name: &str, api_version: &str) {
    let uid = uid(cluster, Kind::Sandbox, "x");
    cluster.apply(&format!(
        "{{ apiVersion: v1, kind: Pod, metadata: {{ name: {name}, ownerReferences: [{{ apiVersion: {api_version}, kind: Sandbox, name: x, uid: {uid}, controller: true }}] }}, spec: {{ nodeName: n1, containers: [{{ name: other, image: 'other:1' }}] }}, status: {{ phase: Running, podIPs: [{{ ip: {STRANGERS_IP} }}], conditions: [{{ type: Ready, status: 'True' }}] }} }}"
    ));
}

fn uid(cluster: &ScriptedCluster, kind: Kind, name: &str) -> String {
    cluster.get(kind, name)["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
}

/// The Sandbox reports the pod that is in its way, and continues by itself when that pod is deleted.
fn recovers_without(cluster: &mut ScriptedCluster, pod: &str) -> Outcome {
    let ready = cluster.condition(Kind::Sandbox, "x", "Ready");
    expect(ready == ("False".to_owned(), "ReconcilerError".to_owned()), || format!("its condition is {ready:?}"))?;
    cluster.delete(Kind::Pod, pod);
    cluster.settle();
    cluster.pass(60);
    expect(cluster.condition(Kind::Sandbox, "x", "Ready").0 == "True", || "the way is free, and it waits".to_owned())
}

const STATEFUL: &str = "{ apiVersion: agents.x-k8s.io/v1beta1, kind: Sandbox, metadata: { name: x }, spec: { operatingMode: Running, replicas: 1, volumeClaimTemplates: [{ metadata: { name: data }, spec: { accessModes: [ReadWriteOnce], resources: { requests: { storage: 1Gi } } } }], podTemplate: { spec: { containers: [{ name: agent, image: 'agent:1', volumeMounts: [{ name: data, mountPath: /data }] }] } } } }";

fn volume_claim_hijack() -> Outcome {
    let mut cluster = ScriptedCluster::new("");
    cluster.apply("{ apiVersion: v1, kind: PersistentVolumeClaim, metadata: { name: data-x } }");
    cluster.apply(STATEFUL);
    cluster.settle();
    cluster.pass(5);
    expect(cluster.names(Kind::Pod).is_empty(), || "its pod mounts what is somebody else's".to_owned())?;
    let claim = cluster.get(Kind::VolumeClaim, "data-x");
    expect(claim["metadata"]["ownerReferences"].is_null(), || format!("it was taken over: {claim}"))
}

fn service_hijack() -> Outcome {
    let mut cluster = ScriptedCluster::new("");
    cluster.apply("{ apiVersion: v1, kind: Service, metadata: { name: x }, spec: { clusterIP: 10.96.0.7 } }");
    cluster.apply(&sandbox("x").replace("replicas: 1,", "replicas: 1, service: true,"));
    cluster.settle();
    cluster.pass(5);
    cluster.patch(Kind::Sandbox, "x", "{ spec: { service: false } }");
    cluster.settle();
    let service = cluster.get(Kind::Service, "x");
    expect(service["spec"]["clusterIP"] == "10.96.0.7", || format!("it is gone or changed: {service}"))?;
    expect(service["metadata"]["ownerReferences"].is_null(), || format!("it was taken over: {service}"))
}

/// A user's own Sandbox names the real UID of a pool as its owner. It must not be given to another user's claim.
///
/// The webhook refuses every Sandbox that names a pool as its owner, on create and on update. A Sandbox that the
/// webhook lets through, or that was created while the webhook was unavailable, counts only if the group, the kind and
/// the name are also the pool's.
fn pool_poisoning() -> Outcome {
    let pool = "extensions.agents.x-k8s.io/v1beta1";
    for (what, api_version, kind, name, denied) in [
        ("the pool itself", pool, "SandboxWarmPool", "p", true),
        ("its other version", "extensions.agents.x-k8s.io/v1alpha1", "SandboxWarmPool", "p", true),
        ("a pool of another name", pool, "SandboxWarmPool", "q", true),
        ("a pool of the seed's group", "agents.x-k8s.io/v1alpha1", "SandboxWarmPool", "p", true),
        ("a pool of somebody's group", "example.com/v1", "SandboxWarmPool", "p", true),
        ("a template", pool, "SandboxTemplate", "p", false),
        ("something else", "v1", "ConfigMap", "p", false),
    ] {
        let mut cluster = ScriptedCluster::new(&pool_of(1));
        let real = cluster.names(Kind::Sandbox).remove(0);
        let mut forged = cluster.get(Kind::Sandbox, &real);
        let owner = json!({
            "apiVersion": api_version, "kind": kind, "name": name,
            "uid": uid(&cluster, Kind::Pool, "p"), "controller": true,
        });
        forged["metadata"]["name"] = "a-forged".into();
        forged["metadata"]["ownerReferences"] = json!([owner]);
        forged["spec"]["podTemplate"]["spec"]["containers"][0]["image"] = "evil:1".into();
        let mut plain = forged.clone();
        plain["metadata"]["ownerReferences"] = Value::Null;
        for (how, old) in [("created so", Value::Null), ("changed so", plain)] {
            let verdict = reviewed(old, forged.clone());
            expect(verdict.denial.is_some_and(|d| d.why == Why::Forged) == denied, || {
                format!("a Sandbox of {what}, {how}: the webhook should deny it: {denied}")
            })?;
        }
        let theirs = name == "p" && api_version.starts_with("extensions.") && kind == "SandboxWarmPool";
        if !theirs {
            not_the_pools(&mut cluster, &real, forged)
                .map_err(|e| format!("a Sandbox of {what}: {}", e.message().unwrap_or_default()))?;
        }
    }
    Ok(())
}

/// The forged Sandbox is stored and Ready, in place of the only Sandbox of the pool. Neither the claim nor the pool
/// uses it.
fn not_the_pools(cluster: &mut ScriptedCluster, real: &str, forged: Value) -> Outcome {
    cluster.delete(Kind::Sandbox, real);
    cluster.nodes_work = false;
    cluster.watch();
    let status = json!({ "status": forged["status"] });
    cluster.api.create(forged)?;
    cluster.api.patch(&ScriptedCluster::id(Kind::Sandbox, "a-forged"), crate::sim::api::Part::Status, &status)?;
    let uid = uid(cluster, Kind::Sandbox, "a-forged");
    cluster.apply(&format!(
        "{{ apiVersion: v1, kind: Pod, metadata: {{ name: a-forged, ownerReferences: [{{ apiVersion: agents.x-k8s.io/v1beta1, kind: Sandbox, name: a-forged, uid: {uid}, controller: true }}] }}, spec: {{ nodeName: n1 }}, status: {{ phase: Running, conditions: [{{ type: Ready, status: 'True' }}] }} }}"
    ));
    cluster.apply(&claim("c"));
    cluster.watch();
    for (kind, name) in [(Kind::Claim, "c"), (Kind::Pool, "p")] {
        let (_, _, plan) = cluster.operator.plan(&ScriptedCluster::key(kind, name), cluster.api.now);
        let hit: Vec<String> = plan.ops().filter(|op| &*op.key.name == "a-forged").map(ToString::to_string).collect();
        expect(hit.is_empty(), || format!("{kind:?} {name} would act on the forged one: {hit:?}"))?;
        let makes = plan.ops().any(|op| op.key.kind == Kind::Sandbox && matches!(op.action, Action::Create { .. }));
        expect(makes, || format!("{kind:?} {name} counts on the forged one: {plan:?}"))?;
    }
    Ok(())
}

/// The webhook's verdict for a user who stores this Sandbox.
fn reviewed(old: Value, new: Value) -> ReviewVerdict {
    let review = Review {
        phase: Phase::Validate,
        entry: Entry::OwnKinds,
        operation: if old.is_null() { Verb::Create } else { Verb::Update },
        group: Kind::Sandbox.group().to_owned(),
        version: Kind::Sandbox.version().to_owned(),
        kind: Kind::Sandbox.name().to_owned(),
        resource: Kind::Sandbox.plural().to_owned(),
        subresource: None,
        namespace: "agents".to_owned(),
        name: "a-forged".to_owned(),
        object: new,
        old_object: old,
        write: Write::default(),
        dry_run: false,
        username: "mallory".to_owned(),
        groups: vec![],
        now: jiff::Timestamp::UNIX_EPOCH,
    };
    verdict(&review, &Context::default(), &[])
}

/// A claim's labels could select network policies and Services. Only labels in the claim's own domain reach the pod,
/// and they do not replace labels of the template.
fn label_override() -> Outcome {
    for labels in
        ["{ app: sandbox-router }", "{ agents.x-k8s.io/claim-uid: forged }", "{ sandbox.users.io/tier: high }"]
    {
        let mut cluster = ScriptedCluster::new(&pool_of(0));
        cluster.patch(
            Kind::Template,
            "t",
            "{ spec: { podTemplate: { metadata: { labels: { sandbox.users.io/tier: low } } } } }",
        );
        cluster.apply(&format!(
            "{{ apiVersion: extensions.agents.x-k8s.io/v1beta1, kind: SandboxClaim, metadata: {{ name: c }}, spec: {{ warmPoolRef: {{ name: p }}, additionalPodMetadata: {{ labels: {labels} }} }} }}"
        ));
        cluster.settle();
        cluster.pass(5);
        let ready = cluster.condition(Kind::Claim, "c", "Ready");
        expect(ready == ("False".to_owned(), "InvalidMetadata".to_owned()), || {
            format!("{labels}: its condition is {ready:?}")
        })?;
        expect(cluster.names(Kind::Pod).is_empty(), || format!("{labels}: it got a pod"))?;
    }
    Ok(())
}

/// Generated code never runs on the host's kernel, whether the plugins fail or the isolating RuntimeClass is missing.
fn generated_code() -> Outcome {
    for (what, plugins_fail, classless) in
        [("all is well", false, false), ("plugins fail", true, false), ("no class", false, true)]
    {
        let mut cluster = ScriptedCluster::new("");
        if classless {
            cluster.delete(Kind::RuntimeClass, "gvisor");
        }
        if plugins_fail {
            cluster.operator.fail_every(1);
        }
        let marked = sandbox("x").replace(
            "metadata: { name: x }",
            "metadata: { name: x, labels: { policy.paddock.dev/generated-code: 'true' } }",
        );
        cluster.apply(&marked);
        cluster.settle();
        cluster.pass(40);
        let pods = cluster.names(Kind::Pod);
        for pod in &pods {
            let class = cluster.get(Kind::Pod, pod)["spec"]["runtimeClassName"].clone();
            expect(class == "gvisor", || format!("{what}: its pod's class is {class}"))?;
        }
        let wanted = usize::from(!plugins_fail && !classless);
        expect(pods.len() == wanted, || format!("{what}: it has {} pods", pods.len()))?;
    }
    Ok(())
}

fn idle_loses_nothing() -> Outcome {
    let volume = "idleTimeout: 5m, podTemplate: { spec: { volumes: [{ name: work, emptyDir: {} }],";
    let idle = sandbox("x").replace("podTemplate: { spec: {", volume);
    // With a default StorageClass, the files are on a volume claim, which is kept.
    let mut cluster = ScriptedCluster::new(&idle);
    cluster.pass(400);
    expect(cluster.names(Kind::Pod).is_empty(), || "idle, and not suspended".to_owned())?;
    expect(cluster.names(Kind::VolumeClaim) == ["work-x"], || "its volume claim is gone".to_owned())?;
    // Without a default StorageClass, deleting the pod would lose its files, so the pod is kept.
    let mut cluster = ScriptedCluster::new("");
    cluster.delete(Kind::StorageClass, "standard");
    cluster.settle();
    cluster.apply(&idle);
    cluster.settle();
    cluster.pass(400);
    expect(cluster.names(Kind::Pod) == ["x"], || "suspended, and its files are lost".to_owned())?;
    let reason = cluster.get(Kind::Sandbox, "x")["status"]["idle"]["reason"].as_str().unwrap_or_default().to_owned();
    expect(reason.contains("work") || reason.contains("not possible"), || {
        format!("the reason in its status is {reason:?}")
    })
}
