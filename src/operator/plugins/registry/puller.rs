//! One attempt to get the image of a SandboxPlugin: credentials, the digest of the tag, the signatures, and the component.

use std::time::Duration;

use paddock_api::OciImage;
use paddock_registry::{Artifact, Credentials, Digest, Error, Reference};
use tokio::time::timeout;

use super::RegistryConfig;
use super::progress::Found;
use super::pull_secret::PullSecrets;
use super::remote::{Registries, Remote};
use super::slots::Slots;
use super::verification::{Demands, OperatorKeys};
use crate::limits;
use crate::plugins::blocking::blocking;
use crate::plugins::objects::{Component, Fault, FaultReason, Image};
use crate::plugins::source::Content;

/// What became of the attempts to get the image of a SandboxPlugin, for the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullCount<'a> {
    /// An attempt ended.
    Tried {
        /// The name of the SandboxPlugin.
        plugin: &'a str,
        /// `Pulled`, `Unchanged`, or the reason of the fault.
        outcome: &'static str,
        /// Whether the registry gave a good answer.
        is_good: bool,
    },
    /// The SandboxPlugin has no image any more.
    Ended {
        /// The name of the SandboxPlugin.
        plugin: &'a str,
    },
}

/// Pulls components from registries.
pub struct Puller {
    remote: Box<dyn Remote>,
    secrets: PullSecrets,
    keys: OperatorKeys,
    poll: Duration,
    slots: Slots,
    count: Box<dyn Fn(PullCount<'_>) + Send + Sync>,
}

impl Puller {
    /// A puller of components with at most `largest` bytes. `count` records the attempts.
    ///
    /// # Errors
    /// If a certificate of an authority cannot be used.
    pub fn new(
        config: &RegistryConfig,
        secrets: PullSecrets,
        largest: usize,
        count: impl Fn(PullCount<'_>) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let remote = Registries::new(config, largest)?;
        Ok(Self::with(Box::new(remote), secrets, config, Box::new(count)))
    }

    pub(super) fn with(
        remote: Box<dyn Remote>,
        secrets: PullSecrets,
        config: &RegistryConfig,
        count: Box<dyn Fn(PullCount<'_>) + Send + Sync>,
    ) -> Self {
        let (keys, poll) = (OperatorKeys::of(config), config.poll_interval);
        Self { remote, secrets, keys, poll, slots: Slots::default(), count }
    }

    /// A puller that is never asked, for tests.
    #[cfg(test)]
    pub(in crate::plugins) fn none() -> Self {
        let config = RegistryConfig::default();
        let remote = Registries::new(&config, 0).expect("a client");
        Self::with(Box::new(remote), PullSecrets::none(), &config, Box::new(|_| ()))
    }

    /// The interval at which a tag is asked for.
    pub(super) fn poll(&self) -> Duration {
        self.poll
    }

    pub(super) fn count(&self, count: PullCount<'_>) {
        (self.count)(count);
    }

    /// The signatures that an image needs.
    pub(super) fn demands(&self, image: &OciImage) -> Demands {
        Demands::of(image, &self.keys)
    }

    /// Looks at an image, and pulls it if it is not the one that was pulled before.
    pub(super) async fn attempt(
        &self,
        image: &OciImage,
        demands: &Demands,
        before: Option<&Component>,
    ) -> Result<Found, Fault> {
        let reference = reference(image)?;
        let attempt = Attempt { puller: self, image, reference: &reference, demands };
        attempt.run(before).await
    }
}

/// The reference of an image. The schema refuses other ones.
pub(super) fn reference(image: &OciImage) -> Result<Reference, Fault> {
    let text = &image.image;
    format!("oci://{text}").parse().map_err(|error| {
        let message = format!("spec.source.oci.image: {text:?}: {error}");
        Fault::new(FaultReason::SourceNotFound, message)
    })
}

/// One attempt.
struct Attempt<'a> {
    puller: &'a Puller,
    image: &'a OciImage,
    reference: &'a Reference,
    demands: &'a Demands,
}

impl Attempt<'_> {
    async fn run(&self, before: Option<&Component>) -> Result<Found, Fault> {
        self.demands.usable()?;
        let secret = self.image.pull_secret.as_ref();
        let as_user = self.puller.secrets.credentials(secret, self.reference.host()).await?;
        let digest = match self.reference.digest() {
            Some(digest) => digest.clone(),
            None => self.ask(self.puller.remote.resolve(self.reference, &as_user)).await?,
        };
        let known = before.and_then(|before| Some((before, before.image.as_ref()?)));
        let known = known.filter(|(_, image)| image.digest == digest.as_str());
        if let Some((_, Image { warning: None, .. })) = known {
            return Ok(Found::Same);
        }
        // The component is pulled by the digest whose signatures were checked, so a tag that moves meanwhile has no effect.
        let warning = self.warning(&digest, &as_user).await?;
        let content = match known {
            Some((before, _)) => before.content.clone(),
            None => self.pull(&digest, &as_user).await?,
        };
        let image = Image { digest: digest.to_string(), warning };
        let found = Component { content, image: Some(image) };
        Ok(if before == Some(&found) { Found::Same } else { Found::New(found) })
    }

