//! `paddock plugin check`: whether the operator would take a component.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::Args;
use paddock_operator::plugins::check_name;
use paddock_plugin_host::{Host, HostConfig, Source};

use crate::output::{print, read};

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The component.
    #[arg(value_name = "COMPONENT")]
    component: PathBuf,
    /// Settings to be checked by the plugin itself, in JSON.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    settings: String,
}

/// Prints the hooks of a component that is in order.
pub(crate) fn run(CheckArgs { component, settings }: &CheckArgs) -> anyhow::Result<()> {
    let name = component.file_stem().unwrap_or_default().to_string_lossy();
    let host = Host::new(HostConfig::default()).context("setting up the engine")?;
    let bytes = read(component)?;
    let source = Source { name: &name, component: &bytes, limits: None };
    let candidate = host.prepare(source).with_context(|| component.display().to_string())?;
    let plugin = candidate.plugin();
    let mut said = format!("{name}: paddock:policy@{}, {}\n", plugin.wit_version, plugin.plugin.digest);
    let mut wrong: Vec<String> = check_name(&name).err().into_iter().collect();
    let mut refused = Vec::new();
    for hook in &plugin.hooks {
        match host.check_settings(&candidate, *hook, settings) {
            Ok(()) => said.push_str(&format!("  {}\n", hook.as_str())),
            Err(error) => refused.push(format!("{}: {error}", hook.as_str())),
        }
    }
    print(&said)?;
    if !refused.is_empty() {
        wrong.push(format!("settings {settings}: {}", refused.join("; ")));
    }
    ensure!(wrong.is_empty(), "{}: {}", component.display(), wrong.join("; "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use paddock_plugin_host::BUILT_INS;

    use super::*;

    /// What is wrong with a component that is in order but for its name or settings.
    fn checked(file: &str, settings: &str) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        let component = dir.path().join(file);
        let pool = BUILT_INS.iter().find(|built_in| built_in.name == "pool-by-demand").unwrap();
        std::fs::write(&component, pool.component).unwrap();
        run(&CheckArgs { component, settings: settings.to_owned() }).err().map(|error| format!("{error:#}"))
    }

    #[test]
    fn a_component_is_checked_by_its_name_as_well() {
        assert_eq!(checked("my-pool.wasm", "{}"), None);
        for (file, settings, wrong) in [
            ("My_Pool.wasm", "{}", "lower-case letters, digits and dashes"),
            ("pool-by-demand.wasm", "{}", "a built-in plugin"),
            ("my-pool.wasm", r#"{"nonsense": 1}"#, "nonsense"),
        ] {
            let error = checked(file, settings).unwrap();
            assert!(error.contains(wrong), "{file} {settings}: {error}");
        }
    }
}
