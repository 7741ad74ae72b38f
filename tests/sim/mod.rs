//! A whole cluster in one process: a model API server, nodes and users, and the real core between them.
//!
//! A seed decides everything; the same seed gives the same run. `PADDOCK_SIM_SEED=N` runs one seed of each kind of run
//! and tells what happened before it failed; `PADDOCK_SIM_STEPS=N` makes runs longer or shorter.

pub(crate) mod answers;
pub(crate) mod api;
mod defects;
mod nodes;
pub(crate) mod operator;
mod oracle;
mod run;
mod stage;
mod users;

use nodes::Trouble;
use run::{Faults, Simulation};

use crate::framework::{Outcome, Test, test};

/// How many runs a test makes of each kind, and of how many steps each.
const RUNS: u64 = 12;
const STEPS: u64 = 6000;

/// Kinds of runs: what may go wrong in them.
const KINDS: [(&str, Faults); 5] = [
    ("without_faults", Faults { nodes: Trouble { evict: 0, end: 20, unready: 20 }, ..Faults::NONE }),
    ("with_lost_replies", Faults { requests: 120, nodes: Trouble { evict: 10, end: 10, unready: 10 }, ..Faults::NONE }),
    ("with_cut_watches", Faults { requests: 30, cuts: 20, ..Faults::NONE }),
    (
        "with_crashes",
        Faults {
            requests: 60,
            cuts: 5,
            crashes: 40,
            plugins: Some(17),
            nodes: Trouble { evict: 10, end: 10, unready: 10 },
            ..Faults::NONE
        },
    ),
    ("with_handovers", Faults { requests: 40, cuts: 5, crashes: 5, handovers: 30, ..Faults::NONE }),
];

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = defects::tests();
    for (kind, faults) in KINDS {
        for part in 0..4 {
            tests.push(test(format!("sim::{kind}::part_{part}"), move || many(faults, part)));
        }
    }
    tests
}

fn many(faults: Faults, part: u64) -> Outcome {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let steps = number("PADDOCK_SIM_STEPS").unwrap_or(STEPS);
    if let Some(seed) = number("PADDOCK_SIM_SEED") {
        return if part == 0 { one(seed, faults, steps) } else { Ok(()) };
    }
    let mut adoptions = 0;
    for seed in part * RUNS..(part + 1) * RUNS {
        let mut simulation = Simulation::new(seed, faults, false);
        if simulation.run(steps).is_err() {
            return one(seed, faults, steps);
        }
        adoptions += simulation.oracle.adoptions;
    }
    if adoptions == 0 { Err("no claim ever took a warm Sandbox: these runs prove nothing".into()) } else { Ok(()) }
}

/// The same again, with what happened.
fn one(seed: u64, faults: Faults, steps: u64) -> Outcome {
    let mut simulation = Simulation::new(seed, faults, true);
    simulation.run(steps).map_err(|error| {
        format!("{error}\nPADDOCK_SIM_SEED={seed} PADDOCK_SIM_STEPS={steps}\n{}", simulation.story(60)).into()
    })
}
