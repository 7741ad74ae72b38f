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
    /// The length of the body in bytes, if the client states it.
    pub(super) length: Option<usize>,
}

impl Intake {
    /// Reads the body. The bytes of its buffer count until the request has been answered.
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
        let length = self.length.unwrap_or(most);
        if length > most {
            return Err(Refused::TooLarge(most));
        }
        let mut whole: Vec<u8> = Vec::new();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(Refused::Broken)?;
            let (needed, capacity) = (whole.len() + chunk.len(), whole.capacity());
            if needed > most {
                return Err(Refused::TooLarge(most));
            }
            if needed > capacity {
                // A client may state a length and send nothing, so the buffer grows with the bytes that arrive.
                let larger = capacity.saturating_mul(2).min(length).max(needed);
                self.connections.receive(self.request.id, larger - capacity).map_err(|_| Refused::Busy)?;
                whole.reserve_exact(larger - whole.len());
            }
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

    /// The address of the client.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.peer
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::IpAddr;

    use futures::stream;
    use tokio::time::Instant;

    use super::*;
    use crate::limits::ServerLimits;

    const LIMITS: ServerLimits = ServerLimits { body: 3000, bytes: 5000, ..crate::limits::ENDPOINT_SERVER };

    /// Reads a body in these parts. Returns the body, and the bytes that count for it.
    async fn received(length: Option<usize>, parts: Vec<io::Result<Bytes>>) -> (Result<Bytes, Refused>, usize) {
        let (connections, peer) = (Connections::new(LIMITS), Peer::of(IpAddr::from([10, 0, 0, 1])));
        let place = connections.admit(peer, Instant::now(), |_| {}).expect("a place");
        let request = Arc::new(place.begin());
        let refused = request.refused();
        let intake = Intake { connections: connections.clone(), request, refused, peer, is_verified: false, length };
        let body = intake.receive(Body::from_stream(stream::iter(parts))).await;
        (body, connections.usage().1)
    }

    fn parts(length: usize, of: usize) -> Vec<io::Result<Bytes>> {
        vec![b'x'; length].chunks(of).map(|part| Ok(Bytes::copy_from_slice(part))).collect()
    }

    #[tokio::test]
    async fn whole_buffer_of_a_body_counts() {
        for of in [1, 7, 300, 1100] {
            for length in [Some(1100), None] {
                let (body, counted) = received(length, parts(1100, of)).await;
                let buffer = Vec::<u8>::from(body.expect("a body"));
                assert_eq!((buffer.len(), buffer.capacity()), (1100, counted), "{length:?} in parts of {of}");
                assert!(counted == 1100 || length.is_none(), "{counted} in parts of {of}");
            }
        }
    }

    #[tokio::test]
    async fn length_that_is_only_stated_counts_nothing() {
        let broken = || Err(io::ErrorKind::UnexpectedEof.into());
        let (body, counted) = received(Some(3000), parts(100, 100).into_iter().chain([broken()]).collect()).await;
        assert!(matches!(body, Err(Refused::Broken(_))));
        assert_eq!(counted, 100);
        let (body, counted) = received(Some(3001), parts(3001, 100)).await;
        assert!(matches!(body, Err(Refused::TooLarge(3000))));
        assert_eq!(counted, 0);
    }
}
