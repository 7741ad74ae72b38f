//! Plugins and policies as objects of the cluster: SandboxPlugins and SandboxPolicies.
//!
//! Every replica watches both kinds and the ConfigMaps of the operator's own namespace ([`feed`]). It loads the component
//! of each SandboxPlugin, and binds it by each SandboxPolicy with the code that binds the files of the plugin directory
//! (`loader`). A component or settings with a fault never replace a good version. A policy without a good version is
//! bound too: it fails, and its failure policy applies. The rules of SandboxPolicies about isolation need no component,
//! and are beside the bindings. Each replica reports what it uses in its own entry of a plugin's status, and the leader
//! writes the conditions ([`report`]).
//!
//! If the CRDs are not installed, there are no objects. The watches begin when the CRDs appear.

pub mod check;
pub mod feed;
mod follow;
pub(super) mod loader;
mod read;
pub mod report;
mod status;
pub mod usage;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use paddock_api::names::reason;
use paddock_core::binding::Mode;
use paddock_core::isolation::IsolationRule;
use paddock_core::question::Hook;

use super::source::Content;

/// The objects that decide which plugins are bound.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObjectContent {
    /// The SandboxPlugins, by name.
    pub plugins: BTreeMap<String, PluginObject>,
    /// The SandboxPolicies that bind plugins, by name.
    pub policies: BTreeMap<String, PolicyObject>,
    /// The SandboxPolicies with rules about isolation, by name.
    pub isolation: BTreeMap<String, IsolationObject>,
    /// The SandboxPlugins that cannot be read and of which no former version is known, by name, each with the error.
    pub unreadable_plugins: BTreeMap<String, String>,
    /// The SandboxPolicies that cannot be read and of which no former version is known, by name, each with the error.
    pub unreadable: BTreeMap<String, String>,
}

/// The parts of a SandboxPlugin that decide which component is loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginObject {
    /// The UID of the object.
    pub uid: String,
    /// The generation of the spec.
    pub generation: i64,
    /// Where the component is, for people.
    pub location: String,
    /// The component, or the reason why there is none.
    pub component: Result<Component, Fault>,
    /// A fault of the source that does not concern this component, such as a registry that does not answer any more.
    pub source_fault: Option<Fault>,
    /// The keys that must have signed the image of the component, as a digest. `None` if none must.
    pub trust: Option<String>,
    /// The digest that the component has to have.
    pub digest: Option<String>,
    /// The limits of a call, as a configuration file with only this field.
    pub limits: String,
}

/// A component of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// The bytes.
    pub content: Content,
    /// The image that they are from. `None` if they are from no registry.
    pub image: Option<Image>,
}

impl From<Content> for Component {
    fn from(content: Content) -> Self {
        Self { content, image: None }
    }
}

/// An image in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The digest of the manifest.
    pub digest: String,
    /// A fact about the image that is no fault, for people.
    pub warning: Option<String>,
}

/// The parts of a SandboxPolicy that decide about its binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyObject {
    /// The UID of the object.
    pub uid: String,
    /// The generation of the spec.
    pub generation: i64,
    /// The name of the SandboxPlugin.
    pub plugin: String,
    /// The hook.
    pub hook: Hook,
    /// The effect of the decisions.
    pub mode: Mode,
    /// The other fields, as a configuration file of the plugin directory.
    pub config: String,
}

/// The parts of a SandboxPolicy with rules about isolation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsolationObject {
    /// The UID of the object.
    pub uid: String,
    /// The generation of the spec.
    pub generation: i64,
    /// The rules.
    pub rule: IsolationRule,
    /// The digest of the rules, by which replicas compare them.
    pub digest: String,
}

/// The state of every plugin and policy on this replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectStates {
    /// The state of each SandboxPlugin, by name.
    pub plugins: BTreeMap<String, LoadedState>,
    /// The state of each SandboxPolicy, by name.
    pub policies: BTreeMap<String, BoundState>,
}

