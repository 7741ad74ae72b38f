//! Replays: which decisions differ, and how wrong lines are reported.

use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use paddock_core::question::{Caller, Failure, PluginRequest, form};
use paddock_core::record::{Asker, Decision, ObjectName, Outcome, Subject};
use serde_json::{Value, json};

use super::*;
use crate::usage::BadUsage;

/// The questions of a recording: pools with other numbers of claims, and a review of an object with a secret.
fn questions() -> Vec<(Hook, Value)> {
    let pool = |arrivals: &[u32]| {
        json!({
            "namespace": "agents", "name": "p", "labels": {}, "min": 0, "max": 50, "ready": 1, "creating": 0,
            "claimed": 2, "bucket-seconds": 10, "arrivals": arrivals, "hits": 1, "misses": 0, "refill-ms": 2000,
            "state": "", "now": "2027-01-15T08:00:00Z",
        })
    };
    let variable = json!([{"name": "TOKEN", "value": "hunter2-secret"}]);
    let object = json!({
        "metadata": {"name": "s", "annotations": {"example.com/key": "hunter2-secret"}},
        "spec": {"podTemplate": {"spec": {"containers": [{"name": "c", "image": "docker.io/a/b:1", "env": variable}]}}},
    });
    let review = json!({
        "operation": "create", "group": "agents.x-k8s.io", "version": "v1beta1", "kind": "Sandbox",
        "namespace": "agents", "name": "s", "object": object, "namespace-labels": {}, "username": "alice",
        "groups": [], "generated-code": false, "classes": [], "dry-run": false, "now": "2027-01-15T08:00:00Z",
    });
    let pools = [&[0; 6][..], &[1, 2, 3], &[9, 9, 9, 9]].map(|arrivals| (Hook::PoolSize, pool(arrivals)));
    pools.into_iter().chain([(Hook::Admission, review)]).collect()
}

/// The name, the component and the settings of the plugins that are asked.
const ASKED: [(&str, &[u8], &str); 2] = [
    ("sizer", paddock_guests::POOL_FIXED, r#"{"desired":3}"#),
    ("images", paddock_guests::ALLOWED_IMAGES, r#"{"registries":["ghcr.io"]}"#),
];

/// A folder with the components and their settings.
fn components() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes, settings) in ASKED {
        let path = dir.path().join(format!("{name}.wasm"));
        std::fs::write(&path, bytes).unwrap();
        std::fs::write(path.with_extension("yaml"), format!("settings: {settings}")).unwrap();
    }
    dir
}

/// The recording of their decisions, as an operator writes it. The components are compiled once for all tests.
static RECORDING: LazyLock<String> = LazyLock::new(|| {
    let dir = components();
    let host = component::host().unwrap();
    let mut text = String::new();
    for (name, ..) in ASKED {
        let path = dir.path().join(format!("{name}.wasm"));
        let loaded = Loaded::new(&host, &path, &CallArgs::default()).unwrap();
        for (hook, question) in questions().into_iter().filter(|(hook, _)| loaded.plugin.hooks.contains(hook)) {
            let request = loaded.request(&loaded.settings, form::question(hook, question).unwrap());
            text += &line(&host, request);
        }
    }
    text
});

/// A folder with the components, their settings, and the recording.
fn recorded() -> (tempfile::TempDir, PathBuf) {
    let dir = components();
    let path = dir.path().join("decisions.jsonl");
    std::fs::write(&path, &*RECORDING).unwrap();
    (dir, path)
}

fn line(host: &Host, request: PluginRequest) -> String {
    let (result, usage) = host.ask_measured(&request, Caller::Verified, now_of(&request.question));
    let object = ObjectName {
        group: String::new(),
        kind: "SandboxWarmPool".into(),
        namespace: "agents".into(),
        name: "p".into(),
        uid: Some("u".into()),
    };
    let decision = Decision {
        time: now_of(&request.question),
        subject: Arc::new(Subject { asker: Asker::Reconcile, caller: Caller::Verified, object }),
        request,
        result,
        fuel: usage.fuel,
        memory_bytes: 0,
        took: Duration::ZERO,
    };
    serde_json::to_string(&decision.record(&[])).unwrap() + "\n"
}

fn args(recording: &Path, plugin: PathBuf, settings: Option<&str>) -> ReplayArgs {
    ReplayArgs {
        recording: recording.to_owned(),
        plugin,
        of: None,
        hook: None,
        ignore: vec![],
        skip_malformed: false,
        call: CallArgs::with_settings(settings),
        output: Format::Text,
    }
}

#[test]
fn same_component_gives_the_same_decisions() {
    let (dir, recording) = recorded();
    for (name, compared, skipped) in [("sizer", 3, 1), ("images", 1, 3)] {
        let args = args(&recording, dir.path().join(format!("{name}.wasm")), None);
        let report = replay(&args).unwrap();
        assert!(report.differences.is_empty(), "{report:?}");
        assert_eq!((report.decisions, report.skipped, report.not_compared), (compared, skipped, 0));
        let text = Format::Text.text(&report).unwrap();
        assert!(text.starts_with(&format!("{compared} decisions, {compared} equal, 0 differ\n")), "{text}");
        assert!(text.contains("the same component") && !text.contains("other settings"), "{text}");
        run(&args).unwrap();
    }
}

