//! Tokens with the signature of the cluster's ServiceAccounts, for claims that the API server itself would not issue.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{KeyPair, SigningKey as _};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::cluster::Cluster;
use crate::error::{Error, Result};

/// The bytes of one number of a signature on the curve P-256.
const NUMBER: usize = 32;

impl Cluster {
    /// A token with these claims, signed with the key of the API server.
    ///
    /// # Errors
    /// If the key cannot be read.
    pub fn sign_token(&self, claims: &Value) -> Result<String> {
        let file = self.dir().join("pki").join("service-account.key");
        let key = std::fs::read_to_string(&file).map_err(Error::io(format!("reading {}", file.display())))?;
        let key = KeyPair::from_pem(&key)?;
        let header = serde_json::json!({ "alg": "ES256", "typ": "JWT" });
        let signed = [&header, claims].map(|part| base64url(part.to_string().as_bytes())).join(".");
        let signature = fixed(&key.sign(signed.as_bytes())?);
        Ok(format!("{signed}.{}", base64url(&signature)))
    }

    /// The public key of the API server, in PEM format.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn token_public_key(&self) -> Result<String> {
        let file = self.dir().join("pki").join("service-account.pub");
        std::fs::read_to_string(&file).map_err(Error::io(format!("reading {}", file.display())))
    }
}

/// The two numbers of an ECDSA signature in DER, each with 32 bytes, as tokens have them.
fn fixed(der: &[u8]) -> Vec<u8> {
    let mut numbers = Vec::new();
    // A sequence, and its length in one byte: two numbers of at most 33 bytes.
    let mut rest = der.get(2..).unwrap_or_default();
    while let [2, length, tail @ ..] = rest {
        let (number, behind) = tail.split_at(usize::from(*length).min(tail.len()));
        let significant: Vec<u8> = number.iter().copied().skip_while(|byte| *byte == 0).collect();
        numbers.extend(std::iter::repeat_n(0, NUMBER.saturating_sub(significant.len())));
        numbers.extend(significant);
        rest = behind;
    }
    numbers
}

/// The signature of a token with HS256: HMAC (RFC 2104) with SHA-256, in the form that tokens have.
#[must_use]
pub fn hmac_sha256(key: &[u8], signed: &[u8]) -> String {
    let mut block = [0_u8; 64];
    if key.len() > block.len() {
        block[..NUMBER].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let padded = |pad: u8| block.map(|byte| byte ^ pad);
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(signed).finalize();
    base64url(&Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize())
}

/// The text of bytes in a token.
#[must_use]
pub fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The bytes of a text in a token. Empty for any other text.
#[must_use]
pub fn base64url_decoded(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap_or_default()
}
