//! The size of a pool and the pace of its refill, as functions of counts.
//!
//! The decision about a pool uses them with the Sandboxes of a snapshot. `paddock simulate` uses them with the pool that
//! it models. Both therefore ask the same questions, and judge the answers by the same rules.

use std::time::Duration;

use jiff::Timestamp;
use paddock_api::PolicyState;

use super::ask::{STATE_EVERY, first_reply_or_built_in, load_state, save_state};
use crate::admission::{Chain, PluginFailure, kept_size, pool_check};
use crate::binding::Binding;
use crate::object::TextMap;
use crate::question::{Answer, Hook, PluginReply, PluginRequest, PoolSizeAnswer, PoolSizeQuestion, Question};
use crate::settings::Settings;
use crate::snapshot::{Common, Demand};
use crate::time::{saturating_add, time_left};

/// The number of creations in the first step of a refill. Each following step is twice as large. If the API server
/// refuses the Sandboxes of a template, a refill costs this many attempts.
pub(super) const FIRST_STEP: usize = 8;

/// The facts about a pool on which its size depends.
#[derive(Clone, Copy, Debug)]
pub struct PoolFacts<'a> {
    /// The namespace of the pool.
    pub namespace: &'a str,
    /// The name of the pool.
    pub name: &'a str,
    /// The labels of the pool, which also select the bindings.
    pub labels: &'a TextMap,
    /// The minimum size.
    pub min: u32,
    /// The maximum size, at least `min`.
    pub max: u32,
    /// The number of members that are Ready and that no claim is taking.
    pub ready: usize,
    /// The number of members that are not Ready yet, with those whose creation was sent.
    pub creating: usize,
    /// The number of live Sandboxes that claims took from the pool.
    pub claimed: u32,
    /// The recent demand.
    pub demand: &'a Demand,
    /// The state of the plugin in the status of the pool.
    pub state: Option<&'a PolicyState>,
}

/// The size that was decided for a pool whose spec has two bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Sizing<'a> {
    /// The size, within the bounds.
    pub desired: u32,
    /// The time at which the pool is sized again at the latest.
    pub next_check: Timestamp,
    /// The state of the plugin for the status of the pool.
    pub state: Option<PolicyState>,
    /// The binding that answered, and its answer before it was clamped. `None` if no plugin answered: the size is then
    /// the minimum.
    pub answer: Option<(&'a Binding, PoolSizeAnswer)>,
    /// The plugins that did not answer.
    pub failures: Vec<PluginFailure>,
}

impl PoolFacts<'_> {
    /// The next request for a plugin, if one is needed. The caller calls it again with all replies so far.
    #[must_use]
    pub fn request(&self, common: &Common, replies: &[PluginReply]) -> Option<PluginRequest> {
        match self.ask(common, replies).0 {
            Chain::Request(request) => Some(*request),
            Chain::Reply(..) | Chain::Failed(..) | Chain::NoBinding => None,
        }
    }

    /// The size, once every request has a reply.
    #[must_use]
    pub fn size<'a>(&self, common: &'a Common, replies: &[PluginReply]) -> Sizing<'a>
    where
        Self: 'a,
    {
        let (chain, failures) = self.ask(common, replies);
        let next_check = |asked| pool_check(asked, common.now, common.settings.pool_check_every);
        match chain {
            Chain::Reply(binding, answer) => Sizing {
                desired: kept_size(answer.desired, self.min, self.max),
                next_check: next_check(answer.next_check),
                state: save_state(binding, answer.state.as_deref(), self.state),
                answer: Some((binding, answer)),
                failures,
            },
            Chain::Request(_) | Chain::Failed(..) | Chain::NoBinding => Sizing {
                desired: self.min,
                next_check: next_check(None),
                state: self.state.cloned(),
                answer: None,
                failures,
            },
        }
    }

    fn ask<'a>(&self, common: &'a Common, replies: &[PluginReply]) -> (Chain<'a, PoolSizeAnswer>, Vec<PluginFailure>)
    where
        Self: 'a,
    {
        let question = |binding: &Binding| Question::PoolSize(Box::new(self.question(common, binding)));
        let accept = |answer: &Answer| {
            let Answer::PoolSize(answer) = answer else {
                return Err("the answer is not a pool-size answer".to_owned());
            };
            Ok(answer.clone())
        };
        first_reply_or_built_in(common, self.labels, Hook::PoolSize, replies, question, accept)
    }

    fn question(&self, common: &Common, binding: &Binding) -> PoolSizeQuestion {
        let (seconds, buckets) = (common.settings.arrival_bucket_seconds, common.settings.arrival_buckets);
        let (hits, misses) = self.demand.hits_and_misses(common.now, seconds, buckets);
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        PoolSizeQuestion {
            namespace: self.namespace.to_owned(),
            name: self.name.to_owned(),
            labels: self.labels.to_map(),
            min: self.min,
            max: self.max,
            ready: number(self.ready),
            creating: number(self.creating),
            claimed: self.claimed,
            bucket_seconds: seconds,
            arrivals: self.demand.arrivals(common.now, seconds, buckets),
            hits,
            misses,
            refill_ms: self.demand.refill_ms(),
            state: load_state(binding, self.state),
            now: common.now,
        }
    }
}

