//! Reads the objects of a cluster. Nothing is written: every request is a list or a get.

use std::path::Path;

use anyhow::Context as _;
use kube::api::{ApiResource, DynamicObject, ListParams, TypeMeta};
use kube::{Api, Client};
use paddock_api::SandboxPolicy;
use paddock_api::kind::Kind;
use paddock_core::isolation::POD_KINDS;
use paddock_kube::{cluster, watch};

use super::item::Item;

/// The number of objects in one page of a list.
const PAGE: u32 = 500;

/// The workloads of a cluster, or of one namespace, and the objects on which their judgement depends.
pub(super) async fn objects(
    kubeconfig: &Path,
    context: Option<&str>,
    namespace: Option<&str>,
) -> anyhow::Result<Vec<Item>> {
    let config = cluster::config(Some(kubeconfig), context).await?;
    let client = Client::try_from(config).context("making a client of the API server")?;
    let mut items = Vec::new();
    let namespaces = watch::resource(Kind::Namespace);
    match namespace {
        None => list(&namespaces, Api::all_with(client.clone(), &namespaces), false, &mut items).await?,
        Some(name) => {
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &namespaces);
            let found = api.get(name).await.with_context(|| format!("--namespace {name}: reading the Namespace"))?;
            items.push(item(&namespaces, found)?);
        }
    }
    let classes = watch::resource(Kind::RuntimeClass);
    list(&classes, Api::all_with(client.clone(), &classes), false, &mut items).await?;
    let policies = ApiResource::erase::<SandboxPolicy>(&());
    list(&policies, Api::all_with(client.clone(), &policies), true, &mut items).await?;
    let accounts = resource("", "ServiceAccount", "serviceaccounts");
    let pods = POD_KINDS.iter().map(|pods| resource(pods.group, pods.kind, pods.plural));
    let namespaced = pods.chain([accounts, watch::resource(Kind::VolumeClaim)]).map(|resource| (resource, false));
    // A cluster may serve one API shape, or none.
    let own = Kind::OWN.into_iter().map(|kind| (watch::resource(kind), true));
    for (resource, optional) in namespaced.chain(own) {
        let api = match namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        list(&resource, api, optional, &mut items).await?;
    }
    Ok(items)
}

fn resource(group: &str, kind: &str, plural: &str) -> ApiResource {
    let api_version = if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") };
    ApiResource {
        group: group.to_owned(),
        version: "v1".to_owned(),
        api_version,
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

/// Adds all objects of a kind. If the kind is `optional`, the cluster need not serve it.
async fn list(
    resource: &ApiResource,
    api: Api<DynamicObject>,
    optional: bool,
    items: &mut Vec<Item>,
) -> anyhow::Result<()> {
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = match api.list(&params).await {
            Err(kube::Error::Api(status)) if optional && status.code == 404 => return Ok(()),
            page => page.with_context(|| format!("listing {} of {}", resource.plural, resource.api_version))?,
        };
        for object in page.items {
            items.push(item(resource, object)?);
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(()),
        }
    }
}

/// An object of a list. The API server does not repeat the kind in each of them.
fn item(resource: &ApiResource, mut object: DynamicObject) -> anyhow::Result<Item> {
    object.types = Some(TypeMeta { api_version: resource.api_version.clone(), kind: resource.kind.clone() });
    object.metadata.managed_fields = None;
    Ok(Item { object: serde_json::to_value(object).context("reading an object")?, place: None })
}
