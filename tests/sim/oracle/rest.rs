//! The invariants of a cluster at rest: every request of the users is fulfilled, and every status reports it.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::rules::maximum;
use super::{controller, is_terminating, uid};
use crate::sim::api::{Api, Id, Resource};
use crate::sim::nodes::is_ready;

/// The largest difference between times that are rounded on the wire.
const SLACK: SignedDuration = SignedDuration::from_secs(3);

/// Returns the first violation of an invariant.
pub(crate) fn at_rest(api: &Api) -> Result<(), String> {
    for (id, document) in api.list(Resource::SANDBOX).filter(|(_, d)| !is_terminating(d)) {
        sandbox(api, id, document).map_err(|e| format!("at rest, {id:?}: {e}\n{document:#}"))?;
    }
    for resource in [Resource::CLAIM, Resource::SEED_CLAIM] {
        for (id, document) in api.list(resource).filter(|(_, d)| !is_terminating(d)) {
            claim(api, id, document).map_err(|e| format!("at rest, {id:?}: {e}\n{document:#}"))?;
        }
    }
    for resource in [Resource::POOL, Resource::SEED_POOL] {
        for (id, document) in api.list(resource).filter(|(_, d)| !is_terminating(d)) {
            pool(api, id, document).map_err(|e| format!("at rest, {id:?}: {e}\n{document:#}"))?;
        }
    }
    for resource in [Resource::TEMPLATE, Resource::SEED_TEMPLATE] {
        for (id, document) in api.list(resource).filter(|(_, d)| !is_terminating(d)) {
            template(api, id, document).map_err(|e| format!("at rest, {id:?}: {e}"))?;
        }
    }
    for (id, document) in api.list(Resource::NETWORK_POLICY) {
        network_policy(api, id, document).map_err(|e| format!("at rest, {id:?}: {e}"))?;
    }
    Ok(())
}

/// A NetworkPolicy of a template lasts for as long as a template or a pod of that name exists, and has the spec that the
/// operator wrote last.
fn network_policy(api: &Api, id: &Id, document: &Value) -> Result<(), String> {
    let annotations = &document["metadata"]["annotations"];
    let Some(name) =
        id.name.strip_suffix("-network-policy").filter(|_| annotations["policy.paddock.dev/template"].is_string())
    else {
        return Ok(());
    };
    let kept: Value =
        serde_json::from_str(annotations["policy.paddock.dev/network-policy-spec"].as_str().unwrap_or_default())
            .map_err(|e| format!("its kept spec is not readable: {e}"))?;
    expect(document["spec"]["podSelector"] == kept["podSelector"], || "somebody's change was not undone".to_owned())?;
    let templates = [Resource::TEMPLATE, Resource::SEED_TEMPLATE];
    let template = templates.into_iter().any(|t| api.get(&Id::new(t, &id.namespace, name)).is_some());
    let sandbox = api.list(Resource::SANDBOX).any(|(s, d)| {
        s.namespace == id.namespace && d["metadata"]["annotations"]["agents.x-k8s.io/sandbox-template-ref"] == name
    });
    let label = "agents.x-k8s.io/sandbox-template-ref-hash";
    let selected = &document["spec"]["podSelector"]["matchLabels"][label];
    let pod = api
        .list(Resource::POD)
        .any(|(p, d)| p.namespace == id.namespace && d["metadata"]["labels"][label] == *selected);
    expect(template || sandbox || pod, || "nobody needs it, and it exists".to_owned())
}

fn expect(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

fn condition<'a>(document: &'a Value, kind: &str) -> Option<&'a Value> {
    document["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == kind)
}

/// The status and the reason of a condition.
fn state<'a>(document: &'a Value, kind: &str) -> (&'a str, &'a str) {
    condition(document, kind)
        .map_or(("", ""), |c| (c["status"].as_str().unwrap_or_default(), c["reason"].as_str().unwrap_or_default()))
}

fn owned<'a>(api: &'a Api, owner: &Value, resource: Resource) -> Vec<(&'a Id, &'a Value)> {
    let dependents = api.dependents(uid(owner)).filter(|id| id.resource == resource);
    dependents
        .filter_map(|id| Some((id, &**api.get(id)?)))
        .filter(|(_, d)| controller(d).is_some_and(|(.., u)| u == uid(owner)))
        .collect()
}

fn time(value: &Value) -> Option<Timestamp> {
    value.as_str().and_then(|t| t.parse().ok())
}

fn passed(api: &Api, at: &Value) -> bool {
    time(at).is_some_and(|at| at <= api.now)
}

