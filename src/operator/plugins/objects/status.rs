//! The status of plugins and policies, as functions of what the replicas report.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use paddock_api::names::{condition, reason};
use paddock_api::{
    PluginReplica, PolicyReplica, SandboxPlugin, SandboxPluginStatus, SandboxPolicy, SandboxPolicyStatus,
};
use paddock_core::conditions::{NewCondition, set_conditions};
use paddock_core::text::truncate;
use serde::Serialize;

use super::usage::Calls;
use super::{BoundState, LoadedState};
use crate::limits;

/// The length of the longest message in a status, in characters. The API server accepts 32 KiB in a condition.
const MESSAGE_CHARS: usize = 1024;

/// The entry of a replica in a status.
pub(super) trait ReplicaEntry: Clone + PartialEq + Serialize {
    /// The part of the entry on which conditions depend.
    fn reported(&self) -> Reported<'_>;

    /// The entry without what is written at intervals: the time, and the numbers of calls.
    fn lasting(&self) -> Self;

    /// The entry without the time.
    fn without_time(&self) -> Self;
}

/// The part of an entry on which conditions depend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported<'a> {
    pub(super) name: &'a str,
    generation: Option<i64>,
    digest: Option<&'a str>,
    /// The reason and the message.
    fault: Option<(&'a str, &'a str)>,
    pub(super) renewed: Option<Timestamp>,
}

impl ReplicaEntry for PluginReplica {
    fn reported(&self) -> Reported<'_> {
        Reported {
            name: &self.name,
            generation: self.observed_generation,
            digest: self.digest.as_deref(),
            fault: self.reason.as_deref().zip(self.last_error.as_deref()),
            renewed: self.renew_time.as_ref().map(|time| time.0),
        }
    }

    fn lasting(&self) -> Self {
        Self { calls: None, failures: None, traps: None, ..self.without_time() }
    }

    fn without_time(&self) -> Self {
        Self { renew_time: None, ..self.clone() }
    }
}

impl ReplicaEntry for PolicyReplica {
    fn reported(&self) -> Reported<'_> {
        Reported {
            name: &self.name,
            generation: self.observed_generation,
            digest: self.digest.as_deref(),
            fault: self.reason.as_deref().zip(self.last_error.as_deref()),
            renewed: self.renew_time.as_ref().map(|time| time.0),
        }
    }

    fn lasting(&self) -> Self {
        self.without_time()
    }

    fn without_time(&self) -> Self {
        Self { renew_time: None, ..self.clone() }
    }
}

/// The entry of a replica in the status of a plugin.
pub(super) fn plugin_entry(replica: &str, state: &LoadedState, calls: Calls, now: Timestamp) -> PluginReplica {
    PluginReplica {
        name: replica.to_owned(),
        observed_generation: Some(state.generation),
        digest: state.digest.clone(),
        image_digest: state.image.as_ref().map(|image| image.digest.clone()),
        hooks: state.hooks.clone(),
        wit_version: state.wit_version.clone(),
        last_error: state.fault.as_ref().map(|fault| truncate(&fault.message, MESSAGE_CHARS)),
        reason: state.fault.as_ref().map(|fault| fault.reason.as_str().to_owned()),
        warning: state.image.as_ref().and_then(|image| Some(truncate(image.warning.as_ref()?, MESSAGE_CHARS))),
        calls: Some(calls.all),
        failures: Some(calls.failures),
        traps: Some(calls.traps),
        renew_time: Some(seconds(now)),
    }
}

/// The entry of a replica in the status of a policy.
pub(super) fn policy_entry(replica: &str, state: &BoundState, now: Timestamp) -> PolicyReplica {
    PolicyReplica {
        name: replica.to_owned(),
        observed_generation: Some(state.generation),
        digest: state.digest.clone(),
        last_error: state.fault.as_ref().map(|fault| truncate(&fault.message, MESSAGE_CHARS)),
        reason: state.fault.as_ref().map(|fault| fault.reason.as_str().to_owned()),
        renew_time: Some(seconds(now)),
    }
}

fn seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// The replicas of the operator, by their names in a status: whether each is Ready. Known only inside of a cluster.
pub(super) type Replicas = BTreeMap<String, bool>;

/// Whether an entry is so old that its replica cannot exist any more.
pub(super) fn is_stale(entry: &Reported<'_>, now: Timestamp) -> bool {
    entry.renewed.is_none_or(|renewed| age(renewed, now) > limits::PLUGIN_ENTRY_LIFETIME)
}

/// The time since a replica wrote its entry. Zero if its clock is ahead.
pub(super) fn age(renewed: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(renewed)).unwrap_or_default()
}

