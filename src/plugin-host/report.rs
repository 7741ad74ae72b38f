//! The state of the loaded plugins, for the debug page.

use jiff::Timestamp;
use paddock_core::binding::Mode;
use paddock_core::question::{Caller, Hook};

use crate::load::Plugin;

/// The state of a loaded plugin, with its quarantines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginReport {
    /// The description of the plugin.
    pub plugin: Plugin,
    /// The quarantines of the plugin.
    pub quarantined: Vec<QuarantineReport>,
}

/// A quarantine: a hook of a plugin that is not called for the objects of one namespace by bindings of one mode, for one
/// kind of caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantineReport {
    /// The hook.
    pub hook: Hook,
    /// The mode of the bindings.
    pub mode: Mode,
    /// The callers.
    pub caller: Caller,
    /// The namespace of the objects.
    pub namespace: String,
    /// The end of the quarantine.
    pub until: Timestamp,
}