fn sandbox(api: &Api, id: &Id, document: &Value) -> Result<(), String> {
    let (spec, status) = (&document["spec"], &document["status"]);
    let pods = owned(api, document, Resource::POD);
    let service = api.get(&Id::new(Resource::SERVICE, &id.namespace, &id.name)).map(|s| &**s);
    let its_service = service.filter(|s| controller(s).is_some_and(|(.., u)| u == uid(document)));
    let ready = state(document, "Ready");
    if spec["idleTimeout"] == "soon" {
        return expect(ready == ("False", "ReconcilerError"), || format!("it is invalid, and Ready is {ready:?}"));
    }
    if passed(api, &spec["shutdownTime"]) {
        expect(pods.is_empty(), || format!("expired, and has {} pods", pods.len()))?;
        expect(its_service.is_none(), || "expired, and has its Service".to_owned())?;
        return expect(ready == ("False", "SandboxExpired"), || format!("expired, and Ready is {ready:?}"));
    }
    let running = match (spec["operatingMode"].as_str(), spec["replicas"].as_u64()) {
        (Some("Running"), Some(1)) => true,
        (Some("Suspended"), Some(0)) => false,
        other => return Err(format!("its mode fields do not agree: {other:?}")),
    };
    addresses(api, id, document, its_service, running)?;
    expect(document["status"]["conditions"].as_array().is_some_and(|c| !c.is_empty()), || {
        "it has no status".to_owned()
    })?;
    schedule(api, document, running)?;
    let suspended = state(document, "Suspended");
    if !running {
        expect(pods.is_empty(), || "suspended, and has a pod".to_owned())?;
        expect(ready == ("False", "SandboxSuspended"), || format!("suspended, and Ready is {ready:?}"))?;
        return expect(suspended == ("True", "PodTerminated"), || format!("suspended, and Suspended is {suspended:?}"));
    }
    expect(suspended == ("False", "NotSuspended"), || format!("running, and Suspended is {suspended:?}"))?;
    let [(_, pod)] = pods.as_slice() else { return Err(format!("running, and has {} pods", pods.len())) };
    if matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")) {
        return expect(state(document, "Finished").0 == "True", || "its pod ended, and it is not Finished".to_owned());
    }
    expect(is_ready(pod), || "its pod does not get Ready".to_owned())?;
    expect(ready == ("True", "DependenciesReady"), || format!("its pod is Ready, and Ready is {ready:?}"))?;
    let ips: Vec<&Value> = pod["status"]["podIPs"].as_array().into_iter().flatten().map(|ip| &ip["ip"]).collect();
    let reported: Vec<&Value> = status["podIPs"].as_array().into_iter().flatten().collect();
    expect(ips == reported, || format!("its pod has {ips:?}"))?;
    let labels = &pod["metadata"]["labels"];
    let claim = controller(document).filter(|(kind, ..)| *kind == "SandboxClaim").map(|(.., uid)| uid);
    expect(labels["agents.x-k8s.io/claim-uid"].as_str() == claim, || format!("its pod's labels are {labels}"))?;
    rested(api, document, pod)
}

/// The minute of each hour at which the schedule has a time. `None` without a schedule, and if it is not valid.
fn minute(document: &Value) -> Option<i64> {
    document["spec"]["wakeSchedule"]["cron"].as_str()?.strip_suffix(" * * * *")?.parse().ok()
}

/// The last time of such a schedule, in seconds.
fn last_time(now: Timestamp, minute: i64) -> i64 {
    let this_hour = now.as_second() / 3600 * 3600 + minute * 60;
    if this_hour <= now.as_second() { this_hour } else { this_hour - 3600 }
}

/// The status shows the next time of the schedule if the Sandbox is resumed then, and the problem of a schedule that is not
/// valid.
fn schedule(api: &Api, document: &Value, running: bool) -> Result<(), String> {
    let minute = minute(document);
    let not_valid = minute.is_none() && !document["spec"]["wakeSchedule"].is_null();
    expect(document["status"]["wakeProblem"].is_string() == not_valid, || {
        "its status is about another schedule".to_owned()
    })?;
    let by_operator = document["metadata"]["annotations"]["policy.paddock.dev/suspended-by"].is_string();
    let wanted = minute.filter(|_| !running && by_operator).map(|minute| last_time(api.now, minute) + 3600);
    let next = time(&document["status"]["nextWake"]).map(Timestamp::as_second);
    expect(next == wanted, || format!("its next time is {next:?}, and that of its schedule is {wanted:?}"))
}

