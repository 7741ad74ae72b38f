//! Charts of a run in one SVG: latency over time, its distribution, the growth of a pool, and usage over time.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::report::Measured;
use crate::stats::distribution;

const WIDTH: u32 = 960;
const HEIGHT: u32 = 340;
/// One colour for each run, which are distinguishable even for colour-blind readers: blue, orange, green and black.
const COLOURS: [RGBColor; 4] =
    [RGBColor(31, 119, 180), RGBColor(230, 126, 34), RGBColor(39, 174, 96), RGBColor(40, 40, 40)];
/// The number of dots in one chart. More would only make the file larger.
const DOTS: usize = 4000;

/// One chart.
pub(crate) struct Panel {
    pub(crate) title: &'static str,
    pub(crate) x: &'static str,
    pub(crate) y: &'static str,
    pub(crate) log_x: bool,
    pub(crate) log_y: bool,
    pub(crate) dots: bool,
    /// The points of each run with its name.
    pub(crate) series: Vec<(String, Vec<(f64, f64)>)>,
}

/// Draws the charts for which the runs have data.
pub(crate) fn draw(file: &Path, title: &str, runs: &[Measured]) -> Result<()> {
    let panels: Vec<Panel> = panels(runs).into_iter().filter(|panel| !panel.series.is_empty()).collect();
    draw_panels(file, title, &panels)
}

/// Draws charts below each other.
pub(crate) fn draw_panels(file: &Path, title: &str, panels: &[Panel]) -> Result<()> {
    let height = 40 + HEIGHT * u32::try_from(panels.len().max(1))?;
    let root = SVGBackend::new(file, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE).map_err(drawing_error)?;
    let root = root.titled(title, ("sans-serif", 18)).map_err(drawing_error)?;
    for (panel, area) in panels.iter().zip(root.split_evenly((panels.len().max(1), 1))) {
        panel.draw(&area)?;
    }
    root.present().map_err(drawing_error)
}

fn drawing_error(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("{error}")
}

fn panels(runs: &[Measured]) -> Vec<Panel> {
    let series = |of: &dyn Fn(&Measured) -> Vec<(f64, f64)>| -> Vec<(String, Vec<(f64, f64)>)> {
        let all = runs.iter().map(|run| (run.who.title().to_owned(), of(run)));
        all.filter(|(_, points)| !points.is_empty()).collect()
    };
    let dots = |run: &Measured| {
        let step = run.latencies.len().div_ceil(DOTS).max(1);
        run.latencies.iter().step_by(step).copied().collect()
    };
    let memory = |run: &Measured| -> Vec<(f64, f64)> {
        let of = |sample: &crate::usage::Sample| Some((sample.at, sample.usage.get(run.who.role())?.rss_mb));
        run.samples.iter().filter_map(of).collect()
    };
    let rounds = |percentile: &'static str| {
        let all = runs.iter().filter_map(|run| run.figures.get("rounds")?.as_array()).take(1).flatten();
        all.filter_map(|round| Some((round["asked_rate"].as_f64()?, round["ready_ms"][percentile].as_f64()?))).collect()
    };
    let by_rate: Vec<(String, Vec<(f64, f64)>)> =
        ["p50", "p95", "p99"].map(|percentile| (percentile.to_owned(), rounds(percentile))).into();
    let at_once = runs.iter().all(|run| run.latencies.iter().all(|(at, _)| *at == 0.0));
    vec![
        Panel {
            title: "Time to Ready by rate of claims",
            x: "claims/s",
            y: "ms",
            log_x: false,
            log_y: true,
            dots: false,
            series: by_rate.into_iter().filter(|(_, points)| !points.is_empty()).collect(),
        },
        Panel {
            title: "Time to Ready by intended start",
            x: "s",
            y: "ms",
            log_x: false,
            log_y: true,
            dots: true,
            series: if at_once { Vec::new() } else { series(&dots) },
        },
        Panel {
            title: "Share of claims Ready within",
            x: "ms",
            y: "%",
            log_x: true,
            log_y: false,
            dots: false,
            series: series(&|run| distribution(run.latencies.iter().map(|(_, ms)| *ms).collect())),
        },
        Panel {
            title: "Ready sandboxes",
            x: "s",
            y: "",
            log_x: false,
            log_y: false,
            dots: false,
            series: series(&|run| run.growth.clone()),
        },
        Panel {
            title: "Processor of the controller",
            x: "s",
            y: "% of a core",
            log_x: false,
            log_y: false,
            dots: false,
            series: series(&processor),
        },
        Panel {
            title: "Memory of the controller",
            x: "s",
            y: "MB",
            log_x: false,
            log_y: false,
            dots: false,
            series: series(&memory),
        },
    ]
}

