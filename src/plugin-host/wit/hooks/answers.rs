//! Converts the answers of a version of `paddock:policy` to those of the core. `answer.rs` checks their sizes and their
//! syntax.

use jiff::Timestamp;
use paddock_core::question::{
    AdmissionAnswer, ClassChoice, IdleAnswer, IdleTier, PoolSizeAnswer, RuntimeClassAnswer, Verdict,
};

use super::exports;
use crate::answer::InvalidReply;

pub(super) fn admission(answer: exports::admission::Answer) -> AdmissionAnswer {
    let exports::admission::Answer { verdict, warnings, patch } = answer;
    let verdict = match verdict {
        exports::admission::Verdict::Allow => Verdict::Allow,
        exports::admission::Verdict::Deny(message) => Verdict::Deny(message),
    };
    AdmissionAnswer { verdict, warnings, patch }
}

pub(super) fn runtime_class(answer: exports::runtime_class::Answer) -> RuntimeClassAnswer {
    let exports::runtime_class::Answer { choice, reason } = answer;
    let choice = match choice {
        exports::runtime_class::Choice::Class(name) => ClassChoice::Class(name),
        exports::runtime_class::Choice::Default => ClassChoice::Default,
        exports::runtime_class::Choice::Refuse => ClassChoice::Refuse,
    };
    RuntimeClassAnswer { choice, reason }
}

pub(super) fn idle(answer: exports::idle::Answer) -> Result<IdleAnswer, InvalidReply> {
    let exports::idle::Answer { action, next_check, reason, state } = answer;
    let action = action.map(|tier| match tier {
        exports::idle::Tier::Throttle => IdleTier::Throttle,
        exports::idle::Tier::Suspend => IdleTier::Suspend,
        exports::idle::Tier::Hibernate => IdleTier::Hibernate,
        exports::idle::Tier::Delete => IdleTier::Delete,
    });
    Ok(IdleAnswer { action, next_check: time(next_check)?, reason, state })
}

pub(super) fn pool_size(answer: exports::pool_size::Answer) -> Result<PoolSizeAnswer, InvalidReply> {
    let exports::pool_size::Answer { desired, next_check, reason, state } = answer;
    Ok(PoolSizeAnswer { desired, next_check: time(next_check)?, reason, state })
}

fn time(milliseconds: Option<u64>) -> Result<Option<Timestamp>, InvalidReply> {
    let Some(milliseconds) = milliseconds else { return Ok(None) };
    let time = i64::try_from(milliseconds).ok().and_then(|time| Timestamp::from_millisecond(time).ok());
    time.map(Some).ok_or(InvalidReply::Time(milliseconds))
}
