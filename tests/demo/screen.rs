//! The output for the user: chapters, steps with their durations, and facts. A terminal shows colours and a spinner.
//! Other outputs, and terminals with NO_COLOR, get plain lines.

use std::cell::{Cell, RefCell};
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use paddock_cluster::DetachedCluster;

/// The column in which the duration of a step ends.
const WIDTH: usize = 96;
/// The width of a label.
const LABEL: usize = 20;
/// The interval of the spinner's frames.
const FRAME: Duration = Duration::from_millis(90);
const FRAMES: [&str; 8] = ["⠋", "⠙", "⠸", "⠴", "⠦", "⠧", "⠇", "⠏"];
/// The interval at which a long step is reported without a spinner.
const REPORT_EVERY: Duration = Duration::from_secs(15);
/// The number of lines of each log in the message of a failure.
const LOG_LINES: usize = 25;

/// The user's terminal, or any other standard output.
pub(crate) struct Screen {
    moving: bool,
    colour: bool,
    saying: RefCell<String>,
    drawn: Cell<bool>,
}

#[derive(Clone, Copy)]
enum Tone {
    Bold,
    Dim,
    Good,
    Bad,
    Accent,
}

impl Tone {
    /// SGR codes that all common terminals know.
    fn code(self) -> &'static str {
        match self {
            Tone::Bold => "1",
            Tone::Dim => "2",
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Accent => "1;36",
        }
    }
}

