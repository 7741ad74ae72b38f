//! What can go wrong, said so that the reader knows what to do next.

use std::path::{Path, PathBuf};

/// The result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a control plane could not be built, started or used. Each says its cause in its own text, and so names none as its
/// `source`: whoever prints the whole chain would say it twice.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The programs must be built and there is nothing to build them with.
    #[error(
        "`go` was not found on PATH: the local control plane is built from Go modules once, \
         install Go 1.26 or newer (https://go.dev/doc/install) and try again"
    )]
    GoMissing,

    /// The build ended with an error.
    #[error("building the local control plane failed, `{command}` said:\n{tail}")]
    Build {
        /// The command that failed.
        command: String,
        /// The last lines of its output.
        tail: String,
    },

    /// The operator does not compile.
    #[error("the operator does not build; cargo said:\n{said}")]
    Operator {
        /// What cargo wrote.
        said: String,
    },

    /// An environment variable or argument has a value that cannot be used.
    #[error("{field}: {problem}")]
    Input {
        /// The variable or argument.
        field: &'static str,
        /// What is wrong, and what would be right.
        problem: String,
    },

    /// A file, pipe or process could not be used.
    #[error("{what}: {cause}")]
    Io {
        /// What was being done.
        what: String,
        /// The operating system's answer.
        cause: std::io::Error,
    },

    /// A certificate or key could not be made.
    #[error("making certificates: {0}")]
    Pki(rcgen::Error),

    /// The API server refused or could not be reached.
    #[error("{what}: {cause}")]
    Kube {
        /// What was being asked.
        what: String,
        /// The client's answer.
        cause: Box<kube::Error>,
    },

    /// A kubeconfig file cannot be used.
    #[error("kubeconfig {}: {cause}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: Box<kube::config::KubeconfigError>,
    },

    /// JSON or YAML could not be read or written.
    #[error("{what}: {problem}")]
    Format {
        /// What was being read or written.
        what: String,
        /// The parser's words.
        problem: String,
    },

    /// A process of the control plane ended while it was needed.
    #[error("{name} ended ({exit}); the end of {}:\n{tail}", log.display())]
    Ended {
        /// The process.
        name: String,
        /// How it ended.
        exit: crate::Exit,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },

    /// Something did not happen in time.
    #[error("{what} did not happen within {seconds} s; logs are in {}", logs.display())]
    Late {
        /// What was waited for.
        what: String,
        /// For how long.
        seconds: u64,
        /// Where the logs are.
        logs: PathBuf,
    },

    /// The supervisor refused a request, or is gone.
    #[error("supervisor: {0}")]
    Supervisor(String),

    /// No block of loopback ports is free.
    #[error("no block of {0} free loopback ports between 20000 and 32000")]
    NoPorts(u16),

    /// A command that was run for its effect failed.
    #[error("`{command}` failed:\n{stderr}")]
    Command {
        /// The command.
        command: String,
        /// What it wrote to standard error.
        stderr: String,
    },

    /// A person's cluster is not touched.
    #[error("{0}")]
    Refused(String),
}

impl From<rcgen::Error> for Error {
    fn from(error: rcgen::Error) -> Self {
        Self::Pki(error)
    }
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |cause| Self::Io { what, cause }
    }

    pub(crate) fn kube(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |cause| Self::Kube { what, cause: Box::new(cause) }
    }

    pub(crate) fn format<E: std::fmt::Display>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |e| Self::Format { what, problem: e.to_string() }
    }
}

/// Writes a file that only its owner may read: most of ours hold keys.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(Error::io(format!("writing {}", path.display())))
}

/// The last lines of a log, for an error message.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
