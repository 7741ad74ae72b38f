//! Fails if the text of a released WIT version changes.

use std::fmt::Write as _;
use std::path::Path;

use sha2::{Digest, Sha256};

/// The released versions. Each has a digest over the names and contents of the files in its folder.
const RELEASED: [(&str, &str); 1] = [("v0.1.0", "e23d3b1f43903d732d68162a7101cad07c7e505b8137deb23183c5bde4e14ae8")];

#[test]
fn released_wit_is_never_edited() {
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
    let mut folders: Vec<_> = std::fs::read_dir(&wit).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    folders.sort();
    let released = RELEASED.map(|(version, _)| version);
    assert!(released.iter().all(|version| folders.iter().any(|folder| folder == version)), "{folders:?}");
    for (version, digest) in RELEASED {
        let found = folder_digest(&wit.join(version));
        assert_eq!(
            found, digest,
            "wit/{version} differs from its release. Components that users have built are written against that text, \
             so it stays as it is, comments included: put the change into a new version in a folder beside it, with \
             an adapter in src/plugin-host/wit"
        );
    }
}

/// SHA-256 over the name, the length and the content of every file in a folder, sorted by name.
fn folder_digest(folder: &Path) -> String {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        let content = std::fs::read_to_string(&file).unwrap();
        hash.update(format!("{} {}\n{content}", file.file_name().unwrap().to_str().unwrap(), content.len()));
    }
    hash.finalize().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
