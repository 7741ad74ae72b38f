//! Tells a person on standard error what is going on; figures go to standard output.

use std::sync::OnceLock;
use std::time::Instant;

/// One line, with the seconds since the first one.
pub(crate) fn say(text: &str) {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let began = BEGAN.get_or_init(Instant::now);
    eprintln!("{:>7.1}s  {text}", began.elapsed().as_secs_f64());
}
