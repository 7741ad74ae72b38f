//! The variables that a claim brings, in the form in which the operator writes them: `CONTAINER/NAME=VALUE` and a NUL for
//! each. CONTAINER is empty if the claim names none.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

/// The names and values for one container, in their order. A later one of a name replaces an earlier one.
pub(crate) fn of_container<'a>(
    variables: &'a [u8],
    container: &'a [u8],
    first: bool,
) -> impl Iterator<Item = (&'a OsStr, &'a OsStr)> {
    variables.split(|byte| *byte == 0).filter_map(move |variable| {
        let (of, variable) = split(variable, b'/')?;
        let (name, value) = split(variable, b'=')?;
        let ours = of == container || of.is_empty() && first;
        (ours && !name.is_empty()).then(|| (OsStr::from_bytes(name), OsStr::from_bytes(value)))
    })
}

fn split(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == at)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_gets_its_own_variables_and_the_first_one_the_rest() {
        let variables = b"/A=1\0side/B=x=y/z\n\0agent/C=\0/D\0=E\0/=F\0";
        let of = |container: &str, first| -> Vec<(String, String)> {
            of_container(variables, container.as_bytes(), first)
                .map(|(name, value)| (name.to_str().unwrap().to_owned(), value.to_str().unwrap().to_owned()))
                .collect()
        };
        let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        assert_eq!(of("agent", true), owned(&[("A", "1"), ("C", "")]));
        assert_eq!(of("side", false), owned(&[("B", "x=y/z\n")]));
        assert_eq!(of("other", false), owned(&[]));
    }
}
