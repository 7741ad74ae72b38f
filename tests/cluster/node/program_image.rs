//! An image of one program of this machine, as `FROM scratch` with an entrypoint makes it.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::archive::{Image, Layer};
use super::build::PROGRAMS;
use super::run;
use crate::{Cluster, Error, Result};

/// The user of the image, who has no rights.
const USER: u32 = 65532;

impl Cluster {
    /// Makes an image of a program with its shared libraries, and gives the image to the real node. The program is the
    /// entrypoint, and its user is not root. `reference` is the name in manifests.
    ///
    /// # Errors
    /// Returns an error if the cluster has no real node, or if the program cannot be read.
    pub async fn add_program_image(&self, reference: &str, program: &Path) -> Result<()> {
        let first = self.process("node")?.children().first().copied();
        let first = first.ok_or_else(|| Error::Supervisor("the node has no first process".to_owned()))?;
        let name = whole(reference);
        let (program, archive) = (program.to_owned(), self.dir().join("program-image.tar"));
        let work = move || {
            make(&name, &program, &archive)?;
            import(first, &archive)
        };
        tokio::task::spawn_blocking(work).await.map_err(Error::format("making an image"))?
    }
}

/// A reference with its registry, as containerd keeps it. The first part is a registry only if it looks like a host.
fn whole(reference: &str) -> String {
    match reference.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => reference.to_owned(),
        Some(_) => format!("docker.io/{reference}"),
        None => format!("docker.io/library/{reference}"),
    }
}

fn make(reference: &str, program: &Path, archive: &Path) -> Result<()> {
    let folder = crate::layout::temporary("paddock-image-")?;
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let stripped = folder.path().join("program");
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(&stripped).arg(program);
    run(strip)?;
    let mut layer = Layer::new();
    layer.file(&name, &stripped)?;
    for library in libraries(program)? {
        let real = std::fs::canonicalize(&library).map_err(Error::io(format!("reading {}", library.display())))?;
        layer.file(library.to_string_lossy().trim_start_matches('/'), &real)?;
    }
    let layer = layer.finish(&[], &[("nonroot", USER, "/")])?;
    let (entrypoint, user) = (format!("/{name}"), format!("{USER}:{USER}"));
    let image = Image { reference, entrypoint: &[&entrypoint], user: &user, layer: &layer, ..Image::default() };
    image.write(archive)
}

/// The shared libraries of a program, and the loader, as absolute paths. A static program has none.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let mut ldd = Command::new("ldd");
    ldd.arg(program);
    let output = match run(ldd) {
        Err(Error::Command { stderr, .. }) if stderr.contains("not a dynamic executable") => String::new(),
        other => other?,
    };
    Ok(output.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

/// Imports an archive into containerd, whose socket is in the file system of the node.
fn import(first: u32, archive: &Path) -> Result<()> {
    let mut ctr = Command::new(PROGRAMS.ready()?.join("ctr"));
    ctr.arg("--address").arg(format!("/proc/{first}/root/run/containerd/containerd.sock"));
    ctr.args(["-n", "k8s.io", "images", "import", "--local"]).arg(archive);
    run(ctr).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_without_a_registry_is_one_of_docker_hub() {
        for (short, long) in [
            ("paddock:v0.1.0", "docker.io/library/paddock:v0.1.0"),
            ("team/paddock:1", "docker.io/team/paddock:1"),
            ("paddock.test/agent:1", "paddock.test/agent:1"),
            ("localhost/agent:1", "localhost/agent:1"),
            ("registry:5000/agent", "registry:5000/agent"),
        ] {
            assert_eq!(whole(short), long);
        }
    }

    // Only glibc has `ldd` and a loader of this name.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[test]
    fn libraries_of_a_program_are_absolute_paths_with_the_loader() {
        let found = libraries(&std::env::current_exe().unwrap()).unwrap();
        assert!(found.iter().all(|path| path.is_absolute()), "{found:?}");
        assert!(found.iter().any(|path| path.to_string_lossy().contains("ld-linux")), "{found:?}");
    }
}
