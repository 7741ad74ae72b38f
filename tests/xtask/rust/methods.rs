//! Methods that are defined in another file than their type. Their callers depend on that file, although no import
//! shows it.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};

use super::modules::{Module, Program, is_test_only};
use super::names::Name;
use super::resolve::Target;

impl Program {
    /// Each method of an inherent `impl` in another file than its type, with the module of the `impl`. Only names that
    /// a package uses for a single function are included, because the type of a receiver is unknown.
    #[must_use]
    pub fn methods_apart(&self, package: &str) -> BTreeMap<String, usize> {
        let (mut apart, mut count) = (BTreeMap::new(), BTreeMap::<String, usize>::new());
        for (at, module) in self.package(package) {
            let mut functions = Functions::default();
            module.items.iter().for_each(|item| functions.visit_item(item));
            for name in functions.defined {
                *count.entry(name).or_default() += 1;
            }
            for item in &module.items {
                let syn::Item::Impl(block) = item else { continue };
                let is_apart = || match self.resolve(at, &type_name(&block.self_ty)?)? {
                    Target::Item { module: of, .. } => Some(self.modules[of].file != module.file),
                    Target::Module(_) | Target::External(_) => None,
                };
                if block.trait_.is_none() && is_apart() == Some(true) {
                    apart.extend(block.items.iter().filter_map(method).map(|name| (name, at)));
                }
            }
        }
        apart.retain(|name, _| count.get(name) == Some(&1));
        apart
    }
}

impl Module {
    /// The methods that a module calls.
    #[must_use]
    pub fn methods_called(&self) -> BTreeSet<String> {
        let mut functions = Functions::default();
        self.items.iter().for_each(|item| functions.visit_item(item));
        functions.called
    }
}

fn type_name(ty: &syn::Type) -> Option<Name> {
    let syn::Type::Path(path) = ty else { return None };
    let segments = path.path.segments.iter().map(|s| s.ident.to_string()).collect();
    Some(Name { segments, is_global: path.path.leading_colon.is_some() })
}

fn method(item: &syn::ImplItem) -> Option<String> {
    match item {
        syn::ImplItem::Fn(method) => Some(method.sig.ident.to_string()),
        _ => None,
    }
}

/// The functions that some items define, and the methods that they call.
#[derive(Default)]
struct Functions {
    defined: Vec<String>,
    called: BTreeSet<String>,
}

impl<'a> Visit<'a> for Functions {
    fn visit_item(&mut self, item: &'a syn::Item) {
        if !is_test_only(item) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, _: &'a syn::ItemMod) {}

    fn visit_signature(&mut self, signature: &'a syn::Signature) {
        self.defined.push(signature.ident.to_string());
        visit::visit_signature(self, signature);
    }

    fn visit_expr_method_call(&mut self, call: &'a syn::ExprMethodCall) {
        self.called.insert(call.method.to_string());
        visit::visit_expr_method_call(self, call);
    }
}
