//! `paddock-init`: holds the command of a container until the data of its claim is there, and then becomes that command.
//!
//! An init container copies this program into a volume of the pod, and the containers start with it. It is linked
//! statically, because it runs in the images of users. It polls, because gVisor reports no changes of files that are made
//! outside of the sandbox.

mod request;
mod variables;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use signal_hook::consts::signal::{SIGINT, SIGTERM};

use crate::request::{Held, Request, USAGE};

/// The time between two looks at the files.
const POLL: Duration = Duration::from_millis(5);

/// The exit codes of a shell: the command cannot be executed, it does not exist, and the usage is wrong.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;
const WRONG_USAGE: u8 = 64;
/// The exit code of a process that SIGTERM ended.
const TERMINATED: u8 = 143;

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
    let terminated = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // The first process of a container gets no signal that it does not handle.
        signal_hook::flag::register(signal, terminated.clone())
            .map_err(|error| (NOT_EXECUTABLE, format!("handling signal {signal}: {error}")))?;
    }
    let announced = held.directory.join("delivery");
    let data = held.directory.join("..data");
    let variables = loop {
        if terminated.load(Ordering::Relaxed) {
            return Err((TERMINATED, "terminated before a claim brought its data".to_owned()));
        }
        let word = fs::read(&announced).unwrap_or_default();
        let word = word.trim_ascii();
        if word == b"none" {
            break Vec::new();
        }
        // A file that somebody prepared does not have the UID of the claim.
        if let Some(uid) = word.strip_prefix(b"data ")
            && fs::read(data.join("claim.json")).is_ok_and(|claim| is_of_claim(&claim, uid))
        {
            let variables = data.join("paddock.env");
            // Without the file, the claim brings no variables.
            let read = if variables.exists() { fs::read(variables) } else { Ok(Vec::new()) };
            break read.map_err(|error| (NOT_EXECUTABLE, format!("reading the variables of the claim: {error}")))?;
        }
        sleep(POLL);
    };
    let variables = variables::of_container(&variables, held.container.as_encoded_bytes(), held.first);
    let error = Command::new(&held.program).args(&held.arguments).envs(variables).exec();
    let code = if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
    Err((code, format!("executing {}: {error}", held.program.display())))
}

/// Whether `claim.json` is that of the claim with this UID. The operator writes it without spaces.
fn is_of_claim(everything: &[u8], uid: &[u8]) -> bool {
    let field = [br#""uid":""#, uid, br#"""#].concat();
    everything.windows(field.len()).any(|window| window == field)
}
