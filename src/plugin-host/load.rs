//! Loads a component: checks its bytes, compiles it, checks its imports and exports, and links it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use paddock_core::question::limits::MAX_MESSAGE_CHARS;
use paddock_core::question::{Hook, PluginRef};
use paddock_core::text::truncate;
use sha2::{Digest, Sha256};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre, Linker};

use crate::call::CallState;
use crate::config::Limits;
use crate::engine::MeteredEngine;
use crate::wit::{self, InterfaceName, MAX_VERSION, PACKAGE, VERSIONS, WitVersion};

/// A component that is to be loaded.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The name of the plugin.
    pub name: &'a str,
    /// The bytes of the component, in the binary format.
    pub component: &'a [u8],
    /// The limits of a call. Limits above [`Limits::MAX`] are lowered to it. `None` means the default of the host.
    pub limits: Option<Limits>,
}

/// The description of a loaded plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugin {
    /// The name and the digest, by which a request names the plugin.
    pub plugin: PluginRef,
    /// The hooks that the component exports, in the order of [`Hook::ALL`].
    pub hooks: Vec<Hook>,
    /// The version of `paddock:policy` that the component implements.
    pub wit_version: String,
    /// The limits of each call.
    pub limits: Limits,
}

/// The interfaces of a component, by name and in the order of the component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surface {
    /// The digest of the component's bytes, as in [`PluginRef::digest`].
    pub digest: String,
    /// The imports that give the component more than types, such as `paddock:policy/log@0.1.0`.
    pub imports: Vec<String>,
    /// The exports, such as `paddock:policy/pool-size@0.1.0`.
    pub exports: Vec<String>,
}

/// The reason why a component was not loaded. The plugins that were loaded before stay loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The component has more bytes than [`HostConfig::component_bytes`](crate::HostConfig::component_bytes).
    #[error("the component has {size} bytes, but must have at most {limit}")]
    TooLarge {
        /// The size of the component, in bytes.
        size: usize,
        /// The largest size that is allowed, in bytes.
        limit: usize,
    },
    /// The bytes are a core module, which was not wrapped into a component.
    #[error(
        "the file is a core WebAssembly module, but must be a component; convert it with `paddock plugin componentize`"
    )]
    CoreModule,
    /// The bytes are neither a component nor a module.
    #[error("the file is not a WebAssembly component, or is not complete")]
    NotWasm,
    /// wasmtime cannot compile the component.
    #[error("the component does not compile: {0}")]
    Compile(String),
    /// The component exports no interface of the package.
    #[error("the component must export at least one hook, such as {PACKAGE}/pool-size@{MAX_VERSION}")]
    NoHooks,
    /// The component exports an interface that the package does not have.
    #[error("the component exports {0}, which does not exist in {PACKAGE}")]
    UnknownInterface(String),
    /// The component uses a version of the package that this host does not support.
    #[error("{interface} belongs to version {found:?} of {PACKAGE}, but this host supports {}", wit::supported())]
    Version {
        /// The name of the import or export.
        interface: String,
        /// The version in that name. Empty if the name has none.
        found: String,
    },
    /// The component exports interfaces of two versions of the package.
    #[error(
        "the component exports {interface} and interfaces of version {other} of {PACKAGE}, but must use one version"
    )]
    MixedVersions {
        /// The export that differs from the others.
        interface: String,
        /// The version of the other exports.
        other: &'static str,
    },
    /// The component does not export the interface that validates settings.
    #[error("the component must export {PACKAGE}/settings@{0}, which checks settings before their use")]
    NoSettings(&'static str),
    /// The component imports an interface of WASI.
    #[error(
        "the component imports {0}, but plugins have no access to WASI; build for wasm32-unknown-unknown, or stub WASI"
    )]
    Wasi(String),
    /// The component imports something other than logging.
    #[error("the component imports {0}, but a plugin may only import {allowed}", allowed = wit::LATEST.imports[0])]
    Import(String),
    /// An import or an export has the wrong type.
    #[error("the component does not match {PACKAGE}: {0}")]
    Interface(String),
    /// The JSON Schema of the plugin's settings cannot be used.
    #[error("the schema of the settings of {hook} cannot be used: {reason}")]
    Schema {
        /// The hook whose settings the schema describes.
        hook: &'static str,
        /// The fault of the schema, or of the call that returns it.
        reason: String,
    },
    /// The component cannot be instantiated.
    #[error("the component cannot be instantiated: {0}")]
    Start(String),
    /// One call of the plugin does not fit into the memory of all calls.
    #[error(
        "one call takes {} MiB (the memory limit and the call itself), but all calls of plugins together may use {} \
         MiB; lower limits.memory, or raise --plugin-memory-budget",
        .call.div_ceil(1 << 20), .budget >> 20
    )]
    Memory {
        /// The bytes that one call takes.
        call: usize,
        /// The bytes that all calls together may use.
        budget: usize,
    },
    /// Other calls took all the memory, so there was no trial. The caller may try again.
    #[error("the trial of the component is repeated later: {0}")]
    Busy(String),
}

