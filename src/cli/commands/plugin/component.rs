//! The component of a command, loaded and asked as by the operator.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use clap::Args;
use paddock_core::admission::{Acceptance, accept};
use paddock_core::binding::Mode;
use paddock_core::question::{Answer, Caller, Hook, PluginRequest, Question, form};
use paddock_kube::logs::{self, LogError, LogFormat};
use paddock_operator::plugins::plugin_config::{PluginConfig, check_fuel, parse_deadline, parse_memory};
use paddock_plugin_host::{Candidate, Host, HostConfig, Limits, Plugin, QuarantinePolicy, Source, Usage};
use serde_json::Value;

use super::text;
use crate::output::read;
use crate::usage::{OrBadUsage as _, bad_usage};

/// Settings and limits that replace those of the configuration file.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct CallArgs {
    /// Settings of the plugin: a file in YAML or JSON, or a JSON object. Without the flag, the settings of the
    /// configuration file (NAME.yaml beside NAME.wasm) apply.
    #[arg(long, value_name = "SETTINGS")]
    settings: Option<String>,
    /// Limit of one call in units of fuel.
    #[arg(long, value_name = "UNITS", value_parser = parse_fuel)]
    fuel: Option<u64>,
    /// Limit of the memory of one call, such as 64Mi.
    #[arg(long, value_name = "QUANTITY", value_parser = parse_memory)]
    memory: Option<usize>,
    /// Limit of the wall-clock time of one call, such as 500ms.
    #[arg(long, value_name = "DURATION", value_parser = parse_deadline)]
    deadline: Option<Duration>,
}

/// A component and a question for it.
#[derive(Clone, Debug, Args)]
pub(super) struct AskArgs {
    /// The component.
    #[arg(value_name = "COMPONENT")]
    pub(super) component: PathBuf,
    /// The hook. It may be left out if the question names it, or if the component has only one.
    #[arg(long, value_name = "HOOK", value_parser = parse_hook)]
    pub(super) hook: Option<Hook>,
    /// The question: a file in YAML or JSON, or - for standard input.
    #[arg(long, value_name = "FILE")]
    pub(super) question: PathBuf,
    #[command(flatten)]
    pub(super) call: CallArgs,
}

fn parse_fuel(text: &str) -> Result<u64, String> {
    text.parse().ok().map_or_else(|| Err(format!("{text:?} must be a number of units")), check_fuel)
}

impl CallArgs {
    /// The flag --settings, for [`text::at_most_one_is_stdin`].
    pub(super) fn settings(&self) -> (&'static str, Option<&Path>) {
        ("--settings", self.settings.as_deref().map(Path::new))
    }

    /// The arguments that give only these settings.
    #[cfg(test)]
    pub(super) fn with_settings(settings: Option<&str>) -> Self {
        Self { settings: settings.map(str::to_owned), ..Self::default() }
    }
}

/// The name of a hook as the value of a flag.
pub(super) fn parse_hook(text: &str) -> Result<Hook, String> {
    let names = Hook::ALL.map(Hook::as_str).join(", ");
    Hook::ALL.into_iter().find(|hook| hook.as_str() == text).ok_or_else(|| format!("must be one of {names}"))
}

/// A host with the limits of the operator. Plugins are never in quarantine, because a person asks each question.
pub(super) fn host() -> anyhow::Result<Host> {
    let quarantine = QuarantinePolicy { failures: u32::MAX, ..QuarantinePolicy::default() };
    Host::new(HostConfig { quarantine, ..HostConfig::default() }).context("setting up the engine")
}

/// Shows the log lines of plugins on standard error, such as the message of a panic. RUST_LOG sets the level.
pub(super) fn log() -> anyhow::Result<()> {
    match logs::init(None, Some(LogFormat::Text), None) {
        // The process has a log.
        Ok(()) | Err(LogError::Init(_)) => Ok(()),
        Err(error @ (LogError::Filter { .. } | LogError::Thread(_))) => Err(error.into()),
    }
}

/// The name of the plugin in a file.
pub(crate) fn name(component: &Path) -> String {
    component.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The configuration of the component: the file with its name and the ending `.yaml`, or the defaults if there is none.
pub(crate) fn configuration(component: &Path) -> anyhow::Result<PluginConfig> {
    let path = component.with_extension("yaml");
    if path.exists() { parse_configuration(&path) } else { Ok(PluginConfig::absent(Limits::default())) }
}

/// The configuration in a file. Limits that it does not state are those of the operator.
pub(crate) fn parse_configuration(path: &Path) -> anyhow::Result<PluginConfig> {
    let parsed = || {
        let text = String::from_utf8(read(path)?).context("not a text")?;
        anyhow::Ok(PluginConfig::parse(&text, Limits::default())?)
    };
    parsed().with_context(|| path.display().to_string()).or_bad_usage()
}

/// The settings that a flag gives: a JSON object, or the name of a file.
pub(super) fn parse_settings(given: &str) -> anyhow::Result<String> {
    let value = if given.trim_start().starts_with('{') {
        text::parse(given).with_context(|| format!("--settings {given}"))
    } else {
        text::read(Path::new(given)).context("--settings")
    };
    match value.or_bad_usage()? {
        object @ Value::Object(_) => Ok(object.to_string()),
        // A file that contains only comments.
        Value::Null => Ok("{}".to_owned()),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(bad_usage(format!("--settings {given}: must be an object, such as {{\"desired\": 3}}")))
        }
    }
}

/// A component that the host has loaded.
pub(super) struct Loaded {
    /// The description of the plugin.
    pub(super) plugin: Plugin,
    /// The settings of the flags or of the configuration file: the text of a JSON object.
    pub(super) settings: String,
    candidate: Candidate,
}

