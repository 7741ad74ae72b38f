//! Tokens that are limited to one Sandbox or claim: what such a token says about itself, and what it admits to.
//!
//! The claims of a token are read here without its signature. They choose the question to the API server, which verifies
//! the signature and confirms each audience. Nothing is admitted by what is read here alone.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use paddock_api::token_scope::MAX_SCOPES;
use paddock_api::{ScopeKind, TokenScope};
use serde::Deserialize;

use crate::only::{Holder, Only};
use crate::refusal::{Reason, Refusal};
use crate::target::Target;

/// The scopes of a token, and its end.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scoped {
    scopes: Vec<TokenScope>,
    /// The end, in seconds since 1970.
    expires: f64,
}

/// The claims of a token (RFC 7519) that are used.
#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    aud: Audiences,
    exp: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Many(Vec<String>),
}

impl Default for Audiences {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Scoped {
    /// Reads a token. `None` if it is not limited to a Sandbox or claim, or no JSON Web Token.
    ///
    /// # Errors
    /// If one of its audiences begins like a scope and is none, or if it has too many scopes or no end.
    pub(super) fn read(token: &str) -> Result<Option<Self>, Refusal> {
        let mut parts = token.split('.');
        let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Ok(None);
        };
        let claims = URL_SAFE_NO_PAD.decode(claims).ok();
        let Some(claims) = claims.and_then(|claims| serde_json::from_slice::<Claims>(&claims).ok()) else {
            return Ok(None);
        };
        let audiences = match claims.aud {
            Audiences::One(audience) => vec![audience],
            Audiences::Many(audiences) => audiences,
        };
        let scopes: Result<Vec<TokenScope>, _> = audiences.iter().filter_map(|a| TokenScope::of_audience(a)).collect();
        let scopes = scopes.map_err(|error| unauthenticated(format!("the token is of no use here: {error}")))?;
        if scopes.is_empty() {
            return Ok(None);
        }
        if scopes.len() > MAX_SCOPES {
            return Err(unauthenticated(format!("the token has more than {MAX_SCOPES} scopes")));
        }
        let Some(expires) = claims.exp else { return Err(unauthenticated("the token never expires")) };
        Ok(Some(Self { scopes, expires }))
    }

    /// The audiences that the API server has to confirm.
    pub(super) fn audiences(&self) -> Arc<[String]> {
        self.scopes.iter().map(TokenScope::to_string).collect()
    }

    /// Checks the end of the token. The API server accepts an expired token for another minute, and an answer that is
    /// remembered counts for longer still.
    ///
    /// # Errors
    /// If the token has expired.
    pub(super) fn check_end(&self, now: Timestamp) -> Result<(), Refusal> {
        let now = now.duration_since(Timestamp::UNIX_EPOCH).as_secs_f64();
        // A comparison with a time that is no number is false.
        if now < self.expires { Ok(()) } else { Err(unauthenticated("the token has expired")) }
    }

    /// What a confirmed token admits to at a target.
    ///
    /// # Errors
    /// If no scope is for this Sandbox or for a claim of its namespace, or none is for the port.
    pub(super) fn only(&self, target: &Target) -> Result<Only, Refusal> {
        let named = |scope: &&TokenScope| {
            scope.namespace == *target.namespace
                && match scope.kind {
                    ScopeKind::Sandbox => scope.name == *target.name,
                    // The names of a claim and of its Sandbox differ.
                    ScopeKind::Claim => true,
                }
        };
        let named: Vec<&TokenScope> = self.scopes.iter().filter(named).collect();
        if named.is_empty() {
            return Err(Refusal::new(Reason::Forbidden, "the token is for another Sandbox"));
        }
        let opens = named.into_iter().filter(|scope| scope.port.is_none_or(|port| port == target.port));
        let holders: Arc<[Holder]> = opens
            .map(|scope| match scope.kind {
                ScopeKind::Sandbox => Holder::Sandbox(scope.uid.as_str().into()),
                ScopeKind::Claim => Holder::Claim(scope.uid.as_str().into()),
            })
            .collect();
        if holders.is_empty() {
            return Err(Refusal::new(Reason::Forbidden, format!("the token is not for port {}", target.port)));
        }
        Ok(Only::Of(holders))
    }
}

fn unauthenticated(detail: impl Into<String>) -> Refusal {
    Refusal::new(Reason::Unauthenticated, detail)
}