/// A linked component. All plugins with the same bytes share one.
pub(crate) struct Linked {
    pub(crate) digest: String,
    pub(crate) hooks: Vec<Hook>,
    pub(crate) version: &'static WitVersion,
    pub(crate) pre: InstancePre<CallState>,
    pub(crate) exports: wit::Exports,
}

/// The digest of a component's bytes, in the form that [`PluginRef`] uses.
pub fn digest(component: &[u8]) -> String {
    let hash = Sha256::digest(component);
    hash.iter().fold(String::from("sha256:"), |digest, byte| digest + &format!("{byte:02x}"))
}

/// Compiles a component, and reads the names of its imports and exports.
pub(crate) fn surface(engine: &MeteredEngine, component: &[u8]) -> Result<Surface, LoadError> {
    let compiled = compile(engine, component)?;
    let surface = compiled.component_type();
    let name = |name: &str| truncate(name, MAX_MESSAGE_CHARS);
    let imports = surface.imports(&engine.engine).filter(|(_, item)| is_more_than_types(&item.ty, engine));
    Ok(Surface {
        digest: digest(component),
        imports: imports.map(|(import, _)| name(import)).collect(),
        exports: surface.exports(&engine.engine).map(|(export, _)| name(export)).collect(),
    })
}

/// Compiles and links a component without running it.
pub(crate) fn link(engine: &MeteredEngine, linker: &Linker<CallState>, component: &[u8]) -> Result<Linked, LoadError> {
    let compiled = compile(engine, component)?;
    let surface = compiled.component_type();
    let (hooks, version) = exports(surface.exports(&engine.engine).map(|(name, _)| name))?;
    let imports = surface.imports(&engine.engine);
    imports.filter(|(_, item)| is_more_than_types(&item.ty, engine)).try_for_each(|(name, _)| check_import(name))?;
    let pre = linker.instantiate_pre(&compiled).map_err(|error| LoadError::Interface(text(&error)))?;
    let exports = (version.find_exports)(&pre, &hooks).map_err(|error| LoadError::Interface(text(&error)))?;
    Ok(Linked { digest: digest(component), hooks, version, pre, exports })
}

fn compile(engine: &MeteredEngine, component: &[u8]) -> Result<Component, LoadError> {
    recognise(component)?;
    contained(|| Component::new(&engine.engine, component).map_err(|error| LoadError::Compile(text(&error))))
}

/// Turns a panic of the compiler into a fault of the component. Otherwise, a component could end every operator that loads
/// it. The panic itself is on standard error.
fn contained<T>(compile: impl FnOnce() -> Result<T, LoadError>) -> Result<T, LoadError> {
    // Compilations share only the engine. If a panic breaks the engine, later compilations fail too.
    let compiled = catch_unwind(AssertUnwindSafe(compile));
    compiled.unwrap_or_else(|_| Err(LoadError::Compile("the compiler panicked".to_owned())))
}

/// Distinguishes components from core modules by their first eight bytes.
fn recognise(bytes: &[u8]) -> Result<(), LoadError> {
    match bytes.get(..8) {
        Some(b"\0asm\x0d\0\x01\0") => Ok(()),
        Some(b"\0asm\x01\0\0\0") => Err(LoadError::CoreModule),
        Some(_) | None => Err(LoadError::NotWasm),
    }
}

/// Whether an import gives the plugin anything but types.
fn is_more_than_types(item: &ComponentItem, engine: &MeteredEngine) -> bool {
    match item {
        ComponentItem::ComponentInstance(instance) => {
            instance.exports(&engine.engine).any(|(_, item)| !matches!(item.ty, ComponentItem::Type(_)))
        }
        ComponentItem::Type(_) => false,
        ComponentItem::ComponentFunc(_)
        | ComponentItem::CoreFunc(_)
        | ComponentItem::Module(_)
        | ComponentItem::Component(_)
        | ComponentItem::Resource(_) => true,
    }
}

fn check_import(import: &str) -> Result<(), LoadError> {
    match InterfaceName::parse(import) {
        _ if VERSIONS.iter().any(|version| version.imports.contains(&import)) => Ok(()),
        _ if import.starts_with("wasi:") => Err(LoadError::Wasi(truncate(import, MAX_MESSAGE_CHARS))),
        Some(InterfaceName { interface: "log" | "types", version }) => {
            let found = truncate(version, MAX_MESSAGE_CHARS);
            Err(LoadError::Version { interface: truncate(import, MAX_MESSAGE_CHARS), found })
        }
        Some(_) | None => Err(LoadError::Import(truncate(import, MAX_MESSAGE_CHARS))),
    }
}

