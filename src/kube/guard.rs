//! Whether the ValidatingAdmissionPolicies of a process are stored as its version generates them: those that limit its
//! credential, those that protect its objects, and those that judge in its place.
//!
//! A process works without them, so nothing else would show that an upgrade left them out, or that a tool changed the
//! namespace of the ServiceAccount and not the user in the expressions. Each process therefore compares them and their
//! bindings with those that its version generates, at the start and every minute. It reports the result and changes
//! nothing, because a credential that could change its own limits would have none.

use std::fmt;
use std::sync::Arc;

use k8s_openapi::Resource;
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::differences::differing_fields;
use crate::limits;
use crate::user::{service_account_namespace, whoami};

/// The state of all policies of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Guards {
    /// They were not read yet.
    #[default]
    Unread,
    /// The process has a user that is no ServiceAccount. No policy of the manifests is about it.
    NotLimited {
        /// The process, such as `operator`.
        process: &'static str,
        /// The name of its user.
        user: String,
    },
    /// Each policy.
    Checked(Vec<Guard>),
}

/// A policy, and its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// The name of the policy and of its binding.
    pub policy: String,
    /// The state.
    pub state: GuardState,
}

/// The state of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuardState {
    /// The API server stores the policy and its binding as this version generates them. Whether it applies policies at all
    /// is not known.
    InForce,
    /// There is no such policy.
    NoPolicy,
    /// The policy has no binding, so it applies to nothing.
    NoBinding,
    /// The policy does not name the user of the process.
    OtherUser {
        /// The process, such as `operator`.
        process: &'static str,
        /// The name of its user.
        user: String,
    },
    /// These fields of the policy differ.
    PolicyDiffers(Vec<String>),
    /// These fields of the binding differ.
    BindingDiffers(Vec<String>),
    /// The policy or its binding could not be read, for this reason.
    Unreadable(String),
}

impl Guards {
    /// What is wrong, for people.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        match self {
            Guards::Unread => Vec::new(),
            Guards::NotLimited { process, user } => vec![format!(
                "admission policies: they apply to the ServiceAccount of the {process}, and this {process} is the user \
                 {user:?}"
            )],
            Guards::Checked(guards) => guards.iter().filter_map(Guard::fault).collect(),
        }
    }

    /// Whether the API server stores every policy as this version generates it.
    #[must_use]
    pub fn all_in_force(&self) -> bool {
        match self {
            Guards::Unread | Guards::NotLimited { .. } => false,
            Guards::Checked(guards) => guards.iter().all(|guard| guard.state == GuardState::InForce),
        }
    }

    fn in_force(&self, policy: &str) -> bool {
        match self {
            Guards::Unread | Guards::NotLimited { .. } => false,
            Guards::Checked(guards) => guards.iter().any(|g| g.policy == policy && g.state == GuardState::InForce),
        }
    }

    /// Logs the state after a change.
    fn report(&self, Policies { process, command, .. }: &Policies) {
        match self {
            Guards::Unread => {}
            Guards::NotLimited { user, .. } => info!(
                user,
                "the {process} does not run as a ServiceAccount, so no admission policy limits what it may write"
            ),
            Guards::Checked(guards) => {
                let faults = self.faults();
                if faults.is_empty() {
                    info!(policies = guards.len(), command, "the admission policies of the {process} are in force");
                }
                for fault in faults {
                    warn!(fault, "apply the admission policies of this version: `{command}` prints them");
                }
            }
        }
    }
}

impl Guard {
    fn fault(&self) -> Option<String> {
        (self.state != GuardState::InForce).then(|| self.to_string())
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ValidatingAdmissionPolicy {} ", self.policy)?;
        match &self.state {
            GuardState::InForce => f.write_str("is in force"),
            GuardState::NoPolicy => f.write_str("does not exist"),
            GuardState::NoBinding => f.write_str("has no ValidatingAdmissionPolicyBinding of its name"),
            GuardState::OtherUser { process, user } => write!(f, "does not name the {process}'s user {user}"),
            GuardState::PolicyDiffers(fields) => write!(f, "differs from this version's in {}", fields.join(", ")),
            GuardState::BindingDiffers(fields) => {
                write!(f, "has a binding that differs from this version's in {}", fields.join(", "))
            }
            GuardState::Unreadable(error) => write!(f, "could not be read: {error}"),
        }
    }
}

