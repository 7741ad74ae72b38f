//! The CPU of a Pod's containers, and whether a resize in place can change it and change it back.

use serde::Serialize;
use serde_json::Value;

use crate::model::Quantity;

/// The CPU of a Pod, if one of its containers has a CPU limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PodCpu {
    /// The containers that run for as long as the pod and have a CPU limit.
    pub containers: Box<[ContainerCpu]>,
    /// The reason why the CPU must not be lowered in place, and the remedy.
    pub obstacle: Option<Box<str>>,
}

/// The CPU of one container, in thousandths of a core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ContainerCpu {
    /// The name of the container.
    pub name: Box<str>,
    /// The list in the spec of the Pod that has the container.
    pub list: ContainerList,
    /// The CPU request in the spec.
    pub request: u32,
    /// The CPU limit in the spec.
    pub limit: u32,
    /// The CPU limit that the node applied, according to the status.
    pub applied_limit: Option<u32>,
}

/// A list of containers in the spec of a Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ContainerList {
    /// `spec.containers`.
    Containers,
    /// `spec.initContainers`, for a sidecar.
    InitContainers,
}

impl ContainerList {
    /// The name of the field.
    #[must_use]
    pub fn field(self) -> &'static str {
        match self {
            ContainerList::Containers => "containers",
            ContainerList::InitContainers => "initContainers",
        }
    }

    fn statuses(self) -> &'static str {
        match self {
            ContainerList::Containers => "containerStatuses",
            ContainerList::InitContainers => "initContainerStatuses",
        }
    }
}

impl PodCpu {
    /// Reads the CPU of a Pod. `None` if no container has a CPU limit.
    pub(super) fn of(spec: &Value, status: &Value) -> Option<Self> {
        let containers: Box<[ContainerCpu]> =
            running(spec).filter_map(|(list, container)| container_cpu(list, container, status)).collect();
        if containers.is_empty() {
            return None;
        }
        let of_containers = || running(spec).find_map(|(_, container)| obstacle_of_container(container));
        let obstacle = obstacle_of_pod(spec, status).or_else(of_containers).map(Into::into);
        Some(Self { containers, obstacle })
    }
}

/// The containers that run for as long as the pod: the containers, and the sidecars.
fn running(spec: &Value) -> impl Iterator<Item = (ContainerList, &Value)> {
    let of = |list: ContainerList| spec[list.field()].as_array().into_iter().flatten().map(move |c| (list, c));
    let sidecars = of(ContainerList::InitContainers).filter(|(_, container)| container["restartPolicy"] == "Always");
    of(ContainerList::Containers).chain(sidecars)
}

fn obstacle_of_pod(spec: &Value, status: &Value) -> Option<String> {
    let is_windows = spec["os"]["name"] == "windows" || spec["nodeSelector"]["kubernetes.io/os"] == "windows";
    let has_own = spec["resources"].as_object().is_some_and(|resources| !resources.is_empty());
    if is_windows {
        Some("it is a Windows pod, which has no resize in place".to_owned())
    } else if has_own {
        Some("its pod has spec.resources; give the CPU limits to the containers alone".to_owned())
    } else {
        (status["qosClass"] == "Guaranteed").then(|| {
            "the QoS class of its pod is Guaranteed, which a resize must not change; set a CPU or memory request below its limit"
                .to_owned()
        })
    }
}

fn obstacle_of_container(container: &Value) -> Option<String> {
    let name = container["name"].as_str().unwrap_or_default();
    let policies = container["resizePolicy"].as_array();
    let restarts = |policy: &Value| {
        policy["resourceName"] == "cpu" && policy["restartPolicy"].as_str() == Some("RestartContainer")
    };
    if limit(container).is_none() {
        Some(format!(
            "container {name} has no CPU limit, and a resize could not remove one again; set resources.limits.cpu"
        ))
    } else if policies.into_iter().flatten().any(restarts) {
        Some(format!("the resizePolicy of container {name} restarts it when its CPU changes; use NotRequired"))
    } else {
        container["livenessProbe"].is_object().then(|| {
            format!("container {name} has a livenessProbe, and would be restarted if it missed it with little CPU")
        })
    }
}

