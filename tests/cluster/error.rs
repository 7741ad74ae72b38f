//! The errors of this crate. Each message describes the problem and the next step.

use std::path::{Path, PathBuf};

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The reasons for which a control plane could not be built, started or used. Each message contains its cause, so
/// `source` returns none: a reporter that prints the whole chain would print the cause twice.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The programs must be built, and Go is missing.
    #[error(
        "`go` was not found on PATH: the local control plane is built from Go modules once, \
         install Go 1.26 or newer (https://go.dev/doc/install) and try again"
    )]
    GoMissing,

    /// The build failed.
    #[error("building {what} failed, `{command}` printed:\n{tail}")]
    Build {
        /// The object that was built.
        what: String,
        /// The command that failed.
        command: String,
        /// The last lines of its output.
        tail: String,
    },

    /// The operator does not compile.
    #[error("the operator does not build, and cargo printed:\n{output}")]
    Operator {
        /// The output of cargo.
        output: String,
    },

    /// An environment variable or an argument has an invalid value.
    #[error("{field}: {problem}")]
    Input {
        /// The variable or the argument.
        field: &'static str,
        /// The problem and the remedy.
        problem: String,
    },

    /// A file, pipe or process could not be used.
    #[error("{what}: {cause}")]
    Io {
        /// The operation that failed.
        what: String,
        /// The error of the operating system.
        cause: std::io::Error,
    },

    /// A certificate or a key could not be generated.
    #[error("making certificates: {0}")]
    Pki(rcgen::Error),

    /// The API server refused the request or could not be reached.
    #[error("{what}: {cause}")]
    Kube {
        /// The request that failed.
        what: String,
        /// The client's error.
        cause: Box<kube::Error>,
    },

    /// A kubeconfig file cannot be used.
    #[error("kubeconfig {}: {cause}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// The problem of the file.
        cause: Box<kube::config::KubeconfigError>,
    },

    /// A kubeconfig file does not have the named context.
    #[error("kubeconfig {}: there is no context {context:?}; the file has {known}", path.display())]
    UnknownContext {
        /// The file.
        path: PathBuf,
        /// The name that the file does not have.
        context: String,
        /// The names that the file has, or that it has none.
        known: String,
    },

    /// JSON or YAML could not be read or written.
    #[error("{what}: {problem}")]
    Format {
        /// The content that was read or written.
        what: String,
        /// The message of the parser.
        problem: String,
    },

    /// A process of the control plane ended while it was needed.
    #[error("{name} ended ({exit}); the end of {}:\n{tail}", log.display())]
    Ended {
        /// The process.
        name: String,
        /// The exit status of the process.
        exit: crate::Exit,
        /// The log of the process.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },

    /// An event did not happen in time.
    #[error("{what} did not happen within {seconds} s; logs are in {}", logs.display())]
    Late {
        /// The event.
        what: String,
        /// The time limit.
        seconds: u64,
        /// The folder with the logs.
        logs: PathBuf,
    },

    /// The supervisor refused a request, or it has ended.
    #[error("supervisor: {0}")]
    Supervisor(String),

    /// No block of loopback ports is free.
    #[error("no block of {0} free loopback ports between 20000 and 32000")]
    NoPorts(u16),

    /// Every range of addresses for a real node is in use.
    #[error("{0} clusters with a real node run on this machine, and there are no addresses for another one")]
    NoNetwork(u8),

    /// A command failed.
    #[error("`{command}` failed:\n{stderr}")]
    Command {
        /// The command.
        command: String,
        /// The command's standard error.
        stderr: String,
    },

    /// The user's cluster must not be changed.
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

/// Writes a file that only its owner may read, because most of our files contain keys.
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
