//! The deadlines of one request.

use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

use crate::grpc;
use crate::kind::Kind;
use crate::refusal::Refusal;
use crate::timeouts::Timeouts;

/// The time that a client waits, in seconds.
const TIMEOUT: &str = "x-sandbox-timeout";

/// The deadlines of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deadlines {
    /// The time until which a connection to the Sandbox must be open.
    pub(super) connect: Instant,
    /// The time until which the head of the answer must be there. An upgrade has none.
    pub(super) head: Option<Instant>,
    /// The time from the last byte of the request to the head of the answer, as the client asked. A client counts it from
    /// the end of its upload.
    pub(super) answer: Option<Duration>,
    /// The time from an attempt to send the request to the head of the answer.
    pub(super) response_head: Option<Duration>,
    /// The time until which a gRPC call must have ended.
    pub(super) call: Option<Instant>,
}

impl Deadlines {
    /// The deadlines of a request with these headers.
    ///
    /// # Errors
    /// If the time that the client gives a call is not valid.
    pub(super) fn of(headers: &HeaderMap, kind: Kind, upgrade: bool, timeouts: &Timeouts) -> Result<Self, Refusal> {
        let now = Instant::now();
        let asked = asked(headers).filter(|asked| *asked < timeouts.proxy);
        match kind {
            Kind::Http => Ok(Self {
                connect: now + asked.unwrap_or(timeouts.proxy),
                head: (!upgrade).then(|| now + timeouts.proxy),
                answer: asked.filter(|_| !upgrade),
                response_head: Some(timeouts.response_head).filter(|limit| !limit.is_zero() && !upgrade),
                call: None,
            }),
            Kind::Grpc | Kind::GrpcWeb(_) => {
                let own = Some(timeouts.grpc).filter(|limit| !limit.is_zero());
                let limit = grpc::timeout_of(headers)?.into_iter().chain(own).min();
                // A time that is too long for the clock is none.
                let call = limit.and_then(|limit| now.checked_add(limit));
                let connect = now + timeouts.proxy;
                let connect = call.map_or(connect, |call| call.min(connect));
                Ok(Self { connect, head: call, answer: None, response_head: None, call })
            }
        }
    }
}

/// The time that the client waits, as `60` or `5.0`. A value that is no time is ignored.
fn asked(headers: &HeaderMap) -> Option<Duration> {
    let seconds: f64 = headers.get(TIMEOUT)?.to_str().ok()?.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn deadlines(header: &'static str, value: &'static str, kind: Kind, timeouts: Timeouts) -> Deadlines {
        let mut headers = HeaderMap::new();
        headers.insert(header, HeaderValue::from_static(value));
        Deadlines::of(&headers, kind, false, &timeouts).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_client_may_shorten_the_time_and_not_extend_it() {
        let now = Instant::now();
        for (value, seconds) in [
            ("60", 60.0),
            ("5.0", 5.0),
            (" 0.25 ", 0.25),
            ("600", 180.0),
            ("0", 180.0),
            ("-1", 180.0),
            ("inf", 180.0),
            ("NaN", 180.0),
            ("1e300", 180.0),
            ("soon", 180.0),
            ("", 180.0),
        ] {
            let found = deadlines(TIMEOUT, value, Kind::Http, Timeouts::DEFAULT);
            let wanted = now + Duration::from_secs_f64(seconds);
            let cap = Some(now + Timeouts::DEFAULT.proxy);
            let answer = (wanted < now + Timeouts::DEFAULT.proxy).then(|| wanted - now);
            assert_eq!((found.connect, found.head, found.answer), (wanted, cap, answer), "{value}");
            assert_eq!(found.call, None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_upgrade_is_limited_until_it_is_connected() {
        let mut headers = HeaderMap::new();
        headers.insert(TIMEOUT, HeaderValue::from_static("60"));
        let found = Deadlines::of(&headers, Kind::Http, true, &Timeouts::DEFAULT).unwrap();
        assert_eq!((found.head, found.answer, found.response_head), (None, None, None));
        assert_eq!(found.connect, Instant::now() + Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_has_its_own_deadline_alone() {
        let now = Instant::now();
        let seconds = Duration::from_secs;
        let limited = Timeouts { grpc: seconds(20), ..Timeouts::DEFAULT };
        for (value, timeouts, call, connect) in [
            ("5S", Timeouts::DEFAULT, Some(5), 5),
            ("999S", Timeouts::DEFAULT, Some(999), 180),
            ("5S", limited, Some(5), 5),
            ("99S", limited, Some(20), 20),
        ] {
            let found = deadlines("grpc-timeout", value, Kind::Grpc, timeouts);
            assert_eq!(found.call, call.map(|call| now + seconds(call)), "{value}");
            assert_eq!((found.connect, found.head), (now + seconds(connect), found.call), "{value}");
        }
        let timed = deadlines(TIMEOUT, "1", Kind::Grpc, Timeouts::DEFAULT);
        assert_eq!(timed.call, None);
    }
}
