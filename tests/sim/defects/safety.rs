//! Defects by which one user could reach what is another's.

use paddock_core::kind::Kind;

use super::{claim, defect, expect, pool_of, sandbox};
use crate::framework::{Outcome, Test};
use crate::sim::stage::Stage;

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
    let mut stage = Stage::set("");
    stage.apply("{ apiVersion: v1, kind: Pod, metadata: { name: x }, spec: { containers: [{ name: other, image: 'other:1' }] } }");
    stage.apply(&sandbox("x"));
    stage.settle();
    stage.pass(5);
    let pod = stage.get(Kind::Pod, "x");
    expect(pod["metadata"]["ownerReferences"].is_null(), || format!("it was taken over: {pod}"))?;
    let says = stage.says(Kind::Sandbox, "x", "Ready");
    expect(says == ("False".to_owned(), "ReconcilerError".to_owned()), || format!("it says {says:?}"))?;
    // When the way is free, it goes on by itself.
    stage.delete(Kind::Pod, "x");
    stage.settle();
    stage.pass(5);
    expect(stage.says(Kind::Sandbox, "x", "Ready").0 == "True", || "the way is free, and it waits".to_owned())
}

const STATEFUL: &str = "{ apiVersion: agents.x-k8s.io/v1beta1, kind: Sandbox, metadata: { name: x }, spec: { operatingMode: Running, replicas: 1, volumeClaimTemplates: [{ metadata: { name: data }, spec: { accessModes: [ReadWriteOnce], resources: { requests: { storage: 1Gi } } } }], podTemplate: { spec: { containers: [{ name: agent, image: 'agent:1', volumeMounts: [{ name: data, mountPath: /data }] }] } } } }";

fn volume_claim_hijack() -> Outcome {
    let mut stage = Stage::set("");
    stage.apply("{ apiVersion: v1, kind: PersistentVolumeClaim, metadata: { name: data-x } }");
    stage.apply(STATEFUL);
    stage.settle();
    stage.pass(5);
    expect(stage.names(Kind::Pod).is_empty(), || "its pod mounts what is somebody else's".to_owned())?;
    let claim = stage.get(Kind::VolumeClaim, "data-x");
    expect(claim["metadata"]["ownerReferences"].is_null(), || format!("it was taken over: {claim}"))
}

fn service_hijack() -> Outcome {
    let mut stage = Stage::set("");
    stage.apply("{ apiVersion: v1, kind: Service, metadata: { name: x }, spec: { clusterIP: 10.96.0.7 } }");
    stage.apply(&sandbox("x").replace("replicas: 1,", "replicas: 1, service: true,"));
    stage.settle();
    stage.pass(5);
    stage.patch(Kind::Sandbox, "x", "{ spec: { service: false } }");
    stage.settle();
    let service = stage.get(Kind::Service, "x");
    expect(service["spec"]["clusterIP"] == "10.96.0.7", || format!("it is gone or changed: {service}"))?;
    expect(service["metadata"]["ownerReferences"].is_null(), || format!("it was taken over: {service}"))
}

/// A user's own Sandbox, dressed up as one of the pool's, must not be handed to another user's claim.
fn pool_poisoning() -> Outcome {
    let mut stage = Stage::set(&pool_of(1));
    let real = stage.names(Kind::Sandbox).remove(0);
    let mut forged = stage.get(Kind::Sandbox, &real);
    forged["metadata"]["name"] = "a-forged".into();
    forged["metadata"]["ownerReferences"][0]["uid"] = "somebody-elses".into();
    forged["spec"]["podTemplate"]["spec"]["containers"][0]["image"] = "evil:1".into();
    stage.delete(Kind::Sandbox, &real);
    stage.nodes_work = false;
    stage.watch();
    let status = forged["status"].clone();
    let id = Stage::id(Kind::Sandbox, "a-forged");
    stage.api.create(forged)?;
    let status = serde_json::json!({ "status": status });
    stage.api.patch(&id, crate::sim::api::Part::Status, &status)?;
    let uid = stage.get(Kind::Sandbox, "a-forged")["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    stage.apply(&format!(
        "{{ apiVersion: v1, kind: Pod, metadata: {{ name: a-forged, ownerReferences: [{{ apiVersion: agents.x-k8s.io/v1beta1, kind: Sandbox, name: a-forged, uid: {uid}, controller: true }}] }}, spec: {{ nodeName: n1 }}, status: {{ phase: Running, conditions: [{{ type: Ready, status: 'True' }}] }} }}"
    ));
    stage.apply(&claim("c"));
    stage.watch();
    let (_, _, plan) = stage.operator.plan(&Stage::key(Kind::Claim, "c"), stage.api.now);
    let hit: Vec<String> = plan.ops().filter(|op| &*op.key.name == "a-forged").map(ToString::to_string).collect();
    expect(hit.is_empty(), || format!("the claim would get the forged one: {hit:?}"))
}

