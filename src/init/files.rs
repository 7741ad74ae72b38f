//! The files of a claim, as the kubelet writes them: each version in a directory of its own, and the link `..data`, which
//! leads to the present version.

use std::fs;
use std::path::{Path, PathBuf};

/// The directory with the files of a claim.
#[derive(Debug)]
pub(crate) struct Files<'a> {
    directory: &'a Path,
    /// The version that says that no claim has the sandbox. It is not read again.
    unclaimed: Option<PathBuf>,
}

/// The state of the files.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// No claim has the sandbox.
    NoClaim,
    /// The files are not those of the claim, or not all of them are there, with the reason.
    Missing(String),
    /// The variables of the claim, in the form in which the operator writes them. Empty if the claim brings nothing.
    Variables(Vec<u8>),
}

impl<'a> Files<'a> {
    pub(crate) fn of(directory: &'a Path) -> Self {
        Self { directory, unclaimed: None }
    }

    /// Reads the files of one version, so that they belong together.
    pub(crate) fn look(&mut self) -> Seen {
        let link = self.directory.join("..data");
        let version = match fs::read_link(&link) {
            Ok(version) => version,
            Err(error) => return Seen::Missing(format!("{}: {error}", link.display())),
        };
        if self.unclaimed.as_ref() == Some(&version) {
            return Seen::NoClaim;
        }
        let seen = read(&self.directory.join(&version)).unwrap_or_else(Seen::Missing);
        self.unclaimed = (seen == Seen::NoClaim).then_some(version);
        seen
    }
}

/// Reads a version, or says what is missing. A file that cannot be read counts as missing, because the command must not
/// start without its variables.
fn read(version: &Path) -> Result<Seen, String> {
    let file = |name: &str| {
        let path = version.join(name);
        fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let announced = file("delivery")?;
    let word = announced.trim_ascii();
    if word.is_empty() {
        return Ok(Seen::NoClaim);
    }
    if word == b"none" {
        return Ok(Seen::Variables(Vec::new()));
    }
    let uid = word.strip_prefix(b"data ").ok_or_else(|| {
        let (path, word) = (version.join("delivery"), String::from_utf8_lossy(word));
        format!("{} has the unknown word {word:?}", path.display())
    })?;
    // A file that somebody prepared does not have the UID of the claim.
    if !is_of_claim(&file("claim.json")?, uid) {
        return Err(format!("{} is that of another claim", version.join("claim.json").display()));
    }
    file("paddock.env").map(Seen::Variables)
}

/// Whether `claim.json` is that of the claim with this UID. The operator writes it without spaces.
fn is_of_claim(everything: &[u8], uid: &[u8]) -> bool {
    let field = [br#""uid":""#, uid, br#"""#].concat();
    everything.windows(field.len()).any(|window| window == field)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a version as the kubelet does, and removes the one before.
    fn write(directory: &Path, name: &str, files: &[(&str, &str)]) {
        let version = directory.join(name);
        fs::create_dir(&version).expect("a directory");
        for (file, content) in files {
            fs::write(version.join(file), content).expect("a file");
        }
        let (link, next) = (directory.join("..data"), directory.join("..data_tmp"));
        let before = fs::read_link(&link).ok();
        std::os::unix::fs::symlink(name, &next).expect("a link");
        fs::rename(&next, &link).expect("renamed");
        if let Some(before) = before {
            fs::remove_dir_all(directory.join(before)).expect("removed");
        }
    }

    #[test]
    fn only_a_complete_version_of_the_claim_counts() {
        let claim = ("claim.json", r#"{"claim":{"name":"c","uid":"u1"}}"#);
        let other = ("claim.json", r#"{"claim":{"name":"c","uid":"u2"}}"#);
        let (env, announced) = (("paddock.env", "/A=1\0"), ("delivery", "data u1"));
        let seen = |variables: &str| Ok(Seen::Variables(variables.as_bytes().to_vec()));
        for (files, expected) in [
            (vec![("delivery", "")], Ok(Seen::NoClaim)),
            (vec![("delivery", ""), claim, env], Ok(Seen::NoClaim)),
            (vec![("delivery", "none")], seen("")),
            (vec![("delivery", "none\n"), other, env], seen("")),
            (vec![announced, claim, env], seen("/A=1\0")),
            (vec![announced, claim, ("paddock.env", "")], seen("")),
            (vec![claim, env], Err("delivery: No such file")),
            (vec![announced], Err("claim.json: No such file")),
            (vec![announced, env], Err("claim.json: No such file")),
            (vec![announced, claim], Err("paddock.env: No such file")),
            (vec![announced, other, env], Err("claim.json is that of another claim")),
            (vec![("delivery", "data"), claim, env], Err("the unknown word \"data\"")),
            (vec![("delivery", "later"), claim, env], Err("the unknown word \"later\"")),
        ] {
            let directory = tempfile::tempdir().expect("a directory");
            write(directory.path(), "..1", &files);
            let found = Files::of(directory.path()).look();
            match (&found, &expected) {
                (Seen::Missing(what), Err(text)) => assert!(what.contains(text), "{files:?}: {what}"),
                (_, Ok(expected)) => assert_eq!(found, *expected, "{files:?}"),
                (Seen::NoClaim | Seen::Variables(_), Err(_)) => panic!("{files:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn each_version_is_read_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut files = Files::of(directory.path());
        assert!(matches!(files.look(), Seen::Missing(what) if what.contains("..data")));
        write(directory.path(), "..1", &[("delivery", "")]);
        assert_eq!((files.look(), files.look()), (Seen::NoClaim, Seen::NoClaim));
        let claim = ("claim.json", r#"{"claim":{"uid":"u1"}}"#);
        write(directory.path(), "..2", &[("delivery", "data u1"), claim]);
        assert!(matches!(files.look(), Seen::Missing(what) if what.contains("..2/paddock.env")));
        // The version has been removed, and the link does not lead to the next one yet.
        fs::remove_dir_all(directory.path().join("..2")).expect("removed");
        assert!(matches!(files.look(), Seen::Missing(_)));
        fs::create_dir(directory.path().join("..2")).expect("a directory");
        write(directory.path(), "..3", &[("delivery", "data u1"), claim, ("paddock.env", "/A=1\0")]);
        assert_eq!(files.look(), Seen::Variables(b"/A=1\0".to_vec()));
    }
}
