//! Builds the control plane's one Go binary into the user's cache folder.
//!
//! The Go sources are embedded in this crate's library, so the build does not depend on the current folder. A folder in
//! the cache is named after a hash of the sources and of the Go version. A lock prevents two builds at the same time.
//! The folder `bin` is complete when it appears, because it is renamed into place. A note beside the folders contains
//! the key of the last build of these sources, so that it is found without Go.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use sha2::{Digest as _, Sha256};

use crate::{Error, Program, Result};

const SOURCES: [(&str, &str); 8] = [
    ("go.mod", include_str!("control-plane/go.mod")),
    ("go.sum", include_str!("control-plane/go.sum")),
    ("main.go", include_str!("control-plane/main.go")),
    ("kwok.go", include_str!("control-plane/kwok.go")),
    ("provision.go", include_str!("control-plane/provision.go")),
    ("supervise.go", include_str!("control-plane/supervise.go")),
    ("children_linux.go", include_str!("control-plane/children_linux.go")),
    ("children_other.go", include_str!("control-plane/children_other.go")),
];

/// A part of the folder's name. It is raised when the command line of the build changes.
const RECIPE: &str = "1";

/// The interval at which a build, or the wait for another build, reports its progress.
const REPORT_EVERY: Duration = Duration::from_secs(15);

/// The number of packages in a full build, counted once. It only helps users to estimate the time.
const PACKAGES: usize = 2_830;

/// A build that was not used for this time is removed when a new one is made.
const KEEP_UNUSED: Duration = Duration::from_secs(30 * 24 * 3600);

/// The folder with the programs, which are built if necessary. Blocks.
pub(crate) fn ready() -> Result<PathBuf> {
    ready_in(&root()?)
}

/// Whether the programs are built, so that [`ready`] returns at once.
pub(crate) fn built() -> bool {
    root().is_ok_and(|root| {
        noted(&root).is_some() || Plan::of_go(&root).is_ok_and(|plan| plan.folder.join("bin").is_dir())
    })
}

fn root() -> Result<PathBuf> {
    Ok(cache_folder()?.join("control-plane"))
}

/// The sources, the Go version and the target folder of a build.
struct Plan {
    source_folder: PathBuf,
    version: String,
    key: String,
    folder: PathBuf,
}

impl Plan {
    /// Asks Go for its version.
    fn of_go(root: &Path) -> Result<Self> {
        let sources = sources();
        let source_folder = root.join(format!("src-{sources}"));
        write_sources(&source_folder)?;
        let version = go_version(&source_folder)?;
        let key = hash([sources.as_str(), &version, std::env::consts::OS, std::env::consts::ARCH]);
        let folder = root.join(&key);
        Ok(Self { source_folder, version, key, folder })
    }
}

fn sources() -> String {
    hash(SOURCES.iter().flat_map(|(name, text)| [*name, *text]).chain([RECIPE]))
}

/// The file with the key of the build of these sources for this machine.
fn note(root: &Path) -> PathBuf {
    root.join(format!("built-{}-{}-{}", sources(), std::env::consts::OS, std::env::consts::ARCH))
}

/// The folder with the programs, if they were built before and still exist.
fn noted(root: &Path) -> Option<PathBuf> {
    let key = std::fs::read_to_string(note(root)).ok()?;
    let folder = root.join(key.trim());
    let bin = folder.join("bin");
    if key.trim().is_empty() || !bin.is_dir() {
        return None;
    }
    used(&folder);
    Some(bin)
}

/// The modification time records the last use. A failure does no harm.
fn used(folder: &Path) {
    let _ = File::open(folder).and_then(|f| f.set_modified(SystemTime::now()));
}

fn ready_in(root: &Path) -> Result<PathBuf> {
    if let Some(bin) = noted(root) {
        return Ok(bin);
    }
    let Plan { source_folder, version, key, folder } = Plan::of_go(root)?;
    let bin = folder.join("bin");
    if !bin.is_dir() {
        std::fs::create_dir_all(&folder).map_err(Error::io(format!("making {}", folder.display())))?;
        let lock = lock(&folder.join("lock"))?;
        if !bin.is_dir() {
            compile(&source_folder, &folder, &version)?;
            remove_unused(root, &[&folder, &source_folder]);
        }
        drop(lock);
    }
    used(&folder);
    // Without the note, the next run only asks Go for its version again.
    let _ = put(&note(root), &key);
    Ok(bin)
}

/// The folder `paddock` in the user's cache folder, as in the XDG base directory specification.
pub(crate) fn cache_folder() -> Result<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("paddock"))
        .ok_or_else(|| Error::Input {
            field: "HOME",
            problem: "neither XDG_CACHE_HOME nor HOME is set to an absolute path: set one".into(),
        })
}

/// The version of a module that go.mod requires.
pub(crate) fn module_version(module: &str) -> &'static str {
    SOURCES[0]
        .1
        .lines()
        .filter_map(|line| line.trim().split_once(' '))
        .find_map(|(name, version)| (name == module).then_some(version))
        .unwrap_or("v0.0.0")
}

fn write_sources(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::io(format!("making {}", folder.display())))?;
    for (name, text) in SOURCES {
        let file = folder.join(name);
        if std::fs::read(&file).is_ok_and(|there| there == text.as_bytes()) {
            continue;
        }
        put(&file, text).map_err(Error::io(format!("writing {}", file.display())))?;
    }
    Ok(())
}

/// Writes a file by a rename, because another process may be reading it.
fn put(file: &Path, text: &str) -> std::io::Result<()> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let new = file.with_file_name(format!(".{name}.{}", std::process::id()));
    std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, file))
}

