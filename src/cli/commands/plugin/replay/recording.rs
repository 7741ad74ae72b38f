//! Reads the lines of a recording, one at a time.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::Context as _;
use paddock_core::record::Record;

/// A line of a recording that is not empty.
pub(super) struct Line {
    /// The number of the line, from 1 on.
    pub(super) number: usize,
    /// The record, or why the line is none.
    pub(super) record: Result<Record, String>,
}

/// The lines of a file, or of standard input if the name is `-`.
pub(super) fn lines(path: &Path) -> anyhow::Result<impl Iterator<Item = anyhow::Result<Line>>> {
    let name = path.display().to_string();
    let mut reader: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(BufReader::new(std::io::stdin()))
    } else {
        let file = File::open(path).with_context(|| format!("reading {name}"))?;
        Box::new(BufReader::new(file))
    };
    let mut number = 0;
    Ok(std::iter::from_fn(move || {
        loop {
            let mut bytes = Vec::new();
            match reader.read_until(b'\n', &mut bytes).with_context(|| format!("reading {name}")) {
                Err(error) => return Some(Err(error)),
                Ok(0) => return None,
                Ok(_) => number += 1,
            }
            if bytes.trim_ascii().is_empty() {
                continue;
            }
            let record = String::from_utf8(bytes)
                .map_err(|_| "not a text".to_owned())
                .and_then(|line| Record::read(&line).map_err(|error| error.to_string()));
            return Some(Ok(Line { number, record }));
        }
    }))
}
