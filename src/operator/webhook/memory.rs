//! The memory that a review will need, estimated from its bytes before they are parsed.
//!
//! JSON of one byte can take a hundred bytes of memory, so a limit on bytes alone limits nothing. The estimate is made
//! in one pass without an allocation for each value. It counts what `serde_json` and the typed parts of a Pod allocate:
//! it may be too high for small values, and it is never far too low.

/// The memory of a map that is not empty: the smallest node of a `BTreeMap<String, Value>`.
const MAP: usize = 640;
/// The memory of one more entry of a map, if the nodes are half full.
const MAP_ENTRY: usize = 112;
/// The memory of a list that is not empty: room for four values.
const LIST: usize = 128;
/// The memory of one more element of a list, if half of the list's capacity is used.
const LIST_ELEMENT: usize = 64;
/// The memory of a string apart from its text.
const STRING: usize = 16;
/// The memory of an object in a list when it is parsed as a part of a Pod. The largest is a volume.
const TYPED_ELEMENT: usize = 3328;

/// The memory that the review in this body will need, in bytes.
pub(super) fn needed(body: &[u8]) -> usize {
    let Shape { values, elements } = shape(body);
    // The objects are parsed once. The working copy of the new object is half of an update, and typed parts follow.
    body.len() + values + values / 2 + elements * TYPED_ELEMENT
}

#[derive(Default)]
struct Shape {
    /// The memory of all values, in bytes.
    values: usize,
    /// The number of objects that are elements of a list.
    elements: usize,
}

fn shape(body: &[u8]) -> Shape {
    let mut shape = Shape::default();
    // One bit for each open map or list, the innermost last: whether it is a list. `serde_json` refuses more than 128.
    let mut lists: u128 = 0;
    let mut at = 0;
    while let Some(&byte) = body.get(at) {
        at += 1;
        match byte {
            b'"' => {
                let begin = at;
                while let Some(&byte) = body.get(at)
                    && byte != b'"'
                {
                    at += if byte == b'\\' { 2 } else { 1 };
                }
                shape.values += STRING + at.min(body.len()).saturating_sub(begin).next_multiple_of(16);
                at += 1;
            }
            b'{' => {
                shape.values += if follows(body, at, b'}') { 0 } else { MAP };
                shape.elements += usize::from(lists & 1 == 1);
                lists <<= 1;
            }
            b'[' => {
                shape.values += if follows(body, at, b']') { 0 } else { LIST };
                lists = lists << 1 | 1;
            }
            b'}' | b']' => lists >>= 1,
            b',' => shape.values += if lists & 1 == 1 { LIST_ELEMENT } else { MAP_ENTRY },
            _ => {}
        }
    }
    shape
}

/// Whether the next byte after spaces is this one.
fn follows(body: &[u8], at: usize, byte: u8) -> bool {
    body.iter().skip(at).find(|byte| !byte.is_ascii_whitespace()) == Some(&byte)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The memory of a value, counted the way that the allocator is asked.
    fn counted(value: &Value) -> usize {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
            Value::String(text) => text.capacity(),
            Value::Array(list) => list.capacity() * size_of::<Value>() + list.iter().map(counted).sum::<usize>(),
            Value::Object(map) => {
                let nodes = map.len().div_ceil(6) * (11 * (size_of::<String>() + size_of::<Value>()) + 16);
                nodes + map.iter().map(|(key, value)| key.capacity() + counted(value)).sum::<usize>()
            }
        }
    }

    /// Objects of some hundred kilobytes, each in a shape that is expensive in its own way.
    fn shapes() -> Vec<(&'static str, Value)> {
        let many = 10_000;
        let list = |element: Value| json!({ "spec": std::iter::repeat_n(element, many).collect::<Vec<_>>() });
        let map = |value: Value| json!({ "spec": (0..many).map(|n| (format!("f:{n}"), value.clone())).collect::<serde_json::Map<_, _>>() });
        vec![
            ("one long value", json!({ "metadata": { "annotations": { "a": "x".repeat(1 << 20) } } })),
            ("a value of quotes", json!({ "a": "\"{[,".repeat(100_000) })),
            ("many arguments", list(json!("a"))),
            ("numbers", list(json!(0))),
            ("empty maps", list(json!({}))),
            ("small maps", list(json!({ "a": 0 }))),
            ("nested maps", list(json!({ "a": { "b": { "c": [[[0]]] } } }))),
            ("volumes", list(json!({ "name": "v00001", "emptyDir": {} }))),
            ("environment", list(json!({ "name": "NAME", "value": "value" }))),
            ("managed fields", map(json!({}))),
            ("nested managed fields", map(json!({ "f:a": {} }))),
        ]
    }

    #[test]
    fn the_estimate_is_at_least_the_memory_and_no_multiple_of_it() {
        for (name, value) in shapes() {
            let text = serde_json::to_string(&value).unwrap();
            let parsed: Value = serde_json::from_str(&text).unwrap();
            let (estimated, real) = (shape(text.as_bytes()).values, counted(&parsed));
            assert!(estimated >= real, "{name}: {estimated} is less than {real}");
            assert!(estimated <= real * 4 + 2 * text.len(), "{name}: {estimated} of {real}");
        }
    }

    #[test]
    fn elements_of_lists_count_as_parts_of_a_pod() {
        let count = |value: Value| shape(value.to_string().as_bytes()).elements;
        assert_eq!(count(json!({ "volumes": [{ "name": "a", "emptyDir": {} }, { "name": "b" }], "c": {} })), 2);
        assert_eq!(count(json!({ "a": ["{", "[", "\\\"{"], "b": [[{}]] })), 1);
    }

    /// No bound lies below what a user needs.
    #[test]
    fn a_pod_of_two_hundred_containers_and_its_old_version_fit() {
        let environment: Vec<Value> = (0..25).map(|n| json!({ "name": format!("N{n}"), "value": "v" })).collect();
        let container = |n| {
            json!({
                "name": format!("c{n}"), "image": "registry.example/a/b:c", "env": environment,
                "resources": { "requests": { "cpu": "100m", "memory": "1Gi" } },
                "volumeMounts": [{ "name": "v", "mountPath": "/v" }],
            })
        };
        let object = json!({ "spec": { "containers": (0..200).map(container).collect::<Vec<_>>() } });
        let review = json!({ "request": { "object": object, "oldObject": object } }).to_string();
        let most = crate::limits::WEBHOOK_SERVER.largest();
        let needed = needed(review.as_bytes());
        assert!(needed < most, "{needed} of {most}");
    }

    #[test]
    fn bytes_that_are_not_json_have_an_estimate_too() {
        for body in [&b"\""[..], b"\"\\", b"{", b"]]]]", b"", b"[[[[\"", &[b'['; 1000]] {
            assert!(needed(body) < 1_000_000);
        }
    }
}
