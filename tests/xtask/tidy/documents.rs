//! Checks that links in documents lead to existing files and headings, and that the generated document is up to date.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use crate::api_reference;
use crate::project::Project;
use crate::tree::Tree;

pub(super) fn links(project: &Project) -> Result<Vec<String>> {
    Ok(broken(&project.tree))
}

pub(super) fn api_reference(project: &Project) -> Result<Vec<String>> {
    let (expected, found) = (api_reference::generate(&project.tree)?, project.tree.text(api_reference::FILE));
    let is_same = found == Some(expected.as_str());
    Ok((!is_same).then(|| format!("{} is out of date", api_reference::FILE)).into_iter().collect())
}

fn broken(tree: &Tree) -> Vec<String> {
    let headings: BTreeMap<&str, BTreeSet<String>> =
        tree.with_extension(&["md"]).map(|(path, text)| (path, anchors(text))).collect();
    let mut faults = Vec::new();
    for (path, text) in tree.with_extension(&["md"]) {
        for link in destinations(text).iter().filter(|link| !is_elsewhere(link)) {
            let (target, anchor) = link.split_once('#').unwrap_or((link, ""));
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let to = if target.is_empty() { path.to_owned() } else { join(folder, target) };
            if !tree.has(&to) {
                faults.push(format!("{path}: {link}: there is no {to}"));
            } else if !anchor.is_empty() && headings.get(to.as_str()).is_some_and(|known| !known.contains(anchor)) {
                faults.push(format!("{path}: {link}: {to} has no heading #{anchor}"));
            }
        }
    }
    faults
}

fn is_elsewhere(link: &str) -> bool {
    link.contains("://") || link.starts_with("mailto:")
}

/// A path relative to a folder. A path that begins with `/` starts at the root.
fn join(folder: &str, target: &str) -> String {
    let base = if target.starts_with('/') { "" } else { folder };
    let mut parts: Vec<&str> = base.split('/').filter(|p| !p.is_empty()).collect();
    for part in target.split('/').filter(|p| !p.is_empty()) {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn parse(text: &str) -> impl Iterator<Item = Event<'_>> {
    Parser::new_ext(text, Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES)
}

/// The targets of links and images.
fn destinations(text: &str) -> Vec<String> {
    let destination = |event| match event {
        Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => Some(dest_url.into_string()),
        _ => None,
    };
    parse(text).filter_map(destination).collect()
}

/// The anchors of headings on GitHub: lower case, without punctuation, with `-` for spaces, and with a number after a
/// repetition.
fn anchors(text: &str) -> BTreeSet<String> {
    let (mut found, mut heading) = (BTreeSet::new(), None::<String>);
    for event in parse(text) {
        match (event, &mut heading) {
            (Event::Start(Tag::Heading { .. }), _) => heading = Some(String::new()),
            (Event::Text(text) | Event::Code(text), Some(heading)) => heading.push_str(&text),
            (Event::End(TagEnd::Heading(_)), Some(text)) => {
                let kept = text
                    .to_lowercase()
                    .chars()
                    .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
                    .collect::<String>();
                let anchor = kept.replace(' ', "-");
                let again = (1..).map(|n| format!("{anchor}-{n}"));
                let free = [anchor.clone()].into_iter().chain(again).find(|a| !found.contains(a));
                found.extend(free);
                heading = None;
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_missing_targets_are_found() {
        let tree: Tree = [
            ("README.md", "[a](docs/a.md) [b](docs/b.md) [c](docs/a.md#two-words) [d](docs/a.md#none) [e](https://x/y) [f](#here)"),
            ("docs/a.md", "# Two `words`!\n## Two words\n[up](../README.md) [again](#two-words-1) [code](../src)\n\n```\n[no](none.md)\n```"),
            ("src/lib.rs", ""),
        ]
        .into_iter()
        .collect();
        assert_eq!(
            broken(&tree),
            [
                "README.md: docs/b.md: there is no docs/b.md",
                "README.md: docs/a.md#none: docs/a.md has no heading #none",
                "README.md: #here: README.md has no heading #here",
            ]
        );
    }
}
