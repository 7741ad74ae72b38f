//! Declares metric families in the form of a table, with one entry for each family.

use prometheus::core::Collector;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, Result};

/// Declares a struct of metric families, and its function `declare`, which registers each family. An entry has the
/// field, its type, the registry, the labels, the buckets of a histogram, and then the name and the help.
macro_rules! families {
    ($(#[$meta:meta])* $vis:vis struct $name:ident($($registry:ident),*) {
        $($field:ident: $kind:ty, $to:ident, $labels:expr $(, $buckets:ident)? => $family:literal: $help:literal;)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        $vis struct $name { $(pub(super) $field: $kind,)* }

        impl $name {
            fn declare($($registry: &prometheus::Registry),*) -> prometheus::Result<Self> {
                use $crate::metrics::table::family;
                Ok(Self { $($field: family($to, ($family, $help), &$labels, &[$($buckets)?])?,)* })
            }
        }
    };
}
pub(crate) use families;

/// A metric family that can be declared in a table. Only histograms use the buckets.
pub(crate) trait Family: Collector + Clone + 'static {
    fn new(name: Opts, labels: &[&str], buckets: &[&[f64]]) -> Result<Self>;
}

impl Family for HistogramVec {
    fn new(common_opts: Opts, labels: &[&str], buckets: &[&[f64]]) -> Result<Self> {
        Self::new(HistogramOpts { common_opts, buckets: buckets.concat() }, labels)
    }
}

impl Family for IntCounterVec {
    fn new(opts: Opts, labels: &[&str], _: &[&[f64]]) -> Result<Self> {
        Self::new(opts, labels)
    }
}

impl Family for IntGaugeVec {
    fn new(opts: Opts, labels: &[&str], _: &[&[f64]]) -> Result<Self> {
        Self::new(opts, labels)
    }
}

impl Family for IntGauge {
    fn new(opts: Opts, _: &[&str], _: &[&[f64]]) -> Result<Self> {
        Self::with_opts(opts)
    }
}

/// Creates a family and registers it.
pub(crate) fn family<F: Family>(
    to: &Registry,
    (name, help): (&str, &str),
    labels: &[&str],
    buckets: &[&[f64]],
) -> Result<F> {
    let family = <F as Family>::new(Opts::new(name, help), labels, buckets)?;
    to.register(Box::new(family.clone()))?;
    Ok(family)
}
