//! The invariants of a single change.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Actor, Oracle, controller, is_terminating, last_seen, uid};
use crate::sim::api::{Api, Change, Id, Resource};
use crate::sim::operator::View;

impl Oracle {
    /// Some writes are always wrong, whatever the operator's snapshot contains.
    pub(super) fn may_be_written(&self, change: &Change, actor: &Actor) -> Result<(), String> {
        let Actor::Operator { reason, .. } = actor else { return Ok(()) };
        let id = &change.id;
        let deleted = change.after.as_ref().is_none_or(|a| is_terminating(a));
        match (&change.before, id.resource.kind()) {
            (Some(_), "PersistentVolumeClaim") if deleted => Err(format!("{id:?} was deleted: {reason}")),
            (_, "Node" | "Namespace" | "RuntimeClass" | "StorageClass") => Err(format!("{id:?} was written: {reason}")),
            (Some(before), "Sandbox") if *reason == "ScheduledWake" => {
                let by = before["metadata"]["annotations"]["policy.paddock.dev/suspended-by"].as_str();
                if matches!(by, Some("Idle" | "Drain")) {
                    return Ok(());
                }
                Err(format!("{id:?} was suspended by a user, and its schedule resumed it"))
            }
            (Some(before), "Pod" | "Service" | "EndpointSlice" | "NetworkPolicy") => {
                let adoptable = before["metadata"]["labels"]["agents.x-k8s.io/adoptable"] == "true";
                // A NetworkPolicy outlives its template, so it has no controller.
                let of_template = before["metadata"]["annotations"]["policy.paddock.dev/template"].is_string();
                if controller(before).is_none() && !adoptable && !of_template {
                    return Err(format!("{id:?} is nobody's and was written: {reason}"));
                }
                Ok(())
            }
            (Some(_) | None, _) => Ok(()),
        }
    }

    /// A Sandbox of a template gets a pod only while the NetworkPolicy of the template exists and selects the pod. The
    /// operator knows the policy from its watch or from the reply to its own write.
    pub(super) fn behind_its_policy(change: &Change, actor: &Actor, api: &Api) -> Result<(), String> {
        let (None, Some(pod), Actor::Operator { view, .. }) = (&change.before, &change.after, actor) else {
            return Ok(());
        };
        let id = &change.id;
        let Some(sandbox) = controller(pod).and_then(|(.., uid)| api.by_uid(uid)) else { return Ok(()) };
        let Some(("SandboxWarmPool" | "SandboxClaim", ..)) = controller(sandbox) else { return Ok(()) };
        let name = sandbox["metadata"]["annotations"]["agents.x-k8s.io/sandbox-template-ref"].as_str();
        let name = name.ok_or_else(|| format!("{id:?} belongs to a Sandbox without the name of its template"))?;
        let seed = sandbox["metadata"]["ownerReferences"][0]["apiVersion"] == "agents.x-k8s.io/v1alpha1";
        let resource = if seed { Resource::SEED_TEMPLATE } else { Resource::TEMPLATE };
        let template = last_seen(api, &Id::new(resource, &id.namespace, name), view);
        let management = match &template {
            Some(template) => &template["spec"]["networkPolicyManagement"],
            None => &sandbox["status"]["template"]["networkPolicyManagement"],
        };
        let policy = Id::new(Resource::NETWORK_POLICY, &id.namespace, &format!("{name}-network-policy"));
        let selects = |policy: &Value| {
            let wanted = policy["spec"]["podSelector"]["matchLabels"].as_object();
            wanted.is_some_and(|wanted| {
                !wanted.is_empty() && wanted.iter().all(|(key, value)| *value == pod["metadata"]["labels"][key])
            })
        };
        let known =
            api.get(&policy).is_some_and(|p| selects(p)) || last_seen(api, &policy, view).is_some_and(|p| selects(&p));
        if management != "Unmanaged" && !known {
            return Err(format!("{id:?} was created without {policy:?}"));
        }
        Ok(())
    }

    pub(super) fn one_live_pod(&mut self, change: &Change, actor: &Actor) -> Result<(), String> {
        let live = |pod: &Value| {
            !is_terminating(pod) && !matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
        };
        let Some((sandbox, _)) = track(&mut self.pods, change, "Sandbox", live) else { return Ok(()) };
        let pods = &self.pods[&sandbox];
        if pods.len() > 1 && matches!(actor, Actor::Operator { .. }) {
            return Err(format!("the Sandbox {sandbox} has more than one live pod: {pods:?}"));
        }
        Ok(())
    }

