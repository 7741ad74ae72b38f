//! Asks the API server who owns a token and for which audiences it is (TokenReview), and what that user may do
//! (SubjectAccessReview).
//!
//! A stranger who sends tokens must not make this process flood the API server, and must not keep other clients out.
//! Answers are cached. The addresses of clients take turns with questions about unknown tokens, and the users with
//! questions about their rights, each at rates of their own. A client that was admitted lately stays admitted while the
//! API server cannot be asked.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};
use lru::LruCache;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};
use tracing::warn;

use crate::fair_queue::{FairQueue, QueueLimits};
use crate::limits::{self, ReviewLimits};

/// What a user wants to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Read a path of the API server, or one that is protected like a path of the API server.
    Path(String),
    /// Use an object of the cluster.
    Object {
        /// The verb.
        verb: &'static str,
        /// The API group of the resource.
        group: &'static str,
        /// The resource, in the plural.
        resource: &'static str,
        /// The subresource.
        subresource: &'static str,
        /// The namespace of the object.
        namespace: Arc<str>,
        /// The name of the object.
        name: Arc<str>,
    },
}

/// A bearer token, and the audiences for which the API server must have issued it. Its text is in no output.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    text: Arc<str>,
    audiences: Arc<[String]>,
}

impl Token {
    /// A token for the API server itself.
    #[must_use]
    pub fn of_api_server(text: impl Into<Arc<str>>) -> Self {
        Self { text: text.into(), audiences: [].into() }
    }

    /// A token that must be valid for every one of these audiences. Without audiences, it is one for the API server.
    #[must_use]
    pub fn for_audiences(text: impl Into<Arc<str>>, audiences: impl Into<Arc<[String]>>) -> Self {
        Self { text: text.into(), audiences: audiences.into() }
    }

    /// The key of the answers about the token.
    fn hash(&self, more: &[&str]) -> Hash {
        let audiences = self.audiences.iter().map(String::as_str);
        hash([&*self.text].into_iter().chain(audiences).chain(more.iter().copied()))
    }

    /// Whether an answer is for every audience. An API server that knows no audiences names none.
    fn is_confirmed_by(&self, confirmed: Option<&[String]>) -> bool {
        self.audiences.iter().all(|audience| confirmed.unwrap_or_default().contains(audience))
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("audiences", &self.audiences).finish_non_exhaustive()
    }
}

/// The decision about a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The user of this name may do it.
    Admitted(Arc<str>),
    /// The API server does not know the token.
    Unauthenticated,
    /// The user of this name may not do it.
    Forbidden(Arc<str>),
    /// As many questions as allowed wait already. The client may try again after a second.
    Busy,
    /// The API server could not be asked. The text is for people.
    Unavailable(Arc<str>),
}

/// The answers of the API server. Clones are handles on the same answers.
#[derive(Clone)]
pub struct Reviews(Arc<Shared>);

struct Shared {
    client: Client,
    limits: ReviewLimits,
    verdicts: Mutex<LruCache<Hash, Known<Verdict>>>,
    users: Mutex<LruCache<Hash, Known<Option<Arc<UserInfo>>>>>,
    /// The questions about unknown tokens, by the addresses of the clients.
    tokens: FairQueue<Question>,
    /// The questions of users that the API server knows, by their names.
    rights: FairQueue<Question>,
    runner: OnceLock<AbortHandle>,
}

/// One question to the API server, which sends its answer to the client that waits.
type Question = BoxFuture<'static, ()>;

/// The reason why a question has no answer.
enum Unanswered {
    /// It had no turn.
    Busy,
    /// The API server did not answer it.
    Failed(String),
}

/// The caches must not contain tokens, which would be in a dump of the memory.
type Hash = [u8; 32];

/// An answer, and its time.
#[derive(Clone)]
struct Known<T> {
    answer: T,
    at: Instant,
}

impl Reviews {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(client: Client, limits: ReviewLimits) -> Self {
        let queue = |client, process| {
            let ReviewLimits { waiting: capacity, concurrency, .. } = limits;
            FairQueue::new(QueueLimits { capacity, concurrency, namespace: client, process })
        };
        Self(Arc::new(Shared {
            client,
            verdicts: Mutex::new(LruCache::new(limits.capacity)),
            users: Mutex::new(LruCache::new(limits.capacity)),
            tokens: queue(limits.client, limits.tokens),
            rights: queue(limits.user, limits.rights),
            runner: OnceLock::new(),
            limits,
        }))
    }

