//! The Sandbox to which a credential is limited.
//!
//! A request names a Sandbox by its name, and another Sandbox may have the name later, even while the request is held. A
//! limited credential therefore names UIDs, which are compared with those of the Sandbox that answers.

use std::sync::Arc;

use crate::refusal::{Reason, Refusal};

/// The Sandboxes of a name to which a credential admits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Only {
    /// Each Sandbox that ever has the name.
    #[default]
    Any,
    /// Only a Sandbox that one of these is or has.
    Of(Arc<[Holder]>),
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
    /// Checks that a credential admits to the Sandbox of this identity.
    ///
    /// # Errors
    /// If the credential is for another Sandbox of the name, or for a claim that does not have the Sandbox.
    pub(crate) fn check(&self, name: &str, identity: &Identity) -> Result<(), Refusal> {
        let Only::Of(holders) = self else { return Ok(()) };
        if holders.iter().any(|holder| holder.is(identity)) {
            return Ok(());
        }
        let of_claim = holders.iter().any(|holder| matches!(holder, Holder::Claim(_)));
        let detail = if of_claim {
            format!("the token is for a claim that does not have Sandbox {name} now")
        } else {
            format!("the token is for an earlier Sandbox of the name {name}")
        };
        Err(Refusal::new(Reason::Forbidden, detail))
    }
}

impl Holder {
    fn is(&self, identity: &Identity) -> bool {
        match self {
            Holder::Sandbox(uid) => *uid == identity.sandbox,
            Holder::Claim(uid) => identity.claim.as_ref() == Some(uid),
        }
    }
}
