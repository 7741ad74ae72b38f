//! `paddock plugin question`: an example of a question, to be edited.

use clap::Args;
use paddock_core::question::Hook;
use serde_json::Value;

use super::component::parse_hook;
use super::text;
use crate::output::print;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  paddock plugin question pool-size > question.yaml
  paddock plugin run my-plugin.wasm --question question.yaml")]
pub(crate) struct QuestionArgs {
    /// The hook: admission, runtime-class, idle or pool-size.
    #[arg(value_name = "HOOK", value_parser = parse_hook)]
    hook: Hook,
}

/// Prints the example.
pub(crate) fn run(QuestionArgs { hook }: &QuestionArgs) -> anyhow::Result<()> {
    print(example(*hook))
}

/// A question of the hook in YAML, with comments. It has every field.
pub(super) fn example(hook: Hook) -> &'static str {
    match hook {
        Hook::Admission => include_str!("examples/admission.yaml"),
        Hook::RuntimeClass => include_str!("examples/runtime-class.yaml"),
        Hook::Idle => include_str!("examples/idle.yaml"),
        Hook::PoolSize => include_str!("examples/pool-size.yaml"),
    }
}

/// The form of the example.
pub(super) fn example_form(hook: Hook) -> anyhow::Result<serde_json::Map<String, Value>> {
    match text::parse(example(hook))? {
        Value::Object(fields) => Ok(fields),
        value @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            anyhow::bail!("the example is not an object: {value}")
        }
    }
}

#[cfg(test)]
mod tests {
    use paddock_core::question::form;

    use super::*;

    #[test]
    fn example_of_each_hook_is_a_question_with_every_field() {
        for hook in Hook::ALL {
            let example = example_form(hook).unwrap();
            let question = form::question(hook, Value::Object(example.clone())).unwrap();
            let Value::Object(mut written) = serde_json::to_value(&question).unwrap() else { panic!() };
            written.remove("hook");
            assert_eq!(example, written, "{}: each field, in the form in which it is written", hook.as_str());
        }
    }
}
