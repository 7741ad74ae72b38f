//! What a plugin was asked, and what it answered.

use std::time::Duration;

use super::words::{ago, count, duration, list, when};
use crate::question::{
    AdmissionAnswer, AdmissionQuestion, Answer, ClassChoice, IdleAnswer, IdleQuestion, IdleTier, Operation,
    PoolSizeAnswer, PoolSizeQuestion, Question, RuntimeClassAnswer, RuntimeClassQuestion, Verdict,
};
use crate::record::{Asker, Outcome, Record};
use crate::text::truncate;

/// The characters of a digest that are shown: `sha256:` and enough digits for people to compare.
const DIGEST_CHARS: usize = 19;
/// The most fields of a patch that are named.
const FIELDS_MAX: usize = 8;
/// The longest text of a plugin in a line, in characters.
const TEXT_CHARS: usize = 1024;

/// Sentences about one decision of a plugin. All but the first begin with two spaces.
#[must_use]
pub fn asked(record: &Record) -> Vec<String> {
    let asker = match record.asker {
        Asker::Reconcile => "the operator",
        Asker::Webhook => "the webhook",
    };
    let plugin = &record.plugin;
    let digest: String = plugin.digest.chars().take(DIGEST_CHARS).collect();
    let hook = record.hook().as_str();
    let question = match &record.question {
        Question::Admission(question) => admission(question),
        Question::RuntimeClass(question) => runtime_class(question),
        Question::Idle(question) => idle(question),
        Question::PoolSize(question) => pool_size(question),
    };
    let mut lines = vec![
        format!("At {}, {asker} asked {} ({hook}, {digest}):", when(record.time), plugin.name),
        format!("  {question}"),
    ];
    lines.push(match &record.result {
        Ok(Answer::Admission(answer)) => admitted(answer),
        Ok(Answer::RuntimeClass(answer)) => class(answer),
        Ok(Answer::Idle(answer)) => action(answer),
        Ok(Answer::PoolSize(answer)) => size(answer),
        Err(failure) => format!("  It gave no answer: {}", short(&failure.to_string())),
    });
    let note = record.note.as_deref().map(short).unwrap_or_default();
    match record.outcome {
        Outcome::Followed | Outcome::Failed => {}
        Outcome::Earlier => lines.push(format!("  Note: {note}")),
        Outcome::Corrected => lines.push(format!("  The operator did not follow the answer: {note}")),
        Outcome::Refused => lines.push(format!("  The operator refused the answer: {note}")),
        Outcome::Unenforced => lines.push(format!("  The answer had no effect: {note}")),
    }
    lines
}

fn short(text: &str) -> String {
    truncate(text, TEXT_CHARS)
}

/// A reason at the end of a sentence.
fn because(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(", because: {}", short(reason)) }
}

fn yes_or_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

fn admission(question: &AdmissionQuestion) -> String {
    let AdmissionQuestion { operation, kind, namespace, name, username, generated_code, .. } = question;
    let operation = match operation {
        Operation::Create => "create",
        Operation::Update => "update",
    };
    let who = if username.is_empty() { "the operator" } else { username.as_str() };
    let generated = yes_or_no(*generated_code);
    format!("May {who} {operation} {kind} {namespace}/{name}? Generated code: {generated}.")
}

fn admitted(answer: &AdmissionAnswer) -> String {
    let verdict = match &answer.verdict {
        Verdict::Deny(message) => format!("  It denied: {}", short(message)),
        Verdict::Allow => match answer.patch.as_deref() {
            None => "  It allowed.".to_owned(),
            Some(patch) => format!("  It allowed, with a change of {}.", changed(patch)),
        },
    };
    if answer.warnings.is_empty() {
        return verdict;
    }
    format!("{verdict} It warned: {}", short(&list(&answer.warnings)))
}

