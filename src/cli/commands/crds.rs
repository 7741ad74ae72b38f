//! `paddock crds`: the CustomResourceDefinitions.

use clap::Args;
use paddock_api::crd::selected;
use paddock_api::kind::ApiShapes;

use crate::output::{print, yaml};
use crate::values::parse_shapes;

#[derive(Debug, Args)]
pub(crate) struct CrdsArgs {
    /// Which API shape of templates, pools and claims to print: seed (all kinds in agents.x-k8s.io), upstream
    /// (upstream's, in extensions.agents.x-k8s.io), or both.
    #[arg(long, value_name = "SURFACE", value_parser = parse_shapes, default_value = "both")]
    surface: ApiShapes,
}

/// Prints them.
pub(crate) fn run(CrdsArgs { surface }: &CrdsArgs) -> anyhow::Result<()> {
    print(&yaml(&selected(*surface))?)
}
