//! The check that a plan is followed by an empty one: each scenario is carried out on the model API server.

use jiff::SignedDuration;
use paddock_api::kind::Kind;
use paddock_core::plan::Plan;

use super::file::Scenario;
use crate::sim::api::Api;
use crate::sim::operator::{Operator, carry_out};

/// The maximum number of reconciles of the one key.
const ROUNDS: usize = 8;
/// The time after which a reconcile must still have nothing to write, unless the plan had a requeue for it.
const LATER: SignedDuration = SignedDuration::from_secs(7);

pub(super) fn check(scenario: &Scenario, first: &Plan) -> Result<(), String> {
    let mut api = Api::new(scenario.now);
    for (_, document) in &scenario.objects {
        api.place(document.clone());
    }
    let mut operator = Operator::new(scenario.settings.clone(), scenario.plugins(), scenario.now);
    catch_up(&mut operator, &api);
    scenario.observe_cpu(&mut operator.world);
    if !scenario.before.is_empty() || !scenario.settles {
        return Ok(());
    }
    let (_, _, plan) = operator.plan(&scenario.key, scenario.now);
    if plan.is_empty() != first.is_empty() {
        return Err("the model API server changed what is planned".to_owned());
    }
    for _ in 0..ROUNDS {
        let (_, _, plan) = operator.plan(&scenario.key, api.now);
        if plan.is_empty() {
            return stays_empty(&mut operator, &api, &plan, scenario);
        }
        for step in plan.steps.iter().filter(|s| !s.is_empty()) {
            let step = operator.world.begin(step).map_err(|_| format!("{}: its own plan is stale", scenario.key))?;
            for op in step {
                let outcome = carry_out(&mut api, &op);
                let _ = operator.world.finish(&op, &outcome, api.now);
            }
        }
        catch_up(&mut operator, &api);
    }
    let (_, _, plan) = operator.plan(&scenario.key, api.now);
    Err(format!("it never settles; after {ROUNDS} rounds:\n{}", super::show::plan(&plan, api.now)))
}

fn stays_empty(operator: &mut Operator, api: &Api, plan: &Plan, scenario: &Scenario) -> Result<(), String> {
    let later = api.now + LATER;
    if plan.requeue.as_ref().is_some_and(|w| w.at <= later) {
        return Ok(());
    }
    let (_, _, plan) = operator.plan(&scenario.key, later);
    if plan.is_empty() {
        return Ok(());
    }
    Err(format!(
        "settled, but without anything that happened it plans {LATER:#} later:\n{}",
        super::show::plan(&plan, later)
    ))
}

fn catch_up(operator: &mut Operator, api: &Api) {
    loop {
        let kinds: Vec<Kind> = operator.watchable(api);
        if kinds.is_empty() {
            return;
        }
        for kind in kinds {
            operator.watch_step(kind, api);
        }
    }
}
