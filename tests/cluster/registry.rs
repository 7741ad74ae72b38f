//! A registry for OCI artifacts on this machine: distribution, built once from its Go module.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::bootstrap::within;
use crate::cache::Cached;
use crate::error::write_private;
use crate::go::{build_program, go_version};
use crate::layout::{Layout, temporary};
use crate::pki::Authority;
use crate::ports::Ports;
use crate::supervisor::Supervisor;
use crate::{Binaries, Process, Result, Spawn};

const REGISTRY: Cached = Cached {
    folder: "registry",
    title: "the registry",
    sources: &[
        ("go.mod", include_str!("registry/go.mod")),
        ("go.sum", include_str!("registry/go.sum")),
        ("main.go", include_str!("registry/main.go")),
    ],
    recipe: "1",
    tools: go_version,
    build: |source, new, _| build_program(source, &new.join(PROGRAM), "the registry", 570),
};

const PROGRAM: &str = "registry";
/// The time limit of a registry's start.
const START: Duration = Duration::from_secs(60);
/// The hash of [`Registry::PASSWORD`] for its file of users. Its cost is low, because each request computes it.
const PASSWORD_HASH: &str = "$2b$05$abcdefghijklmnopqrstuuSnF5tLPqPFqc0z9CY0HcSLFbSRlL67u";

/// The way in which a registry is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistryAccess {
    /// With TLS, for a user with a password.
    Protected,
    /// Without TLS, for everybody.
    Plain,
}

/// A running registry with a storage of its own. It ends with this value.
pub struct Registry {
    host: String,
    authority: String,
    layout: Layout,
    process: Process,
    _ports: Ports,
}

impl Registry {
    /// The only user of a protected registry.
    pub const USER: &str = "plugins";
    /// The password of the user.
    pub const PASSWORD: &str = "correct-horse-battery";

    /// Starts a registry. Its program is built first if this machine has not done so yet.
    ///
    /// # Errors
    /// If the program cannot be built, or does not listen in time.
    pub async fn start(access: RegistryAccess) -> Result<Self> {
        let program = REGISTRY.ready_async().await?.join(PROGRAM);
        let binaries = Binaries::ready_async().await?;
        let folder = temporary("paddock-registry-")?;
        let layout = Layout::create(folder.path())?;
        let ports = Ports::reserve()?;
        let host = format!("127.0.0.1:{}", ports.next()?);
        let authority = Authority::new("paddock-registry")?;
        let config = configuration(&layout, &host, &authority, access)?;
        let supervisor = Supervisor::start(&binaries, &layout)?;
        let _ = folder.keep(); // the supervisor removes it from here on
        let spawn = Spawn::new(PROGRAM, program).args(["serve".into(), config]).env("OTEL_TRACES_EXPORTER", "none");
        let process = Process::begin(&Arc::new(supervisor), spawn.start(&layout, true)?).await?;
        within(START, "a listening registry", layout.logs(), process.until(listens(&host))).await?;
        Ok(Self { host, authority: authority.certificate, layout, process, _ports: ports })
    }

    /// The host with its port, as a reference contains it.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The certificate of the authority that signed that of the registry, in PEM format.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The file with the content of a blob, by its digest `sha256:HEX`.
    #[must_use]
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.rsplit(':').next().unwrap_or_default();
        let start = hex.get(..2).unwrap_or_default();
        storage(&self.layout).join(format!("docker/registry/v2/blobs/sha256/{start}/{hex}/data"))
    }

    /// The process, for tests that stop it or start it again.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }
}

fn storage(layout: &Layout) -> PathBuf {
    layout.file("storage")
}

/// Writes the files of the registry. Returns the path of its configuration.
fn configuration(layout: &Layout, host: &str, authority: &Authority, access: RegistryAccess) -> Result<PathBuf> {
    let users = layout.file("users");
    write_private(&users, &format!("{}:{PASSWORD_HASH}\n", Registry::USER))?;
    let protected = match access {
        RegistryAccess::Protected => {
            authority.server("registry", &[], &[])?.write(&layout.pki(), "registry")?;
            let file = |name: &str| shown(&layout.pki().join(name));
            let tls = format!("  tls: {{certificate: {}, key: {}}}\n", file("registry.crt"), file("registry.key"));
            tls + &format!("auth: {{htpasswd: {{realm: registry, path: {}}}}}\n", shown(&users))
        }
        RegistryAccess::Plain => String::new(),
    };
    let storage = shown(&storage(layout));
    let config = layout.file("config.yaml");
    let text = format!(
        "version: 0.1\nlog: {{level: warn, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {storage}}}, delete: {{enabled: true}}}}\n\
         http:\n  addr: {host}\n  secret: of-this-process-alone\n{protected}"
    );
    write_private(&config, &text)?;
    Ok(config)
}

/// A path as a string of YAML.
fn shown(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

/// Waits until a program listens.
async fn listens(host: &str) -> Result<()> {
    while TcpStream::connect(host).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
