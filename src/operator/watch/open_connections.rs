//! Asks every gateway for its open connections, and adds the numbers for idle plugins.
//!
//! A gateway knows only its own connections, and no watch delivers them. A Sandbox in use would look idle if the sum lacked
//! a gateway. So a round of questions asks each pod in the EndpointSlices of the gateways' Services, whatever its conditions
//! are: a gateway that terminates or is not Ready may still have connections. If one of them does not answer, there is no
//! number for any Sandbox.

mod replicas;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body as ReplyBody;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper_util::client::legacy;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, Client};
use paddock_api::open_connections::{self as wire, BYTES_MAX, PATH};
use paddock_core::open_connections::OpenConnections;
use paddock_core::text::truncate;
use paddock_core::world::{Observed, World};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tracing::{info, warn};

use self::replicas::{NoReplicas, Replica, replicas};
use crate::config::{ConnectionsConfig, GatewayService};
use crate::limits;
use crate::metrics::{ConnectionsResult, Metrics};
use crate::world::SharedWorld;

/// Sends a question with a token to the gateway at an address.
pub type Ask =
    Arc<dyn Fn(SocketAddr, HeaderValue) -> BoxFuture<'static, Result<Response<ReplyBody>, String>> + Send + Sync>;

/// Questions over HTTP, each with a connection of its own.
#[must_use]
pub fn over_http() -> Ask {
    let client: legacy::Client<_, ReplyBody> =
        legacy::Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
    Arc::new(move |gateway, authorization| {
        let client = client.clone();
        let request = Request::get(format!("http://{gateway}{PATH}")).header(header::AUTHORIZATION, authorization);
        async move {
            let request = request.body(ReplyBody::empty()).map_err(|error| error.to_string())?;
            let response = client.request(request).await.map_err(|error| causes(&error))?;
            Ok(response.map(ReplyBody::new))
        }
        .boxed()
    })
}

/// An error and its causes.
fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// The rounds of questions to all gateways.
pub struct ConnectionRounds {
    /// The client for the EndpointSlices. It does not retry, because the next round comes soon.
    pub client: Client,
    /// The Services of the gateways, and the token for them.
    pub config: ConnectionsConfig,
    /// The time between two rounds. It is not zero.
    pub interval: Duration,
    /// The way to a gateway.
    pub ask: Ask,
    /// The World that receives the sum.
    pub world: SharedWorld,
    /// The counters of rounds and gateways.
    pub metrics: Metrics,
    /// The reason why there is no sum, for `/readyz?verbose`.
    pub fault: watch::Sender<Option<String>>,
}

/// The reason why there is no sum.
#[derive(Debug)]
enum Failure {
    /// The token for the gateways cannot be read.
    Token(PathBuf, String),
    /// The API server does not list the EndpointSlices in time.
    SlicesLate,
    /// The EndpointSlices of a Service cannot be listed.
    Slices(GatewayService, String),
    /// The operator may not list the EndpointSlices of a Service.
    SlicesForbidden(GatewayService, String),
    /// The EndpointSlices of a Service name no usable list of gateways.
    Replicas(GatewayService, NoReplicas),
    /// A gateway does not answer, or not in time.
    Silent(Replica, String),
    /// A gateway does not admit the operator.
    Forbidden(Replica, StatusCode),
    /// A gateway answers with something else than a list of this time.
    Answer(Replica, String),
}

impl Failure {
    fn result(&self) -> ConnectionsResult {
        match self {
            Failure::Silent(..) => ConnectionsResult::Silent,
            Failure::Forbidden(..) | Failure::SlicesForbidden(..) => ConnectionsResult::Forbidden,
            Failure::Token(..)
            | Failure::SlicesLate
            | Failure::Slices(..)
            | Failure::Replicas(..)
            | Failure::Answer(..) => ConnectionsResult::Failed,
        }
    }

