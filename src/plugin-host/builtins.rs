//! The plugins that are part of the operator. The build script compiles them from `plugins/`, and this file embeds
//! them.

use paddock_core::binding::{Binding, FailurePolicy};
use paddock_core::question::Hook;

use crate::host::Host;
use crate::load::{LoadError, Source};

/// A built-in plugin: one component for one hook.
#[derive(Clone, Copy, Debug)]
pub struct BuiltIn {
    /// The name of the plugin, which messages and metrics show.
    pub name: &'static str,
    /// The only hook that the plugin is bound to.
    pub hook: Hook,
    /// The kinds about whose admission the plugin is asked. Empty for the other hooks, which concern one kind each.
    pub kinds: &'static [&'static str],
    /// Whether the plugin decides where nobody bound another one. The others are used only where a SandboxPlugin or a
    /// command names them.
    pub default: bool,
    /// The bytes of the WebAssembly component.
    pub component: &'static [u8],
}

macro_rules! component {
    ($name:literal) => {
        include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".wasm"))
    };
}

/// The default of each hook, in the order of [`Hook::ALL`], and then the other built-ins.
pub const BUILT_INS: [BuiltIn; 5] = [
    BuiltIn {
        name: "require-isolation",
        hook: Hook::Admission,
        // These kinds describe pods. The built-in would allow every claim, so claims do not wait for its answer.
        kinds: &["Pod", "Sandbox", "SandboxTemplate"],
        default: true,
        component: component!("require-isolation"),
    },
    BuiltIn {
        name: "runtime-class-by-label",
        hook: Hook::RuntimeClass,
        kinds: &[],
        default: true,
        component: component!("runtime-class-by-label"),
    },
    BuiltIn {
        name: "idle-timeout",
        hook: Hook::Idle,
        kinds: &[],
        default: true,
        component: component!("idle-timeout"),
    },
    BuiltIn {
        name: "pool-by-demand",
        hook: Hook::PoolSize,
        kinds: &[],
        default: true,
        component: component!("pool-by-demand"),
    },
    BuiltIn {
        name: "pool-seasonal",
        hook: Hook::PoolSize,
        kinds: &[],
        default: false,
        component: component!("pool-seasonal"),
    },
];

impl Host {
    /// Loads the default of each hook and binds it. The defaults apply to every object, after all other plugins.
    ///
    /// # Errors
    /// If a built-in does not load. It is part of this binary, so the host itself is at fault then.
    pub fn load_built_ins(&self) -> Result<Vec<Binding>, LoadError> {
        BUILT_INS.iter().filter(|built_in| built_in.default).map(|built_in| self.load_built_in(built_in)).collect()
    }

    /// Loads one built-in and binds it to its hook, as [`load_built_ins`](Self::load_built_ins) does.
    ///
    /// # Errors
    /// If the built-in does not load.
    pub fn load_built_in(&self, built_in: &BuiltIn) -> Result<Binding, LoadError> {
        let BuiltIn { name, hook, kinds, default: _, component } = *built_in;
        let loaded = self.load(Source { name, component, limits: None })?;
        Ok(Binding {
            order: Binding::BUILT_IN_ORDER,
            kinds: kinds.iter().map(|&kind| kind.to_owned()).collect(),
            // No plugin comes after a built-in.
            failure_policy: FailurePolicy::Fail,
            built_in: true,
            ..Binding::new(loaded.plugin, hook)
        })
    }
}
