//! Tests of the command: its errors, and its report.

use std::path::Path;

use serde_json::Value;

use super::*;
use crate::usage::BadUsage;
use crate::values::parsed;

/// The report of a command line.
fn report_of(args: &[&str]) -> Result<Value, String> {
    let args: SimulateArgs = parsed(args)?;
    let (report, _) = report(&args).map_err(|error| format!("{error:#}"))?;
    Ok(serde_json::to_value(report).unwrap())
}

fn file(dir: &Path, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = dir.join(name);
    std::fs::write(&path, content).unwrap();
    path.display().to_string()
}

#[test]
fn default_contenders_are_the_built_in_and_the_smallest_fixed_size() {
    let report = report_of(&["--shape", "poisson", "--rate", "0.3", "--seed", "3"]).unwrap();
    let names: Vec<&str> =
        report["contenders"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names[0], "pool-by-demand");
    assert!(names.len() == 2 && names[1].starts_with("fixed "), "{names:?}");
    assert!(report["contenders"][1]["hitRate"].as_f64().unwrap() >= 0.99);
    assert!(report["contenders"][0]["questions"].as_u64().unwrap() > 300);
    assert_eq!(report["contenders"][0]["failures"], Value::Null);
}

#[test]
fn json_has_every_contender_and_adds_up() {
    let dir = tempfile::tempdir().unwrap();
    let trace = file(dir.path(), "claims.csv", "time\n5\n5\n65\n600\n");
    let config = file(dir.path(), "small.yaml", "settings: { serviceLevel: 0.5, peakBuckets: 1 }");
    let plugin = format!("pool-by-demand:{config}");
    let flags = ["--fixed", "0,2", "--hpa", "1", "--best-fixed", "100", "--cost-per-hour", "2", "--refill", "10"];
    let report =
        report_of(&[&["--trace", &trace, "--plugin", "pool-by-demand", "--plugin", &plugin], &flags[..]].concat());
    let report = report.unwrap();
    assert_eq!((report["trace"]["claims"].as_u64(), report["trace"]["name"].as_str()), (Some(4), Some("claims.csv")));
    let contenders = report["contenders"].as_array().unwrap();
    let names: Vec<&str> = contenders.iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["pool-by-demand", &plugin, "fixed 2", "fixed 0", "fixed 2", "hpa 1"]);
    for contender in contenders {
        let number = |field: &str| contender[field].as_f64().unwrap();
        assert!((number("hits") + number("misses") - 4.0).abs() < 1e-9, "{contender}");
        assert!((number("cost") - 2.0 * (number("idleHours") + number("warmingHours"))).abs() < 1e-2, "{contender}");
        let series = |name: &str| contender["series"][name].as_array().unwrap().len();
        assert_eq!(
            [series("hits"), series("misses"), series("ready"), series("size")],
            [report["demand"].as_array().unwrap().len(); 4]
        );
    }
    assert_eq!((contenders[3]["hits"].as_u64(), contenders[4]["misses"].as_u64()), (Some(0), Some(0)));
}

#[test]
fn component_in_a_file_competes_and_its_failures_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    let built_in = paddock_plugin_host::BUILT_INS.iter().find(|b| b.name == "pool-by-demand").unwrap();
    let wasm = file(dir.path(), "mine.wasm", built_in.component);
    let starved = file(dir.path(), "starved.yaml", "limits: { fuel: 20000 }\nfailurePolicy: Ignore");
    let times: String = (0..60).map(|claim| format!("{}\n", claim * 40)).collect();
    let trace = file(dir.path(), "claims.csv", format!("time\n{times}"));
    let of_trace = ["--trace", &trace, "--refill", "150", "--plugin"];
    let args = [&of_trace[..], &[&wasm, "--plugin", "pool-by-demand"]].concat();
    let report = report_of(&args).unwrap();
    let of = |index: usize| {
        let mut outcome = report["contenders"][index].clone();
        outcome["name"].take();
        outcome
    };
    assert_eq!(of(0), of(1), "the same component decides in the same way");
    // The file beside the component applies as in the plugin directory.
    file(dir.path(), "mine.yaml", "settings: { serviceLevel: 7 }");
    assert!(report_of(&args).unwrap_err().contains("serviceLevel"));
    let failing = format!("{wasm}:{starved}");
    match report_of(&[&of_trace[..], &[&failing]].concat()) {
        // The plugin may fail at its start already, and says so.
        Err(error) => assert!(error.contains("fuel"), "{error}"),
        Ok(report) => assert!(report["contenders"][0]["failures"]["first"].as_str().unwrap().contains("fuel")),
    }
}

