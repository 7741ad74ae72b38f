//! The two questions of the proxy: whether a client may use a Sandbox, and how to reach it.

use std::net::IpAddr;

use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::arrival::Arrival;
use crate::authorize::{Authorizer, Caller, Credential};
use crate::refusal::{Reason, Refusal};
use crate::sandboxes::{Awake, Connected, Sandboxes};
use crate::target::Target;

/// Answers the questions of the proxy. A test has its own.
pub(crate) trait Backend: Send + Sync + 'static {
    /// Decides whether the owner of a credential may use a Sandbox.
    fn check<'a>(
        &'a self,
        credential: &'a Credential,
        client: IpAddr,
        target: &'a Target,
    ) -> BoxFuture<'a, Result<Caller, Refusal>>;

    /// See [`Sandboxes::awake`].
    fn awake(&self, target: &Target, arrival: &Arrival) -> Option<Awake>;

    /// See [`Sandboxes::connect`].
    fn connect<'a>(
        &'a self,
        target: &'a Target,
        arrival: &'a Arrival,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Connected, Refusal>>;
}

/// The answers of the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) sandboxes: Sandboxes,
    pub(crate) authorizer: Authorizer,
}

impl Backend for Cluster {
    fn check<'a>(
        &'a self,
        credential: &'a Credential,
        client: IpAddr,
        target: &'a Target,
    ) -> BoxFuture<'a, Result<Caller, Refusal>> {
        // Sandboxed code must not reach the Sandboxes of others past their NetworkPolicies.
        if self.authorizer.admits_everybody() && self.sandboxes.is_pod(client) {
            let detail = "a sandbox may use other sandboxes only with a credential, and this gateway checks none";
            return Box::pin(std::future::ready(Err(Refusal::new(Reason::Forbidden, detail))));
        }
        Box::pin(async move {
            let presented = self.authorizer.present(credential, target)?;
            if let Some(only) = presented.only()
                && self.sandboxes.check_only(target, only).is_err()
            {
                // The answer would tell a client with a forged token which Sandboxes exist.
                let user = self.authorizer.user(&presented, client).await?;
                self.sandboxes.becomes(target, only).await.map_err(|refusal| refusal.of(user))?;
            }
            self.authorizer.admit(&presented, client, target).await
        })
    }

    fn awake(&self, target: &Target, arrival: &Arrival) -> Option<Awake> {
        self.sandboxes.awake(target, arrival)
    }

    fn connect<'a>(
        &'a self,
        target: &'a Target,
        arrival: &'a Arrival,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Connected, Refusal>> {
        Box::pin(self.sandboxes.connect(target, arrival, deadline))
    }
}
