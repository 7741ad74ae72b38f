//! The signatures that an image needs: those that its SandboxPlugin demands, and those that the operator demands.

use paddock_api::{OciImage, SignatureVerification};
use paddock_registry::{Digest, Key, Reference, Signature, VerifyError, verify};

use super::RegistryConfig;
use crate::plugins::objects::{Fault, FaultReason};

/// The field of a SandboxPlugin with its keys.
const KEYS: &str = "spec.source.oci.publicKeys";
/// The flag with the keys of the operator.
const FLAG: &str = "--plugin-signature-key";

/// The keys of the operator.
#[derive(Clone, Debug, Default)]
pub(super) struct OperatorKeys {
    keys: Vec<Key>,
    /// Whether they are required for every image.
    are_required: bool,
}

impl OperatorKeys {
    pub(super) fn of(config: &RegistryConfig) -> Self {
        Self { keys: config.keys.clone(), are_required: config.require_signatures }
    }
}

/// One of these keys must have signed the image.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Demand {
    /// The field or flag that gives the keys.
    origin: &'static str,
    keys: Vec<Key>,
    /// Whether an image without such a signature is refused.
    is_required: bool,
}

/// The demands of a SandboxPlugin and of the operator. Each of them must be met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Demands(Result<Vec<Demand>, Fault>);

impl Demands {
    /// The demands for an image.
    pub(super) fn of(image: &OciImage, operator: &OperatorKeys) -> Self {
        Self(demands(image, operator))
    }

    /// Whether there is no demand, so that nobody has to ask for signatures.
    pub(super) fn is_empty(&self) -> bool {
        self.0.as_ref().is_ok_and(Vec::is_empty)
    }

    /// Whether the keys can be used.
    pub(super) fn usable(&self) -> Result<(), Fault> {
        self.0.as_ref().map(|_| ()).map_err(Clone::clone)
    }

    /// A digest of the keys that are required. `None` if none are. A component that was accepted under the same digest needs
    /// no new check.
    pub(super) fn trust(&self) -> Option<String> {
        // No component was ever accepted with malformed keys.
        let Ok(demands) = &self.0 else { return Some(String::new()) };
        let required = demands.iter().filter(|demand| demand.is_required);
        let of_demand = |demand: &Demand| {
            let mut keys: Vec<String> = demand.keys.iter().map(Key::to_pem).collect();
            keys.sort_unstable();
            keys.concat()
        };
        let mut all: Vec<String> = required.map(of_demand).collect();
        all.sort_unstable();
        (!all.is_empty()).then(|| Digest::of(all.join("\n").as_bytes()).to_string())
    }

    /// Checks the signatures of a manifest. Returns a warning about a signature that is missing and not required.
    pub(super) fn check(
        &self,
        digest: &Digest,
        image: &Reference,
        signatures: &[Signature],
    ) -> Result<Option<String>, Fault> {
        let demands = self.0.as_ref().map_err(Clone::clone)?;
        let mut warning = None;
        for Demand { origin, keys, is_required } in demands {
            let Err(error) = verify(digest, image, signatures, keys) else { continue };
            let remedy = match &error {
                VerifyError::NoKeys { .. } => format!("; give {KEYS}, or start the operator with {FLAG}"),
                VerifyError::Unsigned { .. } | VerifyError::Untrusted { .. } => String::new(),
            };
            let message = format!("{origin}: {error}{remedy}");
            if *is_required {
                return Err(Fault::new(FaultReason::SignatureInvalid, message));
            }
            warning = Some(message);
        }
        Ok(warning)
    }
}

