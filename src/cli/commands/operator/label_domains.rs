//! The domains whose labels a claim may add to its pod: those of the flag, those of the file of upstream's ConfigMap, or the
//! default.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context as _;
use paddock_api::names::object::CLAIM_LABEL_DOMAIN;
use tracing::info;

/// The domains. `given` are those of the flag.
///
/// # Errors
/// If the file exists and cannot be read.
pub(super) fn label_domains(given: Vec<String>, file: &Path) -> anyhow::Result<Vec<String>> {
    if !given.is_empty() {
        return Ok(given);
    }
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("--claim-label-domains-file {}", file.display())),
    };
    let domains: Vec<String> = text
        .split([',', '\n', '\r'])
        .map(|domain| domain.trim().to_ascii_lowercase())
        .filter(|domain| !domain.is_empty())
        .collect();
    if domains.is_empty() {
        return Ok(vec![CLAIM_LABEL_DOMAIN.to_owned()]);
    }
    info!(file = %file.display(), ?domains, "claims may add labels of these domains to their pods");
    Ok(domains)
}

#[cfg(test)]
mod tests {
    use paddock_operator::manifests::SANDBOX_CONFIG;

    use super::super::OperatorArgs;
    use super::*;
    use crate::values::parsed;

    #[test]
    fn the_file_replaces_the_default_and_the_flag_replaces_both() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("allowed-label-domains");
        let read = |given: &[&str]| {
            label_domains(given.iter().map(|domain| (*domain).to_owned()).collect(), &file)
                .map_err(|error| format!("{error:#}"))
        };
        let domains = |names: &[&str]| Ok::<_, String>(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(read(&[]), domains(&["sandbox.users.io"]));
        for (text, wanted) in [
            ("example.com\nsandbox.users.io\n", &["example.com", "sandbox.users.io"][..]),
            ("sandbox.users.io, Archestra.IO,\r\n", &["sandbox.users.io", "archestra.io"]),
            ("\n , \n", &["sandbox.users.io"]),
            ("", &["sandbox.users.io"]),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(read(&[]), domains(wanted), "{text:?}");
            assert_eq!(read(&["a.example"]), domains(&["a.example"]));
        }
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        let refused = read(&[]).unwrap_err();
        assert!(refused.starts_with("--claim-label-domains-file"), "{refused}");
    }

    #[test]
    fn the_default_file_is_in_the_volume_of_the_manifests() {
        let args: OperatorArgs = parsed(&[]).unwrap();
        let file = Path::new(SANDBOX_CONFIG).join("allowed-label-domains");
        assert_eq!(args.sandboxes.claim_label_domains_file, file);
        assert!(args.sandboxes.claim_label_domain.is_empty());
    }
}
