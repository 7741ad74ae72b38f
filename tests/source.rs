//! Rust sources, read just far enough to say what holds of them: without comments, text and tests.

use std::fs;
use std::path::{Path, PathBuf};

/// Every Rust file in a folder.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>, std::io::Error> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The code of a file, without comments and without what stands between quotes.
pub(crate) fn code(text: &str) -> String {
    // How each begins and ends; the first that fits, so the longer ones first.
    const SKIPPED: [(&str, &str); 6] =
        [("//", "\n"), ("/*", "*/"), ("'\"'", ""), ("'\\\"'", ""), ("r#\"", "\"#"), ("\"", "\"")];
    let (mut code, mut rest) = (String::new(), text);
    while let Some(c) = rest.chars().next() {
        let Some((begin, end)) = SKIPPED.iter().find(|(begin, _)| rest.starts_with(begin)) else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        rest = &rest[begin.len()..];
        // An escaped quote ends no string.
        while *begin == "\"" && rest.find(['\\', '"']).is_some_and(|at| rest[at..].starts_with('\\')) {
            let at = rest.find('\\').unwrap_or(0);
            rest = rest.get(at + 2..).unwrap_or_default();
        }
        rest = rest.split_once(end).map_or("", |(_, behind)| behind);
        code.push('\n');
    }
    code
}

/// The code before a file's tests, which come last where they are not in a file of their own.
pub(crate) fn without_tests(code: &str) -> &str {
    const HEAD: &str = "#[cfg(test)]\nmod ";
    let inline = |tests: &str| tests.find([';', '{']).is_some_and(|at| tests[at..].starts_with('{'));
    let mut found = code.match_indices(HEAD).map(|(at, _)| at);
    found.find(|at| inline(&code[at + HEAD.len()..])).map_or(code, |at| &code[..at])
}

/// The words of some code: names, keywords, numbers.
pub(crate) fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty())
}

/// What stands between the braces that follow a piece of code.
pub(crate) fn body<'a>(code: &'a str, head: &str) -> Option<&'a str> {
    let behind = code.split_once(head)?.1;
    let behind = &behind[behind.find('{')? + 1..];
    let mut depth = 1;
    for (at, c) in behind.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&behind[..at]);
        }
    }
    None
}
