//! Issues a certificate with a new CA that signs nothing else.

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose,
};
use time::OffsetDateTime;

use super::cert_state::{KeyPair, VALID_BEFORE};

/// The reason why a certificate could not be issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The hosts or the key cannot be used.
    #[error("the certificate cannot be issued: {0}")]
    Rcgen(#[from] rcgen::Error),
    /// A certificate cannot contain this time.
    #[error("a certificate that is valid at {0} cannot be issued")]
    Time(Timestamp),
}

/// Creates a CA and a certificate for these hosts (DNS names or IP addresses). The private key of the CA is dropped.
///
/// # Errors
/// If a certificate cannot contain one of the hosts or one of the times.
pub fn issue(hosts: &[String], now: Timestamp, lifetime: SignedDuration) -> Result<KeyPair, IssueError> {
    let not_before = now.checked_sub(VALID_BEFORE).map_err(|_| IssueError::Time(now))?;
    let not_after = now.checked_add(lifetime).map_err(|_| IssueError::Time(now))?;
    let begin = date(not_before)?;
    let end = date(not_after)?;

    let mut authority = CertificateParams::default();
    // Each CA has a name of its own, so that two CAs in one bundle cannot be confused.
    authority.distinguished_name = named(&format!("paddock-webhook-ca-{}", now.as_millisecond()));
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (authority.not_before, authority.not_after) = (begin, end);
    let authority_key = rcgen::KeyPair::generate()?;
    let authority_certificate = authority.self_signed(&authority_key)?;

    let mut server = CertificateParams::new(hosts)?;
    server.distinguished_name = named("paddock-webhook");
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.use_authority_key_identifier_extension = true;
    (server.not_before, server.not_after) = (begin, end);
    let key = rcgen::KeyPair::generate()?;
    let certificate = server.signed_by(&key, &Issuer::from_params(&authority, &authority_key))?;

    Ok(KeyPair {
        authority: authority_certificate.pem(),
        certificate: certificate.pem(),
        key: key.serialize_pem(),
        hosts: hosts.to_vec(),
        issued: now,
        not_after,
    })
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn date(at: Timestamp) -> Result<OffsetDateTime, IssueError> {
    OffsetDateTime::from_unix_timestamp(at.as_second()).map_err(|_| IssueError::Time(at))
}
