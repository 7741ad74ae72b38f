//! Questions and calls of the hook `pool-size`.

use super::{NOW, calls, follow_ups};
use crate::pool_size::{Answer, Question};

/// A pool that may keep up to ten warm Sandboxes and has none, and for which no claim came in the last ten minutes.
///
/// ```
/// use paddock_plugin_sdk::pool_size::Question;
/// use paddock_plugin_sdk::testing::pool_size::question;
///
/// let question = Question { arrivals: vec![3; 60], refill_ms: Some(5000), ..question() };
/// assert_eq!(question.arrivals.iter().sum::<u32>(), 180);
/// assert_eq!((question.min, question.max, question.bucket_seconds), (0, 10, 10));
/// ```
#[must_use]
pub fn question() -> Question {
    Question {
        namespace: "agents".into(),
        name: "pool".into(),
        labels: vec![],
        min: 0,
        max: 10,
        ready: 0,
        creating: 0,
        claimed: 0,
        bucket_seconds: 10,
        arrivals: vec![0; 60],
        hits: 0,
        misses: 0,
        refill_ms: None,
        state: vec![],
        now: NOW,
    }
}

calls!(pool_size);
follow_ups!();

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn answer(next_check: Option<u64>, state: Option<Vec<u8>>) -> Answer {
        Answer { desired: 0, next_check, reason: String::new(), state }
    }

    #[test]
    fn later_question_has_the_state_of_the_answer() {
        let first = Question { state: vec![1], ..question() };
        for (returned, state) in [(None, vec![1]), (Some(vec![]), vec![]), (Some(vec![2]), vec![2])] {
            let next = later(&first, &answer(None, returned), Duration::from_secs(2));
            assert_eq!((next.now, next.state), (NOW + 2000, state));
        }
    }

    #[test]
    fn question_at_the_next_check_is_asked_at_that_time() {
        assert_eq!(at_next_check(&question(), &answer(None, None)), None);
        let next = at_next_check(&question(), &answer(Some(NOW + 7), None));
        assert_eq!(next, Some(Question { now: NOW + 7, ..question() }));
    }
}