    /// A Sandbox is taken once: a claim takes it from a pool, or it has no controller before. It never changes from one
    /// claim to another.
    pub(super) fn hands(&mut self, change: &Change, actor: &Actor, api: &Api) -> Result<(), String> {
        let id = &change.id;
        let claim_of = |document: &Value| match controller(document) {
            Some(("SandboxClaim", _, claim)) => Some(claim.to_owned()),
            Some(_) | None => None,
        };
        let before = change.before.as_ref().and_then(|b| claim_of(b));
        let after = change.after.as_ref().and_then(|a| claim_of(a));
        if let (Some(before), Some(document)) = (&before, &change.after)
            && after.as_ref() != Some(before)
        {
            return Err(format!("{id:?} went from claim {before} to {:?}", controller(document)));
        }
        if let (Some(claim), Some(document)) = (&after, &change.after) {
            let sandbox = uid(document).to_owned();
            self.had.insert((claim.clone(), id.name.to_string()));
            let first = self.taken_by.entry(sandbox).or_insert_with(|| claim.clone());
            if first != claim {
                return Err(format!("{id:?} was taken by claim {first} and then by {claim}"));
            }
            if before.is_none() && change.before.as_ref().is_some_and(|b| controller(b).is_some()) {
                self.adoptions += 1;
                if let Actor::Operator { view, .. } = actor {
                    may_be_taken(change, self.tried.get(&(id.clone(), claim.clone())).unwrap_or(view), api)?;
                }
            }
        }
        if let Some((claim, _)) = track(&mut self.owned, change, "SandboxClaim", |s| !is_terminating(s))
            && self.faultless
            && self.owned[&claim].len() > 1
        {
            let owned = &self.owned[&claim];
            return Err(format!("claim {claim} has more than one Sandbox, though nothing was lost: {owned:?}"));
        }
        Ok(())
    }

    /// A Sandbox of a claim is deleted only when the claim ends, or when the claim's status names another Sandbox.
    pub(super) fn deletion(&self, change: &Change, actor: &Actor, api: &Api) -> Result<(), String> {
        let (Actor::Operator { reason, .. }, Some(before)) = (actor, &change.before) else { return Ok(()) };
        let deleted = change.after.as_ref().is_none_or(|a| is_terminating(a)) && !is_terminating(before);
        let Some(("SandboxClaim", _, claim)) = controller(before).filter(|_| deleted) else { return Ok(()) };
        let id = &change.id;
        match *reason {
            "Expired" | "TtlPassed" | "IdleDeleted" => Ok(()),
            "ClaimSurplus" => {
                let named = api.by_uid(claim).map(|c| c["status"]["sandbox"]["name"].clone());
                if named.as_ref().and_then(Value::as_str) == Some(&*id.name) {
                    return Err(format!("{id:?} is the one that its claim's status names, and was deleted as surplus"));
                }
                Ok(())
            }
            other => Err(format!("{id:?} is a claim's and was deleted: {other}")),
        }
    }

    /// A pool never exceeds the maximum that its operator could know.
    pub(super) fn members(&mut self, change: &Change, actor: &Actor, api: &Api) -> Result<(), String> {
        let Some((pool, added)) = track(&mut self.members, change, "SandboxWarmPool", |s| !is_terminating(s)) else {
            return Ok(());
        };
        let Actor::Operator { view, .. } = actor else { return Ok(()) };
        let count = self.members[&pool].len();
        let most = most_known(api, &pool, view);
        if added && !self.handed_over && most.is_some_and(|most| count > most) {
            return Err(format!("pool {pool} has {count} Sandboxes, its maximum is {most:?}"));
        }
        Ok(())
    }

    /// `status.sandbox` never changes once it is set, and it names a Sandbox that the claim has owned.
    pub(super) fn final_choice(&mut self, change: &Change) -> Result<(), String> {
        let Some(after) = &change.after else { return Ok(()) };
        let claim = uid(after).to_owned();
        let name = after["status"]["sandbox"]["name"].as_str();
        match (self.committed.get(&claim), name) {
            (Some(first), now) if Some(first.as_str()) != now => {
                Err(format!("{:?} named Sandbox {first} in its status, and now {now:?}", change.id))
            }
            (None, Some(name)) if !self.had.contains(&(claim.clone(), name.to_owned())) => {
                Err(format!("{:?} names Sandbox {name} in its status, which was never its own", change.id))
            }
            (None, Some(name)) => {
                self.committed.insert(claim, name.to_owned());
                Ok(())
            }
            (Some(_) | None, _) => Ok(()),
        }
    }
}

