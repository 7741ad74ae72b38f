//! Whether an answer makes sense: sizes, names and patches. What it means is the core's business.

use json_patch::{Patch, PatchOperation};
use paddock_core::question::{
    AdmissionAnswer, Answer, ClassChoice, IdleAnswer, PoolSizeAnswer, RuntimeClassAnswer, Verdict,
};

use crate::config::{MESSAGE_CHARS, PATCH_BYTES, REASON_CHARS, STATE_BYTES, WARNING_CHARS, WARNINGS};
use crate::text::bounded;

/// What an admission patch may touch, as JSON pointers: the workload and its labels and annotations, never
/// identity, owners, finalizers or status. `/template` is where a PodTemplate has its pod.
const PATCHABLE: [&str; 4] = ["/spec", "/template", "/metadata/labels", "/metadata/annotations"];

/// The longest name of an object: a DNS subdomain.
const NAME_CHARS: usize = 253;

/// Why an answer makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidReply {
    #[error("next-check: {0} is not a time in milliseconds since 1970")]
    Time(u64),
    #[error("state: {0} bytes, at most {STATE_BYTES} are kept")]
    State(usize),
    #[error("patch: {0} bytes, at most {PATCH_BYTES} are taken")]
    PatchSize(usize),
    #[error("patch: not a JSON Patch: {0}")]
    Patch(String),
    #[error("patch: {0} may not be changed, only what is under {allowed}", allowed = PATCHABLE.join(", "))]
    PatchPath(String),
    #[error("patch: not allowed beside a denial")]
    PatchAndDeny,
    #[error("choice: {0:?} cannot be the name of a RuntimeClass")]
    ClassName(String),
}

/// The answer with its texts cut to size, or why it makes no sense.
pub(crate) fn validate(answer: Answer) -> Result<Answer, InvalidReply> {
    Ok(match answer {
        Answer::Admission(answer) => Answer::Admission(admission(answer)?),
        Answer::RuntimeClass(answer) => Answer::RuntimeClass(runtime_class(answer)?),
        Answer::Idle(IdleAnswer { action, next_check, reason, state }) => {
            let (reason, state) = (bounded(&reason, REASON_CHARS), fits(state)?);
            Answer::Idle(IdleAnswer { action, next_check, reason, state })
        }
        Answer::PoolSize(PoolSizeAnswer { desired, next_check, reason, state }) => {
            let (reason, state) = (bounded(&reason, REASON_CHARS), fits(state)?);
            Answer::PoolSize(PoolSizeAnswer { desired, next_check, reason, state })
        }
    })
}

fn admission(answer: AdmissionAnswer) -> Result<AdmissionAnswer, InvalidReply> {
    let AdmissionAnswer { verdict, warnings, patch } = answer;
    let verdict = match verdict {
        Verdict::Allow => Verdict::Allow,
        Verdict::Deny(_) if patch.is_some() => return Err(InvalidReply::PatchAndDeny),
        Verdict::Deny(message) => Verdict::Deny(bounded(&message, MESSAGE_CHARS)),
    };
    if let Some(patch) = &patch {
        patchable(patch)?;
    }
    let warnings = warnings.iter().take(WARNINGS).map(|warning| bounded(warning, WARNING_CHARS)).collect();
    Ok(AdmissionAnswer { verdict, warnings, patch })
}

fn runtime_class(answer: RuntimeClassAnswer) -> Result<RuntimeClassAnswer, InvalidReply> {
    let RuntimeClassAnswer { choice, reason } = answer;
    match &choice {
        ClassChoice::Class(name) if !is_object_name(name) => {
            return Err(InvalidReply::ClassName(bounded(name, NAME_CHARS)));
        }
        ClassChoice::Class(_) | ClassChoice::Default | ClassChoice::Refuse => {}
    }
    Ok(RuntimeClassAnswer { choice, reason: bounded(&reason, REASON_CHARS) })
}

fn fits(state: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, InvalidReply> {
    match state {
        Some(state) if state.len() > STATE_BYTES => Err(InvalidReply::State(state.len())),
        state => Ok(state),
    }
}

fn patchable(text: &str) -> Result<(), InvalidReply> {
    if text.len() > PATCH_BYTES {
        return Err(InvalidReply::PatchSize(text.len()));
    }
    let patch: Patch =
        serde_json::from_str(text).map_err(|error| InvalidReply::Patch(bounded(&error.to_string(), MESSAGE_CHARS)))?;
    for operation in &patch.0 {
        let paths = match operation {
            PatchOperation::Add(op) => [Some(&op.path), None],
            PatchOperation::Remove(op) => [Some(&op.path), None],
            PatchOperation::Replace(op) => [Some(&op.path), None],
            // A move takes away from where it takes.
            PatchOperation::Move(op) => [Some(&op.path), Some(&op.from)],
            PatchOperation::Copy(op) => [Some(&op.path), None],
            PatchOperation::Test(_) => [None, None],
        };
        for path in paths.into_iter().flatten().map(|path| path.as_str()) {
            let within =
                |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            if !PATCHABLE.into_iter().any(within) {
                return Err(InvalidReply::PatchPath(bounded(path, NAME_CHARS)));
            }
        }
    }
    Ok(())
}

/// A DNS subdomain (RFC 1123): lower-case letters, digits, `-` and `.`, alphanumeric at both ends of each part.
fn is_object_name(name: &str) -> bool {
    let alphanumeric = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.iter().all(|c| alphanumeric(*c) || *c == b'-')
            && bytes.first().copied().is_some_and(alphanumeric)
            && bytes.last().copied().is_some_and(alphanumeric)
    };
    name.len() <= NAME_CHARS && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_may_touch_the_workload_and_its_labels_only() {
        for (path, allowed) in [
            ("/spec/runtimeClassName", true),
            ("/spec", true),
            ("/template/spec/runtimeClassName", true),
            ("/metadata/labels", true),
            ("/metadata/annotations/a~1b", true),
            ("/specification", false),
            ("/metadata", false),
            ("/metadata/name", false),
            ("/metadata/finalizers/0", false),
            ("/metadata/labelsX", false),
            ("/status/phase", false),
            ("", false),
        ] {
            let patch = format!(r#"[{{"op":"add","path":"{path}","value":{{}}}}]"#);
            assert_eq!(patchable(&patch).is_ok(), allowed, "{path}");
        }
    }

    #[test]
    fn a_move_may_not_take_from_elsewhere_but_a_copy_may() {
        let patch = |op| format!(r#"[{{"op":"{op}","from":"/metadata/name","path":"/metadata/labels/name"}}]"#);
        assert_eq!(patchable(&patch("move")), Err(InvalidReply::PatchPath("/metadata/name".into())));
        assert_eq!(patchable(&patch("copy")), Ok(()));
    }

    #[test]
    fn names_of_classes_are_names_of_objects() {
        for (name, is) in [
            ("gvisor", true),
            ("kata-qemu.v2", true),
            ("", false),
            ("-a", false),
            ("a-", false),
            ("a..b", false),
            ("A", false),
            ("a b", false),
        ] {
            assert_eq!(is_object_name(name), is, "{name:?}");
        }
        assert!(!is_object_name(&"a".repeat(254)));
    }

    #[test]
    fn a_state_of_exactly_the_limit_is_kept() {
        assert!(fits(Some(vec![0; STATE_BYTES])).is_ok());
        assert_eq!(fits(Some(vec![0; STATE_BYTES + 1])), Err(InvalidReply::State(STATE_BYTES + 1)));
    }
}
