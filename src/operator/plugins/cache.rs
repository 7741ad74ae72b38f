//! The last good version of each plugin, kept over a restart of the container.
//!
//! A new version that is refused never replaces a good one. This has to hold after a restart too, so the operator keeps
//! the bytes of each good component, with its configuration, in a directory that lives as long as the pod. An index
//! names the component of each plugin by its digest, and a component with another digest is not used. The operator
//! compiles what it reads here in the same way as any other component: native code is never stored.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::source::{Content, File, PluginFiles};

const INDEX: &str = "index.json";

/// The cache, as a directory.
pub struct PluginCache {
    dir: PathBuf,
    index: Index,
    /// Whether an earlier process has read the source and written the index.
    is_known: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Index {
    /// The last good version of each plugin, by name.
    plugins: BTreeMap<String, Version>,
}

/// A version of a plugin. Its component and its configuration belong together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Version {
    /// The SHA-256 digest of the component in hex.
    component: String,
    /// The text of the configuration file, if there was one.
    config: Option<String>,
    /// The image that the component is from, if it is from a registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image: Option<CachedImage>,
}

/// The image that a cached component is from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CachedImage {
    /// The digest of the manifest.
    pub(super) digest: String,
    /// The keys that were required when the component was pulled, as a digest. `None` if none were.
    pub(super) trust: Option<String>,
}

impl PluginCache {
    /// Opens the cache in a directory. A cache that cannot be read is empty.
    #[must_use]
    pub fn open(dir: PathBuf) -> Self {
        let read =
            std::fs::read(dir.join(INDEX)).and_then(|text| serde_json::from_slice(&text).map_err(io::Error::from));
        let (index, is_known) = match read {
            Ok(index) => (index, true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Index::default(), false),
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "the plugin cache cannot be read; it begins empty");
                (Index::default(), false)
            }
        };
        Self { dir, index, is_known }
    }

    /// Whether an earlier process of this pod has read the source, so that the cache has every plugin that was good.
    pub(super) fn is_known(&self) -> bool {
        self.is_known
    }

    /// Whether the cache has a version of a plugin.
    pub(super) fn has(&self, name: &str) -> bool {
        self.index.plugins.contains_key(name)
    }

    /// The names of all plugins in the cache.
    pub(super) fn names(&self) -> Vec<String> {
        self.index.plugins.keys().cloned().collect()
    }

    /// The last good version of a plugin. `None` if there is none, or if the component is not the one that was stored.
    pub(super) fn files(&self, name: &str) -> Option<PluginFiles> {
        let version = self.index.plugins.get(name)?;
        let path = self.path(&version.component);
        let bytes = std::fs::read(&path)
            .inspect_err(|error| tracing::warn!(plugin = name, %error, "the cached component cannot be read"))
            .ok()?;
        let component = Content::of(bytes);
        if component.digest.hex() != version.component {
            tracing::warn!(plugin = name, path = %path.display(), "the cached component has another digest");
            return None;
        }
        let file = |path: &Path, content| File { location: path.display().to_string(), content: Ok(content) };
        let config = version.config.as_ref().map(|text| file(&self.dir.join(INDEX), Content::of(text.as_bytes())));
        Some(PluginFiles { component: Some(file(&path, component)), config })
    }

    /// The image that the last good version of a plugin is from. `None` if it is from no registry.
    pub(super) fn image(&self, name: &str) -> Option<&CachedImage> {
        self.index.plugins.get(name)?.image.as_ref()
    }

    /// Stores a good version of a plugin in the place of the former one.
    pub(super) fn store(&mut self, name: &str, files: &PluginFiles, image: Option<CachedImage>) {
        let content = |file: &Option<File>| file.as_ref().and_then(|file| file.content.clone().ok());
        let Some(component) = content(&files.component) else { return };
        let config = content(&files.config).map(|config| String::from_utf8_lossy(&config.bytes).into_owned());
        let version = Version { component: component.digest.hex().to_owned(), config, image };
        if self.is_known && self.index.plugins.get(name) == Some(&version) {
            return;
        }
        let path = self.path(&version.component);
        let written = if path.exists() { Ok(()) } else { write(&path, &component.bytes) };
        self.index.plugins.insert(name.to_owned(), version);
        self.write_index(written);
    }

    /// Keeps only those plugins that the source has.
    pub(super) fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        let before = self.index.plugins.len();
        self.index.plugins.retain(|name, _| is_there(name));
        if !self.is_known || self.index.plugins.len() != before {
            self.write_index(Ok(()));
        }
    }

    /// Writes the index after the components that it names, and then removes the components that it does not name.
    fn write_index(&mut self, components: io::Result<()>) {
        let written = components
            .and_then(|()| serde_json::to_vec(&self.index).map_err(io::Error::from))
            .and_then(|text| write(&self.dir.join(INDEX), &text));
        self.is_known = written.is_ok();
        if let Err(error) = written {
            let dir = self.dir.display();
            tracing::error!(%dir, %error, "the plugin cache cannot be written; a restart may lose the last good plugins");
            return;
        }
        let used: Vec<PathBuf> = self.index.plugins.values().map(|version| self.path(&version.component)).collect();
        for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "wasm") && !used.contains(&path) {
                // A component that stays costs space and nothing else.
                drop(std::fs::remove_file(path));
            }
        }
    }

    fn path(&self, digest: &str) -> PathBuf {
        // A digest from the index is a file name of ours, and never a path.
        let name: String = digest.chars().filter(char::is_ascii_hexdigit).collect();
        self.dir.join(format!("{name}.wasm"))
    }
}

/// Writes a file so that it is complete or absent.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, bytes)?;
    std::fs::rename(temporary, path)
}
