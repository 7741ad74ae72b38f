//! The time of the API server, as far as this process knows it.
//!
//! Objects contain times that the API server and the replicas wrote, and the API server compares the times of our
//! certificate with its own clock. A replica whose clock is wrong would expire Sandboxes too early, and issue
//! certificates that nobody accepts. Every reply of the API server contains its time in the header `Date`. If the local
//! clock contradicts these times, [`Clock`] corrects it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use http::{HeaderMap, header};
use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use tracing::{info, warn};

use crate::limits;

/// The time of the API server. Clones are handles on the same clock.
#[derive(Clone)]
pub struct Clock {
    local: fn() -> Timestamp,
    /// The milliseconds that are added to the local time.
    skew: Arc<AtomicI64>,
    evidence: Arc<Mutex<Option<Evidence>>>,
}

/// The replies that contradict the current correction.
struct Evidence {
    /// The correction that these replies call for, in milliseconds.
    wanted: i64,
    /// The number of these replies.
    replies: u32,
}

impl Default for Clock {
    /// The local clock, until replies are observed.
    fn default() -> Self {
        Self::new(Timestamp::now)
    }
}

impl Clock {
    /// A clock that corrects this local clock.
    #[must_use]
    pub fn new(local: fn() -> Timestamp) -> Self {
        Self { local, skew: Arc::default(), evidence: Arc::default() }
    }

    /// The time of the API server.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let skew = self.skew();
        (self.local)().checked_add(skew).unwrap_or(if skew.is_negative() { Timestamp::MIN } else { Timestamp::MAX })
    }

    /// The time that has passed by the local clock as well as by the API server's. One of them is wrong if they differ,
    /// and nothing here tells which one. What cannot be undone waits for both.
    #[must_use]
    pub fn passed(&self) -> Timestamp {
        self.now().min((self.local)())
    }

    /// The time by which the local clock is behind the API server's. It is negative if the local clock is ahead, and
    /// zero if the two clocks differ by at most [`limits::CLOCK_TOLERANCE`].
    #[must_use]
    pub fn skew(&self) -> SignedDuration {
        SignedDuration::from_millis(self.skew.load(Ordering::Relaxed))
    }

    /// What is wrong with the local clock, for people. `None` if nothing is.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let skew = self.skew();
        let how = if skew.is_negative() { "ahead of" } else { "behind" };
        let seconds = skew.abs().as_secs();
        (!skew.is_zero()).then(|| {
            format!(
                "clock: the clock of this machine is {seconds} s {how} the API server's, whose time is used instead; \
                 Sandboxes and claims end when both clocks have reached their time"
            )
        })
    }

    /// Waits for a reply of the API server, and compares the clocks.
    pub(crate) async fn observe<R, E>(
        &self,
        reply: impl Future<Output = Result<R, E>>,
        headers: impl FnOnce(&R) -> &HeaderMap,
    ) -> Result<R, E> {
        let sent = (self.local)();
        let reply = reply.await?;
        let date = headers(&reply).get(header::DATE).and_then(|date| date.to_str().ok());
        if let Some(date) = date.and_then(|date| rfc2822::DateTimeParser::new().parse_timestamp(date).ok()) {
            self.compare(sent, (self.local)(), date);
        }
        Ok(reply)
    }

    /// Compares the clocks by a reply: the local times at which the request was sent and the reply was received, and the
    /// time of the API server in between, which is rounded down to a second.
    fn compare(&self, sent: Timestamp, received: Timestamp, date: Timestamp) {
        let between = |later: Timestamp, earlier: Timestamp| later.as_millisecond() - earlier.as_millisecond();
        let (least, most) = (between(date, received), between(date, sent) + 1000);
        if received < sent || between(received, sent) > millis(limits::CLOCK_REPLY_MAX) {
            return;
        }
        let tolerance = millis(limits::CLOCK_TOLERANCE);
        let fits = |skew: i64| (least - tolerance..=most + tolerance).contains(&skew);
        let current = self.skew.load(Ordering::Relaxed);
        let wanted = if fits(0) { 0 } else { least.midpoint(most) };
        let mut evidence = self.evidence.lock();
        if wanted == current || wanted != 0 && fits(current) {
            *evidence = None;
            return;
        }
        // One API server of several may have another time, so one reply does not set the clock, not even the first.
        let replies = match &*evidence {
            Some(before) if (before.wanted - wanted).abs() <= tolerance => before.replies + 1,
            Some(_) | None => 1,
        };
        if replies < limits::CLOCK_REPLIES {
            *evidence = Some(Evidence { wanted, replies });
            return;
        }
        *evidence = None;
        self.skew.store(wanted, Ordering::Relaxed);
        match self.fault() {
            Some(fault) => warn!(fault, "the clock is wrong"),
            None => info!("the clock of this machine agrees with the API server's again"),
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").field("skew", &self.skew()).finish_non_exhaustive()
    }
}

