//! `runtime-class-by-label`: chooses the RuntimeClass of a new pod from the user's wish and the classes of the cluster.
//!
//! The plugin takes the first of these:
//!
//! 1. the class that the Sandbox names;
//! 2. the label `policy.paddock.dev/runtime-class` of the pod, then that of its namespace;
//! 3. for generated code, the preferred class that isolates;
//! 4. no class, which means the default runtime of the node.
//!
//! A class that does not exist, that no node can run, or that does not isolate generated code is refused with the
//! reason. The plugin never replaces it by another one.
//!
//! Settings: `{"prefer": ["gvisor", "kata"]}` is the default, as for `require-isolation`.

use paddock_plugin_sdk::isolation::{Preference, known};
use paddock_plugin_sdk::runtime_class::{Answer, Choice, Plugin, Question};
use paddock_plugin_sdk::{RuntimeClassFact, label};

/// The label that names a class, on pods and namespaces.
const LABEL: &str = "policy.paddock.dev/runtime-class";

/// The plugin.
pub struct RuntimeClassByLabel;

impl Plugin for RuntimeClassByLabel {
    type Settings = Preference;

    fn check(settings: &Preference) -> Result<(), String> {
        settings.check()
    }

    fn decide(question: &Question, settings: &Preference) -> Result<Answer, String> {
        Ok(match requested(question) {
            Some((class, field)) => grant(question, class, field),
            None if question.generated_code => isolate(question, settings),
            None => Answer { choice: Choice::Default, reason: "no class was asked for".into() },
        })
    }
}

/// The class that the user asked for, and the field or label that names it.
fn requested(question: &Question) -> Option<(&str, &'static str)> {
    let named = question.requested.as_deref().map(|class| (class, "runtimeClassName"));
    let labelled = |labels, field| label(labels, LABEL).map(|class| (class, field));
    [
        named,
        labelled(&question.labels, "the pod's label policy.paddock.dev/runtime-class"),
        labelled(&question.namespace_labels, "the namespace's label policy.paddock.dev/runtime-class"),
    ]
    .into_iter()
    .flatten()
    .find(|(class, _)| !class.is_empty())
}

fn grant(question: &Question, class: &str, field: &str) -> Answer {
    let Some(fact) = known(&question.classes, class) else {
        let existing = list(question.classes.iter());
        return refuse(format!("{field} is {class:?}, which does not exist; there is {existing}"));
    };
    if question.generated_code && !fact.isolated {
        let isolating = list(question.classes.iter().filter(|class| class.isolated));
        return refuse(format!(
            "{field} is {class:?}, which does not isolate generated code from the host's kernel; what does: {isolating}"
        ));
    }
    if fact.nodes == 0 {
        return refuse(format!("{field} is {class:?}, which no ready node can run"));
    }
    Answer { choice: Choice::Class(class.to_owned()), reason: format!("{field} is {class:?}") }
}

fn isolate(question: &Question, settings: &Preference) -> Answer {
    match settings.best(&question.classes) {
        Some(class) => Answer {
            choice: Choice::Class(class.name.clone()),
            reason: format!("generated code is isolated with {:?}; nodes that can run it: {}", class.name, class.nodes),
        },
        None => {
            let isolating = list(question.classes.iter().filter(|class| class.isolated));
            refuse(format!("generated code needs an isolating class that a ready node can run; there is {isolating}"))
        }
    }
}

fn refuse(reason: String) -> Answer {
    Answer { choice: Choice::Refuse, reason }
}