    /// What is wrong, and what would be right, for people.
    fn text(&self) -> String {
        let problem = match self {
            Failure::Token(file, error) => {
                format!("the token of --connections-token-file={} cannot be used: {error}", file.display())
            }
            Failure::SlicesLate => "the API server does not list the EndpointSlices of the gateways in time".to_owned(),
            Failure::Slices(service, error) => {
                format!("the EndpointSlices of Service {service} cannot be listed: {error}")
            }
            Failure::SlicesForbidden(GatewayService { namespace, .. }, error) => {
                format!("the operator may not list the EndpointSlices of namespace {namespace}: {error}")
            }
            Failure::Replicas(service, problem) => format!("Service {service} {problem}"),
            Failure::Silent(gateway, error) => format!("gateway {gateway} does not answer: {error}"),
            Failure::Forbidden(gateway, status) => format!(
                "gateway {gateway} does not admit the operator ({status}); apply the ClusterRoles {}-connections and \
                 sandbox-router-auth-delegator of `paddock manifests`. With --served-namespace, their names end with a dot \
                 and the namespace",
                paddock_api::names::object::OPERATOR_DEPLOYMENT
            ),
            Failure::Answer(gateway, problem) => format!("gateway {gateway} has no usable answer: {problem}"),
        };
        format!("open connections: idle plugins do not get their number: {problem}")
    }
}

impl ConnectionRounds {
    /// Asks until the future is dropped.
    pub async fn run(self) {
        let mut ticks = interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = ConnectionsResult::Complete;
        loop {
            ticks.tick().await;
            if self.world.read(World::namespaces_with_idle_plugins).is_empty() {
                self.fault.send_if_modified(|fault| fault.take().is_some());
                continue;
            }
            let (gateways, sum, failure) = match self.round().await {
                Ok((gateways, sum)) => (gateways, Some(sum), None),
                // The last sum does not count any more.
                Err(failure) => (0, None, Some(failure)),
            };
            let _no_keys = self.world.observe(Observed::GatewaysAsked(sum), self.world.now());
            last = self.report(gateways, failure.as_ref(), last);
        }
    }

    /// Asks every gateway once. The result is their number, and the sum of their answers.
    async fn round(&self) -> Result<(usize, OpenConnections), Failure> {
        let (asked, end) = (self.world.now(), Instant::now() + limits::CONNECTIONS_TIMEOUT);
        let token = self.token().await?;
        let replicas = timeout_at(end, self.replicas()).await.unwrap_or(Err(Failure::SlicesLate))?;
        let gateways = replicas.len();
        let question = |replica| question(self.ask.clone(), replica, token.clone(), (asked, end));
        let questions: Vec<_> = replicas.into_iter().map(question).collect();
        let mut answers = stream::iter(questions).buffer_unordered(limits::CONNECTIONS_QUESTIONS);
        let mut pods: BTreeMap<Arc<str>, u32> = BTreeMap::new();
        while let Some(answer) = answers.next().await {
            for sandbox in answer?.sandboxes {
                let open = pods.entry(sandbox.pod_uid.into()).or_default();
                *open = open.saturating_add(sandbox.open);
            }
        }
        Ok((gateways, OpenConnections { pods, asked }))
    }