/// Returns each policy with its binding, for the name of a user or for the choice of the administrators.
type Generate = dyn Fn(&str) -> Vec<[Value; 2]> + Send + Sync;

/// The part of a policy's spec that administrators choose.
type Choice = fn(&Value) -> Option<String>;

/// The policies of a process, as this version generates them.
#[derive(Clone)]
pub struct Policies {
    process: &'static str,
    /// The command that prints them.
    command: &'static str,
    generate: Arc<Generate>,
    /// If present, the policies are about the requests of everybody, and depend on this choice and not on a user.
    choice: Option<Choice>,
}

impl fmt::Debug for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policies").field("process", &self.process).finish_non_exhaustive()
    }
}

impl Policies {
    /// The policies about the requests of a process. `process` names it in messages, such as `operator`. `generate` returns
    /// each policy with its binding, for a process with the name of this user. Their names must not depend on the user.
    pub fn new(process: &'static str, generate: impl Fn(&str) -> Vec<[Value; 2]> + Send + Sync + 'static) -> Self {
        Self { process, command: "paddock manifests", generate: Arc::new(generate), choice: None }
    }

    /// Policies about the requests of everybody, in which administrators choose a part. `choice` reads it from the spec of a
    /// policy, and returns `None` if it is not valid. All policies must have the choice of the first one. `generate` returns
    /// each policy with its binding for a choice, which is empty if there is no valid one. `command` prints them.
    pub fn with_choice(
        (process, command): (&'static str, &'static str),
        choice: Choice,
        generate: impl Fn(&str) -> Vec<[Value; 2]> + Send + Sync + 'static,
    ) -> Self {
        Self { process, command, generate: Arc::new(generate), choice: Some(choice) }
    }

    /// The policies for a process with the name of this user, or with this choice.
    #[must_use]
    pub fn of(&self, user_or_choice: &str) -> Vec<Desired> {
        let desired = |[policy, binding]: [Value; 2]| Desired {
            name: policy["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
            policy: policy["spec"].clone(),
            binding: binding["spec"].clone(),
            process: self.process,
            user: self.choice.is_none().then(|| user_or_choice.to_owned()),
        };
        (self.generate)(user_or_choice).into_iter().map(desired).collect()
    }
}

/// A policy and its binding, as this version generates them for a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// The name of both.
    pub name: String,
    /// The spec of the policy.
    pub policy: Value,
    /// The spec of the binding.
    pub binding: Value,
    process: &'static str,
    /// The user whose requests the policy is about. `None` if it is about those of everybody.
    user: Option<String>,
}

impl Desired {
    /// The state of the policy. `policy` and `binding` are the objects as the API server returns them.
    #[must_use]
    pub fn state(&self, policy: Option<&Value>, binding: Option<&Value>) -> GuardState {
        let (Some(policy), Some(binding)) = (policy, binding) else {
            return if policy.is_none() { GuardState::NoPolicy } else { GuardState::NoBinding };
        };
        let mut stored = policy["spec"].clone();
        // They only add to the audit log.
        stored["auditAnnotations"] = Value::Null;
        if let Some(user) = &self.user
            && contains(&self.policy, user)
            && !contains(&stored, user)
        {
            return GuardState::OtherUser { process: self.process, user: user.clone() };
        }
        let fields = differing_fields(&with_defaults(&self.policy), &stored);
        if !fields.is_empty() {
            return GuardState::PolicyDiffers(fields);
        }
        let mut stored = binding["spec"].clone();
        // A denial may also be in the audit log.
        if stored["validationActions"].as_array().is_some_and(|actions| actions.contains(&json!("Deny"))) {
            stored["validationActions"] = json!(["Deny"]);
        }
        match differing_fields(&self.binding, &stored) {
            fields if fields.is_empty() => GuardState::InForce,
            fields => GuardState::BindingDiffers(fields),
        }
    }
}

