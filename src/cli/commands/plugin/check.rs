//! `paddock plugin check`: whether the operator would take a component with its configuration.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use paddock_operator::plugins;
use paddock_plugin_host::Host;

use super::component::{self, component_of, configuration, parse_configuration, parse_settings};
use crate::output::{print, read};
use crate::usage::{BadUsage, OrBadUsage as _, bad_usage};

#[derive(Debug, Args)]
#[command(after_help = "\
The configuration of NAME.wasm is the file NAME.yaml beside it, as in the operator's plugin directory.

The exit code is 1 if the operator would refuse a component, its name or what its configuration asks of it. It is 2 if
only flags are wrong, or files that do not exist or cannot be parsed.

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
    /// Settings, instead of those of the configuration: a JSON object, or a file in YAML or JSON. They have to match the
    /// JSON Schema of the plugin, if it has one, and the plugin itself checks them.
    #[arg(long, value_name = "SETTINGS")]
    settings: Option<String>,
}

/// Prints the hooks of each component that is in order.
pub(crate) fn run(args: &CheckArgs) -> anyhow::Result<()> {
    if args.config.is_some() && args.components.len() > 1 {
        return Err(bad_usage("--config: only one component may be given with it"));
    }
    let host = component::host()?;
    // Once for all components, since standard input can be read once.
    let settings = args.settings.as_deref().map(parse_settings).transpose()?;
    let mut wrong = Vec::new();
    for path in &args.components {
        match check(&host, path, args, settings.as_deref()) {
            Ok(said) => print(&said)?,
            Err(error) => wrong.push(error),
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let said = wrong.iter().map(|error| format!("{error:#}")).collect::<Vec<_>>().join("\n");
    if wrong.iter().all(|error| error.is::<BadUsage>()) { Err(bad_usage(said)) } else { bail!(said) }
}

fn check(host: &Host, path: &Path, args: &CheckArgs, settings: Option<&str>) -> anyhow::Result<String> {
    let path = component_of(path)?;
    let bytes = read(&path).or_bad_usage()?;
    let mut config = match &args.config {
        Some(config) => parse_configuration(config)?,
        None => configuration(&path)?,
    };
    let beside = path.with_extension("yaml");
    let mut origin = args.config.as_ref().unwrap_or(&beside).display().to_string();
    if let (Some(settings), Some(given)) = (settings, &args.settings) {
        config.settings = settings.to_owned();
        origin = format!("--settings {given}");
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
            ("my-pool.wasm", None, Some(r#"{"nonsense": 1}"#), ["--settings", "settings: /nonsense: unknown field"]),
            ("my-pool.wasm", None, Some(r#"{"peakBuckets": 0}"#), ["settings: /peakBuckets: ", "at least 1, is 0"]),
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
    fn wrong_input_is_told_from_a_component_at_fault() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        let pool = BUILT_INS.iter().find(|built_in| built_in.name == "pool-by-demand").unwrap();
        std::fs::write(file("good.wasm"), pool.component).unwrap();
        std::fs::write(file("unknown.wasm"), pool.component).unwrap();
        std::fs::write(file("unknown.yaml"), "nonsense: 1").unwrap();
        std::fs::write(file("broken.wasm"), "no component").unwrap();
        let nowhere = Some("nowhere");
        for (components, settings, usage) in [
            (&["missing.wasm"][..], None, true),
            (&["good.wasm", "missing.wasm"], None, true),
            (&["unknown.wasm"], None, true),
            (&["good.yml"], None, true),
            (&["good.wasm"], nowhere, true),
            (&["good.wasm"], Some("[]"), true),
            (&["good.wasm"], Some(r#"{"nonsense": 1}"#), false),
            (&["broken.wasm"], None, false),
            (&["missing.wasm", "broken.wasm", "unknown.wasm"], None, false),
        ] {
            let paths = components.iter().map(|name| file(name)).collect();
            let args = CheckArgs { components: paths, config: None, settings: settings.map(str::to_owned) };
            let error = run(&args).unwrap_err();
            assert_eq!(error.is::<BadUsage>(), usage, "{components:?} {settings:?}: {error:#}");
        }
        let config = Some(file("no-config.yaml"));
        let error = run(&CheckArgs { components: vec![file("good.wasm")], config, settings: None }).unwrap_err();
        assert!(error.is::<BadUsage>(), "{error:#}");
    }

    #[test]
    fn every_component_is_checked() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        std::fs::write(file("one.wasm"), "no component").unwrap();
        let components = vec![file("one.wasm"), file("two.wasm")];
        let error = run(&CheckArgs { components, config: None, settings: None }).unwrap_err();
        assert!(!error.is::<BadUsage>(), "a component is at fault");
        let error = error.to_string();
        assert!(error.contains("one.wasm: the file is not a WebAssembly component"), "{error}");
        assert!(error.contains("reading") && error.contains("two.wasm"), "{error}");
    }
}
