//! The model of `paddock simulate` and the whole operator in a simulated cluster ask the same questions about a pool, at
//! the same times and for the same claims. The model is therefore no second opinion about what the operator does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use paddock_api::kind::Kind;
use paddock_core::question::{Answer, PluginRequest, PoolSizeAnswer, PoolSizeQuestion, Question};
use paddock_core::settings::Settings;
use paddock_simulate::{Conditions, Contender, PluginContender, Refill, Trace, simulate};

use super::answers::{PluginClient, pool_size, stamp};
use super::scripted::ScriptedCluster;
use crate::framework::{Outcome, Test, test};

const MIN: u32 = 0;
const MAX: u32 = 12;
/// An odd number, with claims at even seconds: no Sandbox becomes Ready in the second of a claim.
const REFILL: i64 = 7;
const SECONDS: i64 = 1500;

pub(crate) fn tests() -> Vec<Test> {
    vec![test("sim::model_of_a_pool_asks_what_the_operator_asks", same_questions)]
}

/// The seconds of the claims: single ones, a steady stream, a burst beyond the maximum, and a long pause.
fn claims() -> Vec<i64> {
    let stream = (200..320).step_by(4);
    let burst = std::iter::repeat_n(400, 30);
    let slope = (0..40).map(|n| 430 + 2 * (n * n / 8));
    [10, 10, 60, 150, 1400, 1402].into_iter().chain(stream).chain(burst).chain(slope).collect()
}

fn same_questions() -> Outcome {
    let cluster = asked_in_the_cluster();
    let model = asked_in_the_model();
    let compared: Vec<&i64> = model.keys().filter(|second| cluster.contains_key(*second)).collect();
    for second in &compared {
        assert_eq!(model[*second], cluster[*second], "at {second} s");
    }
    // A write of the status takes a millisecond in the model, which may move the next check into another second.
    for (one, other, name) in [(&model, &cluster, "model"), (&cluster, &model, "cluster")] {
        let alone: Vec<&i64> = one.keys().filter(|second| !other.contains_key(*second)).collect();
        assert!(alone.len() * 10 < one.len(), "only the {name} asks at {alone:?}, of {}", one.len());
    }
    let states: BTreeSet<&[u8]> = model.values().map(|question| question.state.as_slice()).collect();
    assert!(states.len() > 20, "{} states", states.len());
    let sizes: BTreeSet<u32> = model.values().map(|q| q.ready + q.creating).collect();
    assert!(compared.len() > 150 && sizes.len() > 8, "{} questions, pools of {sizes:?}", compared.len());
    let last = model.values().next_back().ok_or("no question")?;
    assert!(model.values().any(|q| q.hits > 20 && q.misses > 10), "{last:?}");
    Ok(())
}

/// The last question of each second, without what depends on the names of objects.
type Asked = BTreeMap<i64, PoolSizeQuestion>;

fn record(asked: &mut Asked, start: Timestamp, question: &PoolSizeQuestion) {
    let second = question.now.duration_since(start).as_secs();
    let now = start + SignedDuration::from_secs(second);
    let question = PoolSizeQuestion { namespace: String::new(), name: String::new(), now, ..question.clone() };
    asked.insert(second, question);
}

fn asked_in_the_model() -> Asked {
    let start: Timestamp = "2030-01-01T12:00:00Z".parse().expect("a time");
    let arrivals = claims().into_iter().map(|second| second as u64 * 1000).collect();
    let trace = Trace::new("test", start, Duration::from_secs(SECONDS as u64), arrivals).expect("few claims");
    let conditions = Conditions {
        min: MIN,
        max: MAX,
        refill: Refill::Fixed { seconds: REFILL as f64 },
        hold: Duration::from_hours(1),
        gather: Duration::ZERO,
        learning: Duration::ZERO,
        seed: 1,
        cost_per_hour: None,
        settings: Settings::default(),
    };
    let asked = Mutex::new(Asked::new());
    let ask = |request: &PluginRequest, now: Timestamp| {
        let Question::PoolSize(question) = &request.question else { panic!("another hook") };
        record(&mut asked.lock().unwrap_or_else(PoisonError::into_inner), start, question);
        Ok(Answer::PoolSize(PoolSizeAnswer { state: Some(stamp(now)), ..pool_size(question, now) }))
    };
    let contender = PluginContender::new("stand-in", PluginClient::default().bindings(), &ask);
    let outcome = simulate(&trace, &conditions, &Contender::Plugin(&contender));
    assert_eq!(outcome.claims, claims().len() as u64);
    asked.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn asked_in_the_cluster() -> Asked {
    let mut cluster = ScriptedCluster::new(
        "{ apiVersion: extensions.agents.x-k8s.io/v1beta1, kind: SandboxTemplate, metadata: { name: t }, spec: { networkPolicyManagement: Unmanaged, podTemplate: { spec: { containers: [{ name: agent, image: 'agent:1' }] } } } }",
    );
    let start = cluster.api.now;
    cluster.nodes_work = false;
    cluster.pools_wait = true;
    cluster.operator.let_plugins_stamp();
    cluster.operator.keep_one_timer();
    // The resync would ask at times at which the model does not.
    cluster.operator.without_resync_until(start + SignedDuration::from_secs(SECONDS));
    cluster.apply(&format!(
        "{{ apiVersion: extensions.agents.x-k8s.io/v1beta1, kind: SandboxWarmPool, metadata: {{ name: p }}, spec: {{ sandboxTemplateRef: {{ name: t }}, minReady: {MIN}, maxReady: {MAX} }} }}"
    ));
    let mut asked = Asked::new();
    let claims = claims();
    for second in 0..SECONDS {
        cluster.api.now = start + SignedDuration::from_secs(second);
        if pods_become_ready(&mut cluster) {
            cluster.settle();
        }
        for (n, _) in claims.iter().enumerate().filter(|(_, at)| **at == second) {
            cluster.apply(&format!(
                "{{ apiVersion: extensions.agents.x-k8s.io/v1beta1, kind: SandboxClaim, metadata: {{ name: c{n} }}, spec: {{ warmPoolRef: {{ name: p }} }} }}"
            ));
        }
        cluster.settle();
        cluster.operator.tick(cluster.api.now);
        cluster.settle();
        for question in cluster.operator.take_pool_questions() {
            record(&mut asked, start, &question);
        }
    }
    asked
}

/// Makes the pods Ready that are old enough. Returns whether there was one.
fn pods_become_ready(cluster: &mut ScriptedCluster) -> bool {
    let now = cluster.api.now;
    let due: Vec<String> = cluster
        .names(Kind::Pod)
        .into_iter()
        .filter(|name| {
            let pod = cluster.get(Kind::Pod, name);
            let created: Option<Timestamp> =
                pod["metadata"]["creationTimestamp"].as_str().and_then(|at| at.parse().ok());
            let old = created.is_some_and(|created| now.duration_since(created).as_secs() >= REFILL);
            old && pod["status"]["phase"] != "Running"
        })
        .collect();
    for name in &due {
        let conditions = format!(
            "[{{ type: PodScheduled, status: 'True', lastTransitionTime: '{now}' }}, {{ type: Ready, status: 'True', lastTransitionTime: '{now}' }}]"
        );
        cluster.patch(
            Kind::Pod,
            name,
            &format!("{{ spec: {{ nodeName: n1 }}, status: {{ phase: Running, podIPs: [{{ ip: 10.0.0.1 }}], conditions: {conditions} }} }}"),
        );
    }
    !due.is_empty()
}
