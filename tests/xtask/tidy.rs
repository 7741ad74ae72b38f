//! The checks of the source tree, by name. ARCHITECTURE.md names some of them beside its invariants.

use anyhow::{Context, Result};

use crate::project::Project;

mod code_map;
mod cycles;
mod dependencies;
mod documents;
mod files;
mod flow;
mod invariants;
mod lints;
mod purity;
mod rights;

/// A check of the source tree.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// The name, as ARCHITECTURE.md and `cargo test` use it.
    pub name: &'static str,
    /// The statement that is true if the check passes.
    pub about: &'static str,
    /// Returns one line for each fault.
    pub run: fn(&Project) -> Result<Vec<String>>,
}

/// All checks.
pub const CHECKS: &[Check] = &[
    Check { name: "no_source_file_is_too_long", about: "A source file has at most 500 lines.", run: files::length },
    Check { name: "every_source_file_states_its_purpose", about: "A Rust file begins with //!.", run: files::purpose },
    Check {
        name: "every_crate_keeps_the_lints_and_no_code_is_unfinished",
        about: "Every crate has the workspace's lints, no test is ignored, and nothing is marked as unfinished.",
        run: lints::check,
    },
    Check {
        name: "no_files_import_each_other_in_a_cycle",
        about: "The files of a crate in src/ import each other in one direction.",
        run: cycles::check,
    },
    Check {
        name: "our_crates_depend_on_each_other_in_one_direction",
        about: "A crate in src/ depends on those of our crates that the table allows, and on no other.",
        run: dependencies::layers,
    },
    Check {
        name: "core_has_no_dependency_that_does_io",
        about: "The dependencies of the pure crates (api, core) do no I/O, keep no time and run nothing.",
        run: dependencies::core,
    },
    Check {
        name: "core_uses_only_the_derives_of_kube",
        about: "No manifest gives a pure crate kube's client.",
        run: dependencies::kube,
    },
    Check {
        name: "plugin_host_has_no_network",
        about: "The plugin host has no network, no runtime and no WASI among its dependencies.",
        run: dependencies::plugin_host,
    },
    Check {
        name: "clippy_forbids_clock_files_threads_and_hash_order",
        about: "The clippy.toml of each pure crate forbids every function and type of the list, and repeats the workspace's settings.",
        run: purity::clippy,
    },
    Check {
        name: "core_uses_only_harmless_parts_of_the_standard_library",
        about: "The pure crates name only the harmless parts of the standard library.",
        run: purity::names,
    },
    Check {
        name: "users_of_the_api_server_are_listed",
        about: "Each item that names a client of the API server is on the list, with the reason.",
        run: flow::connected,
    },
    Check {
        name: "reconcile_awaits_only_plugins_and_the_writer",
        about: "A reconcile awaits plugins and the writer, and decides by what the World shows.",
        run: flow::reconcile,
    },
    Check {
        name: "writer_sends_only_planned_writes",
        about: "The writer's client sends requests that create, patch or delete.",
        run: flow::writer,
    },
    Check {
        name: "observations_come_only_from_the_watch",
        about: "Only the watch passes observations to the World.",
        run: flow::observations,
    },
    Check {
        name: "every_planned_write_is_granted",
        about: "The ClusterRole grants every write that a scenario plans.",
        run: rights::granted,
    },
    Check {
        name: "every_granted_write_is_planned_somewhere",
        about: "The ClusterRole grants no write of our kinds that no scenario plans.",
        run: rights::planned,
    },
    Check {
        name: "every_check_of_an_invariant_exists",
        about: "Each check that ARCHITECTURE.md names is a test, a scenario or a check of this list.",
        run: invariants::check,
    },
    Check {
        name: "api_reference_matches_the_crds",
        about: "docs/api-reference.md is made from crds/: `cargo xtask api-reference` writes it.",
        run: documents::api_reference,
    },
    Check {
        name: "the_code_map_names_every_module",
        about: "The code map in ARCHITECTURE.md names every module and folder of src/.",
        run: code_map::check,
    },
    Check {
        name: "no_link_in_a_document_is_broken",
        about: "Each relative link in a Markdown file leads to a file and heading that exist.",
        run: documents::links,
    },
];

/// Runs one check.
///
/// # Errors
/// Returns the faults that the check finds, or the reason for which it could not run.
pub fn run(check: &Check, project: &Project) -> Result<()> {
    let faults = (check.run)(project).with_context(|| check.name)?;
    anyhow::ensure!(faults.is_empty(), "{}\n{}", check.about, faults.join("\n"));
    Ok(())
}
