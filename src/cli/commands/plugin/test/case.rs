//! The cases in a file, and the defaults of their questions.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail, ensure};
use paddock_core::question::{Hook, Question, form};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::compare;
use crate::commands::plugin::question::example_form;
use crate::commands::plugin::text;

/// One case.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: String,
    /// The path of the component.
    pub(super) component: PathBuf,
    /// The hook. `None` means the only hook of the component.
    pub(super) hook: Option<Hook>,
    /// The text of a JSON object. `None` means the settings of the component's configuration.
    pub(super) settings: Option<String>,
    question: Map<String, Value>,
    expect: Map<String, Value>,
}

/// What a case expects.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Expect {
    /// A failure whose message contains this text.
    Error(String),
    /// Some fields of the answer, and a text that the operator's note about it contains.
    Answer { fields: Map<String, Value>, note: Option<String> },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireFile {
    component: Option<PathBuf>,
    hook: Option<Hook>,
    settings: Option<Map<String, Value>>,
    cases: Vec<WireCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireCase {
    name: String,
    component: Option<PathBuf>,
    hook: Option<Hook>,
    settings: Option<Map<String, Value>>,
    #[serde(default)]
    question: WireQuestion,
    expect: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected the fields of a question, or the name of a file")]
enum WireQuestion {
    Fields(Map<String, Value>),
    File(PathBuf),
}

impl Default for WireQuestion {
    fn default() -> Self {
        WireQuestion::Fields(Map::new())
    }
}

/// Reads a file of cases. Paths in the file are relative to its folder.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Case>> {
    let place = || path.display().to_string();
    let value = text::read(path)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    parse(value, folder).with_context(place)
}

fn parse(value: Value, folder: &Path) -> anyhow::Result<Vec<Case>> {
    let WireFile { component, hook, settings, cases } =
        serde_path_to_error::deserialize(value).map_err(|error| match error.path().to_string().as_str() {
            "." => anyhow!("{}", error.inner()),
            path => anyhow!("{path}: {}", error.inner()),
        })?;
    ensure!(!cases.is_empty(), "cases: must contain at least one case");
    let mut names = BTreeSet::new();
    let mut read = Vec::new();
    for (index, case) in cases.into_iter().enumerate() {
        let at = |field: &str| format!("cases[{index}].{field}");
        ensure!(!case.name.is_empty(), "{}: must not be empty", at("name"));
        ensure!(names.insert(case.name.clone()), "{}: must not repeat {:?}", at("name"), case.name);
        let component = case.component.or_else(|| component.clone());
        let component =
            component.with_context(|| format!("{}: must be given here or for the file", at("component")))?;
        let question = match case.question {
            WireQuestion::Fields(fields) => fields,
            WireQuestion::File(file) => match text::read(&folder.join(&file)).with_context(|| at("question"))? {
                Value::Object(fields) => fields,
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                    bail!("{}: {}: must contain the fields of a question", at("question"), file.display())
                }
            },
        };
        ensure!(!case.expect.is_empty(), "{}: must contain a field of the answer, note or error", at("expect"));
        let settings = case.settings.or_else(|| settings.clone());
        read.push(Case {
            name: case.name,
            component: folder.join(component),
            hook: case.hook.or(hook),
            settings: settings.map(|settings| Value::Object(settings).to_string()),
            question,
            expect: case.expect,
        });
    }
    Ok(read)
}

impl Case {
    /// The question, with the defaults of its hook.
    pub(super) fn question(&self, hook: Hook) -> anyhow::Result<Question> {
        let mut fields = example_form(hook)?;
        if hook == Hook::Admission {
            fields.extend(of_object(&self.question).context("question")?);
        }
        fields.extend(self.question.clone());
        form::question(hook, Value::Object(fields)).context("question")
    }

