//! The lines and cells of a file, the claims that were read, and the errors about them.

use std::io::BufRead;
use std::time::Duration;

use fastrand::Rng;
use jiff::Timestamp;

use crate::trace::{TooManyClaims, Trace};

/// The longest trace, in seconds: ten years.
pub(super) const LONGEST: f64 = 315_360_000.0;

/// What to take from a file.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadOptions {
    /// The functions or applications to read. If the list is empty, all are read.
    pub only: Vec<String>,
    /// The share of the claims to keep, above 0 and at most 1.
    pub scale: f64,
    /// The number of days to read from the beginning. `None` reads all.
    pub days: Option<u32>,
    /// The seed of the claims that are kept, and of their places in a minute or second.
    pub seed: u64,
}

/// The reason why a trace cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A cell is wrong.
    #[error("line {line}, column {column}: {message}")]
    Cell {
        /// The number of the line, from 1.
        line: usize,
        /// The number of the cell in the line, from 1.
        column: usize,
        /// The problem, and what would be right.
        message: String,
    },
    /// A line is wrong as a whole.
    #[error("line {line}: {message}")]
    Line {
        /// The number of the line, from 1.
        line: usize,
        /// The problem, and what would be right.
        message: String,
    },
    /// The file as a whole has no claims to read.
    #[error("{0}")]
    Empty(String),
    /// There are too many claims.
    #[error(transparent)]
    TooMany(#[from] TooManyClaims),
    /// The file cannot be read.
    #[error("line {line}: {error}")]
    Io {
        /// The number of the line, from 1.
        line: usize,
        /// The error of the operating system, or of the encoding.
        error: std::io::Error,
    },
}

/// The lines of a file that are not blank.
pub(super) struct Lines<R> {
    pub(super) input: R,
    pub(super) number: usize,
    pub(super) text: String,
}

/// The cells of a line.
pub(super) struct Row<C> {
    pub(super) line: usize,
    pub(super) cells: Vec<C>,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn next(&mut self) -> Result<Option<Row<&str>>, ReadError> {
        loop {
            self.number += 1;
            self.text.clear();
            let read = self.input.read_line(&mut self.text);
            if read.map_err(|error| ReadError::Io { line: self.number, error })? == 0 {
                return Ok(None);
            }
            if !self.text.trim().is_empty() {
                break;
            }
        }
        let text = self.text.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']);
        let cells = text.split(',').map(|cell| cell.trim().trim_matches('"')).collect();
        Ok(Some(Row { line: self.number, cells }))
    }
}

impl Row<&str> {
    pub(super) fn owned(self) -> Row<String> {
        Row { line: self.line, cells: self.cells.into_iter().map(str::to_owned).collect() }
    }
}

impl<C: AsRef<str>> Row<C> {
    pub(super) fn cell(&self, index: usize) -> &str {
        self.cells.get(index).map_or("", AsRef::as_ref)
    }

    /// The error about a cell.
    pub(super) fn wrong(&self, index: usize, expected: &str) -> ReadError {
        let message = format!("{:?} is not {expected}", self.cell(index));
        ReadError::Cell { line: self.line, column: index + 1, message }
    }

    /// A number of at least zero.
    pub(super) fn number(&self, index: usize, expected: &str) -> Result<f64, ReadError> {
        let number = self.cell(index).parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0);
        number.ok_or_else(|| self.wrong(index, expected))
    }

    /// A number of requests. Some files write counts with a decimal point, and nothing for no request.
    pub(super) fn count(&self, index: usize) -> Result<u64, ReadError> {
        let cell = self.cell(index);
        if cell.is_empty() || cell.eq_ignore_ascii_case("nan") {
            return Ok(0);
        }
        let count = self.number(index, "a number of requests: expected a whole number of at least 0")?;
        if count.fract() != 0.0 || count > u32::MAX.into() {
            return Err(self.wrong(index, "a number of requests: expected a whole number of at least 0"));
        }
        Ok(count as u64)
    }

    pub(super) fn has_width(&self, width: usize) -> Result<(), ReadError> {
        if self.cells.len() == width {
            return Ok(());
        }
        let message = format!("it has {} columns, and the heading has {width}", self.cells.len());
        Err(ReadError::Line { line: self.line, message })
    }
}

/// The claims that were read so far.
pub(super) struct Claims<'a> {
    /// The name of the trace.
    pub(super) name: &'a str,
    /// The times in milliseconds since the beginning.
    pub(super) times: Vec<u64>,
    /// The largest number of claims.
    pub(super) most: usize,
    pub(super) options: &'a ReadOptions,
    pub(super) random: Rng,
}

impl Claims<'_> {
    /// Whether the claims of a function are read.
    pub(super) fn reads(&self, names: &[&str]) -> bool {
        self.options.only.is_empty() || self.options.only.iter().any(|only| names.contains(&only.as_str()))
    }

    /// Whether the scale keeps a claim.
    pub(super) fn keeps(&mut self) -> bool {
        self.options.scale >= 1.0 || self.random.f64() < self.options.scale
    }

    /// Adds a claim, unless the scale or the number of days leaves it out.
    pub(super) fn add(&mut self, at: u64) -> Result<(), TooManyClaims> {
        if at < self.limit() && self.keeps() { self.push(at) } else { Ok(()) }
    }

    pub(super) fn push(&mut self, at: u64) -> Result<(), TooManyClaims> {
        if self.times.len() >= self.most {
            return Err(TooManyClaims);
        }
        self.times.push(at);
        Ok(())
    }

    /// Adds claims at random times of an interval that begins at `from`, in milliseconds.
    pub(super) fn spread(&mut self, count: u64, from: u64, length: u64) -> Result<(), TooManyClaims> {
        if from >= self.limit() {
            return Ok(());
        }
        // The number of claims that are left out before the next one has a geometric distribution, so that a cell with
        // billions of requests takes no more time than the claims that are kept.
        let mut left = count;
        loop {
            let Some(rest) = left.checked_sub(self.left_out().saturating_add(1)) else { return Ok(()) };
            left = rest;
            let at = from + self.random.u64(..length);
            self.push(at)?;
        }
    }

    /// The number of claims that the scale leaves out before the next one that it keeps.
    pub(super) fn left_out(&mut self) -> u64 {
        if self.options.scale >= 1.0 {
            return 0;
        }
        ((1.0 - self.random.f64()).ln() / (-self.options.scale).ln_1p()) as u64
    }

    /// The end of the days that are read, in milliseconds.
    pub(super) fn limit(&self) -> u64 {
        self.options.days.map_or(u64::MAX, |days| u64::from(days) * 86_400_000)
    }

    /// The trace of these claims. It ends after `length` milliseconds, or earlier with the days that are read.
    pub(super) fn trace(self, start: Timestamp, length: u64) -> Result<Trace, ReadError> {
        let length = Duration::from_millis(length.min(self.limit()));
        Ok(Trace::new(self.name, start, length, self.times)?)
    }

    /// The error of a file in which `--only` names nothing.
    pub(super) fn check_only(&self, found: bool) -> Result<(), ReadError> {
        if found {
            return Ok(());
        }
        let message = match self.options.only.as_slice() {
            [] => "there is no line after the heading".to_owned(),
            only => {
                format!("no line is about {}: --only names functions or applications of the file", only.join(" or "))
            }
        };
        Err(ReadError::Empty(message))
    }
}