/// The spec of a policy with the values that the API server writes where a field is absent.
fn with_defaults(policy: &Value) -> Value {
    let mut policy = policy.clone();
    policy["matchConstraints"]["matchPolicy"] = "Equivalent".into();
    for rule in policy["matchConstraints"]["resourceRules"].as_array_mut().into_iter().flatten() {
        rule["scope"] = "*".into();
    }
    policy
}

/// Whether an expression of a policy contains the name of a user as a literal.
fn contains(policy: &Value, user: &str) -> bool {
    let literal = format!("{user:?}");
    let lists = [&policy["matchConditions"], &policy["validations"], &policy["variables"]];
    let mut expressions = lists.into_iter().filter_map(Value::as_array).flatten();
    expressions.any(|of| of["expression"].as_str().is_some_and(|text| text.contains(&literal)))
}

/// Reads the policies again and again, and reports their state. `count` gets the name of each policy after each time, and
/// whether the policy is in force. A policy that was not read counts as absent.
///
/// The policies are generated for the first time before this function returns, because that takes a moment of processor
/// time: call it before the process serves.
pub fn follow(
    client: Client,
    policies: Policies,
    state: watch::Sender<Guards>,
    count: impl Fn(&str, bool) + Send,
) -> impl Future<Output = ()> + Send {
    let names: Vec<String> = policies.of("").into_iter().map(|desired| desired.name).collect();
    async move {
        loop {
            let now = check(&client, &policies, &names).await;
            for name in &names {
                count(name, now.in_force(name));
            }
            let changed = state.send_if_modified(|before| {
                let differs = *before != now;
                before.clone_from(&now);
                differs
            });
            if changed {
                now.report(&policies);
            }
            sleep(limits::GUARD_CHECK_INTERVAL).await;
        }
    }
}

async fn check(client: &Client, policies: &Policies, names: &[String]) -> Guards {
    let unreadable = |error: String| {
        let unknown = |policy: &String| Guard { policy: policy.clone(), state: GuardState::Unreadable(error.clone()) };
        Guards::Checked(names.iter().map(unknown).collect())
    };
    let user_or_choice = match policies.choice {
        Some(choice) => match read::<ValidatingAdmissionPolicy>(client, names.first().map_or("", String::as_str)).await
        {
            Ok(first) => first.and_then(|policy| choice(&policy["spec"])).unwrap_or_default(),
            Err(error) => return unreadable(error),
        },
        None => {
            let asked = timeout(limits::GUARD_REQUEST_TIMEOUT, whoami(client)).await;
            match asked.map_err(|_elapsed| LATE.to_owned()).and_then(|user| user.map_err(|error| error.to_string())) {
                Ok(user) if service_account_namespace(&user).is_some() => user,
                Ok(user) => return Guards::NotLimited { process: policies.process, user },
                Err(error) => return unreadable(error),
            }
        }
    };
    let mut guards = Vec::new();
    for desired in policies.of(&user_or_choice) {
        let policy = read::<ValidatingAdmissionPolicy>(client, &desired.name).await;
        let binding = read::<ValidatingAdmissionPolicyBinding>(client, &desired.name).await;
        let state = match (policy, binding) {
            (Ok(policy), Ok(binding)) => desired.state(policy.as_ref(), binding.as_ref()),
            (Err(error), _) | (_, Err(error)) => GuardState::Unreadable(error),
        };
        guards.push(Guard { policy: desired.name, state });
    }
    Guards::Checked(guards)
}

/// The object with this name as the API server stores it, with the fields that this version does not know. `None` if it
/// does not exist, or if the API server does not serve its kind.
async fn read<K: Resource>(client: &Client, name: &str) -> Result<Option<Value>, String> {
    let resource =
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(K::GROUP, K::VERSION, K::KIND), K::URL_PATH_SEGMENT);
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    match timeout(limits::GUARD_REQUEST_TIMEOUT, api.get(name)).await {
        Ok(Ok(object)) => Ok(Some(object.data)),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(None),
        Ok(Err(kube::Error::Api(status))) => Err(status.message.clone()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_elapsed) => Err(LATE.to_owned()),
    }
}

/// The error of a request without a reply.
const LATE: &str = "the API server did not reply in time";

#[cfg(test)]
mod tests;
