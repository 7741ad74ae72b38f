//! `paddock plugin inspect`: what a component is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use paddock_core::question::Hook;
use paddock_plugin_host::{Candidate, Host, Limits, Source};
use serde::Serialize;
use serde_json::Value;

use super::component;
use crate::output::{TableFormat, read};
use crate::usage::OrBadUsage as _;

#[derive(Debug, Args)]
#[command(after_help = "\
A component of paddock:policy@0.2.0 has a JSON Schema of its settings for each hook, which the command prints too.

Examples:
  paddock plugin inspect my-plugin.wasm
  paddock plugin inspect my-plugin.wasm -o json
  paddock plugin inspect my-plugin.wasm -o json | jq '.settingsSchemas[\"pool-size\"]'")]
pub(crate) struct InspectArgs {
    /// The component.
    #[arg(value_name = "COMPONENT")]
    component: PathBuf,
    /// Format of the output.
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    output: TableFormat,
}

/// A component, as it is printed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Inspection {
    name: String,
    digest: String,
    bytes: usize,
    /// The version of `paddock:policy`. `None` if the operator refuses the component.
    wit_version: Option<String>,
    hooks: Vec<&'static str>,
    pub(super) imports: Vec<String>,
    pub(super) exports: Vec<String>,
    /// The JSON Schemas of the settings, by hook. Empty if the version of the component has none.
    settings_schemas: BTreeMap<&'static str, Value>,
    /// The reason why the operator refuses the component.
    refused: Option<String>,
}

impl Inspection {
    /// Inspects the bytes of a component.
    pub(super) fn new(host: &Host, name: &str, component: &[u8]) -> anyhow::Result<Self> {
        let surface = host.surface(component)?;
        let loaded = host.prepare(Source { name, component, limits: Some(Limits::default()) });
        let (candidate, refused) = match loaded {
            Ok(candidate) => (Some(candidate), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let plugin = candidate.as_ref().map(Candidate::plugin);
        let hooks: Vec<Hook> = plugin.map(|plugin| plugin.hooks.clone()).unwrap_or_default();
        let schema = |hook: &Hook| Some((hook.as_str(), candidate.as_ref()?.settings_schema(*hook)?.clone()));
        Ok(Self {
            name: name.to_owned(),
            digest: surface.digest,
            bytes: component.len(),
            wit_version: plugin.map(|plugin| plugin.wit_version.clone()),
            settings_schemas: hooks.iter().filter_map(schema).collect(),
            hooks: hooks.iter().map(|hook| hook.as_str()).collect(),
            imports: surface.imports,
            exports: surface.exports,
            refused,
        })
    }

    /// The lines of the table.
    pub(super) fn table(&self) -> String {
        let none = |list: String| if list.is_empty() { "none".to_owned() } else { list };
        let wit = self.wit_version.as_ref().map(|version| format!("paddock:policy@{version}"));
        let rows = [
            ("Name", self.name.clone()),
            ("Digest", self.digest.clone()),
            ("Size", format!("{} bytes", self.bytes)),
            ("Interface", none(wit.unwrap_or_default())),
            ("Hooks", none(self.hooks.join(", "))),
            ("Imports", none(self.imports.join(", "))),
            ("Exports", none(self.exports.join(", "))),
        ];
        rows.iter().map(|(title, value)| format!("{:<11}{value}\n", format!("{title}:"))).collect()
    }

    /// The table, and the schemas of the settings.
    fn text(&self) -> String {
        let schemas = self.settings_schemas.iter().map(|(hook, schema)| format!("Settings of {hook}:\n{schema:#}\n"));
        std::iter::once(self.table()).chain(schemas).collect()
    }

    /// An error if the operator refuses the component.
    pub(super) fn accepted(&self) -> anyhow::Result<()> {
        if let Some(reason) = &self.refused {
            bail!("the operator refuses {}: {reason}", self.name);
        }
        Ok(())
    }
}

/// Prints the inspection. It is an error if the operator would refuse the component.
pub(crate) fn run(InspectArgs { component: path, output }: &InspectArgs) -> anyhow::Result<()> {
    let bytes = read(path).or_bad_usage()?;
    let host = component::host()?;
    let inspection =
        Inspection::new(&host, &component::name(path), &bytes).with_context(|| path.display().to_string())?;
    output.print(&inspection, Inspection::text)?;
    inspection.accepted()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schema_of_the_settings_is_shown_in_both_formats() {
        let host = component::host().unwrap();
        let inspect = |component: &[u8]| Inspection::new(&host, "p", component).unwrap();
        let new = inspect(paddock_guests::POOL_FIXED);
        assert!(new.text().contains("Interface: paddock:policy@0.2.0\n"), "{}", new.text());
        assert!(new.text().contains("Settings of pool-size:\n{\n"), "{}", new.text());
        let json = serde_json::to_value(&new).unwrap();
        assert_eq!(
            json.pointer("/settingsSchemas/pool-size/properties/desired/minimum"),
            Some(&Value::from(0)),
            "{json}"
        );
        let former = inspect(paddock_guests::ALLOWED_IMAGES);
        assert_eq!(former.wit_version.as_deref(), Some("0.1.0"));
        assert!(former.settings_schemas.is_empty() && !former.text().contains("Settings of"), "{}", former.text());
    }

    #[test]
    fn component_whose_schema_has_a_fault_is_refused_with_the_reason() {
        let component = paddock_guests::with_schema(r#"{"type": "text"}"#).unwrap();
        let inspection = Inspection::new(&component::host().unwrap(), "p", &component).unwrap();
        let refused = inspection.accepted().unwrap_err().to_string();
        assert!(
            refused.contains("the schema of the settings of pool-size cannot be used") && refused.contains("/type")
        );
        assert!(inspection.settings_schemas.is_empty() && inspection.wit_version.is_none());
    }
}
