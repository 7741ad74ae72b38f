//! Asks the API server for a token that is limited to a Sandbox or a claim.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{DynamicObject, PostParams};
use kube::core::Status;
use kube::{Api, Client, ResourceExt as _};
use paddock_api::kind::{ApiShapes, Kind, OwnKind};
use paddock_api::names::{group, object, right};
use paddock_api::{ScopeKind, TokenScope};
use paddock_kube::user::service_account_user;
use paddock_kube::watch::resource;

/// The wish of a user.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) subject: Subject,
    pub(super) namespace: String,
    /// The only ports. Every port if there are none.
    pub(super) ports: Vec<u16>,
    pub(super) ttl: Duration,
    pub(super) service_account: String,
    pub(super) bound: Option<Bound>,
}

/// The object that the token is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// The Sandbox of this name.
    Sandbox(String),
    /// The claim of this name, in one of the API shapes.
    Claim(String, ApiShapes),
}

/// The object whose deletion revokes the token.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) uid: Option<String>,
}

/// A token. It has no `Debug`, so that it gets into no output by chance.
pub(super) struct Issued {
    pub(super) token: String,
    /// What its user should know.
    pub(super) notes: Vec<String>,
}

/// The object that was found, and the Sandbox that the token admits to now.
struct Found {
    scope: TokenScope,
    /// The Sandbox. `None` if the claim has none yet.
    sandbox: Option<String>,
}

impl Request {
    /// The name of the ServiceAccount as a user.
    pub(super) fn user(&self) -> String {
        service_account_user(&self.namespace, &self.service_account)
    }

    /// The commands that make the ServiceAccount a user of every Sandbox of the namespace.
    fn binding(&self) -> String {
        let Self { namespace, service_account, .. } = self;
        format!(
            "kubectl -n {namespace} create rolebinding {service_account} --clusterrole={} \
             --serviceaccount={namespace}:{service_account}",
            object::USER_ROLE
        )
    }
}

/// Finds the object, requests the token, and asks whether the ServiceAccount may use the Sandbox.
pub(super) async fn issue(client: &Client, as_account: &Client, request: &Request) -> anyhow::Result<Issued> {
    let found = find(client, request).await?;
    let mut notes = Vec::new();
    let answer = ask(client, request, &found.scope).await?;
    let token = answer.status.and_then(|status| status.token).filter(|token| !token.is_empty());
    let token = token.context("the API server answered without a token")?;
    let wanted = i64::try_from(request.ttl.as_secs()).unwrap_or(i64::MAX);
    let got = answer.spec.and_then(|spec| spec.expiration_seconds).unwrap_or(wanted);
    if got != wanted {
        notes.push(format!("the API server issues this token for {got}s, and not for the {wanted}s of --ttl"));
    }
    notes.extend(check_right(as_account, request, found.sandbox).await?);
    Ok(Issued { token, notes })
}

async fn find(client: &Client, request: &Request) -> anyhow::Result<Found> {
    let namespace = &request.namespace;
    let (scope_kind, object, sandbox) = match &request.subject {
        Subject::Sandbox(name) => {
            let Some(sandbox) = get(client, Kind::Sandbox, namespace, name).await? else {
                bail!("there is no Sandbox {name} in namespace {namespace}");
            };
            if let Some(pool) = pool_of(&sandbox) {
                bail!("Sandbox {name} belongs to pool {pool}, and no claim has it: create a claim, and use --claim");
            }
            (ScopeKind::Sandbox, sandbox, Some(name.clone()))
        }
        Subject::Claim(name, shapes) => {
            let (mut found, mut failed) = (Vec::new(), None);
            for kind in Kind::OWN.into_iter().filter(|kind| is_claim(*kind) && kind.is_served(*shapes)) {
                match get(client, kind, namespace, name).await {
                    Ok(claim) => found.extend(claim),
                    // A user may have rights on the claims of one shape alone.
                    Err(error) => failed = Some(error),
                }
            }
            let Some(claim) = found.pop() else {
                return Err(
                    failed.unwrap_or_else(|| anyhow!("there is no SandboxClaim {name} in namespace {namespace}"))
                );
            };
            if !found.is_empty() {
                bail!("there are two SandboxClaims {name} in namespace {namespace}: choose one with --surface");
            }
            let sandbox = claim.data["status"]["sandbox"]["name"].as_str().filter(|name| !name.is_empty());
            let sandbox = sandbox.map(str::to_owned);
            (ScopeKind::Claim, claim, sandbox)
        }
    };
    let name = object.name_any();
    if object.metadata.deletion_timestamp.is_some() {
        bail!("{} {name} in namespace {namespace} is being deleted", object.types.map_or_else(String::new, |t| t.kind));
    }
    let uid = object.metadata.uid.context("the API server sent an object without a UID")?;
    let scope = TokenScope { kind: scope_kind, namespace: namespace.clone(), name, uid, port: None };
    Ok(Found { scope, sandbox })
}

