//! Tests against a real API server, with the `paddock` binary as a process that has its ServiceAccount's rights.
//!
//! One control plane is shared by all tests of a run ([`setup`]), each in a namespace of its own; tests that kill
//! the operator or break its connection have another ([`faults`]). Nothing here shares code with the core: objects
//! are JSON, names are written out, so that the tests would notice if the wire changed. Waits are on predicates,
//! through watches.

/// A path in the source tree.
macro_rules! root {
    ($path:literal) => {
        concat!(env!("CARGO_MANIFEST_DIR"), "/../", $path)
    };
}

/// Makes tests of functions, each called after its module and itself.
macro_rules! named {
    ($($test:ident),+ $(,)?) => {
        vec![$($crate::e2e::test(concat!(module_path!(), "::", stringify!($test)), $test)),+]
    };
}

mod burst;
mod claim;
mod crds;
mod deploy;
mod faults;
mod forgery;
mod http;
mod idle;
mod json;
mod kinds;
mod latency;
mod manifests;
mod model;
mod namespace;
mod observe;
mod operator;
mod oracle;
mod plugins;
mod pool;
mod programs;
mod proxy;
mod sandbox;
mod sdk;
mod setup;
mod unusable;
mod webhook;
mod writes;

use std::sync::OnceLock;

use tokio::runtime::Runtime;

use crate::framework::{self, Test};

/// Every test of this part.
pub(crate) fn tests() -> Vec<Test> {
    let parts = [
        crds::tests(),
        sandbox::tests(),
        pool::tests(),
        claim::tests(),
        unusable::tests(),
        idle::tests(),
        plugins::tests(),
        webhook::tests(),
        forgery::tests(),
        observe::tests(),
        oracle::judged::tests(),
        model::tests(),
        faults::tests(),
        deploy::tests(),
        sdk::tests(),
        writes::tests(),
    ];
    parts.into_iter().flatten().collect()
}

/// One test, run on the runtime that all share: connections belong to the runtime that made them.
fn test<F>(path: &'static str, body: impl FnOnce() -> F + Send + 'static) -> Test
where
    F: Future<Output = ()>,
{
    // Without the name of the test binary, which is the first part of a module's path.
    let name = path.split_once("::").map_or(path, |(_, rest)| rest);
    framework::test(name, move || {
        // Futures are large without optimisation: the usual 2 MiB of a thread's stack are not enough.
        let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(32 << 20);
        let done = thread.spawn(move || runtime().block_on(body()))?.join();
        done.map_err(|panic| std::panic::resume_unwind(panic))
    })
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
    })
}
