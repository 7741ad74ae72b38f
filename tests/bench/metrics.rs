//! The counters of a controller, scraped from its `/metrics`.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use paddock_cluster::{Endpoint, http_get};

/// A scrape with the text of all samples.
#[derive(Clone, Debug)]
pub(crate) struct Scrape {
    text: String,
    /// The duration of the scrape.
    pub(crate) took: Duration,
}

/// The counters of finished reconciles, in our operator and in controllers that use controller-runtime.
const RECONCILES: [&str; 2] = ["paddock_reconciles_total", "controller_runtime_reconcile_total"];

impl Scrape {
    /// Reads the metrics at an address.
    pub(crate) async fn of(endpoint: &Endpoint) -> Result<Self> {
        let began = Instant::now();
        let (status, text) = http_get(endpoint).await.with_context(|| format!("reading {endpoint}"))?;
        ensure!(status == 200, "reading {endpoint}: status {status}");
        Ok(Self { text, took: began.elapsed() })
    }

    /// A scrape from a text.
    pub(crate) fn from_text(text: String) -> Self {
        Self { text, took: Duration::ZERO }
    }

    /// The sum of a family's samples whose labels contain each of `labels` (as `name="value"`), or `None` if there is
    /// no such sample.
    pub(crate) fn sum(&self, family: &str, labels: &[&str]) -> Option<f64> {
        let samples = self.text.lines().filter_map(|line| {
            let rest = line.strip_prefix(family)?;
            let (found, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.rsplit_once("} ")?,
                None => ("", rest.strip_prefix(' ')?),
            };
            let all = labels.iter().all(|label| holds(found, label));
            // A timestamp may follow the value.
            all.then(|| value.split(' ').next()?.parse::<f64>().ok())?
        });
        samples.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
    }

    /// The number of reconciles so far, or `None` if the controller does not count them.
    pub(crate) fn reconciles(&self) -> Option<f64> {
        RECONCILES.iter().find_map(|family| self.sum(family, &[]))
    }

    /// The size in bytes.
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }
}

/// Whether the label exists: at the beginning or after a comma, so that `kind` is not found in `subkind`.
fn holds(labels: &str, label: &str) -> bool {
    labels.match_indices(label).any(|(at, _)| at == 0 || labels.as_bytes()[at - 1] == b',')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# HELP paddock_reconciles_total Reconciles.
# TYPE paddock_reconciles_total counter
paddock_reconciles_total{kind="SandboxClaim",trigger="watch",result="converged"} 7
paddock_reconciles_total{kind="Sandbox",trigger="watch",result="failed"} 5
paddock_reconciles_total_other{kind="Sandbox"} 100
paddock_leader 1
wide{path="/a b",subkind="Sandbox"} 2.5e1 1700000000000
"#;

    fn scrape(text: &str) -> Scrape {
        Scrape::from_text(text.to_owned())
    }

    #[test]
    fn a_family_is_summed_and_no_other_of_a_longer_name() {
        let all = scrape(TEXT);
        assert_eq!(all.sum("paddock_reconciles_total", &[]), Some(12.0));
        assert_eq!(all.sum("paddock_reconciles_total", &[r#"kind="Sandbox""#]), Some(5.0));
        assert_eq!(all.sum("paddock_leader", &[]), Some(1.0));
        assert_eq!(all.sum("wide", &[r#"path="/a b""#]), Some(25.0));
        assert_eq!(all.sum("wide", &[r#"kind="Sandbox""#]), None);
        assert_eq!(all.sum("paddock", &[]), None);
    }

    #[test]
    fn reconciles_are_ours_or_those_of_controller_runtime() {
        assert_eq!(scrape(TEXT).reconciles(), Some(12.0));
        let other = "controller_runtime_reconcile_total{controller=\"a\",result=\"success\"} 3\n\
                     controller_runtime_reconcile_total{controller=\"b\",result=\"requeue\"} 4\n";
        assert_eq!(scrape(other).reconciles(), Some(7.0));
        assert_eq!(scrape("nothing 1\n").reconciles(), None);
    }
}