/// The result of a question.
pub(super) enum Outcome {
    /// The plugin answered. The operator does this with the answer.
    Answered(Answer, Acceptance),
    /// The plugin did not answer, for this reason.
    Failed(String),
}

impl Outcome {
    /// The answer that the operator uses. The error is the reason for which it applies the failure policy.
    pub(super) fn used(&self) -> Result<(&Answer, &Acceptance), String> {
        match self {
            Outcome::Failed(reason) => Err(reason.clone()),
            Outcome::Answered(_, Acceptance::Refused(reason)) => {
                Err(format!("the operator refuses the answer: {reason}"))
            }
            Outcome::Answered(answer, acceptance) => Ok((answer, acceptance)),
        }
    }
}

/// A question that was asked.
pub(super) struct Asked {
    pub(super) outcome: Outcome,
    pub(super) usage: Usage,
    /// The time of the call, with the creation of the instance.
    pub(super) took: Duration,
}

impl Loaded {
    /// Loads a component with its configuration. Arguments replace parts of the configuration.
    pub(super) fn new(host: &Host, component: &Path, args: &CallArgs) -> anyhow::Result<Self> {
        let bytes = read(component).or_bad_usage()?;
        let PluginConfig { limits, settings, .. } = configuration(component)?;
        let limits = Limits {
            memory_bytes: args.memory.unwrap_or(limits.memory_bytes),
            fuel: args.fuel.unwrap_or(limits.fuel),
            deadline: args.deadline.unwrap_or(limits.deadline),
        };
        let settings = args.settings.as_deref().map(parse_settings).transpose()?.unwrap_or(settings);
        let name = name(component);
        let source = Source { name: &name, component: &bytes, limits: Some(limits) };
        let candidate = host.prepare(source).with_context(|| component.display().to_string())?;
        Ok(Self { plugin: host.admit(candidate.clone()), settings, candidate })
    }

    /// The hook that is asked: the given one, or else the only hook of the component.
    pub(super) fn hook(&self, given: Option<Hook>) -> anyhow::Result<Hook> {
        let (name, hooks) = (&self.plugin.plugin.name, &self.plugin.hooks);
        let names: Vec<_> = hooks.iter().map(|hook| hook.as_str()).collect();
        match (given, hooks.as_slice()) {
            (Some(hook), hooks) if hooks.contains(&hook) => Ok(hook),
            (None, [hook]) => Ok(*hook),
            (Some(hook), _) => Err(bad_usage(format!(
                "hook {}: {name} does not export it; it exports {}",
                hook.as_str(),
                names.join(", ")
            ))),
            (None, _) => Err(bad_usage(format!("the hook must be given, because {name} has {}", names.join(", ")))),
        }
    }

    /// Asks whether the plugin accepts settings.
    pub(super) fn check_settings(&self, host: &Host, hook: Hook, settings: &str) -> anyhow::Result<()> {
        host.check_settings(&self.candidate, hook, settings).map_err(|error| anyhow!("settings: {error}"))
    }

    /// The request for a question.
    pub(super) fn request(&self, settings: &str, question: Question) -> PluginRequest {
        let plugin = self.plugin.plugin.clone();
        let binding = format!("{}/{}", plugin.name, question.hook().as_str());
        PluginRequest { binding, plugin, mode: Mode::Enforce, settings: settings.to_owned(), question }
    }

    /// Checks the settings and asks a question.
    pub(super) fn ask(&self, host: &Host, settings: &str, question: Question) -> Asked {
        if let Err(error) = self.check_settings(host, question.hook(), settings) {
            let outcome = Outcome::Failed(error.to_string());
            return Asked { outcome, usage: Usage::default(), took: Duration::ZERO };
        }
        let request = self.request(settings, question);
        let now = now_of(&request.question);
        let started = Instant::now();
        let (result, usage) = host.ask_measured(&request, Caller::Verified, now);
        let took = started.elapsed();
        let outcome = match result {
            Err(failure) => Outcome::Failed(failure.to_string()),
            Ok(answer) => {
                let acceptance = accept(&request.question, &answer);
                Outcome::Answered(answer, acceptance)
            }
        };
        Asked { outcome, usage, took }
    }
}

/// Reads a question for a component from a file.
pub(super) fn read_question(loaded: &Loaded, hook: Option<Hook>, path: &Path) -> anyhow::Result<Question> {
    let value = text::read(path).or_bad_usage()?;
    let named = form::hook(&value).with_context(|| path.display().to_string()).or_bad_usage()?;
    let hook = loaded.hook(hook.or(named))?;
    form::question(hook, value).map_err(|error| {
        let hook = hook.as_str();
        bad_usage(format!("{}: {error}; `paddock plugin question {hook}` prints a complete question", path.display()))
    })
}

/// The time in a question.
pub(super) fn now_of(question: &Question) -> jiff::Timestamp {
    match question {
        Question::Admission(question) => question.now,
        Question::RuntimeClass(question) => question.now,
        Question::Idle(question) => question.now,
        Question::PoolSize(question) => question.now,
    }
}

/// The component that a path names: a component, or the one beside a configuration file.
pub(super) fn component_of(path: &Path) -> anyhow::Result<PathBuf> {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    if matches!(ending, "yml" | "json") {
        let path = path.display();
        return Err(bad_usage(format!(
            "{path}: the operator ignores the file, because the name of a configuration must be NAME.yaml"
        )));
    }
    Ok(if ending == "yaml" { path.with_extension("wasm") } else { path.to_owned() })
}
