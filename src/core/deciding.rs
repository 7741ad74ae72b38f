//! The records of the plugins that decided about an object. The status shows them, so that users see which component and
//! which settings were in force.
//!
//! The plugins that decided about a pod are recorded on the pod, because the status is written later, by a reconcile that
//! asks them no more.

use std::sync::Arc;

use paddock_api::{DecidingPlugin, Hook};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::binding::Binding;

/// The maximum number of plugins in a record, so that an annotation and a status stay small.
const RECORDED_MAX: usize = 16;

/// The maximum length of settings that are recorded as they are, in bytes. Of longer settings the digest is recorded.
const SETTINGS_MAX: usize = 256;

/// The number of hex digits of a digest in a message.
const SHORT_DIGEST: usize = 12;

/// The record of a decision of the plugin of a binding.
pub(crate) fn decided_by(binding: &Binding) -> DecidingPlugin {
    DecidingPlugin {
        hook: binding.hook,
        name: binding.plugin.name.clone(),
        digest: binding.plugin.digest.clone(),
        settings: settings(binding),
    }
}

fn settings(binding: &Binding) -> Option<String> {
    let settings = binding.settings.as_str();
    match settings.len() {
        _ if ["", "{}", "null"].contains(&settings) => None,
        0..=SETTINGS_MAX => Some(settings.to_owned()),
        _ => Some(format!("sha256:{:x}", Sha256::digest(settings))),
    }
}

/// The name, the version and the settings of a plugin, for a message.
pub(crate) fn version_clause(plugin: &DecidingPlugin) -> String {
    let digest = plugin.digest.split(':').next_back().unwrap_or_default();
    let short: String = digest.chars().take(SHORT_DIGEST).collect();
    let settings = plugin.settings.as_ref().map(|settings| format!(", settings {settings}")).unwrap_or_default();
    format!("{} {short}{settings}", plugin.name)
}

/// Adds plugins to a record. A later decision of a hook by the same plugin replaces the earlier one.
pub(crate) fn add(record: &mut Vec<DecidingPlugin>, plugins: impl IntoIterator<Item = DecidingPlugin>) {
    for plugin in plugins {
        let same = |known: &DecidingPlugin| known.hook == plugin.hook && known.name == plugin.name;
        match record.iter().position(same) {
            Some(place) => record[place] = plugin,
            None if record.len() < RECORDED_MAX => record.push(plugin),
            None => {}
        }
    }
}

/// The record with the hook decided by this plugin, or by none.
pub(crate) fn with_hook(
    record: &Arc<Vec<DecidingPlugin>>,
    hook: Hook,
    plugin: Option<&DecidingPlugin>,
) -> Arc<Vec<DecidingPlugin>> {
    let of_hook: Vec<&DecidingPlugin> = record.iter().filter(|known| known.hook == hook).collect();
    if of_hook.iter().copied().eq(plugin) {
        return record.clone();
    }
    let others = record.iter().filter(|known| known.hook != hook).take(RECORDED_MAX - 1);
    Arc::new(others.chain(plugin).cloned().collect())
}

/// The record in an annotation. An annotation that somebody else wrote may be anything. An entry that is longer than the
/// operator writes it is left out, because the record goes into the status.
pub(crate) fn parse(annotation: Option<&str>) -> Vec<DecidingPlugin> {
    let mut record: Vec<DecidingPlugin> =
        annotation.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    record.retain(|plugin| {
        let texts = [Some(&plugin.name), Some(&plugin.digest), plugin.settings.as_ref()];
        texts.into_iter().flatten().all(|text| text.len() <= SETTINGS_MAX)
    });
    record.truncate(RECORDED_MAX);
    record
}

/// The value of the annotation, or `None` if no plugin decided.
fn annotation(record: &[DecidingPlugin]) -> Option<String> {
    (!record.is_empty()).then(|| serde_json::to_string(record).ok()).flatten()
}

