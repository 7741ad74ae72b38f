//! The simulation of a whole cluster in one process: a model API server, nodes and users, with the real core between
//! them.
//!
//! The seed decides everything, so the same seed gives the same run. `PADDOCK_SIM_SEED=N` runs one seed of each kind of
//! run and prints the events that led to a failure. `PADDOCK_SIM_STEPS=N` makes runs longer or shorter. The message of
//! a failed run contains both variables and the name of the test to run with them.

pub(crate) mod answers;
pub(crate) mod api;
mod defects;
mod nodes;
pub(crate) mod operator;
mod oracle;
mod pool_model;
mod run;
mod scripted;
mod users;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use nodes::NodeFaults;
use run::{Faults, Simulation};

use crate::framework::{Outcome, Test, test};

/// The number of runs in each test. `STEPS` is the number of steps in each run.
const RUNS: u64 = 12;
const STEPS: u64 = 6000;
/// The number of tests of each kind. Separate tests let several processors share the work.
const PARTS: u64 = 4;
const _: () = assert!(KINDS.len() as u64 * PARTS * RUNS * STEPS >= 1_000_000, "a million steps in every `cargo test`");

/// The kinds of runs, by the faults that may happen in them.
const KINDS: [(&str, Faults); 6] = [
    ("without_faults", Faults { nodes: NodeFaults { evict: 0, end: 20, unready: 20 }, ..Faults::NONE }),
    (
        "with_lost_replies",
        Faults { requests: 120, nodes: NodeFaults { evict: 10, end: 10, unready: 10 }, ..Faults::NONE },
    ),
    ("with_cut_watches", Faults { requests: 30, cuts: 20, ..Faults::NONE }),
    (
        "with_crashes",
        Faults {
            requests: 60,
            cuts: 5,
            crashes: 40,
            plugins: Some(17),
            nodes: NodeFaults { evict: 10, end: 10, unready: 10 },
            ..Faults::NONE
        },
    ),
    ("with_handovers", Faults { requests: 40, cuts: 5, crashes: 5, handovers: 30, ..Faults::NONE }),
    ("with_clock_steps", Faults { requests: 60, cuts: 5, crashes: 5, clock: 30, ..Faults::NONE }),
];

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = defects::tests();
    tests.extend(pool_model::tests());
    for (kind, faults) in KINDS {
        for part in 0..PARTS {
            tests.push(test(format!("sim::{kind}::part_{part}"), move || many(kind, faults, part)));
        }
    }
    tests
}

fn many(kind: &str, faults: Faults, part: u64) -> Outcome {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let steps = number("PADDOCK_SIM_STEPS").unwrap_or(STEPS);
    if let Some(seed) = number("PADDOCK_SIM_SEED") {
        return if part == 0 { one(kind, faults, (seed, steps)) } else { Ok(()) };
    }
    let (began, mut made, mut adoptions, mut reserved, mut kept) = (Instant::now(), 0, 0, 0, 0);
    let seeds = part * RUNS..(part + 1) * RUNS;
    for seed in seeds.clone() {
        let mut simulation = Simulation::new(seed, faults, false);
        if let Err(error) = simulation.run(steps) {
            one(kind, faults, (seed, steps))?;
            return Err(format!(
                "seed {seed} failed, and passed when its {steps} steps were repeated: the run depends on more than its \
                 seed. The first time: {error}"
            )
            .into());
        }
        made += simulation.steps;
        adoptions += simulation.oracle.adoptions;
        reserved += simulation.admission.made;
        kept += simulation.admission.kept;
    }
    let sum = TOTAL.fetch_add(made, Ordering::Relaxed) + made;
    println!(
        "sim::{kind}: {made} steps of seeds {seeds:?} in {:?}, {adoptions} warm claims, {kept} of {reserved} reservations used; \
         {sum} steps in all so far",
        began.elapsed()
    );
    if adoptions == 0 {
        return Err("no claim ever took a warm Sandbox: these runs prove nothing".into());
    }
    // A part has few reservations, because half of a pool stays free. So the parts of a kind are counted together.
    let (reserved, kept) = {
        let mut sums = RESERVATIONS.lock().map_err(|_| "another part panicked")?;
        let sum = sums.entry(kind.to_owned()).or_default();
        *sum = (sum.0 + reserved, sum.1 + kept);
        *sum
    };
    if reserved >= ENOUGH_RESERVATIONS && (kept == 0 || kept == reserved) {
        return Err(format!("{kept} of {reserved} reservations were used: these runs prove nothing of them").into());
    }
    Ok(())
}

/// The number of reservations of which some must be used and some must not.
const ENOUGH_RESERVATIONS: u64 = 12;

/// The reservations that the parts of a kind made, and those of them that were used.
static RESERVATIONS: Mutex<BTreeMap<String, (u64, u64)>> = Mutex::new(BTreeMap::new());

/// The number of steps that the tests of this process have simulated.
static TOTAL: AtomicU64 = AtomicU64::new(0);

/// Repeats one run and records its events.
fn one(kind: &str, faults: Faults, (seed, steps): (u64, u64)) -> Outcome {
    let mut simulation = Simulation::new(seed, faults, true);
    simulation.run(steps).map_err(|error| {
        let again = format!(
            "PADDOCK_SIM_SEED={seed} PADDOCK_SIM_STEPS={steps} cargo test --test paddock -- sim::{kind}::part_0"
        );
        format!("{error}\n{again}\n{}", simulation.history(60)).into()
    })
}
