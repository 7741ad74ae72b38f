//! Asks the plugins of a review: first those that decide, and then the policies that do not act.
//!
//! A policy without an effect must not cost a review its time. The verdict is final before such a policy is asked. Policies
//! in the modes Warn and Audit, whose answers are in the reply, are asked within [`limits::NOTES_TIMEOUT`]. Policies in
//! the mode Shadow are asked after the reply. A policy that is late is counted, and the user sees no error.

use std::sync::Arc;
use std::time::Instant;

use paddock_core::admission::{self, Context, Phase, Review, ReviewVerdict};
use paddock_core::binding::Mode;
use paddock_core::question::{Caller, Failure, FailureKind, Hook, PluginReply, PluginRequest};
use paddock_core::record::Subject;
use paddock_core::unenforced::{UnenforcedAnswer, UnenforcedEffect, unenforced};
use tokio::sync::{Semaphore, watch};
use tracing::info;

use super::wire::Asked;
use crate::limits;
use crate::plugins::PluginClient;

/// Receives the answers for policies that do not act.
pub type OnUnenforced = Arc<dyn Fn(&[UnenforcedAnswer]) + Send + Sync>;

/// The parts of the operator that a review needs to ask plugins.
#[derive(Clone)]
pub(super) struct Asker {
    pub(super) plugin_client: PluginClient,
    /// Receives the answers for policies that do not act.
    pub(super) on_unenforced: OnUnenforced,
    /// A permit for each review that may go on after its reply.
    pub(super) shadows: Arc<Semaphore>,
}

impl Asker {
    pub(super) fn new(plugin_client: PluginClient) -> Self {
        let shadows = Arc::new(Semaphore::new(limits::SHADOW_REVIEWS));
        Self { plugin_client, on_unenforced: Arc::new(|_| ()), shadows }
    }
}

/// A verdict, and whether the reply can have it without waiting for more.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) verdict: ReviewVerdict,
    pub(super) is_complete: bool,
}

/// One review whose plugins are asked.
pub(super) struct Asking {
    asked: Arc<Asked>,
    context: Context,
    asker: Asker,
    subject: Arc<Subject>,
    replies: Vec<PluginReply>,
    /// The bindings whose answers came too late, or that were not asked.
    late: Vec<(String, Hook)>,
}

impl Asking {
    pub(super) fn new(asked: Arc<Asked>, context: Context, (asker, caller): (Asker, Caller)) -> Self {
        let subject = Arc::new(Subject::of_review(&asked.review, caller));
        Self { asked, context, asker, subject, replies: Vec::new(), late: Vec::new() }
    }

    /// Asks all plugins, and sends the verdict as soon as it is final, and again with the notes of policies in the modes
    /// Warn and Audit. `started` is the begin of the review.
    pub(super) fn run(mut self, started: Instant, known: watch::Sender<Option<Known>>) {
        let mut next = self.next();
        while let Some(request) = next.take_if(|request| request.mode.acts()) {
            // The failure policies of slow plugins decide about their review. A review that is late decides nothing.
            if self.replies.is_empty() || started.elapsed() < limits::ACTING_TIMEOUT {
                self.ask(request);
            } else {
                self.skip(request);
            }
            next = self.next();
        }
        known.send_replace(Some(self.known(next.as_ref())));
        let deadline = started + limits::NOTES_TIMEOUT;
        // The API server has got a failure if nobody waits for the verdict any more.
        let in_time = || Instant::now() < deadline && !known.is_closed();
        while in_time()
            && let Some(request) = next.take_if(|request| request.mode.notes())
        {
            let binding = (request.binding.clone(), request.question.hook());
            self.ask(request);
            next = self.next();
            if in_time() {
                known.send_replace(Some(self.known(next.as_ref())));
            } else {
                self.late.push(binding);
            }
        }
        let was_closed = known.is_closed();
        // The reply must not wait any longer.
        drop(known);
        self.ask_the_rest(next, started, was_closed);
        let answers = self.unenforced();
        report(&self.asked.review, &answers);
        (self.asker.on_unenforced)(&answers);
    }

    /// Asks the policies in the mode Shadow. Those that are late, and policies of another mode, are skipped.
    fn ask_the_rest(&mut self, mut next: Option<PluginRequest>, started: Instant, is_unanswered: bool) {
        let permit = if next.is_some() { Arc::clone(&self.asker.shadows).try_acquire_owned().ok() } else { None };
        let may_ask = permit.is_some() && !is_unanswered;
        while let Some(request) = next.take() {
            if may_ask && !request.mode.notes() && started.elapsed() < limits::REVIEW_TIMEOUT {
                self.ask(request);
            } else {
                self.late.push((request.binding.clone(), request.question.hook()));
                self.skip(request);
            }
            next = self.next();
        }
    }

    /// The next request. There are at most as many as bindings, because each is for another one.
    fn next(&self) -> Option<PluginRequest> {
        if self.replies.len() >= self.context.bindings.iter().count() {
            return None;
        }
        admission::questions(&self.asked.review, &self.context, &self.replies).pop()
    }

    fn ask(&mut self, request: PluginRequest) {
        let result = (self.asker.plugin_client)(&request, &self.subject, self.asked.review.now);
        self.replies.push(PluginReply { request, result });
    }

    /// Takes a request for one whose plugin did not answer in time.
    fn skip(&mut self, request: PluginRequest) {
        let failure = Failure { kind: FailureKind::Deadline, message: "it was not asked in time".to_owned() };
        self.replies.push(PluginReply { request, result: Err(failure) });
    }

    /// What is known before the next request.
    fn known(&self, next: Option<&PluginRequest>) -> Known {
        let verdict = admission::verdict(&self.asked.review, &self.context, &self.replies);
        Known { verdict, is_complete: next.is_none_or(|request| !request.mode.notes()) }
    }

    fn unenforced(&self) -> Vec<UnenforcedAnswer> {
        let mut answers = unenforced(&self.replies);
        for answer in &mut answers {
            if self.late.iter().any(|(binding, hook)| *binding == answer.binding && *hook == answer.hook) {
                answer.effect = UnenforcedEffect::Late;
            }
        }
        answers
    }
}

/// Logs the denials of policies in the mode Audit. An object gets two calls, and the second one shows it as it is stored.
fn report(review: &Review, answers: &[UnenforcedAnswer]) {
    let denied = |answer: &&UnenforcedAnswer| {
        answer.mode == Mode::Audit && answer.effect == UnenforcedEffect::Denied && review.phase == Phase::Validate
    };
    for UnenforcedAnswer { binding, message, .. } in answers.iter().filter(denied) {
        let (namespace, name, user) = (&review.namespace, &review.name, &review.username);
        info!(
            kind = review.kind,
            namespace,
            name,
            user,
            policy = binding,
            message,
            "an audited policy would deny this"
        );
    }
}

#[cfg(test)]
mod tests;
