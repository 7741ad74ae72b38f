//! The state of the certificates: which are served, which CAs are trusted, and which step is due. It is pure data, and
//! the clock is a parameter.
//!
//! This is our own code because crates that issue certificates do not rotate them, and a manager outside of the process,
//! such as cert-manager, would be a dependency of every installation. The order of the steps is what keeps each call
//! verifiable, so it is a function that a test can run through.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use serde::{Deserialize, Serialize};

use crate::limits;

/// The key in the Secret for the complete state. The other keys are those of a TLS Secret.
const STATE: &str = "paddock.json";

/// The time before its issue from which a certificate is valid, for API servers whose clocks are behind. It is generous,
/// because nobody had the key before.
pub(super) const VALID_BEFORE: SignedDuration = SignedDuration::from_hours(24);

/// The time by which an issue may be in our future. Replicas use the API server's clock, so more means that the issuer
/// did not.
const ISSUED_AHEAD: SignedDuration = SignedDuration::from_mins(1);

/// A certificate, its private key, and the CA that signed it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPair {
    /// The certificate of the CA, in PEM.
    pub authority: String,
    /// The serving certificate, in PEM.
    pub certificate: String,
    /// The private key of the serving certificate, in PEM.
    pub key: String,
    /// The host names or addresses of the serving certificate.
    pub hosts: Vec<String>,
    /// The time at which the certificate was issued.
    pub issued: Timestamp,
    /// The time at which the certificate expires.
    pub not_after: Timestamp,
}

impl KeyPair {
    /// Whether an API server accepts the certificate at this time.
    fn is_valid(&self, now: Timestamp) -> bool {
        now.duration_since(self.issued) >= -VALID_BEFORE && now < self.not_after
    }

    /// Whether the issuer's clock was ahead of this time.
    fn is_from_the_future(&self, now: Timestamp) -> bool {
        self.issued.duration_since(now) > ISSUED_AHEAD
    }
}

/// Does not print the private key.
impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair")
            .field("hosts", &self.hosts)
            .field("issued", &self.issued)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// The complete state in the Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertState {
    /// The pair that is served.
    pub current: KeyPair,
    /// The pair that will be served next. Its CA is already trusted.
    pub next: Option<KeyPair>,
    /// The CA of the pair that was served before. It is still trusted.
    pub previous: Option<Retired>,
}

/// A CA whose certificates are not served any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// The certificate of the CA, in PEM.
    pub authority: String,
    /// The time since which no new connection uses it.
    pub since: Timestamp,
}

/// The durations of the certificates and of their rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// The time from the issue of a certificate to its expiry.
    pub certificate: SignedDuration,
    /// The time before the expiry at which a certificate is replaced.
    pub renew_before: SignedDuration,
    /// The time for which a CA is trusted before its certificate is served, and after that.
    pub overlap: SignedDuration,
    /// The interval at which replicas read the Secret and compare the webhook configurations. It is below a third of
    /// `overlap`, so that each replica reads every state.
    pub interval: SignedDuration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            // 90 days, like public CAs. A certificate is replaced 30 days before its expiry, so an operator that was
            // down over a long holiday starts with a valid certificate.
            certificate: SignedDuration::from_hours(90 * 24),
            renew_before: SignedDuration::from_hours(30 * 24),
            // API servers get a new bundle through their watch within a second. Ten minutes are longer than an
            // interrupted watch.
            overlap: SignedDuration::from_mins(10),
            interval: SignedDuration::try_from(limits::CERTIFICATE_CHECK_INTERVAL).unwrap_or(SignedDuration::MAX),
        }
    }
}

/// The reason why a combination of durations is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLifetimes {
    /// A duration is longer than the time type can represent.
    #[error("the lifetime is too long")]
    TooLong,
    /// The rotation would not be finished before the certificate expires.
    #[error(
        "the replacement must begin at least three overlaps before the expiry, and less than one lifetime before it"
    )]
    TooShort,
    /// The overlap is shorter than the shortest interval at which replicas can read the Secret.
    #[error("the overlap must be at least one second")]
    NoOverlap,
}

impl Lifetimes {
    /// Checks these durations and derives the interval from them.
    ///
    /// # Errors
    /// If a rotation would not be finished before the certificate expires.
    pub fn of(certificate: Duration, renew_before: Duration, overlap: Duration) -> Result<Self, BadLifetimes> {
        if overlap < Duration::from_secs(1) {
            return Err(BadLifetimes::NoOverlap);
        }
        if renew_before >= certificate || renew_before / 3 < overlap {
            return Err(BadLifetimes::TooShort);
        }
        let signed = |d: Duration| SignedDuration::try_from(d).map_err(|_| BadLifetimes::TooLong);
        // At least ten reads in each overlap.
        let interval = (overlap / 10).min(limits::CERTIFICATE_CHECK_INTERVAL);
        Ok(Self {
            certificate: signed(certificate)?,
            renew_before: signed(renew_before)?,
            overlap: signed(overlap)?,
            interval: signed(interval)?,
        })
    }
}

