//! The results of cases: as text, in the Test Anything Protocol, and in JUnit's XML.

use std::fmt::Write as _;
use std::time::Duration;

use clap::ValueEnum;

/// The format of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Text, for people.
    Text,
    /// The Test Anything Protocol, version 14.
    Tap,
    /// JUnit's XML.
    Junit,
}

/// The cases of one file.
pub(super) struct FileReport {
    pub(super) name: String,
    pub(super) cases: Vec<CaseReport>,
}

/// The result of one case.
pub(super) struct CaseReport {
    pub(super) name: String,
    /// The differences between the expected answer and the actual one. The case passed if there is none.
    pub(super) faults: Vec<String>,
    /// Where the operator does not do exactly what the answer says.
    pub(super) note: Option<String>,
    pub(super) fuel: u64,
    pub(super) took: Duration,
}

/// The number of cases that failed, and of all cases.
pub(super) fn count(files: &[FileReport]) -> (usize, usize) {
    let cases = || files.iter().flat_map(|file| &file.cases);
    (cases().filter(|case| !case.faults.is_empty()).count(), cases().count())
}

impl Format {
    pub(super) fn text(self, files: &[FileReport]) -> String {
        match self {
            Format::Text => text(files),
            Format::Tap => tap(files),
            Format::Junit => junit(files),
        }
    }
}

fn text(files: &[FileReport]) -> String {
    let mut text = String::new();
    for file in files {
        let _ = writeln!(text, "{}", file.name);
        for case in &file.cases {
            let result = if case.faults.is_empty() { "ok  " } else { "FAIL" };
            let _ = writeln!(text, "  {result}  {} ({} units of fuel)", one_line(&case.name), case.fuel);
            for fault in &case.faults {
                let _ = writeln!(text, "          {}", one_line(fault));
            }
            if let Some(note) = &case.note {
                let _ = writeln!(text, "          note: {}", one_line(note));
            }
        }
    }
    let (failed, all) = count(files);
    let _ = writeln!(text, "{all} cases, {failed} failed");
    text
}

fn tap(files: &[FileReport]) -> String {
    let mut text = format!("TAP version 14\n1..{}\n", count(files).1);
    let cases = files.iter().flat_map(|file| file.cases.iter().map(move |case| (file, case)));
    for (number, (file, case)) in (1..).zip(cases) {
        let result = if case.faults.is_empty() { "ok" } else { "not ok" };
        // A number sign would begin a directive.
        let name = one_line(&format!("{}: {}", file.name, case.name)).replace('\\', "\\\\").replace('#', "\\#");
        let _ = writeln!(text, "{result} {number} - {name}");
        if case.faults.is_empty() && case.note.is_none() {
            continue;
        }
        text.push_str("  ---\n");
        if !case.faults.is_empty() {
            text.push_str("  differences:\n");
        }
        for fault in &case.faults {
            let _ = writeln!(text, "    - {}", serde_json::Value::from(one_line(fault)));
        }
        if let Some(note) = &case.note {
            let _ = writeln!(text, "  note: {}", serde_json::Value::from(one_line(note)));
        }
        text.push_str("  ...\n");
    }
    text
}

fn junit(files: &[FileReport]) -> String {
    let (failed, all) = count(files);
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"paddock plugin test\" tests=\"{all}\" \
         failures=\"{failed}\">\n"
    );
    for file in files {
        let name = escaped(&file.name);
        let failed = file.cases.iter().filter(|case| !case.faults.is_empty()).count();
        let _ = writeln!(text, "  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{failed}\">", file.cases.len());
        for case in &file.cases {
            let (case_name, seconds) = (escaped(&case.name), case.took.as_secs_f64());
            let _ = write!(text, "    <testcase name=\"{case_name}\" classname=\"{name}\" time=\"{seconds:.6}\"");
            if case.faults.is_empty() && case.note.is_none() {
                text.push_str("/>\n");
                continue;
            }
            text.push_str(">\n");
            if let Some(first) = case.faults.first() {
                let (first, lines) = (escaped(first), escaped(&case.faults.join("\n")));
                let _ = writeln!(text, "      <failure message=\"{first}\">{lines}</failure>");
            }
            if let Some(note) = &case.note {
                let _ = writeln!(text, "      <system-out>note: {}</system-out>", escaped(note));
            }
            text.push_str("    </testcase>\n");
        }
        text.push_str("  </testsuite>\n");
    }
    text + "</testsuites>\n"
}

/// A text without line breaks and other control characters.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A text in XML. XML cannot express most control characters.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Vec<FileReport> {
        let case = |name: &str, faults: &[&str]| {
            let faults = faults.iter().map(|fault| (*fault).to_owned()).collect();
            CaseReport { name: name.to_owned(), faults, note: None, fuel: 7, took: Duration::from_millis(2) }
        };
        let cases = vec![case("a # b", &[]), case("<c>\u{1b}", &["desired: expected 3, got \"5\"", "x\ny"])];
        vec![FileReport { name: "tests/a.yaml".to_owned(), cases }]
    }

    /// Every format shows the note of a case, whether the case passed or not.
    #[test]
    fn note_is_in_each_format() {
        let mut files = files();
        for case in &mut files[0].cases {
            case.note = Some("keeps <5>\nof 6".to_owned());
        }
        for (format, with, without) in [
            (Format::Text, "\n          note: keeps <5> of 6\n", "note"),
            (Format::Tap, "\n  note: \"keeps <5> of 6\"\n  ...\n", "note"),
            (
                Format::Junit,
                "      <system-out>note: keeps &lt;5&gt;&#10;of 6</system-out>\n    </testcase>\n",
                "system-out",
            ),
        ] {
            let text = format.text(&files);
            assert_eq!(text.matches(with).count(), 2, "{format:?}: {text}");
            assert!(!format.text(&super::tests::files()).contains(without), "{format:?}");
        }
    }

    #[test]
    fn text_names_the_differences() {
        let expected = "tests/a.yaml\n  ok    a # b (7 units of fuel)\n  FAIL  <c>  (7 units of fuel)\n          \
                        desired: expected 3, got \"5\"\n          x y\n2 cases, 1 failed\n";
        assert_eq!(Format::Text.text(&files()), expected);
    }

    #[test]
    fn tap_has_a_plan_and_escapes_names() {
        let expected = "TAP version 14\n1..2\nok 1 - tests/a.yaml: a \\# b\nnot ok 2 - tests/a.yaml: <c> \n  ---\n  \
                        differences:\n    - \"desired: expected 3, got \\\"5\\\"\"\n    - \"x y\"\n  ...\n";
        assert_eq!(Format::Tap.text(&files()), expected);
    }

    #[test]
    fn junit_is_xml_with_every_case() {
        let expected = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"paddock plugin test\" tests=\"2\" \
                        failures=\"1\">\n  <testsuite name=\"tests/a.yaml\" tests=\"2\" failures=\"1\">\n    <testcase \
                        name=\"a # b\" classname=\"tests/a.yaml\" time=\"0.002000\"/>\n    <testcase \
                        name=\"&lt;c&gt;\u{fffd}\" classname=\"tests/a.yaml\" time=\"0.002000\">\n      <failure \
                        message=\"desired: expected 3, got &quot;5&quot;\">desired: expected 3, got \
                        &quot;5&quot;&#10;x&#10;y</failure>\n    </testcase>\n  </testsuite>\n</testsuites>\n";
        assert_eq!(Format::Junit.text(&files()), expected);
    }
}
