//! Checks of the documents: links lead to existing files, and named tests exist.

use std::fs;
use std::path::{Path, PathBuf};

use paddock_cluster::WORKSPACE;

fn documents() -> Vec<(PathBuf, String)> {
    let root = Path::new(WORKSPACE);
    let folders = [root.to_owned(), root.join("docs")];
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    files.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The texts between each pair of `open` and `close`.
fn between<'a>(text: &'a str, open: &'a str, close: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(open).skip(1).filter_map(move |rest| rest.split_once(close).map(|(inside, _)| inside))
}

/// The anchor of a heading: lower case, with dashes for spaces, and only letters and digits.
fn anchor(heading: &str) -> String {
    let detached = heading.trim().chars().filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-');
    detached.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let mut broken = Vec::new();
    for (path, text) in documents() {
        for link in between(&text, "](", ")").filter(|link| !link.starts_with("http")) {
            let (file, heading) = link.split_once('#').map_or((link, None), |(file, heading)| (file, Some(heading)));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let there = match heading {
                None => target.exists(),
                Some(wanted) => fs::read_to_string(&target).is_ok_and(|text| {
                    text.lines()
                        .filter(|line| line.starts_with('#'))
                        .any(|line| anchor(line.trim_start_matches('#')) == wanted)
                }),
            };
            if !there {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_test_that_an_invariant_names_exists() {
    let architecture = fs::read_to_string(Path::new(WORKSPACE).join("ARCHITECTURE.md")).unwrap();
    let rows = architecture.lines().filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit());
    let checks = rows.filter_map(|row| row.trim_end_matches('|').rsplit_once('|')).map(|(_, checks)| checks);
    // The name of a test has several words. Shorter words in code are types and files.
    let named: Vec<&str> = checks
        .flat_map(|checks| checks.split('`').skip(1).step_by(2))
        .filter(|word| word.matches('_').count() > 1 && !word.contains(['/', ':']))
        .collect();
    assert!(named.len() > 20, "the invariants name {} tests: is the table still read?", named.len());
    let sources = sources();
    let missing: Vec<&&str> = named
        .iter()
        .filter(|name| {
            let (function, path) = (format!("fn {name}("), format!("::{name}\""));
            !sources.iter().any(|(file, text)| file == *name || text.contains(&function) || text.contains(&path))
        })
        .collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md names tests that do not exist: {missing:#?}");
}

/// The text of every Rust file under `src` and `tests`, and every scenario by its name.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(WORKSPACE).join("src"), Path::new(WORKSPACE).join("tests")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            match path.extension().and_then(|extension| extension.to_str()) {
                _ if path.is_dir() => folders.push(path),
                Some("rs") => found.push((String::new(), fs::read_to_string(path).unwrap())),
                Some("yaml") => found.push((stem, String::new())),
                Some(_) | None => {}
            }
        }
    }
    found
}
