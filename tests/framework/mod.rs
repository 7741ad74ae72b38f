//! Named tests on top of libtest-mimic. A test whose requirements this machine lacks is ignored with the reason, and
//! never passed.

mod capability;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

pub(crate) use capability::{Capability, Lack};

/// The result of a test, with the problem in `Err`.
pub(crate) type Outcome = Result<(), Failed>;

/// One named test.
pub(crate) struct Test {
    name: String,
    needs: Vec<Capability>,
    body: Box<dyn FnOnce() -> Outcome + Send>,
}

/// A test. Its name is a path, such as `scenario::claim::claim_takes_a_warm_sandbox`.
pub(crate) fn test(name: impl Into<String>, body: impl FnOnce() -> Outcome + Send + 'static) -> Test {
    Test { name: name.into(), needs: Vec::new(), body: Box::new(body) }
}

impl Test {
    /// The capabilities that the machine must have for this test.
    pub(crate) fn needs(mut self, needs: impl IntoIterator<Item = Capability>) -> Self {
        self.needs.extend(needs);
        self
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn into_trial(self, lack: Lack) -> Trial {
        Trial::ignorable_test(self.name, move || run_or_ignore(&self.needs, lack, self.body))
    }
}

/// Runs the tests that the command line selects.
pub(crate) fn run(tests: Vec<Test>) -> ExitCode {
    let arguments = Arguments::from_args();
    let lack = Lack::from_environment();
    let trials = tests.into_iter().map(|t| t.into_trial(lack)).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn run_or_ignore(needs: &[Capability], lack: Lack, body: impl FnOnce() -> Outcome) -> Result<Completion, Failed> {
    let missing: Vec<String> = needs.iter().filter_map(Capability::missing).collect();
    match (missing.is_empty(), lack) {
        (true, _) => body().map(|()| Completion::Completed),
        (false, Lack::Ignores) => Ok(Completion::ignored_with(missing.join("; "))),
        (false, Lack::Fails) => Err(format!("PADDOCK_REQUIRE=all, but {}", missing.join("; ")).into()),
    }
}

/// The tests of this framework.
pub(crate) fn tests() -> Vec<Test> {
    const ABSENT: Capability = Capability::Program("no-such-program-as-this");
    vec![
        test("framework::missing_capability_ignores_the_test_with_a_reason", || {
            let ran = run_or_ignore(&[ABSENT], Lack::Ignores, || Err("it ran".into()))?;
            match ran {
                Completion::Ignored { reason: Some(reason) } if reason.contains("no-such-program-as-this") => Ok(()),
                Completion::Ignored { reason } => Err(format!("ignored because {reason:?}").into()),
                Completion::Completed => Err("it passed".into()),
            }
        }),
        test("framework::missing_capability_fails_the_test_if_all_are_required", || {
            match run_or_ignore(&[ABSENT], Lack::Fails, || Ok(())) {
                Err(failed) if failed.message().is_some_and(|m| m.contains("no-such-program-as-this")) => Ok(()),
                Err(failed) => Err(format!("failed with {:?}", failed.message()).into()),
                Ok(_) => Err("it did not fail".into()),
            }
        }),
        test("framework::test_with_its_capabilities_runs", || {
            let failed = run_or_ignore(&[Capability::Program("cargo")], Lack::Ignores, || Err("it ran".into()));
            if failed.is_err_and(|f| f.message() == Some("it ran")) { Ok(()) } else { Err("it did not run".into()) }
        }),
        test("framework::root_is_distinguished_from_other_users", || {
            let id = std::process::Command::new("id").arg("-u").output()?;
            let root = id.stdout.trim_ascii() == b"0";
            let missing = Capability::Root.missing();
            if missing.is_none() == root { Ok(()) } else { Err(format!("root: {root}, missing: {missing:?}").into()) }
        }),
    ]
}
