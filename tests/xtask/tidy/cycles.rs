//! Files that import each other in a cycle can only be understood together. This check allows no cycle.
//!
//! An import is a `use`, or a path in code, that refers to an item which another file of the same crate defines.
//! Re-exports are resolved, so `crate::Plan` is an import of the file that defines `Plan`. `mod` and `pub use` are not
//! imports. A call of a method that is defined in another file than its type is an import of that file.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anyhow::Result;
use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;

use crate::project::Project;
use crate::rust::{Name, Program, Target, names_in};

/// The imports between files, with the imported names.
type Imports<'a> = BTreeMap<(&'a str, &'a str), BTreeSet<String>>;

pub(super) fn check(project: &Project) -> Result<Vec<String>> {
    Ok(cycles(&project.program))
}

fn cycles(program: &Program) -> Vec<String> {
    let imports = imports(program);
    let graph = DiGraphMap::<&str, ()>::from_edges(imports.keys().copied());
    let components = tarjan_scc(&graph).into_iter().filter(|component: &Vec<&str>| component.len() > 1);
    let mut found: Vec<String> = components.filter_map(|component: Vec<&str>| shortest(&imports, &component)).collect();
    found.sort();
    found
}

fn imports(program: &Program) -> Imports<'_> {
    let mut imports = Imports::new();
    for (at, module) in program.modules.iter().enumerate() {
        let mut add = |name: &Name| {
            if let Some(Target::Item { module: to, item }) = program.resolve(at, name) {
                let to = &program.modules[to];
                if to.package == module.package && to.file != module.file {
                    imports.entry((module.file.as_str(), to.file.as_str())).or_default().insert(item);
                }
            }
        };
        module.imports.iter().filter(|import| !import.is_reexport && import.alias.is_some()).for_each(|i| add(&i.name));
        names_in(&module.items).iter().for_each(add);
    }
    let packages: BTreeSet<&str> = program.modules.iter().map(|module| module.package.as_str()).collect();
    for package in packages {
        let apart = program.methods_apart(package);
        for (_, module) in program.package(package) {
            let called = module.methods_called().into_iter().filter_map(|name| Some((*apart.get(&name)?, name)));
            for (to, name) in called.filter(|(to, _)| program.modules[*to].file != module.file) {
                let edge = (module.file.as_str(), program.modules[to].file.as_str());
                imports.entry(edge).or_default().insert(format!("{name}()"));
            }
        }
    }
    imports
}

/// The shortest cycle among files that all reach each other, with the names that close it.
fn shortest(imports: &Imports<'_>, component: &[&str]) -> Option<String> {
    let mut members = component.to_vec();
    members.sort_unstable();
    let path = members.iter().filter_map(|start| path_back(imports, component, start)).min_by_key(Vec::len)?;
    let mut text = path[0].to_owned();
    for step in path.windows(2) {
        let names: Vec<&str> = imports[&(step[0], step[1])].iter().map(String::as_str).collect();
        text += &format!("\n  imports {} of {}", names.join(", "), step[1]);
    }
    Some(format!("a cycle of {} files; the shortest path:\n{text}", component.len()))
}

/// The shortest path from a file back to itself.
fn path_back<'a>(imports: &Imports<'a>, component: &[&'a str], start: &'a str) -> Option<Vec<&'a str>> {
    let (mut paths, mut visited) = (VecDeque::from([vec![start]]), BTreeSet::new());
    while let Some(path) = paths.pop_front() {
        let last = *path.last()?;
        let next = imports.keys().filter(|(from, to)| *from == last && component.contains(to));
        for (_, to) in next {
            let longer = [path.as_slice(), &[*to]].concat();
            if *to == start {
                return Some(longer);
            }
            if visited.insert(*to) {
                paths.push_back(longer);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::Package;
    use crate::tree::Tree;

    fn cycles_of(files: &[(&str, &str)]) -> Vec<String> {
        let tree: Tree = files.iter().copied().collect();
        let package = Package {
            name: "a".into(),
            folder: "src/a".into(),
            roots: vec!["src/a/lib.rs".into()],
            ..Package::default()
        };
        cycles(&Program::read(&tree, &[package]).unwrap())
    }

    #[test]
    fn two_files_that_import_each_other_are_a_cycle() {
        let found = cycles_of(&[
            ("src/a/lib.rs", "mod one; mod two;"),
            ("src/a/one.rs", "use crate::two::Two; pub struct One(Two);"),
            ("src/a/two.rs", "pub struct Two; fn f() -> crate::one::One { todo!() }"),
        ]);
        assert_eq!(found.len(), 1);
        assert!(
            found[0].contains("imports Two of src/a/two.rs") && found[0].contains("imports One of src/a/one.rs"),
            "{found:?}"
        );
    }

    #[test]
    fn cycle_through_reexports_and_module_imports_is_found() {
        let found = cycles_of(&[
            ("src/a/lib.rs", "mod one; mod two; pub use two::Two;"),
            ("src/a/one.rs", "use crate::Two; pub fn one() {} pub struct S(Two);"),
            ("src/a/two/mod.rs", "mod inner; pub use inner::*;"),
            ("src/a/two/inner.rs", "use crate::one; pub struct Two; fn f() { assert!(one::one() == ()); }"),
        ]);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("imports one of src/a/one.rs"), "{found:?}");
    }

    #[test]
    fn parent_and_child_that_use_each_other_are_a_cycle() {
        let (parent, child) =
            ("mod child; pub struct P; fn f() { child::run(); }", "use super::*; pub fn run() { let _ = P; }");
        assert_eq!(cycles_of(&[("src/a/lib.rs", parent), ("src/a/child.rs", child)]).len(), 1);
    }

    #[test]
    fn a_method_apart_from_its_type_is_an_import() {
        let found = cycles_of(&[
            ("src/a/lib.rs", "mod object; mod world; mod pod;"),
            ("src/a/object.rs", "pub struct Meta;"),
            (
                "src/a/world.rs",
                "use crate::{object::Meta, pod::Pod}; impl Meta { pub fn in_pool(&self) -> Pod { Pod } }",
            ),
            ("src/a/pod.rs", "use crate::object::Meta; pub struct Pod; fn f(meta: &Meta) { meta.in_pool(); }"),
        ]);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("imports in_pool() of src/a/world.rs"), "{found:?}");
    }

    #[test]
    fn declarations_reexports_and_tests_are_no_cycle() {
        let found = cycles_of(&[
            ("src/a/lib.rs", "mod one; mod two; pub use one::One; pub struct Root;"),
            ("src/a/one.rs", "use super::Root; use crate::two::Two; pub struct One(Root, Two);"),
            ("src/a/two.rs", "pub struct Two; #[cfg(test)] mod tests { use crate::One; }"),
        ]);
        assert!(found.is_empty(), "{found:?}");
    }
}