/// The state of a SandboxPlugin on this replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadedState {
    /// The UID of the object.
    pub uid: String,
    /// The generation that was tried last.
    pub generation: i64,
    /// The digest of the component in use. `None` if no version works.
    pub digest: Option<String>,
    /// The image that it is from. `None` if it is from no registry.
    pub image: Option<Image>,
    /// The hooks that it exports.
    pub hooks: Vec<Hook>,
    /// The version of the WIT that it implements.
    pub wit_version: Option<String>,
    /// The fault of the current version. If there is a digest, an older version is in use.
    pub fault: Option<Fault>,
}

/// The state of a SandboxPolicy on this replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BoundState {
    /// The UID of the object.
    pub uid: String,
    /// The generation that was tried last.
    pub generation: i64,
    /// The digest of the component that decides, or of the rules about isolation. `None` if the failure policy applies.
    pub digest: Option<String>,
    /// The fault of the current version. If there is a digest, an older version is in use.
    pub fault: Option<Fault>,
}

/// The fault of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The reason in one word.
    pub reason: FaultReason,
    /// The field, the problem and the remedy.
    pub message: String,
}

impl Fault {
    pub(super) fn new(reason: FaultReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// The fault of an object that has this one. While the watch of the object, or that of its source, fails with an error,
    /// the replica may not know the newest version.
    fn during(outage: Option<&String>, fault: Option<&Self>) -> Option<Self> {
        let of_watch = |error: &String| {
            let message = format!("the watch has failed for a minute, so there may be a newer version: {error}");
            Self::new(FaultReason::WatchFailing, message)
        };
        outage.map(of_watch).or_else(|| fault.cloned())
    }
}

/// The reason of a fault, which is the reason of the condition Ready and of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultReason {
    /// There is no component at the source.
    SourceNotFound,
    /// The image of the component is being pulled for the first time.
    Pulling,
    /// The registry refuses the credentials, or demands some.
    Unauthorized,
    /// The registry cannot be reached, or does not answer as a registry.
    Unreachable,
    /// The image has more bytes than a component may have.
    TooLarge,
    /// The image does not contain exactly one component.
    NotAComponent,
    /// None of the keys has signed the image.
    SignatureInvalid,
    /// The pull Secret does not exist, may not be read, or has no credentials.
    PullSecretUnusable,
    /// The component has another digest than the spec or the manifest says.
    DigestMismatch,
    /// The component or its limits are refused.
    LoadFailed,
    /// A built-in plugin or a plugin of the directory has the same name.
    NameTaken,
    /// The SandboxPlugin does not exist.
    PluginNotFound,
    /// No version of the SandboxPlugin can be used.
    PluginNotLoaded,
    /// The plugin does not export the hook.
    HookNotExported,
    /// The plugin refuses the settings.
    InvalidSettings,
    /// A field of the policy has a fault.
    InvalidSpec,
    /// The watch of the object has failed for a while, so the replica may not know its newest version.
    WatchFailing,
}

impl FaultReason {
    /// The word in conditions and Events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SourceNotFound => reason::SOURCE_NOT_FOUND,
            Self::Pulling => reason::PULLING,
            Self::Unauthorized => reason::UNAUTHORIZED,
            Self::Unreachable => reason::UNREACHABLE,
            Self::TooLarge => reason::TOO_LARGE,
            Self::NotAComponent => reason::NOT_A_COMPONENT,
            Self::SignatureInvalid => reason::SIGNATURE_INVALID,
            Self::PullSecretUnusable => reason::PULL_SECRET_UNUSABLE,
            Self::DigestMismatch => reason::DIGEST_MISMATCH,
            Self::LoadFailed => reason::LOAD_FAILED,
            Self::NameTaken => reason::NAME_TAKEN,
            Self::PluginNotFound => reason::PLUGIN_NOT_FOUND,
            Self::PluginNotLoaded => reason::PLUGIN_NOT_LOADED,
            Self::HookNotExported => reason::HOOK_NOT_EXPORTED,
            Self::InvalidSettings => reason::INVALID_SETTINGS,
            Self::InvalidSpec => reason::INVALID_SPEC,
            Self::WatchFailing => reason::WATCH_FAILING,
        }
    }
}
