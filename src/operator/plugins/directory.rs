//! The plugin directory: the files that exist, and the bytes of those that changed.
//!
//! The directory is read once a second instead of being watched. Kubernetes changes the mount of a ConfigMap by
//! renaming a symbolic link beside the files, and network file systems do not report changes from other machines. File
//! notifications miss one or the other, and reading the metadata of some files costs nothing.

use std::collections::HashMap;
use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use futures::{Stream, stream};
use tokio::time::sleep;

use super::blocking::blocking;
use super::source::{Content, File, IgnoredFile, PluginSource, SourceContent, SourceError};

/// The age below which a file is read again next time. A file that was changed a moment ago may change once more
/// without new times, because the coarse clocks of file systems tick every two seconds.
const YOUNG: Duration = Duration::from_secs(2);

/// The number of times that the directory is read while its ConfigMap is being replaced.
const READ_ATTEMPTS: usize = 3;

/// The version of the ConfigMap that a directory mounts: the target of its symbolic link `..data`. The kubelet gives
/// each version a directory of its own, and then renames the link. Another directory has no such link.
fn version(dir: &Path) -> Option<PathBuf> {
    std::fs::read_link(dir.join("..data")).ok()
}

/// The metadata that shows a change of a file without reading it. Symbolic links are followed. Behind the link of a
/// ConfigMap is another file with another inode after each change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    settled: bool,
}

impl Stamp {
    /// The stamp of a file without metadata. It never matches, so that the file is tried again.
    const UNREADABLE: Stamp = Stamp { device: 0, inode: 0, size: 0, modified: (0, 0), changed: (0, 0), settled: false };

    fn of(metadata: &Metadata, now: SystemTime) -> Self {
        let age = metadata.modified().ok().and_then(|modified| now.duration_since(modified).ok());
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            settled: age.is_some_and(|age| age > YOUNG),
        }
    }

    /// Whether a file with the stamp `now`, which was read when it had the stamp `self`, does not have to be read
    /// again.
    fn still_holds(&self, now: &Stamp) -> bool {
        self.settled && *self == *now
    }
}

/// The plugin directory.
pub struct DirectorySource {
    dir: PathBuf,
    interval: Duration,
    largest: u64,
    /// The files as they were read last.
    known: HashMap<PathBuf, (Stamp, File)>,
}

impl DirectorySource {
    /// The directory `dir`, read once an `interval`. Files with more than `largest` bytes are not read.
    #[must_use]
    pub fn new(dir: PathBuf, interval: Duration, largest: u64) -> Self {
        Self { dir, interval, largest, known: HashMap::new() }
    }

    /// Reads the directory. Files that did not change since the last call are not read again. All files of a ConfigMap's
    /// mount are from one version of the ConfigMap.
    ///
    /// # Errors
    /// If the directory cannot be listed, or changes all the time. The message contains the path.
    pub fn read(&mut self) -> Result<SourceContent, SourceError> {
        for _ in 0..READ_ATTEMPTS {
            let before = version(&self.dir);
            let content = self.read_once()?;
            if version(&self.dir) == before {
                return Ok(content);
            }
        }
        let location = self.dir.display().to_string();
        let message =
            format!("{location}: the ConfigMap of the mount was replaced during each of {READ_ATTEMPTS} reads");
        Err(SourceError { message, location })
    }

    fn read_once(&mut self) -> Result<SourceContent, SourceError> {
        let location = self.dir.display().to_string();
        let failed =
            |error: std::io::Error| SourceError { message: format!("{location}: {error}"), location: location.clone() };
        let mut content = SourceContent::default();
        let mut known = HashMap::new();
        for entry in std::fs::read_dir(&self.dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let Some(file_name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            // The internal files of editors and of ConfigMap mounts begin with a dot.
            if file_name.starts_with('.') {
                continue;
            }
            let Some((name, extension)) = file_name.rsplit_once('.') else { continue };
            match extension {
                "wasm" | "yaml" => {
                    let Some((stamp, file)) = read(&path, self.known.get(&path), self.largest) else { continue };
                    known.insert(path.clone(), (stamp, file.clone()));
                    let files = content.plugins.entry(name.to_owned()).or_default();
                    if extension == "wasm" {
                        files.component = Some(file);
                    } else {
                        files.config = Some(file);
                    }
                }
                "yml" | "json" => content.ignored.push(IgnoredFile {
                    name: file_name.to_owned(),
                    location: path.display().to_string(),
                    reason: "the file is ignored, because its name must be NAME.yaml",
                }),
                _ => {}
            }
        }
        self.known = known;
        content.ignored.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(content)
    }
}

impl PluginSource for DirectorySource {
    fn contents(self) -> impl Stream<Item = Result<SourceContent, SourceError>> + Send + 'static {
        stream::unfold((self, true), |(mut source, is_first)| async move {
            if !is_first {
                sleep(source.interval).await;
            }
            let (source, content) = blocking(move || {
                let content = source.read();
                (source, content)
            })
            .await;
            Some((content, (source, false)))
        })
    }
}

/// Reads a file. `None` if it does not exist any more, or is not a regular file.
fn read(path: &Path, known: Option<&(Stamp, File)>, largest: u64) -> Option<(Stamp, File)> {
    let file = |content| File { location: path.display().to_string(), content };
    let now = SystemTime::now();
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => metadata,
        Ok(_) => return None,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => return Some((Stamp::UNREADABLE, file(Err(error.to_string())))),
    };
    let stamp = Stamp::of(&metadata, now);
    if let Some((_, known)) = known.filter(|(before, _)| before.still_holds(&stamp)) {
        return Some((stamp, known.clone()));
    }
    if stamp.size > largest {
        return Some((stamp, file(Err(format!("the file has {} bytes, but must have at most {largest}", stamp.size)))));
    }
    let content = bytes(path, largest).map_err(|error| error.to_string());
    Some((stamp, file(content.map(Content::of))))
}

fn bytes(path: &Path, largest: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // The file may grow while it is read.
    std::fs::File::open(path)?.take(largest.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}
