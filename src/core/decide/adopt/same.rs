//! Compares the spec of an existing object with the one that the operator would create.
//!
//! The API server and its admission plugins fill in fields. A field that the operator leaves out may therefore have its
//! default, or a value that only restricts the object. Every other difference counts.

use serde_json::Value;

use crate::model::Quantity;

/// The first field in which a spec differs from the wanted one, as a path.
pub(super) fn difference(actual: &Value, wanted: &Value) -> Option<String> {
    compare("spec", actual, wanted)
}

fn compare(path: &str, actual: &Value, wanted: &Value) -> Option<String> {
    match (actual, wanted) {
        (Value::Object(have), Value::Object(want)) => {
            let missing = want.iter().find_map(|(field, want)| {
                compare(&format!("{path}.{field}"), have.get(field).unwrap_or(&Value::Null), want)
            });
            missing.or_else(|| {
                let mut added = have.iter().filter(|(field, _)| want.get(*field).is_none_or(is_empty));
                let wrong = added.find(|(field, value)| !is_empty(value) && !is_filled_in(path, field, value))?;
                Some(format!("{path}.{}", wrong.0))
            })
        }
        (Value::Array(have), Value::Array(want)) => {
            // The API server and its plugins append entries, and never change the order.
            let differs = want
                .iter()
                .enumerate()
                .find_map(|(i, want)| compare(&format!("{path}[{i}]"), have.get(i).unwrap_or(&Value::Null), want));
            differs.or_else(|| {
                let mut added = have.iter().enumerate().skip(want.len());
                added.find(|(_, entry)| !is_appended(path, entry)).map(|(i, _)| format!("{path}[{i}]"))
            })
        }
        (have, want) if is_empty(have) && is_empty(want) => None,
        (Value::Array(have), want) if is_empty(want) => {
            have.iter().position(|entry| !is_appended(path, entry)).map(|i| format!("{path}[{i}]"))
        }
        (Value::String(have), Value::String(want)) if have != want => {
            (!same_quantity(path, have, want)).then(|| path.to_owned())
        }
        (have, want) => (have != want).then(|| path.to_owned()),
    }
}

/// Whether a value says nothing.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Whether two quantities are the same number, or a volume claim was expanded.
fn same_quantity(path: &str, have: &str, want: &str) -> bool {
    if !path.contains(".resources.") && !path.ends_with(".sizeLimit") {
        return false;
    }
    let (Some(have), Some(want)) = (Quantity::parse(have), Quantity::parse(want)) else { return false };
    have == want || path.ends_with(".requests.storage") && have > want
}

/// Whether the API server or one of its admission plugins fills in a field with this value.
fn is_filled_in(path: &str, field: &str, value: &Value) -> bool {
    let at_top = path == "spec";
    match field {
        // The scheduler, and the plugins for priorities, RuntimeClasses and limits.
        "nodeName" | "priority" | "priorityClassName" | "overhead" | "nodeSelector" => at_top,
        "limits" | "requests" | "resources" => path.contains("ontainers[") || path.ends_with(".resources"),
        // The defaults of a Pod.
        "restartPolicy" => at_top && value == "Always",
        "dnsPolicy" => value == "ClusterFirst",
        "schedulerName" => value == "default-scheduler",
        "preemptionPolicy" => value == "PreemptLowerPriority",
        "enableServiceLinks" => value == true,
        "terminationGracePeriodSeconds" => at_top && value == 30,
        "serviceAccount" | "serviceAccountName" => value == "default",
        "tolerations" => value.as_array().is_some_and(|all| all.iter().all(|t| is_appended("spec.tolerations", t))),
        // The defaults of a container and its probes.
        "terminationMessagePath" => value == "/dev/termination-log",
        "terminationMessagePolicy" => value == "File",
        "imagePullPolicy" => value == "Always" || value == "IfNotPresent",
        "protocol" => value == "TCP",
        "timeoutSeconds" | "successThreshold" => value == 1,
        "periodSeconds" => value == 10,
        "failureThreshold" => value == 3,
        "scheme" => value == "HTTP",
        // The defaults of volumes and of references to fields.
        "defaultMode" => value == 420,
        "apiVersion" => value == "v1",
        // The defaults of a volume claim.
        "storageClassName" | "volumeName" => at_top,
        "volumeMode" => value == "Filesystem",
        // The defaults of a Service.
        "clusterIP" => at_top && value != "None",
        "type" => at_top && value == "ClusterIP",
        _ => false,
    }
}