/// The processor time between each sample and the next.
fn processor(run: &Measured) -> Vec<(f64, f64)> {
    let used = |sample: &crate::usage::Sample| Some((sample.at, sample.usage.get(run.who.role())?.cpu_s));
    let used: Vec<(f64, f64)> = run.samples.iter().filter_map(used).collect();
    let between = |pair: &[(f64, f64)]| match pair {
        [(from, before), (to, after)] if to > from => Some((*to, ((after - before) / (to - from) * 100.0).max(0.0))),
        _ => None,
    };
    used.windows(2).filter_map(between).collect()
}

impl Panel {
    fn draw(&self, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Result<()> {
        let all = || self.series.iter().flat_map(|(_, points)| points.iter());
        let x = range(all().map(|point| point.0), self.log_x);
        let y = range(all().map(|point| point.1), self.log_y);
        let mut chart = ChartBuilder::on(area);
        chart.caption(self.title, ("sans-serif", 15)).margin(8).x_label_area_size(36).y_label_area_size(64);
        // Each combination of axes is another type.
        match (self.log_x, self.log_y) {
            (false, false) => self.fill(&mut chart.build_cartesian_2d(x, y).map_err(drawing_error)?),
            (true, false) => self.fill(&mut chart.build_cartesian_2d(x.log_scale(), y).map_err(drawing_error)?),
            (false, true) => self.fill(&mut chart.build_cartesian_2d(x, y.log_scale()).map_err(drawing_error)?),
            (true, true) => {
                self.fill(&mut chart.build_cartesian_2d(x.log_scale(), y.log_scale()).map_err(drawing_error)?)
            }
        }
    }

    fn fill<'a, X, Y>(&self, chart: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>) -> Result<()>
    where
        X: Ranged<ValueType = f64> + plotters::coord::ranged1d::ValueFormatter<f64>,
        Y: Ranged<ValueType = f64> + plotters::coord::ranged1d::ValueFormatter<f64>,
    {
        chart.configure_mesh().x_desc(self.x).y_desc(self.y).light_line_style(WHITE).draw().map_err(drawing_error)?;
        for ((name, points), colour) in self.series.iter().zip(COLOURS.iter().cycle()) {
            let drawn = if self.dots {
                chart.draw_series(points.iter().map(|point| Circle::new(*point, 2, colour.mix(0.5).filled())))
            } else {
                chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))
            };
            let colour = *colour;
            drawn
                .map_err(drawing_error)?
                .label(name)
                .legend(move |(x, y)| Rectangle::new([(x, y - 4), (x + 12, y + 4)], colour.filled()));
        }
        let legend = SeriesLabelPosition::LowerRight;
        let mut labels = chart.configure_series_labels();
        labels
            .position(legend)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .draw()
            .map_err(drawing_error)
    }
}

/// The range of an axis: all values with a margin, and never empty.
fn range(values: impl Iterator<Item = f64>, log: bool) -> std::ops::Range<f64> {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values {
        (low, high) = (low.min(value), high.max(value));
    }
    if !low.is_finite() || !high.is_finite() {
        (low, high) = (1.0, 2.0);
    }
    if log {
        // The range starts at a power of ten, so that a label is there.
        let low = 10_f64.powf(low.max(0.1).log10().floor());
        return low..(high * 1.25).max(low * 10.0);
    }
    let low = low.min(0.0);
    low..(high * 1.05).max(low + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::Who;

    #[test]
    fn an_axis_shows_every_value_and_is_never_empty() {
        assert_eq!(range([5.0, 10.0].into_iter(), false), 0.0..10.5);
        let log = range([0.0, 100.0].into_iter(), true);
        assert!(log.start > 0.0 && log.end > 100.0);
        for empty in [range(std::iter::empty(), false), range([3.0].into_iter(), true)] {
            assert!(empty.end > empty.start);
        }
    }

    #[test]
    fn a_chart_names_every_run_it_shows() {
        let file = std::env::temp_dir().join(format!("paddock-bench-chart-{}.svg", std::process::id()));
        let run = |who| {
            let mut run = Measured::new(who);
            run.latencies = (1..100_u32).map(|n| (f64::from(n), f64::from(n * n))).collect();
            run
        };
        draw(&file, "a title", &[run(Who::Paddock), run(Who::Other)]).unwrap();
        let svg = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        for text in ["a title", "paddock", "other", "Share of claims Ready within", "<circle", "<polyline"] {
            assert!(svg.contains(text), "{text}");
        }
    }
}
