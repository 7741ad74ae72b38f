//! What we made on somebody else's cluster, so that this and nothing else is removed.

use kube::api::{DeleteParams, DynamicObject, PostParams, Preconditions};
use kube::core::GroupVersionKind;
use kube::discovery::{ApiResource, Scope, pinned_kind};
use kube::{Api, Client};

use crate::{Error, Result};

/// Objects that were created through it, in order.
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
    /// Creates an object and notes it. One that exists is an error: it is not ours.
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

    /// Deletes what was created, the last first, each only while it is still the same object. Gives what
    /// could not be deleted, with the reason.
    pub async fn remove(&mut self) -> Vec<Error> {
        let mut failed = Vec::new();
        while let Some(made) = self.made.pop() {
            let preconditions = Preconditions { uid: Some(made.uid), resource_version: None };
            let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
            match made.api.delete(&made.name, &params).await {
                // Not found, or found to be another's: nothing of ours is left under the name.
                Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
                Err(error) => failed.push(Error::kube(format!("removing {}", made.what))(error)),
                Ok(_) => {}
            }
        }
        failed
    }

    /// How many objects there are to remove.
    #[must_use]
    pub fn len(&self) -> usize {
        self.made.len()
    }

    /// Whether there is nothing to remove.
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
