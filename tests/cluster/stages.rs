//! The behaviour of simulated pods: kwok's own stages, with a label and an annotation that let a test decide when a pod
//! becomes ready.

use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::{Binaries, Error, Program, Result};

/// A pod with this label, with any value, stays Pending until the label is removed.
pub const HOLD_LABEL: &str = "kwok.paddock.dev/hold";

/// The annotation with the time until the pod becomes ready, as a Go duration. It simulates the pull of an image or the
/// start of a runtime. Without it, a pod takes a few milliseconds.
pub const READY_AFTER_ANNOTATION: &str = "kwok.paddock.dev/ready-after";

/// kwok's stages from its binary, as YAML documents.
pub(crate) async fn load(binaries: &Binaries) -> Result<String> {
    let program = binaries.path(Program::KwokStages);
    let output = tokio::process::Command::new(program).env_clear().output().await;
    let output = output.map_err(Error::io("asking kwok for its stages"))?;
    adapt(&String::from_utf8_lossy(&output.stdout))
}

fn adapt(shipped: &str) -> Result<String> {
    let mut text = String::new();
    for document in serde_yaml_ng::Deserializer::from_str(shipped) {
        let mut stage = Value::deserialize(document).map_err(Error::format("reading kwok's stages"))?;
        if stage["metadata"]["name"] == "pod-ready" {
            let spec = &mut stage["spec"];
            if let Some(conditions) = spec["selector"]["matchExpressions"].as_array_mut() {
                let label = format!(".metadata.labels[{HOLD_LABEL:?}]");
                conditions.push(json!({ "key": label, "operator": "DoesNotExist" }));
            }
            let annotation = format!(".metadata.annotations[{READY_AFTER_ANNOTATION:?}]");
            spec["delay"] = json!({ "durationMilliseconds": 0, "durationFrom": { "expressionFrom": annotation } });
        }
        text.push_str("---\n");
        text.push_str(&serde_yaml_ng::to_string(&stage).map_err(Error::format("writing kwok's stages"))?);
    }
    Ok(text)
}
