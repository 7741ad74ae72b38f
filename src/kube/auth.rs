//! Authentication and authorization of plain HTTP clients, such as Prometheus, by the API server: a TokenReview, and a
//! SubjectAccessReview for the path. controller-runtime's `WithAuthenticationAndAuthorization` does the same.
//!
//! A stranger who sends tokens must not make this process flood the API server, and must not keep a known client out.
//! Answers are cached, unknown tokens have a rate, and a client that was admitted lately stays admitted while the API
//! server cannot be asked.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use lru::LruCache;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tracing::warn;

use crate::limits;
use crate::pace::Pace;

/// Requires that the user of each request may `get` its path. The API server decides that.
pub fn require(router: Router, client: Client) -> Router {
    router.layer(from_fn_with_state(Gate::new(client), admit))
}

/// The answers of the API server. Clones are handles on the same answers.
#[derive(Clone)]
struct Gate {
    client: Client,
    known: Arc<Mutex<LruCache<[u8; 32], Known>>>,
    asked: Arc<Mutex<Pace<()>>>,
    running: Arc<Semaphore>,
}

/// An answer about one token and path.
#[derive(Clone, Copy)]
struct Known {
    verdict: Verdict,
    at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Admitted,
    /// The API server does not know the token.
    Unauthenticated,
    /// The user may not get the path.
    Forbidden,
    /// The API server could not be asked, or too many unknown tokens came.
    Unavailable,
}

impl IntoResponse for Verdict {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Verdict::Admitted => return StatusCode::OK.into_response(),
            Verdict::Unauthenticated => {
                let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
                let text = "a bearer token of a ServiceAccount is required\n";
                return (StatusCode::UNAUTHORIZED, challenge, text).into_response();
            }
            Verdict::Forbidden => (
                StatusCode::FORBIDDEN,
                "the user must be allowed to get this path as a nonResourceURL; bind the ClusterRole paddock-metrics-reader\n",
            ),
            Verdict::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "the API server cannot be asked now\n"),
        };
        (status, text).into_response()
    }
}

async fn admit(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let token = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer);
    let Some(token) = token.map(str::to_owned) else { return Verdict::Unauthenticated.into_response() };
    match gate.judge(&token, request.uri().path()).await {
        Verdict::Admitted => next.run(request).await,
        refused @ (Verdict::Unauthenticated | Verdict::Forbidden | Verdict::Unavailable) => refused.into_response(),
    }
}

/// The token of the header `Authorization: Bearer TOKEN`.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

impl Gate {
    fn new(client: Client) -> Self {
        Self {
            client,
            known: Arc::new(Mutex::new(LruCache::new(limits::AUTH_CACHE_CAPACITY))),
            asked: Arc::new(Mutex::new(Pace::new(limits::AUTH_RATE))),
            running: Arc::new(Semaphore::new(limits::AUTH_CONCURRENCY)),
        }
    }

    async fn judge(&self, token: &str, path: &str) -> Verdict {
        // The cache must not contain tokens, which would be in a dump of the memory.
        let key: [u8; 32] = Sha256::new().chain_update(token).chain_update([0]).chain_update(path).finalize().into();
        let now = Instant::now();
        let known = self.known.lock().peek(&key).copied();
        if let Some(known) = known.filter(|known| now.duration_since(known.at) < fresh(known.verdict)) {
            return known.verdict;
        }
        let admitted_lately = known.is_some_and(|known| {
            known.verdict == Verdict::Admitted && now.duration_since(known.at) < limits::AUTH_STALE_TIME
        });
        // A known client does not wait behind unknown tokens.
        if !admitted_lately && !self.asked.lock().take((), now) {
            return Verdict::Unavailable;
        }
        let answer = match (admitted_lately, self.running.try_acquire()) {
            (false, Err(_)) => return Verdict::Unavailable,
            (true, _) | (false, Ok(_)) => timeout(limits::AUTH_TIMEOUT, self.ask(token, path)).await,
        };
        match answer {
            Ok(Ok(verdict)) => {
                self.known.lock().put(key, Known { verdict, at: now });
                verdict
            }
            failed => {
                if let Ok(Err(error)) = failed {
                    warn!(%error, "the API server could not be asked about a client of the metrics");
                }
                if admitted_lately { Verdict::Admitted } else { Verdict::Unavailable }
            }
        }
    }

    async fn ask(&self, token: &str, path: &str) -> kube::Result<Verdict> {
        let Some(user) = self.user(token).await? else { return Ok(Verdict::Unauthenticated) };
        let spec = SubjectAccessReviewSpec {
            user: user.username,
            groups: user.groups,
            uid: user.uid,
            extra: user.extra,
            non_resource_attributes: Some(NonResourceAttributes {
                path: Some(path.to_owned()),
                verb: Some("get".to_owned()),
            }),
            resource_attributes: None,
        };
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let answer = reviews.create(&PostParams::default(), &review).await?;
        let allowed = answer.status.is_some_and(|status| status.allowed && status.denied != Some(true));
        Ok(if allowed { Verdict::Admitted } else { Verdict::Forbidden })
    }

    async fn user(&self, token: &str) -> kube::Result<Option<UserInfo>> {
        let spec = TokenReviewSpec { token: token.to_owned(), audiences: None };
        let review = TokenReview { spec, ..TokenReview::default() };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let answer = reviews.create(&PostParams::default(), &review).await?;
        let status = answer.status.filter(|status| status.authenticated == Some(true));
        Ok(status.and_then(|status| status.user))
    }
}

/// The time for which an answer is used without asking again. A new right has to take effect soon.
fn fresh(verdict: Verdict) -> std::time::Duration {
    match verdict {
        Verdict::Admitted => limits::AUTH_ADMITTED_TIME,
        Verdict::Unauthenticated | Verdict::Forbidden | Verdict::Unavailable => limits::AUTH_REFUSED_TIME,
    }
}

#[cfg(test)]
mod tests;
