//! The challenge of a registry: how it wants to be shown credentials.

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, Uri};

use super::transport::{names_a_server, with_query};

/// What a registry asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// The credentials themselves.
    Basic,
    /// A token of a token server.
    Bearer { realm: Uri, service: Option<String> },
}

impl Challenge {
    /// The challenge in the headers of an answer. A token comes first.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let challenges: Vec<_> = values.filter_map(Self::parse).collect();
        let token = challenges.iter().find(|challenge| **challenge != Self::Basic);
        token.or(challenges.first()).cloned()
    }

    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let parameters = parameters(rest);
        let find = |name: &str| {
            let found = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.clone())
        };
        let realm: Uri = find("realm")?.parse().ok()?;
        names_a_server(&realm).then(|| Self::Bearer { realm, service: find("service") })
    }

    /// The address of the token server with its question.
    pub(super) fn question(realm: &Uri, service: Option<&str>, scope: &str) -> Option<Uri> {
        let service = service.map(|service| format!("service={}&", encoded(service))).unwrap_or_default();
        with_query(realm, &format!("{service}scope={}", encoded(scope)))
    }
}

/// The parameters of a challenge: `name=value`, with or without quotes, separated by commas.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let after = after.trim_start();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquoted(quoted),
            None => {
                let (value, after) = after.split_once(',').unwrap_or((after, ""));
                (value.trim().to_owned(), after)
            }
        };
        found.push((name.trim_matches([',', ' ', '\t']).to_owned(), value));
        rest = after;
    }
    found
}

/// The text up to the closing quote, and what follows it.
fn unquoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, text.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

/// A text in the form in which a query may contain it.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'/' => {
                encoded.push(char::from(byte));
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(values: &[&str]) -> Option<Challenge> {
        let values = values.iter().map(|value| (WWW_AUTHENTICATE, HeaderValue::from_str(value).unwrap()));
        Challenge::of(&values.collect())
    }

    #[test]
    fn challenges_are_read() {
        let bearer = |realm: &'static str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: Uri::from_static(realm), service: service.map(str::to_owned) })
        };
        assert_eq!(of(&["Basic realm=\"x\""]), Some(Challenge::Basic));
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a:pull,push""#;
        assert_eq!(of(&[hub]), bearer("https://auth.docker.io/token", Some("registry.docker.io")));
        assert_eq!(of(&["basic", "bearer realm=\"https://a/\""]), bearer("https://a/", None));
        assert_eq!(
            of(&[r#"Bearer  service="a \"b\", c" , realm=https://a/t?x=y"#]),
            bearer("https://a/t?x=y", Some("a \"b\", c"))
        );
        for wrong in
            ["", "Bearer", "Bearer realm=\"\"", "Bearer realm=\"/path\"", "Bearer realm=\"https://u@a/\"", "Digest a=b"]
        {
            assert_eq!(of(&[wrong]), None, "{wrong}");
        }
    }

    #[test]
    fn question_of_a_token_is_encoded() {
        let question = |realm: &'static str, service| {
            Challenge::question(&Uri::from_static(realm), service, "repository:a/b:pull,push").unwrap().to_string()
        };
        assert_eq!(question("https://a/t", None), "https://a/t?scope=repository:a/b:pull%2Cpush");
        let both = question("https://a/t?x=y", Some("s&scope=z"));
        assert_eq!(both, "https://a/t?x=y&service=s%26scope%3Dz&scope=repository:a/b:pull%2Cpush");
    }
}
