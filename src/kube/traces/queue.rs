//! The queue of spans for the collector. It counts the spans that do not fit, and the log reports a collector that takes
//! none.
//!
//! The SDK's processor has a queue of the same size, and sends from a thread of its own. It does not say how many spans it
//! dropped, so spans that do not fit are dropped here. Nothing here waits for the collector.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor};
use prometheus::{IntCounterVec, Opts, Registry};
use tracing::{info, warn};

use super::client::Failure;

/// The counter of all queues. A process has one collector, and its metrics may have more than one registry.
static SPANS: OnceLock<IntCounterVec> = OnceLock::new();

/// The results of spans: the collector took them, the request to the collector failed, or the queue was full.
const RESULTS: [&str; 3] = [SENT, FAILED, DROPPED];
const SENT: &str = "sent";
const FAILED: &str = "failed";
const DROPPED: &str = "dropped";

/// Registers the counter of spans by result.
///
/// # Errors
/// If the registry has a metric of this name.
pub fn register(registry: &Registry) -> prometheus::Result<()> {
    let new = IntCounterVec::new(Opts::new("paddock_spans_total", "Spans for the collector, by result."), &["result"])?;
    let spans = SPANS.get_or_init(|| new);
    for result in RESULTS {
        spans.with_label_values(&[result]);
    }
    registry.register(Box::new(spans.clone()))
}

fn count(result: &str, spans: usize) {
    if let Some(counter) = SPANS.get() {
        counter.with_label_values(&[result]).inc_by(spans as u64);
    }
}

/// The spans of a queue.
#[derive(Debug, Default)]
struct Spans {
    waiting: AtomicUsize,
    /// The spans that were dropped since the last request to the collector.
    dropped: AtomicUsize,
}

/// A processor whose queue has a limit.
#[derive(Debug)]
pub(super) struct Queue {
    processor: BatchSpanProcessor,
    spans: Arc<Spans>,
    most: usize,
}

impl Queue {
    pub(super) fn new(exporter: impl SpanExporter + 'static, failure: Failure, most: usize) -> Self {
        let spans = Arc::<Spans>::default();
        let exporter = Reporting { exporter, failure, spans: spans.clone(), is_failing: AtomicBool::new(false) };
        let config = BatchConfigBuilder::default().with_max_queue_size(most).build();
        Self { processor: BatchSpanProcessor::new(exporter, config), spans, most }
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.processor.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.spans.waiting.fetch_add(1, Ordering::Relaxed) < self.most {
            self.processor.on_end(span);
        } else {
            self.spans.waiting.fetch_sub(1, Ordering::Relaxed);
            self.spans.dropped.fetch_add(1, Ordering::Relaxed);
            count(DROPPED, 1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.processor.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.processor.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.processor.set_resource(resource);
    }
}

/// An exporter that counts its spans, and logs when the collector begins or ceases to take them.
#[derive(Debug)]
struct Reporting<E> {
    exporter: E,
    failure: Failure,
    spans: Arc<Spans>,
    is_failing: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Reporting<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.spans.waiting.fetch_sub(spans, Ordering::Relaxed);
        let result = self.exporter.export(batch).await;
        count(if result.is_ok() { SENT } else { FAILED }, spans);
        let was_failing = self.is_failing.swap(result.is_err(), Ordering::Relaxed);
        match &result {
            Err(error) if !was_failing => {
                let cause = self.failure.lock().clone();
                warn!(%error, cause, "the collector takes no spans; they are lost until it takes them again");
            }
            Ok(()) if was_failing => info!("the collector takes spans again"),
            Ok(()) | Err(_) => {}
        }
        let dropped = self.spans.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 && result.is_ok() {
            warn!(dropped, "spans were lost, because too many waited for the collector");
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use opentelemetry::trace::{Tracer, TracerProvider};
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use parking_lot::Mutex;

    use super::*;

    /// A collector that takes a request when the test lets it.
    #[derive(Debug)]
    struct Held {
        begun: Sender<usize>,
        go_on: Mutex<Receiver<()>>,
    }

    impl SpanExporter for Held {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.begun.send(batch.len()).unwrap();
            self.go_on.lock().recv().unwrap();
            Ok(())
        }
    }

    #[test]
    fn a_slow_collector_holds_nobody_up_and_spans_that_do_not_fit_are_counted() {
        let registry = Registry::new();
        register(&registry).unwrap();
        let counted = || RESULTS.map(|result| SPANS.get().unwrap().with_label_values(&[result]).get());
        let ((begun, begins), (lets, go_on)) = (channel(), channel());
        let queue = Queue::new(Held { begun, go_on: Mutex::new(go_on) }, Failure::default(), 2);
        let provider = SdkTracerProvider::builder().with_span_processor(queue).build();
        let tracer = provider.tracer("test");
        let before = counted();
        tracer.start("in flight");
        tracer.start("in flight");
        let minute = Duration::from_mins(1);
        let in_flight = begins.recv_timeout(minute).unwrap();
        for _ in 0..5 {
            tracer.start("waits or is dropped");
        }
        let waiting = 2 + in_flight;
        let dropped = u64::try_from(7 - waiting).unwrap();
        assert_eq!(counted(), [before[0], before[1], before[2] + dropped]);
        for _ in 0..waiting {
            lets.send(()).unwrap();
        }
        provider.shutdown_with_timeout(minute).unwrap();
        assert_eq!(counted(), [before[0] + waiting as u64, before[1], before[2] + dropped]);
    }
}
