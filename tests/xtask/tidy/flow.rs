//! The one direction of the data flow: the watch reads, a reconcile decides from the World, and the writer writes. No
//! decision asks the API server.
//!
//! The checks use the names of items, and of files without their folder, so that code can move.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use syn::visit::{self, Visit};

use crate::project::Project;
use crate::rust::{Program, Target, is_test_only, names_in};

/// The crates of the operator's process that could communicate with the API server.
const CRATES: [&str; 2] = ["paddock-operator", "paddock-kube"];

/// The items that name a client of the API server, as `file::item`, each with the reason. No other item has a client.
const CONNECTED: [(&str, &str); 43] = [
    ("watcher::Watch", "the only reader"),
    ("cpu_use::CpuUseLists", "reads the CPU use of pods, which no watch delivers"),
    ("open_connections::ConnectionRounds", "lists the gateways, which a watch would show too late"),
    ("watch::events", "lists and watches one kind, for the only reader"),
    ("watch::selected_events", "lists and watches one kind, for the only reader"),
    ("watch::resource_events", "lists and watches one resource, for the readers"),
    ("watch::count", "counts the objects of one kind, for its list"),
    ("writer::Writer", "the only writer of plans"),
    ("events::EventQueue", "reports to users, beside the reconcile"),
    ("client::client", "makes the clients"),
    ("client::layered", "makes the clients"),
    ("leadership::start_election", "passes one to the election"),
    ("election::Election", "leases"),
    ("unelected::Unelected", "passes one to the leases of all namespaces"),
    ("lease::Lease", "leases"),
    ("elsewhere::Elsewhere", "leases of other namespaces"),
    ("cert_manager::CertManager", "the Secret of the webhook's certificate"),
    ("webhook::Environment", "passes one on to the webhook"),
    ("user::whoami", "asks for the operator's own name"),
    ("user::wait_for_user", "asks for it until there is an answer"),
    ("definitions::Definitions", "reports fields of statuses that the API server drops"),
    ("guard::follow", "reports admission policies that are not in force"),
    ("guard::check", "reads them, beside the reconcile"),
    ("guard::read", "reads one of them"),
    ("calls::Calls", "reads what an operation needs, and creates the Secret of a pod for `deliver`"),
    ("config_sync::WebhookConfigSync", "the webhook configurations"),
    ("own_deployment::OwnDeployment", "the Deployment of this process, for the end of the webhook configurations"),
    ("registration_events::RegistrationEvents", "reports the webhook configurations to users"),
    ("activity::write", "notes the last activity: the one write that no plan has"),
    ("access::protect", "gives the client to the gate of the metrics"),
    ("reviews::Reviews", "asks who clients are and what they may do: reviews that store nothing"),
    ("reviews::Shared", "asks who clients are and what they may do: reviews that store nothing"),
    ("auth::require", "makes the gate of the metrics"),
    ("activity::write_touches", "records connections to warm pods, before they begin"),
    ("activity::record", "records connections to warm pods, before they begin"),
    ("activity::note", "notes the last activity: the one write that no plan has"),
    ("feed::ObjectSource", "reads plugins and policies, which no decision reads"),
    ("follow::follow", "reads one resource for the plugins"),
    ("follow::Follow", "reads one resource for the plugins"),
    ("follow::may_be_served", "asks whether the API server has such a resource"),
    ("pull_secret::PullSecrets", "reads the credentials for a registry, which no decision reads"),
    ("report::Reporter", "passes one to the reports of plugins"),
    ("report::StatusReports", "writes the status of plugins and policies, which no plan has"),
];

/// The types with which code can communicate with an API server: kube's clients, or connections of another kind.
const CLIENTS: [&str; 12] = [
    "kube::Client",
    "kube::client::Client",
    "kube::Api",
    "kube::api::Api",
    "kube::Discovery",
    "kube::discovery",
    "hyper::client",
    "reqwest",
    "ureq",
    "tokio::net::TcpStream::connect",
    "tokio::net::UnixStream",
    "std::net::TcpStream::connect",
];

pub(super) fn connected(project: &Project) -> Result<Vec<String>> {
    let program = &project.program;
    let mut faults = Vec::new();
    let mut found = BTreeSet::new();
    for package in CRATES {
        for (item, (file, client)) in clients(program, package) {
            if !CONNECTED.iter().any(|(name, _)| *name == item) {
                faults.push(format!("{file}: {item} names {client}, and is not on the list of those that may"));
            }
            found.insert(item);
        }
        faults.extend(hidden(program, package));
    }
    let unused = CONNECTED.iter().filter(|(name, _)| !found.contains(*name));
    faults.extend(unused.map(|(name, _)| format!("{name} is on the list, and names no client")));
    Ok(faults)
}

