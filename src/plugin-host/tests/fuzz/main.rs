//! Malformed components, settings and questions: the host loads or refuses each of them, and does not panic, leak or block.
//!
//! `PADDOCK_FUZZ_CASES` is the number of cases, and `PADDOCK_FUZZ_SEED` the seed of the first case; each further case has
//! the next seed. A failure prints the seed of its case. If the process dies, the file that is named at the beginning has
//! it. These tests have a process of their own, because they measure its memory.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests: a failure ends them")]

mod generate;
mod json;
mod mutate;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use fastrand::Rng;
use jiff::Timestamp;
use paddock_core::binding::Mode;
use paddock_core::question::{FailureKind, Hook, PluginRef, PluginRequest, Question, form};
use paddock_plugin_host::{BUILT_INS, Host, HostConfig, Limits, QuarantinePolicy, SettingsError, Source};
use serde_json::Value;

/// The number of cases of an ordinary run: about ten seconds of a processor in the development profile.
const CASES: u64 = 200;
/// The time of the processor that one case takes at most. A component of this size compiles in a tenth of a second.
const CASE_CPU: Duration = Duration::from_secs(10);
/// The time of one case, at most: a case that takes longer is blocked. The processor may be busy with something else.
const CASE_TIME: Duration = Duration::from_secs(180);
/// The growth of the resident memory, in bytes, that a run may have after its first cases. One component that is not freed
/// for each hundred cases would need more.
const GROWTH: u64 = 64 << 20;
/// The time that calls of a plugin may take, in addition to their deadline.
const LATE: Duration = Duration::from_secs(60);

const LIMITS: Limits = Limits { memory_bytes: 16 << 20, fuel: 2_000_000, deadline: Duration::from_millis(500) };

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text}: must be a number")),
        Err(_) => default,
    }
}

fn host() -> Host {
    // Without quarantine, every question reaches the plugin.
    let quarantine = QuarantinePolicy { failures: u32::MAX, ..QuarantinePolicy::default() };
    Host::new(HostConfig { limits: LIMITS, memory_bytes: 256 << 20, quarantine, ..HostConfig::default() }).unwrap()
}

/// The components that are damaged.
fn real() -> Vec<&'static [u8]> {
    let guests = [
        paddock_guests::POOL_FIXED,
        paddock_guests::ALLOWED_IMAGES,
        paddock_guests::MISBEHAVE,
        paddock_guests::ASK_FOR_MORE,
        paddock_guests::FROM_THE_FUTURE,
    ];
    BUILT_INS.iter().map(|built_in| built_in.component).chain(guests).collect()
}

/// What the cases of a run have in common.
struct Run {
    host: Host,
    real: Vec<&'static [u8]>,
    /// The built-in plugins, which get arbitrary settings and questions.
    plugins: Vec<(PluginRef, Hook)>,
    questions: [Value; 4],
    /// The number of cases with each outcome.
    outcomes: BTreeMap<&'static str, u64>,
}

impl Run {
    fn new() -> Self {
        let host = host();
        let load =
            |built_in: &paddock_plugin_host::BuiltIn| (host.load_built_in(built_in).unwrap().plugin, built_in.hook);
        let plugins = BUILT_INS.iter().map(load).collect();
        Self { plugins, host, real: real(), questions: json::questions(), outcomes: BTreeMap::new() }
    }

    fn count(&mut self, outcome: &'static str) {
        *self.outcomes.entry(outcome).or_default() += 1;
    }

    /// One component, one text of settings and one question.
    fn case(&mut self, seed: u64) {
        let random = &mut Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let component = if random.u32(0..3) == 0 {
            generate::bytes(random)
        } else {
            let (one, other) = (random.usize(0..self.real.len()), random.usize(0..self.real.len()));
            mutate::mutated(random, self.real[one], self.real[other])
        };
        self.component(random, &component);
        let (plugin, hook) = self.plugins[random.usize(0..self.plugins.len())].clone();
        self.question(random, &plugin, hook);
    }

    /// Loads a component, and asks it if it loads.
    fn component(&mut self, random: &mut Rng, component: &[u8]) {
        let loaded = self.host.prepare(Source { name: "fuzzed", component, limits: None });
        // The command that inspects a component reads those that the host refuses, too.
        if random.u32(0..8) == 0 {
            let surface = self.host.surface(component);
            assert!(loaded.is_err() || surface.is_ok(), "a component that loads has a surface: {surface:?}");
        }
        let candidate = match loaded {
            Err(error) => {
                let message = error.to_string();
                assert!(!message.is_empty() && message.len() < 8000, "{message}");
                return self.count("component refused");
            }
            Ok(candidate) => candidate,
        };
        self.count("component loaded");
        for hook in candidate.plugin().hooks.clone() {
            let settings = json::settings(random);
            check(self.host.check_settings(&candidate, hook, &settings));
            let plugin = self.host.admit(candidate.clone()).plugin;
            self.ask(&plugin, hook, json::question(random, &self.question_of(hook)), settings);
        }
        self.host.unload(&candidate.plugin().plugin);
    }