/// The command `go` without the environment variables that could change the result.
fn go(folder: &Path) -> Command {
    let mut command = Command::new("go");
    command.current_dir(folder).env("GOFLAGS", "").env("GOWORK", "off").env("CGO_ENABLED", "0");
    for foreign in ["GOOS", "GOARCH", "GOEXPERIMENT"] {
        command.env_remove(foreign);
    }
    command.stdin(Stdio::null());
    command
}

fn go_version(folder: &Path) -> Result<String> {
    let output = match go(folder).args(["env", "GOVERSION"]).output() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(Error::GoMissing),
        other => other.map_err(Error::io("running go"))?,
    };
    if !output.status.success() {
        return Err(Error::Build {
            command: "go env GOVERSION".into(),
            tail: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Takes the lock, and reports at intervals that it waits for the build of another process.
fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).map_err(Error::io(format!("making {}", path.display())))?;
    let began = Instant::now();
    let mut reported = None;
    while let Err(e) = file.try_lock() {
        match e {
            std::fs::TryLockError::WouldBlock => {}
            std::fs::TryLockError::Error(e) => return Err(Error::io("locking the build")(e)),
        }
        if reported.is_none_or(|at: Instant| at.elapsed() >= REPORT_EVERY) {
            report(&format!(
                "another process is building the local control plane, waiting for it ({})",
                clock(began.elapsed())
            ));
            reported = Some(Instant::now());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(file)
}

fn compile(source: &Path, folder: &Path, go_version: &str) -> Result<()> {
    let began = Instant::now();
    report(&format!(
        "building a local control plane: Kubernetes {}, etcd {}, kwok {}, with {go_version}. Once, about \
         6 minutes on two cores; it goes to {}",
        module_version("k8s.io/kubernetes"),
        module_version("go.etcd.io/etcd/server/v3"),
        module_version("sigs.k8s.io/kwok"),
        folder.display()
    ));
    let new = folder.join("new");
    let _ = std::fs::remove_dir_all(&new); // of an interrupted build
    std::fs::create_dir_all(&new).map_err(Error::io(format!("making {}", new.display())))?;
    let binary = new.join("control-plane");
    let mut command = go(source);
    command.args(["build", "-v", "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags"]);
    command.arg(linker_flags()).arg("-o").arg(&binary).arg(".");
    run_reporting(command, began)?;
    for program in Program::ALL {
        std::os::unix::fs::symlink("control-plane", new.join(program.name()))
            .map_err(Error::io(format!("linking {}", program.name())))?;
    }
    std::fs::rename(&new, folder.join("bin")).map_err(Error::io("finishing the build"))?;
    report(&format!("the local control plane is built ({})", clock(began.elapsed())));
    Ok(())
}

/// Strips the binary and sets the version of Kubernetes. Without it, the API server reports v0.0.0, and clients that
/// check the version fail.
fn linker_flags() -> String {
    let kubernetes = module_version("k8s.io/kubernetes");
    let mut numbers = kubernetes.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or("0"), numbers.next().unwrap_or("0"));
    let package = "k8s.io/component-base/version";
    format!(
        "-s -w -X {package}.gitVersion={kubernetes} -X {package}.gitMajor={major} -X {package}.gitMinor={minor} \
         -X {package}.gitTreeState=clean -X sigs.k8s.io/kwok/pkg/consts.Version={}",
        module_version("sigs.k8s.io/kwok")
    )
}

/// Runs `go build -v`, which prints each package that it compiles, and reports the progress.
fn run_reporting(mut command: Command, began: Instant) -> Result<()> {
    let mut child =
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(Error::io("starting go build"))?;
    let compiled = AtomicUsize::new(0);
    let downloaded = AtomicUsize::new(0);
    let done = AtomicBool::new(false);
    let mut rest = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut next = REPORT_EVERY;
            while !done.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(200));
                if began.elapsed() >= next {
                    next += REPORT_EVERY;
                    report(&format!(
                        "{}: {} modules downloaded, {} of about {PACKAGES} packages compiled",
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
    Err(Error::Build { command: "go build".into(), tail: rest[from..].join("\n") })
}

/// Removes builds that were not used for a long time. A failure is ignored.
fn remove_unused(root: &Path, current: &[&Path]) {
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let path = entry.path();
        let old = entry
            .metadata()
            .and_then(|m| m.modified())
            .is_ok_and(|at| at.elapsed().is_ok_and(|unused| unused > KEEP_UNUSED));
        if old && !current.contains(&path.as_path()) {
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

/// A hash of 16 hexadecimal digits, which is enough for a handful of builds.
fn hash<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.len().to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn clock(elapsed: Duration) -> String {
    format!("{}:{:02}", elapsed.as_secs() / 60, elapsed.as_secs() % 60)
}

/// Writes directly to standard error. The test harness captures `eprintln!`, and a user who waits for minutes must see
/// the reason.
pub(crate) fn report(line: &str) {
    let _ = writeln!(std::io::stderr(), "paddock-cluster: {line}");
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn built_binaries_are_found_without_go() {
        let root = tempfile::tempdir().unwrap();
        let bin = root.path().join("one/bin");
        std::fs::create_dir_all(&bin).unwrap();
        assert_eq!(noted(root.path()), None, "nothing is noted");
        put(&note(root.path()), "one").unwrap();
        // Go would name another folder after its version, and would have to build it.
        assert_eq!(ready_in(root.path()).unwrap(), bin);
        std::fs::remove_dir(&bin).unwrap();
        assert_eq!(noted(root.path()), None, "what was noted is gone");
    }
}
