//! Reads the CPU that the pods of Sandboxes use from the resource metrics API, which metrics-server serves.
//!
//! The API cannot be watched, so it is listed at an interval, and only while an idle plugin may ask for the CPU use of a
//! Sandbox. A sample makes no key due. Without the API, the plugins get no CPU use, and nothing else changes.
//!
//! One list has the pods of all namespaces. Users choose the labels in it. If it is too large or too slow, each namespace
//! is listed alone for a while, and its failure is its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body as ReplyBody;
use futures::StreamExt;
use http::StatusCode;
use kube::Client;
use kube::api::ListParams;
use kube::client::Body;
use kube::core::Request;
use paddock_api::names::{label, object};
use paddock_api::pod_metrics::{self, PodMetrics};
use paddock_core::cpu_use::PodCpuUse;
use paddock_core::text::truncate;
use paddock_core::world::{Observed, World};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};
use tracing::{info, warn};

use crate::limits;
use crate::metrics::{CpuUseResult, Metrics};
use crate::sync::UnsyncedKinds;
use crate::world::SharedWorld;

/// The lists of CPU use.
pub struct CpuUseLists {
    /// The client. It does not retry, because the next list comes soon.
    pub client: Client,
    /// The only namespace to list. If absent, all namespaces.
    pub namespace: Option<String>,
    /// The time between two lists. It is not zero.
    pub interval: Duration,
    /// The World that receives the samples.
    pub world: SharedWorld,
    /// The counters of lists and samples.
    pub metrics: Metrics,
    /// The kinds that are not listed yet. Samples are dropped if their pods are not known.
    pub unsynced: watch::Receiver<UnsyncedKinds>,
    /// The reason why there are no samples, for `/readyz?verbose`.
    pub fault: watch::Sender<Option<String>>,
}

/// The reason why a list is not complete.
#[derive(Debug)]
enum Failure {
    Absent,
    Forbidden(String),
    TooLarge,
    TooSlow,
    Failed(String),
}

impl Failure {
    fn result(&self) -> CpuUseResult {
        match self {
            Failure::Absent => CpuUseResult::Absent,
            Failure::Forbidden(_) => CpuUseResult::Forbidden,
            Failure::TooLarge | Failure::TooSlow | Failure::Failed(_) => CpuUseResult::Failed,
        }
    }

    /// Whether the list of a part can succeed where that of the whole failed.
    fn is_of_size(&self) -> bool {
        match self {
            Failure::TooLarge | Failure::TooSlow => true,
            Failure::Absent | Failure::Forbidden(_) | Failure::Failed(_) => false,
        }
    }

    /// What is wrong in these namespaces, or everywhere if there are none, and what would be right, for people.
    fn text(&self, namespaces: &[Arc<str>]) -> String {
        let resource = format!("{}.{}", pod_metrics::RESOURCE, pod_metrics::GROUP);
        let problem = match self {
            Failure::Absent => format!("the API server does not serve {resource}; install metrics-server"),
            Failure::Forbidden(message) => format!(
                "the operator may not list {resource}; apply the role {}-cpu-metrics of `paddock manifests`: {message}",
                object::OPERATOR_DEPLOYMENT
            ),
            Failure::TooLarge => {
                format!("a list of {resource} has more than {} MiB", limits::CPU_METRICS_BYTES_MAX >> 20)
            }
            Failure::TooSlow => format!("a list of {resource} takes too long"),
            Failure::Failed(message) => format!("{resource} cannot be listed: {message}"),
        };
        let place = match namespaces {
            [] => String::new(),
            [only] => format!(" in the namespace {only}"),
            [first, more @ ..] => format!(" in the namespace {first} and {} more", more.len()),
        };
        format!("CPU use: idle plugins do not get it{place}: {problem}")
    }
}

/// The result of a list: the pods that were listed, and the failure of the others.
struct Listed {
    pods: usize,
    failure: Option<Failure>,
    /// The namespaces that failed. Empty if they were not listed one by one.
    namespaces: Vec<Arc<str>>,
}