/// Whether the leader of this replica's operator writes the conditions of an object with these live entries.
///
/// Operators for single namespaces share the objects, and each knows its own Pods. If each wrote what it knows, they would
/// write against each other. So the operator whose namespace comes first writes. Processes outside of a cluster have no
/// namespace in their names and know no Pods. They write the same, and only where no Pod does.
pub(super) fn writes_conditions<'a>(own: &'a str, live: impl Iterator<Item = &'a str>) -> bool {
    let operator = |replica: &'a str| match replica.split_once('/') {
        Some((namespace, _)) => (false, namespace),
        None => (true, ""),
    };
    live.map(operator).all(|other| operator(own) <= other)
}

/// What the live entries of an object say together.
enum Together<'a> {
    /// A replica refuses the spec. The digest is that of the former version which it uses.
    Fault { name: &'a str, reason: &'a str, message: &'a str, has_former: bool },
    /// Every replica uses the same component.
    Same { digest: &'a str, replicas: usize },
    /// The replicas do not agree yet, for this reason.
    Disagree(String),
}

/// What the live entries of an object say together, and the digest that all of them use. `replicas` are the replicas of
/// this operator: one without an entry is missed.
fn together<'a>(
    mut entries: Vec<Reported<'a>>,
    generation: i64,
    replicas: Option<&'a Replicas>,
) -> (Together<'a>, Option<&'a str>) {
    entries.sort_by_key(|entry| entry.name);
    let is_behind = |entry: &Reported<'_>| entry.generation != Some(generation);
    let faulty = entries.iter().filter(|entry| !is_behind(entry)).find_map(|entry| Some((*entry, entry.fault?)));
    // A replica that is not Ready may be starting. Its fault counts, and nobody waits for it.
    entries.retain(|entry| may_be_ready(entry.name, replicas));
    let digests: BTreeSet<&str> = entries.iter().filter_map(|entry| entry.digest).collect();
    let digest = digests.first().copied().filter(|_| digests.len() == 1);
    if let Some((Reported { name, digest: former, .. }, (reason, message))) = faulty {
        return (Together::Fault { name, reason, message, has_former: former.is_some() }, digest);
    }
    let behind = entries.iter().filter(|entry| is_behind(entry) || entry.digest.is_none());
    let mut waiting: Vec<&str> = behind.map(|entry| entry.name).collect();
    let ready = replicas.into_iter().flatten().filter(|(_, is_ready)| **is_ready).map(|(name, _)| name.as_str());
    waiting.extend(ready.filter(|name| !entries.iter().any(|entry| entry.name == *name)));
    let together = match digest {
        _ if waiting.is_empty() && digests.is_empty() => Together::Disagree("waiting for the replicas".to_owned()),
        _ if !waiting.is_empty() => Together::Disagree(format!("waiting for {}", waiting.join(", "))),
        Some(digest) => Together::Same { digest, replicas: entries.len() },
        None => {
            let digests: Vec<&str> = digests.into_iter().collect();
            Together::Disagree(format!("the replicas use several versions: {}", digests.join(", ")))
        }
    };
    (together, digest)
}

/// Whether a replica is Ready, or is one whose Pod this operator does not know.
fn may_be_ready(name: &str, replicas: Option<&Replicas>) -> bool {
    replicas.and_then(|replicas| replicas.get(name)) != Some(&false)
}

/// The live entries: those of replicas that may still exist.
pub(super) fn live<'a, E: ReplicaEntry>(
    entries: &'a [E],
    replicas: Option<&Replicas>,
    now: Timestamp,
) -> Vec<Reported<'a>> {
    let reported = entries.iter().map(ReplicaEntry::reported);
    reported.filter(|entry| !is_gone(entry.name, replicas) && !is_stale(entry, now)).collect()
}

