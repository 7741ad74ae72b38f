//! One adapter for each released version of the WIT package, newest first.
//!
//! A component's version is read from the names of its exports before anything of it runs. The rest of the
//! host knows [`Question`](paddock_core::question::Question) and [`Answer`](paddock_core::question::Answer)
//! only.

pub(crate) mod v0_1_0;

use paddock_core::question::{Answer, Hook};

use crate::answer::InvalidReply;

/// The versions of `paddock:policy` that components may be written against.
pub const SUPPORTED_VERSIONS: [&str; 1] = [v0_1_0::VERSION];

/// The WIT package.
pub(crate) const PACKAGE: &str = "paddock:policy";

/// An interface of the package, as a component names it: `paddock:policy/pool-size@0.1.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InterfaceName<'a> {
    pub(crate) interface: &'a str,
    pub(crate) version: &'a str,
}

impl<'a> InterfaceName<'a> {
    /// `None` for what is not of this package.
    pub(crate) fn parse(name: &'a str) -> Option<Self> {
        let rest = name.strip_prefix(PACKAGE)?.strip_prefix('/')?;
        let (interface, version) = rest.split_once('@').unwrap_or((rest, ""));
        Some(Self { interface, version })
    }

    pub(crate) fn hook(&self) -> Option<Hook> {
        Hook::ALL.into_iter().find(|hook| hook.as_str() == self.interface)
    }
}

/// What a call that ran to its end brought.
pub(crate) enum Reply {
    /// The component has no such export.
    NoSuchHook,
    /// The plugin says that it cannot answer.
    Refused(String),
    /// An answer that cannot even be read.
    Invalid(InvalidReply),
    /// An answer, not yet judged.
    Answer(Answer),
}

impl Reply {
    fn from<T>(said: Result<T, String>, read: impl FnOnce(T) -> Result<Answer, InvalidReply>) -> Self {
        match said.map(read) {
            Err(message) => Reply::Refused(message),
            Ok(Err(invalid)) => Reply::Invalid(invalid),
            Ok(Ok(answer)) => Reply::Answer(answer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_package_are_told_from_others() {
        for (name, parsed) in [
            ("paddock:policy/idle@0.1.0", Some(("idle", "0.1.0", Some(Hook::Idle)))),
            ("paddock:policy/settings@0.1.0", Some(("settings", "0.1.0", None))),
            ("paddock:policy/idle", Some(("idle", "", Some(Hook::Idle)))),
            ("paddock:policy-extras/idle@0.1.0", None),
            ("wasi:clocks/wall-clock@0.2.0", None),
            ("init", None),
        ] {
            let found = InterfaceName::parse(name).map(|n| (n.interface, n.version, n.hook()));
            assert_eq!(found, parsed, "{name}");
        }
    }
}
