//! The signals that end a held container.

use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::signal::{SIGABRT, SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};

/// SIGRTMIN+3 as container runtimes number it, which is what systemd takes.
const SIGRTMIN_3: i32 = 37;

/// The signals with which a runtime may stop a container: an image and `lifecycle.stopSignal` choose among them. nginx has
/// SIGQUIT, for example, and httpd SIGWINCH.
const STOPS: [i32; 10] = [SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGABRT, SIGALRM, SIGUSR1, SIGUSR2, SIGWINCH, SIGRTMIN_3];

/// Whether such a signal came.
pub(crate) struct Stop {
    /// The number of the signal, or 0.
    signal: Arc<AtomicUsize>,
}

impl Stop {
    /// Handles the signals. The first process of a container gets no signal that it does not handle.
    pub(crate) fn register() -> io::Result<Self> {
        let signal = Arc::new(AtomicUsize::new(0));
        // A terminal sends SIGWINCH when its size changes, and only Linux has the last one.
        let meant = |stop: &i32| match *stop {
            SIGWINCH => !io::stdin().is_terminal(),
            SIGRTMIN_3 => cfg!(target_os = "linux"),
            _ => true,
        };
        for stop in STOPS.into_iter().filter(meant) {
            signal_hook::flag::register_usize(stop, signal.clone(), usize::try_from(stop).unwrap_or_default())?;
        }
        Ok(Self { signal })
    }

    /// Fails with the exit code and a message if a signal came. The code is that of a process that the signal ended.
    pub(crate) fn check(&self) -> Result<(), (u8, String)> {
        match self.signal.load(Ordering::Relaxed) {
            0 => Ok(()),
            signal => {
                let code = u8::try_from(128 + signal).unwrap_or(u8::MAX);
                Err((code, format!("signal {signal} ended the container before its command began")))
            }
        }
    }
}
