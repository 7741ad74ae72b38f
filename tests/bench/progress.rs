//! Progress messages on standard error. Figures are printed on standard output.

use std::sync::OnceLock;
use std::time::Instant;

/// Prints one line, with the seconds since the first one.
pub(crate) fn say(text: &str) {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let began = BEGAN.get_or_init(Instant::now);
    eprintln!("{:>7.1}s  {text}", began.elapsed().as_secs_f64());
}
