//! The protection of `/metrics`: open, or over TLS for users with the right to read it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use paddock_kube::auth;
use paddock_kube::server::Protocol;
use paddock_kube::tls::{InvalidKeyPair, IssueError, ServingCert, follow_files, issue};

use crate::config::MetricsAccess;
use crate::tasks::{Tasks, spawn};

/// The lifetime of the certificate that the operator issues for its own metrics. The process has ended before that.
const LIFETIME: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);

/// The reason why the metrics cannot be protected.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A certificate could not be issued.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The certificate cannot be served.
    #[error(transparent)]
    KeyPair(#[from] InvalidKeyPair),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

/// The protocol and the router for `/metrics`. The tasks get one that follows a mounted certificate.
///
/// # Errors
/// If TLS cannot be set up.
pub fn protect(
    access: &MetricsAccess,
    router: Router,
    client: &Client,
    tasks: &mut Tasks,
) -> Result<(Protocol, Router), AccessError> {
    let certificate = match access {
        MetricsAccess::Open => return Ok((Protocol::Plain, router)),
        MetricsAccess::Authorized { certificate } => certificate,
    };
    let serving_cert = ServingCert::default();
    match certificate {
        Some(mounted) => {
            let interval = paddock_kube::limits::MOUNTED_CERTIFICATE_POLL_INTERVAL;
            let follow = follow_files(mounted.clone(), serving_cert.clone(), interval);
            spawn(tasks, "certificate of the metrics", follow);
        }
        None => {
            let pair = issue(&["localhost".to_owned()], Timestamp::now(), LIFETIME)?;
            serving_cert.serve(pair.certificate.as_bytes(), pair.key.as_bytes())?;
        }
    }
    let tls = Arc::new(ArcSwap::from_pointee(serving_cert.server_config()?));
    Ok((Protocol::Tls(tls), auth::require(router, client.clone(), None)))
}
