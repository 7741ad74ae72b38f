//! The errors of a registry, in the classes that a caller can act on.

use crate::digest::Digest;

/// The reason why an operation in a registry failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The registry has no such manifest or blob.
    #[error("{0} does not exist in the registry")]
    NotFound(String),
    /// The credentials are missing, wrong or not sufficient, or they would have to be sent without TLS.
    #[error("{host} refused access: {reason}")]
    Unauthorized {
        /// The registry or the token server.
        host: String,
        /// The problem.
        reason: String,
    },
    /// The registry cannot be reached, does not answer in time, or answers that it cannot work now. A retry may succeed.
    #[error("{host} cannot be reached: {reason}")]
    Unreachable {
        /// The registry, the token server or the storage of blobs.
        host: String,
        /// The problem.
        reason: String,
    },
    /// The TLS connection failed, for example because no known authority signed the certificate.
    #[error("the TLS connection to {host} failed: {reason}")]
    Tls {
        /// The registry, the token server or the storage of blobs.
        host: String,
        /// The problem.
        reason: String,
    },
    /// A manifest or a component has more bytes than the limit, or than its manifest says. The rest was not read.
    #[error("{what} has more than {limit} bytes, the most that is read of it")]
    TooLarge {
        /// The manifest or the blob.
        what: String,
        /// The most bytes that are read.
        limit: u64,
    },
    /// A manifest or a blob ended early.
    #[error("{what} has {got} bytes, but must have {expected}")]
    Truncated {
        /// The manifest or the blob.
        what: String,
        /// The number of bytes that were announced.
        expected: u64,
        /// The number of bytes that arrived.
        got: u64,
    },
    /// The content does not have the digest by which it was asked for.
    #[error("{what} has the digest {got}, but must have {expected}")]
    DigestMismatch {
        /// The manifest or the blob.
        what: String,
        /// The digest by which it was asked for.
        expected: Digest,
        /// The digest of the content.
        got: Digest,
    },
    /// The artifact is not a component.
    #[error("{what} is not a component: {reason}")]
    NotAComponent {
        /// The artifact.
        what: String,
        /// The problem.
        reason: String,
    },
    /// The registry refuses the request, or its answer does not follow the specification.
    #[error("{host}: {reason}")]
    Protocol {
        /// The registry, the token server or the storage of blobs.
        host: String,
        /// The problem.
        reason: String,
    },
    /// The options of the client cannot be used.
    #[error("{0}")]
    Options(String),
}

impl Error {
    /// Whether the same operation may succeed later without a change of the artifact or of the configuration.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            // A connection that breaks ends a body early, so a truncated body may be complete the next time.
            Error::Unreachable { .. } | Error::Truncated { .. } => true,
            Error::NotFound(_)
            | Error::Unauthorized { .. }
            | Error::Tls { .. }
            | Error::TooLarge { .. }
            | Error::DigestMismatch { .. }
            | Error::NotAComponent { .. }
            | Error::Protocol { .. }
            | Error::Options(_) => false,
        }
    }

    pub(crate) fn protocol(host: &str, reason: impl Into<String>) -> Self {
        Self::Protocol { host: host.to_owned(), reason: reason.into() }
    }

    pub(crate) fn unreachable(host: &str, reason: impl Into<String>) -> Self {
        Self::Unreachable { host: host.to_owned(), reason: reason.into() }
    }

    pub(crate) fn unauthorized(host: &str, reason: impl Into<String>) -> Self {
        Self::Unauthorized { host: host.to_owned(), reason: reason.into() }
    }
}
