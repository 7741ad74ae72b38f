//! `pool-seasonal`: learns the demand of each quarter of an hour of a week, and keeps the pool ready for what comes next.
//!
//! `pool-by-demand` measures the last minutes. It therefore follows a rise of demand late, and takes every peak of chance
//! for a rise. This plugin knows from earlier days and weeks what usually comes, and needs less headroom.
//!
//! - **What it learns**: the average number of claims in each of the 672 quarters of an hour of a week, in UTC. Each week
//!   changes an average by a quarter at least (`memoryWeeks`). A quarter of an hour that was not seen in a week yet has the
//!   average of its time of day, if three days were seen. All of it is in the plugin's state, which has 2 KiB. If the state
//!   is lost, it learns again.
//! - **Forecast**: the average for the time at which a Sandbox that is ordered now is Ready. It is scaled by the demand of
//!   the last ten minutes, since a day may be busier than others.
//! - **Size**: a pool is Erlang's loss system (`erlang.rs`). The plugin chooses the sizes of the whole week so that they
//!   miss `hitRate` with the fewest idle hours: the last Sandbox of each size serves the same number of claims. Once in an
//!   hour, it computes this number from all averages. The headroom is larger if claims vary more around the forecast than
//!   independent claims do.
//! - **Without a forecast**, it decides by the rule of `pool-by-demand`. There is none before it has learnt, if the errors
//!   of its forecasts are large (the demand has no shape that repeats), and while the last minutes had less than half or
//!   more than twice the usual claims (a holiday, an incident).
//! - **Bursts**: if the last lead time had more claims than the forecast explains, the size is the larger one of both rules.
//! - **No flapping**: the size grows at once and falls by half every `releaseSeconds`, as that of `pool-by-demand`.
//!
//! The plugin returns a state when its size grew or five minutes have passed, so a quiet pool is written rarely.

mod erlang;
mod forecast;
mod learn;
mod settings;
mod state;
mod week;

use forecast::{ASKED_EVERY, Forecast, NoForecast, forecast};
use paddock_plugin_sdk::pool_size::{Answer, Plugin, Question};
use pool_sizing::{Demand, Level, lead_seconds, stock, whole};
pub use settings::Settings;
use state::State;

/// The plugin.
pub struct PoolSeasonal;

/// The longest lead time, in seconds.
const LONGEST_LEAD: f64 = 86_400.0;
/// The misses that the sizes of a week are computed for, as a share of the wanted ones. Sizes are rounded up, decline slowly
/// and grow a little early, so a week has about half of the misses that were computed.
const MISSES: f64 = 1.3;
/// The time after which the state is returned at the latest, in milliseconds. The buckets of a question go back ten
/// minutes, so a state of this age can still be brought up to date.
const SAVED_EVERY: u64 = 300_000;
/// The slots after which the worth of a member is computed again.
const WORTH_EVERY: u64 = 4;

impl Plugin for PoolSeasonal {
    type Settings = Settings;
    const SETTINGS_SCHEMA: &'static str = include_str!("settings.schema.json");

    fn check(settings: &Settings) -> Result<(), String> {
        settings.check()
    }

    fn decide(question: &Question, settings: &Settings) -> Result<Answer, String> {
        let (min, max) = (question.min, question.max.max(question.min));
        let by_demand = settings.by_demand();
        let lead = lead_seconds(question, &by_demand).clamp(0.1, LONGEST_LEAD);
        let lead_ms = (lead * 1000.0).ceil();
        let stored = State::read(&question.state);
        let saved = stored.as_ref().map(|stored| stored.counted_until);
        let mut state = stored.unwrap_or_else(|| State::new(question.now));
        // A time after now would hold the size until then.
        state.held.at = state.held.at.min(question.now);
        let ended = learn::learn(&mut state, question, lead_ms, settings);
        if state.worth <= 0.0 || ended && state.slot.is_multiple_of(WORTH_EVERY) {
            let rates = (0..week::SLOTS).filter_map(|slot| state.week.of_slot(slot, settings));
            state.worth = erlang::worth(rates, lead, (1.0 - settings.hit_rate) * MISSES);
        }

        let forecast = forecast(&state, question, lead_ms as u64, settings);
        let demand = Demand::measure(question, &by_demand);
        let needed = match forecast {
            Ok(Forecast { burst: false, .. }) => 0.0,
            Ok(_) | Err(_) => stock(&demand, by_demand.z()),
        };
        let needed = needed.max(forecast.map_or(0.0, |forecast| seasonal(&forecast, state.worth, lead)));
        let held = state.held.rest(question, &by_demand);
        // With a forecast, a size that has hardly begun to fall is kept as it is, so that the state need not be written.
        let grew = if forecast.is_ok() { needed > f64::from(whole(held)) } else { needed > held };
        let level = needed.max(held).clamp(f64::from(min), f64::from(max));
        let desired = whole(level).clamp(min, max);
        let kept = Level { level, at: question.now };
        let old = saved.is_none_or(|saved| question.now.abs_diff(saved) >= SAVED_EVERY);
        if grew || forecast.is_err() {
            state.held = kept;
        }
        let save = old || ended || grew;
        let checked = question.now.saturating_add(ASKED_EVERY);
        let next_check = match forecast {
            Ok(_) => kept.falls_at(question, &by_demand),
            Err(_) => kept.next_check(question, &by_demand, &demand),
        };
        Ok(Answer {
            desired,
            next_check: Some(next_check.map_or(checked, |next| next.min(checked))),
            reason: reason(forecast, &demand, needed, (desired, settings.hit_rate)),
            state: save.then(|| state.bytes()),
        })
    }
}

/// The size for a forecast. The headroom above the mean grows with the standard deviation of the claims.
fn seasonal(forecast: &Forecast, worth: f64, lead_seconds: f64) -> f64 {
    let load = forecast.rate * lead_seconds;
    let even = erlang::size(forecast.rate, load, worth);
    (load + (even - load).max(0.0) * forecast.dispersion.sqrt()).max(even)
}

fn reason(forecast: Result<Forecast, NoForecast>, demand: &Demand, needed: f64, kept: (u32, f64)) -> String {
    let (desired, hit_rate) = kept;
    match forecast {
        Ok(Forecast { rate, burst, .. }) => {
            let burst = if burst { ", and a burst" } else { "" };
            let per_minute = rate * 60.0;
            let lead = demand.lead_seconds;
            format!(
                "{per_minute:.1} claims/min expected{burst}, refill {lead:.1} s, {:.2} % of hits: {} needed, {desired} kept",
                hit_rate * 100.0,
                whole(needed),
            )
        }
        Err(why) => format!("{}: {}", why.words(), pool_sizing::reason(demand, needed, desired)),
    }
}

paddock_plugin_sdk::export!(PoolSeasonal: pool_size);

#[cfg(test)]
mod tests;