/// The Service is as the spec requires, and the EndpointSlice of a stable Service has the right endpoint.
fn addresses(api: &Api, id: &Id, document: &Value, service: Option<&Value>, running: bool) -> Result<(), String> {
    let spec = &document["spec"];
    let on_demand = spec["resumePolicy"] == "OnDemand";
    let headless = spec.get("template").is_some() || spec["service"] == true;
    if on_demand || headless {
        let Some(service) = service else { return Err("it has no Service".to_owned()) };
        // The stable address of an on-demand Sandbox needs a cluster IP. Every other Service is headless.
        let is_headless = service["spec"]["clusterIP"] == "None";
        expect(is_headless != on_demand, || format!("its Service is {service}"))?;
        return if on_demand { slice(api, id, document, running) } else { Ok(()) };
    }
    expect(spec["service"] != false || service.is_none(), || "it has a Service that is not wanted".to_owned())
}

fn slice(api: &Api, id: &Id, document: &Value, running: bool) -> Result<(), String> {
    let slice = api.get(&Id::new(Resource::ENDPOINT_SLICE, &id.namespace, &id.name));
    let leads_to = slice.and_then(|s| s.pointer("/endpoints/0/addresses/0").cloned()).unwrap_or_default();
    let ready = state(document, "Ready").0 == "True";
    let wanted = if running && ready { document["status"]["podIPs"][0].clone() } else { Value::Null };
    expect(leads_to == wanted, || format!("its slice leads to {leads_to}, not {wanted}"))
}

/// An idle Sandbox is suspended, unless it is in a pool or suspending it would lose files.
fn rested(api: &Api, document: &Value, pod: &Value) -> Result<(), String> {
    if document["spec"]["idleTimeout"].is_null() || controller(document).is_some_and(|(k, ..)| k == "SandboxWarmPool") {
        return Ok(());
    }
    let volumes = pod["spec"]["volumes"].as_array();
    if volumes.is_some_and(|v| v.iter().any(|v| !v["emptyDir"].is_null())) {
        return Ok(());
    }
    let ready = pod["status"]["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == "Ready");
    let signs = [
        time(&document["metadata"]["creationTimestamp"]),
        ready.and_then(|c| time(&c["lastTransitionTime"])),
        time(&document["metadata"]["annotations"]["policy.paddock.dev/last-activity"]),
    ];
    // A time of the schedule is a sign.
    let scheduled = minute(document).and_then(|minute| Timestamp::from_second(last_time(api.now, minute)).ok());
    let active = signs.into_iter().flatten().chain(scheduled).max().unwrap_or(api.now);
    let timeout = SignedDuration::from_mins(5);
    expect(api.now <= active + timeout + SLACK, || format!("idle since {active}, and running at {}", api.now))
}

fn claim(api: &Api, id: &Id, document: &Value) -> Result<(), String> {
    let spec = &document["spec"];
    let ready = state(document, "Ready");
    let owned = owned(api, document, Resource::SANDBOX);
    let finished = condition(document, "Finished").filter(|c| c["status"] == "True");
    let ttl = spec["lifecycle"]["ttlSecondsAfterFinished"].as_i64().map(SignedDuration::from_secs);
    let ended = finished.zip(ttl).and_then(|(c, ttl)| Some(time(&c["lastTransitionTime"])? + ttl));
    if passed(api, &spec["lifecycle"]["shutdownTime"]) || ended.is_some_and(|at| at <= api.now) {
        expect(spec["lifecycle"]["shutdownPolicy"] == "Retain", || "ended, and is still there".to_owned())?;
        expect(owned.is_empty(), || format!("ended, and has {owned:?}"))?;
        return expect(ready == ("False", "ClaimExpired"), || format!("ended, and Ready is {ready:?}"));
    }
    if let Some(name) = document["status"]["sandbox"]["name"].as_str() {
        let Some((_, sandbox)) = owned.iter().find(|(id, _)| &*id.name == name) else {
            expect(owned.is_empty(), || format!("its Sandbox is gone, and it has {owned:?}"))?;
            // A claim that had ended stays ended if its end moves, because its Sandbox was deleted.
            return expect(matches!(ready, ("False", "SandboxMissing" | "ClaimExpired")), || {
                format!("its Sandbox is gone, and Ready is {ready:?}")
            });
        };
        expect(owned.len() == 1, || format!("it has {} Sandboxes", owned.len()))?;
        let theirs = state(sandbox, "Ready");
        expect(ready == theirs, || format!("the Ready condition of its Sandbox is {theirs:?}"))?;
        let ips = &sandbox["status"]["podIPs"];
        let reported = &document["status"]["sandbox"]["podIPs"];
        return expect(ips == reported, || format!("its Sandbox has {ips}"));
    }
    expect(owned.is_empty(), || "it has a Sandbox that its status does not name".to_owned())?;
    let same_name = api.get(&Id::new(Resource::SANDBOX, &id.namespace, &id.name)).is_some();
    let wanted = match problem(api, id, spec) {
        Some(reason) => reason,
        None if same_name => "AdoptionConflict",
        None => return Err("it never got a Sandbox".to_owned()),
    };
    expect(ready == ("False", wanted), || format!("Ready should have the reason {wanted}, and is {ready:?}"))
}

/// The reason for which a claim cannot have a Sandbox, if there is one.
fn problem(api: &Api, id: &Id, spec: &Value) -> Option<&'static str> {
    let seed = id.resource == Resource::SEED_CLAIM;
    let (pools, templates, reference) = if seed {
        (Resource::SEED_POOL, Resource::SEED_TEMPLATE, "templateRef")
    } else {
        (Resource::POOL, Resource::TEMPLATE, "sandboxTemplateRef")
    };
    let there = |resource, name: &Value| api.get(&Id::new(resource, &id.namespace, name.as_str().unwrap_or_default()));
    let named = match spec["warmpool"].as_str() {
        None | Some("default" | "none") => &spec["warmPoolRef"]["name"],
        Some(_) => &spec["warmpool"],
    };
    let pool = there(pools, named);
    if !named.is_null() && pool.is_none() {
        return Some("WarmPoolNotFound");
    }
    let template = match (&spec[reference]["name"], pool) {
        (Value::Null, Some(pool)) => &pool["spec"][reference]["name"],
        (name, _) => name,
    };
    let Some(template) = there(templates, template) else { return Some("TemplateNotFound") };
    let env = spec["env"].as_array().is_some_and(|e| !e.is_empty());
    (env && template["spec"]["envVarsInjectionPolicy"] != "Allowed").then_some("EnvVarsInjectionRejected")
}

