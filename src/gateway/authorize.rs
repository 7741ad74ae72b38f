//! Authentication and authorization of the clients of Sandboxes, by the API server.
//!
//! The user of a request must have the right to `create` the subresource `sandboxes/proxy` of the Sandbox
//! ([`right`]). A token may be limited to one Sandbox or claim as well (`scope`): its user needs the right too.

mod scope;

use std::net::IpAddr;
use std::sync::Arc;

use kube::Client;
use paddock_api::names::{group, right};
use paddock_kube::auth::{Access, Reviews, Token, Verdict};
use paddock_kube::clock::Clock;
use paddock_kube::peer::Peer;
use tracing::warn;

use self::scope::Scoped;
use crate::only::Only;
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

/// Whether tokens that are limited to one Sandbox or claim are accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScopedTokens {
    /// They are accepted beside the tokens of the API server.
    #[default]
    Accept,
    /// Only they are accepted.
    Require,
    /// They are refused.
    Refuse,
}

/// The user of an admitted request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name of the user for the access log. `-` for an anonymous one.
    pub name: Arc<str>,
    /// The Sandboxes of the name to which the credential admits.
    pub only: Only,
}

impl Caller {
    /// A user whose credential is not limited.
    #[must_use]
    pub fn unlimited(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), only: Only::Any }
    }
}

/// Decides which clients may use which Sandboxes. Clones are handles on the same answers.
#[derive(Clone, Debug)]
pub struct Authorizer {
    /// `None` if everybody may use every Sandbox.
    reviewer: Option<Reviewer>,
}

#[derive(Clone, Debug)]
struct Reviewer {
    reviews: Reviews,
    scoped: ScopedTokens,
    clock: Clock,
}

impl Authorizer {
    /// Asks the API server: a TokenReview, and a SubjectAccessReview for the Sandbox. `clock` decides whether a limited
    /// token has expired.
    #[must_use]
    pub fn reviewed(client: Client, scoped: ScopedTokens, clock: Clock) -> Self {
        Self { reviewer: Some(Reviewer { reviews: Reviews::new(client, limits::REVIEWS), scoped, clock }) }
    }

    /// Admits everybody, as upstream's router does by default. Every client that reaches the gateway can then run code in
    /// every Sandbox. A log line says so.
    #[must_use]
    pub fn everybody() -> Self {
        warn!(
            "clients are not authenticated: whoever reaches the gateway can run code in every Sandbox; \
             leave out --allow-unauthenticated unless a NetworkPolicy or a proxy in front admits only trusted clients"
        );
        Self { reviewer: None }
    }

    /// Whether nobody needs a credential.
    #[must_use]
    pub fn admits_everybody(&self) -> bool {
        self.reviewer.is_none()
    }

    /// Reads a credential, without a question to anybody.
    ///
    /// # Errors
    /// If the credential is missing, cannot be read, has expired, or is of a sort that is not accepted.
    pub(crate) fn present(&self, credential: &Credential, target: &Target) -> Result<Presented, Refusal> {
        let Some(reviewer) = &self.reviewer else { return Ok(Presented { token: None, only: Ok(Only::Any) }) };
        match credential {
            Credential::None => Err(unauthenticated("unauthenticated")),
            Credential::Bearer(token) if token.is_empty() => Err(unauthenticated("unauthenticated")),
            Credential::Bearer(token) => reviewer.present(token, target),
        }
    }

    /// The name of the user of a credential, whatever the user may do.
    ///
    /// # Errors
    /// If the API server does not know the token, or could not be asked.
    pub(crate) async fn user(&self, presented: &Presented, client: IpAddr) -> Result<Arc<str>, Refusal> {
        match (&self.reviewer, &presented.token) {
            (Some(reviewer), Some(token)) => {
                let user = reviewer.reviews.authenticate(token, Peer::of(client).0).await;
                user.map_err(|verdict| presented.refusal(verdict))
            }
            (None, _) | (_, None) => Ok("-".into()),
        }
    }

