//! The registries, as pulls use them: three requests. Tests put others in their place.

use futures::future::{BoxFuture, FutureExt as _};
use paddock_registry::{Artifact, Client, Credentials, Digest, Error, Options, Reference, Signature};

use super::RegistryConfig;

/// The requests to a registry.
pub(super) trait Remote: Send + Sync {
    /// The digest of the manifest that a reference names now.
    fn resolve<'a>(&'a self, image: &'a Reference, as_user: &'a Credentials) -> BoxFuture<'a, Result<Digest, Error>>;

    /// The signatures of a manifest.
    fn signatures<'a>(
        &'a self,
        image: &'a Reference,
        as_user: &'a Credentials,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<Vec<Signature>, Error>>;

    /// A component.
    fn pull<'a>(&'a self, image: &'a Reference, as_user: &'a Credentials) -> BoxFuture<'a, Result<Artifact, Error>>;
}

/// The registries on the network.
pub(super) struct Registries {
    over_tls: Client,
    without_tls: Client,
    /// The hosts that are asked without TLS.
    plain_hosts: Vec<String>,
}

impl Registries {
    pub(super) fn new(config: &RegistryConfig, largest: usize) -> Result<Self, Error> {
        let over_tls = Client::new(Options { extra_ca: config.extra_ca.clone(), ..Options::new(largest) })?;
        let without_tls = over_tls.clone().with_plain_http();
        Ok(Self { over_tls, without_tls, plain_hosts: config.plain_http.clone() })
    }

    fn client(&self, image: &Reference) -> &Client {
        let is_plain = self.plain_hosts.iter().any(|host| host == image.host());
        if is_plain { &self.without_tls } else { &self.over_tls }
    }
}

impl Remote for Registries {
    fn resolve<'a>(&'a self, image: &'a Reference, as_user: &'a Credentials) -> BoxFuture<'a, Result<Digest, Error>> {
        self.client(image).resolve(image, as_user).boxed()
    }

    fn signatures<'a>(
        &'a self,
        image: &'a Reference,
        as_user: &'a Credentials,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<Vec<Signature>, Error>> {
        self.client(image).signatures(image, as_user, digest).boxed()
    }

    fn pull<'a>(&'a self, image: &'a Reference, as_user: &'a Credentials) -> BoxFuture<'a, Result<Artifact, Error>> {
        self.client(image).pull(image, as_user).boxed()
    }
}
