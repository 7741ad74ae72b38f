//! The plugins that come with the operator, compiled from `plugins/` and embedded.

use paddock_core::binding::{Binding, FailurePolicy, Selector};
use paddock_core::question::Hook;

use crate::host::Host;
use crate::load::{LoadError, Source};

/// A built-in plugin.
#[derive(Clone, Copy, Debug)]
pub struct BuiltIn {
    /// Its name.
    pub name: &'static str,
    /// The hook that it serves.
    pub hook: Hook,
    /// Kinds whose admission it has something to say about.
    pub kinds: &'static [&'static str],
    /// The component.
    pub component: &'static [u8],
}

macro_rules! component {
    ($name:literal) => {
        include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".wasm"))
    };
}

/// One for each hook, in the order of [`Hook::ALL`].
pub const BUILT_INS: [BuiltIn; 4] = [
    BuiltIn {
        name: "require-isolation",
        hook: Hook::Admission,
        // Those that have pods in them. A claim is on its way to its Sandbox and waits for no answer that is known beforehand.
        kinds: &["Pod", "Sandbox", "SandboxTemplate"],
        component: component!("require-isolation"),
    },
    BuiltIn {
        name: "runtime-class-by-label",
        hook: Hook::RuntimeClass,
        kinds: &[],
        component: component!("runtime-class-by-label"),
    },
    BuiltIn { name: "idle-timeout", hook: Hook::Idle, kinds: &[], component: component!("idle-timeout") },
    BuiltIn { name: "pool-by-demand", hook: Hook::PoolSize, kinds: &[], component: component!("pool-by-demand") },
];

impl Host {
    /// Loads the built-ins and binds each to its hook, behind everything else and for every object.
    ///
    /// # Errors
    /// Where a built-in does not load: then nothing would.
    pub fn load_built_ins(&self) -> Result<Vec<Binding>, LoadError> {
        BUILT_INS.iter().map(|built_in| self.load_built_in(built_in)).collect()
    }

    fn load_built_in(&self, built_in: &BuiltIn) -> Result<Binding, LoadError> {
        let BuiltIn { name, hook, kinds, component } = *built_in;
        let loaded = self.load(Source { name, component, limits: None })?;
        Ok(Binding {
            name: format!("{name}/{}", hook.as_str()),
            hook,
            plugin: loaded.plugin,
            order: Binding::BUILT_IN_ORDER,
            namespaces: Selector::default(),
            objects: Selector::default(),
            kinds: kinds.iter().map(|&kind| kind.to_owned()).collect(),
            settings: "{}".into(),
            // There is nothing behind a built-in to fall back on.
            failure_policy: FailurePolicy::Fail,
            built_in: true,
        })
    }
}
