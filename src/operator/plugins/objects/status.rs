//! The status of plugins and policies, as functions of what the replicas report.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use paddock_api::names::{condition, reason};
use paddock_api::{PluginReplica, SandboxPlugin, SandboxPluginStatus, SandboxPolicy, SandboxPolicyStatus};
use paddock_core::conditions::{NewCondition, set_conditions};
use paddock_core::text::truncate;

use super::usage::Calls;
use super::{BoundState, LoadedState};

/// The length of the longest message in a status, in characters. The API server accepts 32 KiB in a condition.
const MESSAGE_CHARS: usize = 1024;

/// The entry of a replica in the status of a plugin.
pub(super) fn entry(replica: &str, state: &LoadedState, calls: Calls) -> PluginReplica {
    PluginReplica {
        name: replica.to_owned(),
        observed_generation: Some(state.generation),
        digest: state.digest.clone(),
        hooks: state.hooks.clone(),
        wit_version: state.wit_version.clone(),
        last_error: state.fault.as_ref().map(|fault| truncate(&fault.message, MESSAGE_CHARS)),
        reason: state.fault.as_ref().map(|fault| fault.reason.as_str().to_owned()),
        calls: Some(calls.all),
        failures: Some(calls.failures),
        traps: Some(calls.traps),
    }
}

/// An entry without the numbers of calls, which are written rarely.
pub(super) fn without_calls(entry: &PluginReplica) -> PluginReplica {
    PluginReplica { calls: None, failures: None, traps: None, ..entry.clone() }
}

/// The replicas of the operator, by their names in a status: whether each is Ready. Known only inside of a cluster.
pub(super) type Replicas = BTreeMap<String, bool>;

/// The part of a plugin's status that the leader writes. It depends on the entries alone and not on what this replica
/// uses, so that the leaders of two operators in one cluster agree. `replicas` are the replicas of this operator.
pub(super) fn of_plugin(plugin: &SandboxPlugin, replicas: Option<&Replicas>, now: Timestamp) -> SandboxPluginStatus {
    let generation = plugin.metadata.generation.unwrap_or_default();
    let before = plugin.status.clone().unwrap_or_default();
    let mut entries: Vec<&PluginReplica> =
        before.replicas.iter().filter(|entry| !is_gone(&entry.name, replicas)).collect();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let faulty = entries.iter().find_map(|entry| Some((*entry, entry.last_error.as_ref()?, entry.reason.as_ref()?)));
    // A replica that is not Ready may be starting. Its fault counts, and nobody waits for it.
    entries.retain(|entry| replicas.and_then(|replicas| replicas.get(&entry.name)) != Some(&false));
    let digests: BTreeSet<&str> = entries.iter().filter_map(|entry| entry.digest.as_deref()).collect();
    let is_behind = |entry: &&&PluginReplica| entry.observed_generation != Some(generation) || entry.digest.is_none();
    let behind = entries.iter().filter(is_behind);
    let mut waiting: Vec<&str> = behind.map(|entry| entry.name.as_str()).collect();
    let ready = replicas.into_iter().flatten().filter(|(_, is_ready)| **is_ready).map(|(name, _)| name.as_str());
    waiting.extend(ready.filter(|name| !entries.iter().any(|entry| entry.name == *name)));
    let first = digests.first().copied();
    let (holds, reason, message) = match (faulty, first) {
        (Some((entry, error, reason)), _) => (false, reason.as_str(), format!("{error} (on {})", entry.name)),
        (None, Some(digest)) if digests.len() == 1 && waiting.is_empty() => {
            let count = entries.len();
            (
                true,
                reason::LOADED,
                format!("{digest} is in use on {count} replica{}", if count == 1 { "" } else { "s" }),
            )
        }
        (None, Some(_)) if waiting.is_empty() => {
            let versions: Vec<&str> = digests.iter().copied().collect();
            (false, reason::WAITING_FOR_REPLICAS, format!("the replicas use several versions: {}", versions.join(", ")))
        }
        (None, Some(_) | None) => {
            let whom = if waiting.is_empty() { "the replicas".to_owned() } else { waiting.join(", ") };
            (false, reason::WAITING_FOR_REPLICAS, format!("waiting for {whom}"))
        }
    };
    let ready = NewCondition::new(condition::READY, holds, reason, truncate(&message, MESSAGE_CHARS));
    SandboxPluginStatus {
        observed_generation: Some(generation),
        digest: first.filter(|_| digests.len() == 1).map(str::to_owned),
        hooks: entries.first().map(|entry| entry.hooks.clone()).unwrap_or_default(),
        conditions: set_conditions(&before.conditions, vec![ready], generation, now),
        replicas: Vec::new(),
    }
}

/// Whether the entry of a replica stays behind: it has the name of a Pod of this operator, and there is no such Pod.
pub(super) fn is_gone(entry: &str, replicas: Option<&Replicas>) -> bool {
    let Some(replicas) = replicas else { return false };
    let namespace = |name: &str| name.split_once('/').map(|(namespace, _)| namespace.to_owned());
    let own = replicas.keys().find_map(|name| namespace(name));
    own.is_some() && namespace(entry) == own && !replicas.contains_key(entry)
}

