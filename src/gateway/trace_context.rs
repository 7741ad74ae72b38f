//! The span of a request, and its W3C trace context: a request without one gets one, so that its log lines can be found.

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use paddock_kube::traces;
use tracing::field::Empty;
use tracing::{Level, Span, span};

use crate::refusal::Reason;
use crate::target::Target;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The span of a request to a Sandbox. It continues the trace of the client. The Sandbox gets its trace context, and without
/// a collector that of the client, or else a new one.
pub(crate) fn begin(method: &Method, target: &Target, headers: &mut HeaderMap) -> Span {
    let span = span!(
        target: traces::TARGET,
        Level::INFO,
        "request",
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = standard(method),
        http.response.status_code = Empty,
        error.type = Empty,
        k8s.namespace.name = &*target.namespace,
        paddock.sandbox.name = &*target.name,
        server.port = target.port,
    );
    traces::continue_headers(&span, headers);
    if !traces::pass_on(&span, headers) {
        ensure(headers);
    }
    span
}

/// The span of a part of a request. Nothing enters the span of the request itself, because a connection that outlives the
/// request may begin in it.
macro_rules! part {
    ($request:expr, $name:literal) => {
        tracing::span!(target: paddock_kube::traces::TARGET, parent: $request, tracing::Level::INFO, $name)
    };
}
pub(crate) use part;

/// The end of a request, with the status of its answer.
pub(crate) fn end(span: &Span, status: StatusCode, reason: Option<Reason>, cut: bool) {
    if span.is_disabled() {
        return;
    }
    span.record("http.response.status_code", status.as_u16());
    if let Some(reason) = reason {
        span.record("error.type", reason.as_str());
    } else if cut {
        span.record("error.type", "cut");
    }
    if status.is_server_error() || cut {
        span.record("otel.status_code", "ERROR");
    }
    // The request ends with the body of its answer.
    traces::end(span);
}

/// A method, as OpenTelemetry wants it: clients may not fill a trace with names of their own.
fn standard(method: &Method) -> &str {
    match method.as_str() {
        known @ ("CONNECT" | "DELETE" | "GET" | "HEAD" | "OPTIONS" | "PATCH" | "POST" | "PUT" | "TRACE") => known,
        _ => "_OTHER",
    }
}

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
