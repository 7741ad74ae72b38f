//! Reads the plugin directory: the files that exist, and the bytes of those that changed.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

/// The age below which a file is read again next time. A file that was changed a moment ago may change once more
/// without new times, because the coarse clocks of file systems tick every two seconds.
const YOUNG: Duration = Duration::from_secs(2);

/// The two files of one plugin. At least one of them exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginFiles {
    /// The component, `NAME.wasm`.
    pub component: Option<File>,
    /// The configuration, `NAME.yaml`.
    pub config: Option<File>,
}

/// A file, with its content from the last read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// The path of the file.
    pub path: PathBuf,
    /// The content, or the reason why it could not be read.
    pub content: Result<Content, String>,
    stamp: Stamp,
}

/// The content of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The bytes. They are shared, because each read of the directory copies the unchanged entries.
    pub bytes: Arc<[u8]>,
    /// The SHA-256 digest of the bytes.
    pub sum: [u8; 32],
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

/// The result of one read of the directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The files of each plugin, by the plugin's name.
    pub plugins: BTreeMap<String, PluginFiles>,
    /// Files with an extension that suggests a configuration file (`.yml`, `.json`) but is not read.
    pub misnamed: Vec<PathBuf>,
}

/// Reads the directory. Files that did not change since `before` are not read again. Files with more than `largest`
/// bytes are not read.
///
/// # Errors
/// If the directory cannot be listed. The message contains the path.
pub fn look(dir: &Path, before: &Listing, largest: u64) -> Result<Listing, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", dir.display());
    let mut listing = Listing::default();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        // The internal files of editors and of ConfigMap mounts begin with a dot.
        if name.starts_with('.') {
            continue;
        }
        match name.rsplit_once('.') {
            Some((name, "wasm")) => {
                let known = before.plugins.get(name).and_then(|files| files.component.as_ref());
                let file = read(&path, known, largest);
                listing.plugins.entry(name.to_owned()).or_default().component = file;
            }
            Some((name, "yaml")) => {
                let known = before.plugins.get(name).and_then(|files| files.config.as_ref());
                let file = read(&path, known, largest);
                listing.plugins.entry(name.to_owned()).or_default().config = file;
            }
            Some((_, "yml" | "json")) => listing.misnamed.push(path),
            Some(_) | None => {}
        }
    }
    listing.plugins.retain(|_, files| *files != PluginFiles::default());
    listing.misnamed.sort();
    Ok(listing)
}

/// Reads a file. `None` if it does not exist any more, or is not a regular file.
fn read(path: &Path, known: Option<&File>, largest: u64) -> Option<File> {
    let now = SystemTime::now();
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => metadata,
        Ok(_) => return None,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => return Some(unreadable(path, &error.to_string())),
    };
    let stamp = Stamp::of(&metadata, now);
    if let Some(known) = known.filter(|known| known.stamp.still_holds(&stamp)) {
        return Some(known.clone());
    }
    if stamp.size > largest {
        let why = format!("{} bytes, at most {largest} are read", stamp.size);
        return Some(File { path: path.to_owned(), content: Err(why), stamp });
    }
    let content = bytes(path, largest).map_err(|error| error.to_string());
    let content = content.map(|bytes| Content { sum: Sha256::digest(&bytes).into(), bytes: bytes.into() });
    Some(File { path: path.to_owned(), content, stamp })
}

fn bytes(path: &Path, largest: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // The file may grow while it is read.
    std::fs::File::open(path)?.take(largest.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(path: &Path, why: &str) -> File {
    let stamp = Stamp { device: 0, inode: 0, size: 0, modified: (0, 0), changed: (0, 0), settled: false };
    File { path: path.to_owned(), content: Err(why.to_owned()), stamp }
}
