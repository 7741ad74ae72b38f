//! The labels of `agent_sandbox_build_info` and `sandbox_router_build_info`: those of upstream's programs, and the name
//! of the implementation.

use prometheus::IntGaugeVec;

/// The names of the labels.
pub const LABELS: [&str; 7] =
    ["git_version", "git_commit", "build_date", "go_version", "compiler", "platform", "implementation"];

/// The value of what a build does not record. Two builds of the same sources are then the same.
const UNKNOWN: &str = "unknown";

/// Sets the series of this build to 1. The label `go_version` is empty, because no part of the program is written in Go.
pub fn set(info: &IntGaugeVec) {
    let platform = format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH);
    let version = concat!("v", env!("CARGO_PKG_VERSION"));
    info.with_label_values(&[version, UNKNOWN, UNKNOWN, "", "rustc", platform.as_str(), "paddock"]).set(1);
}
