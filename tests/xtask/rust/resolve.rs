//! The item that a name refers to, through imports and re-exports, as far as that is possible without types.

use std::collections::BTreeSet;

use super::modules::Program;
use super::names::Name;

/// The target of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An item of a module in this workspace. The rest of the path (a method or a variant) is omitted.
    Item {
        /// The module that defines the item.
        module: usize,
        /// The name of the item.
        item: String,
    },
    /// A module in this workspace.
    Module(usize),
    /// The whole path of an item in a crate outside this workspace.
    External(Vec<String>),
}

/// The names that are being resolved. A name that occurs again has no target.
type Pending = BTreeSet<(usize, String)>;

impl Program {
    /// The target of a name in a module, or `None` for a variable, a type parameter, or an item that a macro generated.
    #[must_use]
    pub fn resolve(&self, module: usize, name: &Name) -> Option<Target> {
        self.resolve_path(module, &name.segments, name.is_global, &mut Pending::new())
    }

    fn resolve_path(
        &self,
        module: usize,
        segments: &[String],
        is_global: bool,
        pending: &mut Pending,
    ) -> Option<Target> {
        let (first, rest) = segments.split_first()?;
        let start = match first.as_str() {
            "crate" if !is_global => Target::Module(self.modules[module].root),
            "self" if !is_global => Target::Module(module),
            "super" if !is_global => Target::Module(self.modules[module].parent?),
            "Self" => return None,
            _ => {
                let local = if is_global { None } else { self.lookup(module, first, pending) };
                local.or_else(|| self.external(first))?
            }
        };
        self.walk(start, rest, pending)
    }

    fn walk(&self, start: Target, rest: &[String], pending: &mut Pending) -> Option<Target> {
        let Some((first, after)) = rest.split_first() else { return Some(start) };
        match start {
            Target::Module(module) if first == "super" => {
                self.walk(Target::Module(self.modules[module].parent?), after, pending)
            }
            Target::Module(module) => {
                let next = self.lookup(module, first, pending)?;
                self.walk(next, after, pending)
            }
            Target::Item { .. } => Some(start),
            Target::External(mut path) => {
                path.extend(rest.iter().cloned());
                Some(Target::External(path))
            }
        }
    }

    /// The target of a single name in a module.
    fn lookup(&self, at: usize, name: &str, pending: &mut Pending) -> Option<Target> {
        if !pending.insert((at, name.to_owned())) {
            return None;
        }
        let module = &self.modules[at];
        let found = if module.defined.iter().any(|defined| defined == name) {
            Some(Target::Item { module: at, item: name.to_owned() })
        } else if let Some(child) = module.children.get(name) {
            Some(Target::Module(*child))
        } else {
            let named = module.imports.iter().filter(|import| import.alias.as_deref() == Some(name));
            let mut found = None;
            for import in named {
                found = found.or_else(|| self.resolve_path(at, &import.name.segments, import.name.is_global, pending));
            }
            found.or_else(|| self.lookup_in_globs(at, name, pending))
        };
        pending.remove(&(at, name.to_owned()));
        found
    }

    fn lookup_in_globs(&self, at: usize, name: &str, pending: &mut Pending) -> Option<Target> {
        let globs = self.modules[at].imports.iter().filter(|import| import.alias.is_none());
        for glob in globs {
            if let Some(Target::Module(from)) = self.resolve_path(at, &glob.name.segments, glob.name.is_global, pending)
                && let Some(found) = self.lookup(from, name, pending)
            {
                return Some(found);
            }
        }
        None
    }

    /// The target of a crate's name. The existence of the crate is not checked: a lower-case word without another
    /// target counts as a crate.
    fn external(&self, name: &str) -> Option<Target> {
        if let Some(root) = self.libraries.get(name) {
            return Some(Target::Module(*root));
        }
        let is_crate = name.starts_with(|c: char| c.is_ascii_lowercase());
        is_crate.then(|| Target::External(vec![name.to_owned()]))
    }
}
