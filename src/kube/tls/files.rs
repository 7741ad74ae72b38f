//! Certificates that another program mounts (cert-manager, a CSI driver). The files are read periodically, because a
//! mount changes without a notification. An invalid pair never replaces a valid one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::fs;
use tokio::time::sleep;
use tracing::{error, info};

use super::serving_cert::{InvalidKeyPair, ServingCert};

/// The directory of the mounted certificate and key: `tls.crt` and `tls.key`, as in a TLS Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// The path of the directory.
    pub dir: PathBuf,
}

/// The reason why the files cannot be served.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("{0}: {1}")]
    Read(PathBuf, #[source] std::io::Error),
    #[error(transparent)]
    KeyPair(#[from] InvalidKeyPair),
}

/// Reads the files periodically and serves them, until the future is dropped.
pub async fn follow_files(mounted: Mounted, serving_cert: ServingCert, interval: Duration) {
    let mut last = None;
    loop {
        match read(&mounted.dir).await {
            Ok(files) if last.as_ref() == Some(&files) => {}
            Ok(files) => {
                match serving_cert.serve(&files.0, &files.1).map_err(Unusable::from) {
                    Ok(()) => info!(dir = %mounted.dir.display(), "the mounted certificate is served"),
                    // A mount may be replaced file by file. The next read finds both new files.
                    Err(error) => {
                        error!(dir = %mounted.dir.display(), %error, "the mounted certificate is not valid")
                    }
                }
                last = Some(files);
            }
            Err(error) => error!(%error, "the mounted certificate cannot be read"),
        }
        sleep(interval).await;
    }
}

async fn read(dir: &Path) -> Result<(Vec<u8>, Vec<u8>), Unusable> {
    let file = async |name: &str| {
        let path = dir.join(name);
        fs::read(&path).await.map_err(|e| Unusable::Read(path, e))
    };
    Ok((file("tls.crt").await?, file("tls.key").await?))
}