/// The part of a plugin's status that the leader writes. It depends on the entries alone and not on what this replica uses.
pub(super) fn of_plugin(plugin: &SandboxPlugin, replicas: Option<&Replicas>, now: Timestamp) -> SandboxPluginStatus {
    let generation = plugin.metadata.generation.unwrap_or_default();
    let before = plugin.status.clone().unwrap_or_default();
    let entries = live(&before.replicas, replicas, now);
    let counted: Vec<&PluginReplica> = before
        .replicas
        .iter()
        .filter(|own| may_be_ready(&own.name, replicas) && entries.iter().any(|entry| entry.name == own.name))
        .collect();
    let first = entries.iter().map(|entry| entry.name).min();
    let hooks = before.replicas.iter().find(|entry| Some(entry.name.as_str()) == first);
    let images: BTreeSet<Option<&str>> = counted.iter().map(|entry| entry.image_digest.as_deref()).collect();
    let warning = counted.iter().find_map(|entry| entry.warning.as_ref());
    let warning = warning.map(|warning| format!(". Warning: {warning}")).unwrap_or_default();
    let (together, digest) = together(entries, generation, replicas);
    let (holds, reason, message) = match together {
        Together::Disagree(message) => (false, reason::WAITING_FOR_REPLICAS, message),
        Together::Fault { name, reason, message, .. } => (false, reason, format!("{message} (on {name})")),
        Together::Same { digest, replicas } => {
            let plural = if replicas == 1 { "" } else { "s" };
            (true, reason::LOADED, format!("{digest} is in use on {replicas} replica{plural}{warning}"))
        }
    };
    let ready = NewCondition::new(condition::READY, holds, reason, truncate(&message, MESSAGE_CHARS));
    SandboxPluginStatus {
        observed_generation: Some(generation),
        digest: digest.map(str::to_owned),
        image_digest: images.first().filter(|_| images.len() == 1).copied().flatten().map(str::to_owned),
        hooks: hooks.map(|entry| entry.hooks.clone()).unwrap_or_default(),
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

/// The part of a policy's status that the leader writes. It depends on the entries alone, as that of a plugin.
pub(super) fn of_policy(policy: &SandboxPolicy, replicas: Option<&Replicas>, now: Timestamp) -> SandboxPolicyStatus {
    let generation = policy.metadata.generation.unwrap_or_default();
    let before = policy.status.clone().unwrap_or_default();
    let (together, digest) = together(live(&before.replicas, replicas, now), generation, replicas);
    let (holds, reason, message) = match together {
        Together::Disagree(message) => (false, reason::WAITING_FOR_REPLICAS, message),
        Together::Fault { name, reason, message, has_former } => {
            let effect = if has_former { "The last good version stays in force" } else { "The failurePolicy applies" };
            (false, reason, format!("{message}. {effect} (on {name})"))
        }
        Together::Same { .. } => {
            let message = policy.spec.plugin.as_ref().map_or_else(
                || "the rules about isolation are in force".to_owned(),
                |plugin| format!("SandboxPlugin {plugin} decides with these settings"),
            );
            (true, reason::BOUND, message)
        }
    };
    let ready = NewCondition::new(condition::READY, holds, reason, truncate(&message, MESSAGE_CHARS));
    SandboxPolicyStatus {
        observed_generation: Some(generation),
        digest: digest.map(str::to_owned),
        conditions: set_conditions(&before.conditions, vec![ready], generation, now),
        replicas: Vec::new(),
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
                renew_time: Some(Time(Timestamp::UNIX_EPOCH)),
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
    fn image_is_that_of_all_replicas_and_a_warning_is_in_the_message() {
        let with_images = |images: [Option<&str>; 2]| {
            let mut plugin = plugin(&[("sys/a", "1", None), ("sys/b", "1", None)]);
            let entries = &mut plugin.status.as_mut().unwrap().replicas;
            for (entry, image) in entries.iter_mut().zip(images) {
                entry.image_digest = image.map(str::to_owned);
            }
            entries[1].warning = Some("it has no signature".to_owned());
            of_plugin(&plugin, None, Timestamp::UNIX_EPOCH)
        };
        assert_eq!(with_images([Some("m"), Some("m")]).image_digest.as_deref(), Some("m"));
        assert_eq!(with_images([Some("m"), Some("n")]).image_digest, None);
        assert_eq!(with_images([None, Some("n")]).image_digest, None);
        assert_eq!(with_images([None, None]).image_digest, None);
        let condition = &with_images([Some("m"), Some("m")]).conditions[0];
        assert_eq!(condition.status, "True");
        assert_eq!(condition.message, "1 is in use on 2 replicas. Warning: it has no signature");
    }

    #[test]
    fn entry_of_a_pod_that_is_gone_is_recognized_in_the_own_namespace_alone() {
        let replicas: Replicas = [("sys/a".to_owned(), true)].into();
        for (name, gone) in [("sys/a", false), ("sys/old", true), ("team/old", false), ("host_1", false)] {
            assert_eq!(is_gone(name, Some(&replicas)), gone, "{name}");
            assert!(!is_gone(name, None) && !is_gone(name, Some(&Replicas::new())));
        }
    }

    /// The replica of an operator that was killed, in a namespace whose Pods nobody else reads.
    #[test]
    fn entry_that_was_not_renewed_keeps_no_plugin_from_ready() {
        let entries = [("sys/a", "1", None), ("team/a", "2", Some("broken"))];
        let mut plugin = plugin(&entries);
        let now = Timestamp::UNIX_EPOCH + limits::PLUGIN_ENTRY_LIFETIME + Duration::from_secs(1);
        plugin.status.as_mut().unwrap().replicas[0].renew_time = Some(Time(now));
        let pods: Replicas = [("sys/a".to_owned(), true)].into();
        let status = of_plugin(&plugin, Some(&pods), now);
        assert_eq!((status.conditions[0].reason.as_str(), status.digest.as_deref()), ("Loaded", Some("1")));
        let just_alive = Timestamp::UNIX_EPOCH + limits::PLUGIN_ENTRY_LIFETIME;
        let status = of_plugin(&plugin, Some(&pods), just_alive);
        assert_eq!(status.conditions[0].reason, "LoadFailed");
        // An entry without a time is that of no replica of this version.
        plugin.status.as_mut().unwrap().replicas[0].renew_time = None;
        assert!(live(&plugin.status.unwrap().replicas, None, now).is_empty());
    }

    #[test]
    fn one_operator_writes_the_conditions_that_several_share() {
        let all = ["team-b/x", "team-a/x", "team-a/y", "laptop", "desktop"];
        let writers = |live: &[&str]| -> Vec<&str> {
            all.into_iter().filter(|own| writes_conditions(own, live.iter().copied())).collect()
        };
        assert_eq!(writers(&all), ["team-a/x", "team-a/y"]);
        assert_eq!(writers(&["team-b/x", "laptop"]), ["team-b/x", "team-a/x", "team-a/y"]);
        // Processes write the same, because they know no Pods.
        assert_eq!(writers(&["laptop", "desktop"]), all);
    }

    #[test]
    fn condition_of_a_policy_names_the_replica_that_refuses_it() {
        let spec = serde_json::json!({ "plugin": "p", "hook": "idle" });
        let mut policy = SandboxPolicy::new("a", serde_json::from_value(spec).unwrap());
        policy.metadata.generation = Some(2);
        let entry = |name: &str, generation, digest: Option<&str>, error: Option<&str>| PolicyReplica {
            name: name.to_owned(),
            observed_generation: Some(generation),
            digest: digest.map(str::to_owned),
            last_error: error.map(str::to_owned),
            reason: error.map(|_| "InvalidSettings".to_owned()),
            renew_time: Some(Time(Timestamp::UNIX_EPOCH)),
        };
        for (entries, expected) in [
            (vec![entry("a/x", 2, Some("1"), None), entry("b/x", 2, Some("1"), None)], ("Bound", "decides")),
            (
                vec![entry("a/x", 2, Some("1"), None), entry("b/x", 2, Some("1"), Some("bad"))],
                ("InvalidSettings", "bad. The last good version stays in force (on b/x)"),
            ),
            (
                vec![entry("a/x", 2, None, Some("bad")), entry("b/x", 2, Some("1"), None)],
                ("InvalidSettings", "bad. The failurePolicy applies (on a/x)"),
            ),
            // A fault of the former spec says nothing about this one.
            (vec![entry("a/x", 1, None, Some("bad"))], ("WaitingForReplicas", "waiting for a/x")),
            (vec![], ("WaitingForReplicas", "waiting for the replicas")),
        ] {
            policy.status = Some(SandboxPolicyStatus { replicas: entries, ..SandboxPolicyStatus::default() });
            let status = of_policy(&policy, None, Timestamp::UNIX_EPOCH);
            let ready = &status.conditions[0];
            assert_eq!(ready.reason, expected.0);
            assert!(ready.message.contains(expected.1), "{}", ready.message);
        }
        // Rules about isolation have no plugin, and are Ready when all replicas have the same.
        policy.spec = serde_json::from_value(serde_json::json!({ "isolation": { "allow": ["hostPath"] } })).unwrap();
        for (digests, expected) in [(["1", "1"], "Bound"), (["1", "2"], "WaitingForReplicas")] {
            let replicas = [("a/x", digests[0]), ("b/x", digests[1])];
            let replicas = replicas.map(|(name, digest)| entry(name, 2, Some(digest), None)).to_vec();
            policy.status = Some(SandboxPolicyStatus { replicas, ..SandboxPolicyStatus::default() });
            let ready = of_policy(&policy, None, Timestamp::UNIX_EPOCH).conditions.remove(0);
            assert_eq!(ready.reason, expected, "{}", ready.message);
        }
    }
}
