//! An operation as a line of text, for logs and for `/debug/seen`.

use std::fmt;

use super::{Action, Op};
use crate::object::budget;

/// The largest body of a patch in a line, in bytes of JSON. A status with ten conditions has less.
const SHOWN_BODY_BYTES: usize = 8 * 1024;

/// Writes one line for each operation, such as `create Pod/ns/name because PodMissing`. The line of a patch contains its
/// body, if that is small.
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, body) = match &self.action {
            Action::Create { .. } => ("create", None),
            Action::Patch { status: true, body, .. } => ("patch status of", Some(body)),
            Action::Patch { status: false, body, .. } => ("patch", Some(body)),
            Action::Resize { body, .. } => ("resize", Some(body)),
            Action::Adopt { body, .. } => ("adopt", Some(body)),
            Action::Deliver { body, .. } => ("deliver the data of a claim to", Some(body)),
            Action::Delete { .. } => ("delete", None),
        };
        write!(f, "{verb} {} because {}", self.key, self.reason)?;
        match body {
            None => Ok(()),
            Some(body) if budget::fits(body, SHOWN_BODY_BYTES) => write!(f, ": {body}"),
            Some(_) => write!(f, ": more than {} KiB of JSON", SHOWN_BODY_BYTES / 1024),
        }
    }
}

#[cfg(test)]
mod tests {
    use paddock_api::kind::{Key, Kind};
    use serde_json::json;

    use super::*;
    use crate::plan::Reason;

    #[test]
    fn line_of_an_operation_has_a_small_body_and_no_large_one() {
        let line = |label: &str| {
            let body = json!({ "metadata": { "labels": { "a": label } } });
            let action = Action::Patch { uid: "u".to_owned(), resource_version: None, status: false, body };
            Op { key: Key::new(Kind::Sandbox, "ns", "s"), reason: Reason::MetadataChanged, action }.to_string()
        };
        let start = "patch Sandbox/ns/s because MetadataChanged: ";
        assert_eq!(line("b"), format!(r#"{start}{{"metadata":{{"labels":{{"a":"b"}}}}}}"#));
        assert_eq!(line(&"b".repeat(SHOWN_BODY_BYTES)), format!("{start}more than 8 KiB of JSON"));
    }
}