fn container_cpu(list: ContainerList, container: &Value, status: &Value) -> Option<ContainerCpu> {
    let name = container["name"].as_str()?;
    let of_container = status[list.statuses()].as_array().into_iter().flatten().find(|s| s["name"] == name);
    let limit = limit(container)?;
    Some(ContainerCpu {
        name: name.into(),
        list,
        // The API server sets a request that the user left out to the limit.
        request: millicores(&container["resources"]["requests"]["cpu"]).unwrap_or(limit),
        limit,
        applied_limit: of_container.and_then(self::limit),
    })
}

/// The CPU limit of a container, or of the status of one.
fn limit(of: &Value) -> Option<u32> {
    millicores(&of["resources"]["limits"]["cpu"])
}

fn millicores(quantity: &Value) -> Option<u32> {
    Quantity::parse(quantity.as_str()?)?.millicores()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(change: &Value) -> Value {
        let mut spec = json!({ "containers": [{
            "name": "a", "resources": { "requests": { "cpu": "0.1" }, "limits": { "cpu": "1500m", "memory": "1Gi" } },
        }] });
        json_patch::merge(&mut spec, change);
        spec
    }

    #[test]
    fn cpu_of_containers_and_sidecars_is_read_with_what_the_node_applied() {
        let sidecar = |restart: Value| json!({ "name": "s", "restartPolicy": restart, "resources": { "limits": { "cpu": "2" } } });
        let spec = spec(&json!({ "initContainers": [sidecar(json!("Always")), { "name": "setup" }] }));
        let applied = |name: &str, cpu: &str| json!([{ "name": name, "resources": { "limits": { "cpu": cpu } } }]);
        let status = json!({ "qosClass": "Burstable", "containerStatuses": applied("a", "10m"), "initContainerStatuses": applied("s", "2") });
        let cpu = |name: &str, list, request, limit, applied_limit| ContainerCpu {
            name: name.into(),
            list,
            request,
            limit,
            applied_limit,
        };
        let wanted = [
            cpu("a", ContainerList::Containers, 100, 1500, Some(10)),
            cpu("s", ContainerList::InitContainers, 2000, 2000, Some(2000)),
        ];
        assert_eq!(PodCpu::of(&spec, &status), Some(PodCpu { containers: wanted.into(), obstacle: None }));
    }

    #[test]
    fn each_obstacle_is_named() {
        let container = |change: Value| {
            let mut container = json!({ "name": "a", "resources": { "limits": { "cpu": "1" } } });
            json_patch::merge(&mut container, &change);
            json!({ "containers": [container] })
        };
        let restarts = json!([{ "resourceName": "cpu", "restartPolicy": "RestartContainer" }]);
        let without = json!({ "name": "b", "restartPolicy": "Always" });
        for (change, qos, obstacle) in [
            (json!({ "os": { "name": "windows" } }), "Burstable", "Windows"),
            (json!({ "nodeSelector": { "kubernetes.io/os": "windows" } }), "Burstable", "Windows"),
            (json!({ "resources": { "limits": { "cpu": "1" } } }), "Burstable", "spec.resources"),
            (json!({}), "Guaranteed", "Guaranteed"),
            (container(json!({ "resizePolicy": restarts })), "Burstable", "resizePolicy of container a"),
            (container(json!({ "livenessProbe": { "httpGet": {} } })), "Burstable", "container a has a livenessProbe"),
            (json!({ "initContainers": [without] }), "Burstable", "container b has no CPU limit"),
        ] {
            let cpu = PodCpu::of(&spec(&change), &json!({ "qosClass": qos })).expect("a CPU limit");
            let text = cpu.obstacle.expect("an obstacle");
            assert!(text.contains(obstacle), "{change}: {text}");
        }
        let harmless = json!([{ "resourceName": "cpu", "restartPolicy": "NotRequired" }, { "resourceName": "memory", "restartPolicy": "RestartContainer" }]);
        let with_both = container(json!({ "resizePolicy": harmless, "readinessProbe": { "httpGet": {} } }));
        assert_eq!(PodCpu::of(&spec(&with_both), &json!({})).expect("a CPU limit").obstacle, None);
        for none in [
            json!({ "containers": [{ "name": "a" }] }),
            json!({ "containers": [{ "name": "a", "resources": { "limits": { "memory": "1Gi" } } }] }),
        ] {
            assert_eq!(PodCpu::of(&none, &json!({})), None, "{none}");
        }
    }
}
