//! `paddock plugin check`: whether the operator would take a component with its configuration.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use paddock_operator::plugins;
use paddock_plugin_host::{Host, Limits};

use super::component::{self, component_of, configuration, parse_configuration, parse_settings};
use crate::output::{print, read};
use crate::usage::bad_usage;

#[derive(Debug, Args)]
#[command(after_help = "\
The configuration of NAME.wasm is the file NAME.yaml beside it, as in the operator's plugin directory.

Examples:
  paddock plugin check my-plugin.wasm
  paddock plugin check plugins/*.wasm
  paddock plugin check my-plugin.wasm --config deploy/my-plugin.yaml
  paddock plugin check my-plugin.wasm --settings '{\"desired\": 3}'")]
pub(crate) struct CheckArgs {
    /// The components, or their configuration files.
    #[arg(value_name = "COMPONENT", required = true)]
    components: Vec<PathBuf>,
    /// The configuration, instead of the file beside the component. Only for one component.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Settings, instead of those of the configuration: a JSON object, or a file in YAML or JSON. The plugin itself
    /// checks them.
    #[arg(long, value_name = "SETTINGS")]
    settings: Option<String>,
}

/// Prints the hooks of each component that is in order.
pub(crate) fn run(args: &CheckArgs) -> anyhow::Result<()> {
    if args.config.is_some() && args.components.len() > 1 {
        return Err(bad_usage("--config: only one component may be given with it"));
    }
    let host = component::host()?;
    let mut wrong = Vec::new();
    for path in &args.components {
        match check(&host, path, args) {
            Ok(said) => print(&said)?,
            Err(error) => wrong.push(format!("{error:#}")),
        }
    }
    if !wrong.is_empty() {
        bail!(wrong.join("\n"));
    }
    Ok(())
}

fn check(host: &Host, path: &Path, args: &CheckArgs) -> anyhow::Result<String> {
    let path = component_of(path)?;
    let bytes = read(&path)?;
    let mut config = match &args.config {
        Some(config) => parse_configuration(config, Limits::default())?,
        None => configuration(&path)?,
    };
    let beside = path.with_extension("yaml");
    let mut origin = args.config.as_ref().unwrap_or(&beside).display().to_string();
    if let Some(settings) = &args.settings {
        config.settings = parse_settings(settings)?;
        origin = format!("--settings {settings}");
    }
    let name = component::name(&path);
    let checked = plugins::check(host, (&name, &bytes), config, &origin).map_err(anyhow::Error::msg);
    let (candidate, bindings) = checked.with_context(|| path.display().to_string())?;
    let plugin = candidate.plugin();
    let mut said = format!("{name}: paddock:policy@{}, {}\n", plugin.wit_version, plugin.plugin.digest);
    for binding in bindings {
        said.push_str(&format!("  {}\n", binding.hook.as_str()));
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use paddock_plugin_host::BUILT_INS;

    use super::*;

    /// What is wrong with a component that is in order but for its name, its configuration or its settings.
    fn checked(file: &str, config: Option<&str>, settings: Option<&str>) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        let component = dir.path().join(file);
        let pool = BUILT_INS.iter().find(|built_in| built_in.name == "pool-by-demand").unwrap();
        std::fs::write(component.with_extension("wasm"), pool.component).unwrap();
        if let Some(config) = config {
            std::fs::write(component.with_extension("yaml"), config).unwrap();
        }
        let args = CheckArgs { components: vec![component], config: None, settings: settings.map(str::to_owned) };
        run(&args).err().map(|error| format!("{error:#}"))
    }

    #[test]
    fn a_component_is_checked_with_its_name_its_configuration_and_its_settings() {
        assert_eq!(checked("my-pool.wasm", None, None), None);
        assert_eq!(checked("my-pool.yaml", Some("hooks: [pool-size]"), None), None);
        let wrong = "settings: {nonsense: 1}";
        assert_eq!(checked("my-pool.wasm", Some(wrong), Some("{}")), None, "the flag replaces the settings");
        for (file, config, settings, parts) in [
            ("My_Pool.wasm", None, None, ["My_Pool.wasm", "lower-case letters, digits and dashes"]),
            ("pool-by-demand.wasm", None, None, ["pool-by-demand.wasm", "a built-in plugin"]),
            ("my-pool.wasm", None, Some(r#"{"nonsense": 1}"#), ["--settings", "nonsense"]),
            ("my-pool.wasm", None, Some("no-such-file"), ["--settings", "no-such-file"]),
            ("my-pool.wasm", None, Some("{"), ["--settings", "neither JSON nor YAML"]),
            ("my-pool.wasm", Some(wrong), None, ["my-pool.yaml: settings", "nonsense"]),
            ("my-pool.yaml", Some(wrong), None, ["my-pool.yaml: settings", "nonsense"]),
            ("my-pool.wasm", Some("namspaceSelector: {}"), None, ["my-pool.yaml", "unknown field `namspaceSelector`"]),
            ("my-pool.wasm", Some("hooks: [idle]"), None, ["my-pool.yaml: hooks[0]", "does not export idle"]),
            ("my-pool.wasm", Some("kinds: [Pod]"), None, ["my-pool.yaml: kinds", "must be left out"]),
            ("my-pool.yml", None, None, ["my-pool.yml", "must be NAME.yaml"]),
        ] {
            let error = checked(file, config, settings).unwrap_or_default();
            assert!(parts.iter().all(|part| error.contains(part)), "{file} {config:?} {settings:?}: {error:?}");
        }
    }

    #[test]
    fn every_component_is_checked() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        std::fs::write(file("one.wasm"), "no component").unwrap();
        let components = vec![file("one.wasm"), file("two.wasm")];
        let error = run(&CheckArgs { components, config: None, settings: None }).unwrap_err().to_string();
        assert!(error.contains("one.wasm: the file is not a WebAssembly component"), "{error}");
        assert!(error.contains("reading") && error.contains("two.wasm"), "{error}");
    }
}
