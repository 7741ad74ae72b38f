//! What is built once for this machine and kept in the user's cache folder.
//!
//! The sources are embedded in this crate's library, so a build does not depend on the current folder. A folder in the
//! cache is named after a hash of the sources and of the tools' versions. A lock prevents two builds at the same time.
//! The folder `bin` is complete when it appears, because it is renamed into place. A note beside the folders contains
//! the key of the last build of these sources, so that it is found without the tools.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use sha2::{Digest as _, Sha256};

use crate::{Error, Result};

/// The interval at which a build, or the wait for another build, reports its progress.
pub(crate) const REPORT_EVERY: Duration = Duration::from_secs(15);

/// A build that was not used for this time is removed when a new one is made.
const KEEP_UNUSED: Duration = Duration::from_secs(30 * 24 * 3600);

/// A kind of build.
pub(crate) struct Cached {
    /// The folder below the cache folder.
    pub(crate) folder: &'static str,
    /// The object that is built, as messages name it.
    pub(crate) title: &'static str,
    /// The files from which it is built, by their paths.
    pub(crate) sources: &'static [(&'static str, &'static str)],
    /// A part of the folder's name. It is raised when the commands of the build change.
    pub(crate) recipe: &'static str,
    /// The versions of the tools that affect the result, asked in the folder with the sources.
    pub(crate) tools: fn(&Path) -> Result<String>,
    /// Builds from the sources in the first folder into the second one. The text is the versions of the tools.
    pub(crate) build: fn(&Path, &Path, &str) -> Result<()>,
}

/// The sources, the versions of the tools and the target folder of a build.
struct Plan {
    source_folder: PathBuf,
    tools: String,
    key: String,
    folder: PathBuf,
}

impl Cached {
    /// The folder with the result, which is built if necessary. Blocks.
    pub(crate) fn ready(&self) -> Result<PathBuf> {
        self.ready_in(&self.root()?)
    }

    /// The same as [`Cached::ready`] for an async caller.
    pub(crate) async fn ready_async(&'static self) -> Result<PathBuf> {
        let blocking = tokio::task::spawn_blocking(|| self.ready());
        blocking.await.map_err(Error::format(format!("making {}", self.title)))?
    }

    /// Whether it is built, so that [`Cached::ready`] returns at once.
    pub(crate) fn built(&self) -> bool {
        self.root().is_ok_and(|root| {
            self.noted(&root).is_some() || self.plan(&root).is_ok_and(|plan| plan.folder.join("bin").is_dir())
        })
    }

    fn root(&self) -> Result<PathBuf> {
        Ok(cache_folder()?.join(self.folder))
    }

    fn plan(&self, root: &Path) -> Result<Plan> {
        let sources = self.hash_of_sources();
        let source_folder = root.join(format!("src-{sources}"));
        self.write_sources(&source_folder)?;
        let tools = (self.tools)(&source_folder)?;
        let key = hash([sources.as_str(), &tools, std::env::consts::OS, std::env::consts::ARCH]);
        let folder = root.join(&key);
        Ok(Plan { source_folder, tools, key, folder })
    }

    fn hash_of_sources(&self) -> String {
        hash(self.sources.iter().flat_map(|(name, text)| [*name, *text]).chain([self.recipe]))
    }

    /// The file with the key of the build of these sources for this machine.
    fn note(&self, root: &Path) -> PathBuf {
        root.join(format!("built-{}-{}-{}", self.hash_of_sources(), std::env::consts::OS, std::env::consts::ARCH))
    }

    /// The folder with the result, if it was built before and still exists.
    fn noted(&self, root: &Path) -> Option<PathBuf> {
        let key = std::fs::read_to_string(self.note(root)).ok()?;
        let folder = root.join(key.trim());
        let bin = folder.join("bin");
        if key.trim().is_empty() || !bin.is_dir() {
            return None;
        }
        used(&folder);
        Some(bin)
    }

