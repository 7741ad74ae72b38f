//! What is served and what is trusted, and the one step that is due. Pure: the clock is a parameter.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use serde::{Deserialize, Serialize};

/// Key of the Secret for everything that has no place in a TLS Secret's usual keys.
const STATE: &str = "paddock.json";

/// A certificate, its key, and the authority that signed it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPair {
    /// The authority's certificate, PEM.
    pub authority: String,
    /// The certificate, PEM.
    pub certificate: String,
    /// Its private key, PEM.
    pub key: String,
    /// The names that it is for.
    pub hosts: Vec<String>,
    /// When it was issued.
    pub issued: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
}

/// Without the key.
impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair")
            .field("hosts", &self.hosts)
            .field("issued", &self.issued)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// What the Secret holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertState {
    /// What is served.
    pub current: KeyPair,
    /// What will be served: trusted already.
    pub next: Option<KeyPair>,
    /// The authority of what was served before: trusted still.
    pub previous: Option<Retired>,
}

/// An authority that nothing is issued under any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// Its certificate, PEM.
    pub authority: String,
    /// Since when nothing new is served under it.
    pub since: Timestamp,
}

/// How long things last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// From issuing a certificate to its end.
    pub certificate: SignedDuration,
    /// How long before its end a certificate is replaced.
    pub renew_before: SignedDuration,
    /// How long an authority is trusted before anything is served under it, and after.
    pub overlap: SignedDuration,
    /// How often replicas look at the Secret. Below a third of `overlap`, so that each sees every state of it.
    pub interval: SignedDuration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            // A quarter, as public authorities do; a month of it is left when it is replaced, so that an operator
            // that was down over a long holiday still comes up with a certificate that is trusted.
            certificate: SignedDuration::from_hours(90 * 24),
            renew_before: SignedDuration::from_hours(30 * 24),
            // API servers learn of a new bundle by watch, within a second; ten minutes outlast a broken watch.
            overlap: SignedDuration::from_mins(10),
            interval: SignedDuration::from_mins(1),
        }
    }
}

/// Times that cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLifetimes {
    /// Longer than time itself.
    #[error("too long")]
    TooLong,
    /// The rotation would not be over when the certificate ends.
    #[error("replacing has to begin at least three overlaps before the end, and less than a lifetime before it")]
    TooShort,
    /// Nobody could look often enough.
    #[error("the overlap must be a second at the least")]
    NoOverlap,
}

impl Lifetimes {
    /// These times, with an interval that fits them.
    ///
    /// # Errors
    /// When a rotation cannot be over before the certificate ends.
    pub fn of(certificate: Duration, renew_before: Duration, overlap: Duration) -> Result<Self, BadLifetimes> {
        if overlap < Duration::from_secs(1) {
            return Err(BadLifetimes::NoOverlap);
        }
        if renew_before >= certificate || renew_before / 3 < overlap {
            return Err(BadLifetimes::TooShort);
        }
        let signed = |d: Duration| SignedDuration::try_from(d).map_err(|_| BadLifetimes::TooLong);
        // Ten looks in each overlap, one a minute at the least.
        let interval = (overlap / 10).min(Duration::from_mins(1));
        Ok(Self {
            certificate: signed(certificate)?,
            renew_before: signed(renew_before)?,
            overlap: signed(overlap)?,
            interval: signed(interval)?,
        })
    }
}

/// The one thing that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Keep,
    /// Issue a certificate, to be trusted before it is served.
    Stage,
    /// Serve what was staged.
    Switch,
    /// Stop trusting the authority of what was served before.
    Retire,
    /// Issue a certificate and serve it at once: what there is cannot be served any more.
    Replace,
}

impl CertState {
    /// A state that serves a pair and knows no other.
    #[must_use]
    pub fn new(current: KeyPair) -> Self {
        Self { current, next: None, previous: None }
    }

    /// What is due. `trusted`: every webhook configuration has the whole bundle.
    #[must_use]
    pub fn step(&self, now: Timestamp, hosts: &[String], lifetimes: &Lifetimes, trusted: bool) -> Step {
        if now >= self.current.not_after {
            return Step::Replace;
        }
        if let Some(next) = &self.next {
            if next.hosts != hosts || now >= next.not_after {
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
        if due || self.current.hosts != hosts { Step::Stage } else { Step::Keep }
    }

    /// The material after a step; `issued` is the new pair, for the steps that issue one.
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
                    self = CertState::new(pair);
                }
            }
        }
        self
    }

    /// Every authority that is trusted, PEM.
    #[must_use]
    pub fn bundle(&self) -> String {
        let next = self.next.as_ref().map(|p| p.authority.as_str());
        let previous = self.previous.as_ref().map(|p| p.authority.as_str());
        previous.into_iter().chain([self.current.authority.as_str()]).chain(next).collect()
    }

    /// The Secret's data: the usual keys of a TLS Secret for whoever looks, and everything for ourselves.
    ///
    /// # Errors
    /// When it cannot be written as JSON, which its types exclude.
    pub fn to_secret(&self) -> Result<BTreeMap<String, ByteString>, serde_json::Error> {
        let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
        Ok(BTreeMap::from([
            ("ca.crt".to_owned(), bytes(&self.bundle())),
            ("tls.crt".to_owned(), bytes(&self.current.certificate)),
            ("tls.key".to_owned(), bytes(&self.current.key)),
            (STATE.to_owned(), ByteString(serde_json::to_vec(self)?)),
        ]))
    }

    /// Reads the Secret's data; `None` if it is not what we wrote.
    #[must_use]
    pub fn from_secret(data: &BTreeMap<String, ByteString>) -> Option<Self> {
        serde_json::from_slice(&data.get(STATE)?.0).ok()
    }
}
