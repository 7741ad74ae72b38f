//! What the tooling of upstream's controller finds in the manifests.

use serde_json::json;

use super::*;

/// Upstream's documentation patches the container `agent-sandbox-controller` and replaces its arguments. Its monitors and
/// scripts select the label `app`.
#[test]
fn patches_of_upstreams_documentation_apply_and_leave_our_settings() {
    for settings in modes() {
        let documents = beside_definitions(&settings);
        let operator = |d: &&Value| d["kind"] == "Deployment" && d["metadata"]["name"] == "agent-sandbox-controller";
        let deployment = documents.iter().find(operator).expect("the Deployment");
        let pod = &deployment["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        assert_eq!(container["name"], "agent-sandbox-controller");
        assert_eq!(container["command"], json!(["/paddock", "operator"]));
        let extensions = if settings.extensions { "--extensions" } else { "--extensions=false" };
        assert_eq!(container["args"], json!([extensions, "--leader-elect=true"]));
        let mount = json!({ "name": "sandbox-config", "mountPath": "/etc/sandbox-config", "readOnly": true });
        assert!(container["volumeMounts"].as_array().expect("mounts").contains(&mount));
        let config = json!({ "name": "agent-sandbox-config", "optional": true });
        let volumes = pod["volumes"].as_array().expect("volumes");
        assert!(volumes.iter().any(|v| v["name"] == "sandbox-config" && v["configMap"] == config), "{settings:?}");
        let of_operator = |d: &&Value| d["spec"]["selector"]["app"] == "agent-sandbox-controller";
        let services = documents.iter().filter(|d| d["kind"] == "Service").filter(of_operator);
        for labelled in services.chain([deployment]) {
            assert_eq!(labelled["metadata"]["labels"]["app"], "agent-sandbox-controller", "{labelled}");
        }
    }
}
