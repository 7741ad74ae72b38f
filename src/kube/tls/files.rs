//! Certificates that another program mounts (cert-manager, a CSI driver). The files are read periodically, because a
//! mount changes without a notification. An invalid pair never replaces a valid one.

use std::path::PathBuf;
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

/// The files of a certificate and of its key, in PEM format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The path of the certificate, with the certificates that sign it.
    pub certificate: PathBuf,
    /// The path of the private key.
    pub key: PathBuf,
}

impl From<Mounted> for CertificateFiles {
    fn from(mounted: Mounted) -> Self {
        Self { certificate: mounted.dir.join("tls.crt"), key: mounted.dir.join("tls.key") }
    }
}

/// Reads the files periodically and serves them, until the future is dropped.
pub async fn follow_files(files: impl Into<CertificateFiles>, serving_cert: ServingCert, interval: Duration) {
    follow_files_with(files, serving_cert, interval, |_| {}).await;
}

/// The same as [`follow_files`]. `on_change` is called for each new content of the files, with whether it is valid.
pub async fn follow_files_with(
    files: impl Into<CertificateFiles>,
    serving_cert: ServingCert,
    interval: Duration,
    on_change: impl Fn(bool),
) {
    let files = files.into();
    let path = files.certificate.display();
    let mut last = None;
    loop {
        match read(&files).await {
            Ok(found) if last.as_ref() == Some(&found) => {}
            Ok(found) => {
                let served = serving_cert.serve(&found.0, &found.1).map_err(Unusable::from);
                on_change(served.is_ok());
                match served {
                    Ok(()) => info!(%path, "the mounted certificate is served"),
                    // A mount may be replaced file by file. The next read finds both new files.
                    Err(error) => error!(%path, %error, "the mounted certificate is not valid"),
                }
                last = Some(found);
            }
            Err(error) => error!(%error, "the mounted certificate cannot be read"),
        }
        sleep(interval).await;
    }
}

async fn read(files: &CertificateFiles) -> Result<(Vec<u8>, Vec<u8>), Unusable> {
    let file = async |path: &PathBuf| fs::read(path).await.map_err(|e| Unusable::Read(path.clone(), e));
    Ok((file(&files.certificate).await?, file(&files.key).await?))
}