/// The items of a crate that name a client, each with its file and the client.
fn clients(program: &Program, package: &str) -> BTreeMap<String, (String, String)> {
    let mut found = BTreeMap::new();
    for (at, module) in program.package(package) {
        for item in &module.items {
            let names = names_in([item]);
            let external = names.iter().filter_map(|name| match program.resolve(at, name)? {
                Target::External(path) => Some(path.join("::")),
                Target::Item { .. } | Target::Module(_) => None,
            });
            for path in external {
                let is_in = |client: &str| path == client || path.starts_with(&format!("{client}::"));
                if CLIENTS.iter().any(|client| is_in(client)) {
                    found.insert(format!("{}::{}", stem(&module.file), item_name(item)), (module.file.clone(), path));
                }
            }
        }
    }
    found
}

/// The name of a file without its folders and its extension.
fn stem(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.strip_suffix(".rs").unwrap_or(name)
}

/// Imports that could hide a client behind another name.
fn hidden(program: &Program, package: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (at, module) in program.package(package) {
        for import in module.imports.iter().filter(|import| import.alias.is_none()) {
            let Some(Target::External(path)) = program.resolve(at, &import.name) else { continue };
            let path = path.join("::");
            if CLIENTS.iter().any(|client| client.starts_with(&path)) {
                faults.push(format!("{}: `use {path}::*` hides who names a client", module.file));
            }
        }
    }
    faults
}

/// The name of an item. For an `impl`, it is the name of its type.
fn item_name(item: &syn::Item) -> String {
    let of_type = |ty: &syn::Type| match ty {
        syn::Type::Path(path) => path.path.segments.last().map(|s| s.ident.to_string()),
        _ => None,
    };
    match item {
        syn::Item::Fn(i) => i.sig.ident.to_string(),
        syn::Item::Struct(i) => i.ident.to_string(),
        syn::Item::Enum(i) => i.ident.to_string(),
        syn::Item::Trait(i) => i.ident.to_string(),
        syn::Item::Type(i) => i.ident.to_string(),
        syn::Item::Static(i) => i.ident.to_string(),
        syn::Item::Const(i) => i.ident.to_string(),
        syn::Item::Impl(i) => of_type(&i.self_ty).unwrap_or_else(|| "an impl".to_owned()),
        _ => "a macro".to_owned(),
    }
}

/// The types that a reconciler may have as fields. The check [`connected`] covers each of them too.
const RECONCILER: [&str; 6] = ["SharedWorld", "PluginClient", "Writer", "Events", "Metrics", "Traces"];

pub(super) fn reconcile(project: &Project) -> Result<Vec<String>> {
    let items = project.program.package("paddock-operator").flat_map(|(_, module)| &module.items);
    reconciler(&items.collect::<Vec<_>>())
}

fn reconciler(items: &[&syn::Item]) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    let fields = items.iter().find_map(|item| match item {
        syn::Item::Struct(s) if s.ident == "Reconciler" => Some(&s.fields),
        _ => None,
    });
    for field in fields.context("there is no struct Reconciler")? {
        let mut types = Types(Vec::new());
        types.visit_type(&field.ty);
        let unknown = types.0.iter().filter(|name| !RECONCILER.contains(&name.as_str()));
        faults.extend(unknown.map(|name| format!("Reconciler holds a {name}; it may hold {RECONCILER:?}")));
    }
    let methods = methods(items, "Reconciler");
    let reconcile = methods.get("reconcile").context("Reconciler has no fn reconcile")?;
    // The methods that `reconcile` awaits, and in turn the methods that those await.
    let (mut pending, mut visited) = (vec![("reconcile", *reconcile)], BTreeSet::from(["reconcile"]));
    while let Some((name, method)) = pending.pop() {
        for awaited in awaits(&method.block) {
            let own = awaited.strip_prefix("self.").and_then(|m| methods.get_key_value(m));
            match own {
                Some((callee, method)) if visited.insert(callee) => pending.push((callee, method)),
                Some(_) => {}
                None if ["self.writer.execute", "spawn_blocking"].contains(&awaited.as_str()) => {}
                None => faults.push(format!("Reconciler::{name} awaits {awaited}")),
            }
        }
    }
    if !decides_by_the_world(&reconcile.block) {
        faults.push("Reconciler::reconcile does not call decide() with what self.world returned".to_owned());
    }
    Ok(faults)
}

