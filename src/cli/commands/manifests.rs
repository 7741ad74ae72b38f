//! `paddock manifests`: everything that a deployment needs.

use anyhow::bail;
use clap::{ArgAction, Args, ValueEnum};
use paddock_api::kind::ApiShapes;
use paddock_api::names::object;
use paddock_core::model::is_dns_subdomain;
use paddock_operator::manifests::{self, METRICS_NAMESPACE, POD_CIDRS, Settings, Webhook};

use crate::output::{print, yaml};
use crate::values::{parse_bool, parse_cidr, parse_host, parse_image, parse_namespace, parse_shapes};

#[derive(Debug, Args)]
pub(crate) struct ManifestsArgs {
    /// API shape of the templates, pools and claims to install: seed (all kinds in agents.x-k8s.io), upstream (in
    /// extensions.agents.x-k8s.io), or both.
    #[arg(long, value_name = "SURFACE", value_parser = parse_shapes, default_value = "both")]
    surface: ApiShapes,
    /// Namespace of the operator.
    #[arg(long, value_name = "NAMESPACE", value_parser = parse_namespace, default_value = object::OPERATOR_NAMESPACE)]
    namespace: String,
    /// The only namespace that the operator serves (its flag --namespace). The operator gets rights to write only in this
    /// namespace and in its own, apart from Events, the webhook configurations and the status of plugins and policies.
    /// Without the flag, it serves all namespaces. Several operators for one namespace each may exist in a cluster, each in
    /// a namespace of its own. Only one of them may have the webhook, so give --webhook=off to the others.
    #[arg(long, value_name = "NAMESPACE", value_parser = parse_namespace)]
    served_namespace: Option<String>,
    /// Installs templates, pools and claims. With --extensions=false, the operator serves only Sandboxes.
    #[arg(long, value_name = "BOOL", value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", action = ArgAction::Set)]
    extensions: bool,
    /// The program that keeps the webhook configurations and their certificate.
    #[arg(long, value_name = "WHO", default_value = "injected")]
    webhook: WhoKeeps,
    /// Host at which API servers reach the webhook of an operator outside the cluster. The flag is for --webhook=owned.
    /// Without it, API servers use the Service of the webhook.
    #[arg(long, value_name = "HOST", value_parser = parse_host)]
    webhook_host: Option<String>,
    /// Installs the gateway, which routes requests to Sandboxes and wakes suspended ones.
    #[arg(long, value_name = "BOOL", value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", action = ArgAction::Set)]
    gateway: bool,
    /// Lets the operator deliver what claims bring to running sandboxes: it may create and delete Secrets for the pods of
    /// sandboxes. For files from Secrets, bind the ClusterRole agent-sandbox-controller-claim-secrets in a namespace.
    #[arg(long, value_name = "BOOL", value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set)]
    claim_data: bool,
    /// Lets the operator throttle idle sandboxes: it may resize the pods of sandboxes, and runs with --throttle-cpu=10m.
    #[arg(long, value_name = "BOOL", value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set)]
    throttle: bool,
    /// Lets the API server admit Pods of generated code although the webhook does not answer. The policies of `paddock
    /// generate vap` judge them: apply those first. The operator closes the webhook again if they are not there.
    #[arg(long, value_name = "BOOL", value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set)]
    isolation_policies: bool,
    /// Lets the operator read the CPU use of pods (pods.metrics.k8s.io), which metrics-server serves, for idle plugins. With
    /// --cpu-metrics=false, it runs with --cpu-metrics-interval=0s.
    #[arg(long, value_name = "BOOL", value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", action = ArgAction::Set)]
    cpu_metrics: bool,
    /// Lets the operator read this Secret of its own namespace, which has the credentials for a registry that SandboxPlugins
    /// name in spec.source.oci.pullSecret. The flag may be repeated. Without it, the operator reads no such Secret.
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = parse_secret)]
    plugin_pull_secret: Vec<String>,
    /// Image of the operator and of the gateway.
    #[arg(long, value_name = "IMAGE", value_parser = parse_image, default_value_t = Settings::default().image)]
    image: String,
    /// Address range of the cluster's pods. The NetworkPolicy does not let pods connect to the webhook and the probes.
    /// The flag may be repeated.
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = parse_cidr, default_values = POD_CIDRS)]
    pod_cidr: Vec<String>,
    /// Namespace of Prometheus. The NetworkPolicy lets its pods connect to the metrics.
    #[arg(long, value_name = "NAMESPACE", value_parser = parse_namespace, default_value = METRICS_NAMESPACE)]
    metrics_namespace: String,
}

