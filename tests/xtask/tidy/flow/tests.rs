//! Each check of the data flow fails on code that violates it.

use super::*;
use crate::packages::Package;

fn project(code: &str) -> Project {
    let package = |name: &str| Package {
        name: name.to_owned(),
        folder: format!("src/{name}"),
        roots: vec![format!("src/{name}/lib.rs")],
        ..Package::default()
    };
    let files = [("src/paddock-operator/lib.rs", code), ("src/paddock-core/lib.rs", "pub enum Observed {}")];
    Project::new(files.into_iter().collect(), vec![package("paddock-operator"), package("paddock-core")]).unwrap()
}

#[test]
fn an_item_with_a_client_must_be_on_the_list_whatever_it_calls_it() {
    for code in [
        "use kube::Client; struct Metrics { client: Client }",
        "struct Metrics(Option<kube::Api<Pod>>);",
        "use kube::{self as k}; impl Metrics { fn new(c: k::Client) {} }",
        "use kube::Client as C; impl Metrics { fn new() { let _ = vec![C::new()]; } }",
        "mod inner { pub use kube::client::Client as C; } use inner::C; static METRICS: C = make();",
    ] {
        let faults = connected(&project(code)).unwrap();
        assert!(faults.iter().any(|f| f.to_lowercase().contains("metrics names kube")), "{code}: {faults:?}");
    }
    let faults = connected(&project("use kube::*;")).unwrap();
    assert!(faults.iter().any(|f| f.contains("hides")), "{faults:?}");
    let faults = connected(&project("struct Failed { api: kube::Error } enum E { Api(kube::Error) }")).unwrap();
    assert!(faults.iter().all(|f| f.contains("names no client")), "{faults:?}");
}

const RECONCILE: &str = "
    struct Reconciler { world: SharedWorld, plugin_client: PluginClient, writer: Writer }
    impl Reconciler {
        async fn reconcile(&self) {
            let snapshot = Arc::new(self.world.snapshot(key, now));
            let answers = self.ask(&snapshot).await;
            let plan = decide(&snapshot, &answers);
            self.writer.execute(&plan).await;
        }
        async fn ask(&self, snapshot: &Snapshot) {
            let asked = tokio::task::spawn_blocking(move || ask(snapshot));
            match asked.await { Ok(_) => {} Err(_) => {} }
        }
    }";

fn faults_with(old: &str, new: &str) -> Vec<String> {
    assert!(RECONCILE.contains(old));
    let items = syn::parse_file(&RECONCILE.replace(old, new)).unwrap().items;
    reconciler(&items.iter().collect::<Vec<_>>()).unwrap()
}

#[test]
fn a_reconcile_that_waits_for_something_else_is_found() {
    assert_eq!(faults_with("", ""), Vec::<String>::new());
    assert_eq!(faults_with("let plan", "get(&snapshot).await; let plan"), ["Reconciler::reconcile awaits get"]);
    assert_eq!(
        faults_with("match asked", "self.plugin_client.look().await; match asked"),
        ["Reconciler::ask awaits self.plugin_client.look"]
    );
    assert_eq!(faults_with("plugin_client: PluginClient", "client: kube::Client").len(), 1);
    assert_eq!(faults_with("plugin_client: PluginClient", "plugin_client: Arc<dyn Fn()>").len(), 2);
    assert_eq!(faults_with("decide(&snapshot", "decide(&other").len(), 1);
    assert_eq!(faults_with("self.world.snapshot(key, now)", "remembered(key)").len(), 1);
}

#[test]
fn a_writer_that_reads_is_found() {
    let requests = "fn request(r: Request) { r.create(a); r.patch(b); r.patch_subresource(c); Request::delete(&r, d) }";
    let code = |sends: &str, requests: &str| {
        format!("use kube::core::Request; struct Writer; impl Writer {{ fn a(&self) {{ {sends} }} }} {requests}")
    };
    let faults = |sends: &str, requests: &str| writer(&project(&code(sends, requests))).unwrap().len();
    assert_eq!(faults("self.client.send(request)", requests), 0);
    assert_eq!(faults("self.client.send(request); self.client.request_text(request)", requests), 1);
    assert_eq!(faults("self.client.send(request); give(&self.client)", requests), 1);
    assert_eq!(faults("self.client.send(request)", &requests.replace("r.create(a)", "r.create(a); r.replace(a)")), 1);
    assert_eq!(
        faults("self.client.send(request)", &requests.replace("r.patch(b)", "r.patch(b); Request::get(&r, b)")),
        1
    );
    let by_hand = "r.create(a); http::Request::builder().method(http::Method::GET)";
    assert_eq!(faults("self.client.send(request)", &requests.replace("r.create(a)", by_hand)), 2);
}

#[test]
fn observation_outside_the_watch_is_found() {
    let good = "use paddock_core::Observed; struct SharedWorld(Observed); impl Watch { fn a(_: Observed) {} } impl \
                CpuUseLists { fn a(_: Observed) {} } impl ConnectionRounds { fn a(_: Observed) {} }";
    assert_eq!(observations(&project(good)).unwrap(), Vec::<String>::new());
    let bad = format!("{good} fn reply() {{ let _ = vec![paddock_core::Observed::Gone]; }}");
    assert_eq!(observations(&project(&bad)).unwrap().len(), 1);
}
