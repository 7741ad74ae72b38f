//! The latency of a claim, measured by a client that watches from before the creation.

use std::pin::pin;
use std::time::Instant;

use futures::StreamExt as _;
use kube::runtime::watcher::{Config, Event, watcher};
use paddock_cluster::PATIENCE;
use serde_json::Value;

use super::json::{name, ready};
use super::kinds::Kind;
use super::namespace::TestNamespace;

/// Creates a claim. Returns the first version that is Ready, and the milliseconds since the start of the creation.
pub(crate) async fn claim_latency(ns: &TestNamespace, claim: Value) -> (Value, f64) {
    let config = Config::default().fields(&format!("metadata.name={}", name(&claim)));
    let mut events = pin!(watcher(ns.api(Kind::of(&claim)), config));
    let mut next = async || {
        tokio::time::timeout(PATIENCE, events.next()).await.unwrap_or_else(|_| panic!("no event in {PATIENCE:?}"))
    };
    while !matches!(next().await, Some(Ok(Event::InitDone))) {}
    let began = Instant::now();
    let creation = ns.create(claim.clone());
    let seen = async {
        loop {
            if let Some(Ok(Event::Apply(object) | Event::InitApply(object))) = next().await {
                let object = serde_json::to_value(&object).expect("JSON");
                if ready(&object) {
                    return (object, began.elapsed().as_secs_f64() * 1000.0);
                }
            }
        }
    };
    let (_, seen) = tokio::join!(creation, seen);
    seen
}
