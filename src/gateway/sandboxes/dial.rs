//! Opens connections to ports that may not be open yet.
//!
//! A pod is Ready too early or too late, so the port itself is asked, every few milliseconds. One dialler serves all
//! requests that wait for the same port. The connections are only opened, and nothing is sent on them.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::limits;

/// Opens one connection.
pub(crate) type Open = Arc<dyn Fn(SocketAddr) -> BoxFuture<'static, io::Result<TcpStream>> + Send + Sync>;

/// The diallers of all ports. Clones are handles on the same diallers.
#[derive(Clone)]
pub(crate) struct Dial {
    open: Open,
    waiting: Arc<Mutex<HashMap<Port, Vec<Waiter>>>>,
}

/// The port of one pod. Another pod may get the address later.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Port {
    pub(crate) pod_uid: Arc<str>,
    pub(crate) address: SocketAddr,
}

/// Gets the first connection, or nothing if another one got it and the port is open.
type Waiter = oneshot::Sender<Option<TcpStream>>;

impl Default for Dial {
    fn default() -> Self {
        Self::new(Arc::new(|address| TcpStream::connect(address).boxed()))
    }
}

impl Dial {
    pub(crate) fn new(open: Open) -> Self {
        Self { open, waiting: Arc::default() }
    }

    /// Tries once, for a time after which the port counts as closed.
    pub(crate) async fn once(&self, address: SocketAddr) -> Option<TcpStream> {
        let opened = timeout(limits::FIRST_DIAL, (self.open)(address)).await;
        opened.ok().and_then(Result::ok).map(without_delay)
    }

    /// Waits until the port is open, and returns a connection. The dialler ends with the last future that waits for it.
    pub(crate) async fn until_open(&self, port: &Port) -> TcpStream {
        loop {
            let Some(dialler) = self.join(port) else {
                sleep(limits::DIAL_AGAIN).await;
                continue;
            };
            if let Ok(Some(stream)) = dialler.await {
                return without_delay(stream);
            }
            if let Some(stream) = self.once(port.address).await {
                return stream;
            }
        }
    }

    /// Waits for the dialler of a port. `None` if other ports of the pod have as many diallers as a pod may have.
    fn join(&self, port: &Port) -> Option<oneshot::Receiver<Option<TcpStream>>> {
        let (waiter, receiver) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        if let Some(others) = waiting.get_mut(port) {
            others.push(waiter);
        } else {
            // A client chooses the ports.
            let of_pod = waiting.keys().filter(|other| other.pod_uid == port.pod_uid).count();
            if of_pod >= limits::DIALLERS_PER_POD {
                return None;
            }
            waiting.insert(port.clone(), vec![waiter]);
            tokio::spawn(self.clone().knock(port.clone()));
        }
        Some(receiver)
    }

    /// Dials until the port is open or nobody waits for it.
    async fn knock(self, port: Port) {
        let mut dialled = FuturesUnordered::new();
        let begun = Instant::now();
        let mut next = begun;
        while self.is_awaited(&port) {
            tokio::select! {
                biased;
                Some(result) = dialled.next() => match result {
                    Ok(Ok(stream)) => return self.opened(&port, stream),
                    Ok(Err(_)) => {
                        let soon = begun.elapsed() < limits::DIAL_SOON;
                        let pause = if soon { limits::DIAL_PAUSE } else { limits::DIAL_LATER_PAUSE };
                        next = next.min(Instant::now() + pause);
                    }
                    Err(_) => {}
                },
                () = sleep_until(next) => {
                    dialled.push(timeout(limits::DIAL_TIMEOUT, (self.open)(port.address)));
                    next = Instant::now() + limits::DIAL_AGAIN;
                }
            }
        }
    }

    /// Forgets the requests that ended. Returns whether one is left; without one, the port is forgotten too.
    fn is_awaited(&self, port: &Port) -> bool {
        let mut waiting = self.waiting.lock();
        let left = waiting.get_mut(port).is_some_and(|waiters| {
            waiters.retain(|waiter| !waiter.is_closed());
            !waiters.is_empty()
        });
        if !left {
            waiting.remove(port);
        }
        left
    }

    fn opened(&self, port: &Port, stream: TcpStream) {
        let waiters = self.waiting.lock().remove(port).unwrap_or_default();
        let mut first = Some(stream);
        for waiter in waiters {
            if let Err(back) = waiter.send(first.take()) {
                first = back;
            }
        }
    }
}

