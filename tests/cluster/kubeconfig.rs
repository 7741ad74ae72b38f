//! Writes kubeconfig files, and creates clients from them.

use std::path::Path;

use base64::Engine as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

use crate::error::write_private;
use crate::pki::Pair;
use crate::{Error, Result};

/// The identity in a kubeconfig.
pub(crate) enum Identity<'a> {
    /// The user and the group in a client certificate.
    Certificate(&'a Pair),
    /// The ServiceAccount in a token.
    Token(&'a str),
    /// Any user and groups that the holder of this certificate may impersonate.
    Acting(&'a Pair, &'a str, &'a [&'a str]),
}

/// The name of the context, the cluster and the user.
pub(crate) const NAME: &str = "paddock";

/// Writes a kubeconfig that needs no other file.
pub(crate) fn write(path: &Path, server: &str, authority: &str, identity: &Identity<'_>) -> Result<()> {
    let user = match identity {
        Identity::Certificate(pair) => certificate(pair),
        Identity::Token(token) => json!({ "token": token }),
        Identity::Acting(pair, user, groups) => {
            let mut entry = certificate(pair);
            entry["as"] = json!(user);
            entry["as-groups"] = json!(groups);
            entry
        }
    };
    let file = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": NAME, "cluster": { "server": server, "certificate-authority-data": base64(authority) } }],
        "users": [{ "name": NAME, "user": user }],
        "contexts": [{ "name": NAME, "context": { "cluster": NAME, "user": NAME } }],
        "current-context": NAME,
    });
    let text = serde_yaml_ng::to_string(&file).map_err(Error::format("writing a kubeconfig"))?;
    write_private(path, &text)
}

/// A client's configuration from a file, without any other source.
pub(crate) async fn config(path: &Path) -> Result<kube::Config> {
    let wrong = |cause| Error::Kubeconfig { path: path.to_owned(), cause: Box::new(cause) };
    let file = Kubeconfig::read_from(path).map_err(wrong)?;
    kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(wrong)
}

/// A client for the cluster and the user of a file.
pub(crate) async fn client(path: &Path) -> Result<kube::Client> {
    let config = config(path).await?;
    kube::Client::try_from(config).map_err(Error::kube(format!("making a client from {}", path.display())))
}

fn certificate(pair: &Pair) -> Value {
    json!({ "client-certificate-data": base64(&pair.certificate), "client-key-data": base64(&pair.key) })
}

fn base64(pem: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(pem)
}
