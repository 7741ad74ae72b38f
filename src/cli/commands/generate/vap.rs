//! `paddock generate vap`: the rules about isolation as ValidatingAdmissionPolicies.

use clap::{Args, ValueEnum};
use paddock_api::names::object;
use paddock_operator::manifests::{IsolationPolicies, RUNTIME_CLASSES, isolation_policies};
use serde_json::json;

use crate::commands::isolation::IsolationArgs;
use crate::output::{json, print, yaml};
use crate::values::{parse_class, parse_namespace};

pub(super) const AFTER_HELP: &str = "\
The API server evaluates these policies itself. They refuse Pods, Sandboxes and the objects that pods are made from, if the
objects are marked as generated code or their namespace requires isolation, and their pods are not isolated. An expression
cannot read a RuntimeClass, so name those of your cluster that isolate. Another RuntimeClass of such a name is refused, unless
its handler isolates. docs/isolation-policies.md says what the webhook alone can decide.

Examples:
  paddock generate vap | kubectl apply --server-side -f -
  paddock generate vap --runtime-class=gvisor --runtime-class=kata-qemu
  paddock generate vap --isolation-allow=capabilities -o json";

#[derive(Debug, Args)]
pub(crate) struct VapArgs {
    /// RuntimeClass that isolates. A pod of generated code must name one of them. The flag may be repeated.
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = parse_class, default_values = RUNTIME_CLASSES)]
    runtime_class: Vec<String>,
    /// Namespace of the operator, which never requires isolation.
    #[arg(long, value_name = "NAMESPACE", value_parser = parse_namespace, default_value = object::OPERATOR_NAMESPACE)]
    namespace: String,
    /// Format of the manifests on standard output.
    #[arg(long, short = 'o', value_name = "FORMAT", default_value = "yaml")]
    output: Format,
    #[command(flatten)]
    isolation: IsolationArgs,
}

/// The format of the manifests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One YAML document for each object.
    Yaml,
    /// One List in JSON.
    Json,
}

/// Prints the policies.
pub(crate) fn run(args: VapArgs) -> anyhow::Result<()> {
    let VapArgs { runtime_class, namespace, output, isolation } = args;
    let policies = isolation_policies(&IsolationPolicies {
        namespace,
        runtime_classes: runtime_class,
        isolated_handlers: isolation.isolated_handler,
        allowed: isolation.isolation_allow.into_iter().collect(),
    });
    print(&match output {
        Format::Yaml => yaml(&policies)?,
        Format::Json => json(&json!({ "apiVersion": "v1", "kind": "List", "items": policies }))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::parsed;

    fn vap(args: &[&str]) -> Result<VapArgs, String> {
        parsed(args)
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_could_be() {
        for (flag, wanted) in [
            ("--runtime-class=", "the name of a RuntimeClass"),
            ("--runtime-class=gvisor\"]", "the name of a RuntimeClass"),
            ("--runtime-class=GVisor", "the name of a RuntimeClass"),
            ("--isolation-allow=hostpath", "must be one of hostPath"),
            ("--isolated-handler=", "the handler of a RuntimeClass"),
            ("--isolated-handler=a\"", "the handler of a RuntimeClass"),
            ("--namespace=A", "not the name of a namespace"),
            ("--output=toml", "yaml, json"),
        ] {
            let error = vap(&[flag]).unwrap_err();
            assert!(error.contains(wanted), "{flag}: {error}");
        }
    }

    #[test]
    fn defaults_are_those_of_the_component_and_each_flag_adds_a_value() {
        let args = vap(&[]).unwrap();
        assert_eq!(args.runtime_class, IsolationPolicies::default().runtime_classes);
        assert_eq!(args.isolation.isolated_handler, IsolationPolicies::default().isolated_handlers);
        let args = vap(&["--runtime-class=a,b.c", "--runtime-class=kata-qemu"]).unwrap();
        assert_eq!(args.runtime_class, ["a", "b.c", "kata-qemu"]);
    }
}
