//! The form of each hook: what is written is read again, and what is wrong is refused with its path.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use super::*;
use crate::question::{ClassChoice, IdleTier, Operation, RuntimeClassFact, Verdict};

fn texts() -> impl Strategy<Value = String> {
    // With the texts that YAML reads as something else.
    prop_oneof![
        any::<String>(),
        select(vec!["", "no", "null", "~", "1e3", "0x1", "2027-01-15", "a: b"]).prop_map(Into::into)
    ]
}

fn times() -> impl Strategy<Value = Timestamp> {
    (0..=Timestamp::MAX.as_millisecond()).prop_map(|time| Timestamp::from_millisecond(time).unwrap())
}

fn maps() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(texts(), texts(), 0..4)
}

/// Texts of JSON values: as serde_json writes them, and as others write them.
fn json_texts() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        texts().prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(texts(), inner, 0..4).prop_map(|map| Value::from(serde_json::Map::from_iter(map))),
        ]
    });
    let others = [r#"{"b":1,"a":2}"#, "{ }", r#"{"a":1e2}"#, r#"{"a":1,"a":2}"#, r#""text""#, "[1.50]", "7"];
    prop_oneof![
        value.clone().prop_map(|value| value.to_string()),
        value.prop_map(|value| serde_json::to_string_pretty(&value).unwrap()),
        select(others.to_vec()).prop_map(Into::into),
    ]
}

fn classes() -> impl Strategy<Value = Vec<RuntimeClassFact>> {
    let class = (texts(), texts(), any::<bool>(), any::<u32>());
    vec(class.prop_map(|(name, handler, isolated, nodes)| RuntimeClassFact { name, handler, isolated, nodes }), 0..3)
}

fn tiers() -> impl Strategy<Value = IdleTier> {
    select(vec![IdleTier::Throttle, IdleTier::Suspend, IdleTier::Hibernate, IdleTier::Delete])
}

fn admission_questions() -> impl Strategy<Value = Question> {
    let names = (texts(), texts(), texts(), texts(), texts(), texts());
    let objects = (json_texts(), option::of(json_texts()));
    let rest = (maps(), vec(texts(), 0..3), classes(), any::<(bool, bool, bool)>(), times());
    (names, objects, rest).prop_map(|(names, (object, old_object), (namespace_labels, groups, classes, flags, now))| {
        let (group, version, kind, namespace, name, username) = names;
        let (create, generated_code, dry_run) = flags;
        let operation = if create { Operation::Create } else { Operation::Update };
        Question::Admission(Box::new(AdmissionQuestion {
            operation,
            group,
            version,
            kind,
            namespace,
            name,
            object,
            old_object,
            namespace_labels,
            username,
            groups,
            generated_code,
            classes,
            dry_run,
            now,
        }))
    })
}

fn runtime_class_questions() -> impl Strategy<Value = Question> {
    let parts = (texts(), texts(), maps(), vec(texts(), 0..3), option::of(texts()), any::<bool>(), maps());
    (parts, classes(), times()).prop_map(|(parts, classes, now)| {
        let (namespace, name, labels, images, requested, generated_code, namespace_labels) = parts;
        Question::RuntimeClass(Box::new(RuntimeClassQuestion {
            namespace,
            name,
            labels,
            images,
            requested,
            generated_code,
            namespace_labels,
            classes,
            now,
        }))
    })
}

fn states() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![any::<Vec<u8>>(), texts().prop_map(String::into_bytes)]
}

fn idle_questions() -> impl Strategy<Value = Question> {
    let moments = (times(), option::of(times()), option::of(times()), option::of(times()), times());
    let facts = (any::<u64>(), any::<Option<u32>>(), any::<Option<u32>>(), vec(tiers(), 0..5), states());
    (texts(), texts(), maps(), moments, facts).prop_map(|(namespace, name, labels, moments, facts)| {
        let (created, ready_since, last_activity, held_until, now) = moments;
        let (idle_timeout_ms, connections, cpu_millicores, tiers, state) = facts;
        Question::Idle(Box::new(IdleQuestion {
            namespace,
            name,
            labels,
            idle_timeout_ms,
            created,
            ready_since,
            last_activity,
            held_until,
            connections,
            cpu_millicores,
            tiers,
            state,
            now,
        }))
    })
}

fn pool_size_questions() -> impl Strategy<Value = Question> {
    let demand = (any::<Vec<u32>>(), any::<Option<u64>>(), states(), times());
    (texts(), texts(), maps(), any::<[u32; 8]>(), demand).prop_map(|(namespace, name, labels, numbers, demand)| {
        let [min, max, ready, creating, claimed, bucket_seconds, hits, misses] = numbers;
        let (arrivals, refill_ms, state, now) = demand;
        Question::PoolSize(Box::new(PoolSizeQuestion {
            namespace,
            name,
            labels,
            min,
            max,
            ready,
            creating,
            claimed,
            bucket_seconds,
            arrivals,
            hits,
            misses,
            refill_ms,
            state,
            now,
        }))
    })
}