/// Whether the API server or one of its admission plugins appends such an entry to a list.
fn is_appended(path: &str, entry: &Value) -> bool {
    let token = |name: &Value| name.as_str().is_some_and(|name| name.starts_with("kube-api-access-"));
    if path == "spec.tolerations" {
        return entry["operator"] == "Exists"
            && entry["key"].as_str().is_some_and(|k| k.starts_with("node.kubernetes.io/"));
    }
    if path == "spec.volumes" {
        return token(&entry["name"]) && entry["projected"].is_object();
    }
    path.ends_with(".volumeMounts")
        && token(&entry["name"])
        && entry["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wanted() -> Value {
        json!({
            "automountServiceAccountToken": false,
            "hostname": "s",
            "containers": [{
                "name": "agent", "image": "agent:1", "command": ["run"], "env": [{ "name": "A", "value": "b" }],
                "resources": { "limits": { "cpu": "0.5" } },
                "ports": [{ "containerPort": 8888 }],
                "volumeMounts": [{ "name": "work", "mountPath": "/work" }],
                "readinessProbe": { "httpGet": { "path": "/", "port": 8888 } },
            }],
            "volumes": [{ "name": "work", "emptyDir": { "sizeLimit": "1024Mi" } }],
        })
    }

    /// The same pod as the API server returns it.
    fn stored() -> Value {
        json!({
            "automountServiceAccountToken": false,
            "hostname": "s",
            "containers": [{
                "name": "agent", "image": "agent:1", "command": ["run"], "env": [{ "name": "A", "value": "b" }],
                "resources": { "limits": { "cpu": "500m" }, "requests": { "cpu": "500m" } },
                "ports": [{ "containerPort": 8888, "protocol": "TCP" }],
                "volumeMounts": [{ "name": "work", "mountPath": "/work" }],
                "readinessProbe": {
                    "httpGet": { "path": "/", "port": 8888, "scheme": "HTTP" },
                    "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
                },
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "imagePullPolicy": "IfNotPresent",
            }],
            "volumes": [{ "name": "work", "emptyDir": { "sizeLimit": "1Gi" } }],
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
            "serviceAccountName": "default", "serviceAccount": "default", "securityContext": {},
            "schedulerName": "default-scheduler", "priority": 0, "enableServiceLinks": true,
            "preemptionPolicy": "PreemptLowerPriority", "nodeName": "n1",
            "tolerations": [{ "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 }],
        })
    }

    #[test]
    fn what_the_api_server_fills_in_is_no_difference() {
        assert_eq!(difference(&stored(), &wanted()), None);
        assert_eq!(difference(&wanted(), &wanted()), None);
    }

    #[test]
    fn each_field_that_is_set_counts() {
        let mut paths = Vec::new();
        leaves("", &wanted(), &mut paths);
        assert!(paths.len() > 12, "{paths:?}");
        for path in paths {
            let mut other = stored();
            *other.pointer_mut(&path).unwrap() = json!("other");
            assert!(difference(&other, &wanted()).is_some(), "{path}");
        }
    }

    fn leaves(path: &str, value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => fields.iter().for_each(|(k, v)| leaves(&format!("{path}/{k}"), v, found)),
            Value::Array(values) => {
                values.iter().enumerate().for_each(|(i, v)| leaves(&format!("{path}/{i}"), v, found))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => found.push(path.to_owned()),
        }
    }

    #[test]
    fn what_somebody_added_is_a_difference() {
        for (added, path) in [
            (json!({ "hostNetwork": true }), "spec.hostNetwork"),
            (json!({ "serviceAccountName": "admin" }), "spec.serviceAccountName"),
            (json!({ "initContainers": [{ "name": "x" }] }), "spec.initContainers"),
            (json!({ "ephemeralContainers": [{ "name": "x" }] }), "spec.ephemeralContainers"),
            (json!({ "tolerations": [{ "operator": "Exists" }] }), "spec.tolerations"),
            (json!({ "shareProcessNamespace": true }), "spec.shareProcessNamespace"),
            (json!({ "restartPolicy": "Never" }), "spec.restartPolicy"),
        ] {
            let mut other = stored();
            json_patch::merge(&mut other, &added);
            assert_eq!(difference(&other, &wanted()).as_deref(), Some(path));
        }
        for (list, entry, path) in [
            ("/containers", json!({ "name": "x", "image": "x" }), "spec.containers[1]"),
            ("/containers/0/env", json!({ "name": "LD_PRELOAD", "value": "/x" }), "spec.containers[0].env[1]"),
            ("/containers/0/command", json!("x"), "spec.containers[0].command[1]"),
            (
                "/containers/0/volumeMounts",
                json!({ "name": "h", "mountPath": "/h" }),
                "spec.containers[0].volumeMounts[1]",
            ),
            ("/volumes", json!({ "name": "h", "hostPath": { "path": "/" } }), "spec.volumes[1]"),
        ] {
            let mut other = stored();
            other.pointer_mut(list).unwrap().as_array_mut().unwrap().push(entry);
            assert_eq!(difference(&other, &wanted()).as_deref(), Some(path));
        }
        for (pointer, field, value) in [
            ("/containers/0", "securityContext", json!({ "privileged": true })),
            ("/containers/0", "args", json!(["x"])),
            ("/containers/0", "lifecycle", json!({ "postStart": {} })),
            ("/containers/0", "imagePullPolicy", json!("Never")),
        ] {
            let mut other = stored();
            other.pointer_mut(pointer).unwrap()[field] = value;
            assert!(difference(&other, &wanted()).is_some(), "{field}");
        }
    }

    #[test]
    fn an_expanded_volume_claim_is_the_same_claim() {
        let claim =
            |size: &str| json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": size } } });
        let mut bound = claim("2Gi");
        json_patch::merge(
            &mut bound,
            &json!({ "storageClassName": "standard", "volumeName": "pv", "volumeMode": "Filesystem" }),
        );
        assert_eq!(difference(&bound, &claim("1Gi")), None);
        assert_eq!(difference(&claim("1Gi"), &claim("2Gi")).as_deref(), Some("spec.resources.requests.storage"));
        bound["dataSource"] = json!({ "kind": "VolumeSnapshot", "name": "other" });
        assert_eq!(difference(&bound, &claim("1Gi")).as_deref(), Some("spec.dataSource"));
    }
}
