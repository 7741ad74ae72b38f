//! Small native stand-ins for the built-in plugins: they give the same answers without running a component.

mod isolation;

use jiff::{SignedDuration, Timestamp};
use paddock_core::binding::{Binding, Bindings, FailurePolicy};
use paddock_core::isolation::IsolationRule;
use paddock_core::question::{
    Answer, Failure, FailureKind, Hook, IdleAnswer, IdleQuestion, IdleTier, PluginRef, PluginReply, PluginRequest,
    PoolSizeAnswer, PoolSizeQuestion, Question,
};

/// The plugins are asked in rounds. This number of rounds is enough for every chain of the built-ins.
const ROUNDS: usize = 16;

/// The stand-ins for the built-ins, and the scripted answers of the bindings that a test adds.
#[derive(Default)]
pub(crate) struct PluginClient {
    /// Results by the name of a binding or of a hook.
    scripted: Vec<(String, Result<Answer, Failure>)>,
    /// Bindings beside those of the built-ins.
    extra: Vec<Binding>,
    /// Rules about isolation beside the bindings.
    rules: Vec<IsolationRule>,
    /// Every n-th question ends in a trap.
    failing: Option<u64>,
    /// Whether plugins store the number of their questions as their state.
    counting: bool,
    /// Whether plugins store the time of their answer, in whole seconds, as their state.
    stamping: bool,
    asked: u64,
    /// The questions about pools.
    pool_questions: Vec<PoolSizeQuestion>,
}

impl PluginClient {
    /// Sets the result for the binding of this name, or for all bindings of a hook.
    pub(crate) fn script(&mut self, name: &str, result: Result<Answer, Failure>) {
        self.scripted.push((name.to_owned(), result));
    }

    /// Adds the binding of a test.
    pub(crate) fn bind(&mut self, binding: Binding) {
        self.extra.push(binding);
    }

    /// Sets the rules about isolation.
    pub(crate) fn isolate(&mut self, rules: Vec<IsolationRule>) {
        self.rules = rules;
    }

    /// Makes every n-th question fail.
    pub(crate) fn fail_every(&mut self, n: u64) {
        self.failing = Some(n);
    }

    /// Makes plugins return a new state with every answer.
    pub(crate) fn count(&mut self) {
        self.counting = true;
    }

    /// Returns the questions about pools since the last call.
    pub(crate) fn take_pool_questions(&mut self) -> Vec<PoolSizeQuestion> {
        std::mem::take(&mut self.pool_questions)
    }

    pub(crate) fn heal(&mut self) {
        self.failing = None;
    }

    /// Makes plugins return the time of the answer as their state.
    pub(crate) fn stamp(&mut self) {
        self.stamping = true;
    }

    /// The bindings of the built-ins and of the test, with its rules about isolation.
    pub(crate) fn bindings(&self) -> Bindings {
        let built_in = |name: &str, hook: Hook| Binding {
            order: Binding::BUILT_IN_ORDER,
            failure_policy: FailurePolicy::Fail,
            built_in: true,
            ..Binding::new(plugin(name), hook)
        };
        let built_ins = [
            built_in("require-isolation", Hook::Admission),
            built_in("runtime-class-by-label", Hook::RuntimeClass),
            built_in("idle-timeout", Hook::Idle),
            built_in("pool-by-demand", Hook::PoolSize),
        ];
        let bindings = built_ins.into_iter().chain(self.extra.iter().cloned()).collect();
        Bindings::new(bindings).with_isolation(self.rules.clone())
    }

    /// Asks the plugins until no question remains.
    pub(crate) fn ask<S>(
        &mut self,
        seen: &S,
        now: Timestamp,
        questions: impl Fn(&S, &[PluginReply]) -> Vec<PluginRequest>,
    ) -> Vec<PluginReply> {
        let mut answers = Vec::new();
        for _ in 0..ROUNDS {
            let asks = questions(seen, &answers);
            if asks.is_empty() {
                break;
            }
            for ask in asks {
                let result = self.answer(&ask, now);
                answers.push(PluginReply { request: ask, result });
            }
        }
        answers
    }

