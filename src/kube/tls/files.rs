//! Certificates that somebody else mounts (cert-manager, a CSI driver): read again and again, since mounts change
//! without telling. A pair that cannot be used never replaces one that can.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::fs;
use tokio::time::sleep;
use tracing::{error, info};

use super::serving_cert::{InvalidKeyPair, ServingCert};

/// Where the certificate and key are mounted: `tls.crt` and `tls.key`, as in a TLS Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// The directory.
    pub dir: PathBuf,
}

/// Files that cannot be served.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("{0}: {1}")]
    Read(PathBuf, #[source] std::io::Error),
    #[error(transparent)]
    KeyPair(#[from] InvalidKeyPair),
}

/// Serves what is mounted, for ever.
pub async fn follow_files(mounted: Mounted, serving_cert: ServingCert, interval: Duration) {
    let mut last = None;
    loop {
        match read(&mounted.dir).await {
            Ok(files) if last.as_ref() == Some(&files) => {}
            Ok(files) => {
                match serving_cert.serve(&files.0, &files.1).map_err(Unusable::from) {
                    Ok(()) => info!(dir = %mounted.dir.display(), "serving the mounted certificate"),
                    // A mount is replaced file by file: the next look sees both.
                    Err(error) => error!(dir = %mounted.dir.display(), %error, "the mounted certificate is not served"),
                }
                last = Some(files);
            }
            Err(error) => error!(%error, "cannot read the mounted certificate"),
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