impl Screen {
    /// Checks standard output and the environment once.
    pub(crate) fn new() -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let terminal = std::io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self {
            moving: terminal,
            colour: terminal && !set("NO_COLOR"),
            saying: RefCell::default(),
            drawn: Cell::new(false),
        }
    }

    /// Prints the first lines.
    pub(crate) fn title(&self, name: &str, what: &str) {
        self.line(&format!("\n  {}  {}", self.paint(Tone::Accent, name), self.paint(Tone::Dim, what)));
    }

    /// Starts a chapter.
    pub(crate) fn chapter(&self, title: &str) {
        self.line(&format!("\n  {}", self.paint(Tone::Bold, title)));
    }

    /// Runs a step, shows that it is running, and then prints its result and its duration. The work returns its result
    /// and a sentence about it.
    pub(crate) async fn step<T>(
        &self,
        label: &str,
        doing: &str,
        work: impl Future<Output = Result<(T, String)>>,
    ) -> Result<T> {
        self.say(doing);
        let began = Instant::now();
        let mut work = std::pin::pin!(work);
        let mut frames = tokio::time::interval(FRAME);
        let mut reported = Duration::ZERO;
        let done = loop {
            tokio::select! {
                done = &mut work => break done,
                _ = frames.tick() => {
                    let elapsed = began.elapsed();
                    if self.moving {
                        self.draw(label, elapsed);
                    } else if elapsed >= reported + REPORT_EVERY {
                        reported = elapsed;
                        self.line(&format!("    {label:<LABEL$}{} ({})", self.saying.borrow(), time(elapsed)));
                    }
                }
            }
        };
        self.outcome(label, doing, done, began.elapsed())
    }

    /// Runs a step that writes to the terminal itself. There is no spinner, and the label is printed first.
    pub(crate) async fn step_aloud<T>(
        &self,
        label: &str,
        doing: &str,
        work: impl Future<Output = Result<(T, String)>>,
    ) -> Result<T> {
        self.line(&format!("  {} {label:<LABEL$}{}", self.paint(Tone::Dim, "·"), self.paint(Tone::Dim, doing)));
        let began = Instant::now();
        let done = work.await;
        self.outcome(label, doing, done, began.elapsed())
    }

    /// Sets the text for the current work of the step.
    pub(crate) fn say(&self, doing: &str) {
        doing.clone_into(&mut self.saying.borrow_mut());
    }

    /// Prints a fact about the last step.
    pub(crate) fn fact(&self, label: &str, value: &str) {
        let label = format!("{label:<width$}", width = LABEL - 2);
        self.line(&format!("      {}{value}", self.paint(Tone::Dim, &label)));
    }

    /// Prints a quoted message.
    pub(crate) fn quote(&self, words: &str) {
        for line in wrapped(words, WIDTH - 8) {
            self.line(&format!("      {} {line}", self.paint(Tone::Accent, "│")));
        }
    }

    /// Prints a remark.
    pub(crate) fn remark(&self, words: &str) {
        for line in wrapped(words, WIDTH - 4) {
            self.line(&format!("    {}", self.paint(Tone::Dim, &line)));
        }
    }

    /// Prints the error, with the ends of the logs of these programs.
    pub(crate) fn failure(&self, error: &anyhow::Error, logs: &[(&str, PathBuf)]) {
        self.line(&format!("\n  {} {error:#}", self.paint(Tone::Bad, "failed:")));
        for (program, log) in logs {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            if lines.is_empty() {
                continue;
            }
            self.line(&format!("\n  {}", self.paint(Tone::Bold, &format!("The end of the {program}'s log:"))));
            for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
                self.line(&format!("    {line}"));
            }
        }
    }

    /// Prints how to use and how to stop a cluster that was left running, and the addresses of our programs. It names
    /// our kubectl if PATH has none.
    pub(crate) fn detached(&self, detached: &DetachedCluster, kubectl: Option<&Path>, places: &[(&str, String)]) {
        self.chapter("Left running");
        self.line(&format!("    export KUBECONFIG={}", detached.kubeconfig().display()));
        if let Some(kubectl) = kubectl {
            self.line(&format!("    alias kubectl={}", kubectl.display()));
        }
        self.line("    kubectl -n agents get sandboxes,sandboxclaims,sandboxwarmpools");
        self.line("    cargo demo --down    # takes everything away, all demos that were kept\n");
        for (what, place) in places {
            self.line(&format!("    {what:<LABEL$}{place}"));
        }
        self.line("");
    }

    /// Prints the last line.
    pub(crate) fn end(&self, words: &str) {
        self.line(&format!("\n  {} {words}\n", self.paint(Tone::Good, "✓")));
    }

    fn outcome<T>(&self, label: &str, doing: &str, done: Result<(T, String)>, took: Duration) -> Result<T> {
        let (mark, text) = match &done {
            Ok((_, text)) => (self.paint(Tone::Good, "✓"), text.as_str()),
            Err(_) => (self.paint(Tone::Bad, "✗"), doing),
        };
        let took = time(took);
        let used = 4 + LABEL + text.chars().count() + took.chars().count();
        let gap = " ".repeat(WIDTH.saturating_sub(used).max(2));
        self.line(&format!("  {mark} {label:<LABEL$}{text}{gap}{}", self.paint(Tone::Dim, &took)));
        done.map(|(value, _)| value)
    }

    fn draw(&self, label: &str, elapsed: Duration) {
        let turn = usize::try_from(elapsed.as_millis() / FRAME.as_millis()).unwrap_or_default();
        let frame = FRAMES.get(turn % FRAMES.len()).copied().unwrap_or_default();
        let text: String = self.saying.borrow().chars().take(WIDTH - LABEL - 16).collect();
        let line = format!(
            "\r\x1b[2K  {} {label:<LABEL$}{} {}",
            self.paint(Tone::Accent, frame),
            self.paint(Tone::Dim, &text),
            self.paint(Tone::Dim, &time(elapsed))
        );
        self.write(&line);
        self.drawn.set(true);
    }

    fn line(&self, text: &str) {
        let clear = if self.drawn.replace(false) { "\r\x1b[2K" } else { "" };
        self.write(&format!("{clear}{text}\n"));
    }

    /// A reader such as `| head` may have closed the output, so errors are ignored.
    fn write(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    fn paint(&self, tone: Tone, text: &str) -> String {
        if self.colour { format!("\x1b[{}m{text}\x1b[0m", tone.code()) } else { text.to_owned() }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.drawn.get() {
            self.write("\r\x1b[2K");
        }
    }
}

/// A duration in a readable form.
pub(crate) fn time(took: Duration) -> String {
    match took.as_millis() {
        0..1000 => format!("{} ms", took.as_millis()),
        1000..120_000 => format!("{:.1} s", took.as_secs_f64()),
        120_000.. => format!("{}:{:02} min", took.as_secs() / 60, took.as_secs() % 60),
    }
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut().filter(|line| line.chars().count() + 1 + word.chars().count() <= width) {
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_printed_in_the_unit_that_fits() {
        for (ms, expected) in [(0, "0 ms"), (999, "999 ms"), (1000, "1.0 s"), (61_500, "61.5 s"), (125_000, "2:05 min")]
        {
            assert_eq!(time(Duration::from_millis(ms)), expected);
        }
    }

    #[test]
    fn long_words_are_never_cut_and_short_ones_share_a_line() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("incomprehensible no", 5), ["incomprehensible", "no"]);
    }
}
