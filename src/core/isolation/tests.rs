//! Every control of the profile *baseline*, in every place of a pod where it occurs.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;

/// The kinds of containers of a pod.
const KINDS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// Controls of a container: what is judged, the field, a value that breaks it, a value that is allowed, and the end of
/// the path that the error names.
fn of_container() -> Vec<(HostAccess, Value, Value, &'static str)> {
    use HostAccess as A;
    let context = |field: &str, value: Value| json!({ "securityContext": { field: value } });
    let mut cases = vec![
        (A::Privileged, context("privileged", true.into()), context("privileged", false.into()), ".privileged"),
        (
            A::Capabilities,
            context("capabilities", json!({ "add": ["CHOWN", "SYS_ADMIN"] })),
            context("capabilities", json!({ "add": ["CHOWN", "NET_BIND_SERVICE"], "drop": ["ALL"] })),
            ".capabilities.add[1]",
        ),
        (
            A::Capabilities,
            context("capabilities", json!({ "add": ["ALL"] })),
            context("capabilities", json!({ "drop": ["ALL"] })),
            ".capabilities.add[0]",
        ),
        (A::ProcMount, context("procMount", "Unmasked".into()), context("procMount", "Default".into()), ".procMount"),
        (
            A::HostPort,
            json!({ "ports": [{ "containerPort": 80 }, { "containerPort": 81, "hostPort": 81 }] }),
            json!({ "ports": [{ "containerPort": 80, "hostPort": 0 }] }),
            ".ports[1].hostPort",
        ),
        (
            A::VolumeDevices,
            json!({ "volumeDevices": [{ "name": "v", "devicePath": "/dev/xvda" }] }),
            json!({ "volumeDevices": [] }),
            ".volumeDevices",
        ),
    ];
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        for action in ["httpGet", "tcpSocket"] {
            let with = |host: Value| json!({ probe: { action: { "port": 1, "host": host } } });
            cases.push((A::ProbeHost, with("169.254.169.254".into()), with("".into()), ".host"));
        }
    }
    for hook in ["postStart", "preStop"] {
        for action in ["httpGet", "tcpSocket"] {
            let with = |host: Value| json!({ "lifecycle": { hook: { action: { "port": 1, "host": host } } } });
            cases.push((A::ProbeHost, with("10.0.0.1".into()), with(Value::Null), ".host"));
        }
    }
    cases
}

/// Controls of the security contexts of both pods and containers.
fn of_both() -> Vec<(HostAccess, Value, Value, &'static str)> {
    use HostAccess as A;
    let context = |field: &str, value: Value| json!({ "securityContext": { field: value } });
    let profile = |field: &str, kind: &str| context(field, json!({ "type": kind }));
    let selinux = |field: &str, value: &str| context("seLinuxOptions", json!({ field: value }));
    let windows = |value: bool| context("windowsOptions", json!({ "hostProcess": value }));
    vec![
        (
            A::SeccompProfile,
            profile("seccompProfile", "Unconfined"),
            profile("seccompProfile", "RuntimeDefault"),
            ".type",
        ),
        (A::SeccompProfile, profile("seccompProfile", "Other"), profile("seccompProfile", "Localhost"), ".type"),
        (
            A::AppArmorProfile,
            profile("appArmorProfile", "Unconfined"),
            profile("appArmorProfile", "Localhost"),
            ".type",
        ),
        (A::SeLinuxOptions, selinux("type", "spc_t"), selinux("type", "container_kvm_t"), ".type"),
        (A::SeLinuxOptions, selinux("user", "system_u"), selinux("user", ""), ".user"),
        (A::SeLinuxOptions, selinux("role", "sysadm_r"), selinux("level", "s0:c1,c2"), ".role"),
        (A::HostProcess, windows(true), windows(false), ".hostProcess"),
    ]
}

