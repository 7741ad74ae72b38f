//! Tests against a real API server, with the `paddock` binary as a process that has the rights of its ServiceAccount.
//!
//! All tests of a run share one control plane ([`setup`]), and each test has its own namespace. Tests that kill the
//! operator or break its connection have another control plane ([`faults`]). The tests share no code with the core.
//! Objects are JSON and names are written out, so the tests notice a change on the wire. Tests wait for predicates,
//! through watches.

/// A path in the source tree.
macro_rules! root {
    ($path:literal) => {
        concat!(env!("CARGO_MANIFEST_DIR"), "/../", $path)
    };
}

/// Makes tests from functions. The name of a test is its module and its function.
macro_rules! named {
    ($($test:ident),+ $(,)?) => {
        vec![$($crate::e2e::test(concat!(module_path!(), "::", stringify!($test)), $test)),+]
    };
}

mod audit;
mod burst;
mod children;
mod claim;
mod claim_data;
mod connections;
mod contract;
mod cpu_use;
mod crds;
mod deploy;
mod elsewhere;
mod faults;
mod forgery;
mod gateway;
mod gateway_load;
mod gateway_tokens;
mod guard;
mod http;
mod idle;
mod isolation;
mod isolation_policies;
mod isolation_rules;
mod json;
mod kinds;
mod large;
mod latency;
mod manifests;
mod model;
mod namespace;
mod network_policy;
mod observe;
mod operator;
mod oracle;
mod owners;
mod plugin_artifacts;
mod plugin_objects;
mod plugin_registry;
mod plugin_settings;
mod plugin_walk;
mod plugins;
mod policies;
mod pool;
pub(crate) mod programs;
mod proxy;
mod real_node;
mod registration;
mod replay;
mod reviews;
mod rights;
mod sandbox;
mod sdk;
mod setup;
mod tcp_wake;
mod touched;
mod traces;
mod unusable;
mod wake;
mod webhook;
mod whole_status;
mod writes;

use std::sync::OnceLock;

use tokio::runtime::Runtime;

use crate::framework::{self, Test};

/// All tests of this part.
pub(crate) fn tests() -> Vec<Test> {
    let parts = [
        crds::tests(),
        audit::tests(),
        sandbox::tests(),
        pool::tests(),
        claim::tests(),
        claim_data::tests(),
        contract::tests(),
        whole_status::tests(),
        network_policy::tests(),
        gateway::tests(),
        gateway_load::tests(),
        gateway_tokens::tests(),
        tcp_wake::tests(),
        wake::tests(),
        children::tests(),
        traces::tests(),
        unusable::tests(),
        large::tests(),
        touched::tests(),
        idle::tests(),
        cpu_use::tests(),
        connections::tests(),
        plugins::tests(),
        plugin_artifacts::tests(),
        plugin_objects::tests(),
        plugin_registry::tests(),
        plugin_settings::tests(),
        plugin_walk::tests(),
        policies::tests(),
        guard::tests(),
        webhook::tests(),
        isolation::tests(),
        isolation_policies::tests(),
        isolation_rules::tests(),
        forgery::tests(),
        observe::tests(),
        oracle::tests::tests(),
        model::tests(),
        faults::tests(),
        deploy::tests(),
        owners::tests(),
        rights::tests(),
        registration::tests(),
        replay::tests(),
        reviews::tests(),
        elsewhere::tests(),
        real_node::tests(),
        sdk::tests(),
        writes::tests(),
    ];
    parts.into_iter().flatten().collect()
}

/// One test. All tests run on one shared runtime, because a connection belongs to the runtime that opened it.
fn test<F>(path: &'static str, body: impl FnOnce() -> F + Send + 'static) -> Test
where
    F: Future<Output = ()>,
{
    // The name without the first part of the module's path, which is the name of the test binary.
    let name = path.split_once("::").map_or(path, |(_, rest)| rest);
    framework::test(name, move || {
        // Futures are large without optimization, so the usual stack of 2 MiB is too small.
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