/// The step of a rotation that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing is due.
    Keep,
    /// Issue a certificate. Its CA is trusted before it is served.
    Stage,
    /// Serve the next certificate.
    Switch,
    /// Remove the CA of the previous certificate from the bundle.
    Retire,
    /// Issue a certificate and serve it at once, because the current certificate has expired, or is not valid yet.
    Replace,
}

impl CertState {
    /// A state that has only a current pair.
    #[must_use]
    pub fn new(current: KeyPair) -> Self {
        Self { current, next: None, previous: None }
    }

    /// The step that is due. `trusted` says whether every webhook configuration has the complete bundle.
    #[must_use]
    pub fn step(&self, now: Timestamp, hosts: &[String], lifetimes: &Lifetimes, trusted: bool) -> Step {
        let usable = |pair: &KeyPair| pair.hosts == hosts && pair.is_valid(now) && !pair.is_from_the_future(now);
        if !self.current.is_valid(now) {
            let may_switch = trusted && self.next.as_ref().is_some_and(usable);
            return if may_switch { Step::Switch } else { Step::Replace };
        }
        if let Some(next) = &self.next {
            if !usable(next) {
                return Step::Stage;
            }
            let waited = now.duration_since(next.issued) >= lifetimes.overlap;
            return if trusted && waited { Step::Switch } else { Step::Keep };
        }
        if let Some(previous) = &self.previous
            && now.duration_since(previous.since) >= lifetimes.overlap
        {
            return Step::Retire;
        }
        let due = self.current.not_after.duration_since(now) <= lifetimes.renew_before;
        if due || !usable(&self.current) { Step::Stage } else { Step::Keep }
    }

    /// The state after a step. `issued` returns the new pair for the steps that need one.
    #[must_use]
    pub fn after(mut self, step: Step, now: Timestamp, issued: impl FnOnce() -> Option<KeyPair>) -> Self {
        match step {
            Step::Keep => {}
            Step::Stage => self.next = issued(),
            Step::Switch => {
                if let Some(next) = self.next.take() {
                    let before = std::mem::replace(&mut self.current, next);
                    self.previous = Some(Retired { authority: before.authority, since: now });
                }
            }
            Step::Retire => self.previous = None,
            Step::Replace => {
                if let Some(pair) = issued() {
                    // If our clock is wrong, the other replicas still serve these, and API servers accept them.
                    let next = self.next.as_ref().map(|next| next.authority.as_str()).unwrap_or_default();
                    let authority = format!("{}{next}", self.current.authority);
                    self = Self { previous: Some(Retired { authority, since: now }), ..CertState::new(pair) };
                }
            }
        }
        self
    }

    /// The state to write when the Secret contains `found` and this replica serves the current pair of `self`. `None`
    /// if this replica may follow `found`.
    ///
    /// Every step of a rotation keeps the CA that is served trusted. A state without this CA comes from a backup, or from
    /// a replica that started while the Secret was absent. Its certificate may be unknown to the API servers.
    #[must_use]
    pub fn instead_of(&self, found: &CertState, now: Timestamp, lifetimes: &Lifetimes) -> Option<Self> {
        let theirs = found.bundle();
        // This replica was cut off during a complete rotation. The API servers have trusted the newer CA for long enough.
        let missed =
            found.current.issued > self.current.issued && now.duration_since(found.current.issued) >= lifetimes.overlap;
        if theirs.contains(&self.current.authority) || missed || !self.current.is_valid(now) {
            return None;
        }
        // Other replicas may serve the found certificates until they read this state.
        let before = self.previous.as_ref().map(|previous| previous.authority.as_str()).unwrap_or_default();
        let authority = if before.contains(&theirs) { before.to_owned() } else { format!("{before}{theirs}") };
        Some(Self { previous: Some(Retired { authority, since: now }), ..self.clone() })
    }

    /// The bundle of all trusted CAs, in PEM.
    #[must_use]
    pub fn bundle(&self) -> String {
        let next = self.next.as_ref().map(|p| p.authority.as_str());
        let previous = self.previous.as_ref().map(|p| p.authority.as_str());
        previous.into_iter().chain([self.current.authority.as_str()]).chain(next).collect()
    }

    /// The data of the Secret: the keys of a TLS Secret for other readers, and the complete state for the operator.
    ///
    /// # Errors
    /// If the state cannot be written as JSON. Its types exclude that.
    pub fn to_secret(&self) -> Result<BTreeMap<String, ByteString>, serde_json::Error> {
        let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
        Ok(BTreeMap::from([
            ("ca.crt".to_owned(), bytes(&self.bundle())),
            ("tls.crt".to_owned(), bytes(&self.current.certificate)),
            ("tls.key".to_owned(), bytes(&self.current.key)),
            (STATE.to_owned(), ByteString(serde_json::to_vec(self)?)),
        ]))
    }

    /// Reads the data of the Secret. `None` if the operator did not write it.
    #[must_use]
    pub fn from_secret(data: &BTreeMap<String, ByteString>) -> Option<Self> {
        serde_json::from_slice(&data.get(STATE)?.0).ok()
    }
}