/// Updates the live objects of each controller of a kind. Returns the object's current controller, and whether the
/// object is new there.
fn track(
    of: &mut BTreeMap<String, BTreeSet<Id>>,
    change: &Change,
    kind: &str,
    live: impl Fn(&Value) -> bool,
) -> Option<(String, bool)> {
    let owner = |document: &Value| controller(document).filter(|(k, ..)| *k == kind).map(|(.., uid)| uid.to_owned());
    let before = change.before.as_ref().and_then(|b| owner(b));
    let after = change.after.as_ref().filter(|a| live(a)).and_then(|a| owner(a));
    if let Some(before) = before.filter(|b| after.as_ref() != Some(b))
        && let Some(set) = of.get_mut(&before)
    {
        set.remove(&change.id);
    }
    let after = after?;
    let added = of.entry(after.clone()).or_default().insert(change.id.clone());
    Some((after, added))
}

/// The largest maximum that a pool had since the operator's view of it.
fn most_known(api: &Api, pool: &str, view: &View) -> Option<usize> {
    let id = api.by_uid(pool).map(|p| {
        let resource = Resource::of(p).unwrap_or(Resource::POOL);
        Id::of(resource, p)
    })?;
    let log = api.changes(id.resource);
    let later = log.get(view.position(id.resource)..).unwrap_or_default();
    let states = later.iter().filter(|c| c.id == id).filter_map(|c| c.after.clone());
    states.chain(last_seen(api, &id, view)).map(|p| maximum(&p["spec"])).max()
}

/// The maximum that a pool's spec allows.
pub(super) fn maximum(spec: &Value) -> usize {
    let number = |field: &str| spec[field].as_u64().and_then(|n| usize::try_from(n).ok());
    match (number("minReady"), number("maxReady")) {
        (None, None) => number("replicas").unwrap_or(1),
        (Some(min), None) => min,
        (_, Some(max)) => max,
    }
}

/// A taken Sandbox was Ready, of the template's current revision and on a healthy, schedulable node, as far as its
/// operator could know.
fn may_be_taken(change: &Change, view: &View, api: &Api) -> Result<(), String> {
    let Some(before) = &change.before else { return Ok(()) };
    let id = &change.id;
    let pod = last_seen(api, &Id::new(Resource::POD, &id.namespace, &id.name), view);
    let Some(pod) = pod.filter(|p| crate::sim::nodes::is_ready(p)) else {
        return Err(format!("{id:?} was taken without a Ready pod"));
    };
    if is_terminating(&pod) {
        return Err(format!("{id:?} was taken while its pod was terminating"));
    }
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    if let Some(node) = last_seen(api, &Id::new(Resource::NODE, "", node), view)
        && (node["spec"]["unschedulable"] == true
            || node.pointer("/status/conditions/0/status") != Some(&"True".into()))
    {
        return Err(format!("{id:?} was taken on a node that is being drained or does not answer"));
    }
    if before["metadata"]["generation"] != 1 {
        return Err(format!("{id:?} was taken though somebody had changed it"));
    }
    let template =
        before["metadata"]["annotations"]["agents.x-k8s.io/sandbox-template-ref"].as_str().unwrap_or_default();
    let seed = before["metadata"]["ownerReferences"][0]["apiVersion"] == "agents.x-k8s.io/v1alpha1";
    let (resource, field) =
        if seed { (Resource::SEED_TEMPLATE, "template") } else { (Resource::TEMPLATE, "podTemplate") };
    let Some(template) = last_seen(api, &Id::new(resource, &id.namespace, template), view) else {
        return Err(format!("{id:?} was taken without its template"));
    };
    let image = |pod: &Value| pod["spec"]["containers"][0]["image"].clone();
    if image(&template["spec"][field]) != image(&before["spec"]["podTemplate"]) {
        return Err(format!("{id:?} was taken though its template had changed"));
    }
    Ok(())
}
