//! The connection to the supervisor, the only process that this process starts itself.
//!
//! The supervisor lives as long as the pipe to its standard input is open, and all processes that it started end with
//! it. Therefore no process outlives us, whether we return, panic or are killed.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::layout::Layout;
use crate::proc::family;
use crate::{Binaries, Error, Exit, Program, Result};

/// The supervisor's flag for the folder that it removes at the end.
const SCRATCH: &str = "--scratch";
/// The time that a cluster has to end. A killed process can stay in the kernel while its disk operations run.
const STOP: Duration = Duration::from_secs(60);

/// A request to start a process.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Start {
    pub(crate) name: String,
    pub(crate) argv: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) dir: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) tidies: bool,
}

#[derive(Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub(crate) enum Ask<'a> {
    Start(&'a Start),
    Signal { name: &'a str, signal: &'a str },
    Wait { name: &'a str },
    Detach { socket: &'a Path },
    Stop { keep: &'a [&'a str] },
}

#[derive(Serialize)]
struct Request<'a> {
    id: u64,
    #[serde(flatten)]
    ask: Ask<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Reply {
    id: u64,
    error: String,
    pub(crate) pid: u32,
    pub(crate) exit: Option<Exit>,
}

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Reply>>>>;

/// A running supervisor. Dropping it ends all of its processes, unless it was detached.
#[derive(Debug)]
pub(crate) struct Supervisor {
    child: Mutex<Option<Child>>,
    stdin: Mutex<Option<ChildStdin>>,
    waiting: Waiting,
    next: AtomicU64,
}

impl Supervisor {
    /// Starts a supervisor that removes the folder of the layout at the end.
    pub(crate) fn start(binaries: &Binaries, layout: &Layout) -> Result<Self> {
        let (scratch, log) = (layout.folder(), layout.log(Program::Supervise.name()));
        let log = std::fs::File::create(&log).map_err(Error::io(format!("making {}", log.display())))?;
        let mut child = Command::new(binaries.path(Program::Supervise))
            .arg(SCRATCH)
            .arg(scratch)
            .current_dir(scratch)
            .env_clear()
            // Ctrl-C in a terminal is for us. It is sent to our process group, and the supervisor has another one.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(Error::io("starting the supervisor"))?;
        let waiting = Waiting::default();
        if let Some(stdout) = child.stdout.take() {
            let waiting = Arc::clone(&waiting);
            std::thread::spawn(move || deliver(stdout, &waiting));
        }
        let stdin = Mutex::new(child.stdin.take());
        Ok(Self { child: Mutex::new(Some(child)), stdin, waiting, next: AtomicU64::new(1) })
    }

    /// Sends a request and waits for its reply.
    pub(crate) async fn ask(&self, ask: Ask<'_>) -> Result<Reply> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        lock(&self.waiting).insert(id, sender);
        self.send(&Request { id, ask })?;
        answered(receiver.await.map_err(|_| gone())?)
    }

    /// Detaches the supervisor, so that it and all of its processes outlive us.
    pub(crate) async fn detach(&self, socket: &Path) -> Result<()> {
        self.ask(Ask::Detach { socket }).await?;
        lock(&self.child).take();
        lock(&self.stdin).take();
        Ok(())
    }

    /// Kills all processes, removes the scratch folder except for `keep`, and waits until that is done.
    pub(crate) fn end(&self, keep: &[&str]) {
        let Some(mut child) = lock(&self.child).take() else {
            return;
        };
        if !keep.is_empty() {
            // If the request cannot be sent, the pipe closes, and the supervisor keeps no entries.
            let _ = self.send(&Request { id: 0, ask: Ask::Stop { keep } });
        }
        lock(&self.stdin).take();
        let _ = child.wait();
    }

    fn send(&self, request: &Request<'_>) -> Result<()> {
        let mut line = serde_json::to_vec(request).map_err(Error::format("writing to the supervisor"))?;
        line.push(b'\n');
        let mut stdin = lock(&self.stdin);
        stdin.as_mut().ok_or_else(gone)?.write_all(&line).map_err(Error::io("writing to the supervisor"))
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.end(&[]);
    }
}

/// Stops a detached supervisor through its socket. Returns when it and all of its processes have ended, so that no port
/// is in use and no folder is left.
pub(crate) fn stop_detached(layout: &Layout) -> Result<()> {
    let socket = layout.socket();
    let what = format!("asking the supervisor at {} to stop", socket.display());
    let processes = family(SCRATCH, layout.folder());
    let mut stream = UnixStream::connect(&socket).map_err(Error::io(what.clone()))?;
    stream.set_read_timeout(Some(STOP)).map_err(Error::io(what.clone()))?;
    let mut line = serde_json::to_vec(&Request { id: 1, ask: Ask::Stop { keep: &[] } })
        .map_err(Error::format("writing to the supervisor"))?;
    line.push(b'\n');
    stream.write_all(&line).map_err(Error::io(what.clone()))?;
    let mut stream = BufReader::new(stream);
    let mut answer = String::new();
    stream.read_line(&mut answer).map_err(Error::io(what.clone()))?;
    answered(serde_json::from_str(&answer).map_err(Error::format("reading the supervisor's reply"))?)?;
    // The supervisor replies before it ends. The connection closes when it ends.
    stream.read_to_end(&mut Vec::new()).map_err(Error::io(what))?;
    let began = Instant::now();
    while let Some(process) = processes.iter().find(|process| process.is_running()) {
        if began.elapsed() > STOP {
            return Err(Error::Supervisor(format!("process {} does not end", process.pid)));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    if layout.folder().exists() {
        return Err(Error::Supervisor(format!("{} could not be removed", layout.folder().display())));
    }
    Ok(())
}

/// Passes each reply to the task that waits for it, until the supervisor has ended.
fn deliver(from: impl Read, waiting: &Waiting) {
    for line in BufReader::new(from).lines().map_while(std::io::Result::ok) {
        let Ok(reply) = serde_json::from_str::<Reply>(&line) else {
            break;
        };
        if let Some(sender) = lock(waiting).remove(&reply.id) {
            let _ = sender.send(reply); // the requester may have stopped waiting
        }
    }
    lock(waiting).clear(); // tells the requesters that no reply will come
}

fn answered(reply: Reply) -> Result<Reply> {
    if reply.error.is_empty() { Ok(reply) } else { Err(Error::Supervisor(reply.error)) }
}

fn gone() -> Error {
    Error::Supervisor("it has ended, and with it everything it ran".into())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