/// The fields that a patch changes.
fn changed(patch: &str) -> String {
    let operations: Vec<serde_json::Value> = serde_json::from_str(patch).unwrap_or_default();
    let paths: Vec<&str> = operations.iter().filter_map(|operation| operation.get("path")?.as_str()).collect();
    let more = paths.len().saturating_sub(FIELDS_MAX);
    let named = list(paths.into_iter().take(FIELDS_MAX).map(|path| truncate(path, 128)));
    if more > 0 { format!("{named}, and {}", count(more, "other field", "other fields")) } else { named }
}

fn runtime_class(question: &RuntimeClassQuestion) -> String {
    let RuntimeClassQuestion { name, requested, generated_code, classes, .. } = question;
    let classes = list(classes.iter().map(|class| {
        let isolated = if class.isolated { "isolated" } else { "not isolated" };
        format!("{} ({isolated}, {})", class.name, count(class.nodes as usize, "node", "nodes"))
    }));
    let (requested, generated) = (requested.as_deref().unwrap_or("none"), yes_or_no(*generated_code));
    format!(
        "Which RuntimeClass does the pod of {name} get? Requested: {requested}. Generated code: {generated}. There are: \
         {classes}."
    )
}

fn class(answer: &RuntimeClassAnswer) -> String {
    let choice = match &answer.choice {
        ClassChoice::Class(name) => format!("RuntimeClass {name}"),
        ClassChoice::Default => "no RuntimeClass".to_owned(),
        ClassChoice::Refuse => "no pod at this time".to_owned(),
    };
    format!("  It answered: {choice}{}", because(&answer.reason))
}

fn idle(question: &IdleQuestion) -> String {
    let IdleQuestion { name, idle_timeout_ms, last_activity, held_until, tiers, now, .. } = question;
    let timeout = duration(Duration::from_millis(*idle_timeout_ms));
    let activity = last_activity.map_or_else(
        || "No activity is known.".to_owned(),
        |at| format!("Its last activity was at {} ({}).", when(at), ago(at, *now)),
    );
    let held = held_until.map(|at| format!(" A session holds it until {}.", when(at))).unwrap_or_default();
    let tiers = list(tiers.iter().map(|tier| tier_name(*tier)));
    format!("Is Sandbox {name} idle? Its idleTimeout is {timeout}. {activity}{held} Possible: {tiers}.")
}

fn tier_name(tier: IdleTier) -> &'static str {
    match tier {
        IdleTier::Throttle => "throttle",
        IdleTier::Suspend => "suspend",
        IdleTier::Hibernate => "hibernate",
        IdleTier::Delete => "delete",
    }
}

fn action(answer: &IdleAnswer) -> String {
    let action = answer.action.map_or("leave it as it is", tier_name);
    let again = answer.next_check.map(|at| format!(" It wants to be asked again at {}.", when(at)));
    format!("  It answered: {action}{}.{}", because(&answer.reason), again.unwrap_or_default())
}

fn pool_size(question: &PoolSizeQuestion) -> String {
    let PoolSizeQuestion { name, min, max, ready, creating, claimed, arrivals, hits, misses, .. } = question;
    let window = Duration::from_secs(u64::from(question.bucket_seconds) * arrivals.len() as u64);
    let arrived = arrivals.iter().map(|number| *number as usize).sum();
    let claims = match arrived {
        0 => format!("No claim arrived in {}.", duration(window)),
        more => format!(
            "{} in {}: {hits} found a Ready Sandbox, and {misses} did not.",
            count(more, "claim", "claims"),
            duration(window)
        ),
    };
    format!(
        "How many Sandboxes does pool {name} keep, from {min} to {max}? {ready} Ready, {creating} starting, {claimed} \
         claimed. {claims}"
    )
}

fn size(answer: &PoolSizeAnswer) -> String {
    let again = answer.next_check.map(|at| format!(" It wants to be asked again at {}.", when(at)));
    let size = count(answer.desired as usize, "Sandbox", "Sandboxes");
    format!("  It answered: {size}{}.{}", because(&answer.reason), again.unwrap_or_default())
}