/// A claim's labels select policies and Services: only those of its own domain reach the pod, and none of the template's changes.
fn label_override() -> Outcome {
    for labels in
        ["{ app: sandbox-router }", "{ agents.x-k8s.io/claim-uid: forged }", "{ sandbox.users.io/tier: high }"]
    {
        let mut stage = Stage::set(&pool_of(0));
        stage.patch(
            Kind::Template,
            "t",
            "{ spec: { podTemplate: { metadata: { labels: { sandbox.users.io/tier: low } } } } }",
        );
        stage.apply(&format!(
            "{{ apiVersion: extensions.agents.x-k8s.io/v1beta1, kind: SandboxClaim, metadata: {{ name: c }}, spec: {{ warmPoolRef: {{ name: p }}, additionalPodMetadata: {{ labels: {labels} }} }} }}"
        ));
        stage.settle();
        stage.pass(5);
        let says = stage.says(Kind::Claim, "c", "Ready");
        expect(says == ("False".to_owned(), "InvalidMetadata".to_owned()), || format!("{labels}: it says {says:?}"))?;
        expect(stage.names(Kind::Pod).is_empty(), || format!("{labels}: it got a pod"))?;
    }
    Ok(())
}

/// Whatever fails: every plugin, or the RuntimeClass that isolates.
fn generated_code() -> Outcome {
    for (what, plugins_fail, classless) in
        [("all is well", false, false), ("plugins fail", true, false), ("no class", false, true)]
    {
        let mut stage = Stage::set("");
        if classless {
            stage.delete(Kind::RuntimeClass, "gvisor");
        }
        if plugins_fail {
            stage.operator.fail_every(1);
        }
        let marked = sandbox("x").replace(
            "metadata: { name: x }",
            "metadata: { name: x, labels: { policy.paddock.dev/generated-code: 'true' } }",
        );
        stage.apply(&marked);
        stage.settle();
        stage.pass(40);
        let pods = stage.names(Kind::Pod);
        for pod in &pods {
            let class = stage.get(Kind::Pod, pod)["spec"]["runtimeClassName"].clone();
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
    // With a default class the files are on a volume claim, which stays.
    let mut stage = Stage::set(&idle);
    stage.pass(400);
    expect(stage.names(Kind::Pod).is_empty(), || "idle, and not suspended".to_owned())?;
    expect(stage.names(Kind::VolumeClaim) == ["work-x"], || "its volume claim is gone".to_owned())?;
    // Without one they are the pod's, and go with it: so it stays.
    let mut stage = Stage::set("");
    stage.delete(Kind::StorageClass, "standard");
    stage.settle();
    stage.apply(&idle);
    stage.settle();
    stage.pass(400);
    expect(stage.names(Kind::Pod) == ["x"], || "suspended, and its files are lost".to_owned())?;
    let reason = stage.get(Kind::Sandbox, "x")["status"]["idle"]["reason"].as_str().unwrap_or_default().to_owned();
    expect(reason.contains("work") || reason.contains("not possible"), || format!("its status says {reason:?}"))
}