#[test]
fn error_names_the_flag_and_what_would_be_right() {
    let dir = tempfile::tempdir().unwrap();
    let bad_trace = file(dir.path(), "bad.csv", "1\n2\nthree\n");
    let good_trace = file(dir.path(), "good.csv", "1\n");
    let bad_settings = file(dir.path(), "bad.yaml", "settings: { serviceLevel: 7 }");
    let bad_field = file(dir.path(), "field.yaml", "setings: {}");
    let other_hook = file(dir.path(), "hook.yaml", "hooks: [idle]");
    let not_wasm = file(dir.path(), "not.wasm", "no component");
    let idle = paddock_plugin_host::BUILT_INS.iter().find(|b| b.name == "idle-timeout").unwrap();
    let idle = file(dir.path(), "my-idle.wasm", idle.component);
    let named = file(dir.path(), "pool-by-demand.wasm", "x");
    let with = |config: &str| format!("pool-by-demand:{config}");
    let shape = ["--shape", "slow-pool"];
    for (args, wanted) in [
        (vec![], "--shape"),
        (vec!["--shape", "square"], "expected one of poisson, diurnal, working-week"),
        (vec!["--shape", "poisson", "--trace", &good_trace], "cannot be used with"),
        (vec!["--shape", "poisson", "--rate", "-1"], "a number of at least 0"),
        (vec!["--shape", "poisson", "--rate", "1e9"], "--shape poisson: the trace has more than"),
        (vec!["--shape", "poisson", "--only", "f"], "cannot be used with"),
        (vec!["--shape", "poisson", "--days", "0"], "--days"),
        (vec!["--trace", "/nowhere.csv"], "--trace /nowhere.csv"),
        (vec!["--trace", &bad_trace], "line 3, column 1: \"three\" is not a time"),
        (vec!["--trace", &good_trace, "--only", "f"], "--only needs a file that names functions"),
        (vec!["--trace", &good_trace, "--scale", "0"], "a share above 0 and at most 1"),
        (
            [&shape[..], &["--min-ready", "5", "--max-ready", "3"]].concat(),
            "--min-ready 5 must be at most --max-ready, which is 3",
        ),
        ([&shape[..], &["--max-ready", "20000"]].concat(), "--max-ready 20000 must be at most 10000"),
        ([&shape[..], &["--fixed", "20000"]].concat(), "--fixed 20000 must be at most 10000"),
        ([&shape[..], &["--fixed", "x"]].concat(), "--fixed"),
        ([&shape[..], &["--rate", "3"]].concat(), "--rate must be left out for --shape slow-pool"),
        ([&shape[..], &["--hpa", "0"]].concat(), "a number above 0"),
        ([&shape[..], &["--best-fixed", "101"]].concat(), "a percentage from 0 to 100"),
        ([&shape[..], &["--refill", "soon"]].concat(), "lognormal:MEDIAN,P99"),
        ([&shape[..], &["--hold", "5"]].concat(), "--hold"),
        ([&shape[..], &["--learn-days", "1"]].concat(), "--learn-days 1 must be less than the days of the claims"),
        ([&shape[..], &["--learn-days", "x"]].concat(), "--learn-days"),
        (
            [&shape[..], &["--plugin", "pool-by-magic"]].concat(),
            "no built-in plugin \"pool-by-magic\" for pools: expected pool-by-demand, pool-seasonal, or a file",
        ),
        ([&shape[..], &["--plugin", "idle-timeout"]].concat(), "no built-in plugin \"idle-timeout\" for pools"),
        ([&shape[..], &["--plugin", "/nowhere/mine.wasm"]].concat(), "/nowhere/mine.wasm"),
        ([&shape[..], &["--plugin", &not_wasm]].concat(), "not a WebAssembly component"),
        ([&shape[..], &["--plugin", &idle]].concat(), "no hook pool-size: it has idle"),
        ([&shape[..], &["--plugin", &named]].concat(), "a built-in plugin"),
        ([&shape[..], &["--plugin", &with(&bad_settings)]].concat(), "/serviceLevel: must be at most 0.9999"),
        ([&shape[..], &["--plugin", &with(&bad_field)]].concat(), "setings"),
        ([&shape[..], &["--plugin", &with(&other_hook)]].concat(), "hooks: must contain pool-size"),
        ([&shape[..], &["--plugin", "pool-by-demand:/nowhere.yaml"]].concat(), "/nowhere.yaml"),
    ] {
        let Err(error) = report_of(&args) else { panic!("{args:?} is accepted") };
        assert!(error.contains(wanted), "{args:?}: {error}");
    }
}