/// Who keeps the webhook configurations and their certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WhoKeeps {
    /// These manifests contain the configurations, and the operator adds its CA.
    Injected,
    /// The operator makes the configurations.
    Owned,
    /// These manifests contain the configurations, and another program keeps the certificate in the Secret
    /// paddock-webhook-tls and adds its CA.
    Mounted,
    /// There is no webhook.
    Off,
}

fn parse_secret(value: &str) -> Result<String, String> {
    if is_dns_subdomain(value) {
        return Ok(value.to_owned());
    }
    Err(format!("{value:?} is not the name of a Secret: expected a name such as plugin-registry"))
}

/// Prints them.
pub(crate) fn run(args: ManifestsArgs) -> anyhow::Result<()> {
    let ManifestsArgs {
        surface,
        namespace,
        served_namespace,
        extensions,
        webhook,
        webhook_host,
        gateway,
        claim_data,
        throttle,
        isolation_policies,
        cpu_metrics,
        plugin_pull_secret,
        image,
        pod_cidr,
        metrics_namespace,
    } = args;
    let webhook = match (webhook, webhook_host) {
        (WhoKeeps::Owned, host) => Webhook::Owned { host },
        (WhoKeeps::Injected | WhoKeeps::Mounted | WhoKeeps::Off, Some(_)) => {
            bail!("--webhook-host is for --webhook=owned: the other webhooks are reached by their Service")
        }
        (WhoKeeps::Injected, None) => Webhook::Injected,
        (WhoKeeps::Mounted, None) => Webhook::Mounted,
        (WhoKeeps::Off, None) => Webhook::Off,
    };
    let settings = Settings {
        namespace,
        served_namespace,
        extensions,
        webhook,
        gateway,
        claim_data,
        throttle,
        isolation_policies,
        cpu_metrics,
        plugin_pull_secrets: plugin_pull_secret,
        image,
        shapes: surface,
        pod_cidrs: pod_cidr,
        metrics_namespace,
    };
    print(&yaml(&manifests::all(&settings))?)
}

#[cfg(test)]
mod tests {
    use paddock_api::kind::ApiShape;

    use super::*;
    use crate::commands::operator::OperatorArgs;
    use crate::values::parsed;

    /// A variable that no flag has would be ignored in silence.
    #[test]
    fn each_variable_of_the_operator_is_that_of_a_flag_and_has_a_valid_value() {
        let command = OperatorArgs::augment_args(clap::Command::new("paddock"));
        for settings in [
            Settings::default(),
            Settings {
                shapes: ApiShapes::Only(ApiShape::Upstream),
                throttle: true,
                isolation_policies: true,
                webhook: Webhook::Owned { host: None },
                ..Settings::default()
            },
            Settings {
                shapes: ApiShapes::Only(ApiShape::Seed),
                served_namespace: Some("team".to_owned()),
                webhook: Webhook::Mounted,
                cpu_metrics: false,
                gateway: false,
                ..Settings::default()
            },
            Settings { extensions: false, webhook: Webhook::Off, ..Settings::default() },
        ] {
            let documents = manifests::all(&settings);
            let is_operator = |document: &&serde_json::Value| {
                document["kind"] == "Deployment" && document["metadata"]["name"] == object::OPERATOR_DEPLOYMENT
            };
            let deployment = documents.iter().find(is_operator).unwrap();
            let container = &deployment["spec"]["template"]["spec"]["containers"][0];
            let args = container["args"].as_array().unwrap().iter();
            let mut flags: Vec<String> = args.map(|arg| arg.as_str().unwrap().to_owned()).collect();
            for variable in container["env"].as_array().unwrap() {
                let name = variable["name"].as_str().unwrap();
                let Some(value) = variable["value"].as_str() else { continue };
                let sets = |arg: &&clap::Arg| arg.get_env().is_some_and(|env| env == name);
                let flag = command.get_arguments().find(sets).and_then(clap::Arg::get_long);
                flags.push(format!("--{}={value}", flag.unwrap_or_else(|| panic!("{name} sets no flag"))));
            }
            let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
            if let Err(error) = parsed::<OperatorArgs>(&flags) {
                panic!("{flags:?}: {error}");
            }
        }
    }
}
