//! Sandboxes on a real node: containers under runc and gVisor, volumes with files, and connections to pods.
//!
//! The tests share one cluster with a node and an operator ([`scene`]). Each test has its own namespace.

mod claim_data;
mod deployed;
mod isolation;
mod kernel;
mod lifecycle;
mod network;
mod policies;
mod reach;
mod sdk;
mod seed;
mod tcp_wake;
mod throttle;

use std::sync::atomic::{AtomicBool, Ordering};

use paddock_cluster::{Cluster, Options};
use tokio::sync::OnceCell;

use super::namespace::TestNamespace;
use super::operator::{self, Operator, Plan};
use super::programs;
use super::setup::control_plane_with_optional_rights;
use crate::framework::{Capability, Test};

pub(super) fn tests() -> Vec<Test> {
    let parts = [
        kernel::tests(),
        deployed::tests(),
        network::tests(),
        policies::tests(),
        isolation::tests(),
        seed::tests(),
        lifecycle::tests(),
        claim_data::tests(),
        throttle::tests(),
        // Last, because their second cluster with a node lasts until the process ends.
        sdk::tests(),
    ];
    parts.into_iter().flatten().map(|test| test.needs([Capability::RealNode])).collect()
}

/// A cluster with a real node, and an operator.
struct Scene {
    cluster: Cluster,
    _operator: Operator,
}

/// The cluster that these tests share. It ends with the process.
async fn scene() -> &'static Scene {
    static SCENE: OnceCell<Scene> = OnceCell::const_new();
    static TRIED: AtomicBool = AtomicBool::new(false);
    let start = || {
        assert!(!TRIED.swap(true, Ordering::Relaxed), "it did not start for the first test that needed it");
        Scene::start()
    };
    SCENE.get_or_init(start).await
}

async fn namespace(name: &str) -> TestNamespace {
    TestNamespace::new(&scene().await.cluster, name).await
}

impl Scene {
    async fn start() -> Self {
        let (cluster, account) = control_plane_with_optional_rights(Options::default().with_node()).await;
        let init = programs::paddock_init().await;
        cluster.add_program_image("paddock-init:1", &init).await.expect("the image of paddock-init");
        let mut flags = operator::admitting(&cluster);
        flags.push("--init-image=paddock-init:1".to_owned());
        flags.push("--throttle-cpu=10m".to_owned());
        let plugins = cluster.dir().join("plugins");
        throttle::install_plugin(&plugins);
        flags.push(format!("--plugin-dir={}", plugins.display()));
        let plan = Plan { name: "operator", kubeconfig: &account, flags };
        let operator = Operator::start(&cluster, plan).await;
        Self { cluster, _operator: operator }
    }
}
