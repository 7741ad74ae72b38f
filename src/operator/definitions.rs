//! Whether the CustomResourceDefinitions of the cluster have every field of a status that this version writes.
//!
//! The API server drops a field that a definition does not have, and reports no error. After an upgrade without the new
//! definitions, records such as `status.isolation` would be lost unseen. The operator compares its own schemas with the
//! OpenAPI documents of the API server. Every authenticated user may read these, so the operator needs no right to read
//! definitions. It reports what is missing, and changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use http::Request;
use kube::Client;
use paddock_api::crd::{StatusSchema, statuses};
use paddock_api::kind::ApiShapes;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::limits;
use crate::metrics::Metrics;

/// The comparison of the definitions.
pub(crate) struct Definitions {
    /// The client. The next comparison repeats a request that failed.
    pub(crate) client: Client,
    /// The API shapes whose kinds the operator writes.
    pub(crate) shapes: ApiShapes,
    /// The gauge of missing fields.
    pub(crate) metrics: Metrics,
    /// What is wrong, for `/readyz?verbose`.
    pub(crate) fault: watch::Sender<Option<String>>,
}

/// The missing fields of each kind that the cluster serves, by `kind.group`.
type Missing = BTreeMap<String, Vec<String>>;

/// The part of an OpenAPI document that the comparison needs.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    components: Components,
}

#[derive(Default, Deserialize)]
struct Components {
    #[serde(default)]
    schemas: BTreeMap<String, Schema>,
}

#[derive(Deserialize)]
struct Schema {
    #[serde(default, rename = "x-kubernetes-group-version-kind")]
    names: Vec<GroupVersionKind>,
    #[serde(default)]
    properties: Properties,
}

#[derive(Deserialize)]
struct GroupVersionKind {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    group: String,
}

#[derive(Default, Deserialize)]
struct Properties {
    #[serde(default)]
    status: Value,
}

impl Definitions {
    /// Compares at the start and at an interval, until the future is dropped.
    pub(crate) async fn run(self) {
        let shapes = self.shapes;
        // Schemas take milliseconds to generate.
        let Ok(ours) = spawn_blocking(move || statuses(shapes)).await else { return };
        loop {
            let compared = self.compare(&ours).await;
            if let Ok(missing) = &compared {
                self.metrics.fields_missing(missing.iter().map(|(kind, fields)| (kind.as_str(), fields.len())));
            }
            let fault = fault(&compared);
            // Documents follow definitions with a delay, so a fault may end soon, and a kind may come.
            let has_all = |missing: &Missing| ours.iter().all(|status| missing.contains_key(&name(status)));
            let pause = if fault.is_none() && compared.is_ok_and(|missing| has_all(&missing)) {
                limits::DEFINITIONS_INTERVAL
            } else {
                limits::DEFINITIONS_RETRY
            };
            self.report(fault);
            sleep(pause).await;
        }
    }

    async fn compare(&self, ours: &[StatusSchema]) -> Result<Missing, String> {
        let places: BTreeSet<_> = ours.iter().map(|status| (status.group, status.version)).collect();
        let mut found = Missing::new();
        for (group, version) in places {
            let Some(document) = self.document(group, version).await? else { continue };
            for status in ours.iter().filter(|status| (status.group, status.version) == (group, version)) {
                // A kind that is not served is no fault here.
                let Some(served) = document.status(status) else { continue };
                let mut fields = Vec::new();
                add_missing(&status.schema, served, "status", &mut fields);
                found.insert(name(status), fields);
            }
        }
        Ok(found)
    }

    /// The OpenAPI document of a version. `None` if the API server does not serve the version.
    async fn document(&self, group: &str, version: &str) -> Result<Option<Document>, String> {
        let request = Request::get(format!("/openapi/v3/apis/{group}/{version}")).body(Vec::new());
        let request = request.map_err(|error| error.to_string())?;
        let text = match timeout(limits::DEFINITIONS_REQUEST_TIMEOUT, self.client.request_text(request)).await {
            Ok(Ok(text)) => text,
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => return Ok(None),
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_elapsed) => return Err("the API server did not answer in time".to_owned()),
        };
        let read = spawn_blocking(move || serde_json::from_str(&text)).await.map_err(|error| error.to_string())?;
        read.map(Some).map_err(|error: serde_json::Error| error.to_string())
    }

    /// Reports the fault, in the log only if it changed.
    fn report(&self, fault: Option<String>) {
        let changed = self.fault.send_if_modified(|before| {
            let changed = *before != fault;
            before.clone_from(&fault);
            changed
        });
        match fault.filter(|_| changed) {
            Some(fault) => warn!(fault, "the definitions of this version may not be installed"),
            None if changed => info!("the CustomResourceDefinitions have every field that this version writes"),
            None => {}
        }
    }
}

/// The name of a kind in the metric and in messages.
fn name(of: &StatusSchema) -> String {
    format!("{}.{}", of.kind, of.group)
}

impl Document {
    /// The schema of a status as it is served. `None` if the kind is not served.
    fn status(&self, of: &StatusSchema) -> Option<&Value> {
        let is_of =
            |name: &GroupVersionKind| name.kind == of.kind && name.version == of.version && name.group == of.group;
        let schema = self.components.schemas.values().find(|schema| schema.names.iter().any(is_of))?;
        Some(&schema.properties.status)
    }
}

/// Adds the fields of one schema that the other one does not have. A field that is missing stands for all fields in it.
fn add_missing(ours: &Value, served: &Value, path: &str, missing: &mut Vec<String>) {
    if served["x-kubernetes-preserve-unknown-fields"] == Value::Bool(true) {
        return;
    }
    for (name, field) in ours["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        match served["properties"].get(name) {
            Some(served) => add_missing(field, served, &path, missing),
            None => missing.push(path),
        }
    }
    for (part, suffix) in [("items", "[]"), ("additionalProperties", ".*")] {
        if ours[part].is_object() {
            add_missing(&ours[part], &served[part], &format!("{path}{suffix}"), missing);
        }
    }
}

/// The number of fields that a message names.
const NAMED: usize = 3;

/// What is wrong, for people.
fn fault(compared: &Result<Missing, String>) -> Option<String> {
    let missing = match compared {
        Ok(missing) => missing,
        Err(error) => {
            return Some(format!(
                "CustomResourceDefinitions: it is not known whether they have every field that this version writes: {error}"
            ));
        }
    };
    let fields: Vec<String> =
        missing.iter().flat_map(|(kind, fields)| fields.iter().map(move |field| format!("{kind} {field}"))).collect();
    let (named, more) = fields.split_at(fields.len().min(NAMED));
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    (!fields.is_empty()).then(|| {
        format!(
            "CustomResourceDefinitions: the API server drops fields that this version writes: {}{more}; apply the \
             definitions of this version (`paddock crds`)",
            named.join(", ")
        )
    })
}

#[cfg(test)]
mod tests;
