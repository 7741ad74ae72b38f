//! `paddock audit`: who runs generated code without isolation, in manifests or in a cluster.
//!
//! The audit judges with the functions of the core that the webhook uses. It needs no webhook and no operator, so it finds
//! objects that are older than the webhook, and it works before anything is applied.

mod cluster;
mod facts;
mod finding;
mod item;
mod read;
mod report;
mod rules;
mod volumes;
mod workload;

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{ArgGroup, Args, ValueEnum};
use paddock_core::settings::Settings;

use self::facts::{Facts, Source};
use self::finding::{Level, Report};
use self::read::Manifests;
use self::report::Format;
use crate::commands::isolation::IsolationArgs;
use crate::output::print;
use crate::usage::OrBadUsage as _;
use crate::values::parse_namespace;

/// The namespace of a manifest that names none, as for kubectl without a context.
const DEFAULT_NAMESPACE: &str = "default";

#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("source").required(true).args(["paths", "kubeconfig"])),
    after_help = "\
Audited are Sandboxes, SandboxTemplates, SandboxWarmPools and SandboxClaims in both API shapes, Pods, and the pod templates
of Deployments, StatefulSets, DaemonSets, ReplicaSets, ReplicationControllers, Jobs and CronJobs. The RuntimeClasses,
Namespaces, SandboxPolicies, ServiceAccounts and PersistentVolumeClaims among the manifests, or in the cluster, say what
isolates and what is shared. docs/audit.md lists the rules.

The exit code is 1 if a finding has the level of --fail-on or a higher one. It is 2 if a flag or a file is wrong, or if the
cluster cannot be read.

Examples:
  paddock audit deploy/ runtimeclasses.yaml
  helm template my-release | paddock audit --namespace agents -
  paddock audit manifests/ -o sarif > audit.sarif
  paddock audit --kubeconfig ~/.kube/config --context staging --fail-on warning"
)]
pub(crate) struct AuditArgs {
    /// Manifests in YAML or JSON: files, folders with such files, or - for standard input.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Kubeconfig file of a cluster to audit in the place of manifests. The cluster is only read. The variable KUBECONFIG is
    /// ignored.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig file. If absent, the current context of the file.
    #[arg(long, value_name = "NAME", requires = "kubeconfig", conflicts_with = "paths")]
    context: Option<String>,
    /// The only namespace whose objects are audited. Manifests that name no namespace belong to it. If absent, all namespaces
    /// are audited, and such manifests belong to default.
    #[arg(long, short = 'n', value_name = "NAMESPACE", value_parser = parse_namespace)]
    namespace: Option<String>,
    /// Lowest level of a finding that makes the exit code 1.
    #[arg(long, value_name = "LEVEL", default_value = "error")]
    fail_on: FailOn,
    /// Format of the report on standard output.
    #[arg(long, short = 'o', value_name = "FORMAT", default_value = "table")]
    output: Format,
    #[command(flatten)]
    isolation: IsolationArgs,
}

/// The lowest level of a finding that makes the audit fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FailOn {
    /// Only errors.
    Error,
    /// Errors and warnings.
    Warning,
    /// No finding.
    Never,
}

impl FailOn {
    fn fails(self, level: Level) -> bool {
        match self {
            FailOn::Error => level == Level::Error,
            FailOn::Warning => true,
            FailOn::Never => false,
        }
    }
}

/// Prints the report. An error follows if there are findings of the level.
pub(crate) fn run(args: &AuditArgs) -> anyhow::Result<()> {
    // Code 1 means findings, so whatever prevents the audit has code 2.
    let report = audit(args).or_bad_usage()?;
    print(&args.output.text(&report)?)?;
    let failed = report.findings.iter().filter(|finding| args.fail_on.fails(finding.rule.level())).count();
    match failed {
        0 => Ok(()),
        1 => bail!("1 finding fails the audit (--fail-on)"),
        more => bail!("{more} findings fail the audit (--fail-on)"),
    }
}

fn audit(args: &AuditArgs) -> anyhow::Result<Report> {
    let settings = Settings {
        isolated_handlers: args.isolation.isolated_handler.clone(),
        isolation_allow: args.isolation.isolation_allow.iter().copied().collect(),
        ..Settings::default()
    };
    let namespace = args.namespace.as_deref();
    let (items, source) = match &args.kubeconfig {
        Some(kubeconfig) => {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
            let items = cluster::objects(kubeconfig, args.context.as_deref(), namespace);
            (runtime.block_on(items)?, Source::Cluster)
        }
        None => {
            let Manifests { items, notes } = read::manifests(&args.paths, std::io::stdin().lock())?;
            for note in notes {
                eprintln!("note: {note}");
            }
            (items, Source::Manifests)
        }
    };
    let facts = Facts::of(&items, source, namespace.unwrap_or(DEFAULT_NAMESPACE), &settings);
    Ok(rules::judge(&items, &facts, namespace, &settings))
}

#[cfg(test)]
mod tests;
