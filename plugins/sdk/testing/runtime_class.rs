//! Questions and calls of the hook `runtime-class`.

use super::{NOW, calls, classes};
use crate::runtime_class::{Answer, Question};

/// The pod of a Sandbox that names no class and does not run generated code, in a cluster with [`classes`].
///
/// ```
/// use paddock_plugin_sdk::runtime_class::Question;
/// use paddock_plugin_sdk::testing::{labels, runtime_class::question};
///
/// let generated = Question { generated_code: true, labels: labels([("team", "research")]), ..question() };
/// assert_eq!(generated.classes.len(), 3);
/// ```
#[must_use]
pub fn question() -> Question {
    Question {
        namespace: "agents".into(),
        name: "agent".into(),
        labels: vec![],
        images: vec!["registry.example/agent:1".into()],
        requested: None,
        generated_code: false,
        namespace_labels: vec![],
        classes: classes(),
        now: NOW,
    }
}

calls!(runtime_class);
