//! `paddock explain`: sentences about an object: what the operator saw, asked plugins about it, and decided.
//!
//! The explanation comes from the debug endpoint of the operator. If the endpoint cannot be reached, it comes from the
//! API server: the status of the object, and the Events about it.

mod cluster;
mod debug;
mod object;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use http::Uri;
use kube::Config;
use paddock_core::explanation::Explanation;
use paddock_core::model::is_dns_subdomain;
use paddock_kube::cluster as kubernetes;
use serde::Serialize;

use self::object::{Explained, Object};
use crate::output::{json, print};
use crate::usage::bad_usage;
use crate::values::parse_namespace;

#[derive(Debug, Args)]
#[command(after_help = "\
The debug endpoint of the operator explains what was seen, asked, answered and decided. It listens on loopback, so
forward its port first. Ask the replica that leads: the others decide nothing.

If the endpoint cannot be reached, the explanation comes from the status of the object and the Events about it. The
cluster is that of --kubeconfig, or else that of the pod. The variable KUBECONFIG is ignored. With --kubeconfig, the
Events are shown in both cases.

The exit code is 2 if a flag is wrong or the object does not exist, and 1 if neither the endpoint nor the API server
answers.

Examples:
  kubectl -n agent-sandbox-system port-forward deploy/agent-sandbox-controller 8082 &
  paddock explain sandbox demo -n agents
  paddock explain pool python -n agents --kubeconfig ~/.kube/config
  paddock explain claim demo -n agents --debug-url http://127.0.0.1:18082 -o json")]
pub(crate) struct ExplainArgs {
    /// Kind of the object.
    #[arg(value_name = "KIND")]
    kind: Explained,
    /// Name of the object.
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: String,
    /// Namespace of the object. If absent, that of the kubeconfig's context, or default.
    #[arg(long, short = 'n', value_name = "NAMESPACE", value_parser = parse_namespace)]
    namespace: Option<String>,
    /// Address of the operator's debug endpoint (--debug-bind-address).
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8082", value_parser = parse_url)]
    debug_url: Uri,
    /// Kubeconfig file of the cluster.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig file. If absent, the current context of the file.
    #[arg(long, value_name = "NAME", requires = "kubeconfig")]
    context: Option<String>,
    /// Format of the output.
    #[arg(long, short = 'o', value_name = "FORMAT", default_value = "text")]
    output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Sentences.
    Text,
    /// One JSON object.
    Json,
}

fn parse_name(name: &str) -> Result<String, String> {
    if is_dns_subdomain(name) {
        return Ok(name.to_owned());
    }
    Err(format!("{name:?} is not the name of an object: expected lower-case letters, digits, dashes and dots"))
}

fn parse_url(text: &str) -> Result<Uri, String> {
    let wrong = || format!("{text:?} must be a URL such as http://127.0.0.1:8082");
    let url: Uri = text.parse().map_err(|_| wrong())?;
    let plain = matches!(url.path(), "" | "/") && url.query().is_none();
    if url.scheme_str() == Some("http") && url.authority().is_some() && plain { Ok(url) } else { Err(wrong()) }
}

/// The source of an explanation without an operator.
const API_SERVER: &str = "the API server: the status of the object, and the Events about it";

/// An explanation with its source.
#[derive(Debug, Serialize)]
struct Sourced {
    /// The source of the explanation.
    source: String,
    /// The parts that are missing, and the reasons.
    notes: Vec<String>,
    /// The explanation of the operator, or what the API server shows.
    explanation: Explanation,
}

/// Prints the explanation.
pub(crate) fn run(args: &ExplainArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let sourced = runtime.block_on(explain(args))?;
    for note in &sourced.notes {
        eprintln!("note: {note}");
    }
    print(&match args.output {
        Format::Text => text(&sourced),
        Format::Json => json(&sourced)?,
    })
}

