//! The budget of the log: the number of lines from one place in the source, and of one place about one subject, such as
//! a namespace.
//!
//! Many lines describe a request of somebody else: a denial, a malformed body, a rejected write. Without a budget, the
//! one who sends requests decides how much is logged. The budget counts the lines that it suppresses, and a thread
//! reports their number.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, warn};
use tracing_subscriber::layer::{Context, Filter};

use crate::limits;
use crate::pace::Pace;

/// The target of the lines of an access log. They have no budget, because each request has to have its line.
pub const ACCESS_LOG: &str = "paddock::access";

/// The budget. Clones are handles on the same budget.
#[derive(Clone)]
pub(super) struct Budget {
    lines: Arc<Mutex<Lines>>,
}

struct Lines {
    /// The lines of each place in the source.
    places: Pace<Identifier>,
    /// The lines of each place about one subject, which is a hash.
    subjects: Pace<(Identifier, u64)>,
    suppressed: HashMap<Identifier, Suppressed>,
}

/// The lines of one place that were not written since the last report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Suppressed {
    metadata: &'static Metadata<'static>,
    lines: u64,
}

impl Default for Budget {
    fn default() -> Self {
        let lines = Lines {
            places: Pace::new(limits::LOG_LINES),
            subjects: Pace::new(limits::LOG_LINES_OF_SUBJECT),
            suppressed: HashMap::new(),
        };
        Self { lines: Arc::new(Mutex::new(lines)) }
    }
}

impl Budget {
    /// Reports the suppressed lines from time to time, until the process ends.
    pub(super) fn report(self) {
        loop {
            std::thread::sleep(limits::LOG_REPORT_INTERVAL);
            let suppressed = std::mem::take(&mut self.lines.lock().suppressed);
            for Suppressed { metadata, lines } in suppressed.into_values() {
                let (target, place) = (metadata.target(), metadata.name());
                warn!(of = target, place, lines, "log lines were suppressed, because there were too many");
            }
        }
    }

    fn admits(&self, metadata: &'static Metadata<'static>, subject: u64, now: Instant) -> bool {
        let place = metadata.callsite();
        let mut lines = self.lines.lock();
        let admits = lines.places.allows(&place, now) && lines.subjects.take((place.clone(), subject), now);
        if admits {
            lines.places.record(place, now);
        } else {
            lines.suppressed.entry(place).or_insert(Suppressed { metadata, lines: 0 }).lines += 1;
        }
        admits
    }
}

impl<S: Subscriber> Filter<S> for Budget {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let metadata = event.metadata();
        // Whoever asks for the debug level asks for everything, and an access log with gaps is none.
        if *metadata.level() > Level::INFO || metadata.target() == ACCESS_LOG {
            return true;
        }
        let mut subject = Subject::default();
        event.record(&mut subject);
        self.admits(metadata, subject.hasher.finish(), Instant::now())
    }
}

/// The fields that say whose doing a line is. Each value has lines of its own.
const SUBJECTS: [&str; 3] = ["namespace", "client", "plugin"];

/// The hash of these fields of an event.
#[derive(Default)]
struct Subject {
    hasher: DefaultHasher,
}

impl Visit for Subject {
    fn record_str(&mut self, field: &Field, value: &str) {
        if SUBJECTS.contains(&field.name()) {
            value.hash(&mut self.hasher);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if SUBJECTS.contains(&field.name()) {
            format!("{value:?}").hash(&mut self.hasher);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tracing::{debug, info};
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_has_lines_for_each_namespace_and_in_sum_and_says_how_many_are_missing() {
        let (budget, written) = (Budget::default(), Lines::default());
        let writer = written.clone();
        let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone()).with_filter(budget.clone());
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            for n in 0..10_000 {
                info!(namespace = "hostile", n, "denied");
                debug!(n, "asked for");
            }
            for _ in 0..20 {
                let name = "good".to_owned();
                warn!(namespace = %name, "another place");
            }
        });
        let text = String::from_utf8(written.0.lock().clone()).unwrap();
        let count = |part: &str| text.lines().filter(|line| line.contains(part)).count();
        assert_eq!((count("denied"), count("another place"), count("asked for")), (50, 20, 10_000));
        let suppressed: Vec<u64> = budget.lines.lock().suppressed.values().map(|s| s.lines).collect();
        assert_eq!(suppressed, [9950]);
    }

    #[tokio::test(start_paused = true)]
    async fn namespaces_that_a_stranger_invents_share_the_lines_of_the_place() {
        let (budget, written) = (Budget::default(), Lines::default());
        let writer = written.clone();
        let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone()).with_filter(budget.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            for n in 0..10_000 {
                info!(namespace = format!("ns{n}"), "denied");
            }
        });
        let text = String::from_utf8(written.0.lock().clone()).unwrap();
        assert_eq!(text.lines().count(), 500);
    }
}
