//! The program as a process: what it waits for, what it becomes, and how it ends.

#![expect(clippy::expect_used, reason = "tests: a failure ends them")]

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

fn init() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_paddock-init"));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("KEPT", "yes").env("MODE", "slow");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The program, which holds a shell with this script.
fn held(directory: &Path, script: &str) -> Child {
    let mut command = init();
    command.arg("--directory").arg(directory).args(["--container", "agent", "--first", "--", "sh", "-c", script]);
    command.spawn().expect("it starts")
}

/// The files as the kubelet writes them: everything in `..data`, and `delivery` from the start.
fn deliver(directory: &Path, files: &[(&str, &str)]) {
    let next = directory.join("..next");
    std::fs::create_dir(&next).expect("a directory");
    for (name, content) in files {
        std::fs::write(next.join(name), content).expect("written");
    }
    std::fs::rename(next, directory.join("..data")).expect("renamed");
    std::fs::write(directory.join("delivery"), "data u1").expect("written");
}

const CLAIM: (&str, &str) = ("claim.json", r#"{"claim":{"name":"c","uid":"u1"}}"#);

fn output(child: Child) -> (Output, String) {
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output, text)
}

#[test]
fn command_starts_when_the_data_is_there_and_not_before() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("delivery"), "").expect("written");
    let mut child = held(directory.path(), "echo $$ $MODE $KEPT; cat $DIRECTORY/..data/task; exit 7");
    // The process is there, and has not become the command.
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(child.try_wait().expect("a state").is_none());
    let id = child.id();
    let variables = format!("/MODE=fast\0other/MODE=wrong\0agent/DIRECTORY={}\0", directory.path().display());
    deliver(directory.path(), &[CLAIM, ("task", "do it"), ("paddock.env", &variables)]);
    let (output, text) = output(child);
    // The command has the process, and its exit code.
    assert_eq!(text, format!("{id} fast yes\ndo it"), "{output:?}");
    assert_eq!(output.status.code(), Some(7));
}

/// A Secret that somebody prepared for a warm pod appears before there is a claim.
#[test]
fn prepared_file_starts_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut child = held(directory.path(), "echo $MODE");
    let prepared = [("claim.json", r#"{"claim":{"uid":"u0"}}"#), ("paddock.env", "/MODE=evil\0")];
    let data = directory.path().join("..data");
    std::fs::create_dir(&data).expect("a directory");
    for (name, content) in prepared {
        std::fs::write(data.join(name), content).expect("written");
    }
    for word in ["", "data u1"] {
        std::fs::write(directory.path().join("delivery"), word).expect("written");
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(child.try_wait().expect("a state").is_none(), "{word:?}");
    }
    std::fs::write(data.join("paddock.env"), "/MODE=fast\0").expect("written");
    std::fs::write(data.join(CLAIM.0), CLAIM.1).expect("written");
    assert_eq!(output(child).1, "fast\n");
}

#[test]
fn claim_without_data_starts_the_command_as_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let child = held(directory.path(), "echo $MODE");
    std::fs::write(directory.path().join("delivery"), "none").expect("written");
    assert_eq!(output(child).1, "slow\n");
    // A claim that brings files alone.
    let directory = tempfile::tempdir().expect("a directory");
    deliver(directory.path(), &[CLAIM]);
    assert_eq!(output(held(directory.path(), "echo $MODE")).1, "slow\n");
}

#[test]
fn held_process_ends_by_sigterm_and_a_started_command_gets_its_signals_itself() {
    let term = |child: &Child| {
        let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill");
        assert!(sent.success());
    };
    let directory = tempfile::tempdir().expect("a directory");
    let waiting = held(directory.path(), "echo started");
    // It may get the signal before it handles it, which ends it too.
    std::thread::sleep(std::time::Duration::from_millis(300));
    term(&waiting);
    let (ended, text) = output(waiting);
    assert!(ended.status.code() == Some(143) || ended.status.signal() == Some(15), "{ended:?}");
    assert_eq!(text, "");
    deliver(directory.path(), &[CLAIM]);
    let mut running =
        held(directory.path(), "trap 'echo caught; exit 3' TERM; echo started; while :; do sleep 0.01; done");
    let mut lines = BufReader::new(running.stdout.take().expect("its output")).lines();
    assert_eq!(lines.next().expect("a line").expect("a text"), "started");
    term(&running);
    assert_eq!(lines.next().expect("a line").expect("a text"), "caught");
    assert_eq!(running.wait().expect("it ends").code(), Some(3));
}

#[test]
fn command_that_does_not_exist_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    deliver(directory.path(), &[CLAIM]);
    let mut command = init();
    command.arg("--directory").arg(directory.path()).args(["--container", "a", "--", "/no/such", "x"]);
    let ended = command.output().expect("it ends");
    assert_eq!(ended.status.code(), Some(127));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("executing /no/such"), "{ended:?}");
}

#[test]
fn copy_of_the_program_is_whole_and_runs() {
    let directory = tempfile::tempdir().expect("a directory");
    let copy = directory.path().join("paddock-init");
    assert!(init().arg("--copy-to").arg(&copy).status().expect("it runs").success());
    deliver(directory.path(), &[CLAIM]);
    let mut command = Command::new(&copy);
    command.arg("--directory").arg(directory.path()).args(["--container", "a", "--", "echo", "hello"]);
    assert_eq!(command.output().expect("it runs").stdout, b"hello\n");
    let ended = init().args(["--copy-to", "/no/such/folder/x"]).output().expect("it ends");
    assert!(
        !ended.status.success() && String::from_utf8_lossy(&ended.stderr).contains("/no/such/folder/x"),
        "{ended:?}"
    );
}
