//! The program as a process: what it waits for, what it becomes, and how it ends.

#![expect(clippy::expect_used, reason = "tests: a failure ends them")]

use std::io::{BufRead as _, BufReader};
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

/// Writes a version of the files as the kubelet does: into a directory of its own, to which the link `..data` then leads.
fn write(directory: &Path, files: &[(&str, &str)]) {
    let version = format!("..{}", std::fs::read_dir(directory).expect("a directory").count());
    std::fs::create_dir(directory.join(&version)).expect("a directory");
    for (name, content) in files {
        std::fs::write(directory.join(&version).join(name), content).expect("written");
    }
    std::os::unix::fs::symlink(&version, directory.join("..data_tmp")).expect("a link");
    std::fs::rename(directory.join("..data_tmp"), directory.join("..data")).expect("renamed");
}

const UNCLAIMED: (&str, &str) = ("delivery", "");
const ANNOUNCED: (&str, &str) = ("delivery", "data u1");
const NOTHING: (&str, &str) = ("delivery", "none");
const CLAIM: (&str, &str) = ("claim.json", r#"{"claim":{"name":"c","uid":"u1"}}"#);
const NO_VARIABLES: (&str, &str) = ("paddock.env", "");

fn output(child: Child) -> (Output, String) {
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output, text)
}

#[test]
fn command_starts_when_the_data_is_there_and_not_before() {
    let directory = tempfile::tempdir().expect("a directory");
    write(directory.path(), &[UNCLAIMED]);
    let mut child = held(directory.path(), "echo $$ $MODE $KEPT; cat $DIRECTORY/..data/task; exit 7");
    // The process is there, and has not become the command.
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(child.try_wait().expect("a state").is_none());
    let id = child.id();
    let variables = format!("/MODE=fast\0other/MODE=wrong\0agent/DIRECTORY={}\0", directory.path().display());
    write(directory.path(), &[ANNOUNCED, CLAIM, ("task", "do it"), ("paddock.env", &variables)]);
    let (output, text) = output(child);
    // The command has the process, and its exit code. Nothing else is in its log.
    assert_eq!(text, format!("{id} fast yes\ndo it"), "{output:?}");
    assert_eq!((output.status.code(), &*output.stderr), (Some(7), &b""[..]));
}

/// A Secret that somebody prepared for a warm pod appears before there is a claim, and one of an operator that does not
/// know held containers has no file with variables.
#[test]
fn incomplete_or_prepared_files_start_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut child = held(directory.path(), "echo $MODE");
    let prepared = [("claim.json", r#"{"claim":{"uid":"u0"}}"#), ("paddock.env", "/MODE=evil\0")];
    for version in [
        &[][..],
        &[UNCLAIMED, prepared[0], prepared[1]],
        &[ANNOUNCED, prepared[0], prepared[1]],
        &[ANNOUNCED],
        &[ANNOUNCED, CLAIM],
        &[ANNOUNCED, ("paddock.env", "/MODE=evil\0")],
    ] {
        write(directory.path(), version);
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(child.try_wait().expect("a state").is_none(), "{version:?}");
    }
    write(directory.path(), &[ANNOUNCED, CLAIM, ("paddock.env", "/MODE=fast\0")]);
    assert_eq!(output(child).1, "fast\n");
}

#[test]
fn claim_without_variables_starts_the_command_as_it_is() {
    for version in [&[NOTHING][..], &[ANNOUNCED, CLAIM, NO_VARIABLES]] {
        let directory = tempfile::tempdir().expect("a directory");
        let child = held(directory.path(), "echo $MODE");
        write(directory.path(), version);
        assert_eq!(output(child).1, "slow\n", "{version:?}");
    }
}

/// Otherwise a container whose Secret was deleted would hang with an empty log.
#[test]
fn missing_data_is_reported_in_the_log() {
    let directory = tempfile::tempdir().expect("a directory");
    write(directory.path(), &[ANNOUNCED]);
    let mut child = held(directory.path(), "echo started");
    let mut log = BufReader::new(child.stderr.take().expect("its log")).lines();
    let line = log.next().expect("a line").expect("a text");
    assert!(line.contains("waits for the data of the claim") && line.contains("claim.json"), "{line}");
    write(directory.path(), &[ANNOUNCED, CLAIM, NO_VARIABLES]);
    assert_eq!(output(child).1, "started\n");
    assert!(log.next().is_none(), "one line");
}

fn send(signal: &str, child: &Child) {
    let sent = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().expect("kill");
    assert!(sent.success(), "{signal}");
}

/// Waits until a process handles a signal. The first process of a container never gets another one.
fn until_handled(child: &Child, signal: i32) {
    let handled = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).expect("a status");
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a mask").trim();
        u64::from_str_radix(mask, 16).expect("hexadecimal digits") & 1 << (signal - 1) != 0
    };
    let began = std::time::Instant::now();
    while !handled() {
        assert!(began.elapsed() < std::time::Duration::from_secs(60), "signal {signal} is not handled");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn held_process_ends_by_the_stop_signal_of_its_image() {
    let stops = [
        ("TERM", 15),
        ("INT", 2),
        ("HUP", 1),
        ("QUIT", 3),
        ("ABRT", 6),
        ("ALRM", 14),
        ("USR1", 10),
        ("USR2", 12),
        ("WINCH", 28),
        ("37", 37),
    ];
    let directory = tempfile::tempdir().expect("a directory");
    write(directory.path(), &[UNCLAIMED]);
    let waiting = stops.map(|_| {
        let mut command = init();
        command.stdin(Stdio::null()).arg("--directory").arg(directory.path());
        command.args(["--container", "agent", "--", "echo", "started"]).spawn().expect("it starts")
    });
    for ((signal, number), child) in stops.into_iter().zip(waiting) {
        until_handled(&child, number);
        send(signal, &child);
        let (ended, text) = output(child);
        assert_eq!((ended.status.code(), &*text), (Some(128 + number), ""), "{signal}: {ended:?}");
    }
}

#[test]
fn started_command_gets_its_signals_itself() {
    let directory = tempfile::tempdir().expect("a directory");
    write(directory.path(), &[NOTHING]);
    let mut running =
        held(directory.path(), "trap 'echo caught; exit 3' TERM; echo started; while :; do sleep 0.01; done");
    let mut lines = BufReader::new(running.stdout.take().expect("its output")).lines();
    assert_eq!(lines.next().expect("a line").expect("a text"), "started");
    send("TERM", &running);
    assert_eq!(lines.next().expect("a line").expect("a text"), "caught");
    assert_eq!(running.wait().expect("it ends").code(), Some(3));
}

#[test]
fn command_that_does_not_exist_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    write(directory.path(), &[NOTHING]);
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
    write(directory.path(), &[NOTHING]);
    let mut command = Command::new(&copy);
    command.arg("--directory").arg(directory.path()).args(["--container", "a", "--", "echo", "hello"]);
    assert_eq!(command.output().expect("it runs").stdout, b"hello\n");
    let ended = init().args(["--copy-to", "/no/such/folder/x"]).output().expect("it ends");
    assert!(
        !ended.status.success() && String::from_utf8_lossy(&ended.stderr).contains("/no/such/folder/x"),
        "{ended:?}"
    );
}
