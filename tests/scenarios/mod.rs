//! Scenarios as data: each has manifests, a time and a key, and beside it the expected plan. `UPDATE=1` writes the
//! plans.
//!
//! `<kind>/<name>.yaml` is the test `scenario::<kind>::<name>`, and `<kind>/<name>.plan` is the expected plan. Each
//! scenario is also carried out on the model API server until no plan has writes any more. After a plan was carried
//! out, the next plan has to be empty, then and a little later.

mod file;
mod preset;
mod settle;
mod show;

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use paddock_api::kind::Key;
use paddock_api::names::reason;
use paddock_core::decide::{decide, questions};
use paddock_core::object::Object;
use paddock_core::plan::{Op, Outcome as OpOutcome, Reason};
use paddock_core::question::Question;
use paddock_core::snapshot::Snapshot;
use paddock_core::world::{Observed, World};

use crate::framework::{Outcome, Test, test};
use file::{Before, Happened, Scenario};

/// The kinds of scenarios. Each has its directory here.
const DIRECTORIES: [&str; 4] = ["sandbox", "template", "pool", "claim"];

/// One test for each file.
pub(crate) fn tests() -> Vec<Test> {
    let mut tests: Vec<Test> = files("yaml")
        .into_iter()
        .map(|path| {
            let name = format!("scenario::{}::{}", stem(path.parent().unwrap_or(&path)), stem(&path));
            test(name, move || check(&path))
        })
        .collect();
    tests.push(test("scenario::every_file_is_used", every_file_is_used));
    tests
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

fn files(extension: &str) -> Vec<PathBuf> {
    let listed = DIRECTORIES.iter().flat_map(|d| fs::read_dir(root().join(d)).expect("a directory of scenarios"));
    let mut files: Vec<PathBuf> = listed.map(|e| e.expect("a directory's entry").path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == extension));
    files.sort();
    files
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()
}

fn check(path: &Path) -> Outcome {
    let scenario = Scenario::read(path)?;
    let actual = run(&scenario)?;
    let expected = path.with_extension("plan");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&expected, &actual)?;
        return Ok(());
    }
    let wanted =
        fs::read_to_string(&expected).map_err(|e| format!("{}: {e}; bless with UPDATE=1", expected.display()))?;
    if wanted != actual {
        return Err(format!(
            "{}\nthe plan is not as expected (bless with UPDATE=1 if it is right):\n{}",
            scenario.title,
            show::difference(&wanted, &actual)
        )
        .into());
    }
    Ok(())
}

fn run(scenario: &Scenario) -> Result<String, String> {
    let mut plugins = scenario.plugins();
    let mut world = World::new(scenario.settings.clone());
    let _ = world.set_bindings(plugins.bindings());
    let start = scenario.before.first().map_or(scenario.now, |b| b.at);
    for (kind, document) in &scenario.objects {
        let object = Object::from_json(*kind, document.clone()).ok_or("an object has no metadata")?;
        let _ = world.observe(Observed::Applied(object), start);
    }
    scenario.observe_cpu(&mut world);
    for before in &scenario.before {
        happen(&mut world, before, &mut plugins)?;
    }
    world.take_ports(&scenario.key, scenario.now);
    let snapshot = world.snapshot(&scenario.key, scenario.now);
    let answers = plugins.ask(&snapshot, scenario.now, questions);
    let plan = decide(&snapshot, &answers);
    let again = decide(&world.snapshot(&scenario.key, scenario.now), &answers);
    if plan != again {
        return Err("the same view and answers gave two plans".to_owned());
    }
    ends_nothing_by_one_clock(snapshot, scenario)?;
    let mut text = format!("# {}\n", scenario.title);
    text += &show::asked(&answers, scenario.shows_questions);
    text += &show::plan(&plan, scenario.now);
    settle::check(scenario, &plan)?;
    Ok(text)
}

