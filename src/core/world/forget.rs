//! Removes what no event removes.

use jiff::Timestamp;

use super::state::World;

impl World {
    /// Removes state that no event will remove: pending writes whose reply was lost so long ago that they do not count
    /// any more, old refusals, the demand for pools that do not exist, and the specs of NetworkPolicies that nobody needs.
    /// The operator calls this periodically.
    pub fn forget_old(&mut self, now: Timestamp) {
        self.pending_writes.forget_old(now, self.settings.unknown_timeout);
        self.tcp.ports.forget_old(now);
        self.replaced.forget_old(now);
        self.forget_unneeded_policies();
        let objects = &self.objects;
        self.demand.retain(|pool, _| objects.contains_key(pool));
    }
}
