//! `paddock plugin keygen`: makes a key pair for signatures.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use paddock_registry::SigningKey;

use crate::output::print;
use crate::usage::OrBadUsage as _;

#[derive(Debug, Args)]
#[command(after_help = "\
The keys are ECDSA P-256. The private key is not encrypted, and only its owner can read its file. Keep it in the secret
store of your CI. `cosign import-key-pair --key plugin.key` makes an encrypted copy that cosign signs with.

Examples:
  paddock plugin keygen
  paddock plugin keygen --output keys/release")]
pub(crate) struct KeygenArgs {
    /// The path of the files without their endings: the private key gets .key, and the public key .pub.
    #[arg(long, short, value_name = "PATH", default_value = "plugin")]
    output: PathBuf,
}

/// Writes both keys and prints their paths. It replaces no file.
pub(crate) fn run(KeygenArgs { output }: &KeygenArgs) -> anyhow::Result<()> {
    let (key, private) = SigningKey::generate()?;
    let file = |ending: &str| {
        let mut path = output.clone().into_os_string();
        path.push(ending);
        PathBuf::from(path)
    };
    let (private_file, public_file) = (file(".key"), file(".pub"));
    create(&private_file, 0o600, &private)?;
    create(&public_file, 0o644, &key.public().to_pem())?;
    print(&format!("{}\n{}\n", private_file.display(), public_file.display()))
}

/// Writes a file that must not exist yet.
fn create(path: &Path, mode: u32, content: &str) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = file.and_then(|mut file| file.write_all(content.as_bytes()));
    written.with_context(|| format!("writing {}", path.display())).or_bad_usage()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use paddock_registry::Key;

    use super::*;

    #[test]
    fn keys_are_written_once_and_the_private_one_for_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let args = KeygenArgs { output: dir.path().join("my.plugin") };
        run(&args).unwrap();
        let read = |ending: &str| std::fs::read(dir.path().join(format!("my.plugin.{ending}"))).unwrap();
        let (private, public) = (read("key"), read("pub"));
        let signer = SigningKey::from_pem(&private).unwrap();
        assert_eq!(Key::from_pem(&public).unwrap(), signer.public());
        let mode = std::fs::metadata(dir.path().join("my.plugin.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(run(&args).is_err(), "a key is not replaced");
        assert_eq!(read("key"), private);
    }
}
