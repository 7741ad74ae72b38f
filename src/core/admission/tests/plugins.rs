//! Tests of admission plugins: their order, their patches, and their failure policies.

use super::*;

const SANDBOX: (&str, &str) = ("agents.x-k8s.io", "sandboxes");

fn sandbox() -> Value {
    json!({
        "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox",
        "metadata": { "name": "a", "namespace": "agents", "labels": {}, "managedFields": [{ "manager": "kubectl" }] },
        "spec": { "podTemplate": { "spec": { "containers": [{ "name": "c", "image": "i" }] } } },
    })
}

fn claim() -> Value {
    json!({
        "apiVersion": "extensions.agents.x-k8s.io/v1beta1", "kind": "SandboxClaim",
        "metadata": { "name": "c", "namespace": "agents", "labels": {} }, "spec": { "warmPoolRef": { "name": "p" } },
    })
}

fn label(name: &str, value: &str) -> Option<Value> {
    Some(json!([{ "op": "add", "path": format!("/metadata/labels/{name}"), "value": value }]))
}

/// The plugin `first` labels the object. The plugin `second` adds a label that depends on the label of `first`. All
/// others allow.
fn labels(request: &PluginRequest) -> Result<Answer, Failure> {
    let Question::Admission(question) = &request.question else { return broken(FailureKind::Error) };
    assert!(!question.object.contains("managedFields"), "plugins see no managed fields");
    let object: Value = serde_json::from_str(&question.object).expect("JSON");
    match request.plugin.name.as_str() {
        "first" => allow(label("first", "1")),
        "second" => allow(label("saw", object["metadata"]["labels"]["first"].as_str().unwrap_or("nothing"))),
        _ => allow(None),
    }
}

fn first_fails(request: &PluginRequest) -> Result<Answer, Failure> {
    if request.plugin.name == "first" { broken(FailureKind::Deadline) } else { labels(request) }
}

fn first_renames(request: &PluginRequest) -> Result<Answer, Failure> {
    let rename = json!([{ "op": "replace", "path": "/metadata/name", "value": "b" }]);
    if request.plugin.name == "first" { allow(Some(rename)) } else { labels(request) }
}

fn second_denies(request: &PluginRequest) -> Result<Answer, Failure> {
    if request.plugin.name != "second" {
        return labels(request);
    }
    let verdict = Verdict::Deny("pin the image".to_owned());
    Ok(Answer::Admission(AdmissionAnswer { verdict, warnings: Vec::new(), patch: None }))
}

fn bound(first: FailurePolicy) -> Context {
    let bindings = vec![
        binding("built-in", Hook::Admission, Binding::BUILT_IN_ORDER, FailurePolicy::Fail),
        binding("second", Hook::Admission, 2, FailurePolicy::Ignore),
        binding("first", Hook::Admission, 1, first),
    ];
    Context { bindings: Arc::new(Bindings::new(bindings)), ..context() }
}

#[test]
fn a_binding_that_names_kinds_is_asked_about_no_others() {
    let sandboxes = Binding {
        kinds: vec!["Pod".to_owned(), "Sandbox".to_owned()],
        ..binding("sandboxes", Hook::Admission, 0, FailurePolicy::Fail)
    };
    let bindings = Bindings::new(vec![binding("all", Hook::Admission, 1, FailurePolicy::Fail), sandboxes]);
    let context = Context { bindings: Arc::new(bindings), ..context() };
    let claim = claim();
    let of_claims = ("extensions.agents.x-k8s.io", "sandboxclaims");
    for (of, object, expected) in
        [(SANDBOX, sandbox(), vec!["sandboxes/admission", "all/admission"]), (of_claims, claim, vec!["all/admission"])]
    {
        let (asked, _) = decide(&review(Entry::OwnKinds, Verb::Create, of, object), &context, labels);
        assert_eq!(asked, expected, "{of:?}");
    }
}

#[test]
fn each_plugin_sees_what_the_ones_before_it_left() {
    let review = review(Entry::OwnKinds, Verb::Create, SANDBOX, sandbox());
    let (asked, _) = decide(&review, &bound(FailurePolicy::Fail), labels);
    assert_eq!(asked, ["first/admission", "second/admission", "built-in/admission"]);
    let object = admit(review, &bound(FailurePolicy::Fail), labels).expect("admitted");
    assert_eq!(object["metadata"]["labels"], json!({ "first": "1", "saw": "1" }));
}

