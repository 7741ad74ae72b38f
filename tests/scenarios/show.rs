//! Plans as short text.

use std::fmt::Write as _;

use jiff::Timestamp;
use paddock_core::plan::{Action, Op, Plan};
use paddock_core::question::{Answer, PluginReply};
use serde_json::Value;

/// The bindings that were asked and their answers, in order.
pub(super) fn asked(answers: &[PluginReply], whole: bool) -> String {
    let mut text = String::new();
    for PluginReply { request, result } in answers {
        let answer = match result {
            Ok(Answer::Admission(a)) => format!("{:?}", a.verdict),
            Ok(Answer::RuntimeClass(a)) => format!("{:?}", a.choice),
            Ok(Answer::Idle(a)) => a.action.map_or("stay".to_owned(), |tier| format!("{tier:?}")),
            Ok(Answer::PoolSize(a)) => a.desired.to_string(),
            Err(failure) => failure.kind.as_str().to_owned(),
        };
        let _ = writeln!(text, "asked {}: {answer}", request.binding);
        if whole {
            text += &yaml(&serde_json::to_value(&request.question).unwrap_or_default());
        }
    }
    text
}

pub(super) fn plan(plan: &Plan, now: Timestamp) -> String {
    let mut text = String::new();
    let mut last = String::new();
    for (i, step) in plan.steps.iter().enumerate() {
        if i > 0 {
            text += "then\n";
        }
        for op in step {
            let (head, body) = self::op(op);
            // If several bodies differ only in the name, only the first is printed.
            let nameless = body.replace(&*op.key.name, "NAME");
            text += &head;
            if nameless.is_empty() || nameless != last {
                text += &body;
            } else {
                text += "    the same\n";
            }
            last = nameless;
        }
    }
    if plan.is_empty() {
        text += "nothing to write\n";
    }
    if let Some(requeue) = &plan.requeue {
        let ahead = requeue.at.duration_since(now);
        let _ = writeln!(text, "requeue in {ahead:#} because {}", requeue.reason);
    }
    for (word, event) in plan.events.iter().map(|e| ("event", e)).chain(plan.results.iter().map(|e| ("result", e))) {
        let kind = if event.warning { "Warning" } else { "Normal" };
        let _ = writeln!(text, "{word} {kind} {} on {}: {}", event.reason, event.regarding, event.note);
    }
    text
}

/// The line that describes an operation, and the body of its request.
fn op(op: &Op) -> (String, String) {
    let if_version =
        |version: &Option<String>| version.as_ref().map(|v| format!(" if version {v}")).unwrap_or_default();
    let (verb, rest, body) = match &op.action {
        Action::Create { body } => ("create", String::new(), Some(body)),
        Action::Patch { resource_version, status, body, .. } => {
            (if *status { "patch status of" } else { "patch" }, if_version(resource_version), Some(body))
        }
        Action::Resize { resource_version, body, .. } => {
            ("resize", format!(" if version {resource_version}"), Some(body))
        }
        Action::Adopt { resource_version, body, .. } => {
            ("adopt", format!(" if version {resource_version}"), Some(body))
        }
        Action::Deliver { data, body, .. } => {
            ("deliver", format!(" by Secret {} with data {} of {}", data.secret, data.digest, data.claim), Some(body))
        }
        Action::Delete { resource_version, foreground, .. } => {
            let foreground = if *foreground { ", dependents first" } else { "" };
            ("delete", format!("{}{foreground}", if_version(resource_version)), None)
        }
    };
    (format!("{verb} {} because {}{rest}\n", op.key, op.reason), body.map(yaml).unwrap_or_default())
}

fn yaml(value: &Value) -> String {
    let text = serde_yaml_ng::to_string(value).unwrap_or_default();
    text.lines().fold(String::new(), |all, line| all + "    " + line + "\n")
}

/// The lines in which two texts differ, with the common lines around them.
pub(super) fn difference(wanted: &str, actual: &str) -> String {
    let (wanted, actual): (Vec<&str>, Vec<&str>) = (wanted.lines().collect(), actual.lines().collect());
    let same = wanted.iter().zip(&actual).take_while(|(a, b)| a == b).count();
    let tail = wanted[same..].iter().rev().zip(actual[same..].iter().rev()).take_while(|(a, b)| a == b).count();
    let mut text = String::new();
    for line in &wanted[same.saturating_sub(3)..same] {
        let _ = writeln!(text, "  {line}");
    }
    for (mark, lines) in [("-", &wanted[same..wanted.len() - tail]), ("+", &actual[same..actual.len() - tail])] {
        for line in lines {
            let _ = writeln!(text, "{mark} {line}");
        }
    }
    text
}
