//! The tests of behaviour: scenarios as data, the simulated cluster, and a real API server. `tests/xtask` checks the
//! source tree.
//!
//! `cargo test -p paddock-tests -- scenario::claim` runs some of them. `UPDATE=1` writes the plans of scenarios.
//! `PADDOCK_REQUIRE=all` makes a test fail, instead of ignoring it, if this machine lacks what the test needs.
//! `PADDOCK_SIM_SEED` and `PADDOCK_SIM_STEPS` replay a simulation.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod asked;
mod changes;
mod e2e;
mod framework;
mod languages;
mod scenarios;
mod sim;
mod tree;
mod walk;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut tests = framework::tests();
    tests.extend(tree::tests());
    tests.extend(asked::tests());
    tests.extend(changes::tests());
    tests.extend(walk::tests());
    tests.extend(languages::tests());
    tests.extend(scenarios::tests());
    tests.extend(sim::tests());
    tests.extend(e2e::tests());
    framework::run(tests)
}
