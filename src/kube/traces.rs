//! Traces: spans of what a process does, sent to a collector over OTLP (HTTP and protobuf).
//!
//! A span is a `tracing` span with the target [`TARGET`]. The log does not show it. Without a collector, it is disabled
//! and costs one comparison. [`Traces`] reads the variables that OpenTelemetry specifies, `OTEL_*`, and sends the spans
//! from a thread of its own: a collector that is slow or away delays nothing. Spans that do not fit into the queue are
//! lost, and a metric counts them.

mod client;
mod queue;
mod settings;

use std::collections::HashMap;

use http::{HeaderMap, HeaderValue};
use opentelemetry::KeyValue;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_http::{HeaderExtractor, HeaderInjector};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tokio::runtime::Handle;
use tracing::level_filters::LevelFilter;
use tracing::{Span, Subscriber, warn};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use self::client::CollectorClient;
use self::queue::Queue;
pub use self::queue::register;
pub use self::settings::InvalidSettings;
use self::settings::Settings;
use crate::limits;

/// The target of every span that is sent to the collector.
pub const TARGET: &str = "paddock::trace";

const TRACESTATE: &str = "tracestate";

/// The sender of spans. Without a collector, it sends nothing.
#[derive(Debug)]
pub struct Traces(Option<SdkTracerProvider>);

impl Traces {
    /// Starts to send spans, if `endpoint` or the environment names a collector. `service` is the name of the service,
    /// unless the environment gives one. `endpoint` is the URL of the collector without the path, as in
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`.
    ///
    /// # Errors
    /// If a setting cannot be used. The error names the variable, and the flag of the endpoint.
    pub fn start(service: &'static str, endpoint: Option<&str>, runtime: &Handle) -> Result<Self, InvalidSettings> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let endpoint = endpoint.filter(|url| !url.is_empty());
        let Some(settings) = Settings::read(endpoint, variable)? else { return Ok(Self(None)) };
        let client = CollectorClient::new(&settings, runtime.clone())?;
        let failure = client.failure();
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(settings.url.to_string())
            .with_timeout(settings.timeout)
            .build()
            .map_err(|error| InvalidSettings::new("OTEL_EXPORTER_OTLP_*", error.to_string()))?;
        let mut resource =
            Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        if !settings.names_service {
            resource = resource.with_service_name(service);
        }
        let queue = Queue::new(exporter, failure, settings.queue);
        let provider = SdkTracerProvider::builder().with_span_processor(queue).with_resource(resource.build()).build();
        Ok(Self(Some(provider)))
    }

    /// No spans, whatever the variables say.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// The tracer for [`crate::logs::init`].
    #[must_use]
    pub fn tracer(&self) -> Option<SdkTracer> {
        self.0.as_ref().map(|provider| provider.tracer("paddock"))
    }

    /// Sends the spans that are left. This blocks for at most two seconds, and the runtime must still run.
    pub fn end(self) {
        let Some(provider) = self.0 else { return };
        if let Err(error) = provider.shutdown_with_timeout(limits::LAST_SPANS_TIMEOUT) {
            warn!(%error, "the last spans could not be sent to the collector");
        }
    }
}

/// The layer that makes spans of [`TARGET`], if there is a tracer. Its level keeps the more verbose lines of other crates
/// disabled. The filter is there without a tracer too, because a layer without a filter is interested in everything.
pub(crate) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(tracer: Option<SdkTracer>) -> impl Layer<S> {
    let level = if tracer.is_some() { LevelFilter::INFO } else { LevelFilter::OFF };
    let layer = tracer.map(|tracer| {
        let layer = tracing_opentelemetry::layer().with_tracer(tracer);
        layer.with_location(false).with_threads(false).with_target(false).with_tracked_inactivity(false)
    });
    let of_target = filter_fn(move |metadata| metadata.target() == TARGET && level != LevelFilter::OFF);
    layer.with_filter(of_target.with_max_level_hint(level))
}

/// Makes a new span the child of the trace context in the headers `traceparent` and `tracestate`, if there is one.
pub fn continue_headers(span: &Span, headers: &HeaderMap) {
    continue_from(span, &HeaderExtractor(headers));
}

/// Makes a new span the child of the trace context in an annotation: a JSON object with the same two names. A text that
/// is none is ignored, because it is only a hint of the client.
pub fn continue_annotation(span: &Span, text: &str) {
    if span.is_disabled() || text.len() > limits::TRACE_CONTEXT_BYTES {
        return;
    }
    if let Ok(carrier) = serde_json::from_str::<HashMap<String, String>>(text) {
        continue_from(span, &carrier);
    }
}

fn continue_from(span: &Span, carrier: &dyn Extractor) {
    if span.is_disabled() {
        return;
    }
    let parent = TraceContextPropagator::new().extract(carrier);
    if parent.span().span_context().is_valid() {
        // The only failures are a span that has a child already, and a process without a collector.
        let _unset = span.set_parent(parent);
    }
}

/// Ends a span now. Without this call, a span ends when it was left for the last time.
pub fn end(span: &Span) {
    span.in_scope(|| ());
}

/// Puts the trace context of a span into the headers of a request that the process sends, in the place of another. Returns
/// whether the span has one.
pub fn pass_on(span: &Span, headers: &mut HeaderMap) -> bool {
    if span.is_disabled() {
        return false;
    }
    let context = span.context();
    let valid = context.span().span_context().is_valid();
    if valid {
        TraceContextPropagator::new().inject_context(&context, &mut HeaderInjector(headers));
        if headers.get(TRACESTATE).is_some_and(HeaderValue::is_empty) {
            headers.remove(TRACESTATE);
        }
    }
    valid
}

#[cfg(test)]
mod tests;
