//! The operations in a registry.

use std::time::Duration;

use bytes::Bytes;

use crate::credentials::Credentials;
use crate::digest::Digest;
use crate::error::Error;
use crate::limits;
use crate::reference::Reference;
use crate::signature::Signature;

/// The options of a client.
#[derive(Clone, Debug)]
pub struct Options {
    /// Certificates of authorities in PEM format, each text with one or more. They are trusted beside those of the system.
    pub extra_ca: Vec<Vec<u8>>,
    /// Whether registries are asked without TLS. Credentials are then sent to this machine alone.
    pub plain_http: bool,
    /// The time for one operation with all its requests.
    pub timeout: Duration,
    /// The size of the largest component that is pulled, in bytes.
    pub max_component_bytes: usize,
}

impl Options {
    /// The default options, for components of at most this size.
    #[must_use]
    pub fn new(max_component_bytes: usize) -> Self {
        Self { extra_ca: Vec::new(), plain_http: false, timeout: limits::TIMEOUT, max_component_bytes }
    }
}

/// A component that was pulled. Its digests are those of the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// The digest of the manifest, by which the artifact is named and signed.
    pub manifest_digest: Digest,
    /// The component.
    pub component: Bytes,
    /// The digest of the component, as the plugin host computes it.
    pub component_digest: Digest,
}

/// A component to push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// The file name that ORAS gives the component when it pulls the artifact, such as `sizer.wasm`.
    pub file_name: String,
    /// The component.
    pub component: Bytes,
    /// The names of its imports, for those who look at the artifact without its component.
    pub imports: Vec<String>,
    /// The names of its exports.
    pub exports: Vec<String>,
}

/// The result of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The digest of the manifest.
    pub manifest_digest: Digest,
    /// The digest of the component.
    pub component_digest: Digest,
}

/// A client of registries. It keeps no connection and no token between two operations.
#[derive(Clone)]
pub struct Client {
    options: Options,
}

impl Client {
    /// Creates a client.
    ///
    /// # Errors
    /// If a certificate cannot be read.
    pub fn new(options: Options) -> Result<Self, Error> {
        Ok(Self { options })
    }

    /// The digest of the manifest that the reference names now. The registry is asked even if the reference has a digest, so
    /// that an artifact that was deleted is noticed. The answer is what the registry says; [`Client::pull`] checks it.
    ///
    /// # Errors
    /// If the artifact does not exist, or the registry cannot be asked.
    pub async fn resolve(&self, reference: &Reference, credentials: &Credentials) -> Result<Digest, Error> {
        let _ = (reference, credentials);
        Err(Error::Options("not available yet".to_owned()))
    }

    /// Pulls a component. Every digest is checked: that of the manifest if the reference has one, and that of the component.
    ///
    /// # Errors
    /// If the artifact does not exist, is no component, is too large, or differs from a digest.
    pub async fn pull(&self, reference: &Reference, credentials: &Credentials) -> Result<Artifact, Error> {
        let _ = (reference, credentials);
        Err(Error::Options("not available yet".to_owned()))
    }

    /// Pushes a component. The same component always has the same manifest, and so the same digest.
    ///
    /// # Errors
    /// If the registry refuses it, or cannot be asked.
    pub async fn push(
        &self,
        reference: &Reference,
        credentials: &Credentials,
        upload: &Upload,
    ) -> Result<Pushed, Error> {
        let _ = (reference, credentials, upload);
        Err(Error::Options("not available yet".to_owned()))
    }

    /// The signatures of the manifest with this digest, in the repository of the reference. An artifact without signatures has
    /// an empty list. [`verify`](crate::verify) checks them.
    ///
    /// # Errors
    /// If the registry cannot be asked, or a signature differs from its digest.
    pub async fn signatures(
        &self,
        reference: &Reference,
        credentials: &Credentials,
        manifest_digest: &Digest,
    ) -> Result<Vec<Signature>, Error> {
        let _ = (reference, credentials, manifest_digest);
        Err(Error::Options("not available yet".to_owned()))
    }

    /// Adds a signature to those of the manifest with this digest. Returns the digest of the list of signatures.
    ///
    /// # Errors
    /// If there are too many signatures, or the registry refuses the signature.
    pub async fn push_signature(
        &self,
        reference: &Reference,
        credentials: &Credentials,
        manifest_digest: &Digest,
        signature: Signature,
    ) -> Result<Digest, Error> {
        let _ = (reference, credentials, manifest_digest, signature);
        Err(Error::Options("not available yet".to_owned()))
    }
}