/// The status of a policy, as this replica binds it.
pub(super) fn of_policy(policy: &SandboxPolicy, state: &BoundState, now: Timestamp) -> SandboxPolicyStatus {
    let before = policy.status.clone().unwrap_or_default();
    let (holds, reason, message) = match (&state.fault, &state.digest) {
        (None, Some(_)) => {
            (true, reason::BOUND, format!("SandboxPlugin {} decides with these settings", policy.spec.plugin))
        }
        (None, None) => (false, reason::PLUGIN_NOT_LOADED, "the plugin is being loaded".to_owned()),
        (Some(fault), Some(_)) => {
            (false, fault.reason.as_str(), format!("{}. The last good version stays in force", fault.message))
        }
        (Some(fault), None) => (false, fault.reason.as_str(), format!("{}. The failurePolicy applies", fault.message)),
    };
    let ready = NewCondition::new(condition::READY, holds, reason, truncate(&message, MESSAGE_CHARS));
    SandboxPolicyStatus {
        observed_generation: Some(state.generation),
        digest: state.digest.clone(),
        conditions: set_conditions(&before.conditions, vec![ready], state.generation, now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(entries: &[(&str, &str, Option<&str>)]) -> SandboxPlugin {
        let entries: Vec<PluginReplica> = entries
            .iter()
            .map(|(name, digest, error)| PluginReplica {
                name: (*name).to_owned(),
                observed_generation: Some(1),
                digest: Some((*digest).to_owned()).filter(|digest| !digest.is_empty()),
                last_error: error.map(str::to_owned),
                reason: error.map(|_| "LoadFailed".to_owned()),
                ..PluginReplica::default()
            })
            .collect();
        let mut plugin = SandboxPlugin::new("p", paddock_api::SandboxPluginSpec::default());
        plugin.metadata.generation = Some(1);
        plugin.status = Some(SandboxPluginStatus { replicas: entries, ..SandboxPluginStatus::default() });
        plugin
    }

    fn ready(entries: &[(&str, &str, Option<&str>)], replicas: &[(&str, bool)]) -> (String, String) {
        let replicas: Replicas = replicas.iter().map(|(name, ready)| ((*name).to_owned(), *ready)).collect();
        let replicas = (!replicas.is_empty()).then_some(&replicas);
        let status = of_plugin(&plugin(entries), replicas, Timestamp::UNIX_EPOCH);
        let condition = &status.conditions[0];
        (condition.status.clone() + " " + &condition.reason, condition.message.clone())
    }

    #[test]
    fn plugin_is_ready_if_every_ready_replica_uses_the_same_component() {
        let pods = [("sys/a", true), ("sys/b", true), ("sys/c", false)];
        for (entries, replicas, expected, part) in [
            (&[("sys/a", "1", None), ("sys/b", "1", None)][..], &pods[..], "True Loaded", "1 is in use on 2 replicas"),
            (&[("sys/a", "1", None)][..], &pods[..], "False WaitingForReplicas", "waiting for sys/b"),
            (
                &[("sys/a", "1", None), ("sys/b", "2", None)][..],
                &pods[..],
                "False WaitingForReplicas",
                "several versions",
            ),
            (&[("sys/a", "1", None), ("sys/b", "1", Some("bad"))][..], &pods[..], "False LoadFailed", "bad (on sys/b)"),
            // The Pod of an entry does not exist any more.
            (
                &[("sys/a", "2", None), ("sys/b", "2", None), ("sys/old", "1", None)][..],
                &pods[..],
                "True Loaded",
                "2 is",
            ),
            // Another operator has its own replicas.
            (&[("sys/a", "1", None), ("sys/b", "1", None), ("team/a", "2", None)][..], &pods[..], "False Waiting", ""),
            // Outside of a cluster, only the entries are known.
            (&[("host_1", "1", None)][..], &[][..], "True Loaded", "on 1 replica"),
            (&[][..], &[][..], "False WaitingForReplicas", "waiting for the replicas"),
            (&[("host_1", "", None)][..], &[][..], "False WaitingForReplicas", "waiting"),
        ] {
            let (condition, message) = ready(entries, replicas);
            assert!(condition.starts_with(expected) && message.contains(part), "{entries:?}: {condition}: {message}");
        }
    }

    #[test]
    fn entry_of_a_pod_that_is_gone_is_recognized_in_the_own_namespace_alone() {
        let replicas: Replicas = [("sys/a".to_owned(), true)].into();
        for (name, gone) in [("sys/a", false), ("sys/old", true), ("team/old", false), ("host_1", false)] {
            assert_eq!(is_gone(name, Some(&replicas)), gone, "{name}");
            assert!(!is_gone(name, None) && !is_gone(name, Some(&Replicas::new())));
        }
    }
}