#[test]
fn another_component_or_other_settings_differ() {
    let (dir, recording) = recorded();
    let sizer = dir.path().join("sizer.wasm");
    let other = args(&recording, sizer.clone(), Some(r#"{"desired": 4}"#));
    let report = replay(&other).unwrap();
    assert_eq!((report.decisions, report.differences.len()), (3, 3));
    let text = Format::Text.text(&report).unwrap();
    assert!(text.contains("line 1: 2027-01-15T08:00:00Z, pool-size of SandboxWarmPool agents/p by sizer\n"), "{text}");
    assert!(
        text.contains("  desired: recorded 3, now 4\n") && text.contains("3 were made with other settings"),
        "{text}"
    );
    let error = run(&other).unwrap_err();
    assert!(!error.is::<BadUsage>() && error.to_string() == "3 of 3 decisions differ", "{error}");

    // The built-in sizes the pool by its claims. Another name in the recording is not replayed.
    let pool = paddock_plugin_host::BUILT_INS.iter().find(|built_in| built_in.name == "pool-by-demand").unwrap();
    let by_demand = dir.path().join("by-demand.wasm");
    std::fs::write(&by_demand, pool.component).unwrap();
    let report = replay(&args(&recording, by_demand.clone(), None)).unwrap();
    assert!(!report.differences.is_empty() && report.decisions == 3, "{report:?}");
    let json: Value = serde_json::from_str(&Format::Json.text(&report).unwrap()).unwrap();
    assert_eq!((&json["decisions"], &json["plugins"][0]["name"]), (&json!(3), &json!("sizer")));
    let fields = json["differences"].as_array().unwrap().iter().flat_map(|found| found["fields"].as_array().unwrap());
    assert!(fields.clone().any(|field| field["field"] == "desired"), "{json:#}");
    let ignored = ["desired", "reason", "next-check", "state"].map(str::to_owned).to_vec();
    let report = replay(&ReplayArgs { ignore: ignored, ..args(&recording, by_demand.clone(), None) }).unwrap();
    assert!(report.differences.is_empty(), "{report:?}");
    for other in [
        ReplayArgs { of: Some("by-demand".into()), ..args(&recording, by_demand.clone(), None) },
        ReplayArgs { hook: Some(Hook::Idle), ..args(&recording, by_demand, None) },
    ] {
        assert!(run(&other).unwrap_err().is::<BadUsage>(), "{other:?}");
    }
}

/// The question does not contain the value of the variable, and the decision does not depend on it.
#[test]
fn secrets_are_neither_in_the_recording_nor_needed() {
    let (dir, recording) = recorded();
    assert!(!std::fs::read_to_string(&recording).unwrap().contains("hunter2"));
    let report = replay(&args(&recording, dir.path().join("images.wasm"), None)).unwrap();
    let text = Format::Text.text(&report).unwrap();
    assert!(report.differences.is_empty() && text.contains("1 have values that are not in the recording"), "{text}");
    let other = args(&recording, dir.path().join("images.wasm"), Some(r#"{"registries": ["docker.io"]}"#));
    let report = replay(&other).unwrap();
    assert!(Format::Text.text(&report).unwrap().contains("verdict: recorded {\"deny\":"), "{report:?}");
}

#[test]
fn decisions_that_time_or_the_host_made_are_not_compared() {
    let (dir, recording) = recorded();
    let text = std::fs::read_to_string(&recording).unwrap();
    let with = |kind: FailureKind| {
        let mut record = Record::read(text.lines().next().unwrap()).unwrap();
        record.result = Err(Failure { kind, message: "m".into() });
        record.outcome = Outcome::Failed;
        serde_json::to_string(&record).unwrap() + "\n"
    };
    let failed: String = FailureKind::ALL.iter().map(|kind| with(*kind)).collect();
    std::fs::write(&recording, failed).unwrap();
    let report = replay(&args(&recording, dir.path().join("sizer.wasm"), None)).unwrap();
    assert_eq!((report.not_compared, report.decisions, report.differences.len()), (3, 5, 5));
}

#[test]
fn wrong_input_names_its_line_or_its_field() {
    let (dir, recording) = recorded();
    let sizer = dir.path().join("sizer.wasm");
    let good = std::fs::read_to_string(&recording).unwrap();
    let torn = dir.path().join("torn.jsonl");
    std::fs::write(&torn, format!("\n{good}{{\"time\": \"20")).unwrap();
    let report = replay(&args(&torn, sizer.clone(), None)).unwrap();
    assert_eq!((report.malformed.len(), report.malformed[0].line, report.decisions), (1, 6, 3));
    let error = run(&args(&torn, sizer.clone(), None)).unwrap_err();
    assert!(error.is::<BadUsage>() && error.to_string().contains("1 of its lines are not records"), "{error}");
    run(&ReplayArgs { skip_malformed: true, ..args(&torn, sizer.clone(), None) }).unwrap();

    let (empty, missing) = (dir.path().join("empty.jsonl"), dir.path().join("missing"));
    std::fs::write(&empty, "").unwrap();
    for (wrong, part) in [
        (args(&empty, sizer.clone(), None), "must contain decisions for the hook pool-size, but it is empty"),
        (args(&missing, sizer.clone(), None), "missing"),
        (args(&recording, missing.clone(), None), "missing"),
        (args(&recording, recording.clone(), None), "decisions.jsonl"),
        (args(&recording, sizer.clone(), Some(r#"{"desird": 4}"#)), "settings: "),
        (args(Path::new("-"), sizer.clone(), Some("-")), "--settings and RECORDING: "),
        (
            ReplayArgs { of: Some("other".into()), ..args(&recording, sizer.clone(), None) },
            "must contain decisions of the plugin other for the hook pool-size, but it has 4 others",
        ),
        (ReplayArgs { hook: Some(Hook::Idle), ..args(&recording, sizer, None) }, "hook idle: sizer does not export it"),
    ] {
        let error = run(&wrong).unwrap_err();
        assert!(error.is::<BadUsage>() && format!("{error:#}").contains(part), "{part}: {error:#}");
    }
}
