//! Authentication and authorization of clients by the API server: a TokenReview, and a SubjectAccessReview.
//!
//! [`require`] protects plain HTTP endpoints, such as those for Prometheus, by their paths. controller-runtime's
//! `WithAuthenticationAndAuthorization` does the same. [`Reviews`] asks about any access.

mod reviews;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use kube::Client;

use crate::limits;
use crate::server::RemoteAddress;

pub use self::reviews::{Access, Reviews, Token, Verdict};

/// Requires that the user of each request may `get` its path. The API server decides that. With an audience, a token must be
/// for this audience. Without one, it must be a token for the API server.
pub fn require(router: Router, client: Client, audience: Option<&str>) -> Router {
    let audiences = audience.into_iter().map(str::to_owned).collect();
    router.layer(from_fn_with_state(Gate { reviews: Reviews::new(client, limits::AUTH), audiences }, admit))
}

/// The address of clients that is not known.
const NO_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// What the clients of a router need.
#[derive(Clone)]
struct Gate {
    reviews: Reviews,
    audiences: Arc<[String]>,
}

impl IntoResponse for Verdict {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Verdict::Admitted(_) => return StatusCode::OK.into_response(),
            Verdict::Unauthenticated => {
                let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
                let text = "a bearer token of a ServiceAccount is required\n";
                return (StatusCode::UNAUTHORIZED, challenge, text).into_response();
            }
            Verdict::Forbidden(_) => (
                StatusCode::FORBIDDEN,
                "the user must be allowed to get this path as a nonResourceURL; for /metrics, bind the ClusterRole \
                 paddock-metrics-reader\n",
            ),
            Verdict::Busy => {
                let again = [(header::RETRY_AFTER, "1")];
                return (StatusCode::SERVICE_UNAVAILABLE, again, "too many clients are asked about now\n")
                    .into_response();
            }
            Verdict::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "the API server cannot be asked now\n"),
        };
        (status, text).into_response()
    }
}

async fn admit(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let Gate { reviews, audiences } = gate;
    let token = request.headers().get(header::AUTHORIZATION).and_then(bearer);
    let Some(token) = token.map(|token| Token::for_audiences(token, audiences)) else {
        return Verdict::Unauthenticated.into_response();
    };
    // Addresses take turns, so a stranger with many tokens does not keep others out. Without a server of this crate, all
    // clients are one address.
    let client = request.extensions().get::<RemoteAddress>().map_or(NO_ADDRESS, |address| address.0);
    match reviews.judge(&token, &Access::Path(request.uri().path().to_owned()), client).await {
        Verdict::Admitted(_) => next.run(request).await,
        refused @ (Verdict::Unauthenticated | Verdict::Forbidden(_) | Verdict::Busy | Verdict::Unavailable(_)) => {
            refused.into_response()
        }
    }
}

/// The token of the header `Authorization: Bearer TOKEN`.
#[must_use]
pub fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests;
