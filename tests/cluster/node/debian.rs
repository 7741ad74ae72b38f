//! Packages of Debian that are unpacked and not installed. apt checks their signatures.

use std::path::Path;
use std::process::Command;

use super::run;
use crate::Result;

/// The distribution and its version, on which the packages depend.
pub(crate) fn release() -> String {
    let system = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let lines = system.lines().filter(|line| line.starts_with("ID=") || line.starts_with("VERSION_ID="));
    lines.collect::<Vec<_>>().join(" ")
}

/// Downloads packages and unpacks them into a folder.
pub(crate) fn unpack(packages: &[&str], into: &Path) -> Result<()> {
    let downloads = crate::layout::temporary("paddock-debian-")?;
    let download = || {
        let mut apt = Command::new("apt-get");
        apt.args(["download", "-qq"]).args(packages).current_dir(downloads.path());
        run(apt)
    };
    if download().is_err() {
        // A new machine has no lists of packages yet, and old lists name packages that are gone.
        let mut apt = Command::new("apt-get");
        apt.args(["update", "-qq"]);
        run(apt)?;
        download()?;
    }
    let files = std::fs::read_dir(downloads.path()).into_iter().flatten().flatten();
    for file in files.filter(|file| file.path().extension().is_some_and(|ext| ext == "deb")) {
        let mut dpkg = Command::new("dpkg-deb");
        dpkg.arg("-x").arg(file.path()).arg(into);
        run(dpkg)?;
    }
    Ok(())
}
