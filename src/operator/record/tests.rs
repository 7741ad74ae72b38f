//! The recorder: the file and its bound, the queue, and the last decisions.

use std::path::Path;

use paddock_core::binding::Mode;
use paddock_core::question::{Caller, Hook, PluginRef, form};
use paddock_core::record::{Asker, ObjectName};
use serde_json::{Value, json};

use super::*;

const SECRET: &str = "hunter2-very-secret";

fn subject(namespace: &str, name: &str) -> Arc<Subject> {
    let object = ObjectName {
        group: String::new(),
        kind: "Pod".into(),
        namespace: namespace.into(),
        name: name.into(),
        uid: None,
    };
    Arc::new(Subject { asker: Asker::Webhook, caller: Caller::Verified, object })
}

fn request(object: &Value) -> PluginRequest {
    let question = json!({
        "operation": "create", "group": "", "version": "v1", "kind": "Pod", "namespace": "agents", "name": "p",
        "object": object, "namespace-labels": {}, "username": "alice", "groups": [], "generated-code": false,
        "classes": [], "dry-run": false, "now": 0,
    });
    PluginRequest {
        binding: "p/admission".into(),
        plugin: PluginRef { name: "p".into(), digest: "sha256:0".into() },
        mode: Mode::Enforce,
        settings: "{}".into(),
        question: form::question(Hook::Admission, question).unwrap(),
    }
}

fn with_secret() -> PluginRequest {
    request(&json!({"spec": {"containers": [{"name": "c", "env": [{"name": "TOKEN", "value": SECRET}]}]}}))
}

fn allow() -> Result<Answer, Failure> {
    Ok(form::answer(Hook::Admission, json!({"verdict": "allow", "warnings": []})).unwrap())
}

fn decided(recorder: &Recorder, name: &str, request: &PluginRequest) {
    decided_in("agents", recorder, name, request);
}

fn decided_in(namespace: &str, recorder: &Recorder, name: &str, request: &PluginRequest) {
    let (subject, usage) = (subject(namespace, name), Usage { fuel: 5, memory_bytes: 65536, ..Usage::default() });
    recorder.decided((Timestamp::UNIX_EPOCH, &subject), request, &allow(), (usage, Duration::from_micros(3)));
}

fn recorder(config: &RecordConfig) -> (Recorder, Metrics) {
    let metrics = Metrics::new().unwrap();
    (Recorder::start(config, 1, &metrics).unwrap(), metrics)
}

fn to_file(path: &Path) -> RecordConfig {
    RecordConfig { to: Some(Destination::File(path.to_owned())), ..RecordConfig::default() }
}

fn lines(path: &Path) -> Vec<Record> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| Record::read(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn counted(metrics: &Metrics, result: &str) -> u64 {
    let text = String::from_utf8(metrics.text().unwrap()).unwrap();
    let name = format!("paddock_decisions_recorded_total{{result=\"{result}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap_or_else(|| panic!("{name} is not in:\n{text}")).parse().unwrap()
}

#[tokio::test]
async fn decisions_are_lines_of_the_file_without_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("decisions.jsonl");
    let (recorder, metrics) = recorder(&to_file(&path));
    for number in 0..20 {
        decided(&recorder, &format!("p{number}"), &with_secret());
    }
    recorder.finish().await;
    let records = lines(&path);
    let names: Vec<&str> = records.iter().map(|record| record.object.name.as_str()).collect();
    assert_eq!((names[0], names[19], names.len()), ("p0", "p19", 20));
    assert_eq!((records[0].fuel, records[0].memory_bytes, records[0].duration_micros), (5, 65536, 3));
    assert!(!std::fs::read_to_string(&path).unwrap().contains(SECRET));
    assert_eq!((counted(&metrics, "written"), counted(&metrics, "dropped"), counted(&metrics, "failed")), (20, 0, 0));
    // The file is for its owner alone, and a decision after the end harms nobody.
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    decided(&recorder, "late", &with_secret());
    assert_eq!(counted(&metrics, "dropped"), 1);
    // The last ones are in memory too, the newest first, without secrets.
    let recent: Vec<Record> = recorder.recent(|_| true).collect();
    assert_eq!((recent[0].object.name.as_str(), recent.len()), ("late", 21));
    assert!(!serde_json::to_string(&recent).unwrap().contains(SECRET));
    assert_eq!(recorder.recent(|decision| decision.subject.object.name == "p3").count(), 1);
}

#[tokio::test]
async fn full_file_is_renamed_and_the_disk_holds_two() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("decisions.jsonl");
    let max_bytes = 3000;
    let (recorder, metrics) = recorder(&RecordConfig { max_bytes, ..to_file(&path) });
    for number in 0..40 {
        decided(&recorder, &format!("p{number}"), &request(&json!({})));
    }
    // A record that no file has room for.
    decided(&recorder, "large", &request(&json!({"spec": "x".repeat(4000)})));
    recorder.finish().await;
    let former = dir.path().join("decisions.jsonl.1");
    for file in [&path, &former] {
        assert!(std::fs::metadata(file).unwrap().len() <= max_bytes, "{}", file.display());
    }
    let (old, new) = (lines(&former), lines(&path));
    assert_eq!(new.last().unwrap().object.name, "p39");
    assert!(old.len() + new.len() < 40 && !old.is_empty(), "{} {}", old.len(), new.len());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    assert_eq!((counted(&metrics, "written"), counted(&metrics, "dropped")), (40, 1));
}