impl From<Result<usize, Failure>> for Listed {
    fn from(whole: Result<usize, Failure>) -> Self {
        let (pods, failure) = whole.map_or_else(|failure| (0, Some(failure)), |pods| (pods, None));
        Self { pods, failure, namespaces: Vec::new() }
    }
}

/// The memory of the lists of single namespaces.
#[derive(Default)]
struct Apart {
    /// The time until which each namespace is listed alone.
    until: Option<Instant>,
    /// The end of the last list of each namespace, and whether it failed.
    last: BTreeMap<Arc<str>, (bool, Instant)>,
}

impl Apart {
    /// The namespaces in the order in which they are listed: the failed one that has waited for the longest time, then those
    /// that did not fail, and then the others that failed. Within each group, those that were listed most recently come
    /// last. So the namespaces that fail take the time of one list from the others, and each namespace has its turn.
    fn order(&mut self, needed: &[Arc<str>]) -> Vec<Arc<str>> {
        let still: BTreeSet<&Arc<str>> = needed.iter().collect();
        self.last.retain(|namespace, _| still.contains(namespace));
        let failing = self.last.iter().filter(|(_, (failed, _))| *failed);
        let first = failing.min_by_key(|(_, (_, at))| *at).map(|(namespace, _)| namespace);
        let mut order = needed.to_vec();
        order.sort_by_key(|namespace| {
            let (failed, at) = self.last.get(namespace).map_or((false, None), |(failed, at)| (*failed, Some(*at)));
            (first != Some(namespace), failed, at)
        });
        order
    }
}

