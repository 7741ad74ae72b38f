//! A process under the supervisor: a part of the control plane, or a program that a test added.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::Deserialize;

use crate::error::tail;
use crate::layout::Layout;
use crate::supervisor::{Ask, Start, Supervisor};
use crate::{Error, Result};

/// A signal that can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Continue after `Stop`.
    Continue,
    /// The terminal was closed.
    Hangup,
    /// Ctrl-C.
    Interrupt,
    /// End at once.
    Kill,
    /// Pause.
    Stop,
    /// Shut down.
    Terminate,
}

impl Signal {
    const fn name(self) -> &'static str {
        match self {
            Self::Continue => "SIGCONT",
            Self::Hangup => "SIGHUP",
            Self::Interrupt => "SIGINT",
            Self::Kill => "SIGKILL",
            Self::Stop => "SIGSTOP",
            Self::Terminate => "SIGTERM",
        }
    }
}

/// The exit status of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Exit {
    /// The exit code, or -1 if a signal ended the process.
    pub code: i32,
    /// The number of the signal that ended the process, or 0.
    pub signal: i32,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.signal == 0 { write!(f, "exit code {}", self.code) } else { write!(f, "signal {}", self.signal) }
    }
}

/// A program to run beside the control plane.
#[derive(Clone, Debug)]
pub struct Spawn {
    name: String,
    program: PathBuf,
    args: Vec<OsString>,
    env: BTreeMap<String, String>,
    tidies: bool,
}

impl Spawn {
    /// `name` is the name of the process and of its log. `program` is a path, which is not searched for in `PATH`.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), program: program.into(), args: Vec::new(), env: BTreeMap::new(), tidies: false }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable. From our own environment, the program gets only the variables that it cannot run
    /// without, and the variables `RUST_*` for its logs. It never gets `KUBECONFIG`.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// At the end, the process gets SIGTERM and time to remove what it made, before it is killed.
    #[must_use]
    pub(crate) fn tidies(mut self) -> Self {
        self.tidies = true;
        self
    }

    /// The request to the supervisor. The environment of a component consists only of the variables that `env` has set.
    pub(crate) fn start(self, layout: &Layout, inherit: bool) -> Result<Start> {
        let mut env = BTreeMap::new();
        if inherit {
            env.extend(std::env::vars().filter(|(name, _)| passed_on(name)));
        }
        env.extend(self.env);
        let argv = std::iter::once(self.program.into_os_string()).chain(self.args);
        Ok(Start {
            argv: argv.map(|arg| text(&arg)).collect::<Result<_>>()?,
            env,
            dir: layout.folder().to_owned(),
            log: layout.log(&self.name),
            tidies: self.tidies,
            name: self.name,
        })
    }
}

/// Whether a program that is not a component inherits a variable.
fn passed_on(name: &str) -> bool {
    matches!(name, "PATH" | "HOME" | "TMPDIR" | "LANG") || name.starts_with("RUST_")
}

fn text(arg: &OsString) -> Result<String> {
    arg.to_str().map(str::to_owned).ok_or_else(|| Error::Input {
        field: "args",
        problem: format!("{} is not UTF-8, which arguments must be here", arg.display()),
    })
}

/// A process that runs or ran under the supervisor. Clones refer to the same process.
#[derive(Clone, Debug)]
pub struct Process {
    start: Arc<Start>,
    pid: Arc<AtomicU32>,
    supervisor: Arc<Supervisor>,
}

impl Process {
    pub(crate) async fn begin(supervisor: &Arc<Supervisor>, start: Start) -> Result<Self> {
        let pid = supervisor.ask(Ask::Start(&start)).await?.pid;
        Ok(Self { start: Arc::new(start), pid: Arc::new(AtomicU32::new(pid)), supervisor: Arc::clone(supervisor) })
    }

    /// The name of the process.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.start.name
    }

    /// The process id, which is also the id of its process group.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.load(Ordering::Relaxed)
    }

    /// The file with the output of the process. A restart appends to it.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.start.log
    }

    /// Sends a signal to the process and its children.
    pub async fn signal(&self, signal: Signal) -> Result<()> {
        self.supervisor.ask(Ask::Signal { name: self.name(), signal: signal.name() }).await?;
        Ok(())
    }

    /// Waits until the process ends.
    pub async fn wait(&self) -> Result<Exit> {
        let reply = self.supervisor.ask(Ask::Wait { name: self.name() }).await?;
        reply.exit.ok_or_else(|| Error::Supervisor(format!("did not say how {} ended", self.name())))
    }

    /// Kills the process, as in a crash, and waits until it has ended.
    pub async fn kill(&self) -> Result<Exit> {
        self.signal(Signal::Kill).await?;
        self.wait().await
    }

    /// Pauses the process, and waits until all of its threads have stopped. It keeps its connections and answers nothing.
    ///
    /// One thread takes the signal and stops the others. On a busy machine they can still answer until that thread runs.
    pub async fn pause(&self) -> Result<()> {
        self.signal(Signal::Stop).await?;
        while self.running() && !self.stopped() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Whether all threads of the process are stopped, from `/proc`.
    fn stopped(&self) -> bool {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", self.pid())) else { return false };
        threads.flatten().all(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(')').is_none_or(|(_, fields)| fields.trim_start().starts_with('T'))
        })
    }

    /// Ends a pause.
    pub async fn resume(&self) -> Result<()> {
        self.signal(Signal::Continue).await
    }

    /// Starts the process again with the same arguments, and kills it first if it is running.
    pub async fn restart(&self) -> Result<()> {
        let _ = self.signal(Signal::Kill).await; // an error if it has already ended
        self.wait().await?;
        let pid = self.supervisor.ask(Ask::Start(&self.start)).await?.pid;
        self.pid.store(pid, Ordering::Relaxed);
        Ok(())
    }

    /// Whether the process exists, even if it is paused.
    #[must_use]
    pub fn running(&self) -> bool {
        // A zombie has an empty command line.
        std::fs::read(format!("/proc/{}/cmdline", self.pid())).is_ok_and(|line| !line.is_empty())
    }

    /// The ids of the children of the process, from `/proc`.
    #[must_use]
    pub fn children(&self) -> Vec<u32> {
        crate::proc::children(self.pid())
    }

    /// The resident memory in bytes, from `/proc`.
    #[must_use]
    pub fn resident_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix("kB")?;
        kib.trim().parse::<u64>().ok().map(|kib| kib * 1024)
    }

    /// The processor time used so far, from `/proc`.
    #[must_use]
    pub fn cpu(&self) -> Option<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).ok()?;
        // The second field is the name in parentheses and may contain any text. User time and system time are the 14th
        // and the 15th field, in ticks. Linux has always exposed 100 ticks per second.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        Some(Duration::from_millis(ticks * 10))
    }

    /// Waits for `ready`, but not after the end of the process.
    pub(crate) async fn until<T>(&self, ready: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            done = ready => done,
            exit = self.wait() => Err(Error::Ended {
                name: self.name().to_owned(),
                exit: exit?,
                log: self.log().to_owned(),
                tail: tail(self.log(), 12),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spawned_program_does_not_get_kubeconfig() {
        assert!(passed_on("PATH") && passed_on("RUST_LOG"));
        assert!(!passed_on("KUBECONFIG") && !passed_on("KUBERNETES_SERVICE_HOST") && !passed_on("HTTPS_PROXY"));
    }
}
