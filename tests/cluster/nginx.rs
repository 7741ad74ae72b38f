//! nginx, for comparisons: the package of Debian, unpacked into the user's cache folder.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::cache::Cached;
use crate::node::debian;
use crate::{Error, Result};

const PROGRAM: &str = "usr/sbin/nginx";

const NGINX: Cached = Cached {
    folder: "nginx",
    title: "nginx",
    sources: &[],
    recipe: "1",
    tools: |_| Ok(debian::release()),
    build: |_, new, _| {
        debian::unpack(&["nginx"], new)?;
        // Its libraries are in every usual installation of Debian. A program that does not start is not kept.
        let mut program = Command::new(new.join(PROGRAM));
        let started = program.arg("-v").stdin(Stdio::null()).output().map_err(Error::io("starting nginx"))?;
        if started.status.success() {
            return Ok(());
        }
        let stderr = String::from_utf8_lossy(&started.stderr).trim().to_owned();
        Err(Error::Command { command: "nginx -v".to_owned(), stderr })
    },
};

/// The program, which is downloaded if necessary.
///
/// # Errors
/// Returns an error if this machine has no packages of Debian, or the program does not start.
pub async fn nginx() -> Result<PathBuf> {
    Ok(NGINX.ready_async().await?.join(PROGRAM))
}