    /// Decides whether the user of a credential may use the Sandbox.
    ///
    /// # Errors
    /// If the credential is unknown, the user may not use the Sandbox, the token is limited to another Sandbox or port, or
    /// nobody could be asked.
    pub(crate) async fn admit(
        &self,
        presented: &Presented,
        client: IpAddr,
        target: &Target,
    ) -> Result<Caller, Refusal> {
        let only = match &presented.only {
            Ok(only) => only.clone(),
            // The owner of a token for another Sandbox asks about no right. Otherwise the token of one Sandbox could use up
            // the questions that all tokens of its ServiceAccount share.
            Err(refusal) => return Err(refusal.clone().of(self.user(presented, client).await?)),
        };
        let (Some(reviewer), Some(token)) = (&self.reviewer, &presented.token) else {
            return Ok(Caller::unlimited("-"));
        };
        let access = Access::Object {
            verb: right::USE_VERB,
            group: group::AGENTS,
            resource: right::USE_RESOURCE,
            subresource: right::USE_SUBRESOURCE,
            namespace: target.namespace.clone(),
            name: target.name.clone(),
        };
        match reviewer.reviews.judge(token, &access, Peer::of(client).0).await {
            // The API server has confirmed the signature and every scope. The answer may have taken a while.
            Verdict::Admitted(name) => only.check_end(reviewer.clock.now()).map(|()| Caller { name, only }),
            verdict @ (Verdict::Unauthenticated | Verdict::Forbidden(_) | Verdict::Busy | Verdict::Unavailable(_)) => {
                Err(presented.refusal(verdict))
            }
        }
    }
}

/// A credential that was read. Nobody has confirmed it yet.
#[derive(Debug)]
pub(crate) struct Presented {
    /// `None` if everybody is admitted.
    token: Option<Token>,
    /// The Sandboxes of the name to which the token admits if it is genuine, or the reason why to none.
    only: Result<Only, Refusal>,
}

impl Presented {
    /// The Sandboxes of the name to which the token admits if it is genuine. `None` if to none.
    pub(crate) fn only(&self) -> Option<&Only> {
        self.only.as_ref().ok()
    }

    /// What an answer of the API server other than an admission means for the client.
    fn refusal(&self, verdict: Verdict) -> Refusal {
        match verdict {
            Verdict::Unauthenticated => unauthenticated(match &self.only {
                Ok(Only::Any) => "unauthenticated",
                Ok(Only::Of { .. }) | Err(_) => {
                    "the API server does not accept this token: it is not genuine, or it has been revoked"
                }
            }),
            Verdict::Admitted(user) | Verdict::Forbidden(user) => Refusal::new(Reason::Forbidden, "forbidden").of(user),
            Verdict::Busy => {
                let detail = "too many clients are asked about now";
                Refusal::new(Reason::AuthorizerBusy, detail).retry_after(crate::limits::BUSY_RETRY_AFTER)
            }
            Verdict::Unavailable(why) => Refusal::new(Reason::AuthorizerFailed, &*why),
        }
    }
}

impl Reviewer {
    fn present(&self, token: &Arc<str>, target: &Target) -> Result<Presented, Refusal> {
        let Some(scoped) = self.accepted(Scoped::read(token)?)? else {
            return Ok(Presented { token: Some(Token::of_api_server(token.clone())), only: Ok(Only::Any) });
        };
        scoped.check_end(self.clock.now())?;
        let audiences = scoped.audiences();
        Ok(Presented { token: Some(Token::for_audiences(token.clone(), audiences)), only: scoped.only(target) })
    }

    /// Whether tokens of this sort are accepted.
    fn accepted(&self, scoped: Option<Scoped>) -> Result<Option<Scoped>, Refusal> {
        match (self.scoped, &scoped) {
            (ScopedTokens::Refuse, Some(_)) => {
                return Err(unauthenticated("this gateway accepts no tokens that are limited to a Sandbox or claim"));
            }
            (ScopedTokens::Require, None) => {
                return Err(unauthenticated(
                    "this gateway accepts only tokens that are limited to a Sandbox or claim, as `paddock token` prints them",
                ));
            }
            (ScopedTokens::Accept | ScopedTokens::Refuse, None)
            | (ScopedTokens::Accept | ScopedTokens::Require, Some(_)) => {}
        }
        Ok(scoped)
    }
}

fn unauthenticated(detail: &str) -> Refusal {
    Refusal::new(Reason::Unauthenticated, detail)
}

#[cfg(test)]
pub(crate) mod tests;