fn demands(image: &OciImage, operator: &OperatorKeys) -> Result<Vec<Demand>, Fault> {
    let mut own = Vec::new();
    for (index, pem) in image.public_keys.iter().enumerate() {
        let key = Key::from_pem(pem.as_bytes())
            .map_err(|error| Fault::new(FaultReason::SignatureInvalid, format!("{KEYS}[{index}]: {error}")))?;
        own.push(key);
    }
    let of_operator = |is_required| Demand { origin: FLAG, keys: operator.keys.clone(), is_required };
    let demand = |is_required| {
        if own.is_empty() { of_operator(is_required) } else { Demand { origin: KEYS, keys: own.clone(), is_required } }
    };
    let of_plugin = match image.verification {
        Some(SignatureVerification::Required) => Some(demand(true)),
        Some(SignatureVerification::Warn) => Some(demand(false)),
        Some(SignatureVerification::Disabled) => None,
        None => Some(demand(true)).filter(|demand| !demand.keys.is_empty()),
    };
    let mut all: Vec<Demand> = operator.are_required.then(|| of_operator(true)).into_iter().collect();
    // The demand of the operator includes the same one that is only a warning.
    all.extend(of_plugin.filter(|demand| !(operator.are_required && demand.origin == FLAG)));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use paddock_registry::{SigningKey, sign};

    use super::*;

    fn key() -> SigningKey {
        SigningKey::generate().unwrap().0
    }

    fn image(verification: Option<SignatureVerification>, keys: &[&SigningKey]) -> OciImage {
        let public_keys = keys.iter().map(|key| key.public().to_pem()).collect();
        OciImage { image: "h.example/p:1".to_owned(), pull_secret: None, verification, public_keys }
    }

    fn operator(keys: &[&SigningKey], are_required: bool) -> OperatorKeys {
        OperatorKeys { keys: keys.iter().map(|key| key.public()).collect(), are_required }
    }

    #[derive(Debug, PartialEq, Eq)]
    enum Outcome {
        Used,
        Warned,
        Refused,
    }

    fn judge(demands: &Demands, signed_by: &[&SigningKey]) -> Outcome {
        let reference: Reference = "oci://h.example/p:1".parse().unwrap();
        let digest = Digest::of(b"manifest");
        let signatures: Vec<_> = signed_by.iter().map(|key| sign(&digest, &reference, key).unwrap()).collect();
        match demands.check(&digest, &reference, &signatures) {
            Ok(None) => Outcome::Used,
            Ok(Some(_)) => Outcome::Warned,
            Err(fault) => {
                assert_eq!(fault.reason, FaultReason::SignatureInvalid);
                Outcome::Refused
            }
        }
    }

    /// What becomes of an image with no signature, one of a foreign key, of the plugin's key, of the operator's, and of
    /// both.
    #[test]
    fn verification_is_that_of_the_plugin_unless_the_operator_requires_its_own() {
        use Outcome::{Refused as R, Used as U, Warned as W};
        use SignatureVerification::{Disabled, Required, Warn};
        let (own, operators, foreign) = (key(), key(), key());
        for (verification, has_own, has_operators, is_required, expected) in [
            (None, false, false, false, [U, U, U, U, U]),
            (None, true, false, false, [R, R, U, R, U]),
            (None, false, true, false, [R, R, R, U, U]),
            (None, true, true, false, [R, R, U, R, U]),
            (Some(Disabled), true, true, false, [U, U, U, U, U]),
            (Some(Warn), true, false, false, [W, W, U, W, U]),
            (Some(Warn), false, true, false, [W, W, W, U, U]),
            (Some(Warn), false, false, false, [W, W, W, W, W]),
            (Some(Required), true, false, false, [R, R, U, R, U]),
            (Some(Required), false, true, false, [R, R, R, U, U]),
            (Some(Required), false, false, false, [R, R, R, R, R]),
            // The operator requires its keys, whatever the plugin says. Both demands count.
            (None, false, true, true, [R, R, R, U, U]),
            (Some(Disabled), false, true, true, [R, R, R, U, U]),
            (Some(Disabled), true, true, true, [R, R, R, U, U]),
            (Some(Warn), false, true, true, [R, R, R, U, U]),
            (Some(Warn), true, true, true, [R, R, R, W, U]),
            (Some(Required), true, true, true, [R, R, R, R, U]),
            (Some(Disabled), false, false, true, [R, R, R, R, R]),
        ] {
            let plugin = image(verification, &[&own][..usize::from(has_own)]);
            let operator = operator(&[&operators][..usize::from(has_operators)], is_required);
            let demands = Demands::of(&plugin, &operator);
            let signers: [&[&SigningKey]; 5] = [&[], &[&foreign], &[&own], &[&operators], &[&own, &operators]];
            let results = signers.map(|signed_by| judge(&demands, signed_by));
            assert_eq!(results, expected, "{verification:?} {has_own} {has_operators} {is_required}");
        }
    }

    #[test]
    fn malformed_key_refuses_every_image_and_names_its_place() {
        let good = key();
        let mut plugin = image(Some(SignatureVerification::Warn), &[&good]);
        plugin.public_keys.push("-----BEGIN PUBLIC KEY-----\nrubbish".to_owned());
        let demands = Demands::of(&plugin, &OperatorKeys::default());
        assert_eq!(judge(&demands, &[&good]), Outcome::Refused);
        assert!(!demands.is_empty());
        let message = demands.0.clone().unwrap_err().message;
        assert!(message.starts_with("spec.source.oci.publicKeys[1]: must be"), "{message}");
        assert_eq!(demands.trust(), Some(String::new()));
    }

    #[test]
    fn trust_depends_on_the_required_keys_alone() {
        let (a, b) = (key(), key());
        let trust = |verification, keys: &[&SigningKey], operator: &OperatorKeys| {
            Demands::of(&image(verification, keys), operator).trust()
        };
        let none = OperatorKeys::default();
        let both = trust(None, &[&a, &b], &none);
        assert!(both.is_some());
        assert_eq!(both, trust(Some(SignatureVerification::Required), &[&b, &a], &none), "the order does not count");
        assert_ne!(both, trust(None, &[&a], &none));
        assert_eq!(trust(Some(SignatureVerification::Warn), &[&a], &none), None);
        assert_eq!(trust(None, &[], &none), None);
        assert_ne!(trust(None, &[&a], &operator(&[&b], true)), trust(None, &[&a], &operator(&[&b], false)));
    }
}
