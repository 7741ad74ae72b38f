//! Plugins in OCI registries: pushes, pulls, signs and verifies components.
//!
//! A component is an artifact with the layout that `wkg` and ORAS push ([`Upload`]): a manifest with the config media type
//! `application/vnd.wasm.config.v0+json` and one layer `application/wasm`. A signature has the layout of cosign: the tag
//! `sha256-HEX.sig` beside the artifact ([`Signature`]).
//!
//! The registry is not trusted. [`Client::pull`] compares every digest itself, and reads no more bytes than a limit and
//! the manifest allow. Credentials are sent only to the host that they are for and to the token server that it names, and
//! only over TLS or to this machine.

mod client;
mod credentials;
mod digest;
mod error;
pub mod limits;
mod manifest;
mod reference;
mod signature;

pub use client::{Artifact, Client, Options, Pushed};
pub use credentials::{ConfigError, Credentials};
pub use digest::{Digest, DigestError};
pub use error::Error;
pub use manifest::Upload;
pub use reference::{Reference, ReferenceError};
pub use signature::{Key, KeyError, Signature, SigningKey, Verified, VerifyError, sign, verify};