impl CpuUseLists {
    /// Lists until the future is dropped.
    pub async fn run(mut self) {
        // The operator ends together with the watches.
        if self.unsynced.wait_for(|unsynced| unsynced.is_empty()).await.is_err() {
            return std::future::pending().await;
        }
        let mut ticks = interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut last, mut apart) = (CpuUseResult::Served, Apart::default());
        loop {
            ticks.tick().await;
            let needed = self.world.read(World::namespaces_with_idle_plugins);
            if needed.is_empty() {
                self.fault.send_if_modified(|fault| fault.take().is_some());
                continue;
            }
            let listed = self.list(&needed, &mut apart).await;
            let _no_keys = self.world.observe(Observed::CpuUseListed, self.world.now());
            last = self.report(listed, last);
        }
    }

    /// Lists the pods of Sandboxes.
    async fn list(&self, needed: &[Arc<str>], apart: &mut Apart) -> Listed {
        let end = Instant::now() + limits::CPU_METRICS_TIMEOUT;
        if apart.until.is_none_or(|until| until <= Instant::now()) {
            let whole = timeout_at(end, self.list_in(self.namespace.as_deref())).await.unwrap_or(Err(Failure::TooSlow));
            match whole {
                Err(failure) if self.namespace.is_none() && failure.is_of_size() => {
                    apart.until = Some(Instant::now() + limits::CPU_METRICS_APART);
                }
                whole => return whole.into(),
            }
        }
        self.list_each(needed, apart, end).await
    }

    /// Lists each namespace alone. A namespace that was not listed before the end has its turn in the next list.
    async fn list_each(&self, needed: &[Arc<str>], apart: &mut Apart, end: Instant) -> Listed {
        let mut listed = Listed::from(Ok(0));
        for namespace in apart.order(needed) {
            let left = end.saturating_duration_since(Instant::now()).min(limits::CPU_METRICS_NAMESPACE_TIMEOUT);
            if left.is_zero() {
                listed.failure.get_or_insert(Failure::TooSlow);
                listed.namespaces.push(namespace);
                continue;
            }
            let result = timeout(left, self.list_in(Some(&namespace))).await.unwrap_or(Err(Failure::TooSlow));
            apart.last.insert(namespace.clone(), (result.is_err(), Instant::now()));
            match result {
                Ok(pods) => listed.pods += pods,
                // These are the same for every namespace.
                Err(failure @ (Failure::Absent | Failure::Forbidden(_))) => return Listed::from(Err(failure)),
                Err(failure) => {
                    listed.failure.get_or_insert(failure);
                    listed.namespaces.push(namespace);
                }
            }
        }
        listed
    }

    async fn list_in(&self, namespace: Option<&str>) -> Result<usize, Failure> {
        let (mut pods, mut from) = (0, None);
        for _ in 0..limits::CPU_METRICS_PAGES_MAX {
            let (uses, next) = self.page(namespace, from).await?;
            pods += uses.len();
            for some in uses.chunks(limits::CPU_METRICS_CHUNK) {
                let _no_keys = self.world.observe(Observed::CpuUse(some.to_vec()), self.world.now());
            }
            if next.is_none() {
                return Ok(pods);
            }
            from = next;
        }
        Err(Failure::TooLarge)
    }

    /// One page of a list, and the token of the next one. metrics-server answers with everything in one page.
    async fn page(
        &self,
        namespace: Option<&str>,
        from: Option<String>,
    ) -> Result<(Vec<PodCpuUse>, Option<String>), Failure> {
        let params = ListParams {
            // A Sandbox in a pool is never idle.
            label_selector: Some(format!("{},!{}", label::SANDBOX_NAME_HASH, label::WARM_POOL_SANDBOX)),
            limit: Some(limits::CPU_METRICS_PAGE),
            continue_token: from,
            ..ListParams::default()
        };
        let failed = |error: &dyn std::fmt::Display| Failure::Failed(truncate(&error.to_string(), MESSAGE_CHARS));
        let request = Request::new(pod_metrics::path(namespace)).list(&params).map_err(|e| failed(&e))?;
        let reply = self.client.send(request.map(Body::from)).await.map_err(|e| failed(&e))?;
        let status = reply.status();
        let mut parts = ReplyBody::new(reply.into_body()).into_data_stream();
        let mut body = Vec::new();
        while let Some(part) = parts.next().await {
            let part = part.map_err(|e| failed(&e))?;
            if body.len() + part.len() > limits::CPU_METRICS_BYTES_MAX {
                return Err(Failure::TooLarge);
            }
            body.extend_from_slice(&part);
        }
        match status {
            StatusCode::OK => {
                let page = spawn_blocking(move || read(&body)).await.map_err(|e| failed(&e))?;
                page.map_err(|e| failed(&e))
            }
            StatusCode::NOT_FOUND => Err(Failure::Absent),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Failure::Forbidden(message(&body))),
            status => Err(failed(&format_args!("{status}: {}", message(&body)))),
        }
    }

    /// Reports the result, in the log only if it is not the last one.
    fn report(&self, listed: Listed, last: CpuUseResult) -> CpuUseResult {
        let Listed { pods, failure, namespaces } = listed;
        let result = failure.as_ref().map_or(CpuUseResult::Served, Failure::result);
        let fault = failure.map(|failure| failure.text(&namespaces));
        self.metrics.cpu_use_listed(result, pods);
        if result != last {
            match &fault {
                Some(fault) => warn!(fault, "the CPU use of pods is not known"),
                None => info!(pods, "the CPU use of pods is known again"),
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

/// The longest message of a failure, in characters.
const MESSAGE_CHARS: usize = 256;

/// A page of a list.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(default)]
    metadata: PageMeta,
    /// A server writes an empty list as `null`.
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Default, Deserialize)]
struct PageMeta {
    #[serde(rename = "continue")]
    next: Option<String>,
}

/// Reads a page. An item that cannot be read is left out, and hides no other one.
fn read(page: &[u8]) -> serde_json::Result<(Vec<PodCpuUse>, Option<String>)> {
    let Page { metadata, items } = serde_json::from_slice(page)?;
    let items = items.into_iter().flatten().filter_map(|item| serde_json::from_str::<PodMetrics>(item.get()).ok());
    let uses = items.filter_map(|metrics| PodCpuUse::read(&metrics)).collect();
    Ok((uses, metadata.next.filter(|next| !next.is_empty())))
}

/// The message of a status object of the API server.
fn message(body: &[u8]) -> String {
    let status: Value = serde_json::from_slice(body).unwrap_or_default();
    truncate(status["message"].as_str().unwrap_or("no message"), MESSAGE_CHARS)
}

#[cfg(test)]
mod tests;
