//! The chart of the ways: the distribution of their latencies, and their rates by rounds.

use std::path::Path;

use anyhow::Result;

use super::figures::Figures;
use crate::chart::{Panel, draw_panels};
use crate::stats::distribution;

/// Draws the chart.
pub(super) fn draw(file: &Path, title: &str, all: &[Figures]) -> Result<()> {
    let series = |of: &dyn Fn(&Figures) -> Vec<(f64, f64)>| -> Vec<(String, Vec<(f64, f64)>)> {
        all.iter().map(|figures| (figures.name.to_owned(), of(figures))).collect()
    };
    let rounds = |figures: &Figures| {
        let rates = figures.rates().iter().zip(1_u32..);
        rates.map(|(rate, round)| (f64::from(round), *rate)).collect()
    };
    let panels = [
        Panel {
            title: "Share of requests answered within, at the fixed rate",
            x: "microseconds",
            y: "%",
            log_x: true,
            log_y: false,
            dots: false,
            series: series(&|figures| distribution(figures.all_latencies().iter().map(|ms| ms * 1000.0).collect())),
        },
        Panel {
            title: "Highest rate",
            x: "round",
            y: "requests/s",
            log_x: false,
            log_y: false,
            dots: false,
            series: series(&rounds),
        },
    ];
    draw_panels(file, title, &panels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::figures::tests::figures;

    #[test]
    fn chart_names_every_way() {
        let file = std::env::temp_dir().join(format!("paddock-bench-gateway-{}.svg", std::process::id()));
        draw(&file, "a title", &figures()).unwrap();
        let svg = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        for text in ["a title", "direct", "gateway", "nginx", "Highest rate", "<polyline"] {
            assert!(svg.contains(text), "{text}");
        }
    }
}