/// Controls of a pod: the spec and the metadata that break them, and those that are allowed.
fn of_pod() -> Vec<(HostAccess, Value, Value, &'static str)> {
    use HostAccess as A;
    let spec = |spec: Value| json!({ "spec": spec });
    let sysctl = |name: &str| spec(json!({ "securityContext": { "sysctls": [{ "name": name, "value": "1" }] } }));
    let apparmor = |profile: &str| {
        let key = "container.apparmor.security.beta.kubernetes.io/c";
        json!({ "metadata": { "annotations": { key: profile } } })
    };
    vec![
        (
            A::HostNetwork,
            spec(json!({ "hostNetwork": true })),
            spec(json!({ "hostNetwork": false })),
            "spec.hostNetwork",
        ),
        (A::HostPid, spec(json!({ "hostPID": true })), spec(json!({ "hostPID": false })), "spec.hostPID"),
        (A::HostIpc, spec(json!({ "hostIPC": true })), spec(json!({})), "spec.hostIPC"),
        (
            A::HostPath,
            spec(json!({ "volumes": [{ "name": "a", "emptyDir": {} }, { "name": "h", "hostPath": { "path": "/" } }] })),
            spec(json!({ "volumes": [{ "name": "a", "emptyDir": {} }] })),
            "spec.volumes[1].hostPath",
        ),
        (A::Sysctls, sysctl("kernel.msgmax"), sysctl("net.ipv4.tcp_rmem"), "spec.securityContext.sysctls[0].name"),
        (
            A::Sysctls,
            sysctl("net.ipv4.tcp_timestamps"),
            sysctl("net.ipv4.tcp_notsent_lowat"),
            "spec.securityContext.sysctls[0].name",
        ),
        (A::AppArmorProfile, apparmor("unconfined"), apparmor("runtime/default"), "metadata.annotations["),
        (A::AppArmorProfile, apparmor("other"), apparmor("localhost/mine"), "metadata.annotations["),
    ]
}

/// All pods of the table: what breaks them, the pod, the same pod with an allowed value, and a part of the path.
pub(crate) fn pods() -> Vec<(HostAccess, Value, Value, String)> {
    let with_spec = |spec: Value| json!({ "spec": spec });
    let mut pods = Vec::new();
    for kind in KINDS {
        for (access, bad, good, end) in of_container().into_iter().chain(of_both()) {
            // The second container of the list is judged as the first one is.
            let pod = |container: Value| with_spec(json!({ kind: [{ "name": "first" }, container] }));
            pods.push((access, pod(bad), pod(good), format!("spec.{kind}[1].*{end}")));
        }
    }
    for (access, bad, good, end) in of_both() {
        pods.push((access, with_spec(bad), with_spec(good), format!("spec.securityContext.*{end}")));
    }
    pods.extend(of_pod().into_iter().map(|(access, bad, good, path)| (access, bad, good, path.to_owned())));
    pods
}

/// All fields of a pod that give it access to its host, with their errors. The set of the ways must agree.
fn found(pod: &Value) -> Vec<(HostAccess, FieldError)> {
    let pod = PodFields::of_pod(pod);
    let mut all = AllFindings::default();
    fields::read(&pod, &mut all);
    assert_eq!(host_access(&pod), all.0.iter().map(|finding| finding.access).collect());
    all.0.iter().map(|finding| (finding.access, finding.error(&pod))).collect()
}

fn gvisor() -> Vec<RuntimeClassFact> {
    let class =
        |name: &str, isolated| RuntimeClassFact { name: name.to_owned(), handler: name.to_owned(), isolated, nodes: 1 };
    vec![class("gvisor", true), class("runc", false)]
}

/// Whether a path has the form of a pattern: its start and its end, separated by `*`, or a part of it.
pub(crate) fn names(path: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let start = parts.next().unwrap_or_default();
    path.starts_with(start) && parts.all(|end| path.ends_with(end)) || path.contains(pattern)
}

