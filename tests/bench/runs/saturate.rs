//! The highest rate of claims with a refill: each round is faster, until one fails.

use anyhow::Result;
use serde_json::{Value, json};

use super::{RunContext, claims};
use crate::args::Common;
use crate::arrivals;
use crate::progress::say;
use crate::report::Measured;
use crate::stats::round;

/// The parameters of the rounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steps {
    /// Claims per second in the first round.
    pub(super) rate: f64,
    /// The duration of each round in seconds.
    pub(super) seconds: u32,
    /// The factor by which the rate grows.
    pub(super) factor: f64,
    /// The limit in milliseconds that 99 of 100 claims have to stay below.
    pub(super) limit: f64,
}

/// More than any API server of this kind can handle. The rounds end at this rate at the latest.
const FASTEST: f64 = 2000.0;
/// The rate in claims per second for which there are enough nodes.
const LIKELY: u32 = 200;
/// Ready sandboxes at the start of each round, unless a flag sets the number.
const POOL: u32 = 200;

pub(super) async fn run(context: &mut RunContext<'_>, common: &Common, steps: Steps) -> Result<Measured> {
    let pool = common.pool_size.unwrap_or(POOL);
    let most = pool + LIKELY * steps.seconds;
    let mut environment = context.open(common, most).await?;
    claims::prepare(&mut environment, common, pool).await?;
    let (mut rate, mut rounds, mut best) = (steps.rate, Vec::<Value>::new(), None::<Measured>);
    let stopped = loop {
        let schedule = arrivals::poisson(rate, arrivals::count(rate, steps.seconds), common.seed);
        let mut measured = claims::measure(&mut environment, common, schedule, None).await?;
        let why = fails(&measured, steps.limit);
        let shown = why.as_deref().unwrap_or("passes");
        say(&format!("{rate:.1}/s: p99 {} ms: {shown}", measured.figures["ready_ms"]["p99"]));
        let mut round_ = measured.figures.clone();
        for large in ["writes", "writes_to_ready"] {
            round_.remove(large);
        }
        round_.insert("asked_rate".to_owned(), json!(round(rate)));
        round_.insert("result".to_owned(), json!(shown));
        rounds.push(Value::Object(round_));
        if let Some(why) = why {
            let first = best.is_none();
            let kept = best.get_or_insert(measured);
            kept.number("highest_rate", (!first).then_some(rate / steps.factor));
            break format!("{:.1}/s did not pass: {why}", rate);
        }
        measured.number("highest_rate", Some(rate));
        best = Some(measured);
        rate *= steps.factor;
        if rate > FASTEST {
            break format!("it passes {FASTEST}/s");
        }
        environment.full(pool).await?;
        environment.settle(common.drain()).await?;
    };
    let mut best = best.unwrap_or_else(|| Measured::new(environment.who));
    best.set("rounds", rounds);
    best.set("limit_ms", steps.limit);
    best.notes.push(stopped);
    Ok(best)
}

/// The reason for which a round fails.
fn fails(round: &Measured, limit: f64) -> Option<String> {
    let number = |name: &str| round.figures.get(name).and_then(Value::as_u64).unwrap_or(0);
    let p99 = round.figures.get("ready_ms").and_then(|ready| ready["p99"].as_f64());
    if number("lost") > 0 {
        return Some(format!("{} claims were lost", number("lost")));
    }
    if number("cold") > 0 {
        return Some(format!("{} cold starts", number("cold")));
    }
    match p99 {
        Some(p99) if p99 <= limit => None,
        Some(p99) => Some(format!("p99 is {p99} ms, above {limit} ms")),
        None => Some("no claim was Ready".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::Who;
    use crate::stats::Summary;

    fn round_of(p99: f64, cold: u32, lost: u32) -> Measured {
        let mut round = Measured::new(Who::Paddock);
        round.summary("ready_ms", Summary::of(vec![p99]));
        round.set("cold", cold);
        round.set("lost", lost);
        round
    }

    #[test]
    fn a_round_passes_below_the_limit_with_nothing_cold_or_lost() {
        assert_eq!(fails(&round_of(499.0, 0, 0), 500.0), None);
        assert!(fails(&round_of(501.0, 0, 0), 500.0).unwrap().contains("above 500"));
        assert!(fails(&round_of(10.0, 1, 0), 500.0).unwrap().contains("cold"));
        assert!(fails(&round_of(10.0, 1, 2), 500.0).unwrap().contains("lost"));
        assert!(fails(&Measured::new(Who::Paddock), 500.0).is_some());
    }
}
