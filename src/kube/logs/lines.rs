//! Writes the lines of the log, and shortens long ones. Many lines describe a request of somebody else, who decides how
//! long the texts in it are.

use std::borrow::Cow;
use std::io::{self, Write};

use serde_json::Value;
use tracing_subscriber::fmt::MakeWriter;

use super::format::LogFormat;
use crate::limits;

/// Makes the writers of lines in a format.
#[derive(Clone, Copy)]
pub(super) struct Lines(pub(super) LogFormat);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<io::Stderr>;

    fn make_writer(&'a self) -> Self::Writer {
        Line { format: self.0, out: io::stderr() }
    }
}

/// Writes one line.
pub(super) struct Line<W> {
    format: LogFormat,
    out: W,
}

impl<W: Write> Write for Line<W> {
    /// Writes a whole line, which the log passes at once.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.out.write_all(&shortened(self.format, line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn shortened(format: LogFormat, line: &[u8]) -> Cow<'_, [u8]> {
    if line.len() <= limits::LOG_LINE {
        return line.into();
    }
    let json = match format {
        LogFormat::Text => None,
        LogFormat::Json => serde_json::from_slice::<Value>(line).ok(),
    };
    let mut short = match json {
        Some(mut json) => {
            shorten_texts(&mut json);
            json.to_string()
        }
        None => {
            let mut text = String::from_utf8_lossy(line).into_owned();
            cut(&mut text, limits::LOG_LINE);
            text
        }
    };
    short.push('\n');
    short.into_bytes().into()
}

fn shorten_texts(json: &mut Value) {
    match json {
        Value::String(text) => cut(text, limits::LOG_TEXT),
        Value::Array(items) => items.iter_mut().for_each(shorten_texts),
        Value::Object(fields) => fields.values_mut().for_each(shorten_texts),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Cuts off the end of a text that is too long, and puts `…` in its place.
fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use tracing::{info, subscriber};
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::{fmt, registry};

    use super::*;

    fn written(format: LogFormat, line: &str) -> String {
        let mut line_writer = Line { format, out: Vec::new() };
        line_writer.write_all(line.as_bytes()).unwrap();
        String::from_utf8(line_writer.out).unwrap()
    }

    #[test]
    fn short_line_stays_as_it_is() {
        for format in [LogFormat::Text, LogFormat::Json] {
            assert_eq!(written(format, "{\"b\": 1, \"a\": \"é\"}\n"), "{\"b\": 1, \"a\": \"é\"}\n");
        }
    }

    #[test]
    fn long_text_is_shortened_and_the_line_stays_json() {
        let line = serde_json::json!({ "level": "INFO", "user": "é".repeat(1024 * 1024), "span": { "key": "k" } });
        let written = written(LogFormat::Json, &format!("{line}\n"));
        assert!(written.len() < limits::LOG_LINE && written.ends_with("}\n"), "{} bytes", written.len());
        let json: Value = serde_json::from_str(&written).unwrap();
        assert_eq!((json["level"].as_str(), json["span"]["key"].as_str()), (Some("INFO"), Some("k")));
        assert!(json["user"].as_str().unwrap().ends_with("é…"), "{written}");
    }

    #[test]
    fn long_line_of_text_is_cut() {
        let written = written(LogFormat::Text, &format!("{}\n", "é".repeat(1024 * 1024)));
        assert!(written.len() <= limits::LOG_LINE + 4 && written.ends_with("é…\n"), "{} bytes", written.len());
    }

    /// The log passes each line as one write.
    #[test]
    fn lines_of_the_log_are_shortened() {
        #[derive(Clone, Default)]
        struct Shared(std::sync::Arc<parking_lot::Mutex<Vec<u8>>>);
        impl Write for Shared {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let shared = Shared::default();
        let out = shared.clone();
        let lines = fmt::layer().json().flatten_event(true);
        let lines = lines.with_writer(move || Line { format: LogFormat::Json, out: out.clone() });
        subscriber::with_default(registry().with(lines), || {
            info!(user = "x".repeat(1024 * 1024), "denied");
            info!("the next line");
        });
        let written = String::from_utf8(shared.0.lock().clone()).unwrap();
        let lines: Vec<Value> = written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2, "{} bytes", written.len());
        assert!(written.len() < limits::LOG_LINE, "{} bytes", written.len());
    }
}
