//! `paddock plugin new`: the crate of a new plugin.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::Args;
use paddock_core::question::Hook;
use paddock_operator::plugins::check_name;

use super::component::parse_hook;
use crate::output::print;
use crate::usage::{OrBadUsage as _, bad_usage};

/// The name of the plugin in the templates.
const TEMPLATE_NAME: &str = "my-plugin";
/// The name of the hook in the template of the README.
const TEMPLATE_HOOK: &str = "HOOK-NAME";
/// Where a clone of this repository has the SDK.
const SDK_IN_CLONE: &str = "plugins/sdk";
/// Names that a crate cannot have, or that cargo warns about.
const RESERVED: [&str; 45] = [
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "priv",
    "proc-macro",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "type",
];

#[derive(Debug, Args)]
#[command(after_help = "\
The crate depends on the SDK by its path, because the SDK is not published yet. Inside a clone of Paddock's repository
the path is found. Elsewhere, --sdk-path names the folder plugins/sdk of a clone.

Examples:
  paddock plugin new my-plugin --hook pool-size
  paddock plugin new my-plugin --hook admission --dir policies/my-plugin --sdk-path ~/paddock/plugins/sdk")]
pub(crate) struct NewArgs {
    /// The name of the plugin: lower-case letters, digits and dashes.
    #[arg(value_name = "NAME")]
    name: String,
    /// The hook: admission, runtime-class, idle or pool-size.
    #[arg(long, value_name = "HOOK", value_parser = parse_hook)]
    hook: Hook,
    /// The folder of the new crate. Without the flag, it is NAME in the current folder.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The folder of the SDK's crate. Without the flag, it is plugins/sdk of the clone that contains the new crate.
    #[arg(long, value_name = "DIR")]
    sdk_path: Option<PathBuf>,
}

/// The files of a hook that differ between hooks.
struct Template {
    code: &'static str,
    schema: &'static str,
    cases: &'static str,
    configuration: &'static str,
}

macro_rules! template {
    ($hook:literal) => {
        Template {
            code: include_str!(concat!("../../../../plugins/templates/", $hook, "/src/lib.rs")),
            schema: include_str!(concat!("../../../../plugins/templates/", $hook, "/settings.schema.json")),
            cases: include_str!(concat!("../../../../plugins/templates/", $hook, "/tests/cases.yaml")),
            configuration: include_str!(concat!("../../../../plugins/templates/", $hook, "/my-plugin.yaml")),
        }
    };
}

const README: &str = include_str!("../../../../plugins/templates/README.md");

fn template(hook: Hook) -> Template {
    match hook {
        Hook::Admission => template!("admission"),
        Hook::RuntimeClass => template!("runtime-class"),
        Hook::Idle => template!("idle"),
        Hook::PoolSize => template!("pool-size"),
    }
}

/// Writes the crate.
pub(crate) fn run(NewArgs { name, hook, dir, sdk_path }: &NewArgs) -> anyhow::Result<()> {
    check_crate_name(name)?;
    let dir = dir.clone().unwrap_or_else(|| PathBuf::from(name));
    let is_empty = std::fs::read_dir(&dir).map_or(true, |mut entries| entries.next().is_none());
    if dir.exists() && !(dir.is_dir() && is_empty) {
        return Err(bad_usage(format!("{}: must not exist, or be an empty folder", dir.display())));
    }
    // The path is resolved before anything is written.
    let parent = existing_ancestor(&dir)?;
    let sdk = Sdk::find(sdk_path.as_deref(), &parent).or_bad_usage()?;
    write(&dir, name, *hook, &sdk)?;
    print(&format!(
        "{} contains a plugin for the hook {}. Next:\n\n  cd {}\n  cargo test\n  paddock plugin build\n  paddock plugin \
         test\n",
        dir.display(),
        hook.as_str(),
        dir.display()
    ))
}

