//! The calls that an adapter of a WIT version offers. They use the core's types.

use paddock_core::question::{Answer, Hook, Question};
use wasmtime::component::Instance;
use wasmtime::{Result, Store};

use crate::answer::InvalidReply;
use crate::call::CallState;

/// Calls a component that implements one WIT version, with the core's questions and answers.
pub(crate) trait Adapter {
    /// Checks the type of every export that the host calls.
    fn check_types(&self, store: &mut Store<CallState>, instance: &Instance) -> Result<()>;

    /// Calls `schema` of the interface `settings`: the text of the JSON Schema of the settings of a hook. `None` if the
    /// version has no schemas.
    fn settings_schema(&self, store: &mut Store<CallState>, instance: &Instance, hook: Hook) -> Result<Option<String>>;

    /// Calls `validate-settings` of the interface `settings`. The inner error is the plugin's message about invalid
    /// settings.
    fn validate_settings(
        &self,
        store: &mut Store<CallState>,
        instance: &Instance,
        settings: (Hook, &str),
    ) -> Result<std::result::Result<(), String>>;

    /// Calls `decide` of the interface of the question's hook.
    fn decide(&self, store: &mut Store<CallState>, instance: &Instance, question: (&Question, &str)) -> Result<Reply>;
}

/// The result of a call that returned.
pub(crate) enum Reply {
    /// The component does not export the interface of the hook.
    NoSuchHook,
    /// The plugin reported, with this message, that it cannot answer.
    Refused(String),
    /// The plugin returned an answer that the core's types cannot represent.
    Invalid(InvalidReply),
    /// The plugin returned an answer. Its sizes and its syntax are not checked yet.
    Answer(Answer),
}

impl Reply {
    pub(in crate::wit) fn new<T>(
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
