//! Cases of the built-in plugins, from files to the verdict.

use std::fs;

use paddock_plugin_host::BUILT_INS;
use tempfile::TempDir;

use super::*;
use crate::usage::BadUsage;

/// A folder of a plugin: a built-in under another name, its configuration, and a file of cases.
fn folder(built_in: &str, config: Option<&str>, cases: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let component = BUILT_INS.iter().find(|known| known.name == built_in).unwrap().component;
    fs::write(dir.path().join("mine.wasm"), component).unwrap();
    if let Some(config) = config {
        fs::write(dir.path().join("mine.yaml"), config).unwrap();
    }
    fs::create_dir(dir.path().join("tests")).unwrap();
    fs::write(dir.path().join("tests/cases.yaml"), cases).unwrap();
    dir
}

fn tested(dir: &TempDir) -> anyhow::Result<()> {
    run(&TestArgs { paths: vec![dir.path().to_owned()], output: Format::Text })
}

/// The message of a failure, and whether it is one of the user's input.
fn fault(dir: &TempDir) -> (String, bool) {
    let error = tested(dir).unwrap_err();
    (format!("{error:#}"), error.is::<BadUsage>())
}

const POOL: &str = "
component: ../mine.wasm
cases:
  - name: a quiet pool keeps the least
    question: { min: 3 }
    expect: { desired: 3 }
  - name: an unknown setting is refused
    settings: { nonsense: 1 }
    expect: { error: nonsense }
";

#[test]
fn cases_that_are_met_pass() {
    let dir = folder("pool-by-demand", None, POOL);
    tested(&dir).unwrap();
    // The paths in a file do not depend on the folder of the process.
    run(&TestArgs { paths: vec![dir.path().join("tests/cases.yaml")], output: Format::Tap }).unwrap();
}

#[test]
fn case_that_is_not_met_fails() {
    for (cases, failed) in [
        (POOL.replace("desired: 3", "desired: 4"), "1 of 2 cases failed"),
        (POOL.replace("error: nonsense", "error: another message"), "1 of 2 cases failed"),
        (POOL.replace("error: nonsense", "desired: 0"), "1 of 2 cases failed"),
        (POOL.replace("expect: { desired: 3 }", "expect: { error: x }"), "1 of 2 cases failed"),
    ] {
        let dir = folder("pool-by-demand", None, &cases);
        assert_eq!(fault(&dir), (failed.to_owned(), false), "{cases}");
    }
}

#[test]
fn question_may_be_a_file() {
    let dir = folder("pool-by-demand", None, &POOL.replace("{ min: 3 }", "questions/quiet.json"));
    fs::create_dir(dir.path().join("tests/questions")).unwrap();
    fs::write(dir.path().join("tests/questions/quiet.json"), r#"{"min": 3}"#).unwrap();
    tested(&dir).unwrap();
}

#[test]
fn settings_and_limits_are_those_of_the_configuration_unless_a_case_has_its_own() {
    let config = "settings: {nonsense: 1}";
    assert_eq!(fault(&folder("pool-by-demand", Some(config), POOL)).0, "1 of 2 cases failed");
    let limits = "limits: {fuel: 10}";
    let dir = folder("pool-by-demand", Some(limits), POOL);
    assert!(tested(&dir).is_err(), "no plugin answers with ten units of fuel");
}

#[test]
fn answer_that_the_operator_refuses_is_a_failure() {
    let cases = |expect: &str| {
        format!(
            "component: ../mine.wasm\nhook: admission\ncases:\n  - name: c\n    settings: {{mode: forbidden-patch}}\n    \
             expect: {expect}\n"
        )
    };
    let tested = |expect: &str| {
        let dir = folder("require-isolation", None, &cases(expect));
        fs::write(dir.path().join("mine.wasm"), paddock_guests::MISBEHAVE).unwrap();
        tested(&dir).is_ok()
    };
    assert!(!tested("{verdict: allow}"));
    assert!(tested("{error: the patch may not change metadata.ownerReferences}"));
}

/// The plugin `misbehave` answers outside the bounds of a pool. The operator does not follow it, so the case fails unless
/// it names the note.
#[test]
fn answer_that_is_overruled_needs_a_case_that_expects_it() {
    let tested = |expect: &str| {
        let cases = format!(
            "component: ../mine.wasm\nhook: pool-size\ncases:\n  - name: c\n    settings: {{mode: too-many}}\n    \
             question: {{max: 10}}\n    expect: {expect}\n"
        );
        let dir = folder("require-isolation", None, &cases);
        fs::write(dir.path().join("mine.wasm"), paddock_guests::MISBEHAVE).unwrap();
        tested(&dir).is_ok()
    };
    assert!(!tested("{desired: 4294967295}"), "an overruled answer is no silent success");
    assert!(tested("{desired: 4294967295, note: the pool keeps 10}"));
    assert!(!tested("{note: another text}"));
}

#[test]
fn note_that_a_case_expects_must_be_there() {
    let corrected = || Acceptance::Corrected("keeps 5".to_owned());
    let earlier = || Acceptance::Earlier("keeps 5".to_owned());
    for (expected, acceptance, fault) in [
        (None, Acceptance::Followed, None),
        (None, earlier(), None),
        (None, corrected(), Some("note: expected none, got \"keeps 5\"")),
        (Some("keeps"), corrected(), None),
        (Some("keeps"), earlier(), None),
        (Some("stays"), corrected(), Some("note: expected \"stays\", got \"keeps 5\"")),
        (Some("keeps"), Acceptance::Followed, Some("note: expected \"keeps\", but the operator follows the answer")),
    ] {
        assert_eq!(wrong_note(expected, &acceptance).as_deref(), fault, "{expected:?} {acceptance:?}");
    }
}

#[test]
fn file_that_tests_nothing_is_an_error_of_the_user() {
    let dir = tempfile::tempdir().unwrap();
    let (message, usage) = fault(&dir);
    assert!(usage && message.contains("tests: must be the folder with the cases"), "{message}");
    fs::create_dir(dir.path().join("tests")).unwrap();
    let (message, usage) = fault(&dir);
    assert!(usage && message.contains("contains no file of cases"), "{message}");
    fs::write(dir.path().join("tests/a.yml"), POOL).unwrap();
    let (message, usage) = fault(&dir);
    assert!(usage && message.contains("a.yml: the name of a file of cases must end in .yaml"), "{message}");
    for (cases, part) in [
        ("", "cases.yaml: invalid type: null"),
        ("cases: []", "cases.yaml: cases: must contain at least one case"),
        (&*POOL.replace("expect: { desired: 3 }", "expect: {}"), "cases[0].expect: must contain a field"),
        (&*POOL.replace("expect: { desired: 3 }", "expect: { desird: 3 }"), "desird: unknown field"),
        (&*POOL.replace("{ min: 3 }", "{ mini: 3 }"), "question: mini: unknown field `mini`"),
        (&*POOL.replace("mine.wasm", "yours.wasm"), "yours.wasm does not exist; build it first"),
        (&*POOL.replace("cases:", "hook: idle\ncases:"), "hook idle: mine does not export it; it exports pool-size"),
    ] {
        let (message, usage) = fault(&folder("pool-by-demand", None, cases));
        assert!(usage && message.contains(part), "{part}: {message}");
    }
}
