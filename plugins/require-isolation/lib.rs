//! `require-isolation`: isolates workloads that run generated code from the kernel of their node.
//!
//! A workload that names a RuntimeClass that does not isolate is denied, with a message that lists the classes that do.
//! A workload that names no class gets one. Everything else is allowed.
//!
//! Settings: `{"prefer": ["gvisor", "kata"]}` is the default: the order of preference for a workload that names no class.
//! An entry stands for the class of that name, and for those that begin with it and a dash (`kata-qemu`). Classes that
//! are in no entry follow in the order of their names.

mod workload;

use paddock_plugin_sdk::RuntimeClassFact;
use paddock_plugin_sdk::admission::{Answer, Operation, Plugin, Question, Verdict};
use paddock_plugin_sdk::isolation::{Preference, known};
use paddock_plugin_sdk::json;
use serde_json::Value;
use workload::{Workload, field};

/// The plugin.
pub struct RequireIsolation;

impl Plugin for RequireIsolation {
    type Settings = Preference;

    fn check(settings: &Preference) -> Result<(), String> {
        settings.check()
    }

    fn decide(question: &Question, settings: &Preference) -> Result<Answer, String> {
        if !question.generated_code {
            return Ok(allow());
        }
        let object = json::object(&question.object)?;
        if object.pointer("/metadata/deletionTimestamp").is_some_and(Value::is_string) {
            // The object is terminating. A denial would keep its finalizers, and so the object, for ever.
            return Ok(allow());
        }
        let Some(workload) = Workload::read(&question.group, &question.kind, &object) else {
            return Ok(allow());
        };
        let old = question.old_object.as_deref().map(json::object).transpose()?;
        let before = old.as_ref().and_then(|old| Workload::read(&question.group, &question.kind, old));
        Ok(review(question, settings, &workload, before.as_ref()))
    }
}

fn review(
    question: &Question,
    settings: &Preference,
    workload: &Workload<'_>,
    before: Option<&Workload<'_>>,
) -> Answer {
    let refused = workload.named.iter().find(|(_, class)| !isolates(class, &question.classes));
    let changes_nothing = before
        .is_some_and(|old| old.pod == workload.pod && old.named == workload.named && old.marked == workload.marked);
    let isolated = refused.is_none() && !workload.named.is_empty();
    if isolated {
        return warned(unavailable(workload, &question.classes));
    }
    if changes_nothing {
        // The workload runs already: denying a change of its labels or finalizers would not make it safer.
        let kind = &question.kind;
        return warned(Some(format!("this {kind} runs generated code without isolation: make it anew to isolate it")));
    }
    if let Some((pointer, class)) = refused {
        let why = match known(&question.classes, class) {
            Some(_) => "which does not isolate from the host's kernel",
            None => "which does not exist or which this namespace may not use",
        };
        let what = format!("{} is {class:?}, {why}", field(pointer));
        return deny(&what, settings, &question.classes);
    }
    // No class is named. The class of a Pod cannot change after its creation.
    if question.operation == Operation::Update && question.kind == "Pod" {
        let what = format!("{} is not set and cannot be set any more: make it anew", field(&workload.settable));
        return deny(&what, settings, &question.classes);
    }
    match settings.best(&question.classes) {
        None => deny(&format!("{} is not set", field(&workload.settable)), settings, &question.classes),
        Some(class) => {
            let patch = serde_json::json!([{ "op": "add", "path": workload.settable, "value": class.name }]);
            Answer { verdict: Verdict::Allow, warnings: vec![], patch: Some(patch.to_string()) }
        }
    }
}

fn isolates(class: &str, classes: &[RuntimeClassFact]) -> bool {
    known(classes, class).is_some_and(|fact| fact.isolated)
}

/// The warning about an isolating class that no node can run now. It is no reason to deny: nodes come and go, and the
/// pod waits.
fn unavailable(workload: &Workload<'_>, classes: &[RuntimeClassFact]) -> Option<String> {
    let (pointer, class) =
        workload.named.iter().find(|(_, class)| known(classes, class).is_some_and(|fact| fact.nodes == 0))?;
    Some(format!("{}: no node can run {class:?} now", field(pointer)))
}

fn allow() -> Answer {
    warned(None)
}

fn warned(warning: Option<String>) -> Answer {
    Answer { verdict: Verdict::Allow, warnings: warning.into_iter().collect(), patch: None }
}

fn deny(what: &str, settings: &Preference, classes: &[RuntimeClassFact]) -> Answer {
    let names: Vec<_> = settings.ranked(classes).map(|class| class.name.as_str()).collect();
    let advice = if names.is_empty() {
        "this namespace can use no isolating RuntimeClass (gVisor, Kata) that a node can run: install one first"
            .to_owned()
    } else {
        format!("set it to one of: {}", names.join(", "))
    };
    let message = format!("generated code must run isolated, but {what}; {advice}");
    Answer { verdict: Verdict::Deny(message), warnings: vec![], patch: None }
}

paddock_plugin_sdk::export_v0_1_0!(RequireIsolation: admission);

#[cfg(test)]
mod tests;
