//! Questions, calls and assertions of the hook `admission`.
//!
//! ```
//! # use paddock_plugin_sdk::admission::{Plugin, Question};
//! # use paddock_plugin_sdk::settings::NoSettings;
//! use paddock_plugin_sdk::admission::{Answer, Verdict};
//! use paddock_plugin_sdk::serde_json::json;
//! use paddock_plugin_sdk::testing::admission::{assert_allowed, create, create_sandbox_pod, decide, denial};
//!
//! # struct NoHostNetwork;
//! # impl Plugin for NoHostNetwork {
//! #     type Settings = NoSettings;
//! #     fn decide(question: &Question, _: &NoSettings) -> Result<Answer, String> {
//! #         let denied = question.object.contains("hostNetwork");
//! #         let verdict = if denied { Verdict::Deny("set hostNetwork to false".into()) } else { Verdict::Allow };
//! #         Ok(Answer { verdict, warnings: vec![], patch: None })
//! #     }
//! # }
//! #
//! // A test of the plugin `NoHostNetwork`, which reviews a Sandbox and the pod that the operator creates for it.
//! let spec = json!({"hostNetwork": true, "containers": []});
//! let sandbox = json!({"spec": {"podTemplate": {"spec": spec}}});
//! for question in [create("agents.x-k8s.io/v1beta1", "Sandbox", &sandbox), create_sandbox_pod(&json!({"spec": spec}))] {
//!     assert_eq!(denial(&decide::<NoHostNetwork>(&question, "{}")), "set hostNetwork to false");
//! }
//! assert_allowed(&decide::<NoHostNetwork>(&create("v1", "Pod", &json!({"spec": {}})), "{}"));
//! ```

use serde_json::Value;

use super::{NOW, calls, classes};
use crate::admission::{Answer, Operation, Question, Verdict};
use crate::json;

/// The creation of an object by a user. The API version has its group, such as `agents.x-k8s.io/v1beta1`; for a Pod
/// it is `v1`. Names that `metadata` does not hold are `agents` and `agent`.
#[must_use]
pub fn create(api_version: &str, kind: &str, object: &Value) -> Question {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    Question {
        operation: Operation::Create,
        group: group.into(),
        version: version.into(),
        kind: kind.into(),
        namespace: json::text(object, "/metadata/namespace").unwrap_or("agents").into(),
        name: json::text(object, "/metadata/name").unwrap_or("agent").into(),
        object: object.to_string(),
        old_object: None,
        namespace_labels: vec![],
        username: "jane@example.com".into(),
        groups: vec!["system:authenticated".into()],
        generated_code: false,
        classes: classes(),
        dry_run: false,
        now: NOW,
    }
}

/// The update of an object by a user, from `old` to `new`; the rest is as in [`create`].
#[must_use]
pub fn update(api_version: &str, kind: &str, old: &Value, new: &Value) -> Question {
    Question { operation: Operation::Update, old_object: Some(old.to_string()), ..create(api_version, kind, new) }
}

/// The pod of a Sandbox, as the operator asks about it before it creates the pod: without a user.
#[must_use]
pub fn create_sandbox_pod(pod: &Value) -> Question {
    Question { username: String::new(), groups: vec![], ..create("v1", "Pod", pod) }
}

/// Asserts that an answer allows the request, with or without warnings and a patch.
///
/// # Panics
/// If the answer denies it.
#[track_caller]
pub fn assert_allowed(answer: &Answer) {
    assert_eq!(answer.verdict, Verdict::Allow);
}

/// The message with which an answer denies the request.
///
/// # Panics
/// If the answer allows it.
#[track_caller]
#[must_use]
#[expect(clippy::panic, reason = "a failed assertion of a test")]
pub fn denial(answer: &Answer) -> &str {
    match &answer.verdict {
        Verdict::Deny(message) => message,
        Verdict::Allow => panic!("the answer allows the request: {answer:?}"),
    }
}

/// The JSON Patch of an answer that allows the request.
///
/// # Panics
/// If the answer denies the request, has no patch, or has one that is not JSON.
#[track_caller]
#[must_use]
#[expect(clippy::panic, reason = "a failed assertion of a test")]
pub fn patch(answer: &Answer) -> Value {
    assert_allowed(answer);
    match answer.patch.as_deref().map(serde_json::from_str) {
        Some(Ok(patch)) => patch,
        Some(Err(error)) => panic!("the patch is not JSON: {error}: {answer:?}"),
        None => panic!("the answer has no patch: {answer:?}"),
    }
}

calls!(admission);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn question_takes_its_names_from_the_object() {
        let object = json!({"metadata": {"namespace": "team-a", "name": "builder"}});
        let question = create("agents.x-k8s.io/v1beta1", "Sandbox", &object);
        assert_eq!((&*question.group, &*question.version), ("agents.x-k8s.io", "v1beta1"));
        assert_eq!((&*question.namespace, &*question.name), ("team-a", "builder"));
        let pod = create_sandbox_pod(&json!({}));
        assert_eq!((&*pod.group, &*pod.version, &*pod.kind), ("", "v1", "Pod"));
        assert_eq!((&*pod.namespace, &*pod.name, &*pod.username), ("agents", "agent", ""));
    }

    #[test]
    fn update_has_both_objects() {
        let question = update("v1", "Pod", &json!({"a": 1}), &json!({"a": 2}));
        assert_eq!((question.operation, &*question.object), (Operation::Update, r#"{"a":2}"#));
        assert_eq!(question.old_object.as_deref(), Some(r#"{"a":1}"#));
    }

    #[test]
    fn patch_is_read_from_an_answer_that_allows() {
        let answer = Answer { verdict: Verdict::Allow, warnings: vec![], patch: Some("[]".into()) };
        assert_eq!(patch(&answer), json!([]));
    }
}
