//! The command line, which the operator writes.

use std::ffi::OsString;
use std::path::PathBuf;

pub(crate) const USAGE: &str = "usage: paddock-init --copy-to FILE
       paddock-init --directory DIRECTORY --container NAME [--first] -- COMMAND [ARGUMENT...]";

/// The request of the command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Copies this program to a file.
    CopyTo(PathBuf),
    /// Holds a command.
    Hold(Held),
}

/// A command, and the data that it waits for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// The directory with the data of the claim.
    pub(crate) directory: PathBuf,
    /// The name of this container.
    pub(crate) container: OsString,
    /// Whether it is the first container, which gets the variables that name no container.
    pub(crate) first: bool,
    pub(crate) program: OsString,
    pub(crate) arguments: Vec<OsString>,
}

impl Request {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let (mut directory, mut container, mut first) = (None, None, false);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{} needs a value", argument.to_string_lossy()));
            match argument.to_str() {
                Some("--copy-to") => return Ok(Request::CopyTo(value()?.into())),
                Some("--directory") => directory = Some(PathBuf::from(value()?)),
                Some("--container") => container = Some(value()?),
                Some("--first") => first = true,
                Some("--") => {
                    let program = arguments.next().ok_or("there is no command after --")?;
                    let arguments = arguments.collect();
                    let directory = directory.ok_or("--directory is required")?;
                    let container = container.ok_or("--container is required")?;
                    return Ok(Request::Hold(Held { directory, container, first, program, arguments }));
                }
                Some(_) | None => return Err(format!("unknown argument {}", argument.to_string_lossy())),
            }
        }
        Err("there is no command".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request, String> {
        Request::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn command_line_is_read_or_refused_with_what_is_missing() {
        assert_eq!(parse("--copy-to /x/y"), Ok(Request::CopyTo("/x/y".into())));
        let held = |first, arguments: &[&str]| {
            Ok(Request::Hold(Held {
                directory: "/d".into(),
                container: "c".into(),
                first,
                program: "run".into(),
                arguments: arguments.iter().map(OsString::from).collect(),
            }))
        };
        assert_eq!(parse("--directory /d --container c -- run"), held(false, &[]));
        assert_eq!(
            parse("--directory /d --container c --first -- run --first -- x"),
            held(true, &["--first", "--", "x"])
        );
        for (line, wanted) in [
            ("", "no command"),
            ("--copy-to", "--copy-to needs a value"),
            ("--container c -- run", "--directory is required"),
            ("--directory /d -- run", "--container is required"),
            ("--directory /d --container c --", "no command after --"),
            ("--directory /d run", "unknown argument run"),
        ] {
            let problem = parse(line).expect_err(line);
            assert!(problem.contains(wanted), "{line}: {problem}");
        }
    }
}
