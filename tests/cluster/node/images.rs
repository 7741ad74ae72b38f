//! The images of a node, made on this machine: no registry is asked. An image is an OCI archive with one layer.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header, HeaderMode};

use super::build::DEBIAN;
use super::run;
use crate::cache::{Cached, clock, report};
use crate::{Error, Result};

/// A small image: busybox with its tools, as root. Its command serves the folder `/www` over HTTP on port 8080.
pub const BUSYBOX_IMAGE: &str = "paddock.test/busybox:1";
/// An agent in Python, with the runtime API of the Sandbox API's SDKs on port 8888 and its files in `/workspace`.
pub const AGENT_IMAGE: &str = "paddock.test/agent:1";
/// The image of the container that holds a pod's namespaces.
pub(super) const PAUSE_IMAGE: &str = "paddock.test/pause:1";

/// The archives of the images.
pub(super) const IMAGES: Cached = Cached {
    folder: "images",
    title: "the images of a node",
    sources: &[
        ("python_root.py", include_str!("images/python_root.py")),
        ("agent.py", include_str!("images/agent.py")),
    ],
    recipe: "2",
    tools: python_version,
    build,
};

fn python_version(folder: &Path) -> Result<String> {
    let mut python = Command::new("python3");
    python.args(["-c", "import sys; print(sys.version)"]).current_dir(folder);
    run(python)
}

/// An image: its reference, its command, its environment, and its only layer.
struct Image<'a> {
    reference: &'a str,
    command: &'a [&'a str],
    environment: &'a [&'a str],
    port: Option<u16>,
    layer: &'a [u8],
}

fn build(source: &Path, new: &Path, python: &str) -> Result<()> {
    let began = Instant::now();
    report(&format!(
        "making the images of a node, with Python {}",
        python.split_whitespace().next().unwrap_or_default()
    ));
    let busybox = busybox_layer()?;
    let agent = agent_layer(source)?;
    let images = [
        Image {
            reference: PAUSE_IMAGE,
            command: &["/bin/busybox", "sleep", "inf"],
            environment: &[],
            port: None,
            layer: &busybox,
        },
        Image {
            reference: BUSYBOX_IMAGE,
            command: &["/bin/httpd", "-f", "-p", "8080", "-h", "/www"],
            environment: &[],
            port: Some(8080),
            layer: &busybox,
        },
        Image {
            reference: AGENT_IMAGE,
            command: &["/usr/local/bin/python3", "-u", "/agent.py"],
            environment: &["SANDBOX_BASE_DIR=/workspace"],
            port: Some(8888),
            layer: &agent,
        },
    ];
    for image in images {
        let name = image.reference.rsplit('/').next().unwrap_or_default().replace(':', "-");
        image.write(&new.join(format!("{name}.tar"))).map_err(Error::io(format!("making the image {name}")))?;
    }
    report(&format!("the images of a node are made ({})", clock(began.elapsed())));
    Ok(())
}

/// The archives in a folder of images.
pub(super) fn archives(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|p| p.extension().is_some()).collect();
    found.sort();
    found
}

fn busybox_layer() -> Result<Vec<u8>> {
    let mut layer = Layer::new();
    layer.add_busybox()?;
    layer.finish(&["www", "workspace"])
}

fn agent_layer(source: &Path) -> Result<Vec<u8>> {
    let folder = crate::layout::temporary("paddock-image-")?;
    let root = folder.path().join("root");
    let mut python = Command::new("python3");
    python.arg(source.join("python_root.py")).arg(&root);
    run(python)?;
    let mut layer = Layer::new();
    layer
        .0
        .append_dir_all("", &root)
        .and_then(|()| layer.file("agent.py", &source.join("agent.py")))
        .map_err(Error::io("making the image of the agent"))?;
    layer.add_busybox()?;
    layer.finish(&["workspace"])
}

/// A layer that depends only on its content.
struct Layer(Builder<Vec<u8>>);

impl Layer {
    fn new() -> Self {
        let mut builder = Builder::new(Vec::new());
        builder.mode(HeaderMode::Deterministic);
        builder.follow_symlinks(false);
        Self(builder)
    }

    /// Adds busybox with all of its tools.
    fn add_busybox(&mut self) -> Result<()> {
        let busybox = super::build::PROGRAMS.ready()?.join(DEBIAN).join("bin/busybox");
        let mut list = Command::new(&busybox);
        list.arg("--list");
        let tools = run(list)?;
        self.file("bin/busybox", &busybox).map_err(Error::io("reading busybox"))?;
        for tool in tools.lines().filter(|tool| *tool != "busybox") {
            self.link(&format!("bin/{tool}"), "busybox").map_err(Error::io("making an image"))?;
        }
        Ok(())
    }

    fn file(&mut self, path: &str, from: &Path) -> std::io::Result<()> {
        self.0.append_path_with_name(from, path)
    }

    fn link(&mut self, path: &str, target: &str) -> std::io::Result<()> {
        self.0.append_link(&mut header(EntryType::Symlink, 0o777, 0), path, target)
    }

    /// Adds `/etc`, `/tmp` and other folders that every user may write to.
    fn finish(mut self, folders: &[&str]) -> Result<Vec<u8>> {
        let users = b"root:x:0:0:root:/root:/bin/sh\nagent:x:1000:1000:agent:/workspace:/bin/sh\n";
        let groups = b"root:x:0:\nagent:x:1000:\n";
        let mut add = || {
            for (path, text) in [("etc/passwd", &users[..]), ("etc/group", &groups[..])] {
                self.0.append_data(&mut header(EntryType::Regular, 0o644, text.len() as u64), path, text)?;
            }
            for folder in folders.iter().chain(&["tmp"]) {
                self.0.append_data(&mut header(EntryType::Directory, 0o1777, 0), folder, std::io::empty())?;
            }
            Ok(())
        };
        add().map_err(Error::io("making an image"))?;
        self.0.into_inner().map_err(Error::io("making an image"))
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
    fn write(&self, path: &Path) -> std::io::Result<()> {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let path_of_tools = "PATH=/usr/local/bin:/usr/bin:/bin";
        let mut settings = json!({
            "Cmd": self.command,
            "Env": self.environment.iter().chain(&[path_of_tools]).collect::<Vec<_>>(),
            "WorkingDir": "/",
        });
        if let Some(port) = self.port {
            settings["ExposedPorts"] = json!({ format!("{port}/tcp"): {} });
        }
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": settings,
            "rootfs": { "type": "layers", "diff_ids": [digest(self.layer)] },
        })
        .to_string();
        let kind = |name: &str| format!("application/vnd.oci.image.{name}");
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": kind("manifest.v1+json"),
            "config": descriptor(&kind("config.v1+json"), config.as_bytes()),
            "layers": [descriptor(&kind("layer.v1.tar"), self.layer)],
        })
        .to_string();
        let mut entry = descriptor(&kind("manifest.v1+json"), manifest.as_bytes());
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
        for blob in [config.as_bytes(), manifest.as_bytes(), self.layer] {
            add(&format!("blobs/{}", digest(blob).replace(':', "/")), blob)?;
        }
        add("index.json", index.as_bytes())?;
        archive.into_inner()?.flush()
    }
}

fn descriptor(kind: &str, content: &[u8]) -> Value {
    json!({ "mediaType": kind, "digest": digest(content), "size": content.len() })
}

fn digest(content: &[u8]) -> String {
    let hash = Sha256::digest(content);
    format!("sha256:{}", hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}