#[test]
fn wrong_input_is_told_from_a_plugin_at_fault() {
    let dir = tempfile::tempdir().unwrap();
    let bad_trace = file(dir.path(), "bad.csv", "1\nthree\n");
    let not_wasm = file(dir.path(), "not.wasm", "no component");
    let bad_field = format!("pool-by-demand:{}", file(dir.path(), "field.yaml", "setings: {}"));
    let bad_settings = format!("pool-by-demand:{}", file(dir.path(), "bad.yaml", "settings: { serviceLevel: 7 }"));
    for (args, usage) in [
        (["--trace", "/nowhere.csv", "--fixed", "1"], true),
        (["--trace", &bad_trace, "--fixed", "1"], true),
        (["--shape", "slow-pool", "--fixed", "20000"], true),
        (["--shape", "slow-pool", "--max-ready", "20000"], true),
        (["--shape", "slow-pool", "--plugin", "pool-by-magic"], true),
        (["--shape", "slow-pool", "--plugin", "/nowhere/mine.wasm"], true),
        (["--shape", "slow-pool", "--plugin", &bad_field], true),
        (["--shape", "slow-pool", "--plugin", &bad_settings], false),
        (["--shape", "slow-pool", "--plugin", &not_wasm], false),
    ] {
        let error = run(&parsed(&args).unwrap()).unwrap_err();
        assert_eq!(error.is::<BadUsage>(), usage, "{args:?}: {error:#}");
    }
}

#[test]
fn table_has_a_row_for_each_contender() {
    let args: SimulateArgs = parsed(&["--shape", "rl-burst", "--rate", "1", "--fixed", "3", "--hpa", "2"]).unwrap();
    let text = table(&report(&args).unwrap().0);
    let rows: Vec<&str> = text.lines().collect();
    assert!(rows[0].starts_with("rl-burst: 1440 claims in 24 h from 2026-01-05"), "{text}");
    assert!(
        rows[2].starts_with("contender") && rows[3].starts_with("fixed 3") && rows[4].starts_with("hpa 2"),
        "{text}"
    );
    assert_eq!(rows.len(), 5);
}

#[test]
fn page_is_written_to_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("report.html");
    let flags = ["--shape", "rl-burst", "--rate", "1", "--fixed", "3", "--html", path.to_str().unwrap()];
    run(&parsed(&flags).unwrap()).unwrap();
    let page = std::fs::read_to_string(&path).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("fixed 3") && page.contains("<svg"));
    let nowhere =
        parsed(&["--shape", "rl-burst", "--rate", "0", "--fixed", "3", "--html", "/nowhere/report.html"]).unwrap();
    assert!(format!("{:#}", run(&nowhere).unwrap_err()).contains("--html /nowhere/report.html"));
}

#[test]
fn built_in_that_learns_has_figures_of_the_time_after_it_learnt() {
    let flags = ["--rate", "0.2", "--days", "2", "--learn-days", "1", "--plugin", "pool-seasonal", "--fixed", "2"];
    let report = report_of(&[&["--shape", "poisson"], &flags[..]].concat()).unwrap();
    assert_eq!(report["conditions"]["learningHours"].as_f64(), Some(24.0));
    let of = |index: usize, field: &str| report["contenders"][index][field].as_f64().unwrap();
    assert_eq!(
        (of(0, "claims") as u64, report["contenders"][0]["failures"].as_null()),
        (of(1, "claims") as u64, Some(()))
    );
    let all = report["trace"]["claims"].as_f64().unwrap();
    assert!(of(0, "claims") < all * 0.7 && of(0, "claims") > all * 0.3, "{all}");
    assert!(of(1, "idleHours") <= 48.0 && of(0, "idleHours") > 0.0, "{report}");
}

#[test]
fn shape_without_flags_has_its_own_refill_and_days() {
    let week = report_of(&["--shape", "working-week", "--rate", "0.5", "--fixed", "1"]).unwrap();
    assert_eq!(week["trace"]["hours"].as_f64(), Some(168.0));
    let slow = report_of(&["--shape", "slow-pool", "--fixed", "1"]).unwrap();
    assert_eq!(slow["conditions"]["refill"]["fixed"]["seconds"].as_f64(), Some(150.0));
}
