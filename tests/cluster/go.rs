//! The command `go`, with a report of its progress.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::cache::{REPORT_EVERY, clock, report};
use crate::{Error, Result};

/// The command `go` without the environment variables that could change the result.
pub(crate) fn go(folder: &Path) -> Command {
    let mut command = Command::new("go");
    command.current_dir(folder).env("GOFLAGS", "").env("GOWORK", "off").env("CGO_ENABLED", "0");
    for foreign in ["GOOS", "GOARCH", "GOEXPERIMENT"] {
        command.env_remove(foreign);
    }
    command.stdin(Stdio::null());
    command
}

/// The command `go build` with the flags of every build. It takes the versions from go.mod and go.sum and never changes
/// these files, and it strips the program. `linker_flags` are added to the linker's.
pub(crate) fn go_build(folder: &Path, linker_flags: &str) -> Command {
    let mut command = go(folder);
    command.args(["build", "-v", "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags"]);
    command.arg(format!("-s -w {linker_flags}"));
    command
}

/// The version of Go.
pub(crate) fn go_version(folder: &Path) -> Result<String> {
    let output = match go(folder).args(["env", "GOVERSION"]).output() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(Error::GoMissing),
        other => other.map_err(Error::io("running go"))?,
    };
    if !output.status.success() {
        return Err(Error::Build {
            what: "with Go".to_owned(),
            command: "go env GOVERSION".into(),
            tail: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The version of a module that a go.mod requires.
pub(crate) fn module_version(go_mod: &'static str, module: &str) -> &'static str {
    go_mod
        .lines()
        .filter_map(|line| line.trim().trim_start_matches("require ").split_once(' '))
        .find_map(|(name, version)| (name == module).then_some(version))
        .map_or("v0.0.0", |version| version.trim_end_matches("// indirect").trim())
}

/// The linker's flags that set the version of Kubernetes. Without it, the API server reports v0.0.0, and clients that
/// check the version fail.
pub(crate) fn kubernetes_version_flags(version: &str) -> String {
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or("0"), numbers.next().unwrap_or("0"));
    let package = "k8s.io/component-base/version";
    format!(
        "-X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor} \
         -X {package}.gitTreeState=clean"
    )
}

/// Builds the program of the module in a folder. `packages` is that of [`run_reporting`].
pub(crate) fn build_program(folder: &Path, program: &Path, what: &str, packages: usize) -> Result<()> {
    let mut command = go_build(folder, "");
    command.arg("-o").arg(program).arg(".");
    run_reporting(command, what, packages, Instant::now())
}

/// Runs `go build -v`, which prints each package that it compiles, and reports the progress. `packages` is the number
/// of packages in a full build, counted once. It only helps users to estimate the time.
pub(crate) fn run_reporting(mut command: Command, what: &str, packages: usize, began: Instant) -> Result<()> {
    let mut child =
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(Error::io("starting go build"))?;
    let compiled = AtomicUsize::new(0);
    let downloaded = AtomicUsize::new(0);
    let done = AtomicBool::new(false);
    let mut rest = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut next = began.elapsed() + REPORT_EVERY;
            while !done.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(200));
                if began.elapsed() >= next {
                    next += REPORT_EVERY;
                    report(&format!(
                        "{}: {what}: {} modules downloaded, {} of about {packages} packages compiled",
                        clock(began.elapsed()),
                        downloaded.load(Ordering::Relaxed),
                        compiled.load(Ordering::Relaxed)
                    ));
                }
            }
        });
        if let Some(stderr) = child.stderr.take() {
            for line in BufReader::new(stderr).lines().map_while(std::io::Result::ok) {
                if line.starts_with("go: downloading ") {
                    downloaded.fetch_add(1, Ordering::Relaxed);
                } else if line.contains([' ', ':']) {
                    rest.push(line);
                } else {
                    compiled.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    let status = child.wait().map_err(Error::io("waiting for go build"))?;
    if status.success() {
        return Ok(());
    }
    let from = rest.len().saturating_sub(30);
    Err(Error::Build { what: what.to_owned(), command: "go build".into(), tail: rest[from..].join("\n") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_in_every_form_of_a_requirement() {
        let file = "module x\n\nrequire one.example/a v1.2.3\n\nrequire (\n\ttwo.example/b v0.4.0 // indirect\n)\n";
        for (module, version) in [("one.example/a", "v1.2.3"), ("two.example/b", "v0.4.0"), ("c", "v0.0.0")] {
            assert_eq!(module_version(file, module), version);
        }
    }
}