fn is_claim(kind: Kind) -> bool {
    matches!(kind.own(), Some(OwnKind::Claim(_)))
}

/// The pool that controls a Sandbox.
fn pool_of(sandbox: &DynamicObject) -> Option<&str> {
    let controller = sandbox.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
    let kind = Kind::of_reference(&controller.api_version, &controller.kind).and_then(Kind::own);
    matches!(kind, Some(OwnKind::Pool(_))).then_some(controller.name.as_str())
}

async fn get(client: &Client, kind: Kind, namespace: &str, name: &str) -> anyhow::Result<Option<DynamicObject>> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource(kind));
    match api.get_opt(name).await {
        Err(kube::Error::Api(status)) if status.code == 403 => {
            bail!("you may not get {} in namespace {namespace}: {}", kind.resource(), status.message)
        }
        found => found.with_context(|| format!("reading {} {name}", kind.name())),
    }
}

async fn ask(client: &Client, request: &Request, scope: &TokenScope) -> anyhow::Result<TokenRequest> {
    let Request { namespace, service_account, .. } = request;
    let of_port = |port: &u16| TokenScope { port: Some(*port), ..scope.clone() };
    let mut audiences: Vec<String> = request.ports.iter().map(|port| of_port(port).to_string()).collect();
    if audiences.is_empty() {
        audiences.push(scope.to_string());
    }
    let spec = TokenRequestSpec {
        audiences: Some(audiences),
        bound_object_ref: request.bound.as_ref().map(|bound| BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some(bound.kind.to_owned()),
            name: Some(bound.name.clone()),
            uid: bound.uid.clone(),
        }),
        expiration_seconds: Some(i64::try_from(request.ttl.as_secs()).unwrap_or(i64::MAX)),
        ..TokenRequestSpec::default()
    };
    let wanted = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    match accounts.create_token_request(service_account, &PostParams::default(), &wanted).await {
        Err(kube::Error::Api(status)) => Err(anyhow!(refused(request, &status))),
        answer => answer.with_context(|| format!("requesting a token of ServiceAccount {service_account}")),
    }
}

/// What a refusal of the API server means.
fn refused(request: &Request, status: &Status) -> String {
    let Request { namespace, service_account, .. } = request;
    let of = status.details.as_ref().map_or("", |details| details.kind.as_str());
    match status.code {
        404 if of == "serviceaccounts" => format!(
            "there is no ServiceAccount {service_account} in namespace {namespace}: name another one with \
             --service-account, or create it: kubectl -n {namespace} create serviceaccount {service_account} && {}",
            request.binding()
        ),
        403 => format!(
            "you may not create tokens of ServiceAccount {service_account} in namespace {namespace} (create \
             serviceaccounts/token, which the ClusterRole edit contains): {}",
            status.message
        ),
        _ => format!("the API server issues no token: {}", status.message),
    }
}

/// Whether the ServiceAccount may use the Sandbox. The result is a note if nobody can be asked.
async fn check_right(
    as_account: &Client,
    request: &Request,
    sandbox: Option<String>,
) -> anyhow::Result<Option<String>> {
    let Request { namespace, service_account, .. } = request;
    let attributes = ResourceAttributes {
        verb: Some(right::USE_VERB.to_owned()),
        group: Some(group::AGENTS.to_owned()),
        resource: Some(right::USE_RESOURCE.to_owned()),
        subresource: Some(right::USE_SUBRESOURCE.to_owned()),
        namespace: Some(namespace.clone()),
        name: sandbox.clone(),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(as_account.clone());
    let allowed = match reviews.create(&PostParams::default(), &review).await {
        Ok(answer) => answer.status.is_some_and(|status| status.allowed && status.denied != Some(true)),
        Err(error) => {
            let forbidden = matches!(&error, kube::Error::Api(status) if status.code == 403);
            let why = if forbidden { "you may not impersonate it" } else { "the API server could not be asked" };
            return Ok(Some(format!(
                "whether ServiceAccount {service_account} may use the Sandbox is not known, because {why}: {error}"
            )));
        }
    };
    match (allowed, sandbox) {
        (true, _) => Ok(None),
        (false, Some(sandbox)) => bail!(
            "ServiceAccount {service_account} may not use Sandbox {sandbox} (create sandboxes/proxy): {}",
            request.binding()
        ),
        (false, None) => Ok(Some(format!(
            "the claim has no Sandbox yet, and ServiceAccount {service_account} may not use every Sandbox of namespace \
             {namespace}: {}",
            request.binding()
        ))),
    }
}
