//! `paddock-init`: holds the command of a container until the data of its claim is there, and then becomes that command.
//!
//! An init container copies this program into a volume of the pod, and the containers start with it. It is linked
//! statically, because it runs in the images of users. It polls, because gVisor reports no changes of files that are made
//! outside of the sandbox.

mod files;
mod request;
mod stop;
mod variables;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::files::{Files, Seen};
use crate::request::{Held, Request, USAGE};
use crate::stop::Stop;

/// The time between two looks while no claim has the sandbox. A warm sandbox may wait for days.
const POLL_UNCLAIMED: Duration = Duration::from_millis(20);
/// The time between two looks while the data of a claim is on its way.
const POLL_ANNOUNCED: Duration = Duration::from_millis(5);
/// The time after which missing files are reported.
const REPORTED_AFTER: Duration = Duration::from_secs(10);

/// The exit codes of a shell: the command cannot be executed, it does not exist, and the usage is wrong.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;
const WRONG_USAGE: u8 = 64;

fn main() -> ExitCode {
    let end = match Request::parse(std::env::args_os().skip(1)) {
        Ok(Request::CopyTo(path)) => copy_to(&path),
        Ok(Request::Hold(held)) => hold(&held),
        Err(problem) => Err((WRONG_USAGE, format!("{problem}\n{USAGE}"))),
    };
    match end {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, problem)) => {
            eprintln!("paddock-init: {problem}");
            ExitCode::from(code)
        }
    }
}

/// Copies this program. The copy appears at once and whole.
fn copy_to(path: &Path) -> Result<(), (u8, String)> {
    let partial = path.with_extension("partial");
    let copied = fs::copy("/proc/self/exe", &partial).and_then(|_| fs::rename(&partial, path));
    copied.map_err(|error| (NOT_EXECUTABLE, format!("copying this program to {}: {error}", path.display())))
}

/// Waits for the data, and becomes the command. It returns only if that fails.
fn hold(held: &Held) -> Result<(), (u8, String)> {
    let stop = Stop::register().map_err(|error| (NOT_EXECUTABLE, format!("handling signals: {error}")))?;
    let everything = wait(&held.directory, &stop)?;
    let variables = variables::of_container(&everything, held.container.as_encoded_bytes(), held.first);
    let mut command = Command::new(&held.program);
    command.args(&held.arguments).envs(variables);
    // The command handles the signals that come after this.
    stop.check()?;
    let error = command.exec();
    let code = if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
    Err((code, format!("executing {}: {error}", held.program.display())))
}

/// Waits until the files of the claim are there, and returns its variables. Files that are missing are reported once: the
/// log of the container otherwise belongs to the command.
fn wait(directory: &Path, stop: &Stop) -> Result<Vec<u8>, (u8, String)> {
    let mut files = Files::of(directory);
    let (mut missing_since, mut reported) = (None, false);
    loop {
        stop.check()?;
        let pause = match files.look() {
            Seen::Variables(variables) => return Ok(variables),
            Seen::NoClaim => {
                missing_since = None;
                POLL_UNCLAIMED
            }
            Seen::Missing(_) if reported => POLL_UNCLAIMED,
            Seen::Missing(what) => {
                if missing_since.get_or_insert_with(Instant::now).elapsed() >= REPORTED_AFTER {
                    eprintln!("paddock-init: the command waits for the data of the claim: {what}");
                    reported = true;
                }
                POLL_ANNOUNCED
            }
        };
        sleep(pause);
    }
}
