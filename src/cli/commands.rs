//! The subcommands, one file each with its flags.

pub(crate) mod audit;
pub(crate) mod completions;
pub(crate) mod crds;
pub(crate) mod explain;
pub(crate) mod gateway;
pub(crate) mod generate;
pub(crate) mod isolation;
pub(crate) mod man;
pub(crate) mod manifests;
pub(crate) mod operator;
pub(crate) mod plugin;
pub(crate) mod process;
pub(crate) mod simulate;
pub(crate) mod token;
pub(crate) mod version;
