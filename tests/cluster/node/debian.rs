//! Packages of Debian that are unpacked and not installed. apt checks their signatures.

use std::path::Path;
use std::process::Command;

use super::run;
use crate::Result;

/// `nft` with its libraries for kube-proxy, busybox for images, and libseccomp for runc.
const PACKAGES: [&str; 12] = [
    "nftables",
    "libnftables1",
    "libnftnl11",
    "libmnl0",
    "libjansson4",
    "libxtables12",
    "libedit2",
    "libbsd0",
    "libmd0",
    "libgmp10",
    "libseccomp-dev",
    "busybox-static",
];

/// Downloads the packages and unpacks them into a folder.
pub(super) fn unpack(into: &Path) -> Result<()> {
    let downloads = crate::layout::temporary("paddock-debian-")?;
    let download = || {
        let mut apt = Command::new("apt-get");
        apt.args(["download", "-qq"]).args(PACKAGES).current_dir(downloads.path());
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