fn list<'a>(classes: impl Iterator<Item = &'a RuntimeClassFact>) -> String {
    let names: Vec<_> = classes.map(|class| format!("{} (nodes: {})", class.name, class.nodes)).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

paddock_plugin_sdk::export_v0_1_0!(RuntimeClassByLabel: runtime_class);

#[cfg(test)]
mod tests {
    use super::*;
    use paddock_plugin_sdk::testing::runtime_class::{decide, question, settings_error};
    use paddock_plugin_sdk::testing::{isolating_class, labels, shared_kernel_class};

    /// The answer for a pod without generated code, with the class that is requested, that of the pod's label and that
    /// of the namespace's label; each may be empty.
    fn answer(requested: &str, pod: &str, namespace: &str) -> Answer {
        decide::<RuntimeClassByLabel>(&pod_question(requested, pod, namespace), "{}")
    }

    /// The same for generated code.
    fn answer_for_generated_code(requested: &str, pod: &str, namespace: &str) -> Answer {
        let question = Question { generated_code: true, ..pod_question(requested, pod, namespace) };
        decide::<RuntimeClassByLabel>(&question, "{}")
    }

    fn pod_question(requested: &str, pod: &str, namespace: &str) -> Question {
        let labelled = |class: &str| labels(Some((LABEL, class)).filter(|(_, class)| !class.is_empty()));
        Question {
            requested: Some(requested.to_owned()).filter(|class| !class.is_empty()),
            labels: labelled(pod),
            namespace_labels: labelled(namespace),
            classes: vec![
                isolating_class("gvisor", 2),
                isolating_class("kata", 1),
                isolating_class("lonely", 0),
                shared_kernel_class("runc", 3),
            ],
            ..question()
        }
    }

    fn class(name: &str) -> Choice {
        Choice::Class(name.into())
    }

    #[test]
    fn requested_class_precedes_the_label_of_the_pod_and_that_of_the_namespace() {
        for (requested, pod, namespace, choice) in [
            ("kata", "runc", "gvisor", class("kata")),
            ("", "runc", "gvisor", class("runc")),
            ("", "", "gvisor", class("gvisor")),
            ("", "", "", Choice::Default),
        ] {
            assert_eq!(answer(requested, pod, namespace).choice, choice, "{requested}/{pod}/{namespace}");
        }
    }

    #[test]
    fn generated_code_gets_the_preferred_class_that_isolates() {
        let answer = answer_for_generated_code("", "", "");
        assert_eq!(answer.choice, class("gvisor"));
        assert!(answer.reason.contains("nodes that can run it: 2"), "{}", answer.reason);
        let question = Question { generated_code: true, ..pod_question("", "", "") };
        let answer = decide::<RuntimeClassByLabel>(&question, r#"{"prefer":["kata"]}"#);
        assert_eq!(answer.choice, class("kata"));
    }

    #[test]
    fn generated_code_keeps_the_isolating_class_that_it_requested() {
        assert_eq!(answer_for_generated_code("kata", "", "").choice, class("kata"));
    }

    #[test]
    fn generated_code_is_refused_a_class_that_does_not_isolate() {
        for (requested, pod, namespace) in [("runc", "", ""), ("", "runc", ""), ("", "", "runc")] {
            let answer = answer_for_generated_code(requested, pod, namespace);
            assert_eq!(answer.choice, Choice::Refuse);
            assert!(answer.reason.contains("does not isolate"), "{}", answer.reason);
        }
    }

    #[test]
    fn class_that_does_not_exist_is_refused_with_those_that_do() {
        let answer = answer("gvisr", "", "");
        assert_eq!(answer.choice, Choice::Refuse);
        assert_eq!(
            answer.reason,
            "runtimeClassName is \"gvisr\", which does not exist; there is gvisor (nodes: 2), kata (nodes: 1), lonely \
             (nodes: 0), runc (nodes: 3)"
        );
    }

    #[test]
    fn class_that_no_node_can_run_is_refused() {
        for answer in [answer("lonely", "", ""), answer_for_generated_code("lonely", "", "")] {
            assert_eq!(answer.choice, Choice::Refuse);
            assert!(answer.reason.ends_with("which no ready node can run"), "{}", answer.reason);
        }
    }

    #[test]
    fn generated_code_is_refused_if_no_class_isolates() {
        let question = Question { generated_code: true, classes: vec![], ..question() };
        let answer = decide::<RuntimeClassByLabel>(&question, "{}");
        assert_eq!(answer.choice, Choice::Refuse);
        assert!(answer.reason.ends_with("there is none"), "{}", answer.reason);
    }

    #[test]
    fn settings_error_names_the_field() {
        assert!(settings_error::<RuntimeClassByLabel>(r#"{"prefer":["gvisor",""]}"#).starts_with("prefer[1]: "));
    }
}
