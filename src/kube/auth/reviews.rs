//! Asks the API server who owns a token (TokenReview) and what that user may do (SubjectAccessReview).
//!
//! A stranger who sends tokens must not make this process flood the API server, and must not keep a known client out.
//! Answers are cached, unknown tokens have a rate, and a client that was admitted lately stays admitted while the API
//! server cannot be asked.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};
use lru::LruCache;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tracing::warn;

use crate::limits::{self, ReviewLimits};
use crate::pace::Pace;

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

/// The decision about a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The user of this name may do it.
    Admitted(Arc<str>),
    /// The API server does not know the token.
    Unauthenticated,
    /// The user may not do it.
    Forbidden,
    /// The API server could not be asked, or too many unknown tokens came. The text is for people.
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
    clients: Mutex<Pace<IpAddr>>,
    process: Mutex<Pace<()>>,
    running: Semaphore,
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
        Self(Arc::new(Shared {
            client,
            limits,
            verdicts: Mutex::new(LruCache::new(limits.capacity)),
            users: Mutex::new(LruCache::new(limits.capacity)),
            clients: Mutex::new(Pace::new(limits.client)),
            process: Mutex::new(Pace::new(limits.process)),
            running: Semaphore::new(limits.concurrency),
        }))
    }

    /// Decides whether the owner of a token may do something. `from` is the address of the client, which has a share of
    /// the questions.
    pub async fn judge(&self, token: &str, access: &Access, from: IpAddr) -> Verdict {
        let shared = &*self.0;
        let key = hash(&[token, &access.text()]);
        let now = Instant::now();
        let known = shared.verdicts.lock().get(&key).cloned();
        if let Some(known) = known.as_ref().filter(|known| now.duration_since(known.at) < shared.fresh(&known.answer)) {
            return known.answer.clone();
        }
        let admitted_lately = known.filter(|known| {
            matches!(known.answer, Verdict::Admitted(_)) && now.duration_since(known.at) < limits::AUTH_STALE_TIME
        });
        // A known client does not wait behind unknown tokens.
        let asked = if admitted_lately.is_some() {
            timeout(limits::AUTH_TIMEOUT, shared.ask(token, access)).await
        } else {
            if !shared.clients.lock().take(from, now) || !shared.process.lock().take((), now) {
                return Verdict::Unavailable("too many unknown tokens or rights are asked about now".into());
            }
            let turn = async {
                let Ok(_turn) = shared.running.acquire().await else { return std::future::pending().await };
                shared.ask(token, access).await
            };
            timeout(limits::AUTH_TIMEOUT, turn).await
        };
        let error = match asked {
            Ok(Ok(verdict)) => {
                shared.verdicts.lock().put(key, Known { answer: verdict.clone(), at: now });
                return verdict;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the API server did not answer in time".to_owned(),
        };
        warn!(error, "the API server could not be asked about a client");
        match admitted_lately {
            Some(known) => known.answer,
            None => Verdict::Unavailable(format!("the API server cannot be asked now: {error}").into()),
        }
    }
}

impl std::fmt::Debug for Reviews {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reviews").field("limits", &self.0.limits).finish_non_exhaustive()
    }
}

impl Shared {
    async fn ask(&self, token: &str, access: &Access) -> kube::Result<Verdict> {
        let Some(user) = self.user(token).await? else { return Ok(Verdict::Unauthenticated) };
        let (resource, path) = access.attributes();
        let UserInfo { username, groups, uid, extra } = UserInfo::clone(&user);
        let name: Arc<str> = username.as_deref().unwrap_or_default().into();
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
        Ok(if allowed { Verdict::Admitted(name) } else { Verdict::Forbidden })
    }

    /// The owner of a token. A known owner is not asked about for each object.
    async fn user(&self, token: &str) -> kube::Result<Option<Arc<UserInfo>>> {
        let (key, now) = (hash(&[token]), Instant::now());
        let known = self.users.lock().get(&key).cloned();
        let fresh = |known: &Known<Option<_>>| {
            let time = if known.answer.is_some() { self.limits.admitted } else { self.limits.refused };
            now.duration_since(known.at) < time
        };
        if let Some(known) = known.filter(fresh) {
            return Ok(known.answer);
        }
        let spec = TokenReviewSpec { token: token.to_owned(), audiences: None };
        let review = TokenReview { spec, ..TokenReview::default() };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let answer = reviews.create(&PostParams::default(), &review).await?;
        let status = answer.status.filter(|status| status.authenticated == Some(true));
        let user = status.and_then(|status| status.user).map(Arc::new);
        self.users.lock().put(key, Known { answer: user.clone(), at: now });
        Ok(user)
    }

    /// The time for which an answer is used without asking again.
    fn fresh(&self, verdict: &Verdict) -> Duration {
        match verdict {
            Verdict::Admitted(_) => self.limits.admitted,
            Verdict::Unauthenticated | Verdict::Forbidden | Verdict::Unavailable(_) => self.limits.refused,
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
fn hash(texts: &[&str]) -> Hash {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    hash.finalize().into()
}