/// The counts of a pool's Sandboxes that its refill depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolCounts {
    /// Members of the current template that are Ready.
    pub ready: usize,
    /// Members of the current template that are not Ready yet.
    pub creating: usize,
    /// Members with a pending take or delete.
    pub leaving: usize,
    /// Creations that were sent and whose Sandboxes are not visible yet.
    pub sent: usize,
    /// Members of the current template that have a pod.
    pub with_pod: usize,
    /// All members that exist, with those of an old template and those that no claim may take.
    pub alive: usize,
}

impl PoolCounts {
    /// The Sandboxes that count for the size of the pool.
    pub(super) fn for_size(&self) -> usize {
        self.ready + self.creating + self.leaving + self.sent
    }

    /// The number of Sandboxes to create now.
    ///
    /// Like a ReplicaSet, a pool starts slowly: it has at most eight more members without a pod than members with one.
    #[must_use]
    pub fn to_create(&self, desired: usize, maximum: usize, settings: &Settings) -> usize {
        let room = maximum.saturating_sub(self.alive + self.sent);
        let without_pod = (self.ready + self.creating + self.sent).saturating_sub(self.with_pod);
        let may_be_added = (FIRST_STEP + self.with_pod).saturating_sub(without_pod);
        desired.saturating_sub(self.for_size()).min(room).min(settings.pool_batch).min(may_be_added)
    }

    /// The number of members above the size. `stale` members of an old template count for the maximum alone.
    #[must_use]
    pub fn excess(&self, stale: usize, desired: usize, maximum: usize) -> usize {
        let fresh = self.ready + self.creating;
        fresh.saturating_sub(desired).max((fresh + stale).saturating_sub(maximum))
    }
}

/// The time at which a difference of the status may be written, or `None` if it may be written now.
#[must_use]
pub fn status_due(
    counts_changed: bool,
    written: Option<Timestamp>,
    settings: &Settings,
    now: Timestamp,
) -> Option<Timestamp> {
    let every = if counts_changed { settings.pool_status_interval } else { STATE_EVERY };
    written.and_then(|at| time_left(at, every, now))
}

/// Members that are being created, for [`dip_ends`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refilling {
    /// Members that are not Ready yet.
    pub creating: usize,
    /// Creations that are sent now, or were sent and are not visible yet.
    pub new: usize,
    /// The creation of the oldest member that is not Ready yet.
    pub oldest: Option<Timestamp>,
}

/// The time until which a status write may wait because a dip in the counts may end by itself. If claims are rare, each
/// is refilled within an interval, and the counts are then the same as in the status.
///
/// There is no such time in two cases, in which only the interval limits the writes:
///
/// - Claims arrive faster than that.
/// - More Sandboxes are being created than claims have taken, because the pool is being filled.
#[must_use]
pub fn dip_ends(demand: &Demand, refilling: Refilling, settings: &Settings, now: Timestamp) -> Option<Timestamp> {
    let interval = settings.pool_status_interval;
    let recent = demand.arrivals(now, settings.arrival_bucket_seconds, 2).iter().sum::<u32>();
    if u64::from(recent) > 2 * u64::from(settings.arrival_bucket_seconds) / interval.as_secs().max(1) {
        return None;
    }
    if refilling.creating + refilling.new > usize::try_from(recent).unwrap_or(usize::MAX) {
        return None;
    }
    // Creation times have whole seconds. Without one more second, the interval could be over at once.
    let longer = interval + Duration::from_secs(1);
    // The oldest Sandbox that is being created shows how long the dip has lasted.
    let creation_due = match refilling.oldest {
        Some(created) => Some(time_left(created, longer, now)?),
        None => None,
    };
    let due = creation_due.into_iter().chain((refilling.new > 0).then(|| saturating_add(now, interval))).min();
    due.filter(|at| *at > now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: fn() -> Settings = Settings::default;

    #[test]
    fn refill_grows_with_the_pods_and_stays_within_every_limit() {
        let create = |counts: PoolCounts, desired, maximum| counts.to_create(desired, maximum, &SETTINGS());
        let ready = |n: usize| PoolCounts { ready: n, with_pod: n, alive: n, ..PoolCounts::default() };
        assert_eq!(create(PoolCounts::default(), 50, 50), FIRST_STEP);
        assert_eq!(create(ready(8), 50, 50), 16);
        assert_eq!(create(ready(300), 900, 900), SETTINGS().pool_batch);
        assert_eq!(create(PoolCounts { sent: 8, ..PoolCounts::default() }, 50, 50), 0);
        assert_eq!(create(PoolCounts { alive: 49, ..PoolCounts::default() }, 50, 50), 1);
        assert_eq!(create(PoolCounts { leaving: 3, alive: 3, ..PoolCounts::default() }, 4, 9), 1);
    }

    #[test]
    fn excess_is_above_the_size_or_above_the_maximum() {
        let counts = PoolCounts { ready: 4, creating: 3, ..PoolCounts::default() };
        assert_eq!(counts.excess(0, 5, 9), 2);
        assert_eq!(counts.excess(4, 7, 9), 2);
        assert_eq!(counts.excess(0, 8, 9), 0);
    }

    #[test]
    fn status_waits_for_its_interval_after_a_write() {
        let (settings, now) = (SETTINGS(), Timestamp::UNIX_EPOCH);
        assert_eq!(status_due(true, None, &settings, now), None);
        assert_eq!(status_due(true, Some(now), &settings, now), Some(saturating_add(now, Duration::from_secs(1))));
        assert_eq!(status_due(false, Some(now), &settings, now), Some(saturating_add(now, STATE_EVERY)));
        assert_eq!(status_due(false, Some(now), &settings, saturating_add(now, STATE_EVERY)), None);
    }
}
