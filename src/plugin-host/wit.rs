//! The supported versions of the WIT package. Each has an adapter.
//!
//! The exports of a component name its version, so the host knows the version before it runs any code of the component.
//! The rest of the host uses only the core's questions and answers.
//!
//! A new version needs three things: a file beside `v0_1_0.rs`, a variant of [`Exports`], and an entry of [`VERSIONS`].
//! [`LATEST`] then names the new version. The versions share the files in `hooks`, as long as the records of the hooks are
//! the same.

mod adapter;
pub(crate) mod v0_1_0;
pub(crate) mod v0_2_0;

use paddock_core::question::Hook;
use wasmtime::Result;
use wasmtime::component::{InstancePre, Linker};

use self::adapter::Adapter;
pub(crate) use self::adapter::Reply;
use crate::call::CallState;

/// The name of the WIT package that plugins implement.
pub(crate) const PACKAGE: &str = "paddock:policy";

/// A supported version of the WIT package.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WitVersion {
    /// The version as the exports of components name it, such as `0.1.0`.
    pub(crate) name: &'static str,
    /// The interfaces that a component of this version may import.
    pub(crate) imports: &'static [&'static str],
    /// Adds the imports that components of this version may have.
    pub(crate) add_to_linker: fn(&mut Linker<CallState>) -> Result<()>,
    /// Looks up the exports of a component of this version.
    pub(crate) find_exports: fn(&InstancePre<CallState>, &[Hook]) -> Result<Exports>,
}

const V0_1_0: WitVersion = WitVersion {
    name: v0_1_0::NAME,
    imports: v0_1_0::IMPORTS,
    add_to_linker: v0_1_0::add_to_linker,
    find_exports: |pre, hooks| v0_1_0::Exports::find(pre, hooks).map(Exports::V0_1_0),
};

const V0_2_0: WitVersion = WitVersion {
    name: v0_2_0::NAME,
    imports: v0_2_0::IMPORTS,
    add_to_linker: v0_2_0::add_to_linker,
    find_exports: |pre, hooks| v0_2_0::Exports::find(pre, hooks).map(Exports::V0_2_0),
};

/// Every supported version, oldest first.
pub(crate) static VERSIONS: [WitVersion; 2] = [V0_1_0, V0_2_0];
/// The version that the SDK writes plugins for.
pub(crate) const LATEST: WitVersion = V0_2_0;

/// The newest supported version.
pub(crate) const MAX_VERSION: &str = LATEST.name;

/// The supported versions of `paddock:policy`, oldest first.
pub fn versions() -> impl Iterator<Item = &'static str> {
    VERSIONS.iter().map(|version| version.name)
}

/// Adds the imports that components of each supported version may have.
pub(crate) fn add_to_linker(linker: &mut Linker<CallState>) -> Result<()> {
    VERSIONS.iter().try_for_each(|version| (version.add_to_linker)(linker))
}

/// The supported versions for messages: `0.1.0 and 0.2.0`.
pub(crate) fn supported() -> String {
    versions().collect::<Vec<_>>().join(" and ")
}

/// The exports of a component. They are looked up once, for all calls.
pub(crate) enum Exports {
    /// The exports of a component that implements `paddock:policy@0.1.0`.
    V0_1_0(v0_1_0::Exports),
    /// The exports of a component that implements `paddock:policy@0.2.0`.
    V0_2_0(v0_2_0::Exports),
}

impl Exports {
    /// The calls of this component, with the core's types.
    pub(crate) fn adapter(&self) -> &dyn Adapter {
        match self {
            Exports::V0_1_0(exports) => exports,
            Exports::V0_2_0(exports) => exports,
        }
    }
}

/// The name of an interface of the package, such as `paddock:policy/pool-size@0.1.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InterfaceName<'a> {
    pub(crate) interface: &'a str,
    pub(crate) version: &'a str,
}

impl<'a> InterfaceName<'a> {
    /// Parses the name of an import or export. `None` if the interface belongs to another package.
    pub(crate) fn parse(name: &'a str) -> Option<Self> {
        let rest = name.strip_prefix(PACKAGE)?.strip_prefix('/')?;
        let (interface, version) = rest.split_once('@').unwrap_or((rest, ""));
        Some(Self { interface, version })
    }

    pub(crate) fn hook(&self) -> Option<Hook> {
        Hook::ALL.into_iter().find(|hook| hook.as_str() == self.interface)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_of_the_package_are_parsed_and_others_are_not() {
        for (name, parsed) in [
            ("paddock:policy/idle@0.1.0", Some(("idle", "0.1.0", Some(Hook::Idle)))),
            ("paddock:policy/settings@0.1.0", Some(("settings", "0.1.0", None))),
            ("paddock:policy/idle", Some(("idle", "", Some(Hook::Idle)))),
            ("paddock:policy-extras/idle@0.1.0", None),
            ("wasi:clocks/wall-clock@0.2.0", None),
            ("init", None),
        ] {
            let found = InterfaceName::parse(name).map(|n| (n.interface, n.version, n.hook()));
            assert_eq!(found, parsed, "{name}");
        }
    }

    #[test]
    fn messages_name_every_supported_version() {
        assert_eq!(supported(), "0.1.0 and 0.2.0");
    }

    #[test]
    fn every_wit_folder_has_an_adapter() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit");
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut released: Vec<_> = names.filter_map(|name| name.strip_prefix('v').map(String::from)).collect();
        released.sort_by_key(|version| version.split('.').map(|part| part.parse::<u32>().unwrap()).collect::<Vec<_>>());
        assert_eq!(released, versions().collect::<Vec<_>>());
        assert_eq!(released.last().map(String::as_str), Some(MAX_VERSION));
    }
}
