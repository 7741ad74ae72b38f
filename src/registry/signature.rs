//! Signatures of artifacts, in the layout of cosign: ECDSA P-256 over a payload that contains the digest of the manifest.
//!
//! Only keys that the caller gives are trusted. There are no certificates, no transparency log, and no network.

#[cfg(test)]
mod tests;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::reference::Reference;

/// The type in the payload of cosign.
const PAYLOAD_TYPE: &str = "cosign container image signature";

/// The DER form of a public key on the curve P-256 up to its point: the algorithm `id-ecPublicKey` with `prime256v1`.
const SPKI_P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// The bytes of an uncompressed point.
const POINT_BYTES: usize = 65;

/// A signature as it is stored beside an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The signed bytes: a JSON document with the digest of the manifest.
    pub payload: Vec<u8>,
    /// The signature of the payload in base64, as the annotation contains it.
    pub signature: String,
}

/// A public key that is trusted to sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    point: Vec<u8>,
}

/// A private key.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

/// The key is not usable. No message contains a part of the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text has no key in PEM format, or more than one.
    #[error("must be one {0} in PEM format")]
    Pem(&'static str),
    /// The key has another algorithm or another curve.
    #[error("must be an ECDSA key on the curve P-256, as `paddock plugin keygen` and cosign make them")]
    Algorithm,
    /// The private key is encrypted, as cosign writes it.
    #[error(
        "the private key is encrypted, which is not supported; use an unencrypted key in PKCS#8, such as that of \
         `paddock plugin keygen`, which `cosign import-key-pair` imports"
    )]
    Encrypted,
    /// The text contains a private key where a public key is expected.
    #[error("is a private key, but must be the public key; only its owner should have the private key")]
    Private,
    /// The system has no random numbers, or the key cannot be written.
    #[error("the key cannot be made or used")]
    Unusable,
}

/// The reason why an artifact is not trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The caller trusts no key.
    #[error("there is no key to verify {artifact} with")]
    NoKeys {
        /// The artifact.
        artifact: String,
    },
    /// The artifact has no signature.
    #[error("{artifact} has no signature")]
    Unsigned {
        /// The artifact.
        artifact: String,
    },
    /// No signature was made with one of the keys for this manifest.
    #[error("none of the {count} signatures of {artifact} is valid: {reason}")]
    Untrusted {
        /// The artifact.
        artifact: String,
        /// The number of signatures.
        count: usize,
        /// The problem of the signature that came closest.
        reason: Mistrust,
    },
}

/// The problem of a signature, from the least to the closest to a valid one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Mistrust {
    /// The signature is not base64.
    #[error("the signature is malformed")]
    Malformed,
    /// No trusted key made the signature.
    #[error("it was made with another key, or its payload was changed")]
    OtherKey,
    /// A trusted key signed something that is not the payload of cosign.
    #[error("a trusted key signed it, but its payload is not that of an artifact")]
    Payload,
    /// A trusted key signed another artifact.
    #[error("a trusted key made it for another manifest, {0}")]
    OtherArtifact(String),
}

/// A valid signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The place of the key in the list of trusted keys.
    pub key: usize,
    /// The repository that the signer named, such as `registry.example.com/plugins/sizer`. It may differ from the reference,
    /// because a signature stays valid when the artifact is copied to another registry.
    pub identity: String,
}

