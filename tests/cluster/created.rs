//! The objects that we created on another owner's cluster, so that exactly these objects are removed.

use kube::api::{DeleteParams, DynamicObject, PostParams, Preconditions};
use kube::core::GroupVersionKind;
use kube::discovery::{ApiResource, Scope, pinned_kind};
use kube::{Api, Client};

use crate::{Error, Result};

/// The created objects, in order.
#[derive(Default)]
pub struct CreatedObjects {
    made: Vec<Made>,
}

struct Made {
    api: Api<DynamicObject>,
    name: String,
    uid: String,
    what: String,
}

impl CreatedObjects {
    /// Creates an object and records it. An existing object is an error, because it is not ours.
    pub async fn create(&mut self, client: &Client, object: &DynamicObject) -> Result<DynamicObject> {
        let types = object.types.clone().unwrap_or_default();
        let name = object.metadata.name.clone().unwrap_or_default();
        let what = format!("{} {name}", types.kind);
        let kind = GroupVersionKind::try_from(&types).map_err(Error::format(format!("apiVersion of {what}")))?;
        let (resource, capabilities) =
            pinned_kind(client, &kind).await.map_err(Error::kube(format!("looking up {what}")))?;
        let api = api(client, &resource, &capabilities.scope, object);
        let created =
            api.create(&PostParams::default(), object).await.map_err(Error::kube(format!("creating {what}")))?;
        let uid = created.metadata.uid.clone().unwrap_or_default();
        let name = created.metadata.name.clone().unwrap_or_default();
        self.made.push(Made { api, name, uid, what });
        Ok(created)
    }

    /// Deletes the created objects, the last one first, and each only if it is still the same object. Returns the
    /// errors of the objects that could not be deleted.
    pub async fn remove(&mut self) -> Vec<Error> {
        let mut failed = Vec::new();
        while let Some(made) = self.made.pop() {
            let preconditions = Preconditions { uid: Some(made.uid), resource_version: None };
            let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
            match made.api.delete(&made.name, &params).await {
                // The object does not exist, or another object has its name. In both cases, our object is gone.
                Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
                Err(error) => failed.push(Error::kube(format!("removing {}", made.what))(error)),
                Ok(_) => {}
            }
        }
        failed
    }

    /// The number of objects to remove.
    #[must_use]
    pub fn len(&self) -> usize {
        self.made.len()
    }

    /// Whether there is no object to remove.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.made.is_empty()
    }
}

fn api(client: &Client, resource: &ApiResource, scope: &Scope, object: &DynamicObject) -> Api<DynamicObject> {
    match (scope, &object.metadata.namespace) {
        (Scope::Namespaced, Some(namespace)) => Api::namespaced_with(client.clone(), namespace, resource),
        (Scope::Namespaced, None) => Api::default_namespaced_with(client.clone(), resource),
        (Scope::Cluster, _) => Api::all_with(client.clone(), resource),
    }
}
