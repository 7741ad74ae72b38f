//! `runtime-class-by-label`: the RuntimeClass of a new pod, from what was asked for and what there is.
//!
//! In this order: the class that the user named; the label `policy.paddock.dev/runtime-class` of the pod,
//! then of its namespace; for generated code the preferred class that isolates; else none, which is the
//! cluster's default runtime. A class that does not exist, that no node can run, or that does not isolate
//! generated code, is refused with the reason: never replaced by another.
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
        Ok(match wish(question) {
            Some((class, whose)) => grant(question, class, whose),
            None if question.generated_code => isolate(question, settings),
            None => Answer { choice: Choice::Default, reason: "no class was asked for".into() },
        })
    }
}

/// The class that somebody asked for, and who.
fn wish(question: &Question) -> Option<(&str, &'static str)> {
    let requested = question.requested.as_deref().map(|class| (class, "runtimeClassName"));
    let labelled = |labels, whose| label(labels, LABEL).map(|class| (class, whose));
    [
        requested,
        labelled(&question.labels, "the pod's label policy.paddock.dev/runtime-class"),
        labelled(&question.namespace_labels, "the namespace's label policy.paddock.dev/runtime-class"),
    ]
    .into_iter()
    .flatten()
    .find(|(class, _)| !class.is_empty())
}

fn grant(question: &Question, class: &str, whose: &str) -> Answer {
    let Some(fact) = known(&question.classes, class) else {
        let there_are = list(question.classes.iter());
        return refuse(format!("{whose} is {class:?}, which does not exist; there is {there_are}"));
    };
    if question.generated_code && !fact.isolated {
        let isolating = list(question.classes.iter().filter(|class| class.isolated));
        return refuse(format!(
            "{whose} is {class:?}, which does not isolate generated code from the host's kernel; what does: {isolating}"
        ));
    }
    if fact.nodes == 0 {
        return refuse(format!("{whose} is {class:?}, which no ready node can run"));
    }
    Answer { choice: Choice::Class(class.to_owned()), reason: format!("{whose} is {class:?}") }
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

paddock_plugin_sdk::export!(RuntimeClassByLabel: runtime_class);

#[cfg(test)]
mod tests {
    use super::*;
    use paddock_plugin_sdk::Label;
    use paddock_plugin_sdk::runtime_class::run;

    /// Asks for a pod with: class requested, pod label, namespace label, generated code.
    fn ask(requested: &str, pod: &str, namespace: &str, generated_code: bool) -> Answer {
        let labels = |class: &str| match class {
            "" => vec![],
            class => vec![Label { key: LABEL.into(), value: class.into() }],
        };
        let class =
            |name: &str, isolated, nodes| RuntimeClassFact { name: name.into(), handler: name.into(), isolated, nodes };
        let question = Question {
            namespace: "agents".into(),
            name: "a".into(),
            labels: labels(pod),
            images: vec!["a".into()],
            requested: (!requested.is_empty()).then(|| requested.to_owned()),
            generated_code,
            namespace_labels: labels(namespace),
            classes: vec![
                class("gvisor", true, 2),
                class("kata", true, 1),
                class("lonely", true, 0),
                class("runc", false, 3),
            ],
            now: 0,
        };
        run::<RuntimeClassByLabel>(&question, "{}").unwrap()
    }

    fn class(name: &str) -> Choice {
        Choice::Class(name.into())
    }

    #[test]
    fn what_was_asked_for_goes_before_labels_and_pods_before_namespaces() {
        for (requested, pod, namespace, choice) in [
            ("kata", "runc", "gvisor", class("kata")),
            ("", "runc", "gvisor", class("runc")),
            ("", "", "gvisor", class("gvisor")),
            ("", "", "", Choice::Default),
        ] {
            assert_eq!(ask(requested, pod, namespace, false).choice, choice, "{requested}/{pod}/{namespace}");
        }
    }

    #[test]
    fn generated_code_gets_the_preferred_class_that_isolates() {
        let answer = ask("", "", "", true);
        assert_eq!(answer.choice, class("gvisor"));
        assert!(answer.reason.contains("nodes that can run it: 2"), "{}", answer.reason);
    }

    #[test]
    fn generated_code_keeps_the_isolating_class_that_it_asked_for() {
        assert_eq!(ask("kata", "", "", true).choice, class("kata"));
    }

    #[test]
    fn generated_code_is_refused_on_the_hosts_kernel_whoever_asks() {
        for (requested, pod, namespace) in [("runc", "", ""), ("", "runc", ""), ("", "", "runc")] {
            let answer = ask(requested, pod, namespace, true);
            assert_eq!(answer.choice, Choice::Refuse);
            assert!(answer.reason.contains("does not isolate"), "{}", answer.reason);
        }
    }

    #[test]
    fn a_class_that_does_not_exist_is_refused_with_those_that_do() {
        let answer = ask("gvisr", "", "", false);
        assert_eq!(answer.choice, Choice::Refuse);
        assert_eq!(
            answer.reason,
            "runtimeClassName is \"gvisr\", which does not exist; there is gvisor (nodes: 2), kata (nodes: 1), lonely \
             (nodes: 0), runc (nodes: 3)"
        );
    }

    #[test]
    fn a_class_that_no_node_can_run_is_refused() {
        for generated_code in [false, true] {
            let answer = ask("lonely", "", "", generated_code);
            assert_eq!(answer.choice, Choice::Refuse);
            assert!(answer.reason.ends_with("which no ready node can run"), "{}", answer.reason);
        }
    }

    #[test]
    fn where_nothing_isolates_generated_code_is_refused() {
        let question = Question {
            namespace: "agents".into(),
            name: "a".into(),
            labels: vec![],
            images: vec![],
            requested: None,
            generated_code: true,
            namespace_labels: vec![],
            classes: vec![],
            now: 0,
        };
        let answer = run::<RuntimeClassByLabel>(&question, "{}").unwrap();
        assert_eq!(answer.choice, Choice::Refuse);
        assert!(answer.reason.ends_with("there is none"), "{}", answer.reason);
    }
}
