//! The control plane that all tests of a run share, with the CRDs, the operator and its webhook.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use paddock_cluster::{BESIDE, Cluster, Options, PATIENCE, RuntimeClass};
use tokio::sync::OnceCell;

use super::namespace::TestNamespace;
use super::operator::{self, Operator, Plan};
use super::programs;

/// A control plane with an operator.
pub(crate) struct Setup {
    pub(crate) cluster: Cluster,
    pub(crate) operator: Operator,
    /// The directory that the operator watches for plugins.
    pub(crate) plugins: PathBuf,
}

/// The shared control plane. It ends with the process.
pub(crate) async fn setup() -> &'static Setup {
    static SETUP: OnceCell<Setup> = OnceCell::const_new();
    static TRIED: AtomicBool = AtomicBool::new(false);
    let start = || {
        assert!(!TRIED.swap(true, Ordering::Relaxed), "it did not start for the first test that needed it");
        Setup::start()
    };
    SETUP.get_or_init(start).await
}

/// Creates a namespace on the shared control plane.
pub(crate) async fn namespace(name: &str) -> TestNamespace {
    TestNamespace::new(&setup().await.cluster, name).await
}

impl Setup {
    async fn start() -> Self {
        // Priority and fairness limits requests, as API servers do by default. The cluster for bursts does not have it.
        let mut options = Options { audit: true, priority_and_fairness: true, ..Options::default().with_isolation() };
        // A RuntimeClass that does not isolate. All shared objects exist from the start, because adding one later would
        // affect the other tests.
        options.runtime_classes.push(RuntimeClass { name: "host".to_owned(), handler: "runc".to_owned() });
        let (cluster, account) = control_plane_with_optional_rights(options).await;
        let plugins = cluster.dir().join("plugins");
        std::fs::create_dir(&plugins).expect("a directory");
        let mut flags = operator::admitting(&cluster);
        flags.push(format!("--plugin-dir={}", plugins.display()));
        flags.push("--throttle-cpu=10m".to_owned());
        flags.push("--cpu-metrics-interval=1s".to_owned());
        let plan = Plan { name: "operator", kubeconfig: &account, flags };
        let operator = Operator::start(&cluster, plan).await;
        Self { cluster, operator, plugins }
    }
}

/// Starts a control plane with the CRDs and the operator's rights, and returns a kubeconfig with these rights.
pub(crate) async fn control_plane(options: Options) -> (Cluster, PathBuf) {
    control_plane_with(options, &BESIDE).await
}

/// The same with the rights that are off by default.
pub(crate) async fn control_plane_with_optional_rights(options: Options) -> (Cluster, PathBuf) {
    control_plane_with(options, &[&BESIDE[..], &["--claim-data", "--throttle"]].concat()).await
}

/// The same for flags of `paddock manifests`.
pub(crate) async fn control_plane_with(options: Options, flags: &[&str]) -> (Cluster, PathBuf) {
    // The build is first, because it takes longest and can fail.
    programs::paddock().await;
    let cluster = Cluster::start(options).await.expect("a control plane");
    install(&cluster).await;
    let account = operator::rights_with(&cluster, flags).await;
    (cluster, account)
}

/// Installs the CRDs as documented.
pub(crate) async fn install(cluster: &Cluster) {
    let kubectl = cluster.kubectl();
    let crds = root!("crds");
    kubectl.run(&["apply", "--server-side", "-f", crds], None).await.expect("the CRDs are accepted");
    let timeout = format!("--timeout={}s", PATIENCE.as_secs());
    let established = ["wait", "--for=condition=Established", &timeout, "-f", crds];
    kubectl.run(&established, None).await.expect("the CRDs are established");
}
