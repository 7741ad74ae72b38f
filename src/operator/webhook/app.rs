//! Answers reviews. Every request gets an answer within the time that the API server waits.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Router};
use futures::{FutureExt, TryStreamExt};
use paddock_api::kind::Kind;
use paddock_core::admission::{
    self, Activity, Context, Denial, Entry, Missing, Phase, PluginFailure, Review, ReviewVerdict, Verb,
    WarmReservations, Why,
};
use paddock_core::question::{Caller, FailureKind};
use paddock_core::world::World;
use paddock_kube::clock::Clock;
use paddock_kube::fair_queue::{FairQueue, Queued};
use paddock_kube::peer::Peer;
use paddock_kube::server::{Intake, Refused};
use paddock_kube::traces;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};
use tracing::field::Empty;
use tracing::{Instrument, Level, error, info, span, warn};

use super::activity::NewTouch;
use super::asking::{Asker, Asking, Known, OnUnenforced};
use super::fact_waits::FactWaits;
use super::memory;
use super::metrics::Reviews;
use super::terminating::changes_only_finalizers;
use super::unanswered::{Unanswered, denies_without_verdict};
use super::wire::{self, Asked};
use crate::limits;
use crate::plugins::PluginClient;
use crate::plugins::objects::check::PolicyCheck;
use crate::sync::{UnknownKinds, UnsyncedKinds};
use crate::world::SharedWorld;

/// Returns the facts about the cluster that a review needs. `None` while the World is not complete.
pub type Look = Arc<dyn Fn(&Review) -> Option<Context> + Send + Sync>;

/// The state of the watches that fill the World.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The only namespace that is watched. `None` for all of them.
    pub namespace: Option<Arc<str>>,
    /// The kinds that are not listed yet. Until this is empty, reviews are not answered.
    pub unsynced: watch::Receiver<UnsyncedKinds>,
    /// The kinds whose watch has failed for a while.
    pub unknown: watch::Receiver<UnknownKinds>,
}

/// Reads the World, once every kind in it is listed. The labels of namespaces count as missing while their watch fails.
#[must_use]
pub fn look(world: SharedWorld, watched: Watched, operator_user: Option<Arc<str>>) -> Look {
    let Watched { namespace, unsynced, unknown } = watched;
    Arc::new(move |review| {
        if !unsynced.borrow().is_empty() {
            return None;
        }
        let of = |world: &World| Context::of(world, review, namespace.as_deref(), operator_user.clone());
        let context = world.read(of);
        let has_old_labels = !review.namespace.is_empty() && unknown.borrow().contains(&Kind::Namespace);
        let missing = context.missing.or(has_old_labels.then_some(Missing::FreshLabels));
        Some(Context { missing, ..context })
    })
}

/// The parts of the operator that a review uses.
#[derive(Clone)]
pub struct App {
    look: Look,
    asker: Asker,
    policy_check: PolicyCheck,
    activity: FairQueue<Activity>,
    touches: Option<FairQueue<NewTouch>>,
    reservations: Option<Arc<dyn WarmReservations>>,
    /// The reviews that wait for a fact.
    waits: FactWaits,
    metrics: Reviews,
    clock: Clock,
}

impl App {
    /// An app that gets facts about the cluster from `look`, asks plugins with `plugin_client`, and sends activity
    /// records to `activity`.
    #[must_use]
    pub fn new(look: Look, plugin_client: PluginClient, activity: FairQueue<Activity>, metrics: Reviews) -> Self {
        let (touches, reservations, clock) = (None, None, Clock::default());
        let policy_check: PolicyCheck = Arc::new(|_, _| Ok(None));
        let asker = Asker::new(plugin_client);
        let waits = FactWaits::default();
        Self { look, asker, policy_check, activity, touches, reservations, waits, metrics, clock }
    }

    /// The same app, which also checks SandboxPolicies, and passes on the answers for those that do not act.
    #[must_use]
    pub fn with_policies(self, policy_check: PolicyCheck, on_unenforced: OnUnenforced) -> Self {
        Self { policy_check, asker: Asker { on_unenforced, ..self.asker }, ..self }
    }

    /// The same app, which also reserves warm Sandboxes for the claims that it admits.
    #[must_use]
    pub fn with_reservations(self, reservations: Arc<dyn WarmReservations>) -> Self {
        Self { reservations: Some(reservations), ..self }
    }

