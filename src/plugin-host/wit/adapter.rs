//! The calls that each WIT version offers, in terms of the core.

use paddock_core::question::{Answer, Hook, Question};
use wasmtime::component::Instance;
use wasmtime::{Result, Store};

use crate::answer::InvalidReply;
use crate::call::CallState;

/// Calls a component of one WIT version with the questions and answers of the core.
pub(crate) trait Adapter {
    /// Checks the type of every export that will be called.
    fn check_types(&self, store: &mut Store<CallState>, instance: &Instance) -> Result<()>;

    /// Calls `settings.validate-settings`.
    fn validate_settings(
        &self,
        store: &mut Store<CallState>,
        instance: &Instance,
        settings: (Hook, &str),
    ) -> Result<std::result::Result<(), String>>;

    /// Calls `decide` of the question's hook.
    fn decide(&self, store: &mut Store<CallState>, instance: &Instance, question: (&Question, &str)) -> Result<Reply>;
}

/// The result of a call that ran to its end.
pub(crate) enum Reply {
    /// The component has no such export.
    NoSuchHook,
    /// The plugin reports that it cannot answer.
    Refused(String),
    /// An answer that the core's types cannot hold.
    Invalid(InvalidReply),
    /// An answer, not yet validated.
    Answer(Answer),
}

impl Reply {
    pub(super) fn new<T>(
        returned: std::result::Result<T, String>,
        convert: impl FnOnce(T) -> std::result::Result<Answer, InvalidReply>,
    ) -> Self {
        match returned.map(convert) {
            Err(message) => Reply::Refused(message),
            Ok(Err(invalid)) => Reply::Invalid(invalid),
            Ok(Ok(answer)) => Reply::Answer(answer),
        }
    }
}
