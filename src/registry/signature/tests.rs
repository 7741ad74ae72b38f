//! Tests of keys and signatures, with a signature that openssl made.

use super::*;

/// A key pair, a payload and its signature that openssl made: `openssl dgst -sha256 -sign`.
const OPENSSL_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE4bwoeoZiQwn5UGTWabjhf3OVEB6C
ikoZDHkwOYuSF5XnKrgy1L+5n32hKS59MpnJxggornuen0q73xhFq8JjeQ==
-----END PUBLIC KEY-----
";
const OPENSSL_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgTrr6jS43S5tcRQlq
Q8HBvUrmrNLmmY6Taf5TBMnH0XyhRANCAAThvCh6hmJDCflQZNZpuOF/c5UQHoKK
ShkMeTA5i5IXlecquDLUv7mffaEpLn0ymcnGCCiue56fSrvfGEWrwmN5
-----END PRIVATE KEY-----
";
const PAYLOAD: &str = "{\"critical\":{\"identity\":{\"docker-reference\":\"registry.example.com/plugins/sizer\"},\
    \"image\":{\"docker-manifest-digest\":\"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"},\
    \"type\":\"cosign container image signature\"},\"optional\":{\"creator\":\"Bazel\"}}";
const OPENSSL_SIGNATURE: &str = "MEYCIQCdvXsEdar8WdN67e/65vIobNpwhH9BsAW+XT0EGrUZvAIhANVMj0aTZu7LJBz3a5VTBjI0nxarPcGNcoCjre1/\
    xMXv";
/// Keys of the curve P-384 and of the algorithm Ed25519.
const OTHER_KEYS: [&str; 2] = [
    "-----BEGIN PUBLIC KEY-----
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEogTXb0btFQCsFTdIE5Soarbvk9AOkowI
JIUNAqLIVI0YFc3Wm+GhpT30AGHX2oTak5mdeKpJHqvcAS1P3zVhYusv1+BjbsYM
NUQLyXGu1z7y/XR5ixCXLYTMZf+oYfy4
-----END PUBLIC KEY-----",
    "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAycyGLfM/s8bcV8KAFBCbeeulu2eOZN1cng3WNTOIAms=
-----END PUBLIC KEY-----",
];

fn reference() -> Reference {
    "oci://registry.example.com/plugins/sizer:v1".parse().unwrap()
}

fn key() -> SigningKey {
    SigningKey::generate().unwrap().0
}

/// The problem that `verify` reports.
fn mistrust(digest: &Digest, signatures: &[Signature], keys: &[Key]) -> Mistrust {
    match verify(digest, &reference(), signatures, keys).unwrap_err() {
        VerifyError::Untrusted { reason, .. } => reason,
        other @ (VerifyError::NoKeys { .. } | VerifyError::Unsigned { .. }) => panic!("{other}"),
    }
}

#[test]
fn signature_of_openssl_is_valid() {
    let signature = Signature { payload: PAYLOAD.into(), signature: OPENSSL_SIGNATURE.to_owned() };
    let keys = [key().public(), Key::from_pem(OPENSSL_PUBLIC.as_bytes()).unwrap()];
    let verified = verify(&Digest::of(b""), &reference(), &[signature], &keys).unwrap();
    assert_eq!(verified, Verified { key: 1, identity: "registry.example.com/plugins/sizer".to_owned() });
}

#[test]
fn own_signature_is_valid_for_its_artifact_and_its_key_alone() {
    let (signer, digest) = (key(), Digest::of(b"one"));
    let signature = sign(&digest, &reference(), &signer).unwrap();
    let (signatures, keys) = ([signature.clone()], [signer.public()]);
    assert_eq!(verify(&digest, &reference(), &signatures, &keys).unwrap().key, 0);
    let moved: Reference = "oci://mirror.example.com/copies/sizer:v2".parse().unwrap();
    assert!(verify(&digest, &moved, &signatures, &keys).is_ok(), "a copy keeps its signatures");

    assert_eq!(mistrust(&Digest::of(b"two"), &signatures, &keys), Mistrust::OtherArtifact(digest.to_string()));
    assert_eq!(mistrust(&digest, &signatures, &[key().public()]), Mistrust::OtherKey);
    let malformed = Signature { signature: "?".to_owned(), ..signature.clone() };
    assert_eq!(mistrust(&digest, std::slice::from_ref(&malformed), &keys), Mistrust::Malformed);
    let both = [malformed, signature];
    assert!(verify(&digest, &reference(), &both, &keys).is_ok(), "one valid signature is enough");
}