    /// Decides whether the owner of a token may do something. `from` is the address of the client, which has a share of
    /// the questions.
    pub async fn judge(&self, token: &Token, access: &Access, from: IpAddr) -> Verdict {
        let shared = &*self.0;
        let key = token.hash(&[&access.text()]);
        let now = Instant::now();
        let known = shared.verdicts.lock().get(&key).cloned();
        // A token that was revoked since is not admitted again, also while nobody can be asked.
        let known = known.filter(|known| !shared.is_revoked_since(token, known.at));
        if let Some(known) = known.as_ref().filter(|known| now.duration_since(known.at) < shared.fresh(&known.answer)) {
            return known.answer.clone();
        }
        let admitted_lately = known.filter(|known| {
            matches!(known.answer, Verdict::Admitted(_)) && now.duration_since(known.at) < limits::AUTH_STALE_TIME
        });
        let asked = match &admitted_lately {
            // A known client does not wait behind others.
            Some(_) => match timeout(limits::AUTH_TIMEOUT, shared.ask(token, access)).await {
                Ok(answer) => answer.map_err(|error| Unanswered::Failed(error.to_string())),
                Err(_) => Err(Unanswered::Failed(LATE.to_owned())),
            },
            None => self.ask_in_turn(token, access, from).await,
        };
        let error = match asked {
            Ok(verdict) => {
                // An unknown token is remembered as such, and must not take the place of a verdict.
                if verdict.answer == Verdict::Unauthenticated {
                    shared.verdicts.lock().pop(&key);
                } else {
                    shared.verdicts.lock().put(key, verdict.clone());
                }
                return verdict.answer;
            }
            Err(error) => error,
        };
        match (error.verdict(), admitted_lately) {
            (Verdict::Unavailable(_), Some(known)) => known.answer,
            (verdict, _) => verdict,
        }
    }

    /// The name of the owner of a token. No right is asked about.
    ///
    /// # Errors
    /// The token is not known, or nobody could be asked.
    pub async fn authenticate(&self, token: &Token, from: IpAddr) -> Result<Arc<str>, Verdict> {
        let known = self.user_in_turn(token, from).await.map_err(Unanswered::verdict)?;
        known.answer.map(|user| name_of(&user)).ok_or(Verdict::Unauthenticated)
    }

    /// Asks for a client that is not known: its address has a turn to ask about the token, and its user one to ask about
    /// the right.
    async fn ask_in_turn(&self, token: &Token, access: &Access, from: IpAddr) -> Result<Known<Verdict>, Unanswered> {
        let Known { answer, at } = self.user_in_turn(token, from).await?;
        let Some(user) = answer else { return Ok(Known { answer: Verdict::Unauthenticated, at }) };
        let (shared, group) = (self.0.clone(), name_of(&user));
        let (family, access) = (Arc::from(access.text()), access.clone());
        self.in_turn(&self.0.rights, &group, &family, async move { shared.right(&user, at, &access).await }).await
    }

    /// Asks who owns a token, unless that is known.
    async fn user_in_turn(&self, token: &Token, from: IpAddr) -> Result<Known<Option<Arc<UserInfo>>>, Unanswered> {
        if let Some(known) = self.0.fresh_user(token) {
            return Ok(known);
        }
        let known = self.0.users.lock().get(&token.hash(&[])).cloned().and_then(|known| known.answer);
        // The owner of a token that was known before does not wait behind strangers.
        let (queue, group) = match known {
            Some(user) => (&self.0.rights, name_of(&user)),
            None => (&self.0.tokens, Arc::from(from.to_string())),
        };
        let (shared, token) = (self.0.clone(), token.clone());
        self.in_turn(queue, &group, &group, async move { shared.user(&token).await }).await
    }

    /// Asks one question when its group has its turn.
    async fn in_turn<T: Send + 'static>(
        &self,
        queue: &FairQueue<Question>,
        group: &Arc<str>,
        family: &Arc<str>,
        question: impl Future<Output = kube::Result<T>> + Send + 'static,
    ) -> Result<T, Unanswered> {
        self.0.runner.get_or_init(|| {
            let (tokens, rights) = (self.0.tokens.clone(), self.0.rights.clone());
            let run = async move { tokio::join!(tokens.run(|question| question), rights.run(|question| question)) };
            tokio::spawn(run.map(drop)).abort_handle()
        });
        let (mut sender, answer) = oneshot::channel();
        let begun = Arc::new(AtomicBool::new(false));
        let begins = begun.clone();
        let question = async move {
            // The client may have left, and then nobody needs the answer.
            tokio::select! {
                biased;
                () = sender.closed() => {}
                answer = async { begins.store(true, Ordering::Relaxed); question.await } => {
                    let _ = sender.send(answer);
                }
            }
        };
        queue.push(group, family, question.boxed(), |_| false);
        match timeout(limits::AUTH_TIMEOUT, answer).await {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(error))) => Err(Unanswered::Failed(error.to_string())),
            Err(_) if begun.load(Ordering::Relaxed) => Err(Unanswered::Failed(LATE.to_owned())),
            // The question had no turn in time, or the full queue dropped it.
            Ok(Err(_)) | Err(_) => Err(Unanswered::Busy),
        }
    }
}

impl Unanswered {
    /// What the client is told.
    fn verdict(self) -> Verdict {
        match self {
            Unanswered::Busy => Verdict::Busy,
            Unanswered::Failed(error) => {
                warn!(error, "the API server could not be asked about a client");
                Verdict::Unavailable(format!("the API server cannot be asked now: {error}").into())
            }
        }
    }
}

