//! Arbitrary JSON, and questions that are changed in one place.

use fastrand::Rng;
use serde_json::{Map, Number, Value, json};

/// Names that settings and questions use, so that some of the values have an effect.
const NAMES: [&str; 16] = [
    "desired",
    "serviceLevel",
    "hitRate",
    "tiers",
    "cpuMillicores",
    "prefer",
    "mode",
    "min",
    "max",
    "arrivals",
    "state",
    "now",
    "labels",
    "object",
    "spec",
    "containers",
];

/// A question of each hook, in the form of `paddock plugin question`.
pub(crate) fn questions() -> [Value; 4] {
    let classes = json!([{"name": "gvisor", "handler": "runsc", "isolated": true, "nodes": 2}]);
    let now = "2027-01-15T08:00:00Z";
    [
        json!({
            "operation": "create", "group": "", "version": "v1", "kind": "Pod", "namespace": "agents", "name": "p",
            "object": {"metadata": {"name": "p"}, "spec": {"containers": [{"image": "a"}]}}, "old-object": null,
            "namespace-labels": {"team": "a"}, "username": "jane", "groups": ["system:authenticated"],
            "generated-code": true, "classes": classes, "dry-run": false, "now": now,
        }),
        json!({
            "namespace": "agents", "name": "p", "labels": {}, "images": ["python:3"], "requested": null,
            "generated-code": true, "namespace-labels": {}, "classes": classes, "now": now,
        }),
        json!({
            "namespace": "agents", "name": "p", "labels": {}, "idle-timeout-ms": 60_000,
            "created": "2027-01-15T07:00:00Z", "ready-since": "2027-01-15T07:01:00Z", "last-activity": null,
            "held-until": null, "connections": 2, "cpu-millicores": 5, "tiers": ["throttle", "suspend"], "state": "",
            "now": now,
        }),
        json!({
            "namespace": "agents", "name": "pool", "labels": {}, "min": 2, "max": 50, "ready": 2, "creating": 0,
            "claimed": 7, "bucket-seconds": 10, "arrivals": [0, 3, 9, 4], "hits": 50, "misses": 3, "refill-ms": 4200,
            "state": "", "now": now,
        }),
    ]
}

/// A JSON value of at most this depth.
pub(crate) fn value(random: &mut Rng, depth: u32) -> Value {
    match random.u32(0..if depth == 0 { 6 } else { 8 }) {
        0 => Value::Null,
        1 => json!(random.bool()),
        2 => json!([0_i64, 1, -1, 7, 10_000, i64::MIN, i64::MAX][random.usize(0..7)]),
        3 => json!([u64::MAX, u64::from(u32::MAX), random.u64(..)][random.usize(0..3)]),
        // A number that is not finite has no form in JSON.
        4 => Number::from_f64(f64::from_bits(random.u64(..))).map_or(Value::Null, Value::Number),
        5 => json!(text(random)),
        6 => (0..random.usize(0..5)).map(|_| value(random, depth - 1)).collect(),
        _ => {
            let entry = |random: &mut Rng| (name(random), value(random, depth - 1));
            Value::Object((0..random.usize(0..5)).map(|_| entry(random)).collect::<Map<_, _>>())
        }
    }
}

fn name(random: &mut Rng) -> String {
    if random.bool() { NAMES[random.usize(0..NAMES.len())].to_owned() } else { text(random) }
}

fn text(random: &mut Rng) -> String {
    match random.u32(0..4) {
        0 => String::new(),
        1 => NAMES[random.usize(0..NAMES.len())].to_owned(),
        2 => "\u{1f980}\0\"\\/".repeat(random.usize(1..2000)),
        _ => (0..random.usize(1..20)).map(|_| random.char(..)).collect(),
    }
}

/// Settings: mostly a JSON object, and sometimes a text that is no JSON.
pub(crate) fn settings(random: &mut Rng) -> String {
    match random.u32(0..6) {
        0 => text(random),
        1 => value(random, 3).to_string(),
        2 => "[".repeat(random.usize(1..5000)),
        3 => "{}".to_owned(),
        _ => {
            let field = |random: &mut Rng| (name(random), value(random, 2));
            Value::Object((0..random.usize(0..4)).map(|_| field(random)).collect::<Map<_, _>>()).to_string()
        }
    }
}

/// A question in which some values are replaced, removed or added.
pub(crate) fn question(random: &mut Rng, question: &Value) -> Value {
    let mut changed = question.clone();
    for _ in 0..random.usize(0..=3) {
        let added = value(random, 3);
        let Some(fields) = changed.as_object_mut() else { return added };
        let names: Vec<String> = fields.keys().cloned().collect();
        let field = names[random.usize(0..names.len())].clone();
        match random.u32(0..8) {
            0 => {
                fields.remove(&field);
            }
            1 => {
                fields.insert(name(random), added);
            }
            2 => return added,
            3 | 4 => {
                fields.insert(field, added);
            }
            // Values of the right types reach the plugins.
            5 => {
                fields.insert("namespace".to_owned(), json!(format!("n{}", random.u32(..))));
            }
            6 if fields.contains_key("state") => {
                let bytes: Vec<u8> = (0..random.usize(0..3000)).map(|_| random.u8(..)).collect();
                fields.insert("state".to_owned(), json!(bytes));
            }
            _ if fields.contains_key("arrivals") => {
                let arrivals: Vec<u32> = (0..random.usize(0..200)).map(|_| random.u32(..)).collect();
                fields.insert("arrivals".to_owned(), json!(arrivals));
                fields.insert("max".to_owned(), json!(random.u32(..)));
            }
            _ => {
                fields.insert("now".to_owned(), json!(random.u64(0..250_000_000_000_000)));
            }
        }
        if fields.is_empty() {
            break;
        }
    }
    changed
}
