//! Native stand-ins for the plugins `require-isolation` and `runtime-class-by-label`.

use paddock_core::question::{
    AdmissionAnswer, AdmissionQuestion, ClassChoice, Failure, FailureKind, RuntimeClassAnswer, RuntimeClassFact,
    RuntimeClassQuestion, Verdict,
};
use serde_json::{Value, json};

pub(super) fn admission(question: &AdmissionQuestion) -> Result<AdmissionAnswer, Failure> {
    let verdict = |verdict, patch| AdmissionAnswer { verdict, warnings: vec![], patch };
    if !question.generated_code || question.kind != "Pod" {
        return Ok(verdict(Verdict::Allow, None));
    }
    let object: Value = serde_json::from_str(&question.object)
        .map_err(|e| Failure { kind: FailureKind::Error, message: e.to_string() })?;
    let named = object.pointer("/spec/runtimeClassName").and_then(Value::as_str);
    Ok(match named.map(|name| (name, isolates(&question.classes, name))) {
        Some((_, true)) => verdict(Verdict::Allow, None),
        Some((name, false)) => {
            verdict(Verdict::Deny(format!("generated code must run isolated, but {name} does not isolate")), None)
        }
        None => match preferred(&question.classes) {
            Some(class) => {
                let patch = json!([{ "op": "add", "path": "/spec/runtimeClassName", "value": class }]);
                verdict(Verdict::Allow, Some(patch.to_string()))
            }
            None => {
                verdict(Verdict::Deny("generated code must run isolated, but nothing here isolates".to_owned()), None)
            }
        },
    })
}

pub(super) fn runtime_class(question: &RuntimeClassQuestion) -> RuntimeClassAnswer {
    let answer = |choice, reason: String| RuntimeClassAnswer { choice, reason };
    let Some(name) = &question.requested else {
        return match (question.generated_code, preferred(&question.classes)) {
            (false, _) => answer(ClassChoice::Default, "no class was asked for".to_owned()),
            (true, Some(class)) => {
                answer(ClassChoice::Class(class.clone()), format!("generated code is isolated with {class}"))
            }
            (true, None) => answer(ClassChoice::Refuse, "generated code needs a class that isolates".to_owned()),
        };
    };
    let Some(class) = question.classes.iter().find(|c| c.name == *name) else {
        return answer(ClassChoice::Refuse, format!("runtimeClassName is {name}, which does not exist"));
    };
    if question.generated_code && !class.isolated {
        return answer(ClassChoice::Refuse, format!("runtimeClassName is {name}, which does not isolate"));
    }
    if class.nodes == 0 {
        return answer(ClassChoice::Refuse, format!("runtimeClassName is {name}, which no ready node can run"));
    }
    answer(ClassChoice::Class(name.clone()), format!("runtimeClassName is {name}"))
}

fn isolates(classes: &[RuntimeClassFact], name: &str) -> bool {
    classes.iter().any(|c| c.name == name && c.isolated)
}

fn preferred(classes: &[RuntimeClassFact]) -> Option<String> {
    classes.iter().find(|c| c.isolated && c.nodes > 0).map(|c| c.name.clone())
}
