//! The operations in a registry.

mod challenge;
mod session;
mod transport;

#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;

use self::session::{Access, Session};
use self::transport::Transport;
use crate::credentials::Credentials;
use crate::digest::Digest;
use crate::error::Error;
use crate::limits;
use crate::manifest::{Manifest, Upload};
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
    transport: Transport,
    timeout: Duration,
    max_component_bytes: usize,
}

impl Client {
    /// Creates a client. It reads the certificates of the system.
    ///
    /// # Errors
    /// If a certificate of [`Options::extra_ca`] cannot be read.
    pub fn new(options: Options) -> Result<Self, Error> {
        let Options { extra_ca, plain_http, timeout, max_component_bytes } = options;
        Ok(Self { transport: Transport::new(&extra_ca, plain_http)?, timeout, max_component_bytes })
    }

    /// The same client, but registries are asked without TLS, as [`Options::plain_http`] says.
    #[must_use]
    pub fn with_plain_http(self) -> Self {
        Self { transport: self.transport.with_plain_http(), ..self }
    }

    /// The digest of the manifest that the reference names now. The registry is asked even if the reference has a digest, so
    /// that an artifact that was deleted is noticed. The answer is what the registry says; [`Client::pull`] checks it.
    ///
    /// # Errors
    /// If the artifact does not exist, or the registry cannot be asked.
    pub async fn resolve(&self, reference: &Reference, credentials: &Credentials) -> Result<Digest, Error> {
        let mut session = Session::new(&self.transport, reference, credentials, Access::Pull);
        self.in_time(reference, session.resolve()).await
    }

    /// Pulls a component. Every digest is checked: that of the manifest if the reference has one, and that of the component.
    ///
    /// # Errors
    /// If the artifact does not exist, is no component, is too large, or differs from a digest.
    pub async fn pull(&self, reference: &Reference, credentials: &Credentials) -> Result<Artifact, Error> {
        let mut session = Session::new(&self.transport, reference, credentials, Access::Pull);
        let what = reference.to_string();
        let pull = async {
            let received = session.manifest().await?;
            let manifest = Manifest::parse(&received.content);
            let not_a_component = |reason| Error::NotAComponent { what: what.clone(), reason };
            let manifest = manifest.map_err(not_a_component)?;
            let layer = manifest.component().map_err(not_a_component)?;
            let what = format!("the component of {what}");
            let component = session.blob(&what, layer, self.max_component_bytes as u64).await?;
            Ok(Artifact { manifest_digest: received.digest, component, component_digest: layer.digest.clone() })
        };
        self.in_time(reference, pull).await
    }

    /// Pushes a component. The same component with the same file name always has the same manifest, and so the same digest.
    ///
    /// # Errors
    /// If the reference has no tag or has a digest, the component is too large, or the registry refuses it.
    pub async fn push(
        &self,
        reference: &Reference,
        credentials: &Credentials,
        upload: &Upload,
    ) -> Result<Pushed, Error> {
        if reference.tag().is_none() || reference.digest().is_some() {
            return Err(Error::Options(format!("{reference} must end with a tag and have no digest")));
        }
        let what = format!("the component of {reference}");
        if upload.component.len() > self.max_component_bytes {
            return Err(Error::TooLarge { what, limit: self.max_component_bytes as u64 });
        }
        let written = Manifest::of_component(upload).map_err(|error| Error::Options(error.to_string()))?;
        let mut session = Session::new(&self.transport, reference, credentials, Access::Push);
        let push = async {
            session.put_blob(&what, upload.component.clone()).await?;
            session.put_blob(&what, written.config).await?;
            session.put_manifest(written.manifest).await
        };
        let manifest_digest = self.in_time(reference, push).await?;
        Ok(Pushed { manifest_digest, component_digest: Digest::of(&upload.component) })
    }

    /// The signatures of the manifest with this digest, in the repository of the reference. An artifact without signatures has
    /// an empty list. [`verify`](crate::verify) checks them.
    ///
    /// # Errors
    /// If the registry cannot be asked, there are too many signatures, or one of them is too large or differs from its
    /// digest.
    pub async fn signatures(
        &self,
        reference: &Reference,
        credentials: &Credentials,
        manifest_digest: &Digest,
    ) -> Result<Vec<Signature>, Error> {
        let place = signatures_of(reference, manifest_digest);
        let mut session = Session::new(&self.transport, &place, credentials, Access::Pull);
        let read = async {
            let mut signatures = Vec::new();
            let Some(manifest) = signature_list(&mut session, &place).await? else { return Ok(signatures) };
            let what = format!("a signature of {place}");
            for layer in manifest.signatures() {
                let payload = session.blob(&what, layer, limits::SMALL_BODY_BYTES as u64).await?;
                signatures.push(Signature { payload: payload.to_vec(), signature: layer.signature() });
            }
            Ok(signatures)
        };
        self.in_time(reference, read).await
    }

    /// Adds a signature to those of the manifest with this digest. Returns the digest of the list of signatures. If two
    /// clients do this at the same time, one of the signatures may be lost, because registries have no conditional writes.
    ///
    /// # Errors
    /// If there are too many signatures, or the registry refuses the signature.
    pub async fn push_signature(
        &self,
        reference: &Reference,
        credentials: &Credentials,
        manifest_digest: &Digest,
        signature: &Signature,
    ) -> Result<Digest, Error> {
        let place = signatures_of(reference, manifest_digest);
        let mut session = Session::new(&self.transport, &place, credentials, Access::Push);
        let add = async {
            let before = signature_list(&mut session, &place).await?;
            if before.iter().flat_map(Manifest::signatures).count() >= limits::SIGNATURES {
                let limit = limits::SIGNATURES;
                return Err(Error::protocol(
                    place.host(),
                    format!("{place} has {limit} signatures, which is the limit"),
                ));
            }
            let written = Manifest::of_signatures(before, &signature.payload, &signature.signature);
            let written = written.map_err(|error| Error::Options(error.to_string()))?;
            let what = place.to_string();
            session.put_blob(&what, signature.payload.clone().into()).await?;
            session.put_blob(&what, written.config).await?;
            session.put_manifest(written.manifest).await
        };
        self.in_time(reference, add).await
    }

    async fn in_time<T>(
        &self,
        reference: &Reference,
        operation: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let late = || Error::unreachable(reference.host(), format!("no complete answer within {:?}", self.timeout));
        tokio::time::timeout(self.timeout, operation).await.unwrap_or_else(|_| Err(late()))
    }
}

/// The list of signatures at a tag. `None` if there is none.
async fn signature_list(session: &mut Session<'_>, place: &Reference) -> Result<Option<Manifest>, Error> {
    let received = match session.manifest().await {
        Ok(received) => received,
        Err(Error::NotFound(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let manifest = Manifest::parse(&received.content).map_err(|reason| Error::protocol(place.host(), reason))?;
    let count = manifest.signatures().count();
    if count > limits::SIGNATURES {
        let limit = limits::SIGNATURES;
        return Err(Error::protocol(
            place.host(),
            format!("{place} has {count} signatures, but at most {limit} are read"),
        ));
    }
    Ok(Some(manifest))
}

/// The place of the signatures of a manifest: the tag `sha256-HEX.sig` of the same repository.
fn signatures_of(reference: &Reference, manifest_digest: &Digest) -> Reference {
    reference.with_tag(format!("sha256-{}.sig", manifest_digest.hex()))
}
