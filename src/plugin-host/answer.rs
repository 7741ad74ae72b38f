//! Checks the size and the syntax of a plugin's answer. The core checks its content.

use json_patch::Patch;
use paddock_core::model::names::is_dns_subdomain;
use paddock_core::question::limits::{
    MAX_MESSAGE_CHARS, MAX_PATCH_BYTES, MAX_REASON_CHARS, MAX_STATE_BYTES, MAX_WARNING_CHARS, MAX_WARNINGS,
};
use paddock_core::question::{
    AdmissionAnswer, Answer, ClassChoice, IdleAnswer, PoolSizeAnswer, RuntimeClassAnswer, Verdict,
};
use paddock_core::text::truncate;

/// The number of characters of an invalid name that a message quotes: the length of the longest valid name.
const NAME_CHARS: usize = 253;

/// The fault of an answer that the core cannot use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidReply {
    #[error("next-check: {0} must be a time in milliseconds since 1970")]
    Time(u64),
    #[error("state: the state has {0} bytes, but must have at most {MAX_STATE_BYTES}")]
    State(usize),
    #[error("patch: {0} bytes, at most {MAX_PATCH_BYTES} are taken")]
    PatchSize(usize),
    #[error("patch: not a JSON Patch: {0}")]
    Patch(String),
    #[error("patch: not allowed beside a denial")]
    PatchAndDeny,
    #[error("choice: {0:?} cannot be the name of a RuntimeClass")]
    ClassName(String),
}

/// Truncates the texts of an answer.
///
/// # Errors
/// The fault of the answer, if a part of it is too large or has the wrong syntax.
pub(crate) fn validate(answer: Answer) -> Result<Answer, InvalidReply> {
    Ok(match answer {
        Answer::Admission(answer) => Answer::Admission(admission(answer)?),
        Answer::RuntimeClass(answer) => Answer::RuntimeClass(runtime_class(answer)?),
        Answer::Idle(IdleAnswer { action, next_check, reason, state }) => {
            let (reason, state) = (truncate(&reason, MAX_REASON_CHARS), fits(state)?);
            Answer::Idle(IdleAnswer { action, next_check, reason, state })
        }
        Answer::PoolSize(PoolSizeAnswer { desired, next_check, reason, state }) => {
            let (reason, state) = (truncate(&reason, MAX_REASON_CHARS), fits(state)?);
            Answer::PoolSize(PoolSizeAnswer { desired, next_check, reason, state })
        }
    })
}

fn admission(answer: AdmissionAnswer) -> Result<AdmissionAnswer, InvalidReply> {
    let AdmissionAnswer { verdict, warnings, patch } = answer;
    let verdict = match verdict {
        Verdict::Allow => Verdict::Allow,
        Verdict::Deny(_) if patch.is_some() => return Err(InvalidReply::PatchAndDeny),
        Verdict::Deny(message) => Verdict::Deny(truncate(&message, MAX_MESSAGE_CHARS)),
    };
    if let Some(patch) = &patch {
        patch_syntax(patch)?;
    }
    let warnings = warnings.iter().take(MAX_WARNINGS).map(|warning| truncate(warning, MAX_WARNING_CHARS)).collect();
    Ok(AdmissionAnswer { verdict, warnings, patch })
}

fn runtime_class(answer: RuntimeClassAnswer) -> Result<RuntimeClassAnswer, InvalidReply> {
    let RuntimeClassAnswer { choice, reason } = answer;
    match &choice {
        ClassChoice::Class(name) if !is_dns_subdomain(name) => {
            return Err(InvalidReply::ClassName(truncate(name, NAME_CHARS)));
        }
        ClassChoice::Class(_) | ClassChoice::Default | ClassChoice::Refuse => {}
    }
    Ok(RuntimeClassAnswer { choice, reason: truncate(&reason, MAX_REASON_CHARS) })
}

fn fits(state: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, InvalidReply> {
    match state {
        Some(state) if state.len() > MAX_STATE_BYTES => Err(InvalidReply::State(state.len())),
        state => Ok(state),
    }
}

fn patch_syntax(text: &str) -> Result<(), InvalidReply> {
    if text.len() > MAX_PATCH_BYTES {
        return Err(InvalidReply::PatchSize(text.len()));
    }
    let patch: Result<Patch, _> = serde_json::from_str(text);
    patch.map(drop).map_err(|error| InvalidReply::Patch(truncate(&error.to_string(), MAX_MESSAGE_CHARS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patch_is_checked_for_size_and_syntax_only() {
        let patch = |path: &str| format!(r#"[{{"op":"add","path":"{path}","value":{{}}}}]"#);
        assert_eq!(patch_syntax(&patch("/status")), Ok(()), "the core decides about the paths");
        let long = patch(&format!("/{}", "a".repeat(MAX_PATCH_BYTES)));
        assert_eq!(patch_syntax(&long), Err(InvalidReply::PatchSize(long.len())));
        for invalid in ["", "{}", r#"[{"op":"frobnicate","path":"/spec"}]"#] {
            assert!(matches!(patch_syntax(invalid), Err(InvalidReply::Patch(_))), "{invalid}");
        }
    }

    #[test]
    fn class_name_is_the_name_of_an_object() {
        let named = |name: &str| {
            let choice = ClassChoice::Class(name.to_owned());
            runtime_class(RuntimeClassAnswer { choice, reason: String::new() })
        };
        assert!(named("kata-qemu.v2").is_ok());
        assert_eq!(named("a b"), Err(InvalidReply::ClassName("a b".to_owned())));
        assert!(named(&"a".repeat(254)).is_err());
    }

    #[test]
    fn a_state_of_exactly_the_limit_is_kept() {
        assert!(fits(Some(vec![0; MAX_STATE_BYTES])).is_ok());
        assert_eq!(fits(Some(vec![0; MAX_STATE_BYTES + 1])), Err(InvalidReply::State(MAX_STATE_BYTES + 1)));
    }
}
