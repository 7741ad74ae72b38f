//! The flags of the recording of decisions.

use std::path::PathBuf;

use clap::Args;
use paddock_core::model::{Quantity, is_dns_subdomain};
use paddock_operator::RecordConfig;
use paddock_operator::record::Destination;

/// The smallest file of a recording: it holds the question about the largest usual object.
const LEAST_BYTES: u64 = 1024 * 1024;

#[derive(Debug, Args)]
#[command(next_help_heading = "Record of decisions")]
pub(super) struct RecordArgs {
    /// File to which the decisions of plugins are written as JSON lines, for `paddock plugin replay`, or - for standard
    /// output. Values that may be secrets are removed. Without the flag, none are written. Example: /var/record/decisions.jsonl
    #[arg(long, value_name = "FILE", env = "PADDOCK_RECORD_DECISIONS", value_parser = parse_destination)]
    record_decisions: Option<Destination>,
    /// Part of the decisions that is written, more than 0 and at most 1. Chance chooses them.
    #[arg(long, value_name = "FRACTION", env = "PADDOCK_RECORD_DECISIONS_SAMPLE", value_parser = parse_fraction, default_value = "1")]
    record_decisions_sample: f64,
    /// Size of the file, at least 1Mi. A full file is renamed to FILE.1, which replaces the one before it, so the disk
    /// holds at most twice the size. It has no effect on standard output.
    #[arg(long, value_name = "QUANTITY", env = "PADDOCK_RECORD_DECISIONS_MAX_SIZE", value_parser = parse_size, default_value = "64Mi")]
    record_decisions_max_size: u64,
    /// Domain of annotations whose values are recorded. The values of all other annotations are removed, except of some
    /// that Paddock writes. The flag may be repeated.
    #[arg(long, value_name = "DOMAIN", env = "PADDOCK_RECORD_DECISIONS_ANNOTATION_DOMAIN", value_delimiter = ',', value_parser = parse_domain)]
    record_decisions_annotation_domain: Vec<String>,
    /// The number of decisions that /debug/decisions shows. They need at most 4Mi of memory. 0 keeps none.
    #[arg(long, value_name = "N", env = "PADDOCK_RECENT_DECISIONS", value_parser = clap::value_parser!(u32).range(..=10_000), default_value = "256")]
    recent_decisions: u32,
}

impl RecordArgs {
    pub(super) fn config(self) -> RecordConfig {
        RecordConfig {
            to: self.record_decisions,
            sample: self.record_decisions_sample,
            max_bytes: self.record_decisions_max_size,
            recent: usize::try_from(self.recent_decisions).unwrap_or(usize::MAX),
            annotation_domains: self.record_decisions_annotation_domain,
        }
    }
}

fn parse_destination(value: &str) -> Result<Destination, String> {
    match value {
        "" => Err("the name is empty: expected a file, such as /var/record/decisions.jsonl, or -".to_owned()),
        "-" => Ok(Destination::Stdout),
        path => Ok(Destination::File(PathBuf::from(path))),
    }
}

fn parse_fraction(value: &str) -> Result<f64, String> {
    let fraction = value.parse().ok().filter(|fraction: &f64| *fraction > 0.0 && *fraction <= 1.0);
    fraction.ok_or_else(|| format!("{value:?} must be a number above 0 and at most 1, such as 0.1"))
}

fn parse_size(value: &str) -> Result<u64, String> {
    let bytes = Quantity::parse(value).and_then(|quantity| u64::try_from(quantity.ceil()).ok());
    bytes
        .filter(|bytes| *bytes >= LEAST_BYTES)
        .ok_or_else(|| format!("{value:?} must be a quantity of at least 1Mi, such as 64Mi"))
}

fn parse_domain(value: &str) -> Result<String, String> {
    if is_dns_subdomain(value) {
        return Ok(value.to_owned());
    }
    Err(format!("{value:?} is no domain: expected a domain such as example.com"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::parsed;

    #[test]
    fn defaults_are_those_of_an_operator_in_a_test() {
        let RecordConfig { to, sample, max_bytes, recent, annotation_domains } = RecordConfig::default();
        let config = parsed::<RecordArgs>(&[]).unwrap().config();
        assert_eq!((config.to, config.max_bytes, config.recent), (to, max_bytes, recent));
        assert!(config.sample.total_cmp(&sample).is_eq());
        assert_eq!(config.annotation_domains, annotation_domains);
    }

    #[test]
    fn flags_say_where_and_how_much() {
        let config = |args: &[&str]| parsed::<RecordArgs>(args).map(RecordArgs::config);
        let file = config(&[
            "--record-decisions=/a/b.jsonl",
            "-record-decisions-sample=0.25",
            "--record-decisions-max-size=2Mi",
            "--record-decisions-annotation-domain=a.example,b.example",
            "--recent-decisions=0",
        ]);
        let file = file.unwrap();
        assert_eq!(file.to, Some(Destination::File("/a/b.jsonl".into())));
        assert_eq!((file.max_bytes, file.recent), (2 << 20, 0));
        assert!(file.sample.total_cmp(&0.25).is_eq());
        assert_eq!(file.annotation_domains, ["a.example", "b.example"]);
        for stdout in [&["--record-decisions", "-"][..], &["--record-decisions=-"]] {
            assert_eq!(config(stdout).unwrap().to, Some(Destination::Stdout));
        }
        for (flag, wanted) in [
            ("--record-decisions=", "expected a file"),
            ("--record-decisions-sample=0", "above 0 and at most 1"),
            ("--record-decisions-sample=1.5", "above 0 and at most 1"),
            ("--record-decisions-sample=NaN", "above 0 and at most 1"),
            ("--record-decisions-max-size=4Ki", "at least 1Mi"),
            ("--record-decisions-annotation-domain=*", "a domain such as example.com"),
            ("--recent-decisions=20000", "10000"),
        ] {
            let error = config(&[flag]).unwrap_err();
            assert!(error.contains(wanted), "{flag}: {error}");
        }
    }
}
