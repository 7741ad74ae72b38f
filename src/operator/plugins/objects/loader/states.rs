//! The state of the objects on this replica: for their status, and for the debug pages and metrics.

use paddock_core::binding::Binding;
use paddock_plugin_host::Candidate;

use super::ObjectLoader;
use crate::plugins::loader::{PluginState, PluginStatus};
use crate::plugins::objects::{BoundState, LoadedState, ObjectStates};

impl ObjectLoader {
    /// The state of every object, for its status.
    pub(in crate::plugins) fn object_states(&self) -> ObjectStates {
        let plugins = self.content.plugins.iter().filter_map(|(name, object)| {
            let loaded = self.plugins.get(name)?;
            let active = loaded.active.as_ref().map(Candidate::plugin);
            let state = LoadedState {
                uid: object.uid.clone(),
                generation: object.generation,
                digest: active.map(|plugin| plugin.plugin.digest.clone()),
                image: loaded.image.clone(),
                hooks: active.map(|plugin| plugin.hooks.clone()).unwrap_or_default(),
                wit_version: active.map(|plugin| plugin.wit_version.clone()),
                fault: loaded.fault().cloned(),
            };
            Some((name.clone(), state))
        });
        let policies = self.content.policies.iter().filter_map(|(name, object)| {
            let policy = self.policies.get(name)?;
            let state = BoundState {
                uid: object.uid.clone(),
                generation: object.generation,
                digest: policy.active().map(|plugin| plugin.digest.clone()),
                fault: policy.fault.clone(),
            };
            Some((name.clone(), state))
        });
        let rules = self.content.isolation.iter().map(|(name, object)| {
            let (uid, digest) = (object.uid.clone(), Some(object.digest.clone()));
            (name.clone(), BoundState { uid, generation: object.generation, digest, fault: None })
        });
        ObjectStates { plugins: plugins.collect(), policies: policies.chain(rules).collect() }
    }

    /// The state of every object in the form of the debug pages and metrics. A policy is listed only if it has a fault.
    pub(in crate::plugins) fn object_statuses(&self) -> Vec<PluginStatus> {
        let state = |is_faulty: bool, is_active: bool| match (is_faulty, is_active) {
            (false, _) => PluginState::Loaded,
            (true, true) => PluginState::FormerVersion,
            (true, false) => PluginState::NotLoaded,
        };
        let ObjectStates { plugins, policies } = self.object_states();
        let bound = |plugin: &str| -> Vec<_> {
            let bindings = self.policies.values().filter_map(|policy| policy.binding.as_ref());
            bindings.filter(|binding| binding.plugin.name == plugin).map(|binding| binding.hook).collect()
        };
        let plugins = plugins.into_iter().map(|(name, loaded)| PluginStatus {
            state: state(loaded.fault.is_some(), loaded.digest.is_some()),
            path: self.content.plugins.get(&name).map(|object| object.location.clone()),
            digest: loaded.digest,
            wit_version: loaded.wit_version,
            hooks: bound(&name),
            error: loaded.fault.map(|fault| fault.message),
            name,
        });
        let faulty = policies.into_iter().filter_map(|(name, policy)| {
            let fault = policy.fault?;
            Some(PluginStatus {
                name: Binding::name_of_policy(&name),
                state: state(true, policy.digest.is_some()),
                hooks: self.policies.get(&name)?.binding.iter().map(|binding| binding.hook).collect(),
                error: Some(fault.message),
                ..PluginStatus::default()
            })
        });
        let unread = self.unknown(|unread| &unread.last).map(|(name, error)| PluginStatus {
            name,
            state: PluginState::NotLoaded,
            error: Some(error.clone()),
            ..PluginStatus::default()
        });
        plugins.chain(faulty).chain(unread).collect()
    }
}
