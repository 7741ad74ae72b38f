//! The Deployment that this process belongs to. The webhook configurations are deleted together with it, and with no
//! other one.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Api, Client, ResourceExt};
use parking_lot::Mutex;
use tracing::{debug, info, warn};

/// The place in the cluster that the operator runs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployed {
    /// The namespace of the Deployment.
    pub namespace: String,
    /// How the Deployment is found.
    pub workload: Workload,
}

/// How the operator's Deployment is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Workload {
    /// The Deployment has this name.
    Deployment(String),
    /// The Deployment owns the pod with this name, which is the operator's own.
    OwnerOfPod(String),
}

/// The operator's Deployment. It is looked up until it was found once.
pub(super) struct OwnDeployment {
    client: Client,
    deployed: Deployed,
    found: Mutex<Option<Identity>>,
}

#[derive(Clone, Debug)]
struct Identity {
    name: String,
    uid: String,
}

impl OwnDeployment {
    pub(super) fn new(client: Client, deployed: Deployed) -> Self {
        Self { client, deployed, found: Mutex::new(None) }
    }

    pub(super) fn namespace(&self) -> &str {
        &self.deployed.namespace
    }

    /// Looks the Deployment up, unless that succeeded before.
    pub(super) async fn find(&self) {
        if self.found.lock().is_some() {
            return;
        }
        match self.look_up().await {
            Ok(Some(identity)) => {
                info!(deployment = identity.name, uid = identity.uid, "the operator belongs to this Deployment");
                *self.found.lock() = Some(identity);
            }
            Ok(None) => debug!(deployed = ?self.deployed, "the operator's Deployment was not found"),
            Err(error) => debug!(deployed = ?self.deployed, %error, "the operator's Deployment could not be read"),
        }
    }

    async fn look_up(&self) -> kube::Result<Option<Identity>> {
        let namespace = &self.deployed.namespace;
        let pod = match &self.deployed.workload {
            Workload::Deployment(name) => {
                let found = Api::<Deployment>::namespaced(self.client.clone(), namespace).get_opt(name).await?;
                return Ok(found.and_then(|d| Some(Identity { name: name.clone(), uid: d.uid()? })));
            }
            Workload::OwnerOfPod(pod) => pod,
        };
        let Some(pod) = Api::<Pod>::namespaced(self.client.clone(), namespace).get_opt(pod).await? else {
            return Ok(None);
        };
        let Some(owner) = controller(&pod.metadata, "ReplicaSet") else { return Ok(None) };
        let set = Api::<ReplicaSet>::namespaced(self.client.clone(), namespace).get_opt(&owner.name).await?;
        let Some(set) = set.filter(|set| set.metadata.uid.as_ref() == Some(&owner.uid)) else { return Ok(None) };
        let owner = controller(&set.metadata, "Deployment");
        Ok(owner.map(|owner| Identity { name: owner.name.clone(), uid: owner.uid.clone() }))
    }

    /// Whether the Deployment is deleted or being deleted. A Deployment of the same name that was made later is another
    /// one, and its pods use the webhook configurations.
    pub(super) async fn is_gone(&self) -> kube::Result<bool> {
        let Some(identity) = self.found.lock().clone() else {
            warn!("it is not known which Deployment this process belongs to, so the webhook configurations stay");
            return Ok(false);
        };
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &self.deployed.namespace);
        Ok(match deployments.get_opt(&identity.name).await? {
            None => true,
            Some(found) => found.uid() == Some(identity.uid) && found.metadata.deletion_timestamp.is_some(),
        })
    }
}

fn controller<'a>(metadata: &'a ObjectMeta, kind: &str) -> Option<&'a OwnerReference> {
    let owners = metadata.owner_references.iter().flatten();
    owners
        .filter(|owner| owner.controller == Some(true))
        .find(|owner| owner.kind == kind && owner.api_version.starts_with("apps/"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use axum::body::Body;
    use http::{Request, Response, StatusCode};
    use serde_json::{Value, json};

    use super::*;

    type Objects = Arc<Mutex<BTreeMap<&'static str, Value>>>;

    const POD: &str = "/api/v1/namespaces/ns/pods/operator-1";
    const SET: &str = "/apis/apps/v1/namespaces/ns/replicasets/operator-6d";
    const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/ns/deployments/operator";

    /// An object with a UID, and with the name and the UID of its controller.
    fn object(uid: &str, owner: Option<[&str; 3]>) -> Value {
        let owners: Vec<Value> = owner
            .iter()
            .map(|[kind, name, uid]| {
                json!({ "apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true })
            })
            .collect();
        json!({ "metadata": { "uid": uid, "ownerReferences": owners } })
    }

    /// The objects of a Deployment with one pod.
    fn deployed() -> Objects {
        Arc::new(Mutex::new(BTreeMap::from([
            (POD, object("p", Some(["ReplicaSet", "operator-6d", "s"]))),
            (SET, object("s", Some(["Deployment", "operator", "d"]))),
            (DEPLOYMENT, object("d", None)),
        ])))
    }

    fn operator(objects: &Objects, workload: Workload) -> OwnDeployment {
        let objects = objects.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let found = objects.lock().get(request.uri().path()).cloned();
            let missing = json!({ "kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound" });
            let status = if found.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
            let body = Body::from(found.unwrap_or(missing).to_string());
            std::future::ready(Ok::<_, std::io::Error>(Response::builder().status(status).body(body).unwrap()))
        });
        OwnDeployment::new(Client::new(service, "ns"), Deployed { namespace: "ns".to_owned(), workload })
    }

    #[tokio::test]
    async fn only_the_deployment_that_owns_this_pod_counts() {
        let by_pod = || Workload::OwnerOfPod("operator-1".to_owned());
        let by_name = || Workload::Deployment("operator".to_owned());
        let mut terminating = object("d", None);
        terminating["metadata"]["deletionTimestamp"] = "2026-11-29T12:00:00Z".into();
        for (what, later, gone) in [
            ("it is there", Some(object("d", None)), false),
            ("it is gone", None, true),
            ("it is terminating", Some(terminating), true),
            ("another one with its name was made", Some(object("e", None)), false),
        ] {
            for workload in [by_pod(), by_name()] {
                let objects = deployed();
                let operator = operator(&objects, workload.clone());
                operator.find().await;
                // At the shutdown, the pod may be gone already.
                objects.lock().clear();
                if let Some(later) = &later {
                    objects.lock().insert(DEPLOYMENT, later.clone());
                }
                operator.find().await;
                assert_eq!(operator.is_gone().await.unwrap(), gone, "{what}, {workload:?}");
            }
        }
    }

    #[tokio::test]
    async fn nothing_is_deleted_for_a_process_whose_deployment_is_not_known() {
        let wrong_uid = ("of another ReplicaSet", SET, object("other", Some(["Deployment", "operator", "d"])));
        for (what, path, there) in [
            ("without an owner", POD, object("p", None)),
            ("of a StatefulSet", POD, object("p", Some(["StatefulSet", "operator", "d"]))),
            ("of a ReplicaSet alone", SET, object("s", None)),
            wrong_uid,
        ] {
            let objects = deployed();
            objects.lock().insert(path, there);
            let operator = operator(&objects, Workload::OwnerOfPod("operator-1".to_owned()));
            operator.find().await;
            objects.lock().clear();
            assert!(!operator.is_gone().await.unwrap(), "a pod {what}");
        }
        let unknown = operator(&deployed(), Workload::Deployment("renamed".to_owned()));
        unknown.find().await;
        assert!(!unknown.is_gone().await.unwrap(), "a Deployment that was never there is not gone");
    }
}
