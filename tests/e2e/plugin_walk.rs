//! Runs the commands of `docs/plugins/ship-a-plugin.md` against a real API server and a real registry, and compares their
//! output with the page.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use paddock_cluster::Registry;
use serde_json::json;

use super::plugin_registry::{Scene, authority, scene};
use super::programs;
use crate::framework::{Capability, Test};
use crate::walk::{Workplace, follow, shows};

pub(super) fn tests() -> Vec<Test> {
    let tests = named![plugin_is_shipped_and_rolled_back_as_the_page_says];
    tests.into_iter().map(|test| test.needs([Capability::Program("cargo")])).collect()
}

const PAGE: &str = include_str!("../../docs/plugins/ship-a-plugin.md");
/// The registry of the page. The test has another one.
const EXAMPLE: &str = "registry.example.com";

async fn plugin_is_shipped_and_rolled_back_as_the_page_says() {
    shows(PAGE, &["paddock plugin new", "paddock plugin push", "paddock plugin sign", "kubectl patch"])
        .expect("a whole page");
    assert!(PAGE.contains(&format!("--docker-username={}", Registry::USER)), "the page names the user of the registry");
    let scene = scene().await;
    let program = programs::paddock().await;
    let folder = scene.cluster.dir().join("walk");
    std::fs::create_dir(&folder).expect("a folder");
    // The login of `docker login`.
    let login = BASE64_STANDARD.encode(format!("{}:{}", Registry::USER, Registry::PASSWORD));
    let config = json!({ "auths": { scene.registry.host(): { "auth": login } } });
    std::fs::write(folder.join("config.json"), config.to_string()).expect("a file");
    let page = PAGE.replace(EXAMPLE, scene.registry.host());
    let done = tokio::task::spawn_blocking(move || {
        let workplace = workplace(scene, &program, folder).expect("a workplace");
        follow(&workplace, &page)
    });
    done.await.expect("the page is followed").expect("the page is right");
}

/// A machine that is logged in to the registry and trusts it, and whose kubectl reaches the cluster.
fn workplace(scene: &Scene, program: &Path, login: PathBuf) -> Result<Workplace, Box<dyn std::error::Error>> {
    let mut workplace = Workplace::new()?;
    let kubectl = scene.cluster.kubectl();
    symlink(kubectl.program(), workplace.programs().join("kubectl"))?;
    // Only the commands about registries trust its authority and no other. The build downloads crates.
    let script = format!(
        "#!/bin/sh\ncase \"$2\" in push | sign) export SSL_CERT_FILE='{}' ;; esac\nexec '{}' \"$@\"\n",
        authority(&scene.cluster, "steady").display(),
        program.display()
    );
    let paddock = workplace.programs().join("paddock");
    std::fs::remove_file(&paddock)?;
    std::fs::write(&paddock, script)?;
    std::fs::set_permissions(&paddock, std::fs::Permissions::from_mode(0o755))?;
    workplace.variables = vec![
        ("DOCKER_CONFIG", login.into()),
        ("KUBECONFIG", scene.cluster.kubeconfig().into()),
        ("REGISTRY_PASSWORD", Registry::PASSWORD.into()),
    ];
    Ok(workplace)
}
