//! What decides the size of the pool: a plugin, a fixed size, or an HPA.

use paddock_core::decide::pool_size::Refilling;

use crate::conditions::Conditions;
use crate::decision::{Decided, StatusWrite, View};
use crate::hpa::Hpa;
use crate::outcome::Failures;
use crate::plugin::{PluginContender, PluginSizer};
use crate::trace::Trace;

/// A contender: one way to decide the size.
#[derive(Clone, Copy)]
pub enum Contender<'a> {
    /// A pool-sizing plugin.
    Plugin(&'a PluginContender<'a>),
    /// The same size at all times: `spec.replicas`.
    Fixed(u32),
    /// A HorizontalPodAutoscaler on the claims of the last minute. The number is the target: the claims in a minute for
    /// each Sandbox of the pool.
    Hpa(f64),
}

impl Contender<'_> {
    /// The name in reports.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Contender::Plugin(plugin) => plugin.label().to_owned(),
            Contender::Fixed(size) => format!("fixed {size}"),
            Contender::Hpa(target) => format!("hpa {target}"),
        }
    }

    /// The word for the kind of contender.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Contender::Plugin(_) => "plugin",
            Contender::Fixed(_) => "fixed",
            Contender::Hpa(_) => "hpa",
        }
    }
}

/// A contender with what it remembers.
pub(crate) enum Sizer<'a> {
    Plugin(Box<PluginSizer<'a>>),
    Fixed(u32),
    Hpa(Hpa),
}

impl<'a> Sizer<'a> {
    pub(crate) fn new(contender: &Contender<'a>, conditions: &Conditions, trace: &Trace) -> Self {
        match *contender {
            Contender::Plugin(plugin) => {
                Sizer::Plugin(Box::new(PluginSizer::new(plugin, conditions, (trace.start, trace.length))))
            }
            Contender::Fixed(size) => Sizer::Fixed(size.min(conditions.settings.max_pool_size)),
            Contender::Hpa(target) => Sizer::Hpa(Hpa::new(target, conditions)),
        }
    }

    /// The size of the pool at the beginning. Its members are Ready then.
    pub(crate) fn initial(&self) -> u32 {
        match self {
            Sizer::Plugin(plugin) => plugin.min(),
            Sizer::Fixed(size) => *size,
            Sizer::Hpa(hpa) => hpa.size(),
        }
    }

    pub(crate) fn decide(&mut self, view: &View<'_>) -> Decided {
        match self {
            Sizer::Plugin(plugin) => plugin.decide(view),
            Sizer::Fixed(size) => Decided { desired: *size, next: None },
            Sizer::Hpa(hpa) => hpa.decide(view.at, view.arrived),
        }
    }

    /// The maximum of the pool's spec: members beyond it are deleted, and none are created.
    pub(crate) fn maximum(&self) -> u32 {
        match self {
            Sizer::Plugin(plugin) => plugin.max(),
            Sizer::Fixed(size) => *size,
            Sizer::Hpa(hpa) => hpa.size(),
        }
    }

    /// Ends a reconcile with the status of the pool.
    pub(crate) fn write_status(&mut self, view: &View<'_>, refilling: Refilling) -> StatusWrite {
        match self {
            Sizer::Plugin(plugin) => plugin.write_status(view, refilling),
            // Nothing that decides these sizes is in the status.
            Sizer::Fixed(_) | Sizer::Hpa(_) => StatusWrite::None,
        }
    }

    /// Whether the plugin wants to be asked so often that the simulation would not end.
    pub(crate) fn exhausted(&self) -> bool {
        match self {
            Sizer::Plugin(plugin) => plugin.exhausted(),
            Sizer::Fixed(_) | Sizer::Hpa(_) => false,
        }
    }

    /// The number of questions, and the failures.
    pub(crate) fn asked(&self) -> (u64, Option<Failures>) {
        match self {
            Sizer::Plugin(plugin) => plugin.asked(),
            Sizer::Fixed(_) | Sizer::Hpa(_) => (0, None),
        }
    }
}