fn check_crate_name(name: &str) -> anyhow::Result<()> {
    if let Err(rule) = check_name(name) {
        return Err(bad_usage(format!("{name:?}: {rule}")));
    }
    if RESERVED.contains(&name) {
        return Err(bad_usage(format!("{name:?}: a crate cannot have this name, because it has a meaning in Rust")));
    }
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || name.ends_with('-') {
        return Err(bad_usage(format!("{name:?}: must begin with a letter, and must not end with a dash")));
    }
    Ok(())
}

/// The folder in which a new folder is, or the nearest one above it that exists, as an absolute path.
fn existing_ancestor(dir: &Path) -> anyhow::Result<PathBuf> {
    let absolute = std::path::absolute(dir).with_context(|| dir.display().to_string())?;
    let existing = absolute.ancestors().find(|ancestor| ancestor.is_dir()).map(Path::to_owned);
    let existing = existing.with_context(|| format!("{}: no folder above it exists", dir.display()))?;
    existing.canonicalize().with_context(|| existing.display().to_string())
}

/// The SDK that the new crate depends on.
struct Sdk {
    folder: PathBuf,
}

impl Sdk {
    /// The given SDK, or that of the clone around a folder.
    fn find(given: Option<&Path>, around: &Path) -> anyhow::Result<Self> {
        if let Some(given) = given {
            ensure!(is_sdk(given), "--sdk-path {}: must be the folder {SDK_IN_CLONE} of a clone", given.display());
            let folder = given.canonicalize().with_context(|| given.display().to_string())?;
            return Ok(Self { folder });
        }
        let folder = around.ancestors().map(|ancestor| ancestor.join(SDK_IN_CLONE)).find(|folder| is_sdk(folder));
        let folder = folder.with_context(|| {
            format!(
                "the SDK is not published yet, and {} is not in a clone of Paddock's repository: give --sdk-path with \
                 the folder {SDK_IN_CLONE} of a clone",
                around.display()
            )
        })?;
        Ok(Self { folder })
    }

    /// The versions with which the SDK is tested, if its workspace has a lock file.
    fn lock(&self) -> Option<String> {
        std::fs::read_to_string(self.folder.parent()?.join("Cargo.lock")).ok()
    }
}

fn is_sdk(folder: &Path) -> bool {
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
    manifest.contains("name = \"paddock-plugin-sdk\"")
}

