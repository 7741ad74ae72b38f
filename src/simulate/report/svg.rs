//! Charts as SVG: axes, lines, areas and points. The page that contains a chart has the colours, as classes of CSS.

use std::fmt::Write as _;

/// A chart with linear axes that begin at zero or at a given value.
pub(super) struct Chart {
    title: String,
    width: f64,
    height: f64,
    x: Axis,
    y: Axis,
    body: String,
}

/// An axis: its range, and its label.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) label: &'static str,
}

impl Axis {
    /// An axis from zero that contains all values.
    pub(super) fn up_to(values: impl Iterator<Item = f64>, label: &'static str) -> Self {
        let most = values.fold(0.0, f64::max);
        Self { from: 0.0, to: if most > 0.0 { most } else { 1.0 }, label }
    }

    /// Round values on the axis, from four to nine.
    fn ticks(&self) -> Vec<f64> {
        let span = self.to - self.from;
        let power = 10_f64.powf((span / 5.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|step| step * power).into_iter().find(|step| span / step <= 8.0);
        let step = step.unwrap_or(span);
        let first = (self.from / step).ceil() as i64;
        let last = (self.to / step + 1e-9).floor() as i64;
        (first..=last).map(|n| n as f64 * step).collect()
    }

    fn share(&self, value: f64) -> f64 {
        ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }
}

const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;

impl Chart {
    pub(super) fn new(title: &str, (width, height): (f64, f64), x: Axis, y: Axis) -> Self {
        Self { title: title.to_owned(), width, height, x, y, body: String::new() }
    }

    fn place(&self, x: f64, y: f64) -> (f64, f64) {
        let across = LEFT + self.x.share(x) * (self.width - LEFT - RIGHT);
        let down = TOP + (1.0 - self.y.share(y)) * (self.height - TOP - BOTTOM);
        (across, down)
    }

    fn add(&mut self, element: &str) {
        self.body.push_str(element);
        self.body.push('\n');
    }

    /// A line through points.
    pub(super) fn line(&mut self, class: &str, points: &[(f64, f64)]) {
        let path: Vec<String> =
            points.iter().map(|(x, y)| self.place(*x, *y)).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.add(&format!(r#"<polyline class="line {class}" points="{}"/>"#, path.join(" ")));
    }

    /// Bars between two heights, from one value of `x` to the next. Each has its start, its end, and both heights.
    pub(super) fn bars(&mut self, class: &str, bars: &[(f64, f64, f64, f64)]) {
        let mut path = String::new();
        for (from, to, low, high) in bars.iter().filter(|(_, _, low, high)| high > low) {
            let ((left, bottom), (right, top)) = (self.place(*from, *low), self.place(*to, *high));
            // Writing to a String never fails.
            let _ = write!(path, "M{left:.1} {bottom:.1}V{top:.1}H{right:.1}V{bottom:.1}Z");
        }
        self.add(&format!(r#"<path class="bar {class}" d="{path}"/>"#));
    }

    /// A point with a text beside it.
    pub(super) fn point(&mut self, class: &str, (x, y): (f64, f64), text: &str) {
        let (across, down) = self.place(x, y);
        self.add(&format!(r#"<circle class="point {class}" cx="{across:.1}" cy="{down:.1}" r="4"/>"#));
        // The text stays inside of the chart.
        let (anchor, at) = if across > self.width * 0.7 { ("end", across - 8.0) } else { ("start", across + 8.0) };
        let text = escaped(text);
        self.add(&format!(r#"<text x="{at:.1}" y="{:.1}" text-anchor="{anchor}">{text}</text>"#, down + 4.0));
    }

    /// The chart as an element of SVG.
    pub(super) fn finish(mut self) -> String {
        let body = std::mem::take(&mut self.body);
        let (right, bottom) = (self.width - RIGHT, self.height - BOTTOM);
        for tick in self.y.ticks() {
            let (_, at) = self.place(self.x.from, tick);
            let text = short(tick);
            self.add(&format!(r#"<line class="grid" x1="{LEFT}" y1="{at:.1}" x2="{right}" y2="{at:.1}"/>"#));
            self.add(&format!(r#"<text x="{}" y="{:.1}" text-anchor="end">{text}</text>"#, LEFT - 6.0, at + 4.0));
        }
        for tick in self.x.ticks() {
            let (at, _) = self.place(tick, self.y.from);
            let text = short(tick);
            self.add(&format!(r#"<line class="grid" x1="{at:.1}" y1="{TOP}" x2="{at:.1}" y2="{bottom}"/>"#));
            self.add(&format!(r#"<text x="{at:.1}" y="{:.1}" text-anchor="middle">{text}</text>"#, bottom + 16.0));
        }
        let middle = (LEFT + right) / 2.0;
        let (x, y) = (escaped(self.x.label), escaped(self.y.label));
        self.add(&format!(r#"<text x="{middle}" y="{}" text-anchor="middle">{x}</text>"#, self.height - 6.0));
        let half = (TOP + bottom) / 2.0;
        self.add(&format!(r#"<text transform="translate(14 {half}) rotate(-90)" text-anchor="middle">{y}</text>"#));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" viewBox=\"0 0 {} {}\"><title>{}</title>\n{}{body}</svg>\n",
            self.width,
            self.height,
            escaped(&self.title),
            self.body,
        )
    }
}

/// A number in a few characters.
fn short(number: f64) -> String {
    let text = format!("{number:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// A text in the form that XML and HTML need. Characters that XML forbids are replaced.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\t' | '\n' | '\r' => safe.push(' '),
            '\u{fffe}' | '\u{ffff}' => safe.push('\u{fffd}'),
            control if control.is_control() => safe.push('\u{fffd}'),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_the_axis() {
        for (to, wanted) in [(7.0, 8), (10.0, 6), (24.0, 5), (168.0, 4), (0.3, 4), (1.0, 6), (12345.0, 7)] {
            let ticks = Axis { from: 0.0, to, label: "" }.ticks();
            assert!((3..=9).contains(&ticks.len()), "{to}: {ticks:?} instead of about {wanted}");
            assert!(ticks.iter().all(|tick| (0.0..=to * 1.001).contains(tick)), "{ticks:?}");
        }
        assert_eq!([0.0, 2.0, 0.3, 12.5].map(short), ["0", "2", "0.3", "12.5"]);
    }

    #[test]
    fn text_cannot_leave_its_place() {
        assert_eq!(escaped("<a b=\"c\">&'\u{1}"), "&lt;a b=&quot;c&quot;&gt;&amp;&#39;\u{fffd}");
    }
}
