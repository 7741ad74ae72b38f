//! Finds the object that the path of a debug page names.

use paddock_api::kind::{Key, Kind};

use crate::world::SharedWorld;

/// The key of the object, or a message for the user. If the kind exists in both groups, it is that of the object that
/// exists, upstream's first.
pub(super) fn find(world: &SharedWorld, word: &str, namespace: &str, name: &str) -> Result<Key, String> {
    let key = |kind: Kind| Key::new(kind, if kind.namespaced() { namespace } else { "" }, name);
    let keys: Vec<Key> = expected_kinds(word).into_iter().map(key).collect();
    let there = |key: &&Key| world.read(|world| world.get(key).is_some());
    let Some(key) = keys.iter().find(there).or(keys.first()) else {
        let kinds: Vec<String> = Kind::ALL.into_iter().map(Kind::resource).collect();
        return Err(format!("{word:?} is not a kind; the kind must be one of {}\n", kinds.join(", ")));
    };
    if key.kind.namespaced() && namespace.is_empty() {
        return Err(format!("{word} are in namespaces: the path is /debug/seen/{word}/NAMESPACE/{name}\n"));
    }
    Ok(key.clone())
}

/// The kinds that a user's word may name, the most likely first. `plural.group` and our own names (`SeedPool`) name one
/// kind. A kind's name or plural may name one kind in each group. Case is ignored.
fn expected_kinds(word: &str) -> Vec<Kind> {
    let is = |name: &str| name.eq_ignore_ascii_case(word);
    if let Some(kind) = Kind::ALL.into_iter().find(|kind| is(&kind.resource()) || is(&format!("{kind:?}"))) {
        return vec![kind];
    }
    Kind::ALL.into_iter().filter(|kind| is(kind.name()) || is(kind.plural())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_known_by_whatever_a_user_would_type() {
        for (word, kinds) in [
            ("SandboxWarmPool", vec![Kind::Pool, Kind::SeedPool]),
            ("sandboxwarmpools", vec![Kind::Pool, Kind::SeedPool]),
            ("sandboxclaim", vec![Kind::Claim, Kind::SeedClaim]),
            ("sandboxwarmpools.agents.x-k8s.io", vec![Kind::SeedPool]),
            ("sandboxwarmpools.extensions.agents.x-k8s.io", vec![Kind::Pool]),
            ("Sandboxes.agents.x-k8s.io", vec![Kind::Sandbox]),
            ("sandbox", vec![Kind::Sandbox]),
            ("seedpool", vec![Kind::SeedPool]),
            ("Pool", vec![Kind::Pool]),
            ("pods", vec![Kind::Pod]),
            ("PersistentVolumeClaim", vec![Kind::VolumeClaim]),
            ("sandboxes.extensions.agents.x-k8s.io", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(expected_kinds(word), kinds, "{word}");
        }
    }
}