/// The payload of a signature ("simple signing").
#[derive(Debug, Serialize, Deserialize)]
struct Payload {
    critical: Critical,
    optional: Option<serde_json::Value>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Critical {
    identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Identity {
    #[serde(rename = "docker-reference")]
    docker_reference: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    docker_manifest_digest: String,
}

/// Checks that one of the keys signed the manifest with this digest. `reference` is for messages alone: the digest decides, so
/// that a copy in another repository keeps its signatures.
///
/// # Errors
/// If there is no key, no signature, or no valid signature.
pub fn verify(
    manifest_digest: &Digest,
    reference: &Reference,
    signatures: &[Signature],
    keys: &[Key],
) -> Result<Verified, VerifyError> {
    let artifact = || reference.at(manifest_digest).to_string();
    if keys.is_empty() {
        return Err(VerifyError::NoKeys { artifact: artifact() });
    }
    let mut closest = None;
    for signature in signatures {
        match signature.check(manifest_digest, keys) {
            Ok(verified) => return Ok(verified),
            Err(reason) => closest = closest.max(Some(reason)),
        }
    }
    Err(match closest {
        None => VerifyError::Unsigned { artifact: artifact() },
        Some(reason) => VerifyError::Untrusted { artifact: artifact(), count: signatures.len(), reason },
    })
}

/// Signs the manifest with this digest, for the repository of the reference.
///
/// # Errors
/// If the key cannot sign.
pub fn sign(manifest_digest: &Digest, reference: &Reference, key: &SigningKey) -> Result<Signature, KeyError> {
    let payload = Payload {
        critical: Critical {
            identity: Identity { docker_reference: reference.identity() },
            image: Image { docker_manifest_digest: manifest_digest.to_string() },
            kind: PAYLOAD_TYPE.to_owned(),
        },
        optional: None,
    };
    let payload = serde_json::to_vec(&payload).map_err(|_| KeyError::Unusable)?;
    let signature = key.pair.sign(&key.random, &payload).map_err(|_| KeyError::Unusable)?;
    Ok(Signature { payload, signature: STANDARD.encode(signature.as_ref()) })
}

impl Signature {
    fn check(&self, manifest_digest: &Digest, keys: &[Key]) -> Result<Verified, Mistrust> {
        let signature = STANDARD.decode(&self.signature).map_err(|_| Mistrust::Malformed)?;
        // The payload is read only after its signature is valid.
        let key = keys.iter().position(|key| key.signed(&self.payload, &signature)).ok_or(Mistrust::OtherKey)?;
        let payload: Payload = serde_json::from_slice(&self.payload).map_err(|_| Mistrust::Payload)?;
        if payload.critical.kind != PAYLOAD_TYPE {
            return Err(Mistrust::Payload);
        }
        let signed = payload.critical.image.docker_manifest_digest;
        if signed != manifest_digest.as_str() {
            return Err(Mistrust::OtherArtifact(signed));
        }
        Ok(Verified { key, identity: payload.critical.identity.docker_reference })
    }
}

impl Key {
    /// Reads a public key in PEM format (`BEGIN PUBLIC KEY`), such as `cosign.pub`.
    ///
    /// # Errors
    /// If it is not the PEM form of one ECDSA key on the curve P-256.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        if labelled(pem, "PRIVATE KEY") {
            return Err(KeyError::Private);
        }
        let der: SubjectPublicKeyInfoDer<'_> = only(pem).ok_or(KeyError::Pem("public key"))?;
        let point = der.as_ref().strip_prefix(&SPKI_P256).filter(|point| point.len() == POINT_BYTES);
        // The first byte says that the point is uncompressed.
        let point = point.filter(|point| point.first() == Some(&4)).ok_or(KeyError::Algorithm)?;
        Ok(Self { point: point.to_vec() })
    }

    /// The key in PEM format.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem("PUBLIC KEY", &[&SPKI_P256[..], &self.point].concat())
    }

    fn signed(&self, payload: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.point).verify(payload, signature).is_ok()
    }
}

impl SigningKey {
    /// Reads a private key in PEM format, unencrypted and in PKCS#8 (`BEGIN PRIVATE KEY`).
    ///
    /// # Errors
    /// If it is encrypted, or not one ECDSA key on the curve P-256.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        if labelled(pem, "ENCRYPTED ") {
            return Err(KeyError::Encrypted);
        }
        let der: PrivatePkcs8KeyDer<'_> = only(pem).ok_or(KeyError::Pem("private key in PKCS#8"))?;
        Self::from_der(der.secret_pkcs8_der())
    }

    /// Makes a private key. Returns it with its PEM form.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn generate() -> Result<(Self, String), KeyError> {
        let random = SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random);
        let der = der.map_err(|_| KeyError::Unusable)?;
        Ok((Self::from_der(der.as_ref())?, pem("PRIVATE KEY", der.as_ref())))
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> Key {
        Key { point: self.pair.public_key().as_ref().to_vec() }
    }

    fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der, &random);
        Ok(Self { pair: pair.map_err(|_| KeyError::Algorithm)?, random })
    }
}

impl fmt::Debug for SigningKey {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public()).finish_non_exhaustive()
    }
}

/// Whether the text has a section of PEM whose label contains this text.
fn labelled(pem: &[u8], label: &str) -> bool {
    String::from_utf8_lossy(pem).lines().any(|line| line.starts_with("-----BEGIN ") && line.contains(label))
}

/// The only section of this kind.
fn only<T: PemObject>(pem: &[u8]) -> Option<T> {
    let mut sections = T::pem_slice_iter(pem);
    let first = sections.next()?.ok()?;
    sections.next().is_none().then_some(first)
}

/// The PEM form, in lines of 64 characters.
fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
