//! `paddock plugin run`: asks a plugin one question.

use anyhow::bail;
use clap::{Args, ValueEnum};
use paddock_core::admission::Acceptance;
use paddock_core::question::{AdmissionAnswer, Answer, IdleAnswer, PoolSizeAnswer, RuntimeClassAnswer};
use serde::Serialize;

use super::component::{self, AskArgs, Asked, Loaded, Outcome, read_question};
use super::text;
use crate::output::{json, print};

#[derive(Debug, Args)]
#[command(after_help = "\
The question has the fields of the WIT (wit/v0.2.0), and `paddock plugin question HOOK` prints an example. The
question that /debug/seen shows works too.

The exit code is 0 if the plugin answers, 1 if it fails or the operator would refuse its answer, and 2 if a flag or a
file is wrong.

Examples:
  paddock plugin question pool-size > question.yaml
  paddock plugin run my-plugin.wasm --question question.yaml --settings '{\"desired\": 3}' --usage
  paddock plugin run my-plugin.wasm --hook idle --question - < question.yaml")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// Format of the output.
    #[arg(long, short, value_name = "FORMAT", default_value = "yaml")]
    output: Format,
    /// Prints the fuel, the memory and the time of the call too.
    #[arg(long)]
    usage: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// YAML.
    Yaml,
    /// JSON.
    Json,
}

impl Format {
    fn text<T: Serialize>(self, value: &T) -> anyhow::Result<String> {
        match self {
            Format::Yaml => text::yaml(value),
            Format::Json => json(value),
        }
    }
}

/// An answer with what the call used.
#[derive(Serialize)]
struct WithUsage<'a> {
    answer: AnswerFields<'a>,
    usage: UsageFields,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UsageFields {
    fuel: u64,
    memory_bytes: usize,
    duration_micros: u128,
}

/// The fields of an answer without the name of its hook.
#[derive(Serialize)]
#[serde(untagged)]
enum AnswerFields<'a> {
    Admission(&'a AdmissionAnswer),
    RuntimeClass(&'a RuntimeClassAnswer),
    Idle(&'a IdleAnswer),
    PoolSize(&'a PoolSizeAnswer),
}

impl<'a> From<&'a Answer> for AnswerFields<'a> {
    fn from(answer: &'a Answer) -> Self {
        match answer {
            Answer::Admission(answer) => AnswerFields::Admission(answer),
            Answer::RuntimeClass(answer) => AnswerFields::RuntimeClass(answer),
            Answer::Idle(answer) => AnswerFields::Idle(answer),
            Answer::PoolSize(answer) => AnswerFields::PoolSize(answer),
        }
    }
}

/// Asks the question and prints the answer.
pub(crate) fn run(args: &RunArgs) -> anyhow::Result<()> {
    text::at_most_one_is_stdin(&[args.ask.call.settings(), ("--question", Some(&args.ask.question))])?;
    component::log()?;
    let host = component::host()?;
    let loaded = Loaded::new(&host, &args.ask.component, &args.ask.call)?;
    let question = read_question(&loaded, args.ask.hook, &args.ask.question)?;
    let Asked { outcome, usage, took } = loaded.ask(&host, &loaded.settings, question);
    let show = |answer: &Answer| {
        let answer = AnswerFields::from(answer);
        print(&if args.usage {
            let duration_micros = took.as_micros();
            let usage = UsageFields { fuel: usage.fuel, memory_bytes: usage.memory_bytes, duration_micros };
            args.output.text(&WithUsage { answer, usage })?
        } else {
            args.output.text(&answer)?
        })
    };
    match &outcome {
        Outcome::Answered(answer, acceptance) => {
            show(answer)?;
            match acceptance {
                Acceptance::Corrected(text) => eprintln!("note: the operator does not follow the answer: {text}"),
                Acceptance::Earlier(text) => eprintln!("note: {text}"),
                Acceptance::Followed | Acceptance::Refused(_) => {}
            }
        }
        Outcome::Failed(_) if args.usage => {
            eprintln!("usage: {} units of fuel, {} bytes of memory, {took:?}", usage.fuel, usage.memory_bytes);
        }
        Outcome::Failed(_) => {}
    }
    if let Err(failure) = outcome.used() {
        bail!(failure);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::plugin::component::CallArgs;
    use crate::usage::BadUsage;

    #[test]
    fn standard_input_is_not_read_twice() {
        let args = RunArgs {
            ask: AskArgs {
                component: "nowhere.wasm".into(),
                hook: None,
                question: "-".into(),
                call: CallArgs::with_settings(Some("-")),
            },
            output: Format::Yaml,
            usage: false,
        };
        let error = run(&args).unwrap_err();
        assert!(error.is::<BadUsage>() && error.to_string().starts_with("--settings and --question: "), "{error:#}");
    }
}