    fn question_of(&self, hook: Hook) -> Value {
        let index = Hook::ALL.iter().position(|known| *known == hook).unwrap();
        self.questions[index].clone()
    }

    /// Asks a plugin with arbitrary settings and an arbitrary question.
    fn question(&mut self, random: &mut Rng, plugin: &PluginRef, hook: Hook) {
        let form = json::question(random, &self.question_of(hook));
        // Half of the questions have settings that are valid, and reach the plugin's decision.
        let settings = if random.bool() { "{}".to_owned() } else { json::settings(random) };
        self.ask(plugin, hook, form, settings);
    }

    fn ask(&mut self, plugin: &PluginRef, hook: Hook, form: Value, settings: String) {
        let question: Question = match form::question(hook, form) {
            Ok(question) => question,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                return self.count("question refused");
            }
        };
        let request =
            PluginRequest { binding: "fuzz".into(), plugin: plugin.clone(), mode: Mode::Enforce, settings, question };
        let started = Instant::now();
        let answer = self.host.ask(&request, Timestamp::UNIX_EPOCH);
        assert!(started.elapsed() < LIMITS.deadline + LATE, "the call took {:?}", started.elapsed());
        match answer {
            Ok(_) => self.count("question answered"),
            Err(failure) => {
                assert!(!failure.message.is_empty() && failure.message.chars().count() <= 1024, "{failure:?}");
                // The plugin is loaded and is not in quarantine.
                assert!(!matches!(failure.kind, FailureKind::Missing | FailureKind::Quarantined), "{failure:?}");
                self.count("question failed");
            }
        }
    }
}

fn check(settings: Result<(), SettingsError>) {
    if let Err(error) = settings {
        assert!(!error.to_string().is_empty());
        assert!(matches!(error, SettingsError::Refused(_)), "no other call runs: {error}");
    }
}

/// The time of the processor that the process has used. Zero where the system does not show it.
fn cpu() -> Duration {
    let used = || {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The name of the program, in parentheses, may contain spaces.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        // A tick is a hundredth of a second on every system that Paddock runs on.
        Some(Duration::from_millis(ticks * 10))
    };
    used().unwrap_or_default()
}

/// The resident memory of the process, in bytes. `None` where the system does not show it.
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

#[test]
fn malformed_components_settings_and_questions_are_loaded_or_refused() {
    let (first, cases) = (number("PADDOCK_FUZZ_SEED", 1), number("PADDOCK_FUZZ_CASES", CASES));
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugin-host-fuzz-seed");
    println!("{cases} cases from seed {first}; the seed of the running case is in {}", file.display());
    let mut run = Run::new();
    let loaded = run.host.plugins(Timestamp::UNIX_EPOCH).len();
    let (mut slowest, mut settled) = (Duration::ZERO, None);
    for (number, seed) in (0..cases).map(|number| (number, first.wrapping_add(number))) {
        std::fs::write(&file, seed.to_string()).unwrap();
        let repeat = format!("repeat it with PADDOCK_FUZZ_SEED={seed} PADDOCK_FUZZ_CASES=1");
        let (started, used) = (Instant::now(), cpu());
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run.case(seed))) {
            eprintln!("the case of seed {seed} fails: {repeat}");
            resume_unwind(panic);
        }
        let (took, used) = (started.elapsed(), cpu().saturating_sub(used));
        assert!(took < CASE_TIME, "a case took {took:?}: {repeat}");
        assert!(used < CASE_CPU, "a case took {used:?} of a processor: {repeat}");
        slowest = slowest.max(used);
        // The pools of the engine and the allocator have their size after some cases.
        if number == cases / 4 {
            settled = resident();
        }
    }
    assert_eq!(run.host.plugins(Timestamp::UNIX_EPOCH).len(), loaded, "only the built-in plugins are left");
    let grown = settled.zip(resident()).map(|(before, after)| after.saturating_sub(before));
    println!(
        "{:?}; the slowest case took {slowest:?} of a processor, and all of them {:?}; the memory grew by {grown:?} bytes",
        run.outcomes,
        cpu()
    );
    assert!(grown.is_none_or(|grown| grown < GROWTH), "the memory grew by {grown:?} bytes");
    for outcome in ["component refused", "component loaded", "question refused", "question answered", "question failed"]
    {
        let enough = run.outcomes.get(outcome).copied().unwrap_or_default();
        assert!(
            enough * 100 >= cases || cases < CASES,
            "hardly any case has the outcome {outcome}: {:?}",
            run.outcomes
        );
    }
}