    /// Checks the signatures. Returns a warning if one is missing that is not required.
    async fn warning(&self, digest: &Digest, as_user: &Credentials) -> Result<Option<String>, Fault> {
        if self.demands.is_empty() {
            return Ok(None);
        }
        let signatures = self.ask(self.puller.remote.signatures(self.reference, as_user, digest)).await?;
        self.demands.check(digest, self.reference, &signatures)
    }

    async fn pull(&self, digest: &Digest, as_user: &Credentials) -> Result<Content, Fault> {
        let _slot = self.puller.slots.take(self.reference.host()).await;
        let at = self.reference.at(digest);
        let Artifact { component, component_digest, .. } =
            self.puller.remote.pull(&at, as_user).await.map_err(|error| self.fault(&error))?;
        // The client has compared the bytes with the digest. The copy of a large component takes some milliseconds.
        Ok(blocking(move || Content { digest: component_digest, bytes: component.as_ref().into() }).await)
    }

    /// Waits for the answer to a small request.
    async fn ask<T>(&self, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Fault> {
        let most = limits::PLUGIN_REGISTRY_TIMEOUT;
        match timeout(most, answer).await {
            Ok(answer) => answer.map_err(|error| self.fault(&error)),
            Err(_) => {
                let host = self.reference.host();
                let message = format!("spec.source.oci.image: {host} did not answer within {most:?}");
                Err(Fault::new(FaultReason::Unreachable, message))
            }
        }
    }

    /// The fault for an error of a registry.
    fn fault(&self, error: &Error) -> Fault {
        let private = "; --plugin-registry-ca-file names the certificate of a private authority";
        let (reason, field, remedy) = match error {
            Error::NotFound(_) => (FaultReason::SourceNotFound, "image", ""),
            Error::Unauthorized { .. } => {
                let remedy = if self.image.pull_secret.is_none() { "; give a Secret with credentials" } else { "" };
                (FaultReason::Unauthorized, "pullSecret", remedy)
            }
            Error::Tls { .. } => (FaultReason::Unreachable, "image", private),
            Error::Unreachable { .. } | Error::Truncated { .. } | Error::Protocol { .. } | Error::Options(_) => {
                (FaultReason::Unreachable, "image", "")
            }
            Error::TooLarge { .. } => (FaultReason::TooLarge, "image", ""),
            Error::DigestMismatch { .. } => (FaultReason::DigestMismatch, "image", ""),
            Error::NotAComponent { .. } => (FaultReason::NotAComponent, "image", ""),
        };
        Fault::new(reason, format!("spec.source.oci.{field}: {error}{remedy}"))
    }
}
