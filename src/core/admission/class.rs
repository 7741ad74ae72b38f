//! The one rule for a plugin's answer about a RuntimeClass. Admission and the reconcile of a Sandbox both apply it.

use super::chain::wrong_hook;
use crate::question::{Answer, ClassChoice, Hook, RuntimeClassAnswer, RuntimeClassFact};

/// Accepts the answer of a runtime-class plugin, if the class is among those of the question. For generated code, the class
/// must also isolate.
///
/// # Errors
/// The reason why the answer is not accepted.
pub fn accept_class(
    answer: &Answer,
    classes: &[RuntimeClassFact],
    generated_code: bool,
) -> Result<RuntimeClassAnswer, String> {
    let Answer::RuntimeClass(answer) = answer else { return Err(wrong_hook(Hook::RuntimeClass)) };
    match &answer.choice {
        ClassChoice::Default if generated_code => {
            return Err("generated code may not run under the default runtime".to_owned());
        }
        ClassChoice::Default | ClassChoice::Refuse => {}
        ClassChoice::Class(name) => match classes.iter().find(|c| c.name == *name) {
            None if generated_code => {
                return Err(format!("there is no RuntimeClass {name} that the namespace may use"));
            }
            None => return Err(format!("there is no RuntimeClass {name}")),
            Some(class) if generated_code && !class.isolated => {
                return Err(format!("RuntimeClass {name} does not isolate from the host's kernel"));
            }
            Some(_) => {}
        },
    }
    Ok(answer.clone())
}
