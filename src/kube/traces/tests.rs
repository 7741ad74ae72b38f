//! Tests of the trace context, with a tracer whose spans stay in memory.

use std::time::Duration;

use opentelemetry_sdk::trace::InMemorySpanExporter;
use tracing::{Level, span, subscriber};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry;

use super::*;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The spans that `body` makes, in the order of their ends.
fn spans(body: impl FnOnce()) -> Vec<opentelemetry_sdk::trace::SpanData> {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::sink);
    subscriber::with_default(registry().with(layer(Some(provider.tracer("test")))).with(log), body);
    exporter.get_finished_spans().unwrap()
}

fn headers(traceparent: &str) -> HeaderMap {
    let value = HeaderValue::from_str(traceparent).unwrap();
    HeaderMap::from_iter([(http::header::HeaderName::from_static("traceparent"), value)])
}

#[test]
fn a_span_continues_the_trace_of_a_request_and_passes_it_on() {
    let mut sent = headers(PARENT);
    let made = spans(|| {
        let span = span!(target: TARGET, Level::INFO, "request");
        continue_headers(&span, &sent);
        assert!(pass_on(&span, &mut sent));
    });
    let context = &made[0].span_context;
    assert_eq!(
        (context.trace_id().to_string().as_str(), made[0].parent_span_id.to_string().as_str()),
        (TRACE, "b7ad6b7169203331")
    );
    assert_eq!(sent["traceparent"], format!("00-{TRACE}-{}-01", context.span_id()));
    assert!(!sent.contains_key(TRACESTATE), "{sent:?}");
}

#[test]
fn a_request_that_is_not_sampled_stays_so() {
    let mut sent = headers(&PARENT.replace("-01", "-00"));
    let made = spans(|| {
        let span = span!(target: TARGET, Level::INFO, "request");
        continue_headers(&span, &sent);
        assert!(pass_on(&span, &mut sent));
    });
    assert!(made.is_empty());
    let passed = sent["traceparent"].to_str().unwrap();
    assert!(passed.starts_with(&format!("00-{TRACE}-")) && passed.ends_with("-00"), "{passed}");
}

#[test]
fn a_span_continues_the_trace_of_an_annotation_and_ignores_one_that_is_none() {
    let carrier = format!(r#"{{"traceparent":"{PARENT}","tracestate":"a=b"}}"#);
    for (text, continues) in
        [(carrier.as_str(), true), ("{}", false), (PARENT, false), (r#"{"traceparent":1}"#, false), ("", false)]
    {
        let made = spans(|| continue_annotation(&span!(target: TARGET, Level::INFO, "reconcile"), text));
        assert_eq!(made[0].span_context.trace_id().to_string() == TRACE, continues, "{text}");
    }
    let long = format!(r#"{{"traceparent":"{PARENT}","tracestate":"{}"}}"#, "a".repeat(limits::TRACE_CONTEXT_BYTES));
    let made = spans(|| continue_annotation(&span!(target: TARGET, Level::INFO, "reconcile"), &long));
    assert_ne!(made[0].span_context.trace_id().to_string(), TRACE);
}

#[test]
fn a_span_continues_through_a_span_of_the_log_and_ends_when_it_is_left_for_the_last_time() {
    let made = spans(|| {
        let span = span!(target: TARGET, Level::INFO, "review");
        let kept = span.in_scope(|| {
            let _line = tracing::info_span!("line").entered();
            let part = span!(target: TARGET, Level::INFO, "plugin call");
            tracing::info!("a line");
            part
        });
        drop(span);
        std::thread::sleep(Duration::from_millis(2));
        kept.in_scope(|| ());
    });
    let [call, review] = made.as_slice() else { panic!("{made:#?}") };
    assert_eq!((&*call.name, &*review.name), ("plugin call", "review"));
    assert_eq!(call.parent_span_id, review.span_context.span_id());
    assert!(review.end_time < call.end_time && call.events.is_empty(), "{made:#?}");
}
