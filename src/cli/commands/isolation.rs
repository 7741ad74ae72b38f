//! The flags that say which pods are isolated. The operator, the audit and the generated policies must judge by
//! the same ones.

use clap::Args;
use paddock_core::isolation::HostAccess;

use crate::values::parse_handler;

#[derive(Debug, Args)]
pub(crate) struct IsolationArgs {
    /// Handler of RuntimeClasses that keeps pods off the host's kernel. It includes its variants: kata includes
    /// kata-qemu. The flag may be repeated.
    #[arg(long, value_name = "HANDLER", env = "PADDOCK_ISOLATED_HANDLER", value_delimiter = ',', value_parser = parse_handler, default_values = ["runsc", "gvisor", "kata"])]
    pub(crate) isolated_handler: Vec<String>,
    /// Field whose access to the host is allowed to pods of generated code. The flag may be repeated. Without it, such
    /// pods must comply with the PodSecurity profile baseline and have no volumeDevices. Values: hostPath, hostNetwork,
    /// hostPID, hostIPC, hostPort, privileged, capabilities, procMount, sysctls, seccompProfile, appArmorProfile,
    /// seLinuxOptions, hostProcess, volumeDevices, probeHost.
    #[arg(
        long,
        value_name = "FIELD",
        env = "PADDOCK_ISOLATION_ALLOW",
        value_parser = HostAccess::named,
        value_delimiter = ','
    )]
    pub(crate) isolation_allow: Vec<HostAccess>,
}