fn questions() -> impl Strategy<Value = Question> {
    prop_oneof![admission_questions(), runtime_class_questions(), idle_questions(), pool_size_questions()]
}

fn answers() -> impl Strategy<Value = Answer> {
    let verdict = prop_oneof![Just(Verdict::Allow), texts().prop_map(Verdict::Deny)];
    let choice =
        prop_oneof![texts().prop_map(ClassChoice::Class), Just(ClassChoice::Default), Just(ClassChoice::Refuse),];
    prop_oneof![
        (verdict, vec(texts(), 0..3), option::of(json_texts()))
            .prop_map(|(verdict, warnings, patch)| { Answer::Admission(AdmissionAnswer { verdict, warnings, patch }) }),
        (choice, texts()).prop_map(|(choice, reason)| Answer::RuntimeClass(RuntimeClassAnswer { choice, reason })),
        (option::of(tiers()), option::of(times()), texts(), option::of(states())).prop_map(
            |(action, next_check, reason, state)| Answer::Idle(IdleAnswer { action, next_check, reason, state })
        ),
        (any::<u32>(), option::of(times()), texts(), option::of(states())).prop_map(
            |(desired, next_check, reason, state)| {
                Answer::PoolSize(PoolSizeAnswer { desired, next_check, reason, state })
            }
        ),
    ]
}

fn hook_of(answer: &Answer) -> Hook {
    match answer {
        Answer::Admission(_) => Hook::Admission,
        Answer::RuntimeClass(_) => Hook::RuntimeClass,
        Answer::Idle(_) => Hook::Idle,
        Answer::PoolSize(_) => Hook::PoolSize,
    }
}

/// The value of a JSON text, and of a YAML text with the same value.
fn through_text(value: &Value) -> [Value; 2] {
    let (json, yaml) = (value.to_string(), serde_yaml_ng::to_string(value).unwrap());
    [serde_json::from_str(&json).unwrap(), serde_yaml_ng::from_str(&yaml).unwrap()]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_question_that_is_written_is_read_again(asked in questions()) {
        for form in through_text(&serde_json::to_value(&asked).unwrap()) {
            prop_assert_eq!(hook(&form), Ok(Some(asked.hook())));
            prop_assert_eq!(question(asked.hook(), form), Ok(asked.clone()));
        }
    }

    #[test]
    fn an_answer_that_is_written_is_read_again(given in answers()) {
        for form in through_text(&serde_json::to_value(&given).unwrap()) {
            prop_assert_eq!(answer(hook_of(&given), form), Ok(given.clone()));
        }
    }

    /// Whatever a form contains, it is read or refused.
    #[test]
    fn every_field_with_a_wrong_value_is_refused_with_its_name(asked in questions(), number in any::<usize>()) {
        let mut form = serde_json::to_value(&asked).unwrap();
        let fields: Vec<String> = form.as_object().unwrap().keys().cloned().collect();
        let field = &fields[number % fields.len()];
        // No field is a list of lists.
        form[field] = json!([[1], [2]]);
        let is_json = matches!(field.as_str(), "object" | "old-object");
        match question(asked.hook(), form) {
            Ok(_) => prop_assert!(is_json, "{} was read", field),
            Err(error) => prop_assert!(!is_json && error.to_string().starts_with(field.as_str()), "{}: {}", field, error),
        }
    }

    #[test]
    fn every_field_that_is_left_out_is_missing_or_an_option(asked in questions(), number in any::<usize>()) {
        const OPTIONS: [&str; 9] = [
            "hook", "old-object", "requested", "ready-since", "last-activity", "held-until", "connections",
            "cpu-millicores", "refill-ms",
        ];
        let mut form = serde_json::to_value(&asked).unwrap();
        let fields: Vec<String> = form.as_object().unwrap().keys().cloned().collect();
        let field = &fields[number % fields.len()];
        form.as_object_mut().unwrap().remove(field);
        match question(asked.hook(), form) {
            Ok(_) => prop_assert!(OPTIONS.contains(&field.as_str()), "{}", field),
            Err(error) => {
                prop_assert!(!OPTIONS.contains(&field.as_str()), "{}", field);
                prop_assert_eq!(error.to_string(), format!("missing field `{field}`"));
            }
        }
    }
}

