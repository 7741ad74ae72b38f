//! `paddock manifests`: everything that a deployment needs.

use clap::Args;
use paddock_api::kind::ApiShapes;
use paddock_api::names::object;
use paddock_operator::manifests::{self, Settings};

use crate::output::{print, yaml};
use crate::values::parse_shapes;

#[derive(Debug, Args)]
pub(crate) struct ManifestsArgs {
    /// Which API shape of templates, pools and claims to install: seed (all kinds in agents.x-k8s.io), upstream
    /// (upstream's, in extensions.agents.x-k8s.io), or both.
    #[arg(long, value_name = "SURFACE", value_parser = parse_shapes, default_value = "both")]
    surface: ApiShapes,
    /// Namespace of the operator.
    #[arg(long, value_name = "NAMESPACE", default_value = object::OPERATOR_NAMESPACE)]
    namespace: String,
    /// Image of the operator.
    #[arg(long, value_name = "IMAGE", default_value_t = Settings::default().image)]
    image: String,
}

/// Prints them.
pub(crate) fn run(ManifestsArgs { surface, namespace, image }: ManifestsArgs) -> anyhow::Result<()> {
    print(&yaml(&manifests::all(&Settings { namespace, image, shapes: surface }))?)
}