async fn explain(args: &ExplainArgs) -> anyhow::Result<Sourced> {
    let given = match &args.kubeconfig {
        Some(file) => Some(kubernetes::config(Some(file), args.context.as_deref()).await?),
        None => None,
    };
    let default_namespace = given.as_ref().map_or("default", |config| config.default_namespace.as_str());
    let object = Object {
        kind: args.kind,
        namespace: args.namespace.clone().unwrap_or_else(|| default_namespace.to_owned()),
        name: args.name.clone(),
    };
    let url = args.debug_url.to_string();
    let url = url.trim_end_matches('/');
    let explanation = debug::explanation(&args.debug_url, &object).await;
    match (explanation, given) {
        (Ok(explanation), None) if explanation.uid.is_some() => {
            Ok(Sourced { source: format!("the operator at {url}"), notes: vec![], explanation })
        }
        (Ok(_), None) => Err(bad_usage(format!("the operator at {url} sees no {object}"))),
        (Ok(explanation), Some(config)) => with_events(explanation, url, config, &object).await,
        (Err(error), given) => {
            let unreachable = format!(
                "the debug endpoint {url} cannot be used ({error:#}), so the questions and the answers of plugins are \
                 missing; --debug-url names another one"
            );
            let config = match given {
                Some(config) => config,
                None => kubernetes::config(None, None).await.context(unreachable.clone())?,
            };
            let (explanation, missing) = cluster::explanation(config, &object).await?;
            let notes = [vec![unreachable], missing].concat();
            Ok(Sourced { source: API_SERVER.to_owned(), notes, explanation })
        }
    }
}

/// The explanation of the operator, with the Events of the API server. If the operator sees an object with another UID,
/// it serves another cluster, and the explanation comes from the API server alone.
async fn with_events(
    mut explanation: Explanation,
    url: &str,
    config: Config,
    object: &Object,
) -> anyhow::Result<Sourced> {
    let (by_cluster, mut notes) = cluster::explanation(config, object).await?;
    if explanation.uid != by_cluster.uid {
        notes.push(format!(
            "the operator at {url} does not see this {}: it may serve another cluster",
            object.kind.name()
        ));
        return Ok(Sourced { source: API_SERVER.to_owned(), notes, explanation: by_cluster });
    }
    explanation.sections.extend(by_cluster.sections.into_iter().filter(|section| section.title == cluster::EVENTS));
    Ok(Sourced { source: format!("the operator at {url}, and the Events of the API server"), notes, explanation })
}

fn text(Sourced { source, explanation, .. }: &Sourced) -> String {
    let uid = explanation.uid.as_ref().map(|uid| format!(" (uid {uid})")).unwrap_or_default();
    let mut text = format!("{}{uid}\nAccording to {source}.\n", explanation.object);
    for section in &explanation.sections {
        text += &format!("\n{}\n", section.title);
        for line in &section.lines {
            text += &format!("  {line}\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use paddock_core::explanation::Section;

    use super::*;
    use crate::usage::BadUsage;
    use crate::values::parsed;

    #[test]
    fn flags_name_the_object_and_the_endpoint() {
        let args = parsed::<ExplainArgs>(&["pools", "a.b", "-n", "agents", "--debug-url=http://localhost:9"]).unwrap();
        assert_eq!(
            (args.kind, args.name.as_str(), args.namespace.as_deref()),
            (Explained::Pool, "a.b", Some("agents"))
        );
        for (args, wanted) in [
            (&["pod", "a"][..], "possible values: sandbox, pool, claim"),
            (&["sandbox", "A"], "lower-case letters"),
            (&["sandbox", "a", "-n", "A"], "not the name of a namespace"),
            (&["sandbox", "a", "--debug-url=https://localhost"], "such as http://127.0.0.1:8082"),
            (&["sandbox", "a", "--debug-url=http://localhost/debug"], "such as http://127.0.0.1:8082"),
            (&["sandbox", "a", "--debug-url=8082"], "such as http://127.0.0.1:8082"),
            (&["sandbox", "a", "--context=b"], "--kubeconfig"),
        ] {
            let error = parsed::<ExplainArgs>(args).unwrap_err();
            assert!(error.contains(wanted), "{args:?}: {error}");
        }
    }

    #[test]
    fn explanation_is_text_with_its_source() {
        let sections = vec![Section::new("Asked", vec!["At noon:".to_owned(), "  It allowed.".to_owned()])];
        let explanation = Explanation { object: "Sandbox agents/s".to_owned(), uid: Some("u".to_owned()), sections };
        let sourced = Sourced { source: "the operator at http://x".to_owned(), notes: vec![], explanation };
        let expected =
            "Sandbox agents/s (uid u)\nAccording to the operator at http://x.\n\nAsked\n  At noon:\n    It allowed.\n";
        assert_eq!(text(&sourced), expected);
    }

    #[test]
    fn nobody_to_ask_is_an_error_that_names_both() {
        // A port that nobody listens on: it was free a moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = format!("--debug-url=http://127.0.0.1:{port}");
        let args = parsed::<ExplainArgs>(&["sandbox", "a", &url]).unwrap();
        let error = run(&args).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains(&port.to_string()) && text.contains("--kubeconfig"), "{text}");
        assert!(!error.is::<BadUsage>());
    }
}