/// The certificates of clients are verified at the API server's time too.
impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.now().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRUE: &str = "2026-11-29T12:00:00Z";

    fn at(text: &str, offset: i64) -> Timestamp {
        text.parse::<Timestamp>().unwrap() + SignedDuration::from_millis(offset)
    }

    /// A clock whose local time is fixed, so that only the correction moves it.
    fn clock() -> Clock {
        Clock::new(|| TRUE.parse().unwrap_or_default())
    }

    /// A reply after a round trip of `took` milliseconds, by a local clock that is `ahead`.
    fn reply(clock: &Clock, ahead: i64, took: i64) {
        let date = at(TRUE, took / 2);
        let whole = Timestamp::from_second(date.as_second()).unwrap();
        clock.compare(at(TRUE, ahead), at(TRUE, ahead + took), whole);
    }

    fn replies(clock: &Clock, ahead: i64, took: i64) {
        for _ in 0..limits::CLOCK_REPLIES {
            reply(clock, ahead, took);
        }
    }

    fn is_about(skew: SignedDuration, hours: i64) -> bool {
        (skew - SignedDuration::from_hours(hours)).abs() < SignedDuration::from_secs(2)
    }

    const MINUTE: i64 = 60_000;
    const DAY: i64 = 24 * 60 * MINUTE;

    #[test]
    fn a_local_clock_that_is_wrong_is_corrected_and_one_that_is_right_is_not() {
        for (ahead, took, corrected) in [
            (0, 5, false),
            (1900, 5, false),
            (-1900, 5, false),
            (0, 900, false),
            // A slow reply says little, and never that a right clock is wrong.
            (0, 4900, false),
            (1900, 4900, false),
            (91 * DAY, 60_000, false),
            (4 * 1000, 5, true),
            (-4 * 1000, 5, true),
            (2 * 60 * MINUTE, 300, true),
            (91 * DAY, 4900, true),
            (-91 * DAY, 5, true),
            (-20 * 365 * DAY, 5, true),
        ] {
            let clock = clock();
            replies(&clock, ahead, took);
            let left = clock.skew().as_millis() + i128::from(ahead);
            if corrected {
                assert!(left.abs() <= 3500, "{ahead} {took}: {left} ms are left");
                let fault = clock.fault().unwrap();
                assert!(fault.contains(if ahead > 0 { "ahead of" } else { "behind" }), "{fault}");
            } else {
                assert_eq!((clock.skew(), clock.fault()), (SignedDuration::ZERO, None), "{ahead} {took}");
            }
        }
    }

    #[test]
    fn one_api_server_with_another_time_moves_nothing_and_a_clock_that_is_set_right_is_used() {
        let clock = clock();
        for _ in 0..10 {
            // Every third reply is that of an API server whose clock is wrong.
            reply(&clock, 91 * DAY, 5);
            reply(&clock, 0, 5);
            reply(&clock, 0, 5);
            assert!(clock.skew().is_zero());
        }
        // The local clock is set wrong.
        for _ in 0..limits::CLOCK_REPLIES {
            assert!(clock.skew().is_zero());
            reply(&clock, 91 * DAY, 5);
        }
        assert!(is_about(clock.skew(), -91 * 24), "{:?}", clock.skew());
        // It is set right again.
        for _ in 0..limits::CLOCK_REPLIES {
            assert!(!clock.skew().is_zero());
            reply(&clock, 0, 5);
        }
        assert!(clock.skew().is_zero());
    }

    #[test]
    fn time_has_passed_when_both_clocks_say_so() {
        for hours in [-91 * 24, -2, 0, 2, 91 * 24] {
            let clock = clock();
            // The API servers are that far ahead of the local clock, whether they are right or wrong.
            replies(&clock, -hours * 60 * MINUTE, 5);
            let is_from_now = |time: Timestamp, hours| is_about(time.duration_since(at(TRUE, 0)), hours);
            assert!(is_from_now(clock.now(), hours), "{hours}: {}", clock.now());
            assert!(is_from_now(clock.passed(), hours.min(0)), "{hours}: {}", clock.passed());
        }
    }

    #[test]
    fn a_clock_that_was_set_during_a_request_says_nothing() {
        let clock = clock();
        clock.compare(at(TRUE, 0), at(TRUE, -DAY), at(TRUE, 0));
        assert!(clock.skew().is_zero());
    }

    #[tokio::test]
    async fn the_date_of_a_reply_is_read_as_servers_write_it() {
        for (date, hours) in [("Fri, 27 Feb 2026 12:00:00 GMT", -6600), ("garbage", 0), ("", 0)] {
            let clock = clock();
            let mut headers = HeaderMap::new();
            headers.insert(header::DATE, date.parse().unwrap());
            for _ in 0..limits::CLOCK_REPLIES {
                assert!(clock.skew().is_zero());
                let headers = headers.clone();
                let reply = clock.observe(async { Ok::<_, ()>(headers) }, |headers| headers).await;
                assert!(reply.is_ok());
            }
            assert!(is_about(clock.skew(), hours), "{date}: {:?}", clock.skew());
            assert!(is_about(clock.now().duration_since(at(TRUE, 0)), hours));
        }
    }
}
