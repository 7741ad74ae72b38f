//! Reads the Secrets with the credentials for registries, in the operator's own namespace.
//!
//! Each attempt reads its Secret anew, so a changed password counts at once, and no Secret stays in memory. The operator
//! may read only the Secrets that a Role names (`paddock manifests --plugin-pull-secret`). Credentials are sent only to the
//! registry that the Secret gives them for.

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use paddock_api::NameRef;
use paddock_api::names::object;
use paddock_registry::Credentials;

use crate::plugins::objects::{Fault, FaultReason};

/// The type of a Secret with credentials for registries, and its only key.
const TYPE: &str = "kubernetes.io/dockerconfigjson";
const KEY: &str = ".dockerconfigjson";

/// The Secrets of the operator's namespace, with the client that reads them. `None` without a namespace.
pub struct PullSecrets(Option<(Client, String)>);

impl PullSecrets {
    /// The Secrets of this namespace. An operator outside of a cluster may have none.
    #[must_use]
    pub fn new(client: Client, namespace: Option<String>) -> Self {
        Self(namespace.map(|namespace| (client, namespace)))
    }

    /// No Secrets.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// The credentials for a registry. Without a Secret, there are none.
    pub(super) async fn credentials(&self, secret: Option<&NameRef>, host: &str) -> Result<Credentials, Fault> {
        let Some(NameRef { name }) = secret else { return Ok(Credentials::Anonymous) };
        let Some((client, namespace)) = &self.0 else {
            return Err(unusable(
                "this operator runs in no namespace, so it reads no Secret; start it with --leader-election-namespace",
            ));
        };
        let read = Api::<Secret>::namespaced(client.clone(), namespace).get(name).await;
        let secret = read.map_err(|error| unread(&error, (namespace, name), host))?;
        of_secret(&secret, host).map_err(|problem| unusable(&format!("the Secret {namespace}/{name} {problem}")))
    }
}

fn unusable(message: &str) -> Fault {
    Fault::new(FaultReason::PullSecretUnusable, format!("spec.source.oci.pullSecret: {message}"))
}

fn unread(error: &kube::Error, (namespace, name): (&str, &str), host: &str) -> Fault {
    let code = if let kube::Error::Api(status) = error { status.code } else { 0 };
    unusable(&match code {
        403 => format!(
            "the operator may not read the Secret {namespace}/{name}; apply the Role {}-plugin-registry, which `paddock \
             manifests --plugin-pull-secret={name}` prints",
            object::OPERATOR_DEPLOYMENT
        ),
        404 => format!(
            "the namespace {namespace} of the operator has no Secret {name}; `kubectl -n {namespace} create secret \
             docker-registry {name} --docker-server={host} --docker-username=USER --docker-password=PASSWORD` makes it"
        ),
        _ => format!("the Secret {namespace}/{name} cannot be read: {error}"),
    })
}

/// The credentials in a Secret, or the problem with it. No message contains a credential.
fn of_secret(secret: &Secret, host: &str) -> Result<Credentials, String> {
    let of_type = secret.type_.as_deref().unwrap_or("Opaque");
    if of_type != TYPE {
        return Err(format!("has the type {of_type}, but must have {TYPE}"));
    }
    let config = secret.data.as_ref().and_then(|data| data.get(KEY)).ok_or_else(|| format!("has no key {KEY}"))?;
    let found = Credentials::from_docker_config(&config.0, host)
        .map_err(|error| format!("has the key {KEY}, which {error}"))?;
    found.ok_or_else(|| format!("has no entry for {host} in auths of {KEY}"))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use kube::core::Status;

    use super::*;

    fn secret(of_type: &str, key: &str, config: &str) -> Secret {
        Secret {
            type_: Some(of_type.to_owned()),
            data: Some([(key.to_owned(), ByteString(config.as_bytes().to_vec()))].into()),
            ..Secret::default()
        }
    }

    #[test]
    fn credentials_are_those_for_the_registry_alone() {
        let config = r#"{"auths": {"h.example:5000": {"username": "u", "password": "p"}}}"#;
        let secret = secret(TYPE, KEY, config);
        let expected = Credentials::Basic { username: "u".to_owned(), password: "p".to_owned() };
        assert_eq!(of_secret(&secret, "h.example:5000"), Ok(expected));
        let error = of_secret(&secret, "other.example").unwrap_err();
        assert!(error.contains("no entry for other.example"), "{error}");
    }

    #[test]
    fn secret_that_cannot_be_used_is_named_with_the_remedy() {
        for (secret, part) in [
            (secret("Opaque", KEY, "{}"), "has the type Opaque, but must have kubernetes.io/dockerconfigjson"),
            (secret(TYPE, "config.json", "{}"), "has no key .dockerconfigjson"),
            (secret(TYPE, KEY, "secret"), "is not a configuration of Docker"),
        ] {
            let error = of_secret(&secret, "h").unwrap_err();
            assert!(error.contains(part) && !error.contains("secret\""), "{error}");
        }
        for (code, part) in [
            (403, "--plugin-pull-secret=s"),
            (404, "create secret docker-registry s --docker-server=h"),
            (500, "cannot be read"),
        ] {
            let error = kube::Error::Api(Box::new(Status { code, ..Status::default() }));
            let fault = unread(&error, ("sys", "s"), "h");
            assert_eq!(fault.reason, FaultReason::PullSecretUnusable);
            assert!(
                fault.message.starts_with("spec.source.oci.pullSecret: ") && fault.message.contains(part),
                "{fault:?}"
            );
        }
    }

    #[tokio::test]
    async fn without_a_secret_there_are_no_credentials_and_without_a_namespace_no_secret() {
        let none = PullSecrets::none();
        assert_eq!(none.credentials(None, "h").await, Ok(Credentials::Anonymous));
        let named = NameRef { name: "s".to_owned() };
        let fault = none.credentials(Some(&named), "h").await.unwrap_err();
        assert!(fault.message.contains("--leader-election-namespace"), "{fault:?}");
    }
}
