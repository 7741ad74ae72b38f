//! The object that is explained.

use std::fmt;

use clap::ValueEnum;
use paddock_api::kind::Kind;

/// The kinds whose objects can be explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Explained {
    /// A Sandbox.
    #[value(alias = "sandboxes")]
    Sandbox,
    /// A SandboxWarmPool of either API shape.
    #[value(aliases = ["pools", "sandboxwarmpool", "sandboxwarmpools"])]
    Pool,
    /// A SandboxClaim of either API shape.
    #[value(aliases = ["claims", "sandboxclaim", "sandboxclaims"])]
    Claim,
}

impl Explained {
    /// The kinds in the order in which they are looked for.
    pub(super) fn kinds(self) -> &'static [Kind] {
        match self {
            Explained::Sandbox => &[Kind::Sandbox],
            Explained::Pool => &[Kind::Pool, Kind::SeedPool],
            Explained::Claim => &[Kind::Claim, Kind::SeedClaim],
        }
    }

    /// The name of the kind on the wire.
    pub(super) fn name(self) -> &'static str {
        match self {
            Explained::Sandbox => Kind::Sandbox.name(),
            Explained::Pool => Kind::Pool.name(),
            Explained::Claim => Kind::Claim.name(),
        }
    }
}

/// The object that is explained.
pub(super) struct Object {
    /// Its kind.
    pub(super) kind: Explained,
    /// Its namespace.
    pub(super) namespace: String,
    /// Its name.
    pub(super) name: String,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.name(), self.namespace, self.name)
    }
}
