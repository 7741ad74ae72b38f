//! The forecast for the next lead time, and whether the last minutes agree with it.

use paddock_plugin_sdk::pool_size::Question;

use crate::learn::{bucket_length, buckets, dispersion};
use crate::settings::Settings;
use crate::state::State;

/// The largest error of the forecasts of slots with which they are used, as a share of the claims. Shapes of the day and
/// of the week have an error of a tenth, and bursts at random times one of almost all claims.
const TRUSTED_ERROR: f64 = 0.4;
/// The number of claims that the expected level counts as, beside the claims of the last minutes. It is that of a level
/// that varies by a fifth from day to day.
const LEVEL_CLAIMS: f64 = 25.0;
/// The standard deviations that chance explains.
const CHANCE: f64 = 1.5;
/// The time after which the operator asks again at the latest, in milliseconds.
pub(crate) const ASKED_EVERY: u64 = 30_000;

/// The reason why there is no forecast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoForecast {
    /// This part of the week has not been seen often enough.
    NotLearnt,
    /// The demand has no shape that repeats.
    NoShape,
    /// The last minutes had far more or far fewer claims than other weeks.
    Unusual,
}

impl NoForecast {
    pub(crate) fn words(self) -> &'static str {
        match self {
            NoForecast::NotLearnt => "still learning",
            NoForecast::NoShape => "no shape that repeats",
            NoForecast::Unusual => "unlike other weeks",
        }
    }
}

/// The demand of the next lead time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Forecast {
    /// Claims a second.
    pub(crate) rate: f64,
    /// The variance of the claims in a lead time, as a share of their mean.
    pub(crate) dispersion: f64,
    /// Whether the last lead time had more claims than the forecast explains.
    pub(crate) burst: bool,
}

/// The forecast for the time in which a Sandbox that is ordered now, or at the next question, is Ready.
pub(crate) fn forecast(
    state: &State,
    question: &Question,
    lead_ms: u64,
    settings: &Settings,
) -> Result<Forecast, NoForecast> {
    let now = question.now;
    let rate = |at: u64| state.week.rate(at, settings).ok_or(NoForecast::NotLearnt);
    let ready = now.saturating_add(lead_ms);
    let ahead = rate(now)?.max(rate(ready)?).max(rate(ready.saturating_add(ASKED_EVERY))?);
    match state.error.value() {
        None => return Err(NoForecast::NotLearnt),
        Some(error) if error > TRUSTED_ERROR => return Err(NoForecast::NoShape),
        Some(_) => {}
    }
    let dispersion = dispersion(state);
    let length = bucket_length(question);
    let (mut seen, mut expected) = (0.0, 0.0);
    for (start, claims) in buckets(question) {
        seen += claims;
        expected += rate(start.saturating_add(length / 2))? * length as f64 / 1000.0;
    }
    let noise = 3.0 * (dispersion * expected).sqrt();
    if seen + noise < expected / 2.0 || seen > expected * 2.0 + noise + 3.0 {
        return Err(NoForecast::Unusual);
    }
    let weight = expected / dispersion + LEVEL_CLAIMS;
    let difference = (seen - expected) / dispersion / weight;
    // A difference that chance explains would only make the size flap.
    let explained = CHANCE / weight.sqrt();
    let level = 1.0 + (difference.abs() - explained).max(0.0).copysign(difference);
    // The buckets that a lead time spans, with the open one.
    let spanned = usize::try_from(lead_ms.div_ceil(length)).unwrap_or(usize::MAX).saturating_add(1);
    let recent: f64 = question.arrivals.iter().rev().take(spanned).map(|claims| f64::from(*claims)).sum();
    let usual = level * rate(now)? * (spanned.min(question.arrivals.len()) as f64 * length as f64 / 1000.0);
    let burst = recent > usual + 4.0 * (dispersion * usual).sqrt() + 2.0;
    Ok(Forecast { rate: level * ahead, dispersion, burst })
}