#[test]
fn every_control_of_the_profile_is_judged_in_every_container() {
    let mut seen = BTreeSet::new();
    for (access, bad, good, pattern) in pods() {
        let found_of_bad = found(&bad);
        let [(what, error)] = found_of_bad.as_slice() else { panic!("{access:?}: {bad}: {found_of_bad:?}") };
        assert_eq!(*what, access, "{bad}");
        assert!(names(&error.path, &pattern), "{pattern}: {error}");
        assert!(error.message.contains("must be") || error.message.contains("allowed are"), "{error}");
        assert_eq!(found(&good), [], "{good}");
        seen.insert(access);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), HostAccess::ALL, "every control has a case");
}

#[test]
fn a_field_is_allowed_only_by_its_own_name() {
    let classes = gvisor();
    for (access, bad, _, _) in pods() {
        let mut pod = bad;
        pod["spec"]["runtimeClassName"] = "gvisor".into();
        for allowed in HostAccess::ALL.iter().copied() {
            let isolation = Isolation { classes: &classes, allowed: [allowed].into_iter().collect(), limits: vec![] };
            let errors = isolation.judge(&PodFields::of_pod(&pod), ClassRule::Required, "");
            assert_eq!(errors.is_empty(), allowed == access, "{allowed:?}: {pod}: {errors:?}");
        }
    }
}

#[test]
fn the_facts_of_an_observed_pod_are_those_of_its_spec() {
    for (access, bad, good, _) in pods() {
        for (pod, expected) in [(bad, vec![access]), (good, vec![])] {
            let mut document = pod;
            document["metadata"]["name"] = "a".into();
            document["metadata"]["labels"] = json!({ paddock_api::names::label::ADOPTABLE: "true" });
            document["spec"]["runtimeClassName"] = "gvisor".into();
            let kind = paddock_api::kind::Kind::Pod;
            let object = crate::object::Object::from_json(kind, document.clone()).expect("a Pod");
            let observed = object.pod().expect("a Pod");
            assert_eq!(observed.host_access.iter().collect::<Vec<_>>(), expected, "{document}");
            let classes = gvisor();
            let isolation = Isolation { classes: &classes, allowed: HostAccessSet::default(), limits: vec![] };
            let broken = expected.first().map(|access| format!("{}, which does not isolate", access.as_str()));
            assert_eq!(isolation.broken_by(observed), broken, "{document}");
        }
    }
}

#[test]
fn a_class_is_required_of_a_pod_and_may_be_missing_in_a_template() {
    let classes = gvisor();
    let isolation = Isolation { classes: &classes, allowed: HostAccessSet::default(), limits: vec![] };
    for (class, required, known) in [
        (Value::Null, false, true),
        ("".into(), false, true),
        ("kata".into(), false, true),
        ("runc".into(), false, false),
        ("gvisor".into(), true, true),
    ] {
        let pod = json!({ "spec": { "runtimeClassName": class } });
        let accepted = |rule| isolation.judge(&PodFields::of_pod(&pod), rule, "").is_empty();
        assert_eq!((accepted(ClassRule::Required), accepted(ClassRule::IfKnown)), (required, known), "{pod}");
    }
}

#[test]
fn the_ports_of_a_pod_on_the_network_of_the_host_are_not_named_again() {
    // The API server sets the host port of such a pod to the port of the container.
    let pod = json!({ "spec": {
        "hostNetwork": true,
        "containers": [{ "ports": [{ "containerPort": 80, "hostPort": 80 }] }],
    } });
    let found: Vec<HostAccess> = found(&pod).into_iter().map(|(access, _)| access).collect();
    assert_eq!(found, [HostAccess::HostNetwork]);
}

#[test]
fn a_value_of_an_unexpected_type_counts_as_access() {
    for spec in [
        json!({ "hostNetwork": "yes" }),
        json!({ "hostPID": 1 }),
        json!({ "volumes": [{ "hostPath": [] }] }),
        json!({ "containers": [{ "securityContext": { "privileged": "true" } }] }),
        json!({ "containers": [{ "securityContext": { "capabilities": { "add": "SYS_ADMIN" } } }] }),
        json!({ "containers": [{ "securityContext": { "seccompProfile": { "type": 1 } } }] }),
        json!({ "containers": [{ "ports": [{ "hostPort": "80" }] }] }),
    ] {
        let pod = json!({ "spec": spec });
        assert_eq!(found(&pod).len(), 1, "{pod}");
    }
}

