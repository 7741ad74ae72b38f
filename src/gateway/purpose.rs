//! The rule that tells probes from uses. The platform team sets it.

use http::HeaderMap;
use http::header::USER_AGENT;

use crate::arrival::Purpose;

/// The user agents of probes, health checks and crawlers, in the part that their versions have in common.
pub const PROBE_USER_AGENTS: [&str; 14] = [
    "kube-probe/",
    "GoogleHC/",
    "ELB-HealthChecker/",
    "Amazon-Route53-Health-Check-Service",
    "Edge Health Probe",
    "Load Balancer Agent",
    "Prometheus/",
    "Blackbox Exporter/",
    "UptimeRobot/",
    "Pingdom.com_bot",
    "Googlebot",
    "bingbot",
    "Baiduspider",
    "YandexBot",
];

/// Recognises requests that must not wake a Sandbox.
#[derive(Clone, Debug)]
pub struct PurposeRule {
    /// Parts of user agents, in lower case.
    probes: Vec<String>,
}

impl PurposeRule {
    /// A rule that recognises user agents that contain one of these texts, in any case.
    #[must_use]
    pub fn new(user_agents: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let lower = user_agents.into_iter().map(|agent| agent.as_ref().to_ascii_lowercase());
        Self { probes: lower.filter(|agent| !agent.is_empty()).collect() }
    }

    /// What a request is for.
    #[must_use]
    pub fn of(&self, headers: &HeaderMap) -> Purpose {
        let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let agent = agent.to_ascii_lowercase();
        if self.probes.iter().any(|probe| agent.contains(probe)) { Purpose::Probe } else { Purpose::Use }
    }
}

impl Default for PurposeRule {
    fn default() -> Self {
        Self::new(PROBE_USER_AGENTS)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn probes_are_recognised_by_their_user_agent() {
        let purpose = |agent: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(USER_AGENT, HeaderValue::from_static(agent));
            PurposeRule::default().of(&headers)
        };
        for probe in ["kube-probe/1.37", "GoogleHC/1.0", "Mozilla/5.0 (compatible; bingbot/2.0)", "prometheus/3.0"] {
            assert_eq!(purpose(probe), Purpose::Probe, "{probe}");
        }
        for person in ["python-requests/2.34.2", "Mozilla/5.0 (X11; Linux x86_64)", "curl/8", ""] {
            assert_eq!(purpose(person), Purpose::Use, "{person}");
        }
        assert_eq!(PurposeRule::default().of(&HeaderMap::new()), Purpose::Use);
        assert_eq!(PurposeRule::new([""]).of(&HeaderMap::new()), Purpose::Use);
    }
}
