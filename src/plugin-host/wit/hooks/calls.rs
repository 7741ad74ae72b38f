//! The calls of the four hooks. Their records are the same in every version so far, so each version compiles this file,
//! `questions.rs` and `answers.rs` against its own bindings. A version whose hooks differ gets files of its own.

use paddock_core::question::{Answer, Hook, Question};
use wasmtime::component::{HasSelf, Instance, InstancePre, Linker};
use wasmtime::{Result, Store};

use super::super::adapter::{Adapter, Reply};
use super::{answers, exports, log, questions, types};
use crate::call::CallState;

/// Adds the imports that components of this version may have.
pub(in crate::wit) fn add_to_linker(linker: &mut Linker<CallState>) -> Result<()> {
    types::add_to_linker::<_, HasSelf<CallState>>(linker, |state| state)?;
    log::add_to_linker::<_, HasSelf<CallState>>(linker, |state| state)
}

impl types::Host for CallState {}

impl log::Host for CallState {
    fn write(&mut self, level: log::Level, message: String) {
        let level = match level {
            log::Level::Debug => tracing::Level::DEBUG,
            log::Level::Info => tracing::Level::INFO,
            log::Level::Warn => tracing::Level::WARN,
            log::Level::Error => tracing::Level::ERROR,
        };
        self.log(level, &message);
    }
}

/// The indices of the exports of a component that implements this version. A hook that the component lacks is `None`.
pub(crate) struct Exports {
    settings: exports::settings::GuestIndices,
    admission: Option<exports::admission::GuestIndices>,
    runtime_class: Option<exports::runtime_class::GuestIndices>,
    idle: Option<exports::idle::GuestIndices>,
    pool_size: Option<exports::pool_size::GuestIndices>,
}

impl Exports {
    /// Looks up the exports of a component for its hooks.
    pub(in crate::wit) fn find(pre: &InstancePre<CallState>, hooks: &[Hook]) -> Result<Self> {
        let has = |hook| hooks.contains(&hook);
        Ok(Self {
            settings: exports::settings::GuestIndices::new(pre)?,
            admission: has(Hook::Admission).then(|| exports::admission::GuestIndices::new(pre)).transpose()?,
            runtime_class: has(Hook::RuntimeClass)
                .then(|| exports::runtime_class::GuestIndices::new(pre))
                .transpose()?,
            idle: has(Hook::Idle).then(|| exports::idle::GuestIndices::new(pre)).transpose()?,
            pool_size: has(Hook::PoolSize).then(|| exports::pool_size::GuestIndices::new(pre)).transpose()?,
        })
    }
}

impl Adapter for Exports {
    fn check_types(&self, store: &mut Store<CallState>, instance: &Instance) -> Result<()> {
        self.settings.load(&mut *store, instance)?;
        self.admission.as_ref().map(|guest| guest.load(&mut *store, instance)).transpose()?;
        self.runtime_class.as_ref().map(|guest| guest.load(&mut *store, instance)).transpose()?;
        self.idle.as_ref().map(|guest| guest.load(&mut *store, instance)).transpose()?;
        self.pool_size.as_ref().map(|guest| guest.load(&mut *store, instance)).transpose()?;
        Ok(())
    }

    fn validate_settings(
        &self,
        store: &mut Store<CallState>,
        instance: &Instance,
        (hook, settings): (Hook, &str),
    ) -> Result<std::result::Result<(), String>> {
        self.settings.load(&mut *store, instance)?.call_validate_settings(store, name(hook), settings)
    }

    fn settings_schema(&self, store: &mut Store<CallState>, instance: &Instance, hook: Hook) -> Result<Option<String>> {
        super::settings_schema(&self.settings, store, instance, name(hook))
    }

    fn decide(
        &self,
        store: &mut Store<CallState>,
        instance: &Instance,
        (question, settings): (&Question, &str),
    ) -> Result<Reply> {
        macro_rules! ask {
            ($guest:expr, $question:expr) => {{
                let Some(guest) = &$guest else { return Ok(Reply::NoSuchHook) };
                guest.load(&mut *store, instance)?.call_decide(store, &$question, settings)?
            }};
        }
        Ok(match question {
            Question::Admission(question) => {
                let returned = ask!(self.admission, questions::admission(question));
                Reply::new(returned, |answer| Ok(Answer::Admission(answers::admission(answer))))
            }
            Question::RuntimeClass(question) => {
                let returned = ask!(self.runtime_class, questions::runtime_class(question));
                Reply::new(returned, |answer| Ok(Answer::RuntimeClass(answers::runtime_class(answer))))
            }
            Question::Idle(question) => {
                let returned = ask!(self.idle, questions::idle(question));
                Reply::new(returned, |answer| answers::idle(answer).map(Answer::Idle))
            }
            Question::PoolSize(question) => {
                let returned = ask!(self.pool_size, questions::pool_size(question));
                Reply::new(returned, |answer| answers::pool_size(answer).map(Answer::PoolSize))
            }
        })
    }
}

fn name(hook: Hook) -> types::Hook {
    match hook {
        Hook::Admission => types::Hook::Admission,
        Hook::RuntimeClass => types::Hook::RuntimeClass,
        Hook::Idle => types::Hook::Idle,
        Hook::PoolSize => types::Hook::PoolSize,
    }
}
