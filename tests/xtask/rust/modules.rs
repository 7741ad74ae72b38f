//! The modules of a crate. They are found from the root file through `mod`, as in the compiler, without code that only
//! tests compile.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use super::names::Name;
use crate::packages::Package;
use crate::tree::Tree;

/// The crates of a workspace with their modules.
#[derive(Debug, Default)]
pub struct Program {
    /// All modules of all crates.
    pub modules: Vec<Module>,
    /// The library roots, by the name that code uses for the crate.
    pub(super) libraries: BTreeMap<String, usize>,
}

/// A module: a file, or a part of a file.
#[derive(Debug)]
pub struct Module {
    /// The name of its package.
    pub package: String,
    /// The file of the module.
    pub file: String,
    /// The items of the module, except for those that only tests compile.
    pub items: Vec<syn::Item>,
    /// The imports of the module.
    pub imports: Vec<Import>,
    pub(super) parent: Option<usize>,
    pub(super) root: usize,
    pub(super) children: BTreeMap<String, usize>,
    pub(super) defined: Vec<String>,
}

/// One name that a `use` imports.
#[derive(Clone, Debug)]
pub struct Import {
    /// The imported name. For a `*`, it is the path before the `*`.
    pub name: Name,
    /// The name in this module, or `None` for `*`.
    pub alias: Option<String>,
    /// Whether it is re-exported (`pub use`).
    pub is_reexport: bool,
}

impl Program {
    /// Reads the libraries, programs and build scripts of some packages.
    ///
    /// # Errors
    /// Returns an error if a file is missing or is not valid Rust.
    pub fn read(tree: &Tree, packages: &[Package]) -> Result<Self> {
        let mut program = Self::default();
        for package in packages {
            for root in &package.roots {
                let reader = Reader { tree, package: &package.name };
                let at = program.modules.len();
                let folder = parent(root);
                reader.file(&mut program, root, folder, None)?;
                if !root.ends_with("build.rs") && !root.ends_with("main.rs") {
                    program.libraries.insert(package.name.replace('-', "_"), at);
                }
            }
        }
        Ok(program)
    }

    /// The modules of a package.
    pub fn package<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (usize, &'a Module)> {
        self.modules.iter().enumerate().filter(move |(_, m)| m.package == name)
    }
}

struct Reader<'a> {
    tree: &'a Tree,
    package: &'a str,
}

impl Reader<'_> {
    /// Reads the module of a whole file. `folder` contains the files of its children.
    fn file(&self, program: &mut Program, file: &str, folder: &str, parent: Option<usize>) -> Result<usize> {
        let text = self.tree.required(file)?;
        let syntax = syn::parse_file(text).with_context(|| file.to_owned())?;
        self.module(program, file, folder, parent, syntax.items)
    }

    fn module(
        &self,
        program: &mut Program,
        file: &str,
        folder: &str,
        parent: Option<usize>,
        items: Vec<syn::Item>,
    ) -> Result<usize> {
        let at = program.modules.len();
        let items: Vec<syn::Item> = items.into_iter().filter(|item| !is_test_only(item)).collect();
        program.modules.push(Module {
            package: self.package.to_owned(),
            file: file.to_owned(),
            imports: imports(&items),
            defined: items.iter().flat_map(defined).collect(),
            items: Vec::new(),
            parent,
            root: parent.map_or(at, |p| program.modules[p].root),
            children: BTreeMap::new(),
        });
        for item in &items {
            let syn::Item::Mod(module) = item else { continue };
            let name = module.ident.to_string();
            let child = match &module.content {
                Some((_, inner)) => self.module(program, file, &format!("{folder}/{name}"), Some(at), inner.clone())?,
                None => {
                    let (child, folder) = self.child_file(file, folder, &name, path_attribute(module));
                    self.file(program, &child, &folder, Some(at))?
                }
            };
            program.modules[at].children.insert(name, child);
        }
        program.modules[at].items = items;
        Ok(at)
    }

    /// The file of `mod name;`, and the folder of that module's own children.
    fn child_file(&self, file: &str, folder: &str, name: &str, path: Option<String>) -> (String, String) {
        if let Some(path) = path {
            let child = join(parent(file), &path);
            let folder = parent(&child).to_owned();
            return (child, folder);
        }
        let flat = join(folder, &format!("{name}.rs"));
        let below = join(folder, name);
        if self.tree.text(&flat).is_some() { (flat, below) } else { (join(&below, "mod.rs"), below) }
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn join(folder: &str, name: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|p| !p.is_empty()).collect();
    for part in name.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn path_attribute(module: &syn::ItemMod) -> Option<String> {
    module.attrs.iter().filter(|a| a.path().is_ident("path")).find_map(|attribute| match &attribute.meta {
        syn::Meta::NameValue(syn::MetaNameValue {
            value: syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }),
            ..
        }) => Some(text.value()),
        _ => None,
    })
}