/// The names of types in a type.
struct Types(Vec<String>);

impl<'a> Visit<'a> for Types {
    fn visit_type_path(&mut self, path: &'a syn::TypePath) {
        self.0.extend(path.path.segments.last().map(|s| s.ident.to_string()));
        visit::visit_type_path(self, path);
    }

    fn visit_type_trait_object(&mut self, _: &'a syn::TypeTraitObject) {
        self.0.push("dyn".to_owned());
    }
}

/// The methods of a type, those of the traits that it implements among them.
fn methods<'a>(items: &[&'a syn::Item], of: &str) -> BTreeMap<String, &'a syn::ImplItemFn> {
    let mut methods = BTreeMap::new();
    for item in items {
        let syn::Item::Impl(block) = item else { continue };
        if item_name(item) != of {
            continue;
        }
        for member in &block.items {
            if let syn::ImplItem::Fn(method) = member {
                methods.insert(method.sig.ident.to_string(), method);
            }
        }
    }
    methods
}

/// The targets of the `await`s in a block: `self.writer.act` for a method call, the function that a variable came from,
/// or otherwise the kind of the code.
fn awaits(block: &syn::Block) -> Vec<String> {
    #[derive(Default)]
    struct Awaits {
        found: Vec<String>,
        variables: BTreeMap<String, String>,
    }
    impl<'a> Visit<'a> for Awaits {
        fn visit_local(&mut self, local: &'a syn::Local) {
            if let (syn::Pat::Ident(pattern), Some(init)) = (&local.pat, &local.init) {
                self.variables.insert(pattern.ident.to_string(), callee(&init.expr));
            }
            visit::visit_local(self, local);
        }

        fn visit_expr_await(&mut self, awaited: &'a syn::ExprAwait) {
            let name = callee(&awaited.base);
            self.found.push(self.variables.get(&name).cloned().unwrap_or(name));
            visit::visit_expr_await(self, awaited);
        }
    }
    let mut awaits = Awaits::default();
    awaits.visit_block(block);
    awaits.found
}

/// The function or the value of an expression: `self.writer.act`, `spawn_blocking` or `asked`.
fn callee(expression: &syn::Expr) -> String {
    match expression {
        syn::Expr::MethodCall(call) => format!("{}.{}", callee(&call.receiver), call.method),
        syn::Expr::Call(call) => callee(&call.func),
        syn::Expr::Path(path) => path.path.segments.last().map(|s| s.ident.to_string()).unwrap_or_default(),
        syn::Expr::Field(field) => match &field.member {
            syn::Member::Named(name) => format!("{}.{name}", callee(&field.base)),
            syn::Member::Unnamed(index) => format!("{}.{}", callee(&field.base), index.index),
        },
        syn::Expr::Paren(inner) => callee(&inner.expr),
        syn::Expr::Reference(inner) => callee(&inner.expr),
        _ => "something else".to_owned(),
    }
}

/// Whether `decide` is called with a variable that came from `self.world`.
fn decides_by_the_world(block: &syn::Block) -> bool {
    #[derive(Default)]
    struct Decisions {
        from_world: BTreeSet<String>,
        found: bool,
    }
    impl<'a> Visit<'a> for Decisions {
        fn visit_local(&mut self, local: &'a syn::Local) {
            if let (syn::Pat::Ident(pattern), Some(init)) = (&local.pat, &local.init) {
                let mut fields = Fields { of: "world", calls: Vec::new(), others: 0 };
                fields.visit_expr(&init.expr);
                if !fields.calls.is_empty() {
                    self.from_world.insert(pattern.ident.to_string());
                }
            }
            visit::visit_local(self, local);
        }

        fn visit_expr_call(&mut self, call: &'a syn::ExprCall) {
            let argument = call.args.first().map(callee).unwrap_or_default();
            self.found |= callee(&call.func) == "decide" && self.from_world.contains(&argument);
            visit::visit_expr_call(self, call);
        }
    }
    let mut decisions = Decisions::default();
    decisions.visit_block(block);
    decisions.found
}

/// The uses of a field of `self`: the methods that are called on it, and the number of other uses.
struct Fields {
    of: &'static str,
    calls: Vec<String>,
    others: usize,
}

impl Fields {
    fn is_it(&self, expression: &syn::Expr) -> bool {
        callee(expression) == format!("self.{}", self.of)
    }
}

impl<'a> Visit<'a> for Fields {
    fn visit_expr_method_call(&mut self, call: &'a syn::ExprMethodCall) {
        if self.is_it(&call.receiver) {
            self.calls.push(call.method.to_string());
            call.args.iter().for_each(|argument| self.visit_expr(argument));
        } else {
            visit::visit_expr_method_call(self, call);
        }
    }

