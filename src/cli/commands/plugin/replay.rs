//! `paddock plugin replay`: asks a component the questions of a recording, and prints the decisions that differ.

mod differ;
mod recording;
mod report;

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use paddock_core::question::{Caller, FailureKind, Hook};
use paddock_core::record::{Record, settings_digest};
use paddock_plugin_host::Host;

use self::recording::{Line, lines};
use self::report::{Difference, Format, Malformed, Report};
use super::component::{self, CallArgs, Loaded, now_of, parse_hook};
use super::text;
use crate::output::print;
use crate::usage::{OrBadUsage as _, bad_usage};

/// The fields of answers that --ignore may name.
const FIELDS: [&str; 9] =
    ["verdict", "warnings", "patch", "choice", "reason", "action", "next-check", "desired", "state"];

#[derive(Debug, Args)]
#[command(after_help = "\
An operator with --record-decisions writes a recording. The replay needs no cluster. It asks the component with the limits
of the operator and with the settings of its configuration file (NAME.yaml beside NAME.wasm), or with those of --settings.
A recording does not contain settings.

Decisions that depended on more than the question are not compared: calls that reached their deadline, and plugins that
were not loaded or in quarantine. Values that the recording does not contain count as equal. docs/plugins/replay.md
describes the rules.

The exit code is 0 if no decision differs, 1 if some differ, and 2 if a flag, a file or a line of the recording is wrong.

Examples:
  paddock plugin replay decisions.jsonl --plugin next/my-plugin.wasm
  paddock plugin replay decisions.jsonl --plugin my-plugin.wasm --settings '{\"desired\": 3}' --ignore reason
  kubectl -n agent-sandbox-system logs deploy/agent-sandbox-controller |
    paddock plugin replay - --skip-malformed --plugin my-plugin.wasm --of my-plugin -o json")]
pub(crate) struct ReplayArgs {
    /// Recording: a file of JSON lines, or - for standard input.
    #[arg(value_name = "RECORDING")]
    recording: PathBuf,
    /// Component to ask.
    #[arg(long, value_name = "COMPONENT")]
    plugin: PathBuf,
    /// The only plugin whose decisions are replayed, by its name in the recording. If absent, the decisions of all plugins
    /// are replayed whose hook the component has.
    #[arg(long, value_name = "NAME")]
    of: Option<String>,
    /// The only hook whose decisions are replayed.
    #[arg(long, value_name = "HOOK", value_parser = parse_hook)]
    hook: Option<Hook>,
    /// Field of answers that is not compared, such as reason or state. May be repeated.
    #[arg(long, value_name = "FIELD", value_delimiter = ',', value_parser = FIELDS)]
    ignore: Vec<String>,
    /// Leaves out lines that are not records. Without the flag, such a line makes the exit code 2.
    #[arg(long)]
    skip_malformed: bool,
    #[command(flatten)]
    call: CallArgs,
    /// Format of the output.
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    output: Format,
}

/// Replays and prints the report.
pub(crate) fn run(args: &ReplayArgs) -> anyhow::Result<()> {
    // Code 1 means differences, so whatever prevents the replay has code 2.
    let report = replay(args).or_bad_usage()?;
    print(&args.output.text(&report)?)?;
    for Malformed { line, message } in &report.malformed {
        eprintln!("{}: line {line}: {message}", args.recording.display());
    }
    let malformed = report.malformed.len();
    if malformed > 0 && !args.skip_malformed {
        return Err(bad_usage(format!(
            "{}: {malformed} of its lines are not records; --skip-malformed leaves them out",
            args.recording.display()
        )));
    }
    match (report.differences.len(), report.decisions) {
        (0, _) => Ok(()),
        (differ, all) => bail!("{differ} of {all} decisions differ"),
    }
}

fn replay(args: &ReplayArgs) -> anyhow::Result<Report> {
    text::at_most_one_is_stdin(&[args.call.settings(), ("RECORDING", Some(&args.recording))])?;
    component::log()?;
    // A wrong file is reported before the component is compiled.
    let recording = lines(&args.recording)?;
    let host = component::host()?;
    let loaded = Loaded::new(&host, &args.plugin, &args.call)?;
    let hooks = hooks(args, &host, &loaded)?;
    let mut report = Report::new(&loaded.plugin.plugin);
    let settings = settings_digest(&loaded.settings);
    for line in recording {
        let Line { number, record } = line?;
        let record = match record {
            Ok(record) => record,
            Err(message) => {
                report.malformed.push(Malformed { line: number, message });
                continue;
            }
        };
        let of = args.of.as_ref().is_none_or(|of| *of == record.plugin.name);
        if !of || !hooks.contains(&record.hook()) {
            report.skipped += 1;
            continue;
        }
        if !is_reproducible(&record) {
            report.not_compared += 1;
            continue;
        }
        report.count(&record, &settings);
        let request = loaded.request(&loaded.settings, record.question.clone());
        let (result, _) = host.ask_measured(&request, Caller::Verified, now_of(&request.question));
        let fields = differ::differences(&record.result, &result, &args.ignore)?;
        if !fields.is_empty() {
            report.differences.push(Difference::new(number, &record, fields));
        }
    }
    if report.decisions + report.not_compared == 0 && report.malformed.is_empty() {
        return Err(nothing(args, &hooks, report.skipped));
    }
    Ok(report)
}

/// The hooks whose decisions are replayed. The plugin has to accept the settings for each of them.
fn hooks(args: &ReplayArgs, host: &Host, loaded: &Loaded) -> anyhow::Result<Vec<Hook>> {
    let hooks = match args.hook {
        Some(hook) => vec![loaded.hook(Some(hook))?],
        None => loaded.plugin.hooks.clone(),
    };
    for hook in &hooks {
        loaded.check_settings(host, *hook, &loaded.settings)?;
    }
    Ok(hooks)
}

/// Whether the same question gives the same result again.
fn is_reproducible(record: &Record) -> bool {
    match record.result.as_ref().map_err(|failure| failure.kind) {
        Err(FailureKind::Deadline | FailureKind::Missing | FailureKind::Quarantined) => false,
        Ok(_)
        | Err(
            FailureKind::Fuel | FailureKind::Memory | FailureKind::Trap | FailureKind::Error | FailureKind::Invalid,
        ) => true,
    }
}

/// The error about a recording without a decision to replay.
fn nothing(args: &ReplayArgs, hooks: &[Hook], skipped: usize) -> anyhow::Error {
    let hooks: Vec<&str> = hooks.iter().map(|hook| hook.as_str()).collect();
    let (hooks, path) = (hooks.join(" or "), args.recording.display());
    let of = args.of.as_ref().map(|of| format!(" of the plugin {of}")).unwrap_or_default();
    let skipped = match skipped {
        0 => "it is empty".to_owned(),
        other => format!("it has {other} others"),
    };
    bad_usage(format!("{path}: must contain decisions{of} for the hook {hooks}, but {skipped}"))
}

#[cfg(test)]
mod tests;