/// The hooks among the exports, and the version that all exports have. The version must be a supported one. Exports of
/// other packages are ignored, because the tools of some languages add helpers.
fn exports<'a>(names: impl Iterator<Item = &'a str>) -> Result<(Vec<Hook>, &'static WitVersion), LoadError> {
    let (mut hooks, mut settings, mut version) = (vec![], false, None::<&WitVersion>);
    for (name, parsed) in names.filter_map(|name| Some((name, InterfaceName::parse(name)?))) {
        let interface = truncate(name, MAX_MESSAGE_CHARS);
        let Some(found) = VERSIONS.iter().find(|known| known.name == parsed.version) else {
            return Err(LoadError::Version { interface, found: truncate(parsed.version, MAX_MESSAGE_CHARS) });
        };
        match parsed.hook() {
            Some(hook) => hooks.push(hook),
            None if parsed.interface == "settings" => settings = true,
            None => return Err(LoadError::UnknownInterface(interface)),
        }
        if let Some(other) = version.replace(found).filter(|other| other.name != found.name) {
            return Err(LoadError::MixedVersions { interface, other: other.name });
        }
    }
    let Some(version) = version.filter(|_| !hooks.is_empty()) else { return Err(LoadError::NoHooks) };
    if !settings {
        return Err(LoadError::NoSettings(version.name));
    }
    hooks.sort_unstable();
    Ok((hooks, version))
}

pub(crate) fn text(error: &wasmtime::Error) -> String {
    truncate(&format!("{error:#}"), MAX_MESSAGE_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hooks and the version of exports with these names.
    fn read(names: &[&str]) -> Result<(Vec<Hook>, &'static str), LoadError> {
        exports(names.iter().copied()).map(|(hooks, version)| (hooks, version.name))
    }

    #[test]
    fn panic_of_the_compiler_is_a_fault_of_the_component() {
        let error = contained::<()>(|| panic!("as expected")).unwrap_err();
        assert_eq!(error.to_string(), "the component does not compile: the compiler panicked");
    }

    #[test]
    fn exports_name_the_version_and_the_hooks() {
        for version in ["0.1.0", "0.2.0"] {
            let names = ["paddock:policy/pool-size", "paddock:policy/settings", "paddock:policy/idle"];
            let names = names.map(|name| format!("{name}@{version}"));
            let read = read(&["init", &names[0], &names[1], &names[2]]);
            assert_eq!(read, Ok((vec![Hook::Idle, Hook::PoolSize], version)));
        }
        assert_eq!(read(&["wasi:cli/run@0.2.0"]), Err(LoadError::NoHooks));
        assert_eq!(read(&["paddock:policy/settings@0.1.0"]), Err(LoadError::NoHooks));
        assert_eq!(read(&["paddock:policy/idle@0.1.0"]), Err(LoadError::NoSettings("0.1.0")));
        assert_eq!(
            read(&["paddock:policy/colour@0.1.0"]),
            Err(LoadError::UnknownInterface("paddock:policy/colour@0.1.0".into()))
        );
    }

    #[test]
    fn exports_of_an_unsupported_version_are_refused_with_the_supported_ones() {
        for version in ["0.0.9", "0.1.1", "0.3.0", "1.0.0", ""] {
            let interface = format!("paddock:policy/idle@{version}");
            let error = read(&[&interface]).unwrap_err();
            assert_eq!(error, LoadError::Version { interface, found: version.into() });
            assert!(error.to_string().ends_with("this host supports 0.1.0 and 0.2.0"), "{error}");
        }
    }

    #[test]
    fn exports_of_two_versions_are_refused() {
        let error = read(&["paddock:policy/settings@0.1.0", "paddock:policy/idle@0.2.0"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the component exports paddock:policy/idle@0.2.0 and interfaces of version 0.1.0 of paddock:policy, but must \
             use one version"
        );
    }

    #[test]
    fn component_is_distinguished_from_a_module_and_from_other_bytes() {
        for (bytes, expected) in [
            (&b""[..], Err(LoadError::NotWasm)),
            (b"\0asm", Err(LoadError::NotWasm)),
            (b"#!/bin/sh\n", Err(LoadError::NotWasm)),
            (b"\0asm\x01\0\0\0", Err(LoadError::CoreModule)),
            (b"\0asm\x0d\0\x01\0", Ok(())),
        ] {
            assert_eq!(recognise(bytes), expected);
        }
    }

    #[test]
    fn digest_is_sha256_in_hex() {
        assert_eq!(digest(b""), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
