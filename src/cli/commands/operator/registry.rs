//! The flags about the registries that plugins come from.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{ArgAction, Args};
use paddock_operator::RegistryConfig;
use paddock_registry::Key;

use crate::usage::{OrBadUsage as _, bad_usage};
use crate::values::{parse_bool, parse_duration};

#[derive(Debug, Args)]
#[command(next_help_heading = "Plugins from registries")]
pub(super) struct RegistryArgs {
    /// File with certificates in PEM format of private authorities that sign the certificates of registries. The authorities
    /// of the system are trusted too. The flag may be repeated. Example: /etc/paddock/registry/ca.crt
    #[arg(long, value_name = "FILE", env = "PADDOCK_PLUGIN_REGISTRY_CA_FILE", value_delimiter = ',')]
    plugin_registry_ca_file: Vec<PathBuf>,
    /// Registry that is asked without TLS, as SandboxPlugins write it. The flag may be repeated. Whoever is on the path can
    /// then replace components, unless their signatures are required. Example: registry.internal:5000
    #[arg(long, value_name = "HOST[:PORT]", env = "PADDOCK_PLUGIN_REGISTRY_PLAIN_HTTP", value_delimiter = ',', value_parser = parse_registry)]
    plugin_registry_plain_http: Vec<String>,
    /// The interval at which each replica asks for the digest of a tag in spec.source.oci.image, from 1s to 24h. A tag that
    /// moves is followed within it.
    #[arg(long, value_name = "DURATION", env = "PADDOCK_PLUGIN_REGISTRY_POLL_INTERVAL", value_parser = parse_poll_interval, default_value = "1m")]
    plugin_registry_poll_interval: Duration,
    /// File with a public key in PEM format, such as cosign.pub, that counts for SandboxPlugins without publicKeys. Their
    /// images then need a signature of one of these keys, unless their verification is Warn or Disabled. The flag may be
    /// repeated. Example: /etc/paddock/keys/platform.pub
    #[arg(long, value_name = "FILE", env = "PADDOCK_PLUGIN_SIGNATURE_KEY", value_delimiter = ',')]
    plugin_signature_key: Vec<PathBuf>,
    /// Whether every image needs a signature of a key of --plugin-signature-key, whatever the SandboxPlugin says. ConfigMaps
    /// and the plugin directory are no images.
    #[arg(long, value_name = "BOOL", env = "PADDOCK_REQUIRE_PLUGIN_SIGNATURES", value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set)]
    require_plugin_signatures: bool,
}

impl RegistryArgs {
    /// The settings, with the content of the files.
    pub(super) fn config(self) -> anyhow::Result<RegistryConfig> {
        if self.require_plugin_signatures && self.plugin_signature_key.is_empty() {
            return Err(bad_usage(
                "--require-plugin-signatures needs --plugin-signature-key: without a key, no image could be used",
            ));
        }
        let read = |flag: &str, path: &PathBuf| {
            std::fs::read(path).with_context(|| format!("{flag}: {} cannot be read", path.display())).or_bad_usage()
        };
        let key = |path: &PathBuf| {
            let flag = "--plugin-signature-key";
            let pem = read(flag, path)?;
            Key::from_pem(&pem).with_context(|| format!("{flag}: {}", path.display())).or_bad_usage()
        };
        let ca = |path: &PathBuf| read("--plugin-registry-ca-file", path);
        Ok(RegistryConfig {
            extra_ca: self.plugin_registry_ca_file.iter().map(ca).collect::<Result<_, _>>()?,
            plain_http: self.plugin_registry_plain_http,
            poll_interval: self.plugin_registry_poll_interval,
            keys: self.plugin_signature_key.iter().map(key).collect::<Result<_, _>>()?,
            require_signatures: self.require_plugin_signatures,
        })
    }
}

fn parse_registry(value: &str) -> Result<String, String> {
    // The reference decides what the host of a registry is.
    let reference: Result<paddock_registry::Reference, _> = format!("oci://{value}/any:tag").parse();
    match reference {
        Ok(reference) if reference.host() == value => Ok(value.to_owned()),
        Ok(_) | Err(_) => {
            Err(format!("{value:?} is no registry: expected HOST or HOST:PORT, such as registry.internal:5000"))
        }
    }
}

fn parse_poll_interval(value: &str) -> Result<Duration, String> {
    let interval = parse_duration(value)?;
    let is_right = (Duration::from_secs(1)..=Duration::from_hours(24)).contains(&interval);
    is_right.then_some(interval).ok_or_else(|| format!("{value:?} must be from 1s to 24h, such as 5m"))
}

#[cfg(test)]
mod tests {
    use paddock_registry::SigningKey;

    use super::*;
    use crate::usage::BadUsage;
    use crate::values::parsed;

    fn config(args: &[&str]) -> anyhow::Result<RegistryConfig> {
        parsed::<RegistryArgs>(args).map_err(anyhow::Error::msg)?.config()
    }

    #[test]
    fn defaults_are_those_of_an_operator_in_a_test() {
        let (of_flags, default) = (config(&[]).unwrap(), RegistryConfig::default());
        assert_eq!(format!("{of_flags:?}"), format!("{default:?}"));
    }

    #[test]
    fn files_are_read_and_lists_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (ca, public) = (dir.path().join("ca.crt"), dir.path().join("key.pub"));
        let key = SigningKey::generate().unwrap().0.public();
        std::fs::write(&ca, "certificates").unwrap();
        std::fs::write(&public, key.to_pem()).unwrap();
        let config = config(&[
            &format!("--plugin-registry-ca-file={}", ca.display()),
            "--plugin-registry-plain-http=a.example:5000,localhost",
            "-plugin-registry-plain-http=127.0.0.1:80",
            "--plugin-registry-poll-interval=5m",
            &format!("--plugin-signature-key={}", public.display()),
            "--require-plugin-signatures",
        ]);
        let config = config.unwrap();
        assert_eq!(config.extra_ca, [b"certificates"]);
        assert_eq!(config.plain_http, ["a.example:5000", "localhost", "127.0.0.1:80"]);
        assert_eq!((config.poll_interval, config.require_signatures), (Duration::from_secs(300), true));
        assert_eq!(config.keys, [key]);
    }

    #[test]
    fn wrong_flag_is_refused_with_what_could_be() {
        let dir = tempfile::tempdir().unwrap();
        let wrong = dir.path().join("wrong.pub");
        std::fs::write(&wrong, "rubbish").unwrap();
        let wrong = format!("--plugin-signature-key={}", wrong.display());
        for (args, wanted) in [
            (vec!["--plugin-registry-plain-http=http://a"], "HOST:PORT"),
            (vec!["--plugin-registry-plain-http=a/b"], "HOST:PORT"),
            (vec!["--plugin-registry-poll-interval=500ms"], "from 1s to 24h"),
            (vec!["--plugin-registry-poll-interval=25h"], "from 1s to 24h"),
            (vec!["--plugin-registry-ca-file=/nowhere/ca"], "--plugin-registry-ca-file: /nowhere/ca cannot be read"),
            (vec![wrong.as_str()], "wrong.pub: must be one public key in PEM format"),
            (vec!["--require-plugin-signatures"], "needs --plugin-signature-key"),
        ] {
            let error = config(&args).unwrap_err();
            assert!(format!("{error:#}").contains(wanted), "{args:?}: {error:#}");
            let is_of_clap = wanted == "HOST:PORT" || wanted == "from 1s to 24h";
            assert!(is_of_clap || error.is::<BadUsage>(), "the exit code is 2: {error:#}");
        }
    }
}
