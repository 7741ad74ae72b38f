//! Writes OCI archives of images with one layer, which depend only on their content.

use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header, HeaderMode};

use crate::{Error, Result};

/// An image.
#[derive(Default)]
pub(super) struct Image<'a> {
    pub(super) reference: &'a str,
    pub(super) entrypoint: &'a [&'a str],
    /// The command, or the arguments of the entrypoint.
    pub(super) command: &'a [&'a str],
    pub(super) environment: &'a [&'a str],
    pub(super) port: Option<u16>,
    /// The number of the user, or an empty text for root.
    pub(super) user: &'a str,
    pub(super) layer: &'a [u8],
}

/// A layer.
pub(super) struct Layer(Builder<Vec<u8>>);

impl Layer {
    pub(super) fn new() -> Self {
        let mut builder = Builder::new(Vec::new());
        builder.mode(HeaderMode::Deterministic);
        builder.follow_symlinks(false);
        Self(builder)
    }

    /// Adds everything in a folder.
    pub(super) fn folder(&mut self, from: &Path) -> Result<()> {
        self.0.append_dir_all("", from).map_err(Error::io(format!("adding {} to an image", from.display())))
    }

    /// Adds a file.
    pub(super) fn file(&mut self, path: &str, from: &Path) -> Result<()> {
        self.0.append_path_with_name(from, path).map_err(Error::io(format!("adding {} to an image", from.display())))
    }

    /// Adds a symbolic link.
    pub(super) fn link(&mut self, path: &str, target: &str) -> Result<()> {
        let link = self.0.append_link(&mut header(EntryType::Symlink, 0o777, 0), path, target);
        link.map_err(Error::io(format!("adding {path} to an image")))
    }

    /// Adds users with their numbers and homes, `/tmp`, and other folders that every user may write to.
    pub(super) fn finish(mut self, folders: &[&str], users: &[(&str, u32, &str)]) -> Result<Vec<u8>> {
        let passwd = users.iter().map(|(name, id, home)| format!("{name}:x:{id}:{id}:{name}:{home}:/bin/sh\n"));
        let group = users.iter().map(|(name, id, _)| format!("{name}:x:{id}:\n"));
        let add = || {
            for (path, text) in [("etc/passwd", passwd.collect::<String>()), ("etc/group", group.collect())] {
                let mut header = header(EntryType::Regular, 0o644, text.len() as u64);
                self.0.append_data(&mut header, path, text.as_bytes())?;
            }
            for folder in folders.iter().chain(&["tmp"]) {
                self.0.append_data(&mut header(EntryType::Directory, 0o1777, 0), folder, std::io::empty())?;
            }
            self.0.into_inner()
        };
        add().map_err(Error::io("making an image"))
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

impl Image<'_> {
    /// Writes the archive.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        self.try_write(path).map_err(Error::io(format!("making the image {}", self.reference)))
    }

    fn try_write(&self, path: &Path) -> std::io::Result<()> {
        let layer = digest(self.layer);
        let config = self.config(&layer).to_string();
        let kind = |name: &str| format!("application/vnd.oci.image.{name}");
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": kind("manifest.v1+json"),
            "config": descriptor(&kind("config.v1+json"), &digest(config.as_bytes()), config.len()),
            "layers": [descriptor(&kind("layer.v1.tar"), &layer, self.layer.len())],
        })
        .to_string();
        let mut entry = descriptor(&kind("manifest.v1+json"), &digest(manifest.as_bytes()), manifest.len());
        entry["annotations"] = json!({
            "io.containerd.image.name": self.reference,
            "org.opencontainers.image.ref.name": self.reference,
        });
        let index = json!({ "schemaVersion": 2, "manifests": [entry] }).to_string();

        let mut archive = Builder::new(std::fs::File::create(path)?);
        let mut add = |name: &str, content: &[u8]| {
            archive.append_data(&mut header(EntryType::Regular, 0o644, content.len() as u64), name, content)
        };
        add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        for blob in [config.as_bytes(), manifest.as_bytes()] {
            add(&blob_path(&digest(blob)), blob)?;
        }
        add(&blob_path(&layer), self.layer)?;
        add("index.json", index.as_bytes())?;
        archive.into_inner()?.flush()
    }

    fn config(&self, layer: &str) -> Value {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let path_of_tools = "PATH=/usr/local/bin:/usr/bin:/bin";
        let mut settings = json!({
            "Entrypoint": self.entrypoint,
            "Cmd": self.command,
            "Env": self.environment.iter().chain(&[path_of_tools]).collect::<Vec<_>>(),
            "User": self.user,
            "WorkingDir": "/",
        });
        if let Some(port) = self.port {
            settings["ExposedPorts"] = json!({ format!("{port}/tcp"): {} });
        }
        json!({
            "architecture": architecture,
            "os": "linux",
            "config": settings,
            "rootfs": { "type": "layers", "diff_ids": [layer] },
        })
    }
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

fn descriptor(kind: &str, digest: &str, size: usize) -> Value {
    json!({ "mediaType": kind, "digest": digest, "size": size })
}

fn digest(content: &[u8]) -> String {
    let hash = Sha256::digest(content);
    format!("sha256:{}", hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}