    /// The same app, whose reviews use this clock.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// The same app, which also records connections to warm Sandboxes.
    pub(super) fn with_touches(self, touches: FairQueue<NewTouch>) -> Self {
        Self { touches: Some(touches), ..self }
    }

    /// The routes `POST /mutate/ENTRY` and `POST /validate/ENTRY`.
    pub fn router(self) -> Router {
        Router::new().route("/{phase}/{entry}", post(handle)).with_state(self)
    }
}

async fn handle(
    State(app): State<App>,
    Path((phase, entry)): Path<(String, String)>,
    Extension(intake): Extension<Intake>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let started = Instant::now();
    let Some((phase, entry)) = place(&phase, &entry) else {
        return Unanswered::NoSuchPath(phase, entry).into_response();
    };
    let metrics = app.metrics.clone();
    let phase_name = super::metrics::word(phase);
    let span = span!(target: traces::TARGET, Level::INFO, "review", otel.kind = "server", paddock.review.phase = phase_name,
        paddock.review.entry = entry.as_str(), paddock.review.outcome = Empty);
    // An API server with tracing sends the trace of its own request.
    traces::continue_headers(&span, &headers);
    let (head, body) = Head::of(body);
    // A panic would end the connection, and an API server may admit a request that gets no answer.
    let answer = AssertUnwindSafe(app.answer((phase, entry, started), &intake, body)).catch_unwind();
    let answer =
        timeout(limits::REVIEW_TIMEOUT, answer.instrument(span.clone())).await.unwrap_or(Ok(Err(Unanswered::Late)));
    match answer.unwrap_or(Err(Unanswered::Panicked)) {
        Ok((answer, outcome)) => {
            span.record("paddock.review.outcome", outcome);
            metrics.answered(phase, entry, outcome, started.elapsed());
            ([(header::CONTENT_TYPE, "application/json")], answer).into_response()
        }
        Err(error) => {
            span.record("paddock.review.outcome", "unanswered");
            metrics.answered(phase, entry, "unanswered", started.elapsed());
            error!(%error, entry = entry.as_str(), client = %intake.peer().0, "the review failed");
            let uid = if denies_without_verdict(entry) && error.denies() { head.uid() } else { None };
            match uid {
                Some(uid) => error.denial(uid),
                None => error.into_response(),
            }
        }
    }
}

/// The first bytes of a body, which are kept while the body is read.
#[derive(Clone, Default)]
struct Head(Arc<Mutex<Vec<u8>>>);

impl Head {
    /// Enough for everything before the UID, and for the UID.
    const BYTES: usize = 512;

    /// The head of a body, and the body to read.
    fn of(body: Body) -> (Self, Body) {
        let head = Self::default();
        let kept = head.clone();
        let chunks = body.into_data_stream().inspect_ok(move |chunk| {
            let mut kept = kept.0.lock();
            let missing = Self::BYTES.saturating_sub(kept.len());
            kept.extend(chunk.iter().take(missing));
        });
        (head, Body::from_stream(chunks))
    }

    fn uid(&self) -> Option<String> {
        wire::uid(&self.0.lock())
    }
}

pub(super) fn place(phase: &str, entry: &str) -> Option<(Phase, Entry)> {
    let phase = match phase {
        "mutate" => Phase::Mutate,
        "validate" => Phase::Validate,
        _ => return None,
    };
    Entry::ALL.iter().copied().find(|e| e.as_str() == entry).map(|entry| (phase, entry))
}

