//! The rights to read the credentials for registries.

use super::*;

#[test]
fn overlay_for_registries_has_the_rights_of_the_code() {
    check_overlay("plugin-registry", &plugin_pull_secret_rights(&Settings::default()));
}

/// Only the Secrets that were named are readable, in the operator's namespace alone.
#[test]
fn pull_secrets_are_readable_by_name_alone() {
    for settings in modes() {
        let named = Settings { plugin_pull_secrets: vec!["a".to_owned(), "b".to_owned()], ..settings.clone() };
        let (before, after) = (granted(&settings), granted(&named));
        let added: Vec<&Right> = after.difference(&before).collect();
        let wanted = Right {
            namespace: Some(settings.namespace.clone()),
            group: String::new(),
            resource: "secrets".to_owned(),
            names: Some(format!("{:?}", [serde_json::json!("a"), serde_json::json!("b")])),
            verb: "get".to_owned(),
        };
        assert_eq!(added, [&wanted], "{settings:?}");
    }
}
