//! Helpers for plugins that read objects, which are JSON texts.

use serde_json::Value;

/// Where objects have a pod spec: a Pod, and the two shapes of Sandbox and SandboxTemplate.
const POD_SPECS: [&str; 3] = ["/spec", "/spec/podTemplate/spec", "/spec/template/spec"];
/// The lists of containers in a pod spec.
const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Parses the object of a question.
///
/// # Errors
/// A message that the object is not JSON.
pub fn object(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("the object is not JSON: {error}"))
}

/// The string at a JSON pointer; `None` if it is absent, empty or not a string.
#[must_use]
pub fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer)?.as_str().filter(|text| !text.is_empty())
}

/// The images of the containers in a Pod, Sandbox or SandboxTemplate of either shape. Each is with its field, such as
/// `spec.containers[0].image`. A container of a template may have no image.
pub fn images(object: &Value) -> impl Iterator<Item = (String, &str)> {
    let lists = POD_SPECS.iter().flat_map(|spec| CONTAINERS.iter().map(move |list| format!("{spec}/{list}")));
    lists.flat_map(|list| {
        let containers = object.pointer(&list).and_then(Value::as_array).into_iter().flatten();
        let field = list.trim_start_matches('/').replace('/', ".");
        containers
            .enumerate()
            .filter_map(move |(index, container)| Some((format!("{field}[{index}].image"), text(container, "/image")?)))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn images_are_those_of_every_list_of_containers() {
        let pod = json!({"spec": {"initContainers": [{"image": "a"}], "containers": [{"name": "b"}, {"image": "c"}]}});
        let found: Vec<_> = images(&pod).collect();
        assert_eq!(
            found,
            [("spec.initContainers[0].image".to_owned(), "a"), ("spec.containers[1].image".to_owned(), "c")]
        );
        for shape in ["podTemplate", "template"] {
            let sandbox = json!({"spec": {shape: {"spec": {"ephemeralContainers": [{"image": "d"}]}}}});
            let found: Vec<_> = images(&sandbox).collect();
            assert_eq!(found, [(format!("spec.{shape}.spec.ephemeralContainers[0].image"), "d")]);
        }
    }

    #[test]
    fn text_is_a_string_that_is_not_empty() {
        let object = object(r#"{"spec":{"a":"x","b":"","c":1,"d":null}}"#).unwrap();
        assert_eq!(text(&object, "/spec/a"), Some("x"));
        for absent in ["/spec/b", "/spec/c", "/spec/d", "/spec/e", "/nowhere/at/all"] {
            assert_eq!(text(&object, absent), None, "{absent}");
        }
    }

    #[test]
    fn text_that_is_not_json_is_an_error() {
        assert!(object("{").unwrap_err().starts_with("the object is not JSON"));
    }
}