impl App {
    /// Answers a review. It takes no turn before its body is complete, and it is not parsed before its turn.
    async fn answer(
        self,
        (phase, entry, started): (Phase, Entry, Instant),
        intake: &Intake,
        body: Body,
    ) -> Result<(Vec<u8>, &'static str), Unanswered> {
        let body = intake.receive(body).await?;
        let large = body.len() >= limits::LARGE_REVIEW;
        let counted = body.clone();
        let needed = run_sized(large, intake, move || memory::needed(&counted)).await?;
        match intake.turn(needed.max(limits::REVIEW_MEMORY_MIN)).await {
            Err(error @ Refused::TooCostly { .. }) => return self.too_costly(error, body, intake).await,
            turn => turn?,
        }
        let now = self.clock.now();
        let asked = run_sized(large, intake, move || wire::read(&body, phase, entry, now)).await??;
        if entry == Entry::Policies {
            return self.check_policy(asked, intake).await;
        }
        let mut context = self.context(&asked.review, (intake.peer(), needed)).await?;
        context.reserved_sandbox =
            self.reservations.as_ref().and_then(|reservations| reservations.reserve(&asked.review));
        let reserved_sandbox = context.reserved_sandbox.clone();
        if let Some(activity) = admission::activity(&asked.review, &context) {
            self.record(activity);
        }
        let asked = Arc::new(asked);
        let mut verdict = self.decide(&asked, context, (large, started), intake).await?;
        if verdict.allowed() {
            verdict.denial = self.touched(&asked.review).await;
        }
        let outcome = report_verdict(&asked, &verdict);
        if let (Some(reservations), Some(sandbox), false) =
            (&self.reservations, reserved_sandbox, verdict.reservation_kept)
        {
            reservations.release(&asked.review, &sandbox);
        }
        self.metrics.plugin_failures(&verdict);
        report_refused_answers(&asked.review, &verdict);
        Ok((serde_json::to_vec(&wire::answer(&asked, verdict)?)?, outcome))
    }

    /// Answers a review that is too costly to be parsed. The finalizers of a terminating object can still be removed.
    async fn too_costly(
        &self,
        error: Refused,
        body: Bytes,
        intake: &Intake,
    ) -> Result<(Vec<u8>, &'static str), Unanswered> {
        let uid = wire::uid(body.get(..Head::BYTES).unwrap_or(&body));
        let is_exempt = intake.work(move || changes_only_finalizers(&body)).await?;
        match uid.filter(|_| is_exempt) {
            Some(uid) => Ok((serde_json::to_vec(&wire::admission_without_review(uid))?, "allowed")),
            None => Err(error.into()),
        }
    }

    /// The facts for a review. A namespace that was just created, or a pod, may arrive in a moment, so the review waits
    /// for it.
    async fn context(&self, review: &Review, (client, memory): (Peer, usize)) -> Result<Context, Unanswered> {
        let mut context = (self.look)(review).ok_or(Unanswered::NotReady)?;
        let mut pauses = limits::FACT_RETRY_DELAYS.into_iter();
        let mut waiting = None;
        while admission::awaits_a_fact(review, &context)
            && let Some(pause) = pauses.next()
        {
            waiting = waiting.or_else(|| self.waits.begin(client, &review.namespace, memory));
            if waiting.is_none() {
                break;
            }
            sleep(pause).await;
            context = (self.look)(review).ok_or(Unanswered::NotReady)?;
        }
        Ok(context)
    }

    /// Lets the plugin of a SandboxPolicy check its settings. The review needs no facts about the cluster.
    async fn check_policy(&self, asked: Asked, intake: &Intake) -> Result<(Vec<u8>, &'static str), Unanswered> {
        let (check, caller) = (self.policy_check.clone(), caller(intake));
        let (asked, checked) = intake
            .work(move || {
                // A user who changes only the metadata need not be able to correct the settings.
                let Review { object, old_object, .. } = &asked.review;
                let is_same = old_object.is_object() && old_object["spec"] == object["spec"];
                let checked = if is_same { Ok(None) } else { check(object, caller) };
                (asked, checked)
            })
            .await?;
        let mut verdict = ReviewVerdict::default();
        match checked {
            Ok(warning) => verdict.warnings.extend(warning),
            Err(cause) => {
                let message = format!("{}: {}", cause.field, cause.message);
                verdict.denial = Some(Denial { why: Why::Invalid, message, causes: vec![cause] });
            }
        }
        let outcome = report_verdict(&asked, &verdict);
        Ok((serde_json::to_vec(&wire::answer(&asked, verdict)?)?, outcome))
    }

    fn record(&self, activity: Activity) {
        let (key, uid) = (activity.sandbox.clone(), activity.uid.clone());
        match self.activity.push(&key.namespace, &uid, activity, |_| true) {
            Queued::Waits => {}
            Queued::Merged => self.metrics.activity("merged"),
            Queued::Dropped => {
                // Too many records wait to be written. The session must not wait for its record, so a Sandbox may
                // appear idle.
                self.metrics.activity("dropped");
                warn!(namespace = %key.namespace, "an activity record was dropped, because too many wait to be written");
            }
        }
    }