#[test]
fn a_failure_decides_only_about_its_own_binding() {
    for plugin in [first_fails as Plugin, first_renames] {
        let review = review(Entry::OwnKinds, Verb::Create, SANDBOX, sandbox());

        let (asked, outcome) = decide(&review, &bound(FailurePolicy::Fail), plugin);
        assert_eq!(asked, ["first/admission"]);
        assert_eq!(outcome.denial.map(|d| d.why), Some(Why::PluginFailed));
        assert!(outcome.patch.is_empty());

        for policy in [FailurePolicy::Ignore, FailurePolicy::Fallback] {
            let (asked, outcome) = decide(&review, &bound(policy), plugin);
            assert_eq!(asked, ["first/admission", "second/admission", "built-in/admission"]);
            assert!(outcome.allowed());
            assert_eq!(outcome.plugin_failures.len(), 1);
            assert_eq!(outcome.plugin_failures[0].binding, "first/admission");
            let warned = outcome.warnings.iter().any(|w| w.starts_with("plugin first did not answer (failurePolicy "));
            assert!(warned, "the user learns of it: {:?}", outcome.warnings);
        }
    }
}

/// For every policy of a plugin that fails: a plugin after it that denies is asked, and its denial stands.
#[test]
fn a_failure_silences_no_other_plugin() {
    fn first_fails_and_second_denies(request: &PluginRequest) -> Result<Answer, Failure> {
        if request.plugin.name == "first" { broken(FailureKind::Fuel) } else { second_denies(request) }
    }
    for (of, object) in [(SANDBOX, sandbox()), (("extensions.agents.x-k8s.io", "sandboxclaims"), claim())] {
        for phase in [Phase::Mutate, Phase::Validate] {
            for policy in [FailurePolicy::Ignore, FailurePolicy::Fallback, FailurePolicy::Fail] {
                let review = Review { phase, ..review(Entry::OwnKinds, Verb::Create, of, object.clone()) };
                let (_, outcome) = decide(&review, &bound(policy), first_fails_and_second_denies);
                let why = if policy == FailurePolicy::Fail { Why::PluginFailed } else { Why::DeniedByPlugin };
                assert_eq!(outcome.denial.map(|d| d.why), Some(why), "{of:?} {phase:?} {policy:?}");
            }
        }
    }
}

/// A plugin that is not loaded fails by its policy without being asked, in every hook that can deny.
#[test]
fn a_plugin_that_is_not_loaded_fails_by_its_policy() {
    for (policy, admitted) in
        [(FailurePolicy::Fail, false), (FailurePolicy::Ignore, true), (FailurePolicy::Fallback, true)]
    {
        for hook in [Hook::Admission, Hook::RuntimeClass] {
            let missing = Binding {
                not_loaded: Some("mine.wasm: the file is not complete".to_owned()),
                ..binding("mine", hook, 0, policy)
            };
            let by_label = binding("by-label", Hook::RuntimeClass, Binding::BUILT_IN_ORDER, FailurePolicy::Fail);
            let bindings = Bindings::new(vec![missing, by_label]);
            let context = Context { bindings: Arc::new(bindings), ..context() };
            let pod = json!({
                "kind": "Pod", "metadata": { "name": "a", "labels": { "policy.paddock.dev/generated-code": "true" } },
                "spec": { "containers": [{ "name": "c", "image": "i" }] },
            });
            let (asked, outcome) =
                decide(&review(Entry::MarkedPods, Verb::Create, ("", "pods"), pod), &context, |request| {
                    assert_ne!(request.plugin.name, "mine", "it is not asked");
                    choose("gvisor")
                });
            assert_eq!(outcome.allowed(), admitted, "{policy:?} {hook:?} {asked:?}");
            let message = outcome.denial.map(|d| d.message).unwrap_or_default();
            assert!(admitted || message.contains("mine.wasm: the file is not complete"), "{message}");
        }
    }
}

#[test]
fn a_plugin_that_denies_is_quoted_and_ends_the_questions() {
    let review = review(Entry::OwnKinds, Verb::Create, SANDBOX, sandbox());
    let (asked, outcome) = decide(&review, &bound(FailurePolicy::Fail), second_denies);
    assert_eq!(asked, ["first/admission", "second/admission"]);
    let denial = outcome.denial.expect("denied");
    assert_eq!((denial.why, denial.message.as_str()), (Why::DeniedByPlugin, "plugin second: pin the image"));
    assert!(outcome.patch.is_empty(), "what is denied is not changed");
}

#[test]
fn plugins_are_asked_again_of_the_final_object() {
    let review = Review { phase: Phase::Validate, ..review(Entry::OwnKinds, Verb::Create, SANDBOX, sandbox()) };
    let (asked, outcome) = decide(&review, &bound(FailurePolicy::Fail), second_denies);
    assert_eq!(asked, ["first/admission", "second/admission"]);
    assert!(!outcome.allowed());
}