fn write(dir: &Path, name: &str, hook: Hook, sdk: &Sdk) -> anyhow::Result<()> {
    let Template { code, schema, cases, configuration } = template(hook);
    let own = |text: &str| text.replace(TEMPLATE_NAME, name).replace(TEMPLATE_HOOK, hook.as_str());
    let mut files = vec![
        ("Cargo.toml".to_owned(), manifest(name, hook, &sdk.folder)?),
        (".gitignore".to_owned(), "/target\n*.wasm\n".to_owned()),
        ("README.md".to_owned(), own(README)),
        ("src/lib.rs".to_owned(), own(code)),
        ("settings.schema.json".to_owned(), own(schema)),
        ("tests/cases.yaml".to_owned(), own(cases)),
        (format!("{name}.yaml"), own(configuration)),
    ];
    files.extend(sdk.lock().map(|lock| ("Cargo.lock".to_owned(), lock)));
    for (file, content) in files {
        let path = dir.join(file);
        let folder = path.parent().unwrap_or(dir);
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        std::fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn manifest(name: &str, hook: Hook, sdk: &Path) -> anyhow::Result<String> {
    let path = sdk.to_str().with_context(|| format!("{}: must be UTF-8", sdk.display()))?;
    // The escapes of JSON are those of TOML.
    let path = serde_json::Value::from(path);
    let mut text = String::new();
    let _ = write!(
        text,
        r#"[package]
name = "{name}"
description = "A Paddock policy plugin for the hook {hook}"
version = "0.1.0"
edition = "2024"
publish = false

[lib]
crate-type = ["cdylib"]

[dependencies]
# The SDK is not published yet. This is its folder in a clone of Paddock's repository.
paddock-plugin-sdk = {{ path = {path} }}

# A plugin is instantiated anew for every call, so a small size matters more than speed.
[profile.release]
opt-level = "s"
lto = true
codegen-units = 1
panic = "abort"
strip = true

# The crate does not belong to a workspace around it.
[workspace]
"#,
        hook = hook.as_str()
    );
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::BadUsage;

    fn sdk() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/sdk")
    }

    fn new(name: &str, dir: &Path, sdk_path: Option<PathBuf>) -> anyhow::Result<()> {
        run(&NewArgs { name: name.to_owned(), hook: Hook::Idle, dir: Some(dir.to_owned()), sdk_path })
    }

    #[test]
    fn every_hook_has_a_template_without_names_of_others() {
        for hook in Hook::ALL {
            let dir = tempfile::tempdir().unwrap();
            let dir = dir.path().join("crate");
            let args = NewArgs { name: "night-owl".into(), hook, dir: Some(dir.clone()), sdk_path: Some(sdk()) };
            run(&args).unwrap();
            let files = ["Cargo.toml", "src/lib.rs", "settings.schema.json", "tests/cases.yaml", "night-owl.yaml"];
            for file in files.into_iter().chain(["README.md", "Cargo.lock"]) {
                let text = std::fs::read_to_string(dir.join(file)).unwrap();
                assert!(!text.contains(TEMPLATE_NAME) && !text.contains(TEMPLATE_HOOK), "{file}");
                assert!(file == "Cargo.lock" || text.contains("night-owl"), "{file}");
            }
            let cases = std::fs::read_to_string(dir.join("tests/cases.yaml")).unwrap();
            assert!(cases.contains(&format!("hook: {}\n", hook.as_str())), "{cases}");
        }
    }

    #[test]
    fn sdk_of_the_clone_around_the_crate_is_found() {
        let clone = tempfile::tempdir().unwrap();
        let sdk = clone.path().join(SDK_IN_CLONE);
        std::fs::create_dir_all(&sdk).unwrap();
        std::fs::write(sdk.join("Cargo.toml"), "[package]\nname = \"paddock-plugin-sdk\"\n").unwrap();
        new("a", &clone.path().join("deep/er/a"), None).unwrap();
        let manifest = std::fs::read_to_string(clone.path().join("deep/er/a/Cargo.toml")).unwrap();
        let expected = format!("path = {:?}", sdk.canonicalize().unwrap());
        assert!(manifest.contains(&expected), "{manifest}");
    }

    #[test]
    fn what_is_wrong_is_refused_before_anything_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let full = dir.path().join("full");
        std::fs::create_dir(&full).unwrap();
        std::fs::write(full.join("file"), "").unwrap();
        let free = dir.path().join("free");
        for (name, folder, sdk_path, part) in [
            ("My_Plugin", &free, Some(sdk()), "lower-case letters"),
            ("../up", &free, Some(sdk()), "lower-case letters"),
            ("idle-timeout", &free, Some(sdk()), "a built-in plugin"),
            ("fn", &free, Some(sdk()), "has a meaning in Rust"),
            ("1st", &free, Some(sdk()), "must begin with a letter"),
            ("-a", &free, Some(sdk()), "must begin with a letter"),
            ("a-", &free, Some(sdk()), "must not end with a dash"),
            ("a", &full, Some(sdk()), "must not exist, or be an empty folder"),
            ("a", &free, Some(dir.path().to_owned()), "--sdk-path"),
            ("a", &free, None, "the SDK is not published yet"),
        ] {
            let error = new(name, folder, sdk_path).unwrap_err();
            assert!(error.is::<BadUsage>() && error.to_string().contains(part), "{name}: {error:#}");
            assert!(!free.exists(), "{name}");
        }
    }
}