    fn ready_in(&self, root: &Path) -> Result<PathBuf> {
        if let Some(bin) = self.noted(root) {
            return Ok(bin);
        }
        let Plan { source_folder, tools, key, folder } = self.plan(root)?;
        let bin = folder.join("bin");
        if !bin.is_dir() {
            std::fs::create_dir_all(&folder).map_err(Error::io(format!("making {}", folder.display())))?;
            let lock = self.lock(&folder.join("lock"))?;
            if !bin.is_dir() {
                let new = folder.join("new");
                let _ = std::fs::remove_dir_all(&new); // of an interrupted build
                std::fs::create_dir_all(&new).map_err(Error::io(format!("making {}", new.display())))?;
                (self.build)(&source_folder, &new, &tools)?;
                std::fs::rename(&new, &bin).map_err(Error::io("finishing the build"))?;
                remove_unused(root, &[&folder, &source_folder]);
            }
            drop(lock);
        }
        used(&folder);
        // Without the note, the next run only asks the tools for their versions again.
        let _ = put(&self.note(root), &key);
        Ok(bin)
    }

    fn write_sources(&self, folder: &Path) -> Result<()> {
        for (name, text) in self.sources {
            let file = folder.join(name);
            if std::fs::read(&file).is_ok_and(|there| there == text.as_bytes()) {
                continue;
            }
            let parent = file.parent().unwrap_or(folder);
            std::fs::create_dir_all(parent).map_err(Error::io(format!("making {}", parent.display())))?;
            put(&file, text).map_err(Error::io(format!("writing {}", file.display())))?;
        }
        Ok(())
    }

    /// Takes the lock, and reports at intervals that it waits for the build of another process.
    fn lock(&self, path: &Path) -> Result<File> {
        let file = File::create(path).map_err(Error::io(format!("making {}", path.display())))?;
        let began = Instant::now();
        let mut reported = None;
        while let Err(e) = file.try_lock() {
            match e {
                std::fs::TryLockError::WouldBlock => {}
                std::fs::TryLockError::Error(e) => return Err(Error::io("locking the build")(e)),
            }
            if reported.is_none_or(|at: Instant| at.elapsed() >= REPORT_EVERY) {
                report(&format!(
                    "another process is building {}, waiting for it ({})",
                    self.title,
                    clock(began.elapsed())
                ));
                reported = Some(Instant::now());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(file)
    }
}

/// The folder `paddock` in the user's cache folder, as in the XDG base directory specification.
pub(crate) fn cache_folder() -> Result<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("paddock"))
        .ok_or_else(|| Error::Input {
            field: "HOME",
            problem: "neither XDG_CACHE_HOME nor HOME is set to an absolute path: set one".into(),
        })
}

/// The modification time records the last use. A failure does no harm.
fn used(folder: &Path) {
    let _ = File::open(folder).and_then(|f| f.set_modified(SystemTime::now()));
}

/// Writes a file by a rename, because another process may be reading it.
fn put(file: &Path, text: &str) -> std::io::Result<()> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let new = file.with_file_name(format!(".{name}.{}", std::process::id()));
    std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, file))
}

/// Removes builds that were not used for a long time. A failure is ignored.
fn remove_unused(root: &Path, current: &[&Path]) {
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let path = entry.path();
        let old = entry
            .metadata()
            .and_then(|m| m.modified())
            .is_ok_and(|at| at.elapsed().is_ok_and(|unused| unused > KEEP_UNUSED));
        if old && !current.contains(&path.as_path()) {
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

/// A hash of 16 hexadecimal digits, which is enough for a handful of builds.
fn hash<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.len().to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Minutes and seconds.
pub(crate) fn clock(elapsed: Duration) -> String {
    format!("{}:{:02}", elapsed.as_secs() / 60, elapsed.as_secs() % 60)
}

/// Writes directly to standard error. The test harness captures `eprintln!`, and a user who waits for minutes must see
/// the reason.
pub(crate) fn report(line: &str) {
    let _ = writeln!(std::io::stderr(), "paddock-cluster: {line}");
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn built_binaries_are_found_without_go() {
        let cached = Cached {
            folder: "test",
            title: "a test",
            sources: &[("go.mod", "module test")],
            recipe: "1",
            tools: |_| Err(Error::GoMissing),
            build: |_, _, _| Err(Error::GoMissing),
        };
        let root = tempfile::tempdir().unwrap();
        let bin = root.path().join("one/bin");
        std::fs::create_dir_all(&bin).unwrap();
        assert_eq!(cached.noted(root.path()), None, "nothing is noted");
        put(&cached.note(root.path()), "one").unwrap();
        // Go would name another folder after its version, and would have to build it.
        assert_eq!(cached.ready_in(root.path()).unwrap(), bin);
        std::fs::remove_dir(&bin).unwrap();
        assert_eq!(cached.noted(root.path()), None, "what was noted is gone");
    }
}
