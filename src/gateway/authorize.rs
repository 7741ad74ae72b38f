//! Authentication and authorization of the clients of Sandboxes, by the API server.
//!
//! The user of a request must have the right to `create` the subresource `sandboxes/proxy` of the Sandbox
//! ([`right`]).

use std::net::IpAddr;
use std::sync::Arc;

use kube::Client;
use paddock_api::names::{group, right};
use paddock_kube::auth::{Access, Reviews, Verdict};
use paddock_kube::peer::Peer;
use tracing::warn;

use crate::refusal::{Reason, Refusal};
use crate::sandboxes::limits;
use crate::target::Target;

/// The credential of a request. The proxy has found it in the header Authorization, the query or the cookie, in this
/// order, and never forwards it.
#[derive(Clone)]
pub enum Credential {
    /// There is none.
    None,
    /// A bearer token.
    Bearer(Arc<str>),
}

/// The user of an admitted request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name of the user for the access log. `-` for an anonymous one.
    pub name: Arc<str>,
}

/// Decides which clients may use which Sandboxes. Clones are handles on the same answers.
#[derive(Clone, Debug)]
pub struct Authorizer {
    /// `None` if everybody may use every Sandbox.
    reviews: Option<Reviews>,
}

impl Authorizer {
    /// Asks the API server: a TokenReview, and a SubjectAccessReview for the Sandbox.
    #[must_use]
    pub fn reviewed(client: Client) -> Self {
        Self { reviews: Some(Reviews::new(client, limits::REVIEWS)) }
    }

    /// Admits everybody, as upstream's router does by default. Every client that reaches the gateway can then run code in
    /// every Sandbox. A log line says so.
    #[must_use]
    pub fn everybody() -> Self {
        warn!(
            "clients are not authenticated: whoever reaches the gateway can run code in every Sandbox; \
             leave out --allow-unauthenticated unless a NetworkPolicy or a proxy in front admits only trusted clients"
        );
        Self { reviews: None }
    }

    /// Whether nobody needs a credential.
    #[must_use]
    pub fn admits_everybody(&self) -> bool {
        self.reviews.is_none()
    }

    /// Decides whether the owner of the credential may use the Sandbox.
    ///
    /// # Errors
    /// If the credential is missing or unknown, the user may not use the Sandbox, or nobody could be asked.
    pub async fn check(&self, credential: &Credential, client: IpAddr, target: &Target) -> Result<Caller, Refusal> {
        let Some(reviews) = &self.reviews else { return Ok(Caller { name: "-".into() }) };
        let unauthenticated = || Refusal::new(Reason::Unauthenticated, "unauthenticated");
        let token = match credential {
            Credential::None => return Err(unauthenticated()),
            Credential::Bearer(token) if token.is_empty() => return Err(unauthenticated()),
            Credential::Bearer(token) => token,
        };
        let access = Access::Object {
            verb: right::USE_VERB,
            group: group::AGENTS,
            resource: right::USE_RESOURCE,
            subresource: right::USE_SUBRESOURCE,
            namespace: target.namespace.clone(),
            name: target.name.clone(),
        };
        match reviews.judge(token, &access, Peer::of(client).0).await {
            Verdict::Admitted(name) => Ok(Caller { name }),
            Verdict::Unauthenticated => Err(unauthenticated()),
            Verdict::Forbidden => Err(Refusal::new(Reason::Forbidden, "forbidden")),
            Verdict::Busy => {
                let detail = "too many clients are asked about now";
                Err(Refusal::new(Reason::AuthorizerBusy, detail).retry_after(crate::limits::BUSY_RETRY_AFTER))
            }
            Verdict::Unavailable(why) => Err(Refusal::new(Reason::AuthorizerFailed, &*why)),
        }
    }
}

#[cfg(test)]
mod tests;