fn pool() -> Value {
    json!({
        "namespace": "agents", "name": "pool", "labels": {}, "min": 0, "max": 9, "ready": 0, "creating": 0,
        "claimed": 0, "bucket-seconds": 10, "arrivals": [1, 2], "hits": 0, "misses": 0, "state": "",
        "now": "2027-01-15T08:00:00Z",
    })
}

#[test]
fn form_has_the_names_of_the_wit() {
    for (hook, wit) in [
        (Hook::Admission, include_str!("../../../../wit/v0.2.0/admission.wit")),
        (Hook::RuntimeClass, include_str!("../../../../wit/v0.2.0/runtime-class.wit")),
        (Hook::Idle, include_str!("../../../../wit/v0.2.0/idle.wit")),
        (Hook::PoolSize, include_str!("../../../../wit/v0.2.0/pool-size.wit")),
    ] {
        let (_, record) = wit.split_once("record question {").unwrap();
        let (record, _) = record.split_once("\n  }").unwrap();
        let lines = record.lines().map(str::trim).filter(|line| !line.starts_with("///") && !line.is_empty());
        let mut expected: Vec<&str> = lines.map(|line| line.split_once(':').unwrap().0).collect();
        expected.sort_unstable();
        // An unknown field is refused with the list of the known ones.
        let error = question(hook, json!({"no-such-field": 1})).unwrap_err().to_string();
        let (_, known) = error.split_once("expected one of ").unwrap();
        let mut found: Vec<&str> = known.split(", ").map(|name| name.trim_matches('`')).collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{}", hook.as_str());
    }
}

#[test]
fn what_is_wrong_is_refused_with_its_path_and_what_would_be_right() {
    for (change, error) in [
        (json!({"arrivals": [1, "x"]}), "arrivals[1]: invalid type: string \"x\", expected u32"),
        (json!({"arrivals": [1, -2]}), "arrivals[1]: invalid value: integer `-2`, expected u32"),
        (json!({"labels": {"team": 3}}), "labels.team: invalid type: integer `3`, expected a string"),
        (json!({"labels": [{"key": "a", "value": "b"}]}), "labels: invalid type: sequence, expected a map"),
        (json!({"now": "yesterday"}), "now: expected a time such as 2027-01-15T08:00:00Z, or milliseconds since 1970"),
        (json!({"now": "1969-12-31T23:59:59Z"}), "now: expected a time between 1970 and 9999"),
        (json!({"now": u64::MAX}), "now: expected a time between 1970 and 9999"),
        (json!({"state": [256]}), "state: expected a text, or a list of bytes"),
        (json!({"min": 4_294_967_296_u64}), "min: invalid value: integer `4294967296`, expected u32"),
        (json!({"bucket_seconds": 10}), "bucket_seconds: unknown field `bucket_seconds`, expected one of `namespace`"),
        (json!({"hook": "idle"}), "hook: must be pool-size or be left out, but is idle"),
        (json!({"hook": "sleep"}), "hook: unknown variant `sleep`, expected one of"),
    ] {
        let mut form = pool();
        form.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let found = question(Hook::PoolSize, form).unwrap_err().to_string();
        assert!(found.starts_with(error), "{change}: {found}");
    }
    let found = question(Hook::PoolSize, json!([])).unwrap_err().to_string();
    assert!(found.starts_with("invalid length 0") || found.starts_with("invalid type: sequence"), "{found}");
    let found = question(Hook::Idle, json!("text")).unwrap_err().to_string();
    assert!(found.starts_with("invalid type: string \"text\", expected struct"), "{found}");
}

#[test]
fn a_time_may_be_a_number_and_a_state_a_list() {
    let mut form = pool();
    form["now"] = json!(1_800_000_000_000_u64);
    form["state"] = json!([104, 105]);
    let Ok(Question::PoolSize(read)) = question(Hook::PoolSize, form) else { panic!("not read") };
    assert_eq!((read.now.to_string().as_str(), read.state.as_slice()), ("2027-01-15T08:00:00Z", &b"hi"[..]));
}

#[test]
fn a_json_text_is_written_as_its_value_unless_that_would_change_it() {
    for (text, form) in [
        (r#"{"a":[1,"b"]}"#, json!({"a": [1, "b"]})),
        (r#"{"b":1,"a":2}"#, json!(r#"{"b":1,"a":2}"#)),
        (r#"{"a": 1}"#, json!(r#"{"a": 1}"#)),
        (r#""a""#, json!(r#""a""#)),
        ("{", json!("{")),
    ] {
        assert_eq!(value_of(text), form);
        let read = text_of::<serde_json::Error>(form).ok();
        assert_eq!(read.as_deref(), Some(text).filter(|text| *text != "{"), "a text that is not JSON is refused");
    }
}
