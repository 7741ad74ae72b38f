//! The checks of the source tree, by name. ARCHITECTURE.md names some of them beside its invariants.

use anyhow::{Context, Result};

use crate::project::Project;

mod circles;
mod code_map;
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
    Check { name: "every_source_file_says_what_it_is_for", about: "A Rust file begins with //!.", run: files::purpose },
    Check {
        name: "no_lint_is_waved_through_and_no_end_is_loose",
        about: "Every crate has the workspace's lints, no test is ignored, and nothing is marked as unfinished.",
        run: lints::check,
    },
    Check {
        name: "no_files_import_each_other_in_a_circle",
        about: "The files of a crate in src/ import each other in one direction.",
        run: circles::check,
    },
    Check {
        name: "our_crates_depend_on_each_other_in_one_direction",
        about: "A crate in src/ depends on those of our crates that the table allows, and on no other.",
        run: dependencies::layers,
    },
    Check {
        name: "the_core_depends_on_nothing_that_acts",
        about: "The dependencies of the pure crates (api, core) do no I/O, keep no time and run nothing.",
        run: dependencies::core,
    },
    Check {
        name: "kube_gives_the_core_its_derives_alone",
        about: "No manifest gives a pure crate kube's client.",
        run: dependencies::kube,
    },
    Check {
        name: "plugins_reach_nothing",
        about: "The plugin host has no network, no runtime and no WASI among its dependencies.",
        run: dependencies::plugin_host,
    },
    Check {
        name: "clippy_forbids_clock_files_threads_and_hash_order",
        about: "The clippy.toml of each pure crate forbids every function and type of the list, and repeats the workspace's settings.",
        run: purity::clippy,
    },
    Check {
        name: "the_core_names_nothing_of_the_standard_library_that_acts",
        about: "The pure crates name only the harmless parts of the standard library.",
        run: purity::names,
    },
    Check {
        name: "who_talks_to_the_api_server_is_known",
        about: "Each item that names a client of the API server is on the list, with the reason.",
        run: flow::connected,
    },
    Check {
        name: "a_reconcile_waits_for_answers_and_for_the_writer_alone",
        about: "A reconcile awaits plugins and the writer, and decides by what the World shows.",
        run: flow::reconcile,
    },
    Check {
        name: "the_writer_sends_what_was_planned_and_nothing_else",
        about: "The writer's client sends requests that create, patch or delete.",
        run: flow::writer,
    },
    Check {
        name: "what_is_seen_comes_from_the_watch_alone",
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
        name: "every_check_of_an_invariant_is_there",
        about: "Each check that ARCHITECTURE.md names is a test, a scenario or a check of this list.",
        run: invariants::check,
    },
    Check {
        name: "the_api_reference_is_that_of_the_crds",
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
