//! Manifests as files: documents, lines, lists, folders, and what cannot be read.

use super::*;

/// The documents of a file with this name and content, or the error.
fn read_file(name: &str, content: &[u8]) -> Result<Manifests, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    let read = read::manifests(&[path], std::io::empty());
    read.map_err(|error| format!("{error:#}").replace(&folder.path().display().to_string(), ""))
}

fn places(read: &Manifests) -> Vec<(String, usize, usize)> {
    let place = |item: &Item| item.place.clone().unwrap();
    read.items.iter().map(|item| (item.name(), place(item).document, place(item).line)).collect()
}

fn named(names: &[(&str, usize, usize)]) -> Vec<(String, usize, usize)> {
    names.iter().map(|(name, document, line)| ((*name).to_owned(), *document, *line)).collect()
}

#[test]
fn documents_have_numbers_and_lines() {
    let a = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n";
    let b = "apiVersion: v1\nkind: Pod\nmetadata: {name: b}\n";
    for (text, expected) in [
        (format!("{a}---\n{b}"), [("a", 1, 1), ("b", 2, 5)]),
        (format!("---\n# a comment\n\n{a}---\n---\n\n--- # another\n{b}...\n"), [("a", 1, 4), ("b", 2, 11)]),
        (
            format!("\u{feff}%YAML 1.2\n---\n{a}\n--- {{apiVersion: v1, kind: Pod, metadata: {{name: b}}}}"),
            [("a", 1, 3), ("b", 2, 7)],
        ),
        (
            format!("{a}data: |\n  --- no marker\n  a ---\n---\r\n{}", b.replace('\n', "\r\n")),
            [("a", 1, 1), ("b", 2, 8)],
        ),
    ] {
        let read = read_file("a.yaml", text.as_bytes()).unwrap();
        assert_eq!(places(&read), named(&expected), "{text}");
    }
    let json = "\n{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\n\"metadata\":{\"name\":\"a\"}}\n\n {\"apiVersion\":\"v1\",\"kind\":\"Pod\"}";
    for file in ["a.json", "a.yaml"] {
        assert_eq!(places(&read_file(file, json.as_bytes()).unwrap()), named(&[("a", 1, 2), ("(no name)", 2, 5)]));
    }
}

#[test]
fn lists_are_read_item_by_item() {
    let list = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: a}}\n\
                - {apiVersion: v1, kind: PodList, items: [{apiVersion: v1, kind: Pod, metadata: {generateName: b-}}]}\n";
    let read = read_file("a.yml", list.as_bytes()).unwrap();
    assert_eq!(places(&read), named(&[("a", 1, 1), ("b-*", 1, 1)]));
}

#[test]
fn labels_without_quotes_and_merged_fields_are_read() {
    let text = "apiVersion: v1\nkind: Pod\nx-labels: &l {policy.paddock.dev/generated-code: true}\n\
                metadata: {name: a, labels: {<<: *l}}\nspec: {hostPID: yes}\n";
    let read = read_file("a.yaml", text.as_bytes()).unwrap();
    let settings = Settings::default();
    let facts = Facts::of(&read.items, Source::Manifests, DEFAULT_NAMESPACE, &settings);
    let report = super::super::rules::judge(&read.items, &facts, None, &settings);
    let found = found(&report);
    assert!(
        found.contains(&("host-access", "spec.hostPID")) && found.contains(&("runtime-class", "spec.runtimeClassName"))
    );
}

#[test]
fn error_names_the_file_the_document_and_the_line() {
    let good = "apiVersion: v1\nkind: Pod\n---\n";
    for (file, content, expected) in [
        ("a.yaml", format!("{good}a: b\nc: [\n---\n"), "/a.yaml: document 2, line "),
        ("a.yaml", format!("{good}# one\n\na: {{{{ .Values.x }}}}\n"), "/a.yaml: document 2, line 6"),
        ("a.yaml", format!("{good}a: 1\na: 2\n"), "/a.yaml: document 2, line "),
        ("a.json", "{\"a\": 1}\n{\"b\": }\n".to_owned(), "/a.json: document 2, line 2"),
        (
            "a.yaml",
            format!("{good}\napiVersion: v1\nkind: List\nitems: 3\n"),
            "/a.yaml: document 2, line 5: items must be",
        ),
        ("a.yaml", format!("{good}apiVersion: v1\nkind: List\n"), "/a.yaml: document 2, line 4: items must be"),
        ("a.yaml", "a: 1\n".to_owned(), "apiVersion and kind must be set"),
    ] {
        let error = read_file(file, content.as_bytes()).unwrap_err();
        assert!(error.contains(expected), "{content:?}: expected {expected:?}, got {error:?}");
    }
    let error = read_file("a.yaml", b"a: 1\nb: \xff\n").unwrap_err();
    assert!(error.contains("/a.yaml: line 2: must be text in UTF-8"), "{error}");
}

#[test]
fn folder_is_read_to_its_depth_and_must_contain_a_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let pod = |name: &str| format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\n");
    let error = read::manifests(&[folder.path().to_owned()], std::io::empty()).unwrap_err().to_string();
    assert!(error.contains("contains no manifest"), "{error}");
    std::fs::create_dir_all(at("b/.git")).unwrap();
    std::fs::write(at("b/c.yml"), pod("c")).unwrap();
    std::fs::write(at("a.json"), r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}"#).unwrap();
    std::fs::write(at("b/.git/hidden.yaml"), "}").unwrap();
    std::fs::write(at("notes.md"), "}").unwrap();
    std::fs::write(at("values.yaml"), "replicas: 1\n").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(folder.path(), at("b/loop")).unwrap();
    let read = read::manifests(&[folder.path().to_owned(), "-".into()], pod("d").as_bytes());
    let read = read.unwrap();
    assert_eq!(read.items.iter().map(Item::name).collect::<Vec<_>>(), ["a", "c", "d"]);
    assert!(read.notes.len() == 1 && read.notes[0].contains("values.yaml: document 1, line 1"), "{:?}", read.notes);
    let twice = read::manifests(&["-".into(), "-".into()], std::io::empty()).unwrap_err().to_string();
    assert!(twice.contains("can be read once"), "{twice}");
}
