//! The Sandbox to which a credential is limited.
//!
//! A request names a Sandbox by its name, and another Sandbox may have the name later, even while the request is held. A
//! limited credential therefore names UIDs, which are compared with those of the Sandbox that answers.

use std::sync::Arc;

use jiff::Timestamp;

use crate::refusal::{Reason, Refusal};

/// The Sandboxes of a name to which a credential admits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Only {
    /// Each Sandbox that ever has the name.
    #[default]
    Any,
    /// Only a Sandbox that one of these is or has, and only until a time.
    Of {
        /// The objects that the credential names.
        holders: Arc<[Holder]>,
        /// The end of the credential.
        until: Timestamp,
    },
}

/// An object that a credential names, by its UID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The Sandbox itself.
    Sandbox(Arc<str>),
    /// The claim that has the Sandbox.
    Claim(Arc<str>),
}

/// The UIDs of a Sandbox and of the claim that has it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) sandbox: Arc<str>,
    pub(crate) claim: Option<Arc<str>>,
}

impl Only {
    /// Checks that a credential admits to the Sandbox of this identity now.
    ///
    /// # Errors
    /// If the credential has ended, is for another Sandbox of the name, or for a claim that does not have the Sandbox.
    pub(crate) fn check(&self, name: &str, identity: &Identity, now: Timestamp) -> Result<(), Refusal> {
        self.check_end(now)?;
        match self {
            Only::Of { holders, .. } if !holders.iter().any(|holder| holder.is(identity)) => Err(self.another(name)),
            Only::Of { .. } | Only::Any => Ok(()),
        }
    }

    /// Checks that a credential may be for a Sandbox that does not exist. No claim has it.
    ///
    /// # Errors
    /// If the credential names claims alone.
    pub(crate) fn check_absent(&self, name: &str) -> Result<(), Refusal> {
        match self {
            Only::Of { holders, .. } if holders.iter().all(|holder| matches!(holder, Holder::Claim(_))) => {
                Err(self.another(name))
            }
            Only::Of { .. } | Only::Any => Ok(()),
        }
    }

    /// Checks the end of a credential. The API server accepts an expired token for another minute, an answer that is
    /// remembered counts for longer still, and a request may be held.
    ///
    /// # Errors
    /// If the credential has ended.
    pub(crate) fn check_end(&self, now: Timestamp) -> Result<(), Refusal> {
        match self {
            Only::Of { until, .. } => check_end(*until, now),
            Only::Any => Ok(()),
        }
    }

    fn another(&self, name: &str) -> Refusal {
        let holders: &[Holder] = match self {
            Only::Of { holders, .. } => holders,
            Only::Any => &[],
        };
        let of_claim = holders.iter().any(|holder| matches!(holder, Holder::Claim(_)));
        let detail = if of_claim {
            format!("the token is for a claim that does not have Sandbox {name} now")
        } else {
            format!("the token is for another Sandbox of the name {name}")
        };
        Refusal::new(Reason::Forbidden, detail)
    }
}

/// See [`Only::check_end`].
pub(crate) fn check_end(until: Timestamp, now: Timestamp) -> Result<(), Refusal> {
    if now < until { Ok(()) } else { Err(Refusal::new(Reason::Unauthenticated, "the token has expired")) }
}

impl Holder {
    fn is(&self, identity: &Identity) -> bool {
        match self {
            Holder::Sandbox(uid) => *uid == identity.sandbox,
            Holder::Claim(uid) => identity.claim.as_ref() == Some(uid),
        }
    }
}
