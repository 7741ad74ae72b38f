//! `paddock token`: a token that admits to one Sandbox through the gateway.
//!
//! The API server issues the token, for a ServiceAccount that may use the Sandbox. No key of Paddock's own is involved.

mod issue;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use kube::Client;
use kube::config::{Config, KubeConfigOptions};
use paddock_api::kind::ApiShapes;
use paddock_api::names::object::CLIENT_ACCOUNT;
use paddock_api::token_scope::MAX_SCOPES;
use paddock_kube::cluster;

use self::issue::{Bound, Issued, Request, Subject, issue};
use crate::output::print;
use crate::values::{parse_duration, parse_namespace, parse_shapes};

/// The shortest life of a token. The API server issues no shorter ones.
const LEAST_TTL: Duration = Duration::from_mins(10);

/// The cluster is that of --kubeconfig, or else the one that kubectl would use (the variable KUBECONFIG or
/// ~/.kube/config), or else that of the pod.
#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// Sandbox that the token is for.
    #[arg(value_name = "SANDBOX", required_unless_present = "claim", conflicts_with = "claim")]
    sandbox: Option<String>,
    /// Claim that the token is for, in the place of a Sandbox. The token admits to the Sandbox that the claim has, for as
    /// long as the claim has it.
    #[arg(long, value_name = "NAME")]
    claim: Option<String>,
    /// Namespace of the Sandbox or claim. If absent, that of the kubeconfig's context.
    #[arg(long, short = 'n', value_name = "NAMESPACE", value_parser = parse_namespace)]
    namespace: Option<String>,
    /// Port of the Sandbox to which the token is limited. May be repeated. If absent, the token is for every port.
    #[arg(long = "port", value_name = "PORT", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    ports: Vec<u16>,
    /// Time after which the token expires, at least 10m. The API server may shorten it, and a note says so.
    #[arg(long, value_name = "DURATION", value_parser = parse_ttl, default_value = "1h")]
    ttl: Duration,
    /// ServiceAccount that the token is for. It must have the right to create sandboxes/proxy.
    #[arg(long, value_name = "NAME", default_value = CLIENT_ACCOUNT)]
    service_account: String,
    /// Kind of an object whose deletion revokes the token.
    #[arg(long, value_name = "KIND", requires = "bound_object_name")]
    bound_object_kind: Option<BoundKind>,
    /// Name of that object.
    #[arg(long, value_name = "NAME", requires = "bound_object_kind")]
    bound_object_name: Option<String>,
    /// UID of that object. If absent, that of the object that has the name now.
    #[arg(long, value_name = "UID", requires = "bound_object_kind")]
    bound_object_uid: Option<String>,
    /// API shape of the claim: seed, upstream, or both to look in both.
    #[arg(long, value_name = "SURFACE", value_parser = parse_shapes, default_value = "both")]
    surface: ApiShapes,
    /// Kubeconfig file.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig file. If absent, the current context of the file.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

/// The kinds to which the API server binds tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BoundKind {
    /// A Pod, which has to use the ServiceAccount.
    #[value(alias = "Pod")]
    Pod,
    /// A Secret.
    #[value(alias = "Secret")]
    Secret,
}

impl BoundKind {
    fn as_str(self) -> &'static str {
        match self {
            BoundKind::Pod => "Pod",
            BoundKind::Secret => "Secret",
        }
    }
}

/// Prints the token alone on standard output.
pub(crate) fn run(args: TokenArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let Issued { token, notes } = runtime.block_on(ask(args))?;
    for note in notes {
        eprintln!("note: {note}");
    }
    print(&format!("{token}\n"))
}

async fn ask(args: TokenArgs) -> anyhow::Result<Issued> {
    let config = cluster(&args).await?;
    let request = request(args, &config.default_namespace)?;
    // The right of the ServiceAccount is asked as the ServiceAccount. Fewer users may ask about others.
    let mut as_account = config.clone();
    as_account.auth_info.impersonate = Some(request.user());
    as_account.auth_info.impersonate_groups = None;
    let client = Client::try_from(config).context("making a client of the API server")?;
    let as_account = Client::try_from(as_account).context("making a client of the API server")?;
    issue(&client, &as_account, &request).await
}

async fn cluster(args: &TokenArgs) -> anyhow::Result<Config> {
    if args.kubeconfig.is_some() {
        return Ok(cluster::config(args.kubeconfig.as_deref(), args.context.as_deref()).await?);
    }
    let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    match Config::from_kubeconfig(&options).await {
        Ok(config) => Ok(config),
        Err(error) if args.context.is_some() => Err(error).with_context(|| "--context".to_owned()),
        Err(error) => Config::incluster().map_err(|_| {
            anyhow::Error::new(error).context("no cluster: --kubeconfig is not set, and the process runs in no pod")
        }),
    }
}

fn request(args: TokenArgs, default_namespace: &str) -> anyhow::Result<Request> {
    let subject = match (args.sandbox, args.claim) {
        (Some(name), None) => Subject::Sandbox(name),
        (_, Some(name)) => Subject::Claim(name, args.surface),
        (None, None) => anyhow::bail!("name a Sandbox, or a claim with --claim"),
    };
    let mut ports = args.ports;
    ports.sort_unstable();
    ports.dedup();
    anyhow::ensure!(ports.len() <= MAX_SCOPES, "--port: a token is for at most {MAX_SCOPES} ports, or for every port");
    let bound = args.bound_object_kind.zip(args.bound_object_name);
    Ok(Request {
        subject,
        namespace: args.namespace.unwrap_or_else(|| default_namespace.to_owned()),
        ports,
        ttl: args.ttl,
        service_account: args.service_account,
        bound: bound.map(|(kind, name)| Bound { kind: kind.as_str(), name, uid: args.bound_object_uid }),
    })
}

/// A duration that the API server accepts.
fn parse_ttl(value: &str) -> Result<Duration, String> {
    let ttl = parse_duration(value)?;
    if ttl < LEAST_TTL {
        return Err(format!("{value:?} is too short: the API server issues tokens for at least 10m"));
    }
    Ok(ttl)
}

#[cfg(test)]
mod tests;
