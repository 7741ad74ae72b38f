//! Tokens that are limited to one Sandbox or claim: what such a token says about itself, and what it admits to.
//!
//! The claims of a token are read here without its signature. They choose the question to the API server, which verifies
//! the signature and confirms each audience. Nothing is admitted by what is read here alone.
//!
//! The API server reads a token less strictly: it takes the first word, skips line ends in base64, and ignores the bits that
//! fill up the last character. A token that it accepts and that cannot be read here would count as one without a limit, so
//! each such token is refused.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use paddock_api::token_scope::MAX_SCOPES;
use paddock_api::{ScopeKind, TokenScope};
use serde::Deserialize;

use crate::only::{Holder, Only, check_end};
use crate::refusal::{Reason, Refusal};
use crate::target::Target;

/// The scopes of a token, and its end.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scoped {
    scopes: Vec<TokenScope>,
    until: Timestamp,
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
    /// If it is no bearer token or its claims cannot be read, if one of its audiences begins like a scope and is none, if it
    /// has a scope and an audience that is none, or if it has too many scopes or no end.
    pub(super) fn read(token: &str) -> Result<Option<Self>, Refusal> {
        if !is_token68(token) {
            return Err(unauthenticated("the token has characters that no bearer token has"));
        }
        let mut parts = token.split('.');
        let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Ok(None);
        };
        let claims = URL_SAFE_NO_PAD.decode(claims).ok();
        let Some(claims) = claims.and_then(|claims| serde_json::from_slice::<Claims>(&claims).ok()) else {
            return Err(unauthenticated("the token has the form of a JSON Web Token, and its claims cannot be read"));
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
        if scopes.len() < audiences.len() {
            return Err(unauthenticated(
                "the token has audiences beside its scopes, for which it is not limited: request one that has scopes alone",
            ));
        }
        if scopes.len() > MAX_SCOPES {
            return Err(unauthenticated(format!("the token has more than {MAX_SCOPES} scopes")));
        }
        let Some(expires) = claims.exp else { return Err(unauthenticated("the token never expires")) };
        Ok(Some(Self { scopes, until: time(expires) }))
    }

    /// The audiences that the API server has to confirm.
    pub(super) fn audiences(&self) -> Arc<[String]> {
        self.scopes.iter().map(TokenScope::to_string).collect()
    }

    /// Checks the end of the token.
    ///
    /// # Errors
    /// If the token has expired.
    pub(super) fn check_end(&self, now: Timestamp) -> Result<(), Refusal> {
        check_end(self.until, now)
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
        Ok(Only::Of { holders, until: self.until })
    }
}

/// Whether a text has the form of a bearer token (RFC 6750).
fn is_token68(text: &str) -> bool {
    let words = text.trim_end_matches('=');
    !words.is_empty() && words.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte))
}

/// A time in seconds since 1970. One that is out of range is the first or the last one.
fn time(seconds: f64) -> Timestamp {
    let after = SignedDuration::try_from_secs_f64(seconds).ok();
    let time = after.and_then(|after| Timestamp::UNIX_EPOCH.checked_add(after).ok());
    time.unwrap_or(if seconds > 0.0 { Timestamp::MAX } else { Timestamp::MIN })
}

fn unauthenticated(detail: impl Into<String>) -> Refusal {
    Refusal::new(Reason::Unauthenticated, detail)
}