/// The name of a user. A user without one has the empty name.
fn name_of(user: &UserInfo) -> Arc<str> {
    user.username.as_deref().unwrap_or_default().into()
}

/// The API server did not answer a question in time.
const LATE: &str = "the API server did not answer in time";

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(runner) = self.runner.get() {
            runner.abort();
        }
    }
}

impl std::fmt::Debug for Reviews {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reviews").field("limits", &self.0.limits).finish_non_exhaustive()
    }
}

impl Shared {
    async fn ask(&self, token: &Token, access: &Access) -> kube::Result<Known<Verdict>> {
        let Known { answer, at } = self.user(token).await?;
        match answer {
            Some(user) => self.right(&user, at, access).await,
            None => Ok(Known { answer: Verdict::Unauthenticated, at }),
        }
    }

    /// Whether a user has a right. The token of the user was confirmed at the time `confirmed`, and an admission counts from
    /// then, so that a revoked token ends with the time of one answer.
    async fn right(&self, user: &UserInfo, confirmed: Instant, access: &Access) -> kube::Result<Known<Verdict>> {
        let asked = Instant::now();
        let name = name_of(user);
        let (resource, path) = access.attributes();
        let UserInfo { username, groups, uid, extra } = user.clone();
        let spec = SubjectAccessReviewSpec {
            user: username,
            groups,
            uid,
            extra,
            non_resource_attributes: path,
            resource_attributes: resource,
        };
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let answer = reviews.create(&PostParams::default(), &review).await?;
        let allowed = answer.status.is_some_and(|status| status.allowed && status.denied != Some(true));
        Ok(if allowed {
            Known { answer: Verdict::Admitted(name), at: confirmed }
        } else {
            Known { answer: Verdict::Forbidden(name), at: asked }
        })
    }

    /// The owner of a token, if that was asked lately. Its answer is `None` if the API server does not know the
    /// token.
    fn fresh_user(&self, token: &Token) -> Option<Known<Option<Arc<UserInfo>>>> {
        let known = self.users.lock().get(&token.hash(&[])).cloned()?;
        let time = if known.answer.is_some() { self.limits.admitted } else { self.limits.refused };
        (known.at.elapsed() < time).then_some(known)
    }

    /// Whether the API server has said after this time that it does not know the token.
    fn is_revoked_since(&self, token: &Token, time: Instant) -> bool {
        let users = self.users.lock();
        users.peek(&token.hash(&[])).is_some_and(|known| known.answer.is_none() && known.at >= time)
    }

    /// The owner of a token. A known owner is not asked about for each object.
    async fn user(&self, token: &Token) -> kube::Result<Known<Option<Arc<UserInfo>>>> {
        if let Some(known) = self.fresh_user(token) {
            return Ok(known);
        }
        let (key, now) = (token.hash(&[]), Instant::now());
        let audiences = Some(token.audiences.to_vec()).filter(|audiences| !audiences.is_empty());
        let spec = TokenReviewSpec { token: token.text.to_string(), audiences };
        let review = TokenReview { spec, ..TokenReview::default() };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let answer = reviews.create(&PostParams::default(), &review).await?;
        let status = answer
            .status
            .filter(|status| status.authenticated == Some(true) && token.is_confirmed_by(status.audiences.as_deref()));
        let known = Known { answer: status.and_then(|status| status.user).map(Arc::new), at: now };
        self.users.lock().put(key, known.clone());
        Ok(known)
    }

    /// The time for which an answer is used without asking again.
    fn fresh(&self, verdict: &Verdict) -> Duration {
        match verdict {
            Verdict::Admitted(_) => self.limits.admitted,
            Verdict::Unauthenticated | Verdict::Forbidden(_) | Verdict::Busy | Verdict::Unavailable(_) => {
                self.limits.refused
            }
        }
    }
}

impl Access {
    fn attributes(&self) -> (Option<ResourceAttributes>, Option<NonResourceAttributes>) {
        match self {
            Access::Path(path) => {
                (None, Some(NonResourceAttributes { path: Some(path.clone()), verb: Some("get".to_owned()) }))
            }
            Access::Object { verb, group, resource, subresource, namespace, name } => {
                let attributes = ResourceAttributes {
                    verb: Some((*verb).to_owned()),
                    group: Some((*group).to_owned()),
                    resource: Some((*resource).to_owned()),
                    subresource: Some((*subresource).to_owned()),
                    namespace: Some(namespace.to_string()),
                    name: Some(name.to_string()),
                    ..ResourceAttributes::default()
                };
                (Some(attributes), None)
            }
        }
    }

    /// A text that differs for different accesses. Names have no slashes.
    fn text(&self) -> String {
        match self {
            Access::Path(path) => format!("path {path}"),
            Access::Object { verb, group, resource, subresource, namespace, name } => {
                format!("object {verb}/{group}/{resource}/{subresource}/{namespace}/{name}")
            }
        }
    }
}

/// The hash of a list of texts, which two lists share only if they are equal.
fn hash<'a>(texts: impl Iterator<Item = &'a str>) -> Hash {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    hash.finalize().into()
}