    /// What the case expects of an answer of the hook.
    pub(super) fn expect(&self, hook: Hook) -> anyhow::Result<Expect> {
        let expect = match self.expect.get("error") {
            None => {
                let mut fields = self.expect.clone();
                let note = match fields.remove("note") {
                    None => None,
                    Some(Value::String(text)) if !text.is_empty() => Some(text),
                    Some(_) => bail!("expect: note: must be a text that the operator's note contains"),
                };
                Expect::Answer { fields, note }
            }
            Some(Value::String(text)) if !text.is_empty() && self.expect.len() == 1 => Expect::Error(text.clone()),
            Some(_) if self.expect.len() > 1 => bail!("expect: error must be alone, because a failure has no answer"),
            Some(_) => bail!("expect: error: must be a text that the failure contains"),
        };
        if let Expect::Answer { fields, .. } = &expect {
            compare::check(hook, fields).context("expect")?;
        }
        Ok(expect)
    }
}

/// The fields of an admission question that follow from its object, as in a request to the API server.
fn of_object(given: &Map<String, Value>) -> anyhow::Result<Map<String, Value>> {
    let mut fields = Map::new();
    if given.get("old-object").is_some_and(|old| !old.is_null()) {
        fields.insert("operation".to_owned(), "update".into());
    }
    let object = match given.get("object") {
        None => return Ok(fields),
        Some(Value::String(text)) => serde_json::from_str(text).unwrap_or_default(),
        Some(value) => value.clone(),
    };
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let mut set = |field: &str, value: &str| fields.insert(field.to_owned(), value.into());
    match text("/apiVersion") {
        Some(version) => {
            let (group, version) = version.split_once('/').unwrap_or(("", version));
            set("group", group);
            set("version", version);
        }
        None if given.contains_key("group") && given.contains_key("version") => {}
        None => bail!("group and version must be given, because the object has no apiVersion"),
    }
    match text("/kind") {
        Some(kind) => _ = set("kind", kind),
        None if given.contains_key("kind") => {}
        None => bail!("kind must be given, because the object has none"),
    }
    if let Some(namespace) = text("/metadata/namespace") {
        set("namespace", namespace);
    }
    match (text("/metadata/name"), text("/metadata/generateName")) {
        (Some(name), _) => _ = set("name", name),
        // The API server generates the name after admission.
        (None, Some(_)) => _ = set("name", ""),
        (None, None) => {}
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn case(question: Value, expect: Value) -> Case {
        let file = json!({"component": "p.wasm", "cases": [{"name": "c", "question": question, "expect": expect}]});
        parse(file, Path::new("")).unwrap().remove(0)
    }

    fn admission(question: Value) -> Result<paddock_core::question::AdmissionQuestion, String> {
        let question = case(question, json!({"error": "x"})).question(Hook::Admission);
        match question.map_err(|error| format!("{error:#}"))? {
            Question::Admission(question) => Ok(*question),
            Question::RuntimeClass(_) | Question::Idle(_) | Question::PoolSize(_) => Err("another hook".to_owned()),
        }
    }

    #[test]
    fn fields_that_are_left_out_have_the_values_of_the_example() {
        for hook in Hook::ALL {
            let whole = form::question(hook, Value::Object(example_form(hook).unwrap())).unwrap();
            assert_eq!(case(json!({}), json!({"error": "x"})).question(hook).unwrap(), whole);
        }
        let Question::PoolSize(pool) = case(json!({"min": 4}), json!({"desired": 1})).question(Hook::PoolSize).unwrap()
        else {
            panic!()
        };
        assert_eq!((pool.min, pool.max), (4, 10));
    }

    #[test]
    fn identity_of_an_object_is_that_of_its_fields() {
        let sandbox = json!({
            "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "metadata": {"namespace": "n", "name": "s"},
        });
        let read = admission(json!({"object": sandbox, "old-object": sandbox})).unwrap();
        assert_eq!((&*read.group, &*read.version, &*read.kind), ("agents.x-k8s.io", "v1beta1", "Sandbox"));
        assert_eq!((&*read.namespace, &*read.name), ("n", "s"));
        assert_eq!(read.operation, paddock_core::question::Operation::Update);
        let read = admission(json!({"object": sandbox.to_string(), "name": "other"})).unwrap();
        assert_eq!((&*read.kind, &*read.name), ("Sandbox", "other"), "a given field counts");
        let generated = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "p-"}});
        assert_eq!(admission(json!({"object": generated})).unwrap().name, "");
        for (object, error) in [
            (json!({"kind": "Pod"}), "question: group and version must be given"),
            (json!({"apiVersion": "v1"}), "question: kind must be given"),
            (json!(7), "question: group and version"),
        ] {
            let found = admission(json!({"object": object})).unwrap_err();
            assert!(found.starts_with(error), "{object}: {found}");
        }
    }

    #[test]
    fn what_is_wrong_in_a_file_is_refused_with_its_path() {
        let one = |fields: Value| {
            let mut case = json!({"name": "c", "expect": {"desired": 1}});
            case.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            json!({"component": "p.wasm", "cases": [case]})
        };
        for (file, error) in [
            (json!([]), "invalid length 0"),
            (json!({"cases": []}), "cases: must contain at least one case"),
            (json!({"component": "p.wasm"}), "missing field `cases`"),
            (json!({"cases": [{"name": "c", "expect": {"desired": 1}}]}), "cases[0].component: must be given here"),
            (json!({"cases": [{"name": "c"}]}), "cases[0]: missing field `expect`"),
            (json!({"cases": [{"expect": {}}]}), "cases[0]: missing field `name`"),
            (one(json!({"expect": {}})), "cases[0].expect: must contain a field of the answer"),
            (one(json!({"expect": null})), "cases[0].expect: invalid type: null"),
            (one(json!({"name": ""})), "cases[0].name: must not be empty"),
            (one(json!({"hook": "sleep"})), "cases[0].hook: unknown variant `sleep`"),
            (one(json!({"settings": []})), "cases[0].settings: invalid type: sequence"),
            (one(json!({"question": 7})), "cases[0].question: expected the fields of a question"),
            (one(json!({"question": "no-such-file"})), "cases[0].question: reading no-such-file"),
            (one(json!({"colour": 1})), "cases[0].colour: unknown field `colour`"),
        ] {
            let found = format!("{:#}", parse(file.clone(), Path::new("")).unwrap_err());
            assert!(found.starts_with(error), "{file}: {found}");
        }
        let case = json!({"name": "c", "expect": {"desired": 1}});
        let twice = json!({"component": "p.wasm", "cases": [case, case]});
        assert!(parse(twice, Path::new("")).unwrap_err().to_string().contains("cases[1].name: must not repeat \"c\""));
    }

    #[test]
    fn expectation_that_no_answer_meets_is_refused() {
        for (hook, expect, error) in [
            (Hook::PoolSize, json!({"desird": 1}), "expect: desird: unknown field `desird`"),
            (Hook::PoolSize, json!({"desired": "1"}), "expect: desired: invalid type: string"),
            (Hook::PoolSize, json!({"next-check": "soon"}), "expect: next-check: expected a time"),
            (Hook::Idle, json!({"action": "sleep"}), "expect: action: unknown variant `sleep`"),
            (Hook::Admission, json!({"verdict": "maybe"}), "expect: verdict: unknown variant `maybe`"),
            (Hook::Admission, json!({"error": ""}), "expect: error: must be a text"),
            (Hook::PoolSize, json!({"note": ""}), "expect: note: must be a text"),
            (Hook::PoolSize, json!({"note": null}), "expect: note: must be a text"),
            (Hook::PoolSize, json!({"error": "x", "note": "y"}), "expect: error must be alone"),
            (Hook::Admission, json!({"error": "x", "verdict": "allow"}), "expect: error must be alone"),
        ] {
            let found = case(json!({}), expect.clone()).expect(hook).unwrap_err();
            assert!(format!("{found:#}").starts_with(error), "{expect}: {found:#}");
        }
        for (hook, expect) in [
            (Hook::Admission, json!({"verdict": "deny"})),
            (Hook::Admission, json!({"verdict": {"deny": "no"}})),
            (Hook::RuntimeClass, json!({"choice": "class"})),
            (Hook::Idle, json!({"action": null})),
            (Hook::Idle, json!({"note": "stays awake"})),
        ] {
            assert!(case(json!({}), expect.clone()).expect(hook).is_ok(), "{expect}");
        }
    }
}