#[test]
fn changed_payload_is_not_trusted() {
    let (signer, digest) = (key(), Digest::of(b"one"));
    let signature = sign(&Digest::of(b"two"), &reference(), &signer).unwrap();
    let forged = sign(&digest, &reference(), &key()).unwrap();
    let forged = Signature { payload: forged.payload, ..signature };
    assert_eq!(mistrust(&digest, &[forged], &[signer.public()]), Mistrust::OtherKey);
}

#[test]
fn a_trusted_key_may_sign_other_things_that_mean_nothing_here() {
    let (signer, digest) = (key(), Digest::of(b"one"));
    let signed = |payload: &str| {
        let signature = signer.pair.sign(&signer.random, payload.as_bytes()).unwrap();
        [Signature { payload: payload.into(), signature: STANDARD.encode(signature.as_ref()) }]
    };
    let with_type = |kind: &str| {
        format!(
            r#"{{"critical":{{"identity":{{"docker-reference":""}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"{kind}"}}}}"#
        )
    };
    let keys = [signer.public()];
    assert!(verify(&digest, &reference(), &signed(&with_type(PAYLOAD_TYPE)), &keys).is_ok());
    for payload in [with_type("a commit"), digest.to_string(), String::new()] {
        assert_eq!(mistrust(&digest, &signed(&payload), &keys), Mistrust::Payload, "{payload}");
    }
}

#[test]
fn nothing_is_trusted_without_a_key_or_a_signature() {
    let digest = Digest::of(b"one");
    let signature = sign(&digest, &reference(), &key()).unwrap();
    let no_keys = verify(&digest, &reference(), &[signature], &[]).unwrap_err();
    assert!(matches!(no_keys, VerifyError::NoKeys { .. }), "{no_keys}");
    let unsigned = verify(&digest, &reference(), &[], &[key().public()]).unwrap_err();
    assert!(matches!(unsigned, VerifyError::Unsigned { .. }), "{unsigned}");
    assert!(unsigned.to_string().contains(digest.as_str()), "{unsigned}");
}

#[test]
fn keys_are_read_and_written() {
    let (signer, pem) = SigningKey::generate().unwrap();
    assert_eq!(SigningKey::from_pem(pem.as_bytes()).unwrap().public(), signer.public());
    let public = signer.public().to_pem();
    assert_eq!(Key::from_pem(public.as_bytes()).unwrap(), signer.public());
    let openssl = SigningKey::from_pem(OPENSSL_PRIVATE.as_bytes()).unwrap();
    assert_eq!(openssl.public().to_pem(), OPENSSL_PUBLIC);
}

#[test]
fn keys_of_another_form_are_refused_with_the_reason() {
    let private = SigningKey::generate().unwrap().1;
    let public = OPENSSL_PUBLIC;
    assert_eq!(Key::from_pem(private.as_bytes()), Err(KeyError::Private));
    for text in ["", "secret", &format!("{public}{public}"), &public[..100]] {
        assert!(matches!(Key::from_pem(text.as_bytes()), Err(KeyError::Pem(_))), "{text}");
    }
    for other in OTHER_KEYS {
        assert_eq!(Key::from_pem(other.as_bytes()), Err(KeyError::Algorithm));
    }
    let encrypted =
        "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----";
    assert_eq!(SigningKey::from_pem(encrypted.as_bytes()).unwrap_err(), KeyError::Encrypted);
    assert!(matches!(SigningKey::from_pem(public.as_bytes()), Err(KeyError::Pem(_))));
    let short = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----";
    assert_eq!(SigningKey::from_pem(short.as_bytes()).unwrap_err(), KeyError::Algorithm);
    assert!(!format!("{:?}", key()).contains("pair"), "no private key is shown");
}
