//! A HorizontalPodAutoscaler on the claims of the last minute, as KEDA's Prometheus trigger makes one.
//!
//! The metric is `sum(increase(claims[1m]))`, with the target type `AverageValue`. Every 15 s, the autoscaler computes
//! `ceil(metric / target)`. If the metric for each member differs from the target by at most a tenth, it keeps the size.
//! The rest are the default behaviours: upward at most double or by four members in 15 s, and downward to the largest
//! recommendation of the last five minutes.

use std::collections::VecDeque;

use crate::conditions::Conditions;
use crate::decision::Decided;

/// The default of `--horizontal-pod-autoscaler-sync-period`, in milliseconds.
const SYNC: u64 = 15_000;
/// The window of the metric, in milliseconds.
const WINDOW: u64 = 60_000;
/// The default of `--horizontal-pod-autoscaler-downscale-stabilization`, in milliseconds.
const STABILIZATION: u64 = 300_000;
/// The default of `--horizontal-pod-autoscaler-tolerance`.
const TOLERANCE: f64 = 0.1;
/// The members that the default behaviour adds in 15 s, if doubling adds fewer.
const ADDED: u32 = 4;

pub(crate) struct Hpa {
    target: f64,
    min: u32,
    max: u32,
    size: u32,
    next: u64,
    /// The recommendations of the stabilization window, with their times.
    recommended: VecDeque<(u64, u32)>,
}

impl Hpa {
    pub(crate) fn new(target: f64, conditions: &Conditions) -> Self {
        let most = conditions.settings.max_pool_size;
        let (min, max) = (conditions.min.min(most), conditions.max.min(most));
        Self { target, min, max, size: min, next: 0, recommended: VecDeque::new() }
    }

    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    pub(crate) fn decide(&mut self, at: u64, arrived: &[u64]) -> Decided {
        if at >= self.next {
            let earlier =
                at.checked_sub(WINDOW).map_or(0, |since| arrived.partition_point(|arrival| *arrival <= since));
            let claims = arrived.len() - earlier;
            self.sync(at, claims as f64);
            self.next = at + SYNC;
        }
        Decided { desired: self.size, next: Some(self.next) }
    }

    fn sync(&mut self, at: u64, claims: f64) {
        let usage = claims / (self.target * f64::from(self.size));
        // Without a member there is no usage, and the size follows the metric.
        let recommended = if self.size > 0 && (usage - 1.0).abs() <= TOLERANCE {
            self.size
        } else {
            ((claims / self.target).ceil() as u32).clamp(self.min, self.max)
        };
        self.recommended.push_back((at, recommended));
        while self.recommended.front().is_some_and(|(then, _)| *then + STABILIZATION < at) {
            self.recommended.pop_front();
        }
        let highest = self.recommended.iter().map(|(_, size)| *size).max().unwrap_or(recommended);
        self.size = if recommended >= self.size {
            recommended.min((self.size * 2).max(self.size + ADDED))
        } else {
            highest.min(self.size)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hpa(target: f64, size: u32) -> Hpa {
        Hpa { target, min: 1, max: 100, size, next: 0, recommended: VecDeque::new() }
    }

    #[test]
    fn size_is_the_metric_over_the_target_within_the_speed_limit() {
        let mut hpa = hpa(2.0, 1);
        let sizes: Vec<u32> = (0..4).map(|n| (hpa.sync(n * SYNC, 30.0), hpa.size).1).collect();
        assert_eq!(sizes, [5, 10, 15, 15]);
    }

    #[test]
    fn size_stays_within_the_tolerance() {
        let mut hpa = hpa(2.0, 10);
        hpa.sync(0, 21.9);
        assert_eq!(hpa.size, 10);
        hpa.sync(SYNC, 22.5);
        assert_eq!(hpa.size, 12);
    }

    #[test]
    fn size_falls_when_the_stabilization_window_is_over() {
        let mut hpa = hpa(1.0, 1);
        for n in 0..4 {
            hpa.sync(n * SYNC, 20.0);
        }
        assert_eq!(hpa.size, 20);
        let last = 3 * SYNC;
        for at in (4 * SYNC..=last + STABILIZATION).step_by(SYNC as usize) {
            hpa.sync(at, 0.0);
            assert_eq!(hpa.size, 20, "{at}");
        }
        hpa.sync(last + STABILIZATION + SYNC, 0.0);
        assert_eq!(hpa.size, 1);
    }

    #[test]
    fn metric_is_the_claims_of_the_last_minute_and_is_read_every_15_seconds() {
        let mut hpa = hpa(1.0, 1);
        let arrived = [0, 40_000, 40_001, 99_000];
        assert_eq!(hpa.decide(100_000, &arrived).desired, 2);
        assert_eq!(hpa.decide(100_001, &[100_000; 9]).desired, 2);
        assert_eq!(hpa.decide(115_000, &[100_000; 9]).desired, 6);
    }
}