/// A process that was killed left half a line, which must not spoil the next one.
#[tokio::test]
async fn file_of_an_earlier_process_is_continued() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("decisions.jsonl");
    std::fs::write(&path, "{\"time\": \"20").unwrap();
    let (recorder, _) = recorder(&to_file(&path));
    decided(&recorder, "p", &with_secret());
    recorder.finish().await;
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(Record::read(lines[0]).is_err() && Record::read(lines[1]).is_ok(), "{text}");
}

#[tokio::test]
async fn moved_file_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("decisions.jsonl");
    let (recorder, metrics) = recorder(&RecordConfig { max_bytes: 2000, ..to_file(&path) });
    std::fs::rename(&path, dir.path().join("elsewhere")).unwrap();
    for _ in 0..20 {
        decided(&recorder, "p", &request(&json!({})));
    }
    recorder.finish().await;
    assert!(!lines(&path).is_empty());
    assert_eq!((counted(&metrics, "written"), counted(&metrics, "failed")), (20, 0));
}

#[test]
fn place_that_is_no_regular_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |path: &Path| {
        let started = Recorder::start(&to_file(path), 0, &Metrics::new().unwrap());
        started.err().unwrap_or_else(|| panic!("{} was opened", path.display())).to_string()
    };
    assert!(refused(dir.path()).contains("a regular file, or - for standard output"));
    assert!(refused(Path::new("/dev/null")).contains("a regular file"));
    assert!(refused(&dir.path().join("missing/file")).contains("No such file"));
}

/// A thread that is slow, because the disk is, holds up no call.
#[tokio::test]
async fn decisions_beyond_the_bounds_are_dropped_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("decisions.jsonl");
    let (recorder, metrics) = recorder(&to_file(&path));
    let large = request(&json!({"spec": "x".repeat(limits::RECORD_QUEUE_BYTES)}));
    decided(&recorder, "large", &large);
    assert_eq!(counted(&metrics, "dropped"), 1);
    assert!(recorder.recent(|_| true).next().is_none(), "one large decision does not displace all others");
    decided(&recorder, "small", &with_secret());
    recorder.finish().await;
    assert_eq!(lines(&path).len(), 1);
}

#[test]
fn memory_holds_a_number_of_decisions_and_of_bytes() {
    let config = RecordConfig { recent: 3, ..RecordConfig::default() };
    let (few, _) = recorder(&config);
    for name in ["a", "b", "c", "d"] {
        decided(&few, name, &with_secret());
    }
    let names =
        |recorder: &Recorder| -> Vec<String> { recorder.recent(|_| true).map(|record| record.object.name).collect() };
    assert_eq!(names(&few), ["d", "c", "b"]);
    let (bytes, _) = recorder(&RecordConfig { recent: usize::MAX, ..RecordConfig::default() });
    let large = request(&json!({"spec": "x".repeat(limits::RECENT_DECISIONS_BYTES / 5)}));
    for name in ["a", "b", "c", "d", "e", "f"] {
        decided(&bytes, name, &large);
    }
    assert_eq!(names(&bytes), ["f", "e", "d", "c"]);
    let (none, _) = recorder(&RecordConfig { recent: 0, ..RecordConfig::default() });
    decided(&none, "a", &with_secret());
    assert!(names(&none).is_empty());
}

/// Neither many decisions nor large ones of one namespace displace those of another.
#[test]
fn busy_namespace_displaces_its_own_decisions_alone() {
    let large = request(&json!({"spec": "x".repeat(limits::RECENT_DECISIONS_BYTES / 5)}));
    for (recent, request) in [(8, with_secret()), (usize::MAX, large)] {
        let (recorder, _) = recorder(&RecordConfig { recent, ..RecordConfig::default() });
        for name in ["first", "second"] {
            decided_in("good", &recorder, name, &with_secret());
        }
        for number in 0..100 {
            decided_in("hostile", &recorder, &number.to_string(), &request);
        }
        decided_in("good", &recorder, "third", &with_secret());
        decided_in("hostile", &recorder, "last", &request);
        let kept: Vec<String> = recorder.recent(|_| true).map(|record| record.object.name).collect();
        assert_eq!(kept[..3], ["last", "third", "99"], "the newest first");
        assert_eq!(kept[kept.len() - 2..], ["second", "first"], "{kept:?}");
        assert!(kept.len() >= 5 && kept.len() <= 8, "{kept:?}");
    }
    // Namespaces with equal shares lose the oldest decision.
    let (recorder, _) = recorder(&RecordConfig { recent: 3, ..RecordConfig::default() });
    for namespace in ["a", "b", "c", "d", "e"] {
        decided_in(namespace, &recorder, namespace, &with_secret());
    }
    let kept: Vec<String> = recorder.recent(|_| true).map(|record| record.object.name).collect();
    assert_eq!(kept, ["e", "d", "c"]);
}

#[tokio::test]
async fn sample_is_a_part_of_the_decisions() {
    let dir = tempfile::tempdir().unwrap();
    for (sample, least, most) in [(0.25, 50, 200), (1.0, 400, 400)] {
        let path = dir.path().join(format!("{sample}.jsonl"));
        let (recorder, metrics) = recorder(&RecordConfig { sample, ..to_file(&path) });
        for _ in 0..400 {
            decided(&recorder, "p", &request(&json!({})));
        }
        recorder.finish().await;
        let written = lines(&path).len();
        assert!((least..=most).contains(&written), "{sample}: {written}");
        assert_eq!(counted(&metrics, "written"), written as u64);
        assert_eq!(recorder.recent(|_| true).count(), limits::RECENT_DECISIONS, "all are in memory");
    }
}