    /// The header with the token. The file is read anew, because the kubelet replaces the token before it expires.
    async fn token(&self) -> Result<HeaderValue, Failure> {
        let file = &self.config.token_file;
        let failed = |error: &dyn std::error::Error| Failure::Token(file.clone(), error.to_string());
        let token = tokio::fs::read_to_string(file).await.map_err(|error| failed(&error))?;
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim())).map_err(|error| failed(&error))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Every gateway of all Services. A pod of two Services is one gateway.
    async fn replicas(&self) -> Result<Vec<Replica>, Failure> {
        let mut replicas = BTreeMap::new();
        for service in &self.config.services {
            replicas.extend(self.replicas_of(service).await?);
            if replicas.len() > limits::CONNECTIONS_GATEWAYS_MAX {
                return Err(Failure::Replicas(service.clone(), NoReplicas::TooMany));
            }
        }
        Ok(replicas.into_values().collect())
    }

    /// Every gateway of a Service that exists, by the UID of its pod, whatever its conditions are. The list comes from the API
    /// server, because a watch could lack a gateway that is new.
    async fn replicas_of(&self, service: &GatewayService) -> Result<BTreeMap<String, Replica>, Failure> {
        let slices: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &service.namespace);
        let params = ListParams {
            label_selector: Some(format!("kubernetes.io/service-name={}", service.name)),
            limit: Some(limits::CONNECTIONS_SLICES_MAX),
            ..ListParams::default()
        };
        let list = slices.list(&params).await.map_err(|error| {
            let text = truncate(&error.to_string(), MESSAGE_CHARS);
            let is_forbidden = matches!(&error, kube::Error::Api(status) if matches!(status.code, 401 | 403));
            let failure = if is_forbidden { Failure::SlicesForbidden } else { Failure::Slices };
            failure(service.clone(), text)
        })?;
        if list.metadata.continue_.is_some_and(|next| !next.is_empty()) {
            return Err(Failure::Replicas(service.clone(), NoReplicas::TooMany));
        }
        replicas(list.items).map_err(|problem| Failure::Replicas(service.clone(), problem))
    }

    /// Reports the result, in the log only if it is not the last one.
    fn report(&self, gateways: usize, failure: Option<&Failure>, last: ConnectionsResult) -> ConnectionsResult {
        let result = failure.map_or(ConnectionsResult::Complete, Failure::result);
        let fault = failure.map(Failure::text);
        self.metrics.gateways_asked(result, gateways);
        if result != last {
            match &fault {
                Some(fault) => warn!(fault, "the open connections of Sandboxes are not known"),
                None => info!(gateways, "the open connections of Sandboxes are known again"),
            }
        }
        self.fault.send_if_modified(|before| {
            let changed = *before != fault;
            *before = fault;
            changed
        });
        result
    }
}

/// Asks one gateway. The time of its list must not be before that of the question: a program between the two could repeat an
/// old answer.
async fn question(
    ask: Ask,
    replica: Replica,
    token: HeaderValue,
    (asked, end): (Timestamp, Instant),
) -> Result<wire::OpenConnections, Failure> {
    let given = timeout_at(end, answer(ask(replica.address, token))).await;
    match given.unwrap_or_else(|_| Err(NoAnswer::Silent("no answer in time".to_owned()))) {
        Ok(list) if list.at < asked.checked_sub(limits::CONNECTIONS_CLOCKS).unwrap_or(Timestamp::MIN) => {
            Err(Failure::Answer(replica, format!("its list is from {}, before it was asked", list.at)))
        }
        Ok(list) => Ok(list),
        Err(NoAnswer::Silent(error)) => Err(Failure::Silent(replica, truncate(&error, MESSAGE_CHARS))),
        Err(NoAnswer::Forbidden(status)) => Err(Failure::Forbidden(replica, status)),
        Err(NoAnswer::Other(problem)) => Err(Failure::Answer(replica, truncate(&problem, MESSAGE_CHARS))),
    }
}

/// The reason why there is no list of one gateway.
enum NoAnswer {
    Silent(String),
    Forbidden(StatusCode),
    Other(String),
}

/// Reads the answer of one gateway.
async fn answer(
    sent: impl Future<Output = Result<Response<ReplyBody>, String>>,
) -> Result<wire::OpenConnections, NoAnswer> {
    let (parts, body) = sent.await.map_err(NoAnswer::Silent)?.into_parts();
    match parts.status {
        StatusCode::OK => {}
        status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => return Err(NoAnswer::Forbidden(status)),
        status => return Err(NoAnswer::Other(format!("its status is {status}"))),
    }
    let (mut data, mut list) = (body.into_data_stream(), Vec::new());
    while let Some(part) = data.next().await {
        let part = part.map_err(|error| NoAnswer::Silent(error.to_string()))?;
        if list.len() + part.len() > BYTES_MAX {
            return Err(NoAnswer::Other(format!("it has more than {} MiB", BYTES_MAX >> 20)));
        }
        list.extend_from_slice(&part);
    }
    let read = spawn_blocking(move || serde_json::from_slice(&list)).await;
    read.map_err(|error| NoAnswer::Other(error.to_string()))?.map_err(|error| NoAnswer::Other(error.to_string()))
}

/// The longest message of a failure, in characters.
const MESSAGE_CHARS: usize = 256;

#[cfg(test)]
mod tests;
