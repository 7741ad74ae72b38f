//! The W3C trace context: a request without one gets one, so that its log lines can be found.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Adds the header traceparent if it is absent. A trace that starts here is not sampled.
pub(crate) fn ensure(headers: &mut HeaderMap) {
    if headers.contains_key(TRACEPARENT) {
        return;
    }
    // Zero is not a valid id.
    let (trace, span) = (fastrand::u128(1..), fastrand::u64(1..));
    if let Ok(value) = HeaderValue::from_str(&format!("00-{trace:032x}-{span:016x}-00")) {
        headers.insert(TRACEPARENT, value);
    }
}

/// The trace id of a request.
pub(crate) fn trace_id(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(TRACEPARENT)?.to_str().ok()?;
    value.split('-').nth(1).filter(|id| id.len() == 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_of_the_client_stays() {
        let mut headers = HeaderMap::new();
        ensure(&mut headers);
        assert_eq!(trace_id(&headers).map(str::len), Some(32));
        let own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        headers.insert(TRACEPARENT, HeaderValue::from_static(own));
        ensure(&mut headers);
        assert_eq!(headers[TRACEPARENT], own);
    }
}