/// Adds a record to an object under this annotation, if any plugin decided.
pub(crate) fn annotate(object: &mut Value, name: &str, record: &[DecidingPlugin]) {
    if let Some(record) = annotation(record) {
        object["metadata"]["annotations"][name] = record.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binding::FailurePolicy;
    use crate::question::PluginRef;

    fn binding(settings: &str) -> Binding {
        let plugin = PluginRef { name: "mine".to_owned(), digest: "sha256:0123456789abcdef".to_owned() };
        Binding {
            settings: settings.to_owned(),
            failure_policy: FailurePolicy::Ignore,
            ..Binding::new(plugin, Hook::Idle)
        }
    }

    fn plugin(hook: Hook, name: &str) -> DecidingPlugin {
        DecidingPlugin { hook, name: name.to_owned(), digest: String::new(), settings: None }
    }

    #[test]
    fn record_shows_short_settings_and_the_digest_of_long_ones() {
        let long = |length: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(length - 8));
        for (settings, shown, message) in [
            ("{}".to_owned(), None, "mine 0123456789ab"),
            (String::new(), None, "mine 0123456789ab"),
            ("{\"a\":1}".to_owned(), Some("{\"a\":1}".to_owned()), "mine 0123456789ab, settings {\"a\":1}"),
            (long(SETTINGS_MAX), Some(long(SETTINGS_MAX)), ""),
        ] {
            let record = decided_by(&binding(&settings));
            assert_eq!(record.settings, shown);
            if !message.is_empty() {
                assert_eq!(version_clause(&record), message);
            }
        }
        let digest = decided_by(&binding(&long(SETTINGS_MAX + 1))).settings.unwrap();
        assert!(digest.starts_with("sha256:") && digest.len() == 7 + 64, "{digest}");
    }

    #[test]
    fn record_stays_small_and_has_one_entry_for_each_hook_and_plugin() {
        let mut record = Vec::new();
        let many = (0..100).map(|n| plugin(Hook::Admission, &format!("p{n}")));
        add(&mut record, many.chain([plugin(Hook::RuntimeClass, "p0")]));
        assert_eq!(record.len(), RECORDED_MAX);
        let later = DecidingPlugin { digest: "sha256:2".to_owned(), ..plugin(Hook::Admission, "p3") };
        add(&mut record, [later.clone()]);
        assert_eq!((record.len(), &record[3]), (RECORDED_MAX, &later));
        let full = Arc::new(record);
        let idle = plugin(Hook::Idle, "idle");
        let with_idle = with_hook(&full, Hook::Idle, Some(&idle));
        assert_eq!((with_idle.len(), with_idle.last()), (RECORDED_MAX, Some(&idle)));
        assert!(Arc::ptr_eq(&with_idle, &with_hook(&with_idle, Hook::Idle, Some(&idle))), "nothing changed");
        assert_eq!(with_hook(&with_idle, Hook::Idle, None).len(), RECORDED_MAX - 1);
    }

    #[test]
    fn annotation_is_read_back_and_rubbish_is_no_record() {
        let record = vec![decided_by(&binding("{\"a\":1}")), plugin(Hook::Admission, "p")];
        assert_eq!(parse(annotation(&record).as_deref()), record);
        assert_eq!(annotation(&[]), None);
        let long = serde_json::to_string(&vec![plugin(Hook::Idle, "p"); 1000]).unwrap();
        assert_eq!(parse(Some(&long)).len(), RECORDED_MAX);
        let own = plugin(Hook::Idle, "p");
        let long = || "x".repeat(SETTINGS_MAX + 1);
        for too_long in [
            DecidingPlugin { name: long(), ..own.clone() },
            DecidingPlugin { digest: long(), ..own.clone() },
            DecidingPlugin { settings: Some(long()), ..own.clone() },
        ] {
            assert_eq!(parse(annotation(&[too_long, own.clone()]).as_deref()), vec![own.clone()]);
        }
        for rubbish in ["", "{}", "[1]", r#"[{"hook":"other","name":"p"}]"#, "null"] {
            assert_eq!(parse(Some(rubbish)), vec![], "{rubbish}");
        }
    }
}