/// Nothing expires while one of the clocks says that it is too early, and idle policies are asked by the earlier time.
fn ends_nothing_by_one_clock(snapshot: Snapshot, scenario: &Scenario) -> Result<(), String> {
    let ended = match &snapshot {
        Snapshot::Sandbox(seen) => seen.sandbox.sandbox().map(|s| &s.status.conditions),
        Snapshot::Claim(seen) => seen.claim.claim().map(|c| &c.status.conditions),
        Snapshot::Absent(_) | Snapshot::Terminating(_) | Snapshot::Observed(_) => None,
        Snapshot::Template(_) | Snapshot::Pool(_) => None,
    }
    .into_iter()
    .flatten()
    .any(|c| [reason::SANDBOX_EXPIRED, reason::CLAIM_EXPIRED].contains(&&*c.reason));
    let passed = scenario.now - jiff::SignedDuration::from_hours(24 * 365 * 50);
    let early = snapshot.with_passed(passed);
    let mut plugins = scenario.plugins();
    let answers = plugins.ask(&early, scenario.now, questions);
    for reply in &answers {
        if let Question::Idle(asked) = &reply.request.question
            && (asked.now != passed
                || [asked.ready_since, asked.last_activity].into_iter().flatten().any(|at| at > passed))
        {
            return Err(format!("the idle policy was asked by a later time: {asked:?}"));
        }
    }
    let plan = decide(&early, &answers);
    let end = |op: &&Op| matches!(op.reason, Reason::Expired | Reason::TtlPassed);
    match plan.steps.iter().flatten().find(end).filter(|_| !ended) {
        Some(op) => Err(format!("{} ended by one clock alone", op.key)),
        None => Ok(()),
    }
}

/// Runs an earlier reconcile, and applies the outcome to its writes.
fn happen(world: &mut World, before: &Before, plugins: &mut crate::sim::answers::PluginClient) -> Result<(), String> {
    world.take_ports(&before.key, before.at);
    let snapshot = world.snapshot(&before.key, before.at);
    let answers = plugins.ask(&snapshot, before.at, questions);
    let plan = decide(&snapshot, &answers);
    let steps = plan.steps.iter().filter(|s| !s.is_empty()).take(before.steps.unwrap_or(usize::MAX));
    let mut any = false;
    for step in steps {
        let step = world.begin(step).map_err(|_| format!("{}: the earlier plan was stale", before.key))?;
        for op in step {
            any = true;
            finish(world, &op, &before.outcome, before.at);
        }
    }
    if any { Ok(()) } else { Err(format!("{}: nothing was planned at {}", before.key, before.at)) }
}

fn finish(world: &mut World, op: &Op, happened: &Happened, at: Timestamp) {
    let outcome = match happened {
        Happened::UnderWay => return,
        Happened::Lost => OpOutcome::Unknown,
        Happened::Conflict => OpOutcome::Conflict,
        Happened::Exists => OpOutcome::Exists,
        Happened::Busy => OpOutcome::Busy,
        Happened::Denied(message) => OpOutcome::Rejected { status: 403, message: message.clone(), by_policy: true },
        Happened::Rejected(message) => OpOutcome::Rejected { status: 403, message: message.clone(), by_policy: false },
    };
    let _ = world.finish(op, &outcome, at);
}

/// Every plan has its scenario, and there are no other files.
fn every_file_is_used() -> Outcome {
    let scenarios = files("yaml");
    let orphans: Vec<PathBuf> =
        files("plan").into_iter().filter(|p| !scenarios.contains(&p.with_extension("yaml"))).collect();
    if !orphans.is_empty() {
        return Err(format!("plans without a scenario: {orphans:?}").into());
    }
    for directory in DIRECTORIES {
        for entry in fs::read_dir(root().join(directory))? {
            let path = entry?.path();
            if path.extension().is_none_or(|e| e != "yaml" && e != "plan") {
                return Err(format!("{} is no scenario", path.display()).into());
            }
        }
    }
    for entry in fs::read_dir(root())? {
        let path = entry?.path();
        if path.is_dir() && !DIRECTORIES.contains(&stem(&path).as_str()) {
            return Err(format!("{} is not read", path.display()).into());
        }
    }
    Ok(())
}

/// The key in a text such as `Sandbox/agents/a`.
fn key(text: &str) -> Result<Key, String> {
    let mut parts = text.split('/');
    let (Some(kind), Some(namespace), Some(name), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(format!("`{text}` is not KIND/NAMESPACE/NAME"));
    };
    let kind = paddock_api::kind::Kind::ALL
        .into_iter()
        .find(|k| format!("{k:?}") == kind)
        .ok_or_else(|| format!("`{kind}` is no kind"))?;
    Ok(Key::new(kind, namespace, name))
}