    /// Records a connection to a warm Sandbox, if the review is about one. Returns the denial if that fails.
    async fn touched(&self, review: &Review) -> Option<Denial> {
        // Only a connection touches a Sandbox. Other reviews must not read the World a second time.
        if review.operation != Verb::Connect {
            return None;
        }
        let touches = self.touches.as_ref()?;
        let needed = || (self.look)(review).and_then(|context| admission::touch(review, &context));
        let first = needed()?;
        let attempts = async {
            for pause in limits::TOUCH_RETRY_DELAYS {
                tokio::time::sleep(pause).await;
                // If the Sandbox has changed, a claim may have taken it. There is nothing to record then.
                let Some(touch) = needed() else { return true };
                let (namespace, uid) = (touch.sandbox.namespace.clone(), touch.uid.clone());
                let (reply, recorded) = oneshot::channel();
                let queued = touches.push(&namespace, &uid, (touch, reply), |_| false);
                if queued == Queued::Dropped {
                    warn!(%namespace, "too many connections to warm pods wait for their records");
                    return false;
                }
                if recorded.await.unwrap_or_default() {
                    return true;
                }
            }
            false
        };
        let recorded = timeout(limits::TOUCH_TIMEOUT, attempts).await.unwrap_or_default();
        (!recorded).then(|| admission::not_recorded(&first))
    }

    /// Plugins and large objects use the processor, so they get a blocking thread and not one that serves connections.
    /// If the object is small and no plugin has to be asked, as for most claims, the review does not switch threads.
    ///
    /// The thread may outlive the reply, because it asks policies in the mode Shadow after it.
    async fn decide(
        &self,
        asked: &Arc<Asked>,
        context: Context,
        (large, started): (bool, Instant),
        intake: &Intake,
    ) -> Result<ReviewVerdict, Unanswered> {
        if !large && admission::questions(&asked.review, &context, &[]).is_empty() {
            return Ok(admission::verdict(&asked.review, &context, &[]));
        }
        let asking = Asking::new(Arc::clone(asked), context, (self.asker.clone(), caller(intake)));
        let (known, mut latest) = watch::channel::<Option<Known>>(None);
        let intake = intake.clone();
        // The thread may outlive the review, so the review's span must not contain its time.
        let span = span!(target: traces::TARGET, Level::INFO, "policies");
        tokio::spawn(async move { intake.work(move || asking.run(started, known)).await }.instrument(span));
        latest.wait_for(Option::is_some).await.map_err(|_| Unanswered::Panicked)?;
        let rest = (started + limits::NOTES_TIMEOUT).saturating_duration_since(Instant::now());
        // Without the notes of slow policies, the verdict is the same. The sender is dropped when there are no more
        // notes.
        let complete = latest.wait_for(|known| known.as_ref().is_some_and(|known| known.is_complete));
        drop(timeout(rest, complete).await);
        let known = latest.borrow().clone();
        known.map(|known| known.verdict).ok_or(Unanswered::Panicked)
    }
}

/// The origin of a review.
fn caller(intake: &Intake) -> Caller {
    if intake.is_verified() { Caller::Verified } else { Caller::Unverified }
}

/// Does the work of a large review on a blocking thread, so that it does not hold up connections.
async fn run_sized<T: Send + 'static>(
    large: bool,
    intake: &Intake,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, tokio::task::JoinError> {
    if large { intake.work(work).await } else { Ok(work()) }
}

/// Logs the answers that the core refused, such as a patch of a field that no plugin may touch. The caller of a plugin
/// logs the other failures.
fn report_refused_answers(review: &Review, verdict: &ReviewVerdict) {
    let refused = verdict.plugin_failures.iter().filter(|failed| failed.failure.kind == FailureKind::Invalid);
    for PluginFailure { binding, plugin, failure, policy } in refused {
        let (namespace, name, message) = (&review.namespace, &review.name, &failure.message);
        warn!(kind = review.kind, namespace, name, plugin, binding, ?policy, message, "a plugin's answer was refused");
    }
}

fn report_verdict(asked: &Asked, verdict: &ReviewVerdict) -> &'static str {
    let review = &asked.review;
    match &verdict.denial {
        Some(denial) => {
            let (namespace, name, user) = (&review.namespace, &review.name, &review.username);
            info!(kind = review.kind, namespace, name, user, why = denial.why.as_str(), denial.message, "denied");
            denial.why.as_str()
        }
        None => "allowed",
    }
}