    fn memory(&self, now: Timestamp) -> Option<Vec<u8>> {
        let count = self.counting.then(|| self.asked.to_le_bytes().to_vec());
        count.or_else(|| self.stamping.then(|| stamp(now)))
    }

    fn answer(&mut self, ask: &PluginRequest, now: Timestamp) -> Result<Answer, Failure> {
        self.asked += 1;
        if let Question::PoolSize(question) = &ask.question {
            self.pool_questions.push((**question).clone());
        }
        let hook = ask.question.hook().as_str();
        if let Some((_, result)) = self.scripted.iter().find(|(name, _)| *name == ask.binding || name == hook) {
            return result.clone();
        }
        if self.failing.is_some_and(|n| self.asked.is_multiple_of(n)) {
            return Err(Failure { kind: FailureKind::Trap, message: "unreachable".to_owned() });
        }
        match &ask.question {
            Question::Admission(question) => isolation::admission(question).map(Answer::Admission),
            Question::RuntimeClass(question) => Ok(Answer::RuntimeClass(isolation::runtime_class(question))),
            Question::Idle(question) => Ok(Answer::Idle(IdleAnswer { state: self.memory(now), ..idle(question, now) })),
            Question::PoolSize(question) => {
                Ok(Answer::PoolSize(PoolSizeAnswer { state: self.memory(now), ..pool_size(question, now) }))
            }
        }
    }
}

/// The state of a plugin that stores the time of its answer.
pub(crate) fn stamp(now: Timestamp) -> Vec<u8> {
    now.as_second().to_le_bytes().to_vec()
}

/// A plugin's name, with a digest computed from the name.
pub(crate) fn plugin(name: &str) -> PluginRef {
    let sum = name.bytes().fold(0_u64, |sum, b| sum.wrapping_mul(31).wrapping_add(u64::from(b)));
    PluginRef { name: name.to_owned(), digest: format!("sha256:{sum:064x}") }
}

fn idle(question: &IdleQuestion, now: Timestamp) -> IdleAnswer {
    let timeout = SignedDuration::from_millis(i64::try_from(question.idle_timeout_ms).unwrap_or(i64::MAX));
    let stay =
        |next: Timestamp, reason: String| IdleAnswer { action: None, next_check: Some(next), reason, state: None };
    if let Some(until) = question.held_until.filter(|at| *at > now) {
        return stay(until, format!("held awake for up to {} s", (until.duration_since(now)).as_secs()));
    }
    let signs = [Some(question.created), question.ready_since, question.last_activity];
    let active = signs.into_iter().flatten().max().unwrap_or(now).min(now);
    let quiet = now.duration_since(active).as_secs();
    if active + timeout > now {
        return stay(active + timeout, format!("no activity for {quiet} s of {} s", timeout.as_secs()));
    }
    if question.tiers.contains(&IdleTier::Suspend) {
        let reason = format!("no activity for {quiet} s");
        return IdleAnswer { action: Some(IdleTier::Suspend), next_check: None, reason, state: None };
    }
    stay(now + timeout, format!("no activity for {quiet} s, but not possible for it: suspend"))
}

/// Wants the minimum plus the number of claims in the last minute. The core limits the number to the maximum.
pub(crate) fn pool_size(question: &PoolSizeQuestion, now: Timestamp) -> PoolSizeAnswer {
    let lately: u32 = question.arrivals.iter().rev().take(6).sum();
    let next = SignedDuration::from_secs(i64::from(question.bucket_seconds));
    PoolSizeAnswer {
        desired: question.min + lately,
        next_check: (lately > 0).then(|| now + next),
        reason: format!("{lately} claims in the last minute"),
        state: None,
    }
}