fn pool(api: &Api, id: &Id, document: &Value) -> Result<(), String> {
    let spec = &document["spec"];
    let members: Vec<&Value> =
        owned(api, document, Resource::SANDBOX).into_iter().map(|(_, d)| d).filter(|d| !is_terminating(d)).collect();
    let (most, least) = (maximum(spec), spec["minReady"].as_u64());
    let fixed = spec["minReady"].is_null() && spec["maxReady"].is_null();
    let least = if fixed { most } else { least.and_then(|n| usize::try_from(n).ok()).unwrap_or(0) };
    expect(members.len() <= most, || format!("it has {} Sandboxes", members.len()))?;
    let (templates, reference, field) = if id.resource == Resource::SEED_POOL {
        (Resource::SEED_TEMPLATE, "templateRef", "template")
    } else {
        (Resource::TEMPLATE, "sandboxTemplateRef", "podTemplate")
    };
    let name = spec[reference]["name"].as_str().unwrap_or_default();
    let Some(template) = api.get(&Id::new(templates, &id.namespace, name)) else {
        let ready = state(document, "Ready");
        return expect(ready == ("False", "TemplateNotFound"), || {
            format!("it has no template, and Ready is {ready:?}")
        });
    };
    // There was no claim for minutes, so the size policy wants the minimum.
    expect(members.len() == least, || format!("it has {} Sandboxes, not {least}", members.len()))?;
    let ready = members.iter().filter(|m| state(m, "Ready").0 == "True").count();
    expect(ready == members.len(), || format!("only {ready} of {} are Ready", members.len()))?;
    let status = &document["status"];
    // A count of zero may be omitted.
    let reported = (status["replicas"].as_u64().unwrap_or(0), status["readyReplicas"].as_u64().unwrap_or(0));
    let wanted = members.len() as u64;
    expect(reported == (wanted, wanted), || {
        format!("it has {} Sandboxes, and its status reports {reported:?}", members.len())
    })?;
    let image = |pod: &Value| pod["spec"]["containers"][0]["image"].clone();
    let fresh = members.iter().all(|m| image(&m["spec"]["podTemplate"]) == image(&template["spec"][field]));
    let recreate = spec["updateStrategy"]["type"] == "Recreate";
    expect(fresh || !recreate, || "it keeps Sandboxes of an older template".to_owned())
}

fn template(api: &Api, id: &Id, document: &Value) -> Result<(), String> {
    let policy = api.get(&Id::new(Resource::NETWORK_POLICY, &id.namespace, &format!("{}-network-policy", id.name)));
    let group = if id.resource == Resource::SEED_TEMPLATE { "agents.x-k8s.io" } else { "extensions.agents.x-k8s.io" };
    let owner = format!("sandboxtemplates.{group}/{}", id.name);
    let its = policy.is_some_and(|p| p["metadata"]["annotations"]["policy.paddock.dev/template"] == owner.as_str());
    let managed = document["spec"]["networkPolicyManagement"] != "Unmanaged";
    expect(its <= managed, || "it has a policy that it does not want".to_owned())?;
    // The template with the same name in the other group may have created its policy first.
    expect(policy.is_some() || !managed, || "it has no policy".to_owned())
}