/// A pod without a class, one of whose containers adds so many capabilities.
pub(crate) fn with_capabilities(count: usize) -> Value {
    let context = json!({ "capabilities": { "add": vec!["A"; count] } });
    json!({ "spec": { "runtimeClassName": "gvisor", "containers": [{ "name": "c", "securityContext": context }] } })
}

#[test]
fn a_message_names_sixteen_fields_and_counts_the_others() {
    let containers: Vec<Value> = (0..40).map(|_| json!({ "securityContext": { "privileged": true } })).collect();
    let pod = json!({ "spec": { "containers": containers } });
    let classes = gvisor();
    let isolation = Isolation { classes: &classes, allowed: HostAccessSet::default(), limits: vec![] };
    let errors = isolation.judge(&PodFields::of_pod(&pod), ClassRule::IfKnown, "");
    assert_eq!(errors.len(), 17);
    assert!(errors[16].message.starts_with("24 more"), "{}", errors[16]);
}

/// The parts of a list that a reader of fields looks at, and the fields that it takes.
#[derive(Default)]
struct Counted {
    set: HostAccessSet,
    looked_at: std::cell::Cell<usize>,
    taken: usize,
}

impl<'a> Reader<'a> for Counted {
    fn wants(&self, access: HostAccess) -> bool {
        self.looked_at.set(self.looked_at.get() + 1);
        self.set.wants(access)
    }

    fn take(&mut self, finding: Finding<'a>) {
        self.taken += 1;
        self.set.take(finding);
    }
}

#[test]
fn the_ways_of_a_pod_are_known_after_the_first_field_of_each() {
    let mut counted = Counted::default();
    fields::read(&PodFields::of_pod(&with_capabilities(340_000)), &mut counted);
    assert_eq!(counted.set.iter().collect::<Vec<_>>(), [HostAccess::Capabilities]);
    assert_eq!((counted.taken, counted.looked_at.get() < 100), (1, true), "{:?}", counted.looked_at);
}

/// With a comparison of each field with each other one, this takes minutes.
#[test]
fn a_change_of_a_pod_with_many_fields_is_judged_by_what_is_new() {
    let classes = gvisor();
    let isolation = Isolation { classes: &classes, allowed: HostAccessSet::default(), limits: vec![] };
    let (old, mut new) = (with_capabilities(330_000), with_capabilities(330_000));
    let judge = |new: &Value| {
        isolation.judge_change(&PodFields::of_pod(&old), &PodFields::of_pod(new), ClassRule::Required, "")
    };
    let begin = crate::stopwatch::Stopwatch::start();
    assert_eq!(judge(&new), []);
    new["spec"]["containers"][0]["securityContext"]["capabilities"]["add"][7] = "B".into();
    let errors = judge(&new);
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].path, "spec.containers[0].securityContext.capabilities.add[7]");
    assert_eq!(isolation.judge(&PodFields::of_pod(&new), ClassRule::Required, "").len(), MAX_FIELDS + 1);
    begin.assert_linear();
    new["spec"]["runtimeClassName"] = "runc".into();
    assert_eq!(judge(&new).len(), 2, "the class is worse than before");
}

#[test]
fn a_name_is_that_of_a_field_and_another_one_is_refused_with_the_names() {
    for access in HostAccess::ALL.iter().copied() {
        assert_eq!(HostAccess::named(access.as_str()), Ok(access));
    }
    let error = HostAccess::named("hostpath").expect_err("a spelling mistake").to_string();
    assert!(error.contains("`hostpath` must be one of hostPath, hostNetwork, hostPID"), "{error}");
}