/// Small messages must not wait for the answer to the ones before.
fn without_delay(stream: TcpStream) -> TcpStream {
    // A connection that ended already has no options. Its first use reports that.
    let _ = stream.set_nodelay(true);
    stream
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::*;
    use crate::sandboxes::tests::connect_at_once;

    /// A dialler that counts its attempts, and the port of a server. Each attempt goes on as `outcome` says for its
    /// number.
    async fn dial(outcome: fn(usize) -> Outcome) -> (Dial, Port, Arc<AtomicUsize>, TcpListener) {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let (attempts, counted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let count = counted.clone();
        let open: Open = Arc::new(move |address| {
            let attempt = attempts.fetch_add(1, Ordering::Relaxed);
            count.store(attempt + 1, Ordering::Relaxed);
            async move {
                match outcome(attempt) {
                    Outcome::Opens => connect_at_once(address),
                    Outcome::Refused => Err(io::ErrorKind::ConnectionRefused.into()),
                    Outcome::Lost => std::future::pending().await,
                }
            }
            .boxed()
        });
        (Dial::new(open), Port { pod_uid: "p".into(), address }, counted, server)
    }

    enum Outcome {
        Opens,
        Refused,
        Lost,
    }

    /// The fault "first request 502": a port that is refused at first is dialled again every few milliseconds.
    #[tokio::test(start_paused = true)]
    async fn a_port_that_is_refused_at_first_is_asked_every_few_milliseconds() {
        let (dial, port, attempts, _server) =
            dial(|attempt| if attempt < 200 { Outcome::Refused } else { Outcome::Opens }).await;
        let start = Instant::now();
        dial.until_open(&port).await;
        let took = start.elapsed();
        assert!(took >= limits::DIAL_PAUSE * 199 && took < limits::DIAL_PAUSE * 300, "{took:?}");
        assert!(attempts.load(Ordering::Relaxed) >= 201);
    }

    /// The fault "back-off tied to the connect timeout": connections that get no answer do not delay the next one.
    #[tokio::test(start_paused = true)]
    async fn connections_without_an_answer_do_not_delay_the_next_one() {
        let (dial, port, _, _server) = dial(|attempt| if attempt < 30 { Outcome::Lost } else { Outcome::Opens }).await;
        let start = Instant::now();
        dial.until_open(&port).await;
        let took = start.elapsed();
        assert!(took >= limits::DIAL_AGAIN * 29 && took < limits::DIAL_AGAIN * 33, "{took:?}");
    }

    #[tokio::test]
    async fn one_dialler_serves_all_requests_for_a_port_and_each_gets_its_own_connection() {
        let (dial, port, attempts, server) =
            dial(|attempt| if attempt < 10 { Outcome::Refused } else { Outcome::Opens }).await;
        let streams = futures::future::join_all((0..50).map(|_| dial.until_open(&port))).await;
        let mut ports: Vec<u16> = streams.iter().map(|stream| stream.local_addr().unwrap().port()).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!((streams.len(), ports.len()), (50, 50));
        assert_eq!(attempts.load(Ordering::Relaxed), 10 + 50, "the first connection is used");
        assert!(dial.waiting.lock().is_empty());
        drop(server);
    }

    #[tokio::test(start_paused = true)]
    async fn the_dialler_ends_with_the_last_request() {
        let (dial, port, attempts, _server) = dial(|_| Outcome::Refused).await;
        assert!(timeout(Duration::from_secs(1), dial.until_open(&port)).await.is_err());
        sleep(Duration::from_secs(1)).await;
        let ended = attempts.load(Ordering::Relaxed);
        sleep(Duration::from_secs(10)).await;
        assert_eq!(attempts.load(Ordering::Relaxed), ended);
        assert!(dial.waiting.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn ports_of_one_pod_share_a_few_diallers_and_a_closed_one_is_asked_less_often_later() {
        let (dial, port, attempts, _server) = dial(|_| Outcome::Refused).await;
        let ports = (20_000..20_512).map(|number| {
            let address = SocketAddr::new(port.address.ip(), number);
            Port { address, ..port.clone() }
        });
        let all: Vec<Port> = ports.collect();
        let asked = timeout(Duration::from_secs(11), futures::future::join_all(all.iter().map(|p| dial.until_open(p))));
        assert!(asked.await.is_err());
        let attempts = attempts.load(Ordering::Relaxed);
        let (soon, later) = (200 * limits::DIALLERS_PER_POD, 500 * limits::DIALLERS_PER_POD);
        assert!((later..=soon + later + 100).contains(&attempts), "{attempts} in eleven seconds");
    }
}
