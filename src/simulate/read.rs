//! Reads traces from CSV.
//!
//! The first line says which layout a file has:
//!
//! - **Arrivals**: a time on each line, in seconds or as RFC 3339. A heading is optional.
//! - **Azure Functions 2019**: `HashOwner,HashApp,HashFunction,Trigger,1,…,1440`, the invocations of each function in
//!   each minute of a day.
//! - **Azure Functions 2021**: `app,func,end_timestamp,duration`, an invocation on each line, in seconds.
//! - **Huawei 2023**: `day,time,0,1,…`, the requests of each function in each minute or second. An empty cell is zero.

mod counts;
mod rows;
mod times;

use std::io::BufRead;

use self::counts::{azure_2019, huawei};
use self::rows::{Claims, Lines, Row};
pub use self::rows::{ReadError, ReadOptions};
use self::times::{arrivals, azure_2021};
use crate::random::{Purpose, stream};
use crate::trace::{MAX_CLAIMS, Trace};

/// Reads the claims of a file.
///
/// # Errors
/// The line and the column that are wrong, and what would be right.
pub fn read(name: &str, input: impl BufRead, options: &ReadOptions) -> Result<Trace, ReadError> {
    read_at_most(MAX_CLAIMS, name, input, options)
}

fn read_at_most(most: usize, name: &str, input: impl BufRead, options: &ReadOptions) -> Result<Trace, ReadError> {
    let mut lines = Lines { input, number: 0, text: String::new() };
    let Some(first) = lines.next()?.map(Row::owned) else {
        return Err(ReadError::Empty(
            "the file is empty: expected a line for each claim, or one of the layouts in --help".to_owned(),
        ));
    };
    let head: Vec<String> = first.cells.iter().map(|cell| cell.to_ascii_lowercase()).collect();
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    let claims = Claims { name, times: Vec::new(), most, options, random: stream(options.seed, Purpose::File) };
    match head.as_slice() {
        ["hashowner", "hashapp", "hashfunction", "trigger", ..] => azure_2019(&mut lines, &first, claims),
        ["app", "func", "end_timestamp", "duration"] => azure_2021(&mut lines, claims),
        ["day", "time", _, ..] => huawei(&mut lines, &first, claims),
        _ => arrivals(&mut lines, &first, claims),
    }
}

#[cfg(test)]
mod tests;
