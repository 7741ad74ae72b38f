//! Holds the containers of a Sandbox until the data of its claim is there: an init container copies a program into the pod,
//! and the containers start with the program.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, EmptyDirVolumeSource, PodSpec, ResourceRequirements, SeccompProfile, SecurityContext,
    Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use paddock_api::claim_data::{INIT, INIT_IMAGE, INIT_PATH};

use crate::model::{ClaimDataRules, is_init};

/// Adds the init container that copies the program into the pod, and starts the containers with the program. The pod gets
/// its image from [`set_init_image`].
pub(super) fn hold_containers(spec: &mut PodSpec, rules: &ClaimDataRules) {
    // A volume in memory is not kept when the sandbox is suspended, and no volume claim takes its place.
    spec.volumes.get_or_insert_default().push(Volume {
        name: INIT.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: Some("Memory".to_owned()),
            size_limit: Some(Quantity("16Mi".to_owned())),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    });
    let mount = |read_only| VolumeMount {
        name: INIT.to_owned(),
        mount_path: INIT_PATH.to_owned(),
        read_only,
        ..VolumeMount::default()
    };
    let program = format!("{INIT_PATH}/{INIT}");
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let copies = Container {
        name: INIT.to_owned(),
        image: Some(INIT_IMAGE.to_owned()),
        command: Some(texts(&["/paddock-init", "--copy-to", &program])),
        volume_mounts: Some(vec![mount(None)]),
        resources: resources(spec, rules),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { drop: Some(texts(&["ALL"])), ..Capabilities::default() }),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            run_as_user: user(spec),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    };
    // It comes first, so that the init containers of the template do not delay a pod that cannot start.
    spec.init_containers.get_or_insert_default().insert(0, copies);
    // Kubernetes replaces $(NAME) in a command and not in a path.
    let directory = rules.mount_path.replace('$', "$$");
    let reached = spec.containers.iter_mut().enumerate().filter(|(_, container)| rules.reaches(&container.name));
    for (i, container) in reached {
        let mut command = texts(&[&program, "--directory", &directory, "--container", &container.name]);
        command.extend((i == 0).then(|| "--first".to_owned()));
        command.push("--".to_owned());
        command.append(container.command.get_or_insert_default());
        container.command = Some(command);
        container.volume_mounts.get_or_insert_default().push(mount(Some(true)));
    }
}

/// The requests and limits of the init container: those of the first container that it serves. The pod then needs no more
/// than without the init container, keeps its QoS class, and passes each LimitRange and ResourceQuota that its
/// containers pass.
fn resources(spec: &PodSpec, rules: &ClaimDataRules) -> Option<ResourceRequirements> {
    // Of other resources, such as devices, it needs nothing.
    const COPIED: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
    let served = spec.containers.iter().find(|container| rules.reaches(&container.name))?.resources.as_ref()?;
    let copied = |amounts: &Option<BTreeMap<String, Quantity>>| {
        let amounts = amounts.iter().flatten().filter(|(name, _)| COPIED.contains(&name.as_str()));
        let amounts: BTreeMap<_, _> = amounts.map(|(name, amount)| (name.clone(), amount.clone())).collect();
        (!amounts.is_empty()).then_some(amounts)
    };
    let (limits, requests) = (copied(&served.limits), copied(&served.requests));
    let some = limits.is_some() || requests.is_some();
    some.then(|| ResourceRequirements { limits, requests, ..ResourceRequirements::default() })
}

/// The user of the init container. That of the image is not root. A user is named only if the container would inherit root
/// from the pod, because a cluster may allow each namespace its own range of users.
fn user(spec: &PodSpec) -> Option<i64> {
    const NOT_ROOT: i64 = 65532;
    let inherited = spec.security_context.as_ref().and_then(|context| context.run_as_user);
    (inherited == Some(0)).then_some(NOT_ROOT)
}

/// Puts the image of the operator in the place of the general one.
pub(crate) fn set_init_image(spec: &mut PodSpec, image: &str) {
    for container in spec.init_containers.iter_mut().flatten().filter(|container| is_init(container)) {
        container.image = Some(image.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::object::json::to_value;

    fn held(pod: &Value, rules: &Value) -> Value {
        let mut spec: PodSpec = serde_json::from_value(pod.clone()).expect("a PodSpec");
        let texts = |field: &str| serde_json::from_value(rules[field].clone()).unwrap_or_default();
        let rules = ClaimDataRules {
            mount_path: rules["mountPath"].as_str().unwrap_or("/run/paddock/claim").to_owned(),
            containers: texts("containers"),
            start: paddock_api::ClaimDataStart::AfterDelivery,
            secrets: Vec::new(),
        };
        hold_containers(&mut spec, &rules);
        to_value(&spec)
    }

    #[test]
    fn init_container_has_the_amounts_of_the_container_that_it_serves() {
        let limited = json!({ "limits": { "cpu": "10m", "memory": "8Mi" } });
        let both = json!({ "limits": { "cpu": "2", "memory": "4Gi" }, "requests": { "cpu": "2", "memory": "4Gi" } });
        let device = json!({ "limits": { "cpu": "1", "example.com/gpu": "1", "ephemeral-storage": "1Gi" } });
        let rest = json!({ "limits": { "cpu": "1", "ephemeral-storage": "1Gi" } });
        let only_device = json!({ "limits": { "example.com/gpu": "1" } });
        for (first, second, containers, expected) in [
            (&Value::Null, &Value::Null, json!([]), &Value::Null),
            (&limited, &both, json!([]), &limited),
            (&limited, &both, json!(["b"]), &both),
            (&Value::Null, &both, json!([]), &Value::Null),
            (&device, &both, json!([]), &rest),
            (&only_device, &both, json!([]), &Value::Null),
        ] {
            let of =
                |name: &str, resources: &Value| json!({ "name": name, "command": ["run"], "resources": resources });
            let pod =
                held(&json!({ "containers": [of("a", first), of("b", second)] }), &json!({ "containers": containers }));
            assert_eq!(pod["initContainers"][0]["resources"], *expected, "{first} {second} {containers}");
        }
    }

    /// The profile `restricted` of PodSecurity, without a number for the user.
    #[test]
    fn init_container_is_restricted_and_names_a_user_only_instead_of_root() {
        let container = json!({ "name": "a", "command": ["run"] });
        for (context, user) in [
            (Value::Null, Value::Null),
            (json!({ "runAsUser": 1000 }), Value::Null),
            (json!({ "runAsUser": 0 }), json!(65532)),
        ] {
            let pod = held(&json!({ "containers": [container], "securityContext": context }), &json!({}));
            let context = &pod["initContainers"][0]["securityContext"];
            assert_eq!(context["runAsUser"], user);
            assert_eq!(context["runAsNonRoot"], true);
            assert_eq!(context["seccompProfile"], json!({ "type": "RuntimeDefault" }));
            assert_eq!(context["allowPrivilegeEscalation"], false);
            assert_eq!(context["capabilities"], json!({ "drop": ["ALL"] }));
        }
    }

    /// Kubernetes replaces `$$` by `$` in a command, and nothing in the path of a mount.
    #[test]
    fn directory_is_the_path_of_the_mount() {
        for (path, argument) in [("/data", "/data"), ("/d/$(X)", "/d/$$(X)"), ("/a$$b", "/a$$$$b")] {
            let pod = json!({ "containers": [{ "name": "a", "command": ["run"] }] });
            let pod = held(&pod, &json!({ "mountPath": path }));
            assert_eq!(pod["containers"][0]["command"][2], argument);
        }
    }
}
