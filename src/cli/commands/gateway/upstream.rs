//! The environment variables of upstream's router. A flag of ours takes precedence over them.

use std::time::Duration;

use crate::values::parse_bool;

/// The values of upstream's variables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Upstream {
    /// `ALLOW_UNAUTHENTICATED_ROUTER`.
    pub(super) allow_unauthenticated: bool,
    /// `PROXY_TIMEOUT_SECONDS`. A value that is no time is ignored, as upstream does.
    pub(super) proxy_timeout: Option<Duration>,
}

impl Upstream {
    pub(super) fn from_environment() -> Self {
        Self::of(|name| std::env::var(name).ok())
    }

    fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let open = variable("ALLOW_UNAUTHENTICATED_ROUTER");
        Self {
            // Whoever mistypes the value keeps the protection.
            allow_unauthenticated: open.is_some_and(|value| parse_bool(value.trim()).unwrap_or(false)),
            proxy_timeout: variable("PROXY_TIMEOUT_SECONDS").as_deref().and_then(seconds),
        }
    }
}

/// A duration in whole seconds, as upstream's variables have it.
fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_variable_keeps_the_protection() {
        let of = |open: &str, timeout: &str| {
            Upstream::of(|name| Some(if name.starts_with("ALLOW") { open.to_owned() } else { timeout.to_owned() }))
        };
        assert_eq!(
            of("true", "60"),
            Upstream { allow_unauthenticated: true, proxy_timeout: Some(Duration::from_secs(60)) }
        );
        for (open, timeout) in [("yes", "soon"), ("", "0"), ("false", "-1"), ("2", "inf")] {
            assert_eq!(of(open, timeout), Upstream::default(), "{open} {timeout}");
        }
        assert_eq!(Upstream::of(|_| None), Upstream::default());
    }
}
