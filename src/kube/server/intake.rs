//! The intake of a request: its body within the limits, and its turn.

use std::sync::Arc;

use axum::body::{Body, BodyDataStream, Bytes};
use futures::StreamExt;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use super::connections::{Connections, Pending};
use crate::peer::Peer;

/// The reason why the server does not take a request.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The body is larger than one body may be.
    #[error("the body has more than {0} bytes")]
    TooLarge(usize),
    /// The request needs more memory than all requests together may use.
    #[error("the body needs about {needed} bytes of memory when it is parsed, but at most {most} are available")]
    TooCostly {
        /// The memory that the request needs, in bytes.
        needed: usize,
        /// The memory of the largest request, in bytes.
        most: usize,
    },
    /// The bodies of all requests together have too many bytes, and those of this client have the most.
    #[error("the bodies of all requests together have too many bytes; try again")]
    Busy,
    /// The connection ended before the body was complete.
    #[error("the body is not complete")]
    Broken(#[source] axum::Error),
}

/// The handle with which a service takes a request. The server adds it to the extensions of each request.
///
/// The bytes and the turn of the request are free when it has been answered and all clones of its handle are dropped.
/// Work on another thread outlives a request that is answered early, so it holds a clone.
#[derive(Clone)]
pub struct Intake {
    pub(super) connections: Connections,
    pub(super) request: Arc<Pending>,
    pub(super) refused: CancellationToken,
    pub(super) peer: Peer,
    pub(super) is_verified: bool,
}

impl Intake {
    /// Reads the body. Its bytes count until the request has been answered.
    ///
    /// The body of a refused request is read to its end too, and dropped. A client that still sends a body may otherwise
    /// see a broken connection in the place of the answer. The caller limits the time.
    ///
    /// # Errors
    /// If the body is too large, the bodies of all requests are too large together, or the connection ends.
    pub async fn receive(&self, body: Body) -> Result<Bytes, Refused> {
        let mut chunks = body.into_data_stream();
        let received = tokio::select! {
            biased;
            () = self.refused.cancelled() => Err(Refused::Busy),
            received = self.collect(&mut chunks) => received,
        };
        if matches!(received, Err(Refused::TooLarge(_) | Refused::Busy)) {
            while let Some(Ok(_)) = chunks.next().await {}
        }
        received
    }

    async fn collect(&self, chunks: &mut BodyDataStream) -> Result<Bytes, Refused> {
        let most = self.connections.limits().body;
        let mut whole: Vec<u8> = Vec::new();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(Refused::Broken)?;
            if whole.len() + chunk.len() > most {
                return Err(Refused::TooLarge(most));
            }
            self.connections.receive(self.request.id, chunk.len()).map_err(|_| Refused::Busy)?;
            whole.extend_from_slice(&chunk);
        }
        self.connections.complete(self.request.id);
        Ok(whole.into())
    }

    /// Waits until this request may use so much memory, in bytes. The addresses of the clients take turns. The turn
    /// ends when the request has been answered and nothing holds its handle.
    ///
    /// # Errors
    /// If the request needs more than there is, or has to make room while it waits.
    pub async fn turn(&self, memory: usize) -> Result<(), Refused> {
        let most = self.connections.limits().largest();
        if memory > most {
            return Err(Refused::TooCostly { needed: memory, most });
        }
        tokio::select! {
            biased;
            () = self.refused.cancelled() => Err(Refused::Busy),
            () = self.connections.turn(self.request.id, memory) => Ok(()),
        }
    }

    /// Does work on a blocking thread. The request keeps its bytes and its turn as long as the work lasts, even if the
    /// request is answered or its client leaves before.
    ///
    /// # Errors
    /// If the work panics.
    pub async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, tokio::task::JoinError> {
        let request = self.request.clone();
        // Spans of the work belong to that of the request.
        let span = Span::current();
        let work = move || {
            let done = span.in_scope(work);
            drop(request);
            done
        };
        tokio::task::spawn_blocking(work).await
    }

    /// Whether the client showed a certificate, which the server has verified.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.is_verified
    }

    /// The address of the client, as a text for logs.
    #[must_use]
    pub fn peer(&self) -> String {
        self.peer.0.to_string()
    }
}