    fn visit_expr_field(&mut self, field: &'a syn::ExprField) {
        let field = syn::Expr::Field(field.clone());
        self.others += usize::from(self.is_it(&field));
    }
}

pub(super) fn writer(project: &Project) -> Result<Vec<String>> {
    let program = &project.program;
    let items: Vec<&syn::Item> = program.package("paddock-operator").flat_map(|(_, module)| &module.items).collect();
    let mut faults = writes(&items)?;
    let makes_requests = |item: &&syn::Item| matches!(item, syn::Item::Fn(f) if f.sig.ident == "request");
    let module =
        program.package("paddock-operator").find(|(_, module)| module.items.iter().any(|i| makes_requests(&i)));
    let (at, module) = module.context("no module has a fn request")?;
    for name in names_in(&module.items) {
        let Some(Target::External(path)) = program.resolve(at, &name) else { continue };
        if let ["http", "Method", ..] | ["http", "Request", _, ..] =
            path.iter().map(String::as_str).collect::<Vec<_>>()[..]
        {
            faults.push(format!("{} makes a request by hand: {}", module.file, path.join("::")));
        }
    }
    let mut made = Made::default();
    module.items.iter().filter(|item| !is_test_only(item)).for_each(|item| made.visit_item(item));
    if made.requests != BTreeSet::from(["create", "delete", "patch", "patch_subresource"].map(str::to_owned)) {
        faults.push(format!("{} makes requests of {:?}", module.file, made.requests));
    }
    Ok(faults)
}

/// What `kube::core::Request` makes requests with.
const REQUESTS: [&str; 16] = [
    "list",
    "watch",
    "get",
    "create",
    "delete",
    "delete_collection",
    "patch",
    "replace",
    "get_subresource",
    "create_subresource",
    "patch_subresource",
    "replace_subresource",
    "get_metadata",
    "list_metadata",
    "watch_metadata",
    "patch_metadata",
];

/// Which requests are made.
#[derive(Default)]
struct Made {
    requests: BTreeSet<String>,
}

impl<'a> Visit<'a> for Made {
    fn visit_expr_method_call(&mut self, call: &'a syn::ExprMethodCall) {
        let method = call.method.to_string();
        if REQUESTS.contains(&method.as_str()) {
            self.requests.insert(method);
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_expr_path(&mut self, path: &'a syn::ExprPath) {
        // `Request::get(&collection, …)` is a call of a method too.
        let segments: Vec<String> = path.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if let [.., of, method] = segments.as_slice()
            && of == "Request"
            && REQUESTS.contains(&method.as_str())
        {
            self.requests.insert(method.clone());
        }
    }
}

/// The writer uses its client only for `send`.
fn writes(items: &[&syn::Item]) -> Result<Vec<String>> {
    let mut uses = Fields { of: "client", calls: Vec::new(), others: 0 };
    let methods = methods(items, "Writer");
    anyhow::ensure!(!methods.is_empty(), "there is no impl Writer");
    methods.values().for_each(|method| uses.visit_impl_item_fn(method));
    let mut faults = Vec::new();
    if uses.calls != ["send"] {
        faults.push(format!("Writer calls of its client {:?}; it may send, in one place", uses.calls));
    }
    if uses.others > 0 {
        faults.push("Writer gives its client to something else".to_owned());
    }
    Ok(faults)
}

/// The types that may name an observation: the one that receives it, and those that send it.
const OBSERVERS: [&str; 4] = ["ConnectionRounds", "CpuUseLists", "SharedWorld", "Watch"];

pub(super) fn observations(project: &Project) -> Result<Vec<String>> {
    let program = &project.program;
    let mut found = BTreeSet::new();
    for package in CRATES {
        for (at, module) in program.package(package) {
            for item in module.items.iter().filter(|item| !is_test_only(item)) {
                let observes = |name: &crate::rust::Name| matches!(program.resolve(at, name), Some(Target::Item { item, .. }) if item == "Observed");
                if names_in([item]).iter().any(observes) && !matches!(item, syn::Item::Use(_)) {
                    found.insert(item_name(item));
                }
            }
        }
    }
    let expected = BTreeSet::from(OBSERVERS.map(str::to_owned));
    let differs = found != expected;
    Ok(differs.then(|| format!("{found:?} name Observed; {expected:?} may")).into_iter().collect())
}

#[cfg(test)]
mod tests;
