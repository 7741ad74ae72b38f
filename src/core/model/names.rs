//! The rules of Kubernetes for names, label keys and label values. Each check returns a message that says what is
//! allowed.

/// The maximum length of a DNS label, such as the name of a host, a container or a volume.
const LABEL_LENGTH: usize = 63;
/// The maximum length of a DNS subdomain, such as the name of most objects.
const SUBDOMAIN_LENGTH: usize = 253;

/// Checks a DNS label (RFC 1123). Returns an error message, or `None` if it is valid.
#[must_use]
pub fn dns_label(text: &str) -> Option<String> {
    let fits = text.len() <= LABEL_LENGTH && is_dns_label(text);
    (!fits).then(|| {
        format!(
            "`{text}` must be a DNS label: at most {LABEL_LENGTH} of a-z, 0-9 and '-', with a letter or digit at both ends"
        )
    })
}

/// Checks a DNS subdomain (RFC 1123). Returns an error message, or `None` if it is valid.
#[must_use]
pub fn dns_subdomain(text: &str) -> Option<String> {
    let fits = is_dns_subdomain(text);
    (!fits).then(|| {
        format!(
            "`{text}` must be a DNS name: at most {SUBDOMAIN_LENGTH} of a-z, 0-9, '-' and '.', with a letter or digit at the ends of each part"
        )
    })
}

/// Checks the key of a label or annotation. Returns an error message, or `None` if it is valid.
#[must_use]
pub fn qualified_name(key: &str) -> Option<String> {
    let (domain, name) = key.split_once('/').map_or((None, key), |(d, n)| (Some(d), n));
    let fits = domain.is_none_or(is_dns_subdomain) && name.len() <= LABEL_LENGTH && is_word(name);
    (!fits).then(|| {
        format!(
            "`{key}` must be a key such as `team` or `example.com/team`: an optional DNS name and '/', then at most {LABEL_LENGTH} of letters, digits, '-', '_' and '.', with a letter or digit at both ends"
        )
    })
}

/// Checks the value of a label. Returns an error message, or `None` if it is valid.
#[must_use]
pub fn label_value(value: &str) -> Option<String> {
    let fits = value.is_empty() || (value.len() <= LABEL_LENGTH && is_word(value));
    (!fits).then(|| {
        format!(
            "`{value}` must be at most {LABEL_LENGTH} of letters, digits, '-', '_' and '.', with a letter or digit at both ends"
        )
    })
}

/// The domain of a key, in lower case. It is `None` for a key without a domain, such as `team`.
#[must_use]
pub fn domain_of(key: &str) -> Option<String> {
    key.split_once('/').map(|(domain, _)| domain.to_ascii_lowercase())
}

/// Whether a domain is `of` or a subdomain of it.
#[must_use]
pub fn is_within(domain: &str, of: &str) -> bool {
    domain == of || domain.strip_suffix(of).is_some_and(|front| front.ends_with('.'))
}

fn is_dns_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

/// Whether a text is a DNS subdomain (RFC 1123): lower-case letters, digits, `-` and `.`, alphanumeric at both ends of
/// each part.
#[must_use]
pub fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= SUBDOMAIN_LENGTH && text.split('.').all(is_dns_label)
}

fn is_word(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::{dns_label, dns_subdomain, domain_of, is_within, label_value, qualified_name};

    type Check = fn(&str) -> Option<String>;

    fn check(check: Check, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(check(text), None, "{text}");
        }
        for text in bad {
            assert!(check(text).is_some_and(|e| e.contains(text)), "{text}");
        }
    }

    #[test]
    fn names_and_keys_follow_kubernetes_rules() {
        let long = "a".repeat(64);
        let full = "a".repeat(63);
        check(dns_label, &["a", "0", "a-b", &full], &["", "A", "-a", "a-", "a.b", "a_b", &long, "ä"]);
        check(dns_subdomain, &["a", "a.b", "0.a-b"], &["", ".", "a..b", "a.", "A.b"]);
        check(
            qualified_name,
            &["team", "example.com/team", "a.b_c-D", &full],
            &["", "/", "a/", "/a", "a/b/c", "-a", "Example.com/a", &long],
        );
        check(label_value, &["", "a", "A.b_c-1", &full], &["-a", "a-", "a b", &long]);
    }

    #[test]
    fn a_domain_lies_within_itself_and_its_parents() {
        assert_eq!(domain_of("Agents.X-K8s.io/name").as_deref(), Some("agents.x-k8s.io"));
        assert_eq!(domain_of("name"), None);
        assert!(is_within("k8s.io", "k8s.io"));
        assert!(is_within("node.k8s.io", "k8s.io"));
        assert!(!is_within("agents.x-k8s.io", "k8s.io"), "x-k8s.io is another domain");
        assert!(!is_within("io", "k8s.io"));
    }
}
