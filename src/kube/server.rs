//! Serves HTTP/1.1 and HTTP/2 over TLS with limits for each connection, and ends in order.

use std::io;
use std::sync::Arc;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::limits;
use crate::tls::ServingCert;

/// Serves until `stop`, and then waits for the calls in flight for a limited time.
///
/// # Errors
/// If TLS cannot be set up.
pub async fn serve(
    listener: TcpListener,
    serving_cert: &ServingCert,
    router: Router,
    stop: CancellationToken,
) -> Result<(), rustls::Error> {
    let acceptor = TlsAcceptor::from(Arc::new(serving_cert.server_config()?));
    let connections = Arc::new(Semaphore::new(limits::CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    loop {
        let (stream, permit) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &connections) => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // The process is most likely out of file descriptors. Open connections will close.
                    warn!(%error, "a connection could not be accepted");
                    sleep(limits::ACCEPT_RETRY_DELAY).await;
                    continue;
                }
            },
        };
        let (acceptor, router, watcher) = (acceptor.clone(), router.clone(), graceful.watcher());
        tokio::spawn(async move {
            let _permit = permit;
            let stream = match timeout(limits::HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return debug!(%error, "the TLS handshake of a connection failed"),
                Err(_) => return debug!("the TLS handshake of a connection timed out"),
            };
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder.http1().timer(TokioTimer::new()).header_read_timeout(limits::IDLE_CONNECTION_TIMEOUT);
            builder
                .http2()
                .timer(TokioTimer::new())
                .max_concurrent_streams(limits::HTTP2_STREAMS_MAX)
                .keep_alive_interval(limits::IDLE_CONNECTION_TIMEOUT)
                .keep_alive_timeout(limits::HANDSHAKE_TIMEOUT);
            let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
            if let Err(error) = watcher.watch(connection.into_owned()).await {
                debug!(%error, "a connection ended with an error");
            }
        });
    }
    drop(listener);
    if timeout(limits::CONNECTION_DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        warn!("the time for the shutdown ended, and open connections were closed");
    }
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> io::Result<(TcpStream, Option<OwnedSemaphorePermit>)> {
    // The semaphore is never closed.
    let permit = connections.clone().acquire_owned().await.ok();
    let (stream, _) = listener.accept().await?;
    // Answers are small, so they must not wait for more data to fill a segment.
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}
