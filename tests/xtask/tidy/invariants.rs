//! Checks the names in ARCHITECTURE.md beside its invariants: each is a test, a scenario, or a check of this crate.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use crate::project::Project;
use crate::tree::Tree;

/// If there are fewer names, the table was not found.
const FEWEST: usize = 40;

pub(super) fn check(project: &Project) -> Result<Vec<String>> {
    let there = known(&project.tree)?;
    let named = named(project.tree.required("ARCHITECTURE.md")?);
    let mut faults: Vec<String> = named
        .iter()
        .filter(|name| !there.contains(*name))
        .map(|name| format!("ARCHITECTURE.md: there is no test {name}"))
        .collect();
    if named.len() < FEWEST {
        faults.push(format!("only {} checks were found in ARCHITECTURE.md", named.len()));
    }
    Ok(faults)
}

/// The words in the last column of numbered rows that look like names of tests.
fn named(text: &str) -> Vec<String> {
    let is_name = |t: &&str| {
        t.matches('_').count() > 1 && t.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let rows =
        text.lines().filter(|l| l.strip_prefix("| ").is_some_and(|l| l.starts_with(|c: char| c.is_ascii_digit())));
    let checks = rows.map(|row| row.rsplit('|').nth(1).unwrap_or_default());
    checks.flat_map(|checks| checks.split('`').skip(1).step_by(2).filter(is_name)).map(str::to_owned).collect()
}

/// The last part of the name of every test, scenario and tidy check.
fn known(tree: &Tree) -> Result<BTreeSet<String>> {
    let mut tests = Tests::default();
    for (path, text) in tree.with_extension(&["rs"]) {
        tests.own_harness = path.starts_with("tests/");
        tests.visit_file(&syn::parse_file(text).with_context(|| path.to_owned())?);
    }
    let scenarios =
        tree.below("tests/scenarios").filter_map(|(path, _)| path.strip_suffix(".plan")?.rsplit('/').next());
    tests.found.extend(scenarios.map(str::to_owned));
    tests.found.extend(super::CHECKS.iter().map(|check| check.name.to_owned()));
    Ok(tests.found)
}

/// Functions that are tests: by their attribute, or, in tests/, by a list of the harness or as `test("path::name", …)`.
#[derive(Default)]
struct Tests {
    found: BTreeSet<String>,
    own_harness: bool,
}

impl<'a> Visit<'a> for Tests {
    fn visit_item_fn(&mut self, function: &'a syn::ItemFn) {
        let is_test = |a: &syn::Attribute| a.path().segments.last().is_some_and(|s| s.ident == "test");
        if function.attrs.iter().any(is_test) {
            self.found.insert(function.sig.ident.to_string());
        }
        visit::visit_item_fn(self, function);
    }

    fn visit_expr_call(&mut self, call: &'a syn::ExprCall) {
        let is_test =
            matches!(&*call.func, syn::Expr::Path(p) if p.path.segments.last().is_some_and(|s| s.ident == "test"));
        if let (true, Some(syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(name), .. }))) =
            (is_test, call.args.first())
        {
            self.found.extend(name.value().rsplit("::").next().map(str::to_owned));
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_macro(&mut self, call: &'a syn::Macro) {
        if self.own_harness {
            self.found.extend(listed(&call.tokens));
        }
    }
}

/// The names in `tests![first, second]` and in `proptest! { #[test] fn third() {} }`.
fn listed(tokens: &TokenStream) -> Vec<String> {
    let inner = |token: TokenTree| match token {
        TokenTree::Ident(ident) => vec![ident.to_string()],
        TokenTree::Group(group) => listed(&group.stream()),
        TokenTree::Punct(_) | TokenTree::Literal(_) => Vec::new(),
    };
    tokens.clone().into_iter().flat_map(inner).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_no_test_is_found() {
        let tree: Tree = [
            ("src/a.rs", "#[test] fn by_its_attribute() {} fn not_a_test() {}"),
            ("tests/b.rs", "fn f() { vec![tests![from_a_list]]; test(\"real::by_a_call\", go) }"),
            ("tests/scenarios/c/by_its_plan.plan", ""),
        ]
        .into_iter()
        .collect();
        let known = known(&tree).unwrap();
        let row = "| 1 | A rule. | `by_its_attribute`, `not_a_test`, `from_a_list`; `by_a_call`, `by_its_plan`, `Type` |\n| a | `b_c_d` |";
        let missing: Vec<String> = named(row).into_iter().filter(|name| !known.contains(name)).collect();
        assert_eq!(missing, ["not_a_test"]);
        assert!(known.contains("no_link_in_a_document_is_broken"));
    }
}
