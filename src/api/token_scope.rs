//! What a token for the gateway is limited to: one Sandbox, or the Sandbox of one claim, and perhaps one port.
//!
//! Such a token is a token of a ServiceAccount that the API server issued (`kubectl create token`). A scope is one of its
//! audiences. The API server itself accepts no token that has only such audiences, and the gateway no token with a scope and
//! another audience.

use std::fmt;

/// The begin of every audience that is a scope. The gateway refuses a token that has such an audience and another one.
pub const SCOPE_PREFIX: &str = "paddock.dev/";

/// The form of a scope, for messages.
pub const SCOPE_FORM: &str = "paddock.dev/KIND/NAMESPACE/NAME/UID or paddock.dev/KIND/NAMESPACE/NAME/UID/PORT, where KIND is \
                              sandbox or claim";

/// The most scopes of one token. A token with one audience for each port stays far below the limits of HTTP headers.
pub const MAX_SCOPES: usize = 16;

/// The object that a scope names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScopeKind {
    /// One Sandbox.
    Sandbox,
    /// The Sandbox that one claim has, for as long as the claim has it.
    Claim,
}

impl ScopeKind {
    /// The word in the audience.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            ScopeKind::Sandbox => "sandbox",
            ScopeKind::Claim => "claim",
        }
    }
}

/// One scope: `paddock.dev/sandbox/NAMESPACE/NAME/UID`, or `paddock.dev/claim/NAMESPACE/NAME/UID`, with `/PORT` if it is
/// limited to a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenScope {
    /// The kind of the object.
    pub kind: ScopeKind,
    /// The namespace of the object.
    pub namespace: String,
    /// The name of the object.
    pub name: String,
    /// The UID of the object. A later object of the same name has another one.
    pub uid: String,
    /// The only port of the Sandbox. If absent, every port.
    pub port: Option<u16>,
}

/// The text begins like a scope and is none that this version knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an audience that begins with {SCOPE_PREFIX} must have the form {SCOPE_FORM}")]
pub struct InvalidScope;

impl TokenScope {
    /// Reads an audience. `None` if it is no scope.
    ///
    /// # Errors
    /// If the audience begins with [`SCOPE_PREFIX`] and has another form than a scope.
    pub fn of_audience(audience: &str) -> Option<Result<Self, InvalidScope>> {
        audience.starts_with(SCOPE_PREFIX).then(|| Self::parse(audience))
    }

    fn parse(text: &str) -> Result<Self, InvalidScope> {
        let rest = text.strip_prefix(SCOPE_PREFIX).ok_or(InvalidScope)?;
        let mut parts = rest.split('/');
        let kind = match parts.next() {
            Some("sandbox") => ScopeKind::Sandbox,
            Some("claim") => ScopeKind::Claim,
            Some(_) | None => return Err(InvalidScope),
        };
        // An empty name or UID would be equal to one that is missing elsewhere.
        let mut word = || parts.next().filter(|word| !word.is_empty()).map(str::to_owned).ok_or(InvalidScope);
        let (namespace, name, uid) = (word()?, word()?, word()?);
        let port = match parts.next() {
            Some(port) => Some(parse_port(port).ok_or(InvalidScope)?),
            None => None,
        };
        match parts.next() {
            Some(_) => Err(InvalidScope),
            None => Ok(Self { kind, namespace, name, uid, port }),
        }
    }
}

impl fmt::Display for TokenScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, namespace, name, uid, port } = self;
        write!(f, "{SCOPE_PREFIX}{}/{namespace}/{name}/{uid}", kind.as_str())?;
        match port {
            Some(port) => write!(f, "/{port}"),
            None => Ok(()),
        }
    }
}

/// A port in its only form: 1 to 65535, without a sign or leading zeros.
fn parse_port(text: &str) -> Option<u16> {
    let port: u16 = text.parse().ok()?;
    (port != 0 && port.to_string() == text).then_some(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_read_as_they_are_written() {
        for text in [
            "paddock.dev/sandbox/team/box/9a2f",
            "paddock.dev/sandbox/team/box/9a2f/1",
            "paddock.dev/sandbox/team/box/9a2f/65535",
            "paddock.dev/claim/team/my.claim/9a2f",
            "paddock.dev/claim/team/my.claim/9a2f/8888",
        ] {
            let scope = TokenScope::of_audience(text).unwrap().unwrap();
            assert_eq!(scope.to_string(), text);
        }
        let scope = TokenScope::parse("paddock.dev/claim/team/a/u/8888").unwrap();
        assert_eq!((scope.kind, scope.port), (ScopeKind::Claim, Some(8888)));
        assert_eq!((&*scope.namespace, &*scope.name, &*scope.uid), ("team", "a", "u"));
    }

    #[test]
    fn what_begins_like_a_scope_and_is_none_is_an_error() {
        for text in [
            "paddock.dev/",
            "paddock.dev/sandbox",
            "paddock.dev/sandbox/team/box",
            "paddock.dev/sandbox/team/box/",
            "paddock.dev/sandbox/team//u",
            "paddock.dev/sandbox//box/u",
            "paddock.dev/sandbox/team/box/u/",
            "paddock.dev/sandbox/team/box/u/0",
            "paddock.dev/sandbox/team/box/u/+80",
            "paddock.dev/sandbox/team/box/u/080",
            "paddock.dev/sandbox/team/box/u/65536",
            "paddock.dev/sandbox/team/box/u/http",
            "paddock.dev/sandbox/team/box/u/80/81",
            "paddock.dev/Sandbox/team/box/u",
            "paddock.dev/pool/team/box/u",
        ] {
            assert_eq!(TokenScope::of_audience(text), Some(Err(InvalidScope)), "{text}");
        }
        for text in ["", "paddock.dev", "https://kubernetes.default.svc", "https://paddock.dev/sandbox/a/b/c"] {
            assert_eq!(TokenScope::of_audience(text), None, "{text}");
        }
    }
}
