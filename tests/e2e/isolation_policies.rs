//! The ValidatingAdmissionPolicies of `paddock generate vap`: without a webhook they judge as `paddock audit` does, which
//! judges by the functions of the core, and they hold while every replica of the operator is down.

mod cells;
mod outage;

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt as _;
use paddock_cluster::{Cluster, Kubectl, Options, RuntimeClass, eventually};
use serde_json::{Value, json};
use tokio::process::Command;

use self::cells::{Cell, DEPLOYMENT, MARKER, PLACES, Place, cells, ephemeral, pod, references};
use super::audit::audit;
use super::json::{label, name, text};
use super::kinds::{Kind, POD, SANDBOX};
use super::manifests::{marked, merge, sandbox};
use super::namespace::TestNamespace;
use super::{programs, setup};
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    let own = named![
        policies_judge_every_field_and_kind_as_the_core_does,
        changes_of_objects_from_before_the_policies_are_judged_by_what_they_change,
        components_are_what_the_commands_print,
    ];
    own.into_iter().chain(outage::tests()).collect()
}

const ISOLATION: &str = "policy.paddock.dev/isolation";

/// What the command prints.
async fn generated(flags: &[&str]) -> String {
    let paddock = programs::paddock().await;
    let output = Command::new(paddock).args(["generate", "vap"]).args(flags).output().await.expect("paddock");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Applies the policies, and waits until the API server refuses objects of these kinds.
async fn enforce(kubectl: &Kubectl, ns: &TestNamespace, places: &[Place]) {
    let policies = generated(&[]).await;
    kubectl.run(&["apply", "--server-side", "-f", "-"], Some(&policies)).await.expect("the policies are accepted");
    let exposed = pod(&json!({ "metadata": { "labels": { MARKER: "true" } }, "spec": { "hostPID": true } }));
    for place in places {
        eventually("the policies are in force", async || {
            !is_admitted(ns, place.kind, &place.object("a", &exposed)).await
        })
        .await;
    }
}

/// Whether the API server admits an object. It panics if another reason than a policy makes the API server refuse it.
async fn is_admitted(ns: &TestNamespace, kind: Kind, object: &Value) -> bool {
    verdict(ns, kind, object).await.unwrap_or_else(|other| panic!("{object:#}: {other}")).is_none()
}

/// The message of the policy that refuses an object, or `None` if it is admitted. Another refusal is an error.
async fn verdict(ns: &TestNamespace, kind: Kind, object: &Value) -> Result<Option<String>, String> {
    match ns.post(&format!("{}?dryRun=All", kind.path(&ns.namespace)), object).await {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) if status.code == 403 && status.message.contains("'paddock-isolation-") => {
            Ok(Some(status.message.clone()))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// A control plane without a webhook, whose RuntimeClass `host` does not isolate.
async fn without_a_webhook() -> Cluster {
    programs::paddock().await;
    let mut options = Options { nodes: 1, ..Options::default().with_isolation() };
    options.runtime_classes.push(RuntimeClass { name: "host".to_owned(), handler: "runc".to_owned() });
    let cluster = Cluster::start(options).await.expect("a control plane");
    setup::install(&cluster).await;
    cluster
}

/// Objects to judge, each with its kind. Each has a name of its own.
#[derive(Default)]
struct Objects(Vec<(Kind, Value)>);

impl Objects {
    fn add(&mut self, ns: &TestNamespace, place: Place, pod: &Value, labels: Value) {
        let mut made = place.object(&format!("o{}", self.0.len()), pod);
        merge(&mut made, &json!({ "metadata": { "namespace": ns.namespace, "labels": labels } }));
        self.0.push((place.kind, made));
    }

    /// The names of the objects that `paddock audit` reports as not isolated, with the rules.
    async fn audited(&self, facts: &[Value]) -> BTreeMap<String, BTreeSet<String>> {
        let items: Vec<&Value> = facts.iter().chain(self.0.iter().map(|(_, object)| object)).collect();
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
        let output = audit(&["-", "-o", "json", "--fail-on=never"], &list.to_string()).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(report["workloads"], self.0.len(), "every object is judged");
        let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for finding in report["findings"].as_array().expect("findings") {
            let rule = text(finding, "/rule");
            if ["runtime-class", "host-access", "invalid-marker"].contains(&rule) {
                found.entry(text(finding, "/name").to_owned()).or_default().insert(rule.to_owned());
            }
        }
        found
    }
}

/// Every field of the profile, in each list of containers and each kind, marked and not marked, with a value that breaks the
/// isolation of the pod and one that does not; and every RuntimeClass and every place of the marker.
async fn policies_judge_every_field_and_kind_as_the_core_does() {
    let cluster = without_a_webhook().await;
    let ns = TestNamespace::new(&cluster, "judged").await;
    let isolated = TestNamespace::labelled(&cluster, "isolated", json!({ ISOLATION: "required" })).await;
    let other = TestNamespace::labelled(&cluster, "other", json!({ ISOLATION: "typo" })).await;
    let open = TestNamespace::labelled(&cluster, "open", json!({ ISOLATION: "none" })).await;
    enforce(&cluster.kubectl(), &ns, &PLACES).await;
    let labelled = |value: &str| json!({ "metadata": { "labels": { MARKER: value } } });
    let with_label = |pod: &Value, value: &str| {
        let mut pod = pod.clone();
        merge(&mut pod, &labelled(value));
        pod
    };
    let mut objects = Objects::default();
    let mut fields = BTreeSet::new();
    for place in PLACES {
        for Cell { field, pod, breaks } in cells(place) {
            objects.add(&ns, place, &with_label(&pod, "true"), json!({}));
            if breaks {
                fields.insert(field);
                objects.add(&ns, place, &pod, json!({}));
            }
        }
        let exposed = json!({ "spec": { "hostPID": true } });
        for ns in [&isolated, &other, &open] {
            objects.add(ns, place, &pod(&exposed), json!({}));
            objects.add(ns, place, &pod(&json!({})), json!({}));
        }
        // The marker of the object itself, and values that are not clear.
        for value in ["true", "false", "yes", ""] {
            objects.add(&ns, place, &pod(&exposed), json!({ MARKER: value }));
            objects.add(&ns, place, &with_label(&pod(&json!({})), value), json!({}));
        }
        objects.add(&ns, place, &with_label(&pod(&exposed), "true"), json!({ MARKER: "true" }));
        for class in ["kata", "host"] {
            let with = json!({ "spec": { "runtimeClassName": class } });
            objects.add(&ns, place, &with_label(&pod(&with), "true"), json!({}));
            objects.add(&ns, place, &pod(&with), json!({}));
        }
        if place.is_own() || place.kind == POD {
            let none = json!({ "spec": { "runtimeClassName": null } });
            objects.add(&ns, place, &with_label(&pod(&none), "true"), json!({}));
        }
    }
    assert_eq!(fields.len(), 15, "{fields:?}");
    for value in ["true", "yes"] {
        for mut reference in references("r") {
            let made = format!("o{}", objects.0.len());
            merge(
                &mut reference,
                &json!({
                    "metadata": { "name": made, "namespace": ns.namespace, "labels": { MARKER: value } },
                }),
            );
            objects.0.push((Kind::of(&reference), reference));
        }
    }

    let class = |name: &str, handler: &str| json!({ "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": { "name": name }, "handler": handler });
    let namespace = |ns: &TestNamespace, value: &str| {
        let metadata = json!({ "name": ns.namespace, "labels": { ISOLATION: value } });
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata })
    };
    let facts = [
        class("gvisor", "runsc"),
        class("kata", "kata"),
        class("host", "runc"),
        namespace(&isolated, "required"),
        namespace(&other, "typo"),
        namespace(&open, "none"),
    ];
    let audited = objects.audited(&facts).await;
    let (here, audited) = (&cluster, &audited);
    let asked = objects.0.iter().map(|(kind, object)| async move {
        let ns = TestNamespace::existing(here, text(object, "/metadata/namespace"));
        let expected = audited.get(name(object));
        match (verdict(&ns, *kind, object).await, expected) {
            (Ok(Some(_)), Some(_)) => Ok(true),
            (Ok(None), None) => Ok(false),
            (found, expected) => Err(format!("{found:?}, and the core says {expected:?}: {object}")),
        }
    });
    let verdicts: Vec<Result<bool, String>> = futures::stream::iter(asked).buffered(8).collect().await;
    let wrong: Vec<&String> = verdicts.iter().filter_map(|verdict| verdict.as_ref().err()).collect();
    assert!(wrong.is_empty(), "{} of {} differ: {:#?}", wrong.len(), verdicts.len(), &wrong[..wrong.len().min(20)]);
    let refused = verdicts.iter().filter(|verdict| **verdict == Ok(true)).count();
    println!("{refused} objects refused by both, {} admitted by both", verdicts.len() - refused);

    // The webhook chooses the RuntimeClass of such pods, so their workloads may name none. The pods themselves may not.
    let none = with_label(&pod(&json!({ "spec": { "runtimeClassName": null } })), "true");
    for place in PLACES {
        assert_eq!(is_admitted(&ns, place.kind, &place.object("a", &none)).await, place.kind != POD, "{place:?}");
    }
    let message = verdict(&ns, POD, &PLACES[0].object("a", &none)).await.expect("a verdict").expect("refused");
    assert!(message.contains("runtimeClassName must be one that isolates: gvisor, kata"), "{message}");
    // The class of a Sandbox may be beside its pod template.
    for (class, admitted) in [("gvisor", true), ("host", false)] {
        let made = marked(sandbox("a", json!({ "runtimeClassName": class })));
        assert_eq!(is_admitted(&ns, SANDBOX, &made).await, admitted, "{class}");
    }
    let exposed = with_label(&pod(&json!({ "spec": { "hostPID": true } })), "true");
    let system = TestNamespace::existing(&cluster, "kube-system");
    assert!(is_admitted(&system, POD, &PLACES[0].object("a", &exposed)).await, "kube-system is left alone");
    ephemeral_containers_are_judged_as_the_core_does(&ns, &facts).await;
    warns_about_no_expression(&cluster.kubectl()).await;

    // The platform team allows a field, and another RuntimeClass.
    let flags = ["--isolation-allow=hostPID", "--runtime-class=gvisor,kata-qemu"];
    let policies = generated(&[&flags[..], &["-o", "json"]].concat()).await;
    cluster.kubectl().run(&["apply", "--server-side", "-f", "-"], Some(&policies)).await.expect("accepted");
    eventually("the flags have an effect", async || is_admitted(&ns, POD, &PLACES[0].object("a", &exposed)).await)
        .await;
    let both = with_label(&pod(&json!({ "spec": { "hostPID": true, "hostIPC": true } })), "true");
    assert!(!is_admitted(&ns, POD, &PLACES[0].object("a", &both)).await, "another field");
    let kata = with_label(&pod(&json!({ "spec": { "runtimeClassName": "kata" } })), "true");
    assert!(!is_admitted(&ns, POD, &PLACES[0].object("a", &kata)).await, "a class that is not named");
    // Each policy has an effect at a time of its own.
    let isolating = json!({ "metadata": { "name": "kata-qemu" }, "handler": "runc" });
    eventually("the flags have an effect on RuntimeClasses", async || {
        ns.post("/apis/node.k8s.io/v1/runtimeclasses?dryRun=All", &isolating).await.is_err()
    })
    .await;
    runtime_class_of_a_name_that_isolates_has_such_a_handler(&ns).await;
}

/// Ephemeral containers are added to a marked Pod and to another one. Nothing is stored.
async fn ephemeral_containers_are_judged_as_the_core_does(ns: &TestNamespace, facts: &[Value]) {
    let mut objects = Objects::default();
    let all = ephemeral();
    let marker = json!({ "metadata": { "labels": { MARKER: "true" } } });
    for (Cell { pod, .. }, _) in &all {
        let mut pod = pod.clone();
        merge(&mut pod, &marker);
        objects.add(ns, PLACES[0], &pod, json!({}));
    }
    let mut marked = pod(&json!({ "spec": { "hostUsers": false } }));
    ns.create(PLACES[0].object("unmarked", &marked)).await;
    merge(&mut marked, &marker);
    ns.create(PLACES[0].object("debugged", &marked)).await;
    let audited = objects.audited(facts).await;
    for ((Cell { field, breaks, .. }, container), (_, object)) in all.into_iter().zip(&objects.0) {
        assert_eq!(audited.contains_key(name(object)), breaks, "{field}: {object}");
        let patch = json!({ "spec": { "ephemeralContainers": [container] } }).to_string();
        for (pod, refused) in [("debugged", breaks), ("unmarked", false)] {
            let args = ["patch", "pod", pod, "--subresource=ephemeralcontainers", "--dry-run=server", "-p", &patch];
            let output = ns.kubectl_output(&args, None).await;
            let expected = if refused { "'paddock-isolation-pods'" } else { "patched" };
            assert!(output.contains(expected), "{pod}: {field}: {patch}: {output}");
        }
    }
}

/// The API server checks the types of the expressions, and warns about fields that a kind does not have.
async fn warns_about_no_expression(kubectl: &Kubectl) {
    let read = async || {
        let output = kubectl.run(&["get", "validatingadmissionpolicies", "-o", "json"], None).await.expect("policies");
        let list: Value = serde_json::from_str(&output).expect("JSON");
        let items = list["items"].as_array().cloned().unwrap_or_default();
        items.into_iter().filter(|policy| name(policy).starts_with("paddock-isolation-")).collect::<Vec<_>>()
    };
    eventually("the expressions are checked", async || {
        read().await.iter().all(|policy| policy["status"]["observedGeneration"] == policy["metadata"]["generation"])
    })
    .await;
    for policy in read().await {
        let warnings = &policy["status"]["typeChecking"]["expressionWarnings"];
        assert!(warnings.is_null(), "{}: {warnings:#}", name(&policy));
    }
}

async fn runtime_class_of_a_name_that_isolates_has_such_a_handler(ns: &TestNamespace) {
    for (name, handler, admitted) in [
        ("kata-qemu", "runc", false),
        ("kata-qemu", "kata-qemu", true),
        ("kata-qemu", "katana", false),
        ("runc", "runc", true),
    ] {
        let class = json!({ "metadata": { "name": name }, "handler": handler });
        let made = ns.post("/apis/node.k8s.io/v1/runtimeclasses?dryRun=All", &class).await;
        assert_eq!(made.is_ok(), admitted, "{name}: {handler}: {made:?}");
    }
}

/// Tries a change of an object by kubectl. `Ok` is the output of an admitted change, `Err` that of a refused one.
async fn patched(ns: &TestNamespace, what: &str, subresource: &str, patch: &Value) -> Result<String, String> {
    let (kind, name) = what.split_once('/').expect("a kind and a name");
    let (patch, flag) = (patch.to_string(), format!("--subresource={subresource}"));
    let merge = if kind == "sandbox" { "--type=merge" } else { "--type=strategic" };
    let mut args = vec!["patch", kind, name, merge, "-p", &patch];
    args.extend((!subresource.is_empty()).then_some(flag.as_str()));
    let output = ns.kubectl_output(&args, None).await;
    if output.contains("'paddock-isolation-") { Err(output) } else { Ok(output) }
}

async fn changes_of_objects_from_before_the_policies_are_judged_by_what_they_change() {
    let cluster = without_a_webhook().await;
    let ns = TestNamespace::new(&cluster, "before").await;
    let isolated = TestNamespace::labelled(&cluster, "isolated", json!({ ISOLATION: "required" })).await;
    let container = |resources: Value| json!({ "name": "agent", "image": "agent:1", "resources": resources });
    let cpu = |cpu: &str| json!({ "requests": { "cpu": cpu } });
    let exposed = pod(&json!({ "spec": {
        "runtimeClassName": null, "hostPID": true, "containers": [container(cpu("10m"))],
    } }));
    let deployment = PLACES[2].object("old", &exposed);
    for ns in [&ns, &isolated] {
        ns.create(PLACES[0].object("old", &exposed)).await;
        ns.post(&DEPLOYMENT.path(&ns.namespace), &deployment).await.expect("a Deployment");
        ns.create(sandbox("old", json!({ "podTemplate": exposed }))).await;
        let running = ns.until(POD, "old", "runs", |p| text(p, "/status/phase") == "Running").await;
        ns.report_resources(&running).await;
    }
    enforce(&cluster.kubectl(), &ns, &PLACES).await;
    let isolating = |name: &str| {
        let mut pod = pod(&json!({ "metadata": { "labels": { MARKER: "true" } } }));
        pod["metadata"]["finalizers"] = json!(["example.com/held"]);
        PLACES[0].object(name, &pod)
    };
    ns.create(isolating("marked")).await;
    ns.create(marked(sandbox("marked", json!({ "runtimeClassName": "gvisor" })))).await;

    let labels = |value: Value| json!({ "metadata": { "labels": { MARKER: value } } });
    let plain = json!({ "metadata": { "labels": { "team": "a" }, "annotations": { "a": "b" } } });
    let image = json!({ "spec": { "containers": [{ "name": "agent", "image": "evil:1" }] } });
    let debug = |with: Value| {
        let mut container = json!({ "name": "debug", "image": "busybox" });
        merge(&mut container, &with);
        json!({ "spec": { "ephemeralContainers": [container] } })
    };
    let privileged = debug(json!({ "securityContext": { "privileged": true } }));
    let deadline = json!({ "spec": { "activeDeadlineSeconds": 100_000 } });
    let template = |image: &Value| json!({ "spec": { "template": image } });
    let pod_template = json!({ "spec": { "podTemplate": { "metadata": { "labels": { "a": "b" } } } } });
    let message = json!({ "status": { "message": "written by its node" } });
    let resources = json!({ "spec": { "containers": [{ "name": "agent", "resources": cpu("20m") }] } });
    for (ns, what, subresource, patch, admitted) in [
        // The marker stays.
        (&ns, "pod/marked", "", labels(Value::Null), false),
        (&ns, "pod/marked", "", labels("false".into()), false),
        (&ns, "pod/marked", "", labels("yes".into()), false),
        (&ns, "pod/marked", "status", labels(Value::Null), false),
        (&ns, "sandbox/marked", "", labels(Value::Null), false),
        (&ns, "sandbox/marked", "", labels("yes".into()), false),
        (&ns, "pod/marked", "", plain.clone(), true),
        (&ns, "pod/marked", "", deadline.clone(), true),
        (&ns, "pod/marked", "status", message.clone(), true),
        (&ns, "sandbox/marked", "", plain.clone(), true),
        // An isolated Pod gets an isolated debug container alone.
        (&ns, "pod/marked", "ephemeralcontainers", privileged.clone(), false),
        (&ns, "pod/marked", "ephemeralcontainers", debug(json!({})), true),
        // A Pod that is not isolated cannot be marked, and one in such a namespace gets no new code.
        (&ns, "pod/old", "", labels("true".into()), false),
        (&ns, "pod/old", "status", labels("true".into()), false),
        (&ns, "pod/old", "", image.clone(), true),
        (&ns, "deployment/old", "", labels("true".into()), false),
        (&ns, "sandbox/old", "", labels("true".into()), false),
        (&isolated, "pod/old", "", image.clone(), false),
        (&isolated, "pod/old", "ephemeralcontainers", debug(json!({})), false),
        (&isolated, "pod/old", "resize", resources.clone(), false),
        (&isolated, "pod/old", "", plain.clone(), true),
        (&isolated, "pod/old", "", deadline.clone(), true),
        (&isolated, "pod/old", "status", message.clone(), true),
        (&isolated, "deployment/old", "", template(&image), false),
        (&isolated, "deployment/old", "", json!({ "spec": { "replicas": 0 } }), true),
        (&isolated, "deployment/old", "", plain.clone(), true),
        (&isolated, "sandbox/old", "", pod_template.clone(), false),
        (&isolated, "sandbox/old", "", json!({ "spec": { "operatingMode": "Suspended" } }), true),
        (&isolated, "sandbox/old", "", plain.clone(), true),
    ] {
        let result = patched(ns, what, subresource, &patch).await;
        let said = result.as_ref().unwrap_or_else(|refusal| refusal);
        assert_eq!(result.is_ok(), admitted, "{what} {subresource} in {}: {patch}: {said}", ns.namespace);
        assert!(!admitted || said.contains("patched"), "{what} {subresource}: {patch}: {said}");
    }
    // A terminating Pod keeps its marker, and loses its finalizer.
    ns.delete(POD, "marked").await;
    assert!(patched(&ns, "pod/marked", "", &labels(Value::Null)).await.is_err());
    assert_eq!(label(&ns.get(POD, "marked").await, MARKER), "true");
    ns.merge(POD, "marked", json!({ "metadata": { "finalizers": null } })).await;
    ns.until_gone(POD, "marked").await;
}

/// Both components with `deploy/`, and the patch of docs/isolation-policies.md, against `paddock manifests` and `paddock
/// generate vap`.
async fn components_are_what_the_commands_print() {
    let setup = setup::setup().await;
    let paddock = programs::paddock().await;
    let folder = tempfile::tempdir().expect("a folder");
    // The paths of a kustomization are relative.
    let up = "../".repeat(folder.path().components().count() - 1);
    let deploy = std::path::Path::new(root!("deploy")).canonicalize().expect("a folder");
    let deploy = format!("{up}{}", deploy.display().to_string().trim_start_matches('/'));
    let classes = r#"["gvisor", "kata-qemu"]"#;
    let patch = json!([
        { "op": "test", "path": "/spec/variables/0/name", "value": "isolating" },
        { "op": "replace", "path": "/spec/variables/0/expression", "value": classes },
    ]);
    let target = json!({ "kind": "ValidatingAdmissionPolicy", "name": "paddock-isolation-.*" });
    let patches = json!([{ "target": target, "patch": patch.to_string() }]);
    for (component, patches, manifests, vap) in [
        ("admission-policies", json!([]), &[][..], &[][..]),
        ("isolated-pods-without-webhook", json!([]), &["--isolation-policies"], &[]),
        ("admission-policies", patches, &[], &["--runtime-class=gvisor", "--runtime-class=kata-qemu"]),
    ] {
        let components = json!([format!("{deploy}/components/{component}")]);
        let kustomization = json!({ "resources": [deploy], "components": components, "patches": patches });
        std::fs::write(folder.path().join("kustomization.yaml"), kustomization.to_string()).expect("a file");
        let path = folder.path().display().to_string();
        let rendered = setup.cluster.kubectl().run(&["kustomize", &path], None).await.expect("kustomize");
        let printed =
            Command::new(&paddock).arg("manifests").args(manifests).output().await.expect("paddock manifests");
        let printed = String::from_utf8_lossy(&printed.stdout).into_owned() + &generated(vap).await;
        let (rendered, printed) = (super::deploy::documents(&rendered), super::deploy::documents(&printed));
        for (one, other, what) in [(&rendered, &printed, "the commands"), (&printed, &rendered, "deploy/")] {
            for document in one {
                assert!(other.contains(document), "{component}: not from {what}: {document:#}");
            }
        }
    }
}
