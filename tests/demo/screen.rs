//! What a person sees: chapters, steps with the time they took, facts. Colours and a moving line on a
//! terminal; plain lines elsewhere, and where NO_COLOR is set.

use std::cell::{Cell, RefCell};
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use paddock_cluster::DetachedCluster;

/// Where the time of a step ends.
const WIDTH: usize = 96;
/// Room for a label.
const LABEL: usize = 20;
/// How often the moving line moves.
const FRAME: Duration = Duration::from_millis(90);
const FRAMES: [&str; 8] = ["⠋", "⠙", "⠸", "⠴", "⠦", "⠧", "⠇", "⠏"];
/// How often something that takes long says so where nothing can move.
const REPORT_EVERY: Duration = Duration::from_secs(15);
/// Lines of the operator's log that are shown with a failure.
const LOG_LINES: usize = 25;

/// The person's terminal, or whatever standard output is.
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
    /// SGR codes that every terminal since the VT100's successors knows.
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
    /// Looks at standard output and the environment once.
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

    /// The first lines.
    pub(crate) fn title(&self, name: &str, what: &str) {
        self.line(&format!("\n  {}  {}", self.paint(Tone::Accent, name), self.paint(Tone::Dim, what)));
    }

    /// Begins a part of the story.
    pub(crate) fn chapter(&self, title: &str) {
        self.line(&format!("\n  {}", self.paint(Tone::Bold, title)));
    }

    /// Does something, shows that it is under way, and then what came of it and how long it took. The work
    /// gives its result and a sentence about it.
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

    /// The same for work that writes to the terminal itself: nothing moves, and what it does is said first.
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

    /// What the step under way is at.
    pub(crate) fn say(&self, doing: &str) {
        doing.clone_into(&mut self.saying.borrow_mut());
    }

    /// Something about the last step.
    pub(crate) fn fact(&self, label: &str, value: &str) {
        let label = format!("{label:<width$}", width = LABEL - 2);
        self.line(&format!("      {}{value}", self.paint(Tone::Dim, &label)));
    }

    /// Somebody's words.
    pub(crate) fn quote(&self, words: &str) {
        for line in wrapped(words, WIDTH - 8) {
            self.line(&format!("      {} {line}", self.paint(Tone::Accent, "│")));
        }
    }

    /// A remark.
    pub(crate) fn remark(&self, words: &str) {
        for line in wrapped(words, WIDTH - 4) {
            self.line(&format!("    {}", self.paint(Tone::Dim, &line)));
        }
    }

    /// Why it ended early, with the end of the operator's log.
    pub(crate) fn failure(&self, error: &anyhow::Error, log: &Path) {
        self.line(&format!("\n  {} {error:#}", self.paint(Tone::Bad, "failed:")));
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        if lines.is_empty() {
            return;
        }
        self.line(&format!("\n  {}", self.paint(Tone::Bold, "The end of the operator's log:")));
        for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
            self.line(&format!("    {line}"));
        }
    }

    /// How to use a cluster that was left running, how to end it, and where the operator's things are. Where there is no
    /// kubectl on PATH, ours is named.
    pub(crate) fn detached(&self, detached: &DetachedCluster, kubectl: Option<&Path>, operator: &[(&str, String)]) {
        self.chapter("Left running");
        self.line(&format!("    export KUBECONFIG={}", detached.kubeconfig().display()));
        if let Some(kubectl) = kubectl {
            self.line(&format!("    alias kubectl={}", kubectl.display()));
        }
        self.line("    kubectl -n agents get sandboxes,sandboxclaims,sandboxwarmpools");
        self.line("    cargo demo --down    # takes everything away, all demos that were kept\n");
        for (what, place) in operator {
            self.line(&format!("    {what:<LABEL$}{place}"));
        }
        self.line("");
    }

    /// The last line.
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

    /// A reader that has gone (`| head`) has seen enough.
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

/// A time as a person reads it.
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
    fn times_are_told_in_the_unit_that_fits() {
        for (ms, told) in [(0, "0 ms"), (999, "999 ms"), (1000, "1.0 s"), (61_500, "61.5 s"), (125_000, "2:05 min")] {
            assert_eq!(time(Duration::from_millis(ms)), told);
        }
    }

    #[test]
    fn long_words_are_never_cut_and_short_ones_share_a_line() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("incomprehensible no", 5), ["incomprehensible", "no"]);
    }
}