/// Whether only tests compile an item: `#[cfg(test)]` or `#[test]`.
#[must_use]
pub fn is_test_only(item: &syn::Item) -> bool {
    attributes(item).iter().any(|attribute| {
        let tokens = attribute.meta.require_list().map(|list| words(&list.tokens)).unwrap_or_default();
        let has = |word: &str| tokens.iter().any(|t| t == word);
        (attribute.path().is_ident("cfg") && has("test") && !has("not") && !has("any"))
            || attribute.path().segments.last().is_some_and(|s| s.ident == "test")
    })
}

fn words(tokens: &TokenStream) -> Vec<String> {
    let word = |token: TokenTree| match token {
        TokenTree::Ident(ident) => vec![ident.to_string()],
        TokenTree::Group(group) => words(&group.stream()),
        TokenTree::Punct(_) | TokenTree::Literal(_) => Vec::new(),
    };
    tokens.clone().into_iter().flat_map(word).collect()
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(i) => &i.attrs,
        syn::Item::Enum(i) => &i.attrs,
        syn::Item::ExternCrate(i) => &i.attrs,
        syn::Item::Fn(i) => &i.attrs,
        syn::Item::Impl(i) => &i.attrs,
        syn::Item::Macro(i) => &i.attrs,
        syn::Item::Mod(i) => &i.attrs,
        syn::Item::Static(i) => &i.attrs,
        syn::Item::Struct(i) => &i.attrs,
        syn::Item::Trait(i) => &i.attrs,
        syn::Item::Type(i) => &i.attrs,
        syn::Item::Union(i) => &i.attrs,
        syn::Item::Use(i) => &i.attrs,
        _ => &[],
    }
}

/// The names that an item defines in its module, except for modules and imports.
fn defined(item: &syn::Item) -> Vec<String> {
    match item {
        syn::Item::Const(i) => vec![i.ident.to_string()],
        syn::Item::Enum(i) => vec![i.ident.to_string()],
        syn::Item::Fn(i) => vec![i.sig.ident.to_string()],
        syn::Item::Static(i) => vec![i.ident.to_string()],
        syn::Item::Struct(i) => vec![i.ident.to_string()],
        syn::Item::Trait(i) => vec![i.ident.to_string()],
        syn::Item::Type(i) => vec![i.ident.to_string()],
        syn::Item::Union(i) => vec![i.ident.to_string()],
        syn::Item::Macro(i) => match &i.ident {
            Some(name) => vec![name.to_string()],
            None => defined_by_macro(&i.mac.tokens),
        },
        _ => Vec::new(),
    }
}

/// The names that a macro call seems to define: each name after a word such as `struct`.
fn defined_by_macro(tokens: &TokenStream) -> Vec<String> {
    const WORDS: [&str; 7] = ["const", "enum", "fn", "static", "struct", "trait", "type"];
    let words = words(tokens);
    words.windows(2).filter(|pair| WORDS.contains(&pair[0].as_str())).map(|pair| pair[1].clone()).collect()
}

/// All imports in some items, including those inside functions.
fn imports(items: &[syn::Item]) -> Vec<Import> {
    #[derive(Default)]
    struct Imports(Vec<Import>);
    impl<'a> Visit<'a> for Imports {
        fn visit_item(&mut self, item: &'a syn::Item) {
            if !is_test_only(item) {
                visit::visit_item(self, item);
            }
        }

        fn visit_item_mod(&mut self, _: &'a syn::ItemMod) {}

        fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
            let name = Name { segments: Vec::new(), is_global: item.leading_colon.is_some() };
            flatten(&item.tree, &name, !matches!(item.vis, syn::Visibility::Inherited), &mut self.0);
        }
    }
    let mut found = Imports::default();
    items.iter().for_each(|item| found.visit_item(item));
    found.0
}

/// Expands the braces of a `use`.
pub fn flatten(tree: &syn::UseTree, before: &Name, is_reexport: bool, found: &mut Vec<Import>) {
    let with = |ident: &syn::Ident| {
        let mut name = before.clone();
        // `self` in braces refers to the path before the braces.
        if ident != "self" || name.segments.is_empty() {
            name.segments.push(ident.to_string());
        }
        name
    };
    match tree {
        syn::UseTree::Path(path) => flatten(&path.tree, &with(&path.ident), is_reexport, found),
        syn::UseTree::Name(leaf) => {
            let name = with(&leaf.ident);
            let alias = name.segments.last().cloned();
            found.push(Import { name, alias, is_reexport });
        }
        syn::UseTree::Rename(leaf) => {
            found.push(Import { name: with(&leaf.ident), alias: Some(leaf.rename.to_string()), is_reexport });
        }
        syn::UseTree::Glob(_) => found.push(Import { name: before.clone(), alias: None, is_reexport }),
        syn::UseTree::Group(group) => group.items.iter().for_each(|t| flatten(t, before, is_reexport, found)),
    }
}
