//! The registry and the repository of an image.

/// The registry of an image that names none, as container runtimes complete it.
const DEFAULT_REGISTRY: &str = "docker.io";
/// The path of an image that has neither a registry nor a path.
const DEFAULT_PATH: &str = "library";

/// The full name of an image, without its tag and its digest: `docker.io/library/nginx` for `nginx:1.29`.
pub(crate) fn repository(image: &str) -> String {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    // A colon in front of a slash begins a port, not a tag.
    let name = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        Some(_) | None => name,
    };
    match name.split_once('/') {
        None => format!("{DEFAULT_REGISTRY}/{DEFAULT_PATH}/{name}"),
        Some((first, _)) if is_registry(first) => name.to_owned(),
        Some(_) => format!("{DEFAULT_REGISTRY}/{name}"),
    }
}

/// Whether the first part of an image is a registry. A part without a dot and a port is the path of an image of the
/// default registry.
fn is_registry(part: &str) -> bool {
    part.contains(['.', ':']) || part == "localhost"
}

/// Whether a repository is that of the prefix, or below it: `ghcr.io/team` includes `ghcr.io/team/agent` and not
/// `ghcr.io/team-b/agent`.
pub(crate) fn is_within(repository: &str, prefix: &str) -> bool {
    repository.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repository_has_its_registry_and_no_tag() {
        for (image, expected) in [
            ("nginx", "docker.io/library/nginx"),
            ("nginx:1.29", "docker.io/library/nginx"),
            ("team/agent:1", "docker.io/team/agent"),
            ("ghcr.io/team/agent", "ghcr.io/team/agent"),
            ("registry.example:5000/agent", "registry.example:5000/agent"),
            ("registry.example:5000/agent:1", "registry.example:5000/agent"),
            ("localhost/agent:1", "localhost/agent"),
            ("ghcr.io/team/agent:1@sha256:00", "ghcr.io/team/agent"),
            ("nginx@sha256:00", "docker.io/library/nginx"),
        ] {
            assert_eq!(repository(image), expected, "{image}");
        }
    }

    #[test]
    fn prefix_ends_at_a_slash() {
        for (repository, prefix, within) in [
            ("ghcr.io/team/agent", "ghcr.io", true),
            ("ghcr.io/team/agent", "ghcr.io/team", true),
            ("ghcr.io/team/agent", "ghcr.io/team/agent", true),
            ("ghcr.io/team-b/agent", "ghcr.io/team", false),
            ("ghcr.io.example/agent", "ghcr.io", false),
        ] {
            assert_eq!(is_within(repository, prefix), within, "{repository} {prefix}");
        }
    }
}
