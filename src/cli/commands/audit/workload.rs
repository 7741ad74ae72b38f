//! The kinds that the audit looks at, and the pods that their objects describe.

use paddock_api::kind::{Kind, OwnKind};
use paddock_core::admission::marker_errors;
use paddock_core::isolation::{POD_KINDS, PodFields, PodKind};
use paddock_core::marker::{Marker, marker_of_object};
use paddock_core::model::FieldError;

use super::item::Item;

/// An object that the audit looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Workload<'a> {
    pub(super) item: &'a Item,
    pub(super) kind: WorkloadKind,
}

/// The kind of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkloadKind {
    /// A kind of the Sandbox API.
    Own(Kind),
    /// A kind of Kubernetes.
    Pods(&'static PodKind),
}

impl<'a> Workload<'a> {
    /// The object as a workload, if it is one. A pod that has ended runs nothing any more.
    pub(super) fn of(item: &'a Item) -> Option<Self> {
        let (group, kind) = (item.group(), item.kind());
        if let Some(own) = Kind::OWN.into_iter().find(|own| own.group() == group && own.name() == kind) {
            return Some(Self { item, kind: WorkloadKind::Own(own) });
        }
        let pods = POD_KINDS.iter().find(|pods| pods.group == group && pods.kind == kind)?;
        let phase = &item.object["status"]["phase"];
        let ended = pods.template.is_empty() && (phase == "Succeeded" || phase == "Failed");
        (!ended).then_some(Self { item, kind: WorkloadKind::Pods(pods) })
    }

    pub(super) fn own(self) -> Option<Kind> {
        match self.kind {
            WorkloadKind::Own(kind) => Some(kind),
            WorkloadKind::Pods(_) => None,
        }
    }

    /// Whether many Sandboxes are made from the object.
    pub(super) fn makes_many(self) -> bool {
        match self.own().and_then(Kind::own) {
            Some(OwnKind::Template(_) | OwnKind::Pool(_)) => true,
            Some(OwnKind::Sandbox | OwnKind::Claim(_)) | None => false,
        }
    }

    /// The pods that the object describes.
    pub(super) fn pods(self) -> Vec<PodFields<'a>> {
        let object = &self.item.object;
        match self.kind {
            WorkloadKind::Own(_) => PodFields::of_own(object),
            WorkloadKind::Pods(PodKind { template: "", .. }) => vec![PodFields::of_pod(object)],
            WorkloadKind::Pods(PodKind { template, .. }) => {
                let found = object.pointer(&format!("/{}", template.replace('.', "/")));
                found.map(|found| PodFields::of_template(found, template)).into_iter().collect()
            }
        }
    }

    /// The marker of generated code: of the object, and of the pods that are made from it.
    pub(super) fn marker(self) -> Marker {
        let pods = self.pods();
        let of_pods = pods.iter().map(|pod| Marker::at(pod.metadata, "/labels"));
        Marker::strongest(of_pods.chain([marker_of_object(&self.item.object)]))
    }

    /// The markers that are neither `true` nor `false`.
    pub(super) fn marker_errors(self) -> Vec<FieldError> {
        let mut errors = marker_errors(&self.item.object);
        if let WorkloadKind::Pods(PodKind { kind: "CronJob", .. }) = self.kind {
            // The template of a CronJob is where the core does not look. Its labels are those of an object of their own.
            for pod in self.pods() {
                let of_template = marker_errors(&serde_json::json!({ "metadata": pod.metadata }));
                errors.extend(of_template.into_iter().map(|error| {
                    let path = error.path.replacen("metadata", &pod.metadata_path, 1);
                    FieldError { path, message: error.message }
                }));
            }
        }
        errors
    }
}
