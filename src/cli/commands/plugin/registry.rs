//! The registry of a command: how it is reached, and who asks.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use paddock_plugin_host::HostConfig;
use paddock_registry::{Client, Credentials, Error, Key, Options, Reference, SigningKey};

use crate::output::read;
use crate::usage::{OrBadUsage as _, bad_usage};
use crate::values::parse_positive_duration;

/// The rules about credentials, for the help of each command.
macro_rules! credentials_help {
    () => {
        "\
The credentials are those of --username, or else those of the registry in the file config.json of the folder
DOCKER_CONFIG or ~/.docker (`docker login` and `oras login` write it). Credential helpers are programs, and are not run.
Without an entry, the registry is asked without credentials. They are sent only with TLS, or to this machine.

"
    };
}
pub(super) use credentials_help;

/// The registry.
#[derive(Debug, Args)]
pub(super) struct RegistryArgs {
    /// User of the registry.
    #[arg(long, value_name = "NAME", requires = "password_stdin")]
    username: Option<String>,
    /// Reads the password, or an access token, from standard input.
    #[arg(long, requires = "username")]
    password_stdin: bool,
    /// Certificates of authorities in PEM format that are trusted beside those of the system. May be repeated.
    #[arg(long = "ca-file", value_name = "FILE")]
    ca_files: Vec<PathBuf>,
    /// Asks the registry without TLS.
    #[arg(long)]
    plain_http: bool,
    /// Time for each operation in the registry.
    #[arg(long, value_name = "DURATION", value_parser = parse_positive_duration, default_value = "2m")]
    timeout: Duration,
}

/// A client with the credentials for one registry.
pub(super) struct Access {
    pub(super) client: Client,
    pub(super) credentials: Credentials,
}

impl RegistryArgs {
    /// Reads the files that the flags name.
    pub(super) fn access(&self, reference: &Reference) -> anyhow::Result<Access> {
        let read_ca = |path: &PathBuf| read(path).context("--ca-file").or_bad_usage();
        let options = Options {
            extra_ca: self.ca_files.iter().map(read_ca).collect::<anyhow::Result<_>>()?,
            plain_http: self.plain_http,
            timeout: self.timeout,
            max_component_bytes: HostConfig::default().component_bytes,
        };
        let client = Client::new(options).context("--ca-file").or_bad_usage()?;
        Ok(Access { client, credentials: self.credentials(reference.host())? })
    }

    fn credentials(&self, host: &str) -> anyhow::Result<Credentials> {
        let Some(username) = &self.username else { return stored(host) };
        let mut password = String::new();
        std::io::stdin().read_to_string(&mut password).context("--password-stdin").or_bad_usage()?;
        let password = password.trim_end_matches(['\r', '\n']);
        if password.is_empty() {
            return Err(bad_usage("--password-stdin: standard input must contain the password"));
        }
        Ok(Credentials::Basic { username: username.clone(), password: password.to_owned() })
    }
}

/// The credentials in Docker's configuration, if there is one.
fn stored(host: &str) -> anyhow::Result<Credentials> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("DOCKER_CONFIG").or_else(|| set("HOME").map(|home| home.join(".docker")));
    let Some(file) = folder.map(|folder| folder.join("config.json")).filter(|file| file.exists()) else {
        return Ok(Credentials::Anonymous);
    };
    let found = Credentials::from_docker_config(&read(&file).or_bad_usage()?, host);
    Ok(found.with_context(|| file.display().to_string()).or_bad_usage()?.unwrap_or_default())
}

/// Runs the requests of a command.
pub(super) fn run_requests<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(work)
}

/// The error of a command. Options that cannot be used are errors of the user's input.
pub(super) fn failed(error: Error) -> anyhow::Error {
    if matches!(error, Error::Options(_)) { bad_usage(error) } else { anyhow!(error) }
}

/// Reads the public keys of `--key`.
pub(super) fn public_keys(files: &[PathBuf]) -> anyhow::Result<Vec<Key>> {
    files.iter().map(|file| key(file, Key::from_pem)).collect()
}

/// Reads the private key of `--key`.
pub(super) fn private_key(file: &Path) -> anyhow::Result<SigningKey> {
    key(file, SigningKey::from_pem)
}

fn key<K>(file: &Path, parse: impl Fn(&[u8]) -> Result<K, paddock_registry::KeyError>) -> anyhow::Result<K> {
    let content = read(file).context("--key").or_bad_usage()?;
    parse(&content).map_err(|error| bad_usage(format!("--key {}: {error}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::BadUsage;

    #[test]
    fn key_that_cannot_be_used_is_named_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("plugin.key");
        let (_, private) = SigningKey::generate().unwrap();
        std::fs::write(&file, private).unwrap();
        assert!(private_key(&file).is_ok());
        let error = public_keys(std::slice::from_ref(&file)).unwrap_err();
        assert!(error.is::<BadUsage>(), "{error:#}");
        assert!(error.to_string().contains("plugin.key: is a private key"), "{error:#}");
        let missing = private_key(&dir.path().join("other.key")).unwrap_err();
        assert!(missing.is::<BadUsage>() && format!("{missing:#}").contains("other.key"), "{missing:#}");
    }
}
