//! The images of a node, made on this machine: no registry is asked. An image is an OCI archive with one layer.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use super::archive::{Image, Layer};
use super::build::DEBIAN;
use super::run;
use crate::Result;
use crate::cache::{Cached, clock, report};

/// A small image: busybox with its tools, as root. Its command serves the folder `/www` over HTTP on port 8080.
pub const BUSYBOX_IMAGE: &str = "paddock.test/busybox:1";
/// An agent in Python, with the runtime API of the Sandbox API's SDKs on port 8888 and its files in `/workspace`.
pub const AGENT_IMAGE: &str = "paddock.test/agent:1";
/// The image of the container that holds a pod's namespaces.
pub(super) const PAUSE_IMAGE: &str = "paddock.test/pause:1";

const USERS: &[(&str, u32, &str)] = &[("root", 0, "/root"), ("agent", 1000, "/workspace")];

/// The archives of the images.
pub(super) const IMAGES: Cached = Cached {
    folder: "images",
    title: "the images of a node",
    sources: &[
        ("python_root.py", include_str!("images/python_root.py")),
        ("agent.py", include_str!("images/agent.py")),
    ],
    recipe: "3",
    tools: python_version,
    build,
};

fn python_version(folder: &Path) -> Result<String> {
    let mut python = Command::new("python3");
    python.args(["-c", "import sys; print(sys.version)"]).current_dir(folder);
    run(python)
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
            layer: &busybox,
            ..Image::default()
        },
        Image {
            reference: BUSYBOX_IMAGE,
            command: &["/bin/httpd", "-f", "-p", "8080", "-h", "/www"],
            port: Some(8080),
            layer: &busybox,
            ..Image::default()
        },
        Image {
            reference: AGENT_IMAGE,
            command: &["/usr/local/bin/python3", "-u", "/agent.py"],
            environment: &["SANDBOX_BASE_DIR=/workspace"],
            port: Some(8888),
            layer: &agent,
            ..Image::default()
        },
    ];
    for image in images {
        let name = image.reference.rsplit('/').next().unwrap_or_default().replace(':', "-");
        image.write(&new.join(format!("{name}.tar")))?;
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
    add_busybox(&mut layer)?;
    layer.finish(&["www", "workspace"], USERS)
}

/// Adds busybox with all of its tools.
fn add_busybox(layer: &mut Layer) -> Result<()> {
    let busybox = super::build::PROGRAMS.ready()?.join(DEBIAN).join("bin/busybox");
    let mut list = Command::new(&busybox);
    list.arg("--list");
    let tools = run(list)?;
    layer.file("bin/busybox", &busybox)?;
    tools.lines().filter(|tool| *tool != "busybox").try_for_each(|tool| layer.link(&format!("bin/{tool}"), "busybox"))
}

fn agent_layer(source: &Path) -> Result<Vec<u8>> {
    let folder = crate::layout::temporary("paddock-image-")?;
    let root = folder.path().join("root");
    let mut python = Command::new("python3");
    python.arg(source.join("python_root.py")).arg(&root);
    run(python)?;
    let mut layer = Layer::new();
    layer.folder(&root)?;
    layer.file("agent.py", &source.join("agent.py"))?;
    add_busybox(&mut layer)?;
    layer.finish(&["workspace"], USERS)
}
