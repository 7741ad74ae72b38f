//! The interface of a source of plugins: what it holds at a time, as bytes, configuration and faults.
//!
//! The plugin directory is the first source ([`super::directory`]). A ConfigMap or a registry is another implementation
//! of [`PluginSource`], and the code that loads plugins stays the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::Stream;
use paddock_registry::Digest;

/// A place that components and their configuration come from.
pub trait PluginSource: Send + 'static {
    /// Everything that the source holds: first what it holds now, then again whenever that may have changed. An item
    /// replaces the item before it. An error says nothing about the plugins, so those in force stay.
    fn contents(self) -> impl Stream<Item = Result<SourceContent, SourceError>> + Send + 'static;
}

/// The content of a source at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceContent {
    /// The files of each plugin, by the plugin's name.
    pub plugins: BTreeMap<String, PluginFiles>,
    /// Files that the source does not use, although their author probably wants it to.
    pub ignored: Vec<IgnoredFile>,
}

/// The two files of one plugin. At least one of them exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginFiles {
    /// The component, `NAME.wasm`.
    pub component: Option<File>,
    /// The configuration, `NAME.yaml`.
    pub config: Option<File>,
}

/// A file of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where the file is, for people.
    pub location: String,
    /// The content, or the reason why it could not be read.
    pub content: Result<Content, String>,
}

/// The content of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The bytes. They are shared, because a source repeats the unchanged files.
    pub bytes: Arc<[u8]>,
    /// The digest of the bytes. It has the form of the digests of the plugin host.
    pub digest: Digest,
}

impl Content {
    /// The content with these bytes.
    #[must_use]
    pub fn of(bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        Self { digest: Digest::of(&bytes), bytes }
    }
}

/// A file that is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IgnoredFile {
    /// The name of the file.
    pub name: String,
    /// Where the file is, for people.
    pub location: String,
    /// The reason, for people.
    pub reason: &'static str,
}

/// A source that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    /// Where the source is, for people.
    pub location: String,
    /// The reason, which names the location.
    pub message: String,
}
