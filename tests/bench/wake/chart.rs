//! The timeline of a wake as a chart: one bar for each setting, with the phases of its median wake.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::figures::Figures;
use super::phases::{Phase, Wake};

const WIDTH: i32 = 960;
/// The height of the title and the legend.
const HEAD: i32 = 84;
/// The height of a row.
const ROW: i32 = 44;
/// The height of the axis.
const AXIS: i32 = 46;
/// The columns in which the bars begin and end.
const BARS: (i32, i32) = (180, 820);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Colours that colour-blind readers can tell apart. Our own phases are blue.
fn colour(phase: Phase) -> RGBColor {
    match phase {
        Phase::Decision => RGBColor(8, 48, 107),
        Phase::Write => RGBColor(33, 113, 181),
        Phase::Pod => RGBColor(107, 174, 214),
        Phase::Scheduling => RGBColor(120, 120, 120),
        Phase::Start => RGBColor(230, 126, 34),
        Phase::Port => RGBColor(247, 202, 135),
        Phase::Answer => RGBColor(0, 160, 230),
    }
}

/// Draws the chart.
pub(super) fn draw(file: &Path, title: &str, all: &[&Figures]) -> Result<()> {
    let rows: Vec<(&Figures, &Wake)> =
        all.iter().filter_map(|figures| figures.at(0.50).map(|wake| (*figures, wake))).collect();
    let height = HEAD + ROW * i32::try_from(rows.len())? + AXIS;
    let root = SVGBackend::new(file, (u32::try_from(WIDTH)?, u32::try_from(height)?)).into_drawing_area();
    root.fill(&WHITE).map_err(drawing_error)?;
    text(&root, title, (12, 10), 16)?;
    legend(&root)?;
    let longest = rows.iter().map(|(_, wake)| wake.total()).fold(1.0, f64::max);
    axis(&root, longest, height)?;
    for ((figures, wake), row) in rows.into_iter().zip(0..) {
        let top = HEAD + ROW * row;
        text(&root, figures.title(), (12, top + 12), 13)?;
        let (mut begins, mut from) = (0.0, BARS.0);
        for phase in Phase::ALL {
            begins += wake.part(phase);
            let to = column(begins, longest);
            let part = Rectangle::new([(from, top + 6), (to, top + ROW - 10)], colour(phase).filled());
            root.draw(&part).map_err(drawing_error)?;
            from = to;
        }
        let label = format!("{:.0} ms, own {:.0}", wake.total(), wake.ours());
        text(&root, &label, (from + 6, top + 12), 13)?;
    }
    root.present().map_err(drawing_error)
}

fn legend(root: &Area<'_>) -> Result<()> {
    let mut left = 12;
    for phase in Phase::ALL {
        root.draw(&Rectangle::new([(left, 44), (left + 12, 56)], colour(phase).filled())).map_err(drawing_error)?;
        text(root, phase.name(), (left + 17, 43), 12)?;
        left += 34 + 7 * i32::try_from(phase.name().len())?;
    }
    Ok(())
}

fn axis(root: &Area<'_>, longest: f64, height: i32) -> Result<()> {
    let step = step(longest);
    let mut ms = 0.0;
    while ms <= longest {
        let x = column(ms, longest);
        let line = PathElement::new([(x, HEAD), (x, height - AXIS + 4)], BLACK.mix(0.15));
        root.draw(&line).map_err(drawing_error)?;
        text(root, &format!("{ms:.0}"), (x - 8, height - AXIS + 8), 12)?;
        ms += step;
    }
    text(root, "milliseconds after the request; the median wake of each setting", (BARS.0, height - 20), 12)
}

/// The distance of the lines: one, two or five times a power of ten, with at most ten lines.
fn step(longest: f64) -> f64 {
    let power = 10_f64.powf((longest / 10.0).log10().floor());
    [1.0, 2.0, 5.0].map(|factor| factor * power).into_iter().find(|step| longest / step <= 10.0).unwrap_or(10.0 * power)
}

fn column(ms: f64, longest: f64) -> i32 {
    BARS.0 + (f64::from(BARS.1 - BARS.0) * ms / longest).round() as i32
}

fn text(root: &Area<'_>, words: &str, at: (i32, i32), size: i32) -> Result<()> {
    root.draw(&Text::new(words.to_owned(), at, ("sans-serif", size))).map_err(drawing_error)
}

fn drawing_error(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("{error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_round_numbers_and_there_are_at_most_ten() {
        for (longest, expected) in [(9.0, 1.0), (950.0, 100.0), (1300.0, 200.0), (2600.0, 500.0), (30_000.0, 5000.0)] {
            assert_eq!(step(longest), expected, "{longest}");
        }
    }

    #[test]
    fn chart_has_a_bar_for_every_setting_and_names_every_phase() {
        let file = std::env::temp_dir().join(format!("paddock-bench-wake-{}.svg", std::process::id()));
        let wake = Wake::for_tests([1.0, 2.0, 3.0, 4.0, 900.0, 50.0, 6.0]);
        let (a, b) = (Figures::of("runc", vec![wake.clone()]), Figures::of("gVisor", vec![wake]));
        draw(&file, "a title", &[&a, &b]).unwrap();
        let svg = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        let phases = Phase::ALL.map(Phase::name);
        for word in ["a title", "runc", "gVisor", "966 ms, own 12"].iter().chain(&phases) {
            assert!(svg.contains(word), "{word}");
        }
        // The background, the legend, and two bars.
        assert_eq!(svg.matches("<rect").count(), 1 + 7 + 2 * 7);
    }
}
