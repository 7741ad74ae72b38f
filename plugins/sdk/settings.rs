//! Parses settings: a JSON text from the plugin's configuration, which each call parses again.

/// The schema of a plugin that gives none: it accepts every object.
pub const NO_SCHEMA: &str = "{}";

#[doc(hidden)]
pub mod v0_2_0 {
    pub use crate::bindings::v0_2_0::settings::export_settings as export_hook;
    pub use crate::bindings::v0_2_0::settings::exports::paddock::policy::settings::Guest;
}

#[doc(hidden)]
pub mod v0_1_0 {
    pub use crate::bindings::v0_1_0::settings::export_settings as export_hook;
    pub use crate::bindings::v0_1_0::settings::exports::paddock::policy::settings::Guest;
}

/// The settings of a plugin that has none: only `{}` is valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoSettings {}

/// Parses settings.
///
/// # Errors
/// A message for the user, which names the field: `prefer[1]: invalid type: integer `3`, expected a string`.
pub fn parse<T: serde::de::DeserializeOwned>(settings: &str) -> Result<T, String> {
    let mut json = serde_json::Deserializer::from_str(settings);
    let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        if path == "." { inner.to_string() } else { format!("{path}: {inner}") }
    })?;
    json.end().map_err(|error| error.to_string())?;
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Example {
        prefer: Vec<String>,
        seconds: u32,
    }

    impl Default for Example {
        fn default() -> Self {
            Self { prefer: vec!["gvisor".into()], seconds: 7 }
        }
    }

    #[test]
    fn empty_object_gives_the_defaults() {
        assert_eq!(parse::<Example>("{}"), Ok(Example::default()));
    }

    #[test]
    fn error_names_the_field() {
        let error = |text| parse::<Example>(text).unwrap_err();
        assert!(error(r#"{"prefer":["a",3]}"#).starts_with("prefer[1]: invalid type: integer"));
        assert!(error(r#"{"seconds":"7"}"#).starts_with("seconds: invalid type: string"));
        assert!(error(r#"{"second":7}"#).contains("unknown field `second`"));
        assert!(error("{} {}").contains("trailing characters"));
    }

    #[test]
    fn no_settings_accepts_the_empty_object_only() {
        assert_eq!(parse::<NoSettings>("{}"), Ok(NoSettings {}));
        assert!(parse::<NoSettings>(r#"{"a":1}"#).is_err());
    }
}
