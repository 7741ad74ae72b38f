//! Plugins of both WIT versions side by side: the same plugin, built for each, sees and answers the same.

use paddock_core::question::{AdmissionAnswer, Answer, ClassChoice, Hook, IdleTier, PluginRef, Question, Verdict};
use paddock_plugin_host::{Host, Plugin, versions};

use crate::common::{ask, host, idle, labels, load, now, pod, pool, runtime_class};

const BOTH: [(&str, &[u8]); 2] = [("0.1.0", paddock_guests::REPEAT_V0_1_0), ("0.2.0", paddock_guests::REPEAT_V0_2_0)];

/// The plugins of both versions in one host.
fn both(host: &Host) -> [Plugin; 2] {
    BOTH.map(|(version, component)| load(host, &format!("repeat-{}", version.replace('.', "-")), component))
}

/// The question as the plugin sees it, and its answer without it.
fn repeated(host: &Host, plugin: &PluginRef, question: &Question) -> (String, Answer) {
    let mut text = String::new();
    for part in 0.. {
        let settings = format!(r#"{{"part":{part}}}"#);
        let mut answer = host.ask(&ask(plugin, &settings, question.clone()), now()).unwrap();
        let next = match &mut answer {
            Answer::Admission(answer) => std::mem::take(&mut answer.warnings).concat(),
            Answer::RuntimeClass(answer) => std::mem::take(&mut answer.reason),
            Answer::Idle(answer) => std::mem::take(&mut answer.reason),
            Answer::PoolSize(answer) => std::mem::take(&mut answer.reason),
        };
        if next.is_empty() {
            return (text, answer);
        }
        text.push_str(&next);
    }
    unreachable!()
}

/// What both plugins say about a question.
fn told(question: Question) -> (String, Answer) {
    let host = host();
    let [former, latest] = both(&host).map(|plugin| repeated(&host, &plugin.plugin, &question));
    assert_eq!(former, latest, "both versions");
    latest
}

#[test]
fn both_versions_are_loaded_side_by_side_and_import_only_their_own_log() {
    let host = host();
    let loaded = both(&host);
    for ((version, component), plugin) in BOTH.iter().zip(&loaded) {
        assert_eq!((&*plugin.wit_version, &*plugin.hooks), (*version, &Hook::ALL[..]));
        assert_eq!(host.wit_version(&plugin.plugin), Some(*version));
        let surface = host.surface(component).unwrap();
        assert_eq!(surface.imports, [format!("paddock:policy/log@{version}")]);
        assert!(surface.exports.iter().all(|export| export.ends_with(&format!("@{version}"))), "{:?}", surface.exports);
    }
    assert_eq!(host.plugins(now()).len(), 2);
    assert_eq!(versions().collect::<Vec<_>>(), BOTH.map(|(version, _)| version));
}

#[test]
fn admission_is_the_same_in_both_versions() {
    let mut question = pod();
    question.old_object = Some("{\"old\":1}".into());
    let (text, answer) = told(Question::Admission(Box::new(question.clone())));
    for part in [
        "Question { operation: Operation::",
        &format!("group: {:?}, version: {:?}, kind: {:?}", question.group, question.version, question.kind),
        &format!("namespace: {:?}, name: {:?}", question.namespace, question.name),
        "old-object: Some(\"{\\\"old\\\":1}\")",
        &format!("username: {:?}, groups: {:?}", question.username, question.groups),
        &format!("generated-code: {}", question.generated_code),
        "RuntimeClassFact { name: \"gvisor\"",
        &format!("dry-run: {}, now: {}", question.dry_run, now().as_millisecond()),
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let allowed = AdmissionAnswer { verdict: Verdict::Allow, warnings: vec![], patch: Some("[]".into()) };
    assert_eq!(answer, Answer::Admission(allowed));
    question.dry_run = true;
    let denied = AdmissionAnswer { verdict: Verdict::Deny("a dry run".into()), warnings: vec![], patch: None };
    assert_eq!(told(Question::Admission(Box::new(question))).1, Answer::Admission(denied));
}

#[test]
fn runtime_class_is_the_same_in_both_versions() {
    for (requested, generated_code, choice) in [
        (Some("kata".to_owned()), false, ClassChoice::Class("kata".into())),
        (None, true, ClassChoice::Refuse),
        (None, false, ClassChoice::Default),
    ] {
        let mut question = runtime_class();
        (question.requested, question.generated_code) = (requested, generated_code);
        question.labels = labels(&[("app", "agent")]);
        question.namespace_labels = labels(&[("team", "research")]);
        let (text, answer) = told(Question::RuntimeClass(Box::new(question.clone())));
        for part in [
            &format!("namespace: {:?}, name: {:?}", question.namespace, question.name),
            ", labels: [Label { key: \"app\", value: \"agent\" }]",
            &format!("images: {:?}, requested: {:?}", question.images, question.requested),
            &format!(
                "generated-code: {generated_code}, namespace-labels: [Label {{ key: \"team\", value: \"research\" }}]"
            ),
            "RuntimeClassFact { name: \"gvisor\"",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let Answer::RuntimeClass(answer) = answer else { panic!("{answer:?}") };
        assert_eq!(answer.choice, choice);
    }
}

#[test]
fn idle_is_the_same_in_both_versions() {
    for tier in [IdleTier::Throttle, IdleTier::Suspend, IdleTier::Hibernate, IdleTier::Delete] {
        let mut question = idle();
        question.idle_timeout_ms = 4000;
        (question.created, question.ready_since) = (now(), None);
        (question.last_activity, question.held_until) = (Some(now()), None);
        (question.connections, question.cpu_millicores) = (Some(3), Some(250));
        (question.tiers, question.state) = (vec![tier], vec![9, 8]);
        let (text, answer) = told(Question::Idle(Box::new(question)));
        let now = now().as_millisecond();
        let fields = format!(
            "idle-timeout-ms: 4000, created: {now}, ready-since: None, last-activity: Some({now}), held-until: None, \
             connections: Some(3), cpu-millicores: Some(250), tiers: [Tier::{tier:?}], state: [9, 8], now: {now} }}"
        );
        assert!(text.ends_with(&fields), "{fields}\n{text}");
        let Answer::Idle(answer) = answer else { panic!("{answer:?}") };
        assert_eq!((answer.action, answer.state), (Some(tier), Some(vec![1, 2])));
        assert_eq!(answer.next_check.map(jiff::Timestamp::as_millisecond), Some(now + 1000));
    }
}

#[test]
fn pool_size_is_the_same_in_both_versions() {
    let mut question = pool();
    (question.labels, question.state) = (labels(&[("tier", "gold")]), vec![7]);
    let (text, answer) = told(Question::PoolSize(Box::new(question.clone())));
    let fields = format!(
        "labels: [Label {{ key: \"tier\", value: \"gold\" }}], min: 2, max: 50, ready: 2, creating: 0, claimed: 7, \
         bucket-seconds: 60, arrivals: {:?}, hits: 50, misses: 3, refill-ms: Some(4200), state: [7], now: {} }}",
        question.arrivals,
        now().as_millisecond()
    );
    assert!(text.ends_with(&fields), "{fields}\n{text}");
    let Answer::PoolSize(answer) = answer else { panic!("{answer:?}") };
    assert_eq!((answer.desired, answer.next_check, answer.state), (question.max, None, Some(vec![3])));
}
