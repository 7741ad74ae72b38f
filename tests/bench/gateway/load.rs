//! Requests of HTTP/1.1 on threads with a connection each.
//!
//! A timer of the async runtime fires up to a millisecond late, which is more than a proxy adds. A thread sleeps to some
//! hundredths of that.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use paddock_load::upstream::SMALL;

use crate::arrivals::Schedule;

/// The time for an answer.
const ANSWER: Duration = Duration::from_secs(30);
/// The pause between the last connection and the first request.
const LEAD: Duration = Duration::from_millis(20);

/// The requests that were answered while nothing but the answers held them back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Saturated {
    pub(super) requests: usize,
    pub(super) seconds: f64,
}

/// Sends requests at these times, and returns the milliseconds from the intended time of each to its answer. A request that
/// had to wait for a free connection took this time too.
pub(super) async fn at_a_rate(
    address: SocketAddr,
    request: &[u8],
    schedule: Schedule,
    connections: u32,
) -> Result<Vec<f64>> {
    let next = AtomicUsize::new(0);
    on_threads(address, request, connections, move |client, begin| {
        let mut latencies = Vec::new();
        while let Some(after) = schedule.get(next.fetch_add(1, Ordering::Relaxed)) {
            let intended = begin + *after;
            std::thread::sleep(intended.saturating_duration_since(Instant::now()));
            client.exchange()?;
            latencies.push(intended.elapsed().as_secs_f64() * 1000.0);
        }
        Ok(latencies)
    })
    .await
    .map(|all| all.concat())
}

/// Sends a request on each connection as soon as the one before it was answered.
pub(super) async fn saturated(
    address: SocketAddr,
    request: &[u8],
    seconds: u32,
    connections: u32,
) -> Result<Saturated> {
    let time = Duration::from_secs(seconds.into());
    let counts = on_threads(address, request, connections, move |client, begin| {
        std::thread::sleep(begin.saturating_duration_since(Instant::now()));
        let mut count = 0;
        while begin.elapsed() < time {
            client.exchange()?;
            count += 1;
        }
        Ok((count, begin.elapsed().as_secs_f64()))
    })
    .await?;
    let seconds = counts.iter().map(|(_, seconds)| *seconds).fold(f64::from(seconds), f64::max);
    Ok(Saturated { requests: counts.iter().map(|(count, _)| count).sum(), seconds })
}

/// Runs some work on threads, each with a connection on which a request was answered. The work gets the time at which all of
/// them begin. If one fails, the others still end.
async fn on_threads<T: Send + 'static>(
    address: SocketAddr,
    request: &[u8],
    connections: u32,
    work: impl Fn(&mut Client, Instant) -> Result<T> + Send + Sync + 'static,
) -> Result<Vec<T>> {
    let request = request.to_vec();
    let all = move || -> Result<Vec<T>> {
        let barrier = Barrier::new(connections as usize);
        let failed = AtomicBool::new(false);
        let begin = std::sync::OnceLock::new();
        let one = || {
            let opened = Client::open(address, &request);
            if opened.is_err() {
                failed.store(true, Ordering::Relaxed);
            }
            barrier.wait();
            let mut client = opened?;
            if failed.load(Ordering::Relaxed) {
                bail!("another connection could not be opened");
            }
            work(&mut client, *begin.get_or_init(|| Instant::now() + LEAD))
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..connections).map(|_| scope.spawn(one)).collect();
            let ended = threads.into_iter().map(|thread| thread.join());
            ended.map(|ended| ended.unwrap_or_else(|_panic| bail!("a thread panicked"))).collect()
        })
    };
    tokio::task::spawn_blocking(all).await.context("running the load")?
}

/// A connection.
struct Client<'a> {
    stream: TcpStream,
    request: &'a [u8],
    buffer: Vec<u8>,
}

impl<'a> Client<'a> {
    fn open(address: SocketAddr, request: &'a [u8]) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER))?;
        let mut client = Self { stream, request, buffer: vec![0; 16 * 1024] };
        client.exchange()?;
        Ok(client)
    }

    /// Sends the request, and reads its whole answer, which has to be that of the Sandbox.
    fn exchange(&mut self) -> Result<()> {
        self.stream.write_all(self.request).context("sending a request")?;
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).context("waiting for an answer")?;
            filled += read;
            let answer = &self.buffer[..filled];
            if read == 0 || filled == self.buffer.len() {
                bail!("an answer ended early: {}", String::from_utf8_lossy(answer));
            }
            let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let (head, body) = (&answer[..end], &answer[end + 4..]);
            if !head.starts_with(b"HTTP/1.1 200 ") || !SMALL.as_bytes().starts_with(body) {
                bail!("another answer came: {}", String::from_utf8_lossy(answer));
            }
            if body.len() == SMALL.len() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use paddock_load::Upstream;

    use super::*;

    const REQUEST: &[u8] = b"GET /small HTTP/1.1\r\nhost: a\r\n\r\n";

    #[tokio::test(flavor = "multi_thread")]
    async fn every_arrival_has_a_latency_from_its_intended_time() {
        let upstream = Upstream::start(Ipv4Addr::LOCALHOST.into()).await.unwrap();
        // All at once on one connection: each waits for those before it.
        let at_once = at_a_rate(upstream.address, REQUEST, vec![Duration::ZERO; 50], 1).await.unwrap();
        assert_eq!(at_once.len(), 50);
        assert!(at_once.is_sorted() && at_once[49] > at_once[0], "{at_once:?}");
        let done = saturated(upstream.address, REQUEST, 1, 2).await.unwrap();
        assert!(done.requests > 10 && done.seconds >= 1.0, "{done:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn another_answer_is_an_error() {
        let upstream = Upstream::start(Ipv4Addr::LOCALHOST.into()).await.unwrap();
        let path = format!("GET /download/{} HTTP/1.1\r\nhost: a\r\n\r\n", SMALL.len());
        for wrong in [path.as_bytes(), b"GET /missing HTTP/1.1\r\nhost: a\r\n\r\n"] {
            let error = saturated(upstream.address, wrong, 1, 2).await.unwrap_err().to_string();
            assert!(error.contains("another"), "{error}");
        }
    }
}
