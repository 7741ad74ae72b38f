//! The names that a piece of code uses: paths in code, and sequences of identifiers in the tokens of macro calls.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use super::modules::is_test_only;

/// A path in the source, without generic arguments.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The segments of the path.
    pub segments: Vec<String>,
    /// Whether the path begins with `::`, so that it names an external crate.
    pub is_global: bool,
}

/// All names in some items, except for names in items that only tests compile, in nested modules and in attributes.
#[must_use]
pub fn names_in<'a>(items: impl IntoIterator<Item = &'a syn::Item>) -> BTreeSet<Name> {
    let mut collector = Collector::default();
    for item in items {
        collector.visit_item(item);
    }
    let Collector { mut found, bound } = collector;
    // A variable has this name too. The code may mean either, and a function rarely has the name of a variable.
    found.retain(|name| name.segments.len() > 1 || !bound.contains(&name.segments[0]));
    found
}

#[derive(Default)]
struct Collector {
    found: BTreeSet<Name>,
    bound: BTreeSet<String>,
}

impl<'a> Visit<'a> for Collector {
    fn visit_item(&mut self, item: &'a syn::Item) {
        if !is_test_only(item) {
            visit::visit_item(self, item);
        }
    }

    // A nested module has its own names.
    fn visit_item_mod(&mut self, _: &'a syn::ItemMod) {}

    fn visit_attribute(&mut self, _: &'a syn::Attribute) {}

    fn visit_pat_ident(&mut self, pattern: &'a syn::PatIdent) {
        self.bound.insert(pattern.ident.to_string());
        visit::visit_pat_ident(self, pattern);
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let segments = path.segments.iter().map(|s| s.ident.to_string()).collect();
        self.found.insert(Name { segments, is_global: path.leading_colon.is_some() });
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'a syn::Macro) {
        self.visit_path(&call.path);
        names_in_tokens(&call.tokens, &mut self.found);
    }
}

/// Adds the sequences `a::b::c` in tokens.
fn names_in_tokens(tokens: &TokenStream, found: &mut BTreeSet<Name>) {
    let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
    let is_punct = |at: usize, c: char| matches!(tokens.get(at), Some(TokenTree::Punct(p)) if p.as_char() == c);
    let is_separator = |at: usize| is_punct(at, ':') && is_punct(at + 1, ':');
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Group(group) => names_in_tokens(&group.stream(), found),
            TokenTree::Ident(first) => {
                let is_global = at >= 2 && is_separator(at - 2);
                let is_member = at >= 1 && is_punct(at - 1, '.');
                let mut segments = vec![first.to_string()];
                while let (true, Some(TokenTree::Ident(next))) = (is_separator(at + 1), tokens.get(at + 3)) {
                    segments.push(next.to_string());
                    at += 3;
                }
                if !is_member {
                    found.insert(Name { segments, is_global });
                }
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
        at += 1;
    }
}
