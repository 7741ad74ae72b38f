//! The rules of a commit message: `area: imperative title`, at most 72 characters, and a body that says why.

/// The maximum length of a title.
const LONGEST: usize = 72;

/// The faults of a message. Lines that begin with `#` are git's, and so are all lines after the scissors of
/// `git commit --verbose`.
#[must_use]
pub fn faults(message: &str) -> Vec<String> {
    let written = message.lines().take_while(|line| !(line.starts_with('#') && line.contains(" >8 ")));
    let mut lines = written.filter(|line| !line.starts_with('#'));
    let title = lines.next().unwrap_or_default().trim_end();
    // Git generates these titles. A rebase melts the last two into the commits that they name.
    if ["Merge ", "Revert \"", "fixup! ", "squash! "].iter().any(|start| title.starts_with(start)) {
        return Vec::new();
    }
    let mut faults = Vec::new();
    let length = title.chars().count();
    if length > LONGEST {
        faults.push(format!("the title has {length} characters, more than {LONGEST}"));
    }
    let is_area = |area: &str| {
        !area.is_empty() && area.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_/.,".contains(c))
    };
    match title.split_once(": ") {
        Some((area, text)) if is_area(area) => faults.extend(imperative(text)),
        Some(_) | None => {
            faults.push("the title is not `area: imperative title`, as in `operator: retry a lost write`".to_owned())
        }
    }
    if title.contains(';') {
        faults.push("the title has a semicolon: it says two things".to_owned());
    }
    if title.ends_with('.') {
        faults.push("the title ends in a period".to_owned());
    }
    match (lines.next(), lines.find(|line| !line.trim().is_empty())) {
        (Some(blank), Some(_)) if blank.trim().is_empty() => {}
        (Some(line), _) if !line.trim().is_empty() => faults.push("no empty line follows the title".to_owned()),
        (_, _) => faults.push("there is no body that says why".to_owned()),
    }
    faults
}

/// A title begins with a verb in the imperative. A program can only check that the title does not begin with an article
/// or another verb form.
fn imperative(text: &str) -> Option<String> {
    const NOT_VERBS: [&str; 14] =
        ["a", "an", "the", "what", "who", "how", "when", "where", "this", "these", "it", "no", "one", "all"];
    let first = text.split_whitespace().next().unwrap_or_default().to_lowercase();
    // Base forms such as "pass", "address" and "focus", "need", "embed" and "feed", and "bring".
    let is_base = |ends: &[&str]| ends.iter().any(|end| first.ends_with(end));
    let other_form = (first.ends_with("ing") && !["bring", "ring", "string", "ping"].contains(&first.as_str()))
        || (first.ends_with("ed") && !is_base(&["eed", "bed", "shed"]))
        || (first.ends_with('s') && !is_base(&["ss", "us", "as"]));
    (first.is_empty() || NOT_VERBS.contains(&first.as_str()) || other_form).then(|| {
        format!("`{first}` is no verb in the imperative: say what the commit does, as in `add`, `move`, `fix`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_messages_pass() {
        for message in [
            "operator: retry a lost write\n\nThe reply may be late.\n",
            "plugin-host,core: pass the limits as data\n\nOne rule.\n# git's comment\n",
            "docs: embed the reference\n# comment\n\nWhy.",
            "Merge branch 'main'\n",
            "Revert \"core: a thing\"\n",
            "fixup! core: add a thing\n",
        ] {
            assert_eq!(faults(message), Vec::<String>::new(), "{message}");
        }
    }

    #[test]
    fn each_fault_is_found() {
        let long = format!("core: add {}\n\nWhy.", "x".repeat(LONGEST));
        for (message, fault) in [
            (long.as_str(), "characters"),
            ("add a thing\n\nWhy.", "area"),
            ("Core: add a thing\n\nWhy.", "area"),
            ("core: add a thing; remove another\n\nWhy.", "semicolon"),
            ("core: add a thing.\n\nWhy.", "period"),
            ("core: add a thing\n", "body"),
            ("core: add a thing\n\n# only git's words\n", "body"),
            ("core: add a thing\n\n# ---- >8 ----\ndiff --git a b\n", "body"),
            ("core: add a thing\nWhy.\n", "empty line"),
            ("core: the thing is added\n\nWhy.", "imperative"),
            ("core: adds a thing\n\nWhy.", "imperative"),
            ("core: added a thing\n\nWhy.", "imperative"),
            ("core: adding a thing\n\nWhy.", "imperative"),
        ] {
            let faults = faults(message);
            assert!(faults.len() == 1 && faults[0].contains(fault), "{message}: {faults:?}");
        }
    }
}
