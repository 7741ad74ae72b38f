//! `paddock plugin inspect`: what a component is.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use paddock_plugin_host::{Host, Limits, Source};
use serde::Serialize;

use super::component;
use crate::output::{TableFormat, read};
use crate::usage::OrBadUsage as _;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  paddock plugin inspect my-plugin.wasm
  paddock plugin inspect my-plugin.wasm -o json")]
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
    /// The reason why the operator refuses the component.
    refused: Option<String>,
}

impl Inspection {
    /// Inspects the bytes of a component.
    pub(super) fn new(host: &Host, name: &str, component: &[u8]) -> anyhow::Result<Self> {
        let surface = host.surface(component)?;
        let loaded = host.prepare(Source { name, component, limits: Some(Limits::default()) });
        let (plugin, refused) = match loaded {
            Ok(candidate) => (Some(candidate.plugin().clone()), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let hooks = plugin.iter().flat_map(|plugin| &plugin.hooks).map(|hook| hook.as_str()).collect();
        Ok(Self {
            name: name.to_owned(),
            digest: surface.digest,
            bytes: component.len(),
            wit_version: plugin.map(|plugin| plugin.wit_version),
            hooks,
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
    output.print(&inspection, Inspection::table)?;
    inspection.accepted()
}