#[test]
fn a_question_left_open_denies() {
    let review = review(Entry::OwnKinds, Verb::Create, SANDBOX, sandbox());
    let outcome = verdict(&review, &bound(FailurePolicy::Ignore), &[]);
    assert_eq!(outcome.denial.map(|d| d.why), Some(Why::PluginFailed));
}

#[test]
fn a_plugin_cannot_let_generated_code_onto_the_hosts_kernel() {
    fn strips(request: &PluginRequest) -> Result<Answer, Failure> {
        match &request.question {
            Question::RuntimeClass(_) => choose("gvisor"),
            Question::Admission(_) | Question::Idle(_) | Question::PoolSize(_) => {
                allow(Some(json!([{ "op": "replace", "path": "/spec/runtimeClassName", "value": "runc" }])))
            }
        }
    }
    let bindings = vec![
        binding("by-label", Hook::RuntimeClass, Binding::BUILT_IN_ORDER, FailurePolicy::Fail),
        binding("evil", Hook::Admission, 0, FailurePolicy::Ignore),
    ];
    let context = Context { bindings: Arc::new(Bindings::new(bindings)), ..context() };
    let pod = json!({
        "kind": "Pod", "metadata": { "name": "a", "labels": { "policy.paddock.dev/generated-code": "true" } },
        "spec": { "containers": [] },
    });
    let outcome = admit(review(Entry::MarkedPods, Verb::Create, ("", "pods"), pod), &context, strips);
    assert_eq!(outcome.map_err(|d| d.why), Err(Why::NotIsolated));
}

#[test]
fn a_class_question_falls_from_plugin_to_built_in() {
    fn first_is_missing(request: &PluginRequest) -> Result<Answer, Failure> {
        if request.plugin.name == "mine" { broken(FailureKind::Missing) } else { choose("gvisor") }
    }
    let pod = json!({
        "kind": "Pod", "metadata": { "name": "a", "labels": { "policy.paddock.dev/generated-code": "true" } },
        "spec": { "containers": [{ "name": "c", "image": "i" }] },
    });
    for (policy, asked_expected, admitted) in [
        (FailurePolicy::Fail, vec!["mine/runtime-class"], false),
        (FailurePolicy::Ignore, vec!["mine/runtime-class", "other/runtime-class"], true),
        (FailurePolicy::Fallback, vec!["mine/runtime-class", "by-label/runtime-class"], true),
    ] {
        let bindings = vec![
            binding("by-label", Hook::RuntimeClass, Binding::BUILT_IN_ORDER, FailurePolicy::Fail),
            binding("mine", Hook::RuntimeClass, 0, policy),
            binding("other", Hook::RuntimeClass, 1, FailurePolicy::Fail),
        ];
        let context = Context { bindings: Arc::new(Bindings::new(bindings)), ..context() };
        let review = review(Entry::MarkedPods, Verb::Create, ("", "pods"), pod.clone());
        let (asked, outcome) = decide(&review, &context, first_is_missing);
        assert_eq!((asked, outcome.allowed()), (asked_expected.into_iter().map(str::to_owned).collect(), admitted));
    }
}

/// `paddock plugin` says with `accept` what the operator does with an answer. The verdict is what it does.
#[test]
fn accept_agrees_with_the_verdict() {
    let patches = [
        (None, true),
        (label("a", "1").map(|patch| patch.to_string()), true),
        (Some(json!([{ "op": "replace", "path": "/metadata/name", "value": "b" }]).to_string()), false),
        (Some(json!([{ "op": "remove", "path": "/nowhere" }]).to_string()), false),
        (Some("no patch".to_owned()), false),
    ];
    let bindings = Bindings::new(vec![binding("first", Hook::Admission, 1, FailurePolicy::Fail)]);
    let context = Context { bindings: Arc::new(bindings), ..context() };
    let review = review(Entry::OwnKinds, Verb::Create, SANDBOX, sandbox());
    for (patch, sound) in patches {
        for verdict_ in [Verdict::Allow, Verdict::Deny("no".to_owned())] {
            let fails = !sound && verdict_ == Verdict::Allow;
            let answer = AdmissionAnswer { verdict: verdict_, warnings: Vec::new(), patch: patch.clone() };
            let request = questions(&review, &context, &[]).remove(0);
            let answer = Answer::Admission(answer);
            let accepted = accept(&request.question, &answer);
            assert_eq!(matches!(accepted, Acceptance::Refused(_)), fails, "{answer:?}: {accepted:?}");
            let outcome = verdict(&review, &context, &[PluginReply { request, result: Ok(answer.clone()) }]);
            assert_eq!(!outcome.plugin_failures.is_empty(), fails, "{answer:?}: {outcome:?}");
        }
    }
}
